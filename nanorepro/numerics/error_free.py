"""Sums with their rounding errors, and results rounded to odd.

Every formula here, in `elementary` and in `arithmetic` uses only +, -, *, /, sqrt, an explicit fma
where it says so, comparisons and operations on the bits, each IEEE 754 and rounded to nearest, ties
to even.  So it has one result, on any machine.

A formula is written once, as a factory that takes the execution `o`: `backends.simd` (compiled
scalars and vectors) or `backends.arrays` (NumPy).  Both offer, under the same names, `fma`, `sqrt`,
`where`, `widen` (float32 to float64), `narrow` (back, rounded), `bits`, `from_bits` and the
decorator `function`.  A factory binds what it needs to local names, because a compiled function
may capture only plain functions and constants.

`a64` is a float64 named a, `a32` a float32.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Function = Callable[..., Any]


@cache
def two_sum(o: ModuleType) -> Function:
    """Knuth's TwoSum: (a, b) -> (s, e) with s = a + b rounded and s + e = a + b exactly."""

    @o.function
    def two_sum(a, b):
        s = a + b
        t = s - a
        return s, (a - (s - t)) + (b - t)

    return two_sum


@cache
def to_odd(o: ModuleType) -> Function:
    """(s64, e64) -> s + e rounded to odd, where s is s + e rounded to nearest.

    If e = 0 this is s; otherwise it is the one of the two float64 around s + e whose last bit is
    1.  Rounding the result once more, to 51 bits or fewer, is as good as rounding s + e itself.
    A residual that is NaN, beside an infinite or undefined s, leaves s alone.
    """
    bits, from_bits, where = o.bits, o.from_bits, o.where
    one, last = np.uint64(1), np.uint64(63)

    @o.function
    def to_odd(s, e):
        # one less in magnitude where e points towards zero; then the last bit set
        odd = (bits(s) - ((bits(s) ^ bits(e)) >> last)) | one
        return where((e < 0.0) | (e > 0.0), from_bits(odd), s)

    return to_odd


@cache
def odd_add(o: ModuleType) -> Function:
    """(a64, b64) -> a + b rounded to odd."""
    pair, odd = two_sum(o), to_odd(o)

    @o.function
    def odd_add(a, b):
        s, e = pair(a, b)
        return odd(s, e)

    return odd_add


@cache
def odd_sub(o: ModuleType) -> Function:
    """(a64, b64) -> a - b rounded to odd."""
    add = odd_add(o)

    @o.function
    def odd_sub(a, b):
        return add(a, -b)

    return odd_sub


@cache
def odd_mul(o: ModuleType) -> Function:
    """(a64, b64) -> a * b, exact where a and b are widened float32 numbers."""

    @o.function
    def odd_mul(a, b):
        return a * b

    return odd_mul


@cache
def odd_div(o: ModuleType) -> Function:
    """(a64, b64) -> a / b rounded to odd, for widened float32 numbers.

    With q = a / b rounded, the remainder a - q*b is a float64, and has the sign of
    (a/b - q) * b.
    """
    fma, where, odd = o.fma, o.where, to_odd(o)

    @o.function
    def odd_div(a, b):
        q = a / b
        remainder = fma(-q, b, a)
        return odd(q, where(b < 0.0, -remainder, remainder))

    return odd_div


@cache
def odd_sqrt(o: ModuleType) -> Function:
    """a64 -> the square root of a rounded to odd, for a widened float32 number."""
    fma, sqrt, odd = o.fma, o.sqrt, to_odd(o)

    @o.function
    def odd_sqrt(a):
        s = sqrt(a)
        return odd(s, fma(-s, s, a))

    return odd_sqrt


@cache
def decay(o: ModuleType) -> Function:
    """(m32, v32, c32) -> m*v + c rounded once, for 0 < m < 1: fma where v fades for ever.

    Many processors take a hundred cycles for a product with a subnormal number, and what fades
    stays one.  A subnormal |v| is k * 2**-149, k its bits, so with c = 0 the result is m*k rounded
    to an integer, times 2**-149: that is what m*k + 2**23 has in its last 23 bits.
    """
    bits, from_bits, fma, where = o.bits, o.from_bits, o.fma, o.where
    sign, one, least = np.uint32(0x80000000), np.uint32(1), np.uint32(0x00800000)
    shift, zero = np.float32(2.0**23), np.float32(0.0)
    base = shift.view(np.uint32)

    @o.function
    def decay(m, v, c, t=None):
        k = bits(v) & ~sign
        # 0 < k < least; k - 1 of 0 is the greatest number
        small = (k - one < least - one) & (bits(c) == (k ^ k))
        y = fma(m, from_bits((k & (least - one)) | base) - shift, shift)
        faded = from_bits((bits(y) - base) | (bits(v) & sign))
        return where(small, faded, fma(m, where(small, zero, v), c))

    return decay


@cache
def odd_fma(o: ModuleType) -> Function:
    """(a64, b64, c64) -> a*b + c rounded to odd, for widened float32 numbers: a*b is exact."""
    add = odd_add(o)

    @o.function
    def odd_fma(a, b, c):
        return add(a * b, c)

    return odd_fma
