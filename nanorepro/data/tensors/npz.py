"""Arrays of NumPy: .npy, and .npz, which is a ZIP of such; objects, which are pickles, never."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from nanorepro.data.tensors.reading import stored_blocks
from nanorepro.data.tensors.record import (
    FORMATS,
    NumberFormat,
    Tensor,
    TensorFile,
    format_of,
    reblocked,
    refused,
)
from nanorepro.errors import shown
from nanorepro.text import first_line

ZIP, NPY = (b"PK\x03\x04", b"PK\x05\x06"), b"\x93NUMPY"
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
DEFLATE = 1033  # bytes that one compressed byte can stand for at most
MEMBERS = 1 << 20
HEADER = 10_000  # bytes of an array's header at most, as NumPy has it
# what NumPy raises of a header that is none
HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError,
)  # fmt: skip


def open_npy(path: Path) -> TensorFile:
    """The array of an .npy file, under the name ``array``."""
    with open(path, "rb") as file:
        dtype, shape, fortran = _header(path, path.name, file)
        first = file.tell()
    there, needed = path.stat().st_size - first, math.prod(shape) * dtype.itemsize
    if there != needed:
        raise refused(path, f"its header declares {needed} bytes of data, {there} are there")
    return _collected(path, [("array", dtype, shape, fortran, first)])


def open_npz(path: Path) -> TensorFile:
    """The arrays of an .npz file; raises ConfigError for one that NumPy would not have written."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_archive(path, members)
            arrays: list[tuple[str, np.dtype, tuple[int, ...], bool, Any]] = []
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    dtype, shape, fortran = _header(path, name, file)
                    at = file.tell()
                declared = at + math.prod(shape) * dtype.itemsize
                if declared != member.file_size:
                    problem = f"{shown(name)} declares {declared} bytes, its entry has"
                    raise refused(path, f"{problem} {member.file_size}")
                arrays.append((name, dtype, shape, fortran, (member, at)))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error, struct.error) as error:
        raise refused(path, f"not a whole .npz file ({error})") from None
    return _collected(path, arrays)


def _check_archive(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what is no .npz: other entries, names twice, sizes that cannot be, overlaps."""
    names = [member.filename for member in members]
    if any(name.endswith(("data.pkl", "/data.pkl")) for name in names):
        raise refused(
            path, "a file of torch.save: a pickle, which is never read",
            "the tensors as .safetensors (safetensors.torch.save_file)",
        )  # fmt: skip
    if "model.weights.h5" in names:
        raise refused(path, "a .keras archive", "the file model.weights.h5 in it (unzip it)")
    if len(names) > MEMBERS:
        raise refused(path, f"it has {len(names)} entries")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise refused(path, f"{shown(name)} is there twice")
        seen.add(name)
        if not name.endswith(".npy"):
            raise refused(path, f"its entry {shown(name)} is no array (.npy)", "an .npz file")
    after = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        who = shown(member.filename)
        if member.compress_type not in METHODS:
            raise refused(path, f"{who} is compressed otherwise than NumPy does it")
        if member.flag_bits & 1:
            raise refused(path, f"{who} is encrypted")
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise refused(path, f"{who} is stored, and its two sizes differ")
        if member.file_size > DEFLATE * member.compress_size + DEFLATE:
            problem = f"{who} declares {member.file_size} bytes from {member.compress_size}"
            raise refused(path, f"{problem}, which cannot be: a ZIP bomb")
        if member.header_offset < after:
            raise refused(path, f"{who} overlaps the entry before it: a ZIP bomb")
        after = member.header_offset + 30 + len(member.filename) + member.compress_size


def _header(path: Path, name: str, file: IO[bytes]) -> tuple[np.dtype, tuple[int, ...], bool]:
    """dtype, shape and Fortran order of an array whose file is at its start."""
    try:
        version = np.lib.format.read_magic(file)
        size = {1: 2, 2: 4, 3: 4}.get(version[0])
        if size is None:
            raise ValueError(f"version {version[0]}.{version[1]}")
        length = file.read(size)
        count = int.from_bytes(length, "little")
        if len(length) != size or count > HEADER:
            raise ValueError(f"a header of {count} bytes")
        text = io.BytesIO(length + file.read(count))
        read = (
            np.lib.format.read_array_header_1_0
            if version[0] == 1
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(text, max_header_size=HEADER)
    except HEADER_ERRORS as error:
        problem = f"the header of {shown(name)} is not that of an array"
        raise refused(path, f"{problem} ({first_line(error)})") from None
    if dtype.hasobject:
        raise refused(
            path, f"{shown(name)} is an array of Python objects: a pickle, which is never read",
            "an array of numbers",
        )  # fmt: skip
    if any(n < 0 or n >= 2**63 for n in shape):
        raise refused(path, f"{shown(name)} has the shape {shape}")
    return dtype, shape, fortran


def _collected(
    path: Path, arrays: list[tuple[str, np.dtype, tuple[int, ...], bool, Any]]
) -> TensorFile:
    tensors, left_out = {}, {}
    notes: list[str] = []
    for name, dtype, shape, fortran, where in arrays:
        format: NumberFormat | None
        plain = dtype
        if dtype == np.dtype("V2"):  # what NumPy writes for arrays of ml_dtypes.bfloat16
            format, plain = FORMATS["bfloat16"], np.dtype("<u2")
            notes = ["two bytes without a type, as NumPy writes bfloat16, were read as bfloat16"]
        else:
            format = format_of(dtype)
        if format is None:
            left_out[name] = f"of type {dtype}, no numbers"
            continue
        axes = tuple(range(len(shape)))
        if fortran:
            shape, axes = shape[::-1], axes[::-1]
        if isinstance(where, int):
            first, size = where, math.prod(shape)
            read = partial(_read_stored, path, first, size, plain, format.storage)
        else:
            member, at = where
            read = partial(_read_member, path, member, at, math.prod(shape), plain, format.storage)
        tensors[name] = Tensor(name, format, shape, axes, read)
    return TensorFile(tensors, {}, left_out, tuple(notes))


def _read_stored(
    path: Path, first: int, size: int, dtype: np.dtype, storage: str, n: int
) -> Iterator[np.ndarray]:
    return stored_blocks(path, first, size, dtype, storage, n)


def _read_member(
    path: Path,
    member: zipfile.ZipInfo,
    at: int,
    size: int,
    dtype: np.dtype,
    storage: str,
    n: int,
) -> Iterator[np.ndarray]:
    """Elements of an entry; its CRC is checked at the end."""

    def parts() -> Iterator[np.ndarray]:
        left = size * dtype.itemsize
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.read(at)
            while left:
                data = file.read(min(left, n * dtype.itemsize))
                if not data or len(data) % dtype.itemsize:
                    raise refused(path, f"{shown(member.filename)} is truncated")
                left -= len(data)
                yield np.frombuffer(data, dtype).astype(storage, copy=False)
            file.read(1)  # which checks the CRC

    try:
        yield from reblocked(parts(), n, storage)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise refused(path, f"{shown(member.filename)} is damaged ({error})") from None
