"""NumPy as an array namespace: the slow, plain way to compute the formulas.

The functions take float32 or float64 arrays and NumPy scalars.  NumPy has no fma, so it is built
here from exact sums and products, and from fractions where those would over- or underflow.
"""

import math
import sys
from fractions import Fraction
from typing import Any

import numpy as np

from nanorepro.numerics import error_free
from nanorepro.numerics.array_namespace import Value
from nanorepro.numerics.streams import philox as philox

FAST_FORMULAS = False  # this is the specification

# Overflow, underflow and NaN are results here, not events.  Used as a decorator.
function = apart = np.errstate(all="ignore")


# In every operation t is the rounding key, which plain operations do not read.


@function
def add(a: Value, b: Value, t: Any = None) -> Value:
    return a + b


@function
def sub(a: Value, b: Value, t: Any = None) -> Value:
    return a - b


@function
def mul(a: Value, b: Value, t: Any = None) -> Value:
    return a * b


@function
def div(a: Value, b: Value, t: Any = None) -> Value:
    return a / b


@function
def sqrt(a: Value, t: Any = None) -> Value:
    return np.sqrt(a)


def where(condition: Value, a: Value, b: Value) -> Value:
    return np.asarray(np.where(condition, a, b))[()]


@function
def widen(a: Value) -> Value:
    """To float64, exactly."""
    return np.asarray(a).astype(np.float64)[()]


@function
def narrow(a: Value) -> Value:
    """To float32, rounded to nearest."""
    return np.asarray(a).astype(np.float32)[()]


def bits(a: Value) -> Value:
    """The bits of a float as an unsigned integer of the same width."""
    a = np.asarray(a)
    return a.view(np.uint32 if a.dtype == np.float32 else np.uint64)[()]


def from_bits(a: Value) -> Value:
    a = np.asarray(a)
    return a.view(np.float32 if a.dtype == np.uint32 else np.float64)[()]


_this = sys.modules[__name__]
_two_sum = error_free.two_sum(_this)
_odd_add = error_free.odd_add(_this)
_odd_fma = error_free.odd_fma(_this)


def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
    """a·b + c, rounded once; all three of one type, float32 or float64."""
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype == np.float32:
        return narrow(_odd_fma(widen(a), widen(b), widen(c)))
    return _fma64(a, b, c)


@function
def _fma64(a: Value, b: Value, c: Value) -> Value:
    """Boldo and Melquiond's fma (IEEE Trans. Comput. 57, 2008); `_fma_exact` outside its range.

    a·b = u + u', c + u' = t + t', u + t = v + v', and the result is v + (t' + v' rounded to odd).
    """
    plain = (a == 0.0) | (b == 0.0)
    safe = plain | (
        _far_from_the_ends(a) & _far_from_the_ends(b) & ((c == 0.0) | _far_from_the_ends(c))
    )
    high, low = _two_product(a, b)
    t, t_low = _two_sum(c, low)
    v, v_low = _two_sum(high, t)
    # a product that is exactly zero keeps its sign in a plain sum only
    result = np.asarray(np.where(plain, a * b + c, v + _odd_add(t_low, v_low)))
    for index in zip(*np.nonzero(np.atleast_1d(~safe)), strict=True):
        index = index if result.ndim else ()
        result[index] = _fma_exact(float(a[index]), float(b[index]), float(c[index]))
    return result[()]


def _far_from_the_ends(a: np.ndarray) -> Value:
    """Where products and residuals of a are far from overflow and underflow."""
    return (abs(a) > 2.0**-300) & (abs(a) < 2.0**300)


def _split(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Veltkamp's splitting of a float64 into halves of at most 26 bits."""
    c = (2.0**27 + 1.0) * a
    high = c - (c - a)
    return high, a - high


def _two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p, e) with p = a·b rounded and p + e = a·b exactly (Dekker)."""
    p = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return p, a2 * b2 - (((p - a1 * b1) - a2 * b1) - a1 * b2)


def _fma_exact(a: float, b: float, c: float) -> float:
    """One fma by fractions: Python rounds the division of two integers correctly."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    if not math.isfinite(c):
        return c
    if a == 0.0 or b == 0.0:
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf
