"""Records that are equal by what they hold, their arrays too."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np


class EqualByContent:
    """What a dataclass with arrays inherits, itself declared with `eq=False`.

    Two records are equal if they are of one class and all their fields are; all NaN count as one.
    Arrays can be changed, so that a record has no hash.
    """

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self is other or all(
            same(getattr(self, f.name), getattr(other, f.name))
            for f in fields(self)  # type: ignore[arg-type]
        )


def same(one: Any, other: Any) -> bool:
    """Whether values are equal, arrays in type, shape and every number; all NaN count as one."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        nan = one.dtype.kind == "f"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=nan)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    if isinstance(one, tuple | list) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and one != one:
        return other != other
    return type(one) is type(other) and bool(one == other)
