"""Checks of arguments: of another kind than is wanted, they are a `ConfigError` that names them."""

import operator
import os
from pathlib import Path

from nanorepro.errors import wrong


def is_boolean(value: object) -> bool:
    """Whether a value is Python's or NumPy's yes or no, which is no number here."""
    return type(value).__name__ in ("bool", "bool_")


def whole_within(name: str, value: object, low: int, high: int) -> int:
    """An integer of Python or NumPy from low to high; raises ConfigError for anything else."""
    try:
        if is_boolean(value):
            raise TypeError
        found = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        found = low - 1
    if not low <= found <= high:
        right = f"a whole number from {low} to {high}" if low < high else f"{low}"
        raise wrong(name, value, right)
    return found


def number_between(name: str, value: object, low: float, high: float, right: str) -> float:
    """A real number above low and below high; raises ConfigError for anything else."""
    try:
        if is_boolean(value) or isinstance(value, str | bytes):
            raise TypeError
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = low
    if not low < found < high:
        raise wrong(name, value, right)
    return found


def folder_or_file(name: str, value: object, right: str) -> Path:
    """A path, given as text or as a path; raises ConfigError for anything else."""
    try:
        found = os.fspath(value)  # type: ignore[call-overload]
    except TypeError:
        found = b""
    if not isinstance(found, str):
        raise wrong(name, value, right)
    return Path(found)


def function_or_none(name: str, value: object, right: str) -> None:
    """Raise ConfigError for what can neither be called nor is None."""
    if value is not None and not callable(value):
        raise wrong(name, value, right)
