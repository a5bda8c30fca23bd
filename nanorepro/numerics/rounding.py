"""The arithmetic of a run: rounding to p bits, and operations that round once.

The formulas are of the kind that `error_free` describes.  `x64` is a float64; "p-bit" is a number
of p significand bits in float32's exponent range, stored as a float32.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np

from nanorepro.numerics.array_namespace import ArrayNamespace, FastArrayNamespace, Function, Value
from nanorepro.numerics.error_free import (
    decay,
    odd_add,
    odd_div,
    odd_fma,
    odd_mul,
    odd_sqrt,
    odd_sub,
)
from nanorepro.numerics.exp_by_table import exp_by_table
from nanorepro.numerics.exp_log import exp, exp64, quick_exp
from nanorepro.numerics.fast_rounding import directed_operations, fast_operations
from nanorepro.numerics.formats import ROUNDINGS, significand_bits

_SIGN = np.uint64(0x8000000000000000)
_EXPONENT = np.uint64(0x7FF0000000000000)
_ONE_BITS = np.uint64(0x3FF0000000000000)


@cache
def round_to(xp: ArrayNamespace, p: int, rounding: str, narrowed: bool = False) -> Function:
    """x64 -> x as a p-bit number (float64 storage), 2 <= p <= 24; exponents are float32's.

    The quantum q of x is the distance of the p-bit numbers around it: 2**(e + 1 - p) for
    2**e <= |x| < 2**(e + 1), and not below 2**(-126 + 1 - p): underflow is gradual.  With
    C = 2**52 * q, (|x| + C) - C is |x| rounded to a multiple of q.

    nearest:      ties to even; from the middle between the greatest p-bit number and 2**128 on, inf
                  (2**128 where the caller has the result `narrowed`, which makes it inf, too)
    toward-zero:  the greatest p-bit number for any finite x beyond it
    stochastic:   takes a random word, too: (x64, u64).  Up in magnitude if U < discarded/q, where
                  U = (u >> 12) / 2**52.  A p-bit x stays; 2**128 becomes inf.  The probability is
                  the discarded fraction, exactly for |x| >= 2**-126 and otherwise up to 2**-52.
    """
    if not 2 <= p <= 24:
        raise ValueError(f"precision of {p} bits: expected 2 to 24")
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding {rounding!r}: expected nearest, toward-zero or stochastic")
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    sign, exponent, one, drop = _SIGN, _EXPONENT, _ONE_BITS, np.uint64(12)
    magnitude = ~_SIGN
    least = np.float64(2.0**-126).view(np.uint64)
    to_quantum = 2.0 ** (1 - p)
    to_c = 2.0 ** (53 - p)
    too_large = 2.0**128
    greatest = (2.0 - 2.0 ** (1 - p)) * 2.0**127
    inf = float("inf")

    @xp.function
    def power(x: Value) -> Value:
        """(|x|, the power of two below it), |x| at most 2**128."""
        a = from_bits(bits(x) & magnitude)
        a = where(too_large < a, too_large, a)
        e = bits(a) & exponent
        return a, from_bits(where(e < least, least, e))

    @xp.function
    def split(x: Value) -> Value:
        """(|x|, q, |x| to nearest), |x| at most 2**128."""
        a, e = power(x)
        q = e * to_quantum
        c = q * 2.0**52
        return a, q, (a + c) - c

    @xp.function
    def nearest(x: Value) -> Value:
        a, e = power(x)
        c = e * to_c
        y = (a + c) - c
        if not narrowed:
            y = where(too_large <= y, inf, y)
        return from_bits(bits(y) | (bits(x) & sign))

    @xp.function
    def toward_zero(x: Value) -> Value:
        a, q, y = split(x)
        y = where(a < y, y - q, y)
        y = where(too_large <= y, greatest, y)
        # a * inf: inf or NaN, as x is
        y = where(from_bits(bits(x) & magnitude) < inf, y, a * inf)
        return from_bits(bits(y) | (bits(x) & sign))

    @xp.function
    def stochastic(x: Value, u: Value) -> Value:
        a, q, y = split(x)
        y = where(a < y, y - q, y)
        uniform = from_bits((u >> drop) | one) - 1.0
        y = where(uniform * q < a - y, y + q, y)
        y = where(too_large <= y, inf, y)
        return from_bits(bits(y) | (bits(x) & sign))

    found: dict[str, Function]
    found = {"nearest": nearest, "toward-zero": toward_zero, "stochastic": stochastic}
    return found[rounding]


@dataclass(frozen=True)
class Operations:
    """The operations on numbers of one precision, each rounded once; `fma` is a*b + c.

    `decay` is fma, too, for 0 < a < 1 and a b that may fade until it is subnormal.

    `fused` says whether that product is exact; `emulated`, that the operations are float64's,
    rounded, and take widened numbers, too.  `round` takes a float64 to the precision.  Every
    operation has a last argument t, which only stochastic rounding reads.
    `const` makes a Python number (not inside a compiled function) the nearest typed constant,
    whatever the rounding of the operations.
    """

    dtype: type[np.floating]
    fused: bool
    emulated: bool
    add: Function
    sub: Function
    mul: Function
    div: Function
    sqrt: Function
    fma: Function
    decay: Function
    exp: Function
    round: Function
    const: Callable[[Any], Any]


@cache
def operations(xp: ArrayNamespace, precision: str, rounding: str, fma: bool) -> Operations:
    """The operations of `precision` ('float64', 'float32', 'bits:p') and `rounding`.

    `rounding` is 'nearest' or, below float64, 'toward-zero' or 'stochastic'.  Without `fma` a
    product is rounded before it is added.  exp of p-bit numbers is exp64 rounded to p bits.
    Where the array namespace has FAST_FORMULAS, some have the same results by other formulas.
    """
    p = significand_bits(precision)
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding {rounding!r}: expected nearest, toward-zero or stochastic")
    if rounding != "nearest" and p == 53:
        raise ValueError(f"rounding {rounding!r} needs precision float32 or bits:p, not float64")
    if rounding == "nearest" and (not precision.startswith("bits") or xp.FAST_FORMULAS and p == 24):
        return _native(xp, np.float64 if p == 53 else np.float32, fma)
    plain = _rounded(xp, p, rounding, fma)
    if not xp.FAST_FORMULAS or rounding == "stochastic":
        return plain
    fast = cast(FastArrayNamespace, xp)
    short = directed_operations if fast.DIRECTED else fast_operations
    return replace(plain, emulated=False, **short(fast, p, rounding, plain))


def _native(xp: ArrayNamespace, dtype: type[np.floating], fused: bool) -> Operations:
    """float32 and float64 to nearest: the machine's own operations."""
    add, mul, double, narrow = xp.add, xp.mul, dtype == np.float64, xp.narrow
    short = xp.FAST_FORMULAS and not double
    if short and cast(FastArrayNamespace, xp).TABLES:
        exponential = exp_by_table(cast(FastArrayNamespace, xp))
    else:
        exponential = quick_exp(xp) if short else exp(xp, dtype)  # type: ignore[arg-type]

    @xp.function
    def product_then_sum(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        return add(mul(a, b), c)

    @xp.function
    def exp_native(a: Value, t: Any = None) -> Value:
        return exponential(a)

    @xp.function
    def round(a: Value, t: Any = None) -> Value:
        return a if double else narrow(a)

    joined = xp.fma if fused else product_then_sum
    fading = decay(xp) if short and fused else joined
    return Operations(
        dtype,
        fused,
        False,
        add,
        xp.sub,
        mul,
        xp.div,
        xp.sqrt,
        joined,
        fading,
        exp_native,
        round,
        dtype,
    )


def _rounded(xp: ArrayNamespace, p: int, rounding: str, fused: bool) -> Operations:
    """p-bit operations: in float64, then rounded.

    To nearest, the float64 result of + - * / sqrt may be a rounded one, because 53 >= 2*24 + 2
    bits make the second rounding innocuous.  Otherwise, and for fma, it is rounded to odd.
    """
    widen, narrow = xp.widen, xp.narrow
    exponential, fma_odd, final = exp64(xp), odd_fma(xp), _last_rounding(xp, p, rounding)
    if rounding == "nearest":
        wide_add, wide_sub, wide_mul, wide_div, wide_sqrt = xp.add, xp.sub, xp.mul, xp.div, xp.sqrt
    else:
        wide_add, wide_sub, wide_mul = odd_add(xp), odd_sub(xp), odd_mul(xp)
        wide_div, wide_sqrt = odd_div(xp), odd_sqrt(xp)

    @xp.function
    def add(a: Value, b: Value, t: Any = None) -> Value:
        return narrow(final(wide_add(widen(a), widen(b)), t))

    @xp.function
    def sub(a: Value, b: Value, t: Any = None) -> Value:
        return narrow(final(wide_sub(widen(a), widen(b)), t))

    @xp.function
    def mul(a: Value, b: Value, t: Any = None) -> Value:
        return narrow(final(wide_mul(widen(a), widen(b)), t))

    @xp.function
    def div(a: Value, b: Value, t: Any = None) -> Value:
        return narrow(final(wide_div(widen(a), widen(b)), t))

    @xp.function
    def sqrt(a: Value, t: Any = None) -> Value:
        return narrow(final(wide_sqrt(widen(a)), t))

    @xp.function
    def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        return narrow(final(fma_odd(widen(a), widen(b), widen(c)), t))

    @xp.function
    def product_then_sum(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        return add(mul(a, b, t), c, t)

    @xp.function
    def exp_rounded(a: Value, t: Any = None) -> Value:
        return narrow(final(exponential(widen(a)), t))

    @xp.function
    def round(a: Value, t: Any = None) -> Value:
        return narrow(final(a, t))

    joined = fma if fused else product_then_sum
    return Operations(
        np.float32,
        fused,
        True,
        add,
        sub,
        mul,
        div,
        sqrt,
        joined,
        joined,
        exp_rounded,
        round,
        _constant(p),
    )


def _last_rounding(xp: ArrayNamespace, p: int, rounding: str) -> Function:
    """(x64, t) -> x rounded to p bits; t = (key 0, key 1, step), read by stochastic rounding only.

    The random word of a stochastic rounding is a function of the stream's key, the step and the
    number to be rounded: words 0 (high) and 1 of Philox at the counter (low word of x, high word
    of x, low word of the step, high word of the step).  So it does not depend on the order in
    which operations are carried out; equal numbers round alike within a step.
    """
    rounded, philox, bits = round_to(xp, p, rounding, narrowed=True), xp.philox, xp.bits
    low, width = np.uint64(0xFFFFFFFF), np.uint64(32)
    if rounding != "stochastic":

        @xp.function
        def final(x: Value, t: Any) -> Value:
            return rounded(x)

        return final

    @xp.apart
    def rounded_at_random(x: Value, t: Any) -> Value:
        v = bits(x)
        step = (v ^ v) + t[2]  # of the same type as v
        k0, k1 = t[0] & low, t[1] & low  # where the compiler sees that they have 32 bits
        high, rest, _, _ = philox(v & low, v >> width, step & low, step >> width, k0, k1)
        return rounded(x, (high << width) | rest)

    return rounded_at_random


def _constant(p: int) -> Callable[[float], np.float32]:
    """value -> the nearest p-bit number, ties to even; NaN becomes one whose last bits are 0."""

    def const(value: float) -> np.float32:
        _, exponent = np.frexp(value)
        quantum = np.ldexp(1.0, np.maximum(exponent - 1, -126) + 1 - p)
        return np.float32(np.where(np.isnan(value), np.nan, np.rint(value / quantum) * quantum))

    return const
