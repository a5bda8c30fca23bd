"""Bytes of a file in blocks: what all formats share."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nanorepro.data.tensors.record import refused


def read_at(path: Path, first: int, count: int) -> bytes:
    """`count` bytes from `first` on; raises ConfigError if there are fewer."""
    with open(path, "rb") as file:
        file.seek(first)
        data = file.read(count)
    if len(data) != count:
        raise refused(path, f"truncated: {first + count} bytes are needed, {first + len(data)} are")
    return data


def stored_blocks(
    path: Path, first: int, size: int, dtype: np.dtype, storage: str, n: int
) -> Iterator[np.ndarray]:
    """Elements that lie in a file as they are, from byte `first` on, `n` at a time."""
    held = np.empty(min(n, size), dtype)
    with open(path, "rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        file.seek(first)
        left = size
        while left:
            part = held[: min(n, left)]
            view = memoryview(part.view(np.uint8).data)
            done = 0
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    raise refused(path, "it became shorter while it was read")
                done += got
            yield part.astype(storage, copy=False)
            left -= len(part)
