"""The exact sum, rounded once: in fractions, which is the specification.

Compiled code has its own way to the same bits.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from nanorepro.numerics.array_namespace import ArrayNamespace, Function
from nanorepro.numerics.rounding import Operations


def exact(xp: ArrayNamespace, ops: Operations) -> tuple[Function, ...]:
    """s ← s + a·b in fractions; without fma the product is rounded.

    The state is an array of fractions, and what is infinite or NaN summed beside it.
    """
    mul, fused = ops.mul, ops.fused

    def start(zero: Any) -> Any:
        return (np.full(np.shape(zero), Fraction(0), object), np.zeros(np.shape(zero)))

    def fractions(a: Any) -> Any:
        finite = np.isfinite(a)
        return finite, np.vectorize(Fraction, otypes=[object])(np.where(finite, a, 0.0))

    def product(state: Any, a: Any, b: Any, t: Any) -> Any:
        if not fused:
            return term(state, mul(a, b, t), t)
        a, b = np.broadcast_arrays(xp.widen(a), xp.widen(b))
        finite_a, fa = fractions(a)
        finite_b, fb = fractions(b)
        with np.errstate(all="ignore"):
            special = np.where(finite_a & finite_b, 0.0, a * b)
            return (state[0] + fa * fb, state[1] + special)

    def term(state: Any, a: Any, t: Any) -> Any:
        finite, fa = fractions(xp.widen(a))
        with np.errstate(all="ignore"):
            return (state[0] + fa, state[1] + np.where(finite, 0.0, xp.widen(a)))

    def merge(state: Any, other: Any, t: Any) -> Any:
        return (state[0] + other[0], state[1] + other[1])

    def result(state: Any, t: Any) -> Any:
        to_float = float_of if ops.dtype == np.float64 else odd_of
        total = np.vectorize(to_float, otypes=[np.float64])(state[0])
        return ops.round(np.where(state[1] == 0.0, total, state[1]), t)

    return start, product, term, merge, result


def float_of(q: Fraction) -> float:
    """The float64 nearest to a fraction: Python's division of integers is correctly rounded."""
    try:
        return float(q)
    except OverflowError:
        return math.inf if q > 0 else -math.inf


def odd_of(q: Fraction) -> float:
    """A fraction rounded to odd: if inexact, the neighbouring float64 whose last bit is 1."""
    x = float(q)
    if Fraction(x) == q or int(np.float64(x).view(np.uint64)) & 1:
        return x
    return float(np.nextafter(x, math.inf if q > Fraction(x) else -math.inf))


def fsum(values: np.ndarray) -> float:
    """The exactly rounded sum of float64; NaN of infinities of both signs."""
    try:
        return math.fsum(values.tolist())
    except ValueError:
        return math.nan
