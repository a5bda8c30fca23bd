"""Files of safetensors: a length, a header in JSON, and the tensors as they are.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes, little-endian, are the length N
of the header; N bytes of JSON that begin with `{` and may end in blanks map each name to its
dtype, shape and [begin, end) among the bytes that follow, `__metadata__` to texts.  Names are
unique, the tensors cover all the bytes and do not overlap.
"""

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.data.tensors.reading import read_at, stored_blocks
from nanorepro.data.tensors.record import FORMATS, Tensor, TensorFile, refused
from nanorepro.errors import shown

LONGEST = 100_000_000  # bytes of a header, as the library has it
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "C64": "complex64", "C128": "complex128", "BOOL": "bool",
    **{f"I{8 * size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"U{8 * size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
}  # fmt: skip
RIGHT = "a whole .safetensors file"


def looks_like(start: bytes) -> bool:
    """Whether a file that begins with these 9 bytes may be one of safetensors."""
    return len(start) >= 9 and start[8:9] == b"{"


def open_file(path: Path) -> TensorFile:
    """The tensors of a file; raises ConfigError for one that is not as the format has it."""
    total = path.stat().st_size
    if total < 8:
        raise refused(path, "truncated: it ends before the length of its header", RIGHT)
    length = int.from_bytes(read_at(path, 0, 8), "little")
    if length > LONGEST:
        raise refused(path, f"its header would be {length} bytes, {LONGEST} are the most", RIGHT)
    if 8 + length > total:
        raise refused(
            path, f"truncated: its header would be {length} bytes, the file has {total}", RIGHT
        )
    header = _header(path, read_at(path, 8, length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refused(path, "__metadata__ is not a record of texts", RIGHT)
    spans = [(*_entry(path, name, entry), name) for name, entry in header.items()]
    after = 0
    for begin, end, name in sorted(spans):
        if begin != after:
            what = "overlaps the tensor before it" if begin < after else "leaves a gap before it"
            raise refused(path, f"{shown(name)} begins at byte {begin}, not {after}: it {what}")
        after = end
    if after != total - 8 - length:
        right = f"its tensors end at byte {after}, its data at {total - 8 - length}"
        raise refused(path, f"truncated or too long: {right}", RIGHT)
    tensors, left_out = {}, {}
    for begin, _, name in spans:
        dtype, shape = header[name]["dtype"], tuple(header[name]["shape"])
        if dtype not in DTYPES:
            left_out[name] = f"dtype {dtype}, which is not supported"
            continue
        format = FORMATS[DTYPES[dtype]]
        read = partial(_read, path, 8 + length + begin, math.prod(shape), format.storage)
        tensors[name] = Tensor(name, format, shape, tuple(range(len(shape))), read)
    return TensorFile(tensors, dict(metadata), left_out)


def _read(path: Path, first: int, size: int, storage: str, n: int) -> Iterator[np.ndarray]:
    return stored_blocks(path, first, size, np.dtype(storage), storage, n)


def _header(path: Path, data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise refused(path, f"its header has {shown(twice)} twice")
        return found

    if not data.startswith(b"{"):
        raise refused(path, "its header does not begin with {", RIGHT)
    try:
        header = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise refused(path, f"its header is not JSON ({type(error).__name__})", RIGHT) from None
    if not isinstance(header, dict):
        raise refused(path, "its header is not a record", RIGHT)
    return header


BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8}  # of what is left out


def _entry(path: Path, name: str, entry: Any) -> tuple[int, int]:
    """The bytes [begin, end) of a tensor, checked against its dtype and shape."""

    def natural(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63

    who = shown(name)
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise refused(path, f"{who} has not dtype, shape and data_offsets, and nothing else")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES | BITS:
        known = ", ".join(DTYPES)
        raise refused(path, f"{who} has the unknown dtype {shown(dtype)}", f"one of {known}")
    if not isinstance(shape, list) or not all(natural(n) for n in shape) or len(shape) > 64:
        raise refused(path, f"{who} has the shape {shown(shape)}")
    if not isinstance(span, list) or len(span) != 2 or not all(natural(n) for n in span):
        raise refused(path, f"{who} has the data_offsets {shown(span)}")
    bits = BITS[dtype] if dtype in BITS else 8 * FORMATS[DTYPES[dtype]].bytes
    begin, end = span
    if 8 * (end - begin) != bits * math.prod(shape):
        told = f"{dtype} of shape {tuple(shape)}"
        raise refused(path, f"{who}, {told}, does not fit its bytes {begin} to {end}")
    return begin, end
