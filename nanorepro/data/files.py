"""Examples in the caller's files: .npz, HDF5, .csv and .parquet, checked before they are used.

In .npz and HDF5 the arrays are named x (n, d) and y (n,), and x_eval and y_eval if there are
evaluation examples.  In a table a column named y is the label, one named eval says by 1 which rows
are evaluation examples, by 0 which are not, and all others are features, in their order.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.data.tensors.opening import open_tensors
from nanorepro.data.tensors.record import Tensor, refused
from nanorepro.data.tensors.values import values_of
from nanorepro.errors import ConfigError, shown
from nanorepro.parsing import real_number
from nanorepro.text import counted, first_line

LABEL, EVALUATION = "y", "eval"
ARRAYS = ("x", "y", "x_eval", "y_eval")
FILES = "a file .npz, .h5, .csv or .parquet"
TABLES = (".csv", ".parquet", ".pq")
ABSENT = frozenset({"", "na", "nan", "n/a", "null", "none", "?", "."})
PLACES = "rows and columns are counted from 0"


@dataclass(frozen=True)
class Examples:
    """Examples of the caller.

    Attributes
    ----------
    x : ndarray (n, d) float32
        Features of the training examples.
    y : ndarray (n,) uint8
        Their labels, 0 or 1.
    x_eval, y_eval : ndarray, or None
        The same of the evaluation examples, (m, d) and (m,); None if there are none.
    features : tuple of str
        Names of the features: the columns' of a table, else their numbers.
    binary : bool
        Whether all features are 0 or 1.
    """

    x: np.ndarray
    y: np.ndarray
    x_eval: np.ndarray | None
    y_eval: np.ndarray | None
    features: tuple[str, ...]
    binary: bool


def read_examples(path: str | Path) -> Examples:
    """The examples of a file.

    Parameters
    ----------
    path : str or Path
        An .npz, HDF5, .csv or .parquet file, as the module says.

    Returns
    -------
    Examples
        Features as float32, the nearest to what is in the file; labels -1 and +1 as 0 and 1.

    Raises
    ------
    ConfigError
        In one line that names the file and the place, for: a file that is missing or damaged; an
        array or column that is missing or of another shape; a value that is missing, not finite, no
        number, or beyond float32; lengths that are not equal; a feature that is constant over the
        training examples; a label that is neither 0 and 1 nor -1 and +1; a class that is absent.
    """
    path = Path(path)
    if "\0" in str(path) or not path.is_file():
        problem = "not a file" if "\0" not in str(path) and path.exists() else "no such file"
        raise refused(path, problem, FILES)
    if path.suffix.lower() in TABLES:
        columns = _csv(path) if path.suffix.lower() == ".csv" else _parquet(path)
        return check_examples(path, *_of_table(path, columns))
    arrays = _arrays(path)
    d = arrays["x"].shape[1] if arrays["x"].ndim == 2 else 0
    return check_examples(path, arrays, tuple(map(str, range(d))))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz or HDF5 file, float64."""
    file = open_tensors([path], FILES)
    tensors = file.tensors
    right = "the arrays x and y, and x_eval and y_eval if there are evaluation examples"
    for name in ARRAYS[:2]:
        if name in file.left_out:
            raise refused(path, f"{name} is {file.left_out[name]}", right)
        if name not in tensors:
            raise refused(path, f"it has no numbers named {name}", right)
    if ("x_eval" in tensors) != ("y_eval" in tensors):
        raise refused(path, "x_eval and y_eval go together", right)
    found = {}
    for name in ARRAYS:
        if name in tensors:
            tensor = tensors[name]
            axes = 2 if name.startswith("x") else 1
            if name.startswith("y") and len(tensor.shape) == 2 and tensor.shape[1] == 1:
                axes = 2
            if len(tensor.shape) != axes:
                form = "(n, d)" if axes == 2 else "(n,)"
                raise refused(path, f"{name} has the shape {tensor.shape}", f"one of shape {form}")
            if tensor.format.kind == "complex":
                raise refused(path, f"{name} holds complex numbers", "real ones")
            found[name] = _whole(tensor)
            if name.startswith("y"):
                found[name] = found[name].reshape(-1)
    return found


def _whole(tensor: Tensor) -> np.ndarray:
    """All numbers of a tensor, as float64."""
    held = np.empty(tensor.size)
    first = 0
    for block in tensor.blocks():
        values = values_of(block, tensor.format)
        held[first : first + len(values)] = values
        first += len(values)
    return held.reshape(tensor.shape)


