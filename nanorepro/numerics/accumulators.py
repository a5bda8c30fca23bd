"""How the partial sums of a sum are held: plain, compensated, in float64, exactly.

An accumulator is a function of (xp, ops) that returns five functions on its state, a tuple: start
from a zero, join a product a·b, join a term, merge another partial sum, and the rounded result.
"""

import math
from fractions import Fraction

import numpy as np


def plain(xp, ops):
    """s ← fma(a, b, s), or s ← s + a; partial sums join by +."""
    add, fma = ops.add, ops.fma

    @xp.function
    def start(zero):
        return (zero,)

    @xp.function
    def product(state, a, b, t):
        return (fma(a, b, state[0], t),)

    @xp.function
    def term(state, a, t):
        return (add(state[0], a, t),)

    @xp.function
    def merge(state, other, t):
        return (add(state[0], other[0], t),)

    @xp.function
    def result(state, t):
        return state[0]

    return start, product, term, merge, result


def kahan(xp, ops):
    """Kahan's sum s with compensation c: y = a - c, u = s + y, c ← (u - s) - y, s ← u.

    A product enters as y = fma(a, b, -c).  Another partial sum (s', c') enters as the term s', and
    c' is added to c.
    """
    add, sub, fma, zero_ = ops.add, ops.sub, ops.fma, ops.const(0.0)

    @xp.function
    def start(zero):
        return (zero, zero)

    @xp.function
    def close(s, y, t):
        u = add(s, y, t)
        return (u, sub(sub(u, s, t), y, t))

    @xp.function
    def product(state, a, b, t):
        return close(state[0], fma(a, b, sub(zero_, state[1], t), t), t)

    @xp.function
    def term(state, a, t):
        return close(state[0], sub(a, state[1], t), t)

    @xp.function
    def merge(state, other, t):
        s, c = term(state, other[0], t)
        return (s, add(c, other[1], t))

    @xp.function
    def result(state, t):
        return state[0]

    return start, product, term, merge, result


def wide(xp, ops):
    """A float64 accumulator: s ← s + a·b with the product exact, rounded once at the end.

    Without fma the product is rounded to the precision before it joins.
    """
    widen, mul, fused, round = xp.widen, ops.mul, ops.fused, ops.round

    @xp.function
    def start(zero):
        return (widen(zero),)

    @xp.function
    def product(state, a, b, t):
        if fused:
            return (state[0] + widen(a) * widen(b),)
        return (state[0] + widen(mul(a, b, t)),)

    @xp.function
    def term(state, a, t):
        return (state[0] + widen(a),)

    @xp.function
    def merge(state, other, t):
        return (state[0] + other[0],)

    @xp.function
    def result(state, t):
        return round(state[0], t)

    return start, product, term, merge, result


def exact(xp, ops):
    """The exact sum, rounded once: s ← s + a·b in fractions; without fma the product is rounded.

    The state is an array of fractions, and what is infinite or NaN summed beside it.  This is the
    specification (NumPy); compiled code has its own way to the same bits.
    """
    mul, fused = ops.mul, ops.fused

    def start(zero):
        return (np.full(np.shape(zero), Fraction(0), object), np.zeros(np.shape(zero)))

    def fractions(a):
        finite = np.isfinite(a)
        return finite, np.vectorize(Fraction, otypes=[object])(np.where(finite, a, 0.0))

    def product(state, a, b, t):
        if not fused:
            return term(state, mul(a, b, t), t)
        a, b = np.broadcast_arrays(xp.widen(a), xp.widen(b))
        finite_a, fa = fractions(a)
        finite_b, fb = fractions(b)
        with np.errstate(all="ignore"):
            special = np.where(finite_a & finite_b, 0.0, a * b)
            return (state[0] + fa * fb, state[1] + special)

    def term(state, a, t):
        finite, fa = fractions(xp.widen(a))
        with np.errstate(all="ignore"):
            return (state[0] + fa, state[1] + np.where(finite, 0.0, xp.widen(a)))

    def merge(state, other, t):
        return (state[0] + other[0], state[1] + other[1])

    def result(state, t):
        nearest = np.vectorize(float_of, otypes=[np.float64])
        if ops.dtype == np.float64:
            total = nearest(state[0])
        else:
            total = np.vectorize(odd_of, otypes=[np.float64])(state[0])
        return ops.round(np.where(state[1] == 0.0, total, state[1]), t)

    return start, product, term, merge, result


def float_of(q: Fraction) -> float:
    """The float64 nearest to a fraction: Python's division of integers is correctly rounded."""
    try:
        return float(q)
    except OverflowError:
        return math.copysign(math.inf, q)


def odd_of(q: Fraction) -> float:
    """A fraction rounded to odd: if inexact, the neighbouring float64 whose last bit is 1."""
    x = float(q)
    if Fraction(x) == q or int(np.float64(x).view(np.uint64)) & 1:
        return x
    return float(np.nextafter(x, math.inf if q > Fraction(x) else -math.inf))


ACCUMULATORS = {"plain": plain, "kahan": kahan, "wide": wide, "exact": exact}


def fsum(values: np.ndarray) -> float:
    """The exactly rounded sum of float64; NaN of infinities of both signs."""
    try:
        return math.fsum(values.tolist())
    except ValueError:
        return math.nan
