"""The caller's examples and labels: whatever holds 0 and 1, checked and packed.

Arrays, nested lists, data frames (pandas, polars, Arrow) and SciPy's sparse arrays are known by
what they can do; none of these libraries is imported.  What is 0 or 1 without doubt is taken, as a
bool, an integer, a float or an object; what is missing, masked, text or another number is refused
with its place.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nanorepro.data.packing import pack
from nanorepro.errors import LONGEST, ConfigError, shown

Pack = Callable[[np.ndarray], np.ndarray | None]
Place = Callable[[tuple[int, ...]], str]

ONLY = "0 and 1 only"


def packed_examples(name: str, a: object, pack: Pack = pack) -> tuple[np.ndarray, int]:
    """The caller's examples (n, d), packed by a backend's `pack`, and d.

    Raises ConfigError for anything but 0 and 1.
    """
    columns = list(columns_of(a))
    if columns:
        if not len(columns[0][1]):
            raise ConfigError("a table without rows", name, "at least one example")
        parts = [_binary(name, values, 1, in_column(label)) for label, values in columns]
        array = np.stack([np.asarray(part, np.uint8) for part in parts], axis=1)
    else:
        array = array_of(name, dense(name, a), 2)
        packed = pack(array) if array.dtype.kind in "buif" else None
        if packed is not None:
            return packed, array.shape[1]
        array = _zeros_and_ones(name, array, in_array)
    packed = pack(array)
    assert packed is not None
    return packed, array.shape[1]


def binary_labels(name: str, a: object) -> np.ndarray:
    """The caller's labels (n,) as uint8; raises ConfigError for anything but 0 and 1."""
    return np.asarray(_binary(name, a, 1, in_array), np.uint8)


def _binary(name: str, a: object, axes: int, place: Place) -> np.ndarray:
    return _zeros_and_ones(name, array_of(name, a, axes, place), place)


def columns_of(a: Any) -> Iterator[tuple[object, np.ndarray]]:
    """Labels and values of the columns of a data frame; none of anything else."""
    if hasattr(a, "iloc") and hasattr(a, "columns"):  # pandas
        for k, label in enumerate(a.columns):
            yield label, a.iloc[:, k].to_numpy()
    elif hasattr(a, "get_columns"):  # polars
        for column in a.get_columns():
            yield column.name, column.to_numpy()
    elif hasattr(a, "column_names") and hasattr(a, "itercolumns"):  # Arrow
        for label, column in zip(a.column_names, a.itercolumns(), strict=True):
            yield label, column.to_pandas().to_numpy() if column.null_count else column.to_numpy()


def dense(name: str, a: Any) -> Any:
    """A SciPy sparse array with all its zeros; anything else as it is."""
    if not (hasattr(a, "tocsr") and hasattr(a, "nnz")):
        return a
    rows = a.tocsr()
    if rows.dtype.kind in "buif" and not ((rows.data != 0) & (rows.data != 1)).any():
        rows = rows.astype(np.uint8)
    return rows.toarray()


def array_of(name: str, a: object, axes: int, place: Place | None = None) -> np.ndarray:
    """An array of so many axes, not empty and nowhere masked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of masked elements of a list
            array = np.asanyarray(a)
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST]
        right = f"an array of {_axes(axes)} with all values"
        raise ConfigError(f"not an array ({reason})", name, right) from None
    if array.ndim != axes or 0 in array.shape:
        raise ConfigError(f"shape {array.shape} is wrong", name, f"{_axes(axes)}, not empty")
    if np.ma.is_masked(array):
        at = tuple(int(k[0]) for k in np.nonzero(np.ma.getmaskarray(array)))
        raise ConfigError(f"the value in {(place or in_array)(at)} is masked", name, ONLY)
    return np.asarray(array)


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"


def _zeros_and_ones(name: str, array: np.ndarray, place: Place) -> np.ndarray:
    """The array as bool; raises ConfigError for the first value that is neither 0 nor 1."""
    if array.dtype.kind in "buif":
        ones = array == 1
        wrong = np.nonzero(~(ones | (array == 0)))
        if not len(wrong[0]):
            return np.asarray(ones)
    elif array.dtype.kind in "OUST":
        values = [_number(value) for value in array.ravel().tolist()]
        ones = np.array([value == 1 for value in values]).reshape(array.shape)
        wrong = np.nonzero(np.array([value is None for value in values]).reshape(array.shape))
        if not len(wrong[0]):
            return ones
    else:
        problem = f"type {array.dtype} ({place((0,) * array.ndim)}) is not allowed"
        raise ConfigError(problem, name, "numbers 0 and 1")
    at = tuple(int(axis[0]) for axis in wrong)
    raise _refused(name, array[at], place(at))


def _number(value: Any) -> int | None:
    """0 or 1, if a value is equal to it and is a number; else None."""
    if isinstance(value, bool | np.bool_ | int | float | np.integer | np.floating):
        return int(value) if value in (0, 1) else None
    return None


def _refused(name: str, value: Any, where: str) -> ConfigError:
    """What is wrong with a value that is neither 0 nor 1."""
    if isinstance(value, str | bytes):
        right = "numbers, as in x.astype(int) of '0' and '1', or (x == 'yes') of words"
        return ConfigError(f"{shown(str(value))} in {where} is text", name, right)
    if is_missing(value):
        right = f"{ONLY}; fill in or leave out what is missing"
        return ConfigError(f"the value in {where} is missing ({value})", name, right)
    value = value.item() if isinstance(value, np.generic) else value
    return ConfigError(f"{shown(value)} in {where} is not allowed", name, ONLY)


def is_missing(value: Any) -> bool:
    """None, NaN, NaT, pandas's NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def in_array(at: tuple[int, ...]) -> str:
    return ", ".join(f"{axis} {k}" for axis, k in zip(("row", "column"), at, strict=False))


def in_column(label: object) -> Place:
    return lambda at: f"row {at[0]}, column {shown(label)}"
