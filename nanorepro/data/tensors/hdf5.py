"""Datasets of an HDF5 file, as Keras, MATLAB and many others write them; h5py reads them."""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanorepro.data.tensors.reading import stored_blocks
from nanorepro.data.tensors.record import Tensor, TensorFile, format_of, reblocked, refused, slabs
from nanorepro.errors import shown
from nanorepro.text import first_line

RATIO = 1100  # bytes of numbers for a byte of the file at most: what compression can give
CHUNK = 1 << 28  # bytes of a chunk, which is read as a whole
ATTRIBUTE = 10_000  # characters of an attribute that is compared


def open_file(path: Path) -> TensorFile:
    """The datasets of a file under their paths in it; what other files hold is not followed."""
    tensors: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    total = path.stat().st_size

    def visit(name: str, found: Any) -> None:
        if not isinstance(found, h5py.Dataset):
            return
        if (reason := _unreadable(found)) is not None:
            left_out[name] = reason
            return
        if found.size * found.dtype.itemsize > RATIO * max(total, 1 << 16):
            problem = f"{shown(name)} of shape {found.shape} is more than the file can hold"
            raise refused(path, f"{problem}, {total} bytes")
        tensors[name] = _tensor(path, name, found)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            metadata = _texts(file)
    except OSError as error:
        raise refused(path, f"not a whole HDF5 file ({first_line(error)})") from None
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and hasattr(error, "problem"):
            raise
        raise refused(path, f"a damaged HDF5 file ({type(error).__name__})") from None
    return TensorFile(tensors, metadata, left_out)


def _unreadable(found: h5py.Dataset) -> str | None:
    """Why a dataset is not compared, None if it is."""
    if found.shape is None:
        return "empty, without a shape"
    if found.is_virtual or found.external:
        return "its numbers lie in other files"
    if format_of(found.dtype) is None:
        return f"of type {found.dtype}, no numbers"
    if found.chunks is not None and math.prod(found.chunks) * found.dtype.itemsize > CHUNK:
        return f"its chunks are larger than {CHUNK} bytes"
    return None


def _tensor(path: Path, name: str, found: h5py.Dataset) -> Tensor:
    format = format_of(found.dtype)
    assert format is not None
    shape, axes = tuple(map(int, found.shape)), tuple(range(found.ndim))
    offset = found.id.get_offset()
    plain = found.id.get_type().equal(h5py.h5t.py_create(found.dtype))  # stored as NumPy has it
    if offset is not None and found.chunks is None and plain and not found.file.userblock_size:
        read = partial(_read_contiguous, path, offset, found.size, found.dtype, format.storage)
    else:
        read = partial(_read_chunks, path, name, format.storage)
    return Tensor(name, format, shape, axes, read)


def _read_contiguous(
    path: Path, first: int, size: int, dtype: np.dtype, storage: str, n: int
) -> Iterator[np.ndarray]:
    return stored_blocks(path, first, size, dtype, storage, n)


def _read_chunks(path: Path, name: str, storage: str, n: int) -> Iterator[np.ndarray]:
    def parts() -> Iterator[np.ndarray]:
        with h5py.File(path, "r") as file:
            dataset = file[name]
            for index in slabs(dataset.shape, n, dataset.chunks):
                yield np.asarray(dataset[index]).reshape(-1).astype(storage, copy=False)

    try:
        yield from reblocked(parts(), n, storage)
    except (OSError, RuntimeError) as error:
        problem = f"{shown(name)} cannot be read ({first_line(error)})"
        raise refused(path, problem) from None


def _texts(file: h5py.File) -> dict[str, str]:
    """The attributes of the file that are text or numbers."""
    found = {}
    for name, value in file.attrs.items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str | int | float | np.number) and len(str(value)) <= ATTRIBUTE:
            found[str(name)] = str(value)
    return found