def _csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of a .csv file with a line of names, float64."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            names = [name.strip() for name in next(rows, [])]
            _check_names(path, names)
            values = list(_numbers(path, rows, names))
    except UnicodeDecodeError:
        raise refused(path, "not text in UTF-8", "the table saved as UTF-8") from None
    except csv.Error as error:
        raise refused(path, f"not a table ({error})") from None
    except OSError as error:
        raise refused(path, error.strerror or "it cannot be read") from None
    table = np.array(values, np.float64).reshape(len(values), len(names))
    return {name: table[:, k] for k, name in enumerate(names)}


def _numbers(path: Path, rows: Iterator[list[str]], names: Sequence[str]) -> Iterator[list[float]]:
    """The rows of numbers of a .csv file; empty lines are passed over."""
    row = 0
    for cells in rows:
        if not cells:
            continue
        if len(cells) != len(names):
            problem = (
                f"row {row} has {counted(len(cells), 'value')} for {counted(len(names), 'column')}"
            )
            raise refused(path, f"{problem} ({PLACES})")
        found = []
        for name, text in zip(names, cells, strict=True):
            plain = text.strip()
            try:
                found.append(real_number(plain))
            except ValueError:
                what = "missing" if plain.lower() in ABSENT else f"no number: {shown(plain)}"
                problem = f"column {shown(name)}, row {row} is {what} ({PLACES})"
                right = "0 and 1 in its place" if plain.lower() in WORDS else ""
                raise refused(path, problem, right) from None
        yield found
        row += 1


def _parquet(path: Path) -> dict[str, np.ndarray]:
    """The columns of a Parquet file, float64; pyarrow reads it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        right = "`pip install nanorepro[table]`, or a .csv file"
        raise refused(path, "Parquet is read by pyarrow, which is not installed", right) from None
    try:
        table = pyarrow.parquet.read_table(path)
    except PermissionError as error:
        raise refused(path, os.strerror(error.errno or 0)) from None
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise refused(path, f"not a whole Parquet file ({first_line(error)})") from None
    names = [name.strip() for name in table.column_names]
    _check_names(path, names)
    found = {}
    for name, column in zip(names, table.columns, strict=True):
        kind = column.type
        types = pyarrow.types
        if types.is_dictionary(kind) or not (
            types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
        ):
            raise refused(path, f"column {shown(name)} is of type {kind}", "numbers")
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise refused(path, f"column {shown(name)}, row {row} is missing ({PLACES})")
        found[name] = column.to_numpy().astype(np.float64)
    return found


WORDS = {"true", "false", "yes", "no"}
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "|"}


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a table without a label, without features, or with a name twice."""
    if not names:
        raise refused(path, "it is empty", "a first line with the names of the columns")
    for separator, what in SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise refused(path, f"its columns are separated by {what}", "commas in their place")
    known = Counter(names)
    for name in names:
        if not name or known[name] > 1:
            what = f"{shown(name)} is there twice" if name else "a column has no name"
            raise refused(path, what, "each column a name of its own in the first line")
    if LABEL not in names:
        listed = ", ".join(names[:6])
        raise refused(path, f"no column is named y (there are {listed})", "the label that name")
    if not set(names) - {LABEL, EVALUATION}:
        raise refused(path, "it has no column of features")
    for name in names:
        if name.lower() == EVALUATION != name:
            right = f"it the name {EVALUATION}, or another one if it is a feature"
            raise refused(path, f"column {shown(name)} is nearly named {EVALUATION}", right)


