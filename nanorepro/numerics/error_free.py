"""Sums with their rounding errors, and results rounded to odd.

Every formula here, in `exp_log` and in `rounding` uses only +, -, *, /, sqrt, an explicit fma
where it says so, comparisons and operations on the bits, each IEEE 754 and rounded to nearest, ties
to even.  So it has one result, on any machine.

A formula is written once, as a factory that takes an array namespace `xp`.

`a64` is a float64 named a, `a32` a float32.
"""

from functools import cache
from typing import Any

import numpy as np

from nanorepro.numerics.array_namespace import ArrayNamespace, Function, Value


@cache
def two_sum(xp: ArrayNamespace) -> Function:
    """Knuth's TwoSum: (a, b) -> (s, e) with s = a + b rounded and s + e = a + b exactly."""

    @xp.function
    def two_sum(a: Value, b: Value) -> Value:
        s = a + b
        t = s - a
        return s, (a - (s - t)) + (b - t)

    return two_sum


@cache
def to_odd(xp: ArrayNamespace) -> Function:
    """(s64, e64) -> s + e rounded to odd, where s is s + e rounded to nearest.

    If e = 0 this is s; otherwise it is the one of the two float64 around s + e whose last bit is
    1.  Rounding the result once more, to 51 bits or fewer, is as good as rounding s + e itself.
    A residual that is NaN, beside an infinite or undefined s, leaves s alone.
    """
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    one, last = np.uint64(1), np.uint64(63)

    @xp.function
    def to_odd(s: Value, e: Value) -> Value:
        # one less in magnitude where e points towards zero; then the last bit set
        odd = (bits(s) - ((bits(s) ^ bits(e)) >> last)) | one
        return where((e < 0.0) | (e > 0.0), from_bits(odd), s)

    return to_odd


@cache
def odd_add(xp: ArrayNamespace) -> Function:
    """(a64, b64) -> a + b rounded to odd."""
    pair, odd = two_sum(xp), to_odd(xp)

    @xp.function
    def odd_add(a: Value, b: Value) -> Value:
        s, e = pair(a, b)
        return odd(s, e)

    return odd_add


@cache
def odd_sub(xp: ArrayNamespace) -> Function:
    """(a64, b64) -> a - b rounded to odd."""
    add = odd_add(xp)

    @xp.function
    def odd_sub(a: Value, b: Value) -> Value:
        return add(a, -b)

    return odd_sub


@cache
def odd_mul(xp: ArrayNamespace) -> Function:
    """(a64, b64) -> a * b, exact where a and b are widened float32 numbers."""

    @xp.function
    def odd_mul(a: Value, b: Value) -> Value:
        return a * b

    return odd_mul


@cache
def odd_div(xp: ArrayNamespace) -> Function:
    """(a64, b64) -> a / b rounded to odd, for widened float32 numbers.

    With q = a / b rounded, the remainder a - q*b is a float64, and has the sign of
    (a/b - q) * b.
    """
    fma, where, odd = xp.fma, xp.where, to_odd(xp)

    @xp.function
    def odd_div(a: Value, b: Value) -> Value:
        q = a / b
        remainder = fma(-q, b, a)
        return odd(q, where(b < 0.0, -remainder, remainder))

    return odd_div


@cache
def odd_sqrt(xp: ArrayNamespace) -> Function:
    """a64 -> the square root of a rounded to odd, for a widened float32 number."""
    fma, sqrt, odd = xp.fma, xp.sqrt, to_odd(xp)

    @xp.function
    def odd_sqrt(a: Value) -> Value:
        s = sqrt(a)
        return odd(s, fma(-s, s, a))

    return odd_sqrt


@cache
def decay(xp: ArrayNamespace) -> Function:
    """(m32, v32, c32) -> m*v + c rounded once, for 0 < m < 1: fma where v fades for ever.

    On many processors a product with a subnormal number is slow, and what fades stays one.  A
    subnormal |v| is k * 2**-149, k its bits, so with c = 0 the result is m*k rounded to an integer,
    times 2**-149: that is what m*k + 2**23 has in its last 23 bits.
    """
    bits, from_bits, fma, where = xp.bits, xp.from_bits, xp.fma, xp.where
    sign, one, least = np.uint32(0x80000000), np.uint32(1), np.uint32(0x00800000)
    shift, zero = np.float32(2.0**23), np.float32(0.0)
    base = shift.view(np.uint32)

    @xp.function
    def decay(m: Value, v: Value, c: Value, t: Any = None) -> Value:
        k = bits(v) & ~sign
        # 0 < k < least; k - 1 of 0 is the greatest number
        small = (k - one < least - one) & (bits(c) == (k ^ k))
        y = fma(m, from_bits((k & (least - one)) | base) - shift, shift)
        faded = from_bits((bits(y) - base) | (bits(v) & sign))
        return where(small, faded, fma(m, where(small, zero, v), c))

    return decay


@cache
def odd_fma(xp: ArrayNamespace) -> Function:
    """(a64, b64, c64) -> a*b + c rounded to odd, for widened float32 numbers: a*b is exact."""
    add = odd_add(xp)

    @xp.function
    def odd_fma(a: Value, b: Value, c: Value) -> Value:
        return add(a * b, c)

    return odd_fma
