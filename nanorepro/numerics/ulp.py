"""Distances between floating-point numbers in units in the last place (ulp).

The numbers of a format in ascending order are numbered one after another, -0 and +0 alike with 0,
the infinities next to the largest finite numbers; the distance of two numbers is the difference of
their places: the steps from one to the other.  It is exact, symmetric, and 1 between neighbours,
subnormal ones and those on both sides of a power of two included.  NaN is nowhere on this line: two
NaN are 0 apart, whatever their bits, and a NaN is infinitely far from every number (`far`).
"""

from typing import Any

import numpy as np

SIGNED: dict[int, Any] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def far(dtype: np.dtype) -> int:
    """What stands for the distance of a NaN to a number: the largest of the distances' type.

    Two numbers are never that far apart.
    """
    return int(np.iinfo(dtype).max)


def places(bits: np.ndarray) -> np.ndarray:
    """The place of each number on the line of its format.

    Parameters
    ----------
    bits : ndarray of signed integers
        The bits of numbers that are a sign and a magnitude, as those of IEEE 754 are.

    Returns
    -------
    ndarray of the same type
        Ascending with the number; 0 for both zeros.
    """
    sign = bits >> bits.dtype.type(8 * bits.dtype.itemsize - 1)  # 0 or -1
    magnitude = bits & np.iinfo(bits.dtype).max
    magnitude ^= sign
    magnitude -= sign  # ~m + 1 is -m
    return magnitude


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b| of integers of one type, as unsigned ones of that width, exact."""
    unsigned = UNSIGNED[a.dtype.itemsize]
    found: np.ndarray = np.maximum(a, b).view(unsigned)
    found -= np.minimum(a, b).view(unsigned)
    return found


def ulps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance in ulp of each two numbers of one of NumPy's floating types.

    Parameters
    ----------
    a, b : ndarray of float16, float32 or float64
        Of one type and shape.

    Returns
    -------
    ndarray of unsigned integers
        As wide as the numbers; `far` of its type where one is NaN and the other is not.

    Examples
    --------
    >>> ulps(np.float32([1.0, 0.0, np.nan]), np.float32([1.0000001, -0.0, np.nan])).tolist()
    [1, 0, 0]
    """
    signed = SIGNED[a.dtype.itemsize]
    return with_nan(apart(places(a.view(signed)), places(b.view(signed))), np.isnan(a), np.isnan(b))


def with_nan(distances: np.ndarray, nan_a: np.ndarray, nan_b: np.ndarray) -> np.ndarray:
    """The distances, with `far` where one is NaN, 0 where both are."""
    distances[nan_a | nan_b] = far(distances.dtype)
    distances[nan_a & nan_b] = 0
    return distances