def _of_table(
    path: Path, columns: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of a table, and the names of its features."""
    names = tuple(name for name in columns if name not in (LABEL, EVALUATION))
    x, y = np.stack([columns[name] for name in names], axis=1), columns[LABEL]
    if EVALUATION not in columns:
        return {"x": x, "y": y}, names
    which = columns[EVALUATION]
    if not np.isin(which, (0.0, 1.0)).all():
        row = int(np.argmin(np.isin(which, (0.0, 1.0))))
        raise refused(path, f"column 'eval', row {row} is {which[row]:g} ({PLACES})", "0 or 1")
    for_evaluation = which == 1.0
    if not for_evaluation.any():
        right = "1 for the evaluation examples, or leave the column out to have some drawn"
        raise refused(path, "column 'eval' is 0 in every row", right)
    if for_evaluation.all():
        raise refused(path, "column 'eval' is 1 in every row", "0 for the training examples")
    training = ~for_evaluation
    return {
        "x": x[training], "y": y[training], "x_eval": x[for_evaluation], "y_eval": y[for_evaluation]
    }, names  # fmt: skip


def check_examples(
    source: Path | None, arrays: Mapping[str, np.ndarray], names: tuple[str, ...]
) -> Examples:
    """The examples, if they can be trained on; raises ConfigError as `read_examples` does.

    Parameters
    ----------
    source : Path or None
        The file that they were read from, for messages; None: the caller's arrays.
    arrays : mapping
        x (n, d) and y (n,), x_eval and y_eval if there are, float64.
    names : tuple of str
        Names of the features.
    """
    found: dict[str, Any] = dict.fromkeys(ARRAYS)
    for x, y in (("x", "y"), ("x_eval", "y_eval")):
        if x not in arrays:
            continue
        if len(arrays[x]) != len(arrays[y]):
            raise _refused(source, f"{x} has {len(arrays[x])} rows, {y} {len(arrays[y])} labels")
        if not arrays[x].size:
            raise _refused(source, f"{x} has no numbers: its shape is {arrays[x].shape}")
        if arrays[x].shape[1] != len(names):
            raise _refused(source, f"{x} has {arrays[x].shape[1]} columns, x has {len(names)}")
        found[x] = _features(source, x, arrays[x], names)
        found[y] = _labels(source, y, arrays[y])
    _check_encoding(source, arrays)
    least, most = found["x"].min(axis=0), found["x"].max(axis=0)
    if (least == most).any():
        k = int(np.argmax(least == most))
        problem = f"feature {shown(names[k])} is {least[k] + 0.0:g} in all training examples"
        if np.ptp(arrays["x"][:, k]) > 0.0:
            problem += " as float32 has them"
            raise _refused(source, problem, "it centred and scaled, or leave it out")
        raise _refused(source, problem, "features that vary, leaving it out")
    both = [x for x in (found["x"], found["x_eval"]) if x is not None]
    binary = all(bool(((x == 0.0) | (x == 1.0)).all()) for x in both)
    return Examples(features=names, binary=binary, **found)


def _features(
    source: Path | None, name: str, values: np.ndarray, names: Sequence[str]
) -> np.ndarray:
    """The features as float32."""
    with np.errstate(over="ignore"):
        x = values.astype(np.float32)
    if not np.isfinite(x).all():
        row, k = np.argwhere(~np.isfinite(x))[0]
        value = values[row, k]
        what = "missing (NaN)" if np.isnan(value) else "infinite, or beyond what float32 holds"
        problem = f"{name}: feature {shown(names[k])}, row {row} is {what} ({PLACES})"
        raise _refused(source, problem)
    return x


def _labels(source: Path | None, name: str, values: np.ndarray) -> np.ndarray:
    """The labels as 0 and 1."""
    right = "labels 0 and 1, or -1 and +1"
    allowed = np.isin(values, (-1.0, 0.0, 1.0))
    if not allowed.all():
        row = int(np.argmin(allowed))
        what = "missing (NaN)" if np.isnan(values[row]) else f"{values[row]:g}"
        raise _refused(source, f"{name}, row {row} is {what} ({PLACES})", right)
    y = (values == 1.0).astype(np.uint8)
    if y.all() or not y.any():
        which = f"{values[0]:g}" if len(set(values.tolist())) == 1 else "0 and -1"
        raise _refused(source, f"{name} has one class only, {which}", "examples of both classes")
    return y


def _check_encoding(source: Path | None, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse labels of which some are 0 and some -1."""
    named = [(name, arrays[name]) for name in ("y", "y_eval") if name in arrays]
    zero = [name for name, labels in named if (labels == 0.0).any()]
    below = [name for name, labels in named if (labels == -1.0).any()]
    if zero and below:
        what = f"{zero[0]} has 0 and {below[-1] + ' ' if below[-1] != zero[0] else ''}-1"
        raise _refused(source, what, "labels 0 and 1, or -1 and +1")


def _refused(source: Path | None, problem: str, right: str = "") -> ConfigError:
    return refused(source, problem, right) if source else ConfigError(problem, "data", right)
