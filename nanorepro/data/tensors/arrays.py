"""Arrays of the caller as tensors, like those of a file."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from nanorepro.data.tensors.record import FORMATS, NumberFormat, Tensor, TensorFile, format_of
from nanorepro.errors import ConfigError, shown


def tensors_of(arrays: Mapping[str, Any], what: str) -> TensorFile:
    """The tensors of a mapping from names to arrays, or to mappings of such, joined by `/`.

    Raises ConfigError, naming `what`, for what are no arrays of numbers.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in _flat(arrays, what):
        try:
            array = np.asarray(value)
        except MemoryError:
            raise
        except Exception as error:
            problem = f"{shown(name)} is no array ({type(error).__name__})"
            raise ConfigError(problem, what, "arrays of numbers by their names") from None
        if np.ma.is_masked(value):
            problem = f"{shown(name)} has masked values"
            raise ConfigError(problem, what, "arrays of numbers by their names")
        format = _format(array.dtype)
        if format is None:
            problem = f"{shown(name)} is of type {array.dtype}, no numbers"
            raise ConfigError(problem, what, "arrays of numbers by their names")
        axes = tuple(range(array.ndim))
        tensors[name] = Tensor(name, format, array.shape, axes, partial(_read, array, format))
    return TensorFile(tensors, {}, {})


def _flat(arrays: Mapping[str, Any], what: str, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arrays.items():
        if not isinstance(name, str):
            raise ConfigError(f"{shown(name)} is no name", what, "arrays of numbers by their names")
        if isinstance(value, Mapping):
            yield from _flat(value, what, f"{above}{name}/")
        else:
            yield above + name, value


def _format(dtype: np.dtype) -> NumberFormat | None:
    return FORMATS.get(dtype.name) if dtype.name.startswith(("bfloat", "float8")) else format_of(
        dtype
    )  # fmt: skip


def _read(array: np.ndarray, format: NumberFormat, n: int) -> Iterator[np.ndarray]:
    flat = array.reshape(-1)
    for first in range(0, flat.size, n):
        part = flat[first : first + n]
        if part.dtype.kind not in "fciub" or format.storage in ("u1", "<u2"):
            yield np.ascontiguousarray(part).view(format.storage)
        else:
            yield part.astype(format.storage, copy=False)
