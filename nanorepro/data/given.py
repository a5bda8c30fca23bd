"""The caller's examples as a run takes them: packed, with the digest that names them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.data.arrays import (
    Place,
    array_of,
    check_aligned,
    columns_of,
    dense,
    in_array,
    in_column,
    numbers,
)
from nanorepro.data.content import BINARY, REAL, Content
from nanorepro.data.files import ARRAYS, Examples, check_examples, read_examples
from nanorepro.data.options import FILE
from nanorepro.data.packing import pack
from nanorepro.errors import ConfigError, shown


@dataclass(frozen=True, eq=False)
class Given:
    """The caller's examples.

    Attributes
    ----------
    content : Content
        What they are.
    x : ndarray
        Training examples: (n, words) uint32 packed, or (n, d) float32 if they are real.
    y : ndarray (n,) uint8
        Their labels.
    x_eval, y_eval : ndarray or None
        The same of the evaluation examples, if there are any.
    """

    content: Content
    x: np.ndarray
    y: np.ndarray
    x_eval: np.ndarray | None
    y_eval: np.ndarray | None


def given_of(examples: Examples) -> Given:
    """Examples that were checked, packed, with their content."""
    n, d = examples.x.shape
    m = 0 if examples.y_eval is None else len(examples.y_eval)
    kind = BINARY if examples.binary else REAL
    content = Content(kind, n, m, d, digest(examples))

    def packed(x: np.ndarray) -> np.ndarray:
        if not examples.binary:
            return plain(x)
        words = pack(x)
        assert words is not None
        return words

    x_eval = None if examples.x_eval is None else packed(examples.x_eval)
    return Given(content, packed(examples.x), examples.y, x_eval, examples.y_eval)


def plain(x: np.ndarray) -> np.ndarray:
    """Features as float32, row-major, -0 made +0."""
    return np.ascontiguousarray(x, np.float32) + np.float32(0.0)


def digest(examples: Examples) -> str:
    """SHA-256 of the examples (docs/arithmetic.md, "The caller's examples"), 64 hex digits."""
    found = hashlib.sha256()
    arrays = {name: getattr(examples, name) for name in ARRAYS}
    for name, a in arrays.items():
        shape = "x".join(map(str, np.shape(a))) if a is not None else ""
        found.update(f"{name} {shape}\n".encode())
        if a is None:
            continue
        stored = a if name.startswith("y") else plain(a).astype("<f4", copy=False)
        found.update(np.ascontiguousarray(stored).data)
    return found.hexdigest()


def read_given(data: str) -> Given:
    """The examples of `file:NAME`; raises ConfigError as `read_examples` does.

    Of the last files that were read the examples are kept, for as long as nobody writes to them.
    """
    path = Path(data.removeprefix(FILE))
    try:
        found = path.stat()
    except (OSError, ValueError):
        return given_of(read_examples(path))  # which says what is wrong
    return _read(path.absolute(), path, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(absolute: Path, path: Path, size: int, modified: int) -> Given:
    return given_of(read_examples(path))


def given_arrays(data: object) -> Given:
    """The examples of the caller's arrays (x, y) or (x, y, x_eval, y_eval).

    Raises ConfigError for what cannot be trained on, naming it and its place.
    """
    if not isinstance(data, Sequence) or len(data) not in (2, 4):
        problem = f"{shown(type(data).__name__)} is not allowed"
        if isinstance(data, Sequence) and not isinstance(data, str | bytes):
            problem = f"{len(data)} arrays are not allowed"
        raise ConfigError(problem, "data", "(x, y) or (x, y, x_eval, y_eval)")
    arrays = dict(zip(ARRAYS, data, strict=False))
    if (arrays.get("x_eval") is None) != (arrays.get("y_eval") is None):
        raise ConfigError("x_eval and y_eval go together", "data", "both or neither")
    for name in ("x", "y"):
        if arrays[name] is None:
            raise ConfigError(f"{name} is None", "data", "(x, y) or (x, y, x_eval, y_eval)")
    found: dict[str, np.ndarray] = {}
    names: tuple[str, ...] = ()
    check_aligned(arrays["x"], arrays["y"], "data")
    check_aligned(arrays.get("x_eval"), arrays.get("y_eval"), "data")
    for name, a in arrays.items():
        if a is None:
            continue
        if name.startswith("x"):
            found[name], labels = _table(name, a)
            names = names or labels
        else:
            found[name] = _numbers(name, array_of(name, a, 1), in_array)
    return given_of(check_examples(None, found, names))


def _table(name: str, a: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features (n, d) as float64, and their names."""
    columns = list(columns_of(a))
    if columns and len(columns[0][1]):
        parts = [_numbers(name, np.asarray(v), in_column(label)) for label, v in columns]
        return np.stack(parts, axis=1), tuple(str(label) for label, _ in columns)
    array = _numbers(name, array_of(name, dense(name, a), 2), in_array)
    return array, tuple(map(str, range(array.shape[1])))


def _numbers(name: str, a: np.ndarray, place: Place) -> np.ndarray:
    """Real numbers as float64; what is wrong with one is said of `data`."""
    try:
        return numbers(name, a, place)
    except ConfigError as error:
        raise ConfigError(str(error), "data") from None
