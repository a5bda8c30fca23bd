"""The values of stored numbers, also of formats that NumPy has not."""

from functools import cache

import numpy as np

from nanorepro.data.tensors.record import NumberFormat


@cache
def _table(format: NumberFormat) -> np.ndarray:
    """The value of each of the 256 numbers of a format of eight bits, float32."""
    code = np.arange(256)
    sign = np.where(code & 0x80, -1.0, 1.0)
    bias = (1 << (format.exponent - 1)) - 1 + format.unsigned_zero
    top = (1 << format.exponent) - 1
    exponent = (code >> format.significand) & top
    fraction = (code & ((1 << format.significand) - 1)) / (1 << format.significand)
    value = np.where(
        exponent == 0, fraction * 2.0 ** (1 - bias), (1.0 + fraction) * 2.0 ** (exponent - bias)
    )
    if format.unsigned_zero:
        value = np.where(code == 0x80, np.nan, value)
    elif format.infinities:
        value = np.where(exponent == top, np.where(fraction == 0.0, np.inf, np.nan), value)
    else:
        value = np.where(code & 0x7F == 0x7F, np.nan, value)
    found: np.ndarray = (sign * value).astype(np.float32)
    return found


def values_of(block: np.ndarray, format: NumberFormat) -> np.ndarray:
    """Stored numbers as NumPy's, in the narrowest of its types that holds them exactly."""
    if format.name == "bfloat16":
        return (block.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if format.storage == "u1" and format.kind == "float":
        found: np.ndarray = _table(format)[block]
        return found
    if format.kind == "complex":
        return block.view(block.real.dtype)
    return block
