"""Two tensors read side by side, block by block, as numbers of one format and their bits."""

import math
from collections.abc import Iterator

import numpy as np

from nanorepro.data.tensors.record import FORMATS, NumberFormat, Tensor
from nanorepro.data.tensors.values import values_of
from nanorepro.errors import ConfigError
from nanorepro.numerics.ulp import SIGNED, apart, places, with_nan

BLOCK = 1 << 14  # numbers at a time, which stay in the caches as float64


def common_format(a: NumberFormat, b: NumberFormat) -> NumberFormat:
    """The format that holds the numbers of both, exactly; raises ConfigError if there is none."""
    if a == b:
        return a
    kinds = {a.kind, b.kind}
    if kinds == {"float"}:
        return FORMATS["float64" if "float64" in (a.name, b.name) else "float32"]
    if kinds == {"complex"}:
        return FORMATS["complex128"]
    if kinds == {"int"} and "uint64" not in (a.name, b.name):
        return FORMATS["int64"]
    raise ConfigError(f"{a.name} and {b.name} are not compared")


class TensorPair:
    """Two tensors whose numbers are read side by side, as what they are compared as."""

    def __init__(self, a: Tensor, b: Tensor):
        self.a, self.b = a, b
        self.format = common_format(a.format, b.format)
        self.real = {"complex64": "float32", "complex128": "float64"}.get(
            self.format.name, self.format.name
        )
        self.size = a.size * (2 if self.format.kind == "complex" else 1)
        # both in the order in which A is stored, so that A at least is read as it lies
        self.order = a.stored_order()

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Bits of both, signed, and their values."""
        for x, y in zip(
            self.a.blocks(self.order, BLOCK), self.b.blocks(self.order, BLOCK), strict=True
        ):
            (bits_a, values_a), (bits_b, values_b) = (
                self._bits(x, self.a.format),
                self._bits(y, self.b.format),
            )
            yield bits_a, bits_b, values_a, values_b

    def _bits(self, block: np.ndarray, format: NumberFormat) -> tuple[np.ndarray, np.ndarray]:
        values = values_of(block, format)
        if format == self.format and format.kind in ("float", "bool", "int"):
            if format.kind == "bool":
                return block.view(np.int8), values
            signed = SIGNED[block.dtype.itemsize]
            return block.view(signed), values
        values = values.astype(FORMATS[self.real].storage, copy=False)
        return values.view(SIGNED[values.dtype.itemsize]), values

    def distances(
        self, bits_a: np.ndarray, bits_b: np.ndarray, a: np.ndarray, b: np.ndarray, finite: bool
    ) -> np.ndarray:
        """In ulp of what they are compared as; of integers, |a - b|."""
        if a.dtype.kind == "f":
            found = apart(places(bits_a), places(bits_b))
            return found if finite else with_nan(found, np.isnan(a), np.isnan(b))
        return apart(a.view(np.uint8), b.view(np.uint8)) if a.dtype == bool else apart(a, b)

    def index(self, flat: int) -> tuple[int, ...]:
        """Where in A the element is that is read as number `flat`."""
        if self.format.kind == "complex":
            flat //= 2
        shape = tuple(self.a.shape[axis] for axis in self.order)
        found = [0] * len(shape)
        for axis, place in zip(self.order, np.unravel_index(flat, shape), strict=True):
            found[axis] = int(place)
        return tuple(found)


def max_abs(values: np.ndarray) -> float:
    """max |x|; NaN if one is."""
    if not len(values):
        return 0.0
    high, low = float(np.maximum.reduce(values)), -float(np.minimum.reduce(values))
    return high if high >= low or high != high else low


def max_abs_of_both(xs: np.ndarray, ys: np.ndarray) -> float:
    """max |x|, |y|; NaN or infinite if one is."""
    found = max_abs(xs)
    if ys is not xs and math.isfinite(found):
        other = max_abs(ys)
        found = other if other != other or other > found else found
    return found
