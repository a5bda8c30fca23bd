"""The caller's examples and labels: whatever holds numbers, checked, and packed if all are 0 and 1.

Arrays, nested lists, data frames (pandas, polars, Arrow) and SciPy's sparse arrays are known by
what they can do; none of these libraries is imported.  What is a number without doubt is taken, as
a bool, an integer, a float or an object; what is missing, masked, text or not finite is refused
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

TYPES = bool | np.bool_ | float | np.floating
LABELS = "0 and 1 only, or -1 and +1"


def examples_of(name: str, a: object, pack: Pack = pack) -> tuple[np.ndarray, int, bool]:
    """The caller's examples (n, d) as models take them, d, and whether they are real numbers.

    Packed by a backend's `pack` if all are 0 and 1; else the nearest float32, -0 made +0.  Raises
    ConfigError for what is no number, or none that float32 holds.
    """
    columns = list(columns_of(a))
    if columns:
        if not len(columns[0][1]):
            raise ConfigError("a table without rows", name, "at least one example")
        parts = [_features(name, values, in_column(label), 1) for label, values in columns]
        array = np.stack(parts, axis=1)
    else:
        array = array_of(name, dense(name, a), 2)
        packed = pack(array) if array.dtype.kind in "buif" else None
        if packed is not None:
            return packed, array.shape[1], False
        array = _features(name, array, in_array, 2)
    packed = pack(array) if array.dtype == bool else None
    return array if packed is None else packed, array.shape[1], packed is None


def labels_of(name: str, a: object) -> np.ndarray:
    """The caller's labels (n,) as uint8; raises ConfigError for all but 0 and 1, or -1 and +1."""
    y = numbers(name, array_of(name, dense(name, a), 1, in_array), in_array)
    below = -1.0 if (y == -1.0).any() else 0.0
    wrong = (y != 1.0) & (y != below)
    if wrong.any():
        at = int(wrong.argmax())
        raise _refused(name, y[at], in_array((at,)), LABELS)
    return (y == 1.0).astype(np.uint8)


def check_aligned(x: Any, y: Any, name: str) -> None:
    """Raise ConfigError if the rows of two tables have the same labels in another order.

    Rows are taken by their places.
    """
    if not all(hasattr(getattr(a, "index", None), "equals") for a in (x, y)):
        return  # no tables of pandas
    one, other = x.index, y.index
    if len(one) == len(other) and not one.equals(other) and set(one) == set(other):
        right = "both in one order, as by y.loc[x.index], or arrays, which have no index"
        raise ConfigError("the indexes of x and y have another order", name, right)


def numbers(name: str, array: np.ndarray, place: Place) -> np.ndarray:
    """Any numbers as the nearest float64; integers beyond all of them become infinite.

    Raises ConfigError for an array of another type, and for the first object that is no number.
    """
    if array.dtype.kind in "OUST":
        values = np.empty(array.shape)
        for at, value in np.ndenumerate(array):
            whole = isinstance(value, int | np.integer)
            if is_missing(value) or not (whole or isinstance(value, TYPES)):
                raise _refused(name, value, place(at), "numbers")
            try:
                values[at] = value
            except OverflowError:
                values[at] = math.inf
        return values
    if array.dtype.kind not in "buif":
        problem = f"type {array.dtype} ({place((0,) * array.ndim)}) is not allowed"
        raise ConfigError(problem, name, "real numbers")
    return array.astype(np.float64)


def _features(name: str, a: object, place: Place, axes: int) -> np.ndarray:
    """Features, of one column or of all: bool if all are 0 and 1, else float32."""
    found = numbers(name, array_of(name, a, axes, place), place)
    with np.errstate(over="ignore"):
        single = found.astype(np.float32) + np.float32(0.0)
    ones = single == 1.0
    if (ones | (single == 0.0)).all():
        return np.asarray(ones)
    wrong = np.argwhere(~np.isfinite(single))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise _refused(name, found[at], place(at), "numbers that float32 holds")
    return single


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
    if not rows.has_canonical_format:  # several entries of one place are their sum
        rows = rows.copy()
        rows.sum_duplicates()
    if rows.dtype.kind in "buif" and not ((rows.data != 0) & (rows.data != 1)).any():
        rows = rows.astype(np.uint8)
    return rows.toarray()


def array_of(name: str, a: object, axes: int, place: Place | None = None) -> np.ndarray:
    """An array of so many axes, not empty and nowhere masked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of masked elements of a list
            array = np.asanyarray(a)
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST]
        right = f"an array of {_axes(axes)} with all values"
        raise ConfigError(f"not an array ({reason})", name, right) from None
    if array.ndim == 0:
        kind = shown(type(a).__name__)
        raise ConfigError(f"a {kind} is no array", name, f"an array of {_axes(axes)}")
    if axes == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # a column, as files and data frames have one
    if array.ndim != axes or 0 in array.shape:
        raise ConfigError(f"shape {array.shape} is wrong", name, f"{_axes(axes)}, not empty")
    if np.ma.is_masked(array):
        at = tuple(int(k[0]) for k in np.nonzero(np.ma.getmaskarray(array)))
        raise ConfigError(f"the value in {(place or in_array)(at)} is masked", name, "all values")
    return np.asarray(array)


def _axes(count: int) -> str:
    return "1 axis" if count == 1 else f"{count} axes"


def _refused(name: str, value: Any, where: str, right: str) -> ConfigError:
    """What is wrong with a value that is not `right`."""
    if isinstance(value, str | bytes):
        right = "numbers, as in x.astype(int) of '0' and '1', or (x == 'yes') of words"
        return ConfigError(f"{shown(str(value))} in {where} is text", name, right)
    if is_missing(value):
        right = f"{right}; fill in or leave out what is missing"
        return ConfigError(f"the value in {where} is missing ({value})", name, right)
    value = value.item() if isinstance(value, np.generic) else value
    return ConfigError(f"{shown(value)} in {where} is not allowed", name, right)


def is_missing(value: Any) -> bool:
    """None, NaN, NaT, pandas's NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and math.isnan(value)


def in_array(at: tuple[int, ...]) -> str:
    return ", ".join(f"{axis} {k}" for axis, k in zip(("row", "column"), at, strict=False))


def in_column(label: object) -> Place:
    return lambda at: f"row {at[0]}, column {shown(label)}"
