"""The arithmetic of a run: exp, log, rounding to p bits, and operations that round once.

Every formula here uses only +, -, *, /, sqrt, an explicit fma where it says so, comparisons and
operations on the bits, each IEEE 754 and rounded to nearest, ties to even.  So it has one result,
on any machine.

A formula is written once, as a factory that takes the execution `o`: `backends.simd` (compiled
scalars and vectors) or `backends.arrays` (NumPy).  Both offer, under the same names, `fma`, `sqrt`,
`where`, `widen` (float32 to float64), `narrow` (back, rounded), `bits`, `from_bits` and the
decorator `function`.  A factory binds what it needs to local names, because a compiled function
may capture only plain functions and constants.

`x64` is a float64, `x32` a float32; "p-bit" is a number of p significand bits in float32's
exponent range, stored as a float32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

Function = Callable[..., Any]

# 1.5 * 2**52, to which adding a number rounds it to an integer, and 2046 more: the last bits of
# the sum are then the integer plus twice the exponent's bias.
ROUND_TO_INTEGER = 1.5 * 2.0**52 + 2046.0
LOG2_E = float.fromhex("0x1.71547652b82fep+0")
# log 2 as the sum of a number of 42 bits, whose multiples by an exponent are exact, and the rest
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
# (exp(r) - 1 - r - r*r/2) / r**3 for |r| <= log(2)/2: the minimax polynomial, lowest power first
EXP_COEFFICIENTS = tuple(
    float.fromhex(text)
    for text in (
        "0x1.555555555555ap-3",
        "0x1.5555555555530p-5",
        "0x1.111111110efbcp-7",
        "0x1.6c16c16c2701cp-10",
        "0x1.a01a01b26bce5p-13",
        "0x1.a01a0152706a9p-16",
        "0x1.71ddf2692a8a5p-19",
        "0x1.27e58d0022b49p-22",
        "0x1.af686d77c6554p-26",
        "0x1.1e670ccdc295dp-29",
    )
)
# (2 atanh(s) - 2 s) / s**3 in powers of s*s, for |s| <= 3 - 2 sqrt(2)
LOG_COEFFICIENTS = tuple(
    float.fromhex(text)
    for text in (
        "0x1.5555555555555p-1",
        "0x1.9999999999e00p-2",
        "0x1.249249242b310p-2",
        "0x1.c71c725910ec5p-3",
        "0x1.745cde2f90aedp-3",
        "0x1.3b20ac9a0f921p-3",
        "0x1.0f5cb165ce075p-3",
        "0x1.0f63ea02a62bep-3",
    )
)

_SIGN = np.uint64(0x8000000000000000)
_EXPONENT = np.uint64(0x7FF0000000000000)
_FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
_ONE_BITS = np.uint64(0x3FF0000000000000)


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
def odd_fma(o: ModuleType) -> Function:
    """(a64, b64, c64) -> a*b + c rounded to odd, for widened float32 numbers: a*b is exact."""
    add = odd_add(o)

    @o.function
    def odd_fma(a, b, c):
        return add(a * b, c)

    return odd_fma


@cache
def exp64(o: ModuleType) -> Function:
    """x64 -> exp(x); the error stays below 0.59 ulp where the result is normal.

    k = rint(x / log 2), r = x - k*LN2_HIGH (exact), d = k*LN2_LOW, and

        exp(x) = 2**k * exp(r - d),  exp(r - d) = E - d*E + O(2**-67),
        E = exp(r) = 1 + r + r*r/2 + r**3 * P(r).

    What 1 + r loses by rounding joins the small terms.  2**k is applied as two factors, so that
    a subnormal result is rounded by one multiplication; beyond float64's range the same factors
    give inf and 0.
    """
    bits, from_bits, where = o.bits, o.from_bits, o.where
    c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 = EXP_COEFFICIENTS
    log2_e, ln2_high, ln2_low, round_to_integer = LOG2_E, LN2_HIGH, LN2_LOW, ROUND_TO_INTEGER
    one, width = np.uint64(1), np.uint64(52)

    @o.function
    def exp64(x):
        x = where(x > 710.0, 710.0, x)
        x = where(x < -746.0, -746.0, x)
        shifted = x * log2_e + round_to_integer
        k = shifted - round_to_integer
        r = x - k * ln2_high
        d = k * ln2_low
        p = c8 + r * (c9 + r * (c10 + r * (c11 + r * c12)))
        p = c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * p))))
        square = r * r
        half = 0.5 * square
        cubic = square * r * p
        linear = 1.0 + r
        lost = r - (linear - 1.0)
        e = linear + (half + cubic)
        y = linear + (half + (cubic + (lost - d * e)))
        # the last bits of n are k + 2046, so those of n >> 1 are a biased exponent
        n = bits(shifted)
        first = n >> one
        return y * from_bits(first << width) * from_bits((n - first) << width)

    return exp64


@cache
def exp(o: ModuleType, dtype: Any) -> Function:
    """x -> exp(x): `exp64`, or for float32 narrow(exp64(widen(x))).

    The float32 result is the correctly rounded one for every input.
    """
    exponential, widen, narrow = exp64(o), o.widen, o.narrow
    if dtype == np.float64:
        return exponential

    @o.function
    def exp32(x):
        return narrow(exponential(widen(x)))

    return exp32


@cache
def _log_pair(o: ModuleType) -> Function:
    """x64 -> (high, low), high = high + low rounded, for 0 < x < inf; relative error < 2**-57.

    x = 2**k * m with sqrt(1/2) <= m < sqrt(2), f = m - 1, s = f / (2 + f), and

        log(x) = k*LN2_HIGH + 2*s + (k*LN2_LOW + s**3 * Q(s*s)),  2*atanh(s) = 2*s + s**3 * Q(s*s).

    s is the sum of `head`, which has 26 bits, and of `rest`, which the remainder of the division
    gives: the products in the remainder are exact because 2 + f, too, is split.
    """
    bits, from_bits, where = o.bits, o.from_bits, o.where
    c0, c1, c2, c3, c4, c5, c6, c7 = LOG_COEFFICIENTS
    ln2_high, ln2_low = LN2_HIGH, LN2_LOW
    sqrt_half = np.sqrt(np.float64(0.5)).view(np.uint64)
    up, width, fraction = _ONE_BITS - sqrt_half, np.uint64(52), _FRACTION
    integer = np.float64(2.0**52).view(np.uint64)
    head_bits = np.uint64(0xFFFFFFFFF8000000)

    @o.function
    def log_pair(x):
        tiny = x < 2.0**-1022
        shifted = bits(where(tiny, x * 2.0**54, x)) + up
        bias = where(tiny, 2.0**52 + 1023.0 + 54.0, 2.0**52 + 1023.0)
        k = from_bits((shifted >> width) | integer) - bias
        f = from_bits((shifted & fraction) + sqrt_half) - 1.0
        t = 2.0 + f
        t_head = from_bits(bits(t) & head_bits)
        t_rest = f - (t_head - 2.0)
        inverse = 1.0 / t
        s = f * inverse
        head = from_bits(bits(s) & head_bits)
        rest = ((f - head * t_head) - head * t_rest) * inverse
        s = head + rest
        z = s * s
        q = c4 + z * (c5 + z * (c6 + z * c7))
        q = c0 + z * (c1 + z * (c2 + z * (c3 + z * q)))
        a = k * ln2_high
        b = 2.0 * head
        high = a + b
        # |a| > |b| or a = 0: the sum of two terms suffices for the exact error
        low = (b - (high - a)) + (2.0 * rest + (k * ln2_low + s * z * q))
        total = high + low
        return total, low - (total - high)

    return log_pair


@cache
def _log_special(o: ModuleType) -> Function:
    """(x64, log(x)) -> log(x), also where x is zero, negative, infinite or NaN."""
    where = o.where
    inf, nan = float("inf"), float("nan")

    @o.function
    def special(x, value):
        value = where(x < inf, value, x)
        value = where(x < 0.0, nan, value)
        return where(x == 0.0, -inf, value)

    return special


@cache
def log64(o: ModuleType) -> Function:
    """x64 -> log(x); the error stays below 0.55 ulp.  log(0) = -inf, log(x < 0) = NaN."""
    pair, special = _log_pair(o), _log_special(o)

    @o.function
    def log64(x):
        high, _ = pair(x)
        return special(x, high)

    return log64


@cache
def log(o: ModuleType, dtype: type[np.floating]) -> Function:
    """x -> log(x): `log64`, or for float32 the correctly rounded result for every input.

    In five places the float64 nearest to log(x) is halfway between two float32 numbers and log(x)
    is not; so the float64 is rounded to odd instead.
    """
    pair, special, odd, widen, narrow = _log_pair(o), _log_special(o), to_odd(o), o.widen, o.narrow
    if dtype == np.float64:
        return log64(o)

    @o.function
    def log32(x):
        wide = widen(x)
        high, low = pair(wide)
        return narrow(special(wide, odd(high, low)))

    return log32


@cache
def round_to(o: ModuleType, p: int, rounding: str, narrowed: bool = False) -> Function:
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
    if rounding not in ("nearest", "toward-zero", "stochastic"):
        raise ValueError(f"rounding {rounding!r}: expected nearest, toward-zero or stochastic")
    bits, from_bits, where = o.bits, o.from_bits, o.where
    sign, exponent, one, drop = _SIGN, _EXPONENT, _ONE_BITS, np.uint64(12)
    magnitude = ~_SIGN
    least = np.float64(2.0**-126).view(np.uint64)
    to_quantum = 2.0 ** (1 - p)
    to_c = 2.0 ** (53 - p)
    beyond = 2.0**128
    greatest = (2.0 - 2.0 ** (1 - p)) * 2.0**127
    inf = float("inf")

    @o.function
    def power(x):
        """(|x|, the power of two below it), |x| at most 2**128."""
        a = from_bits(bits(x) & magnitude)
        a = where(beyond < a, beyond, a)
        e = bits(a) & exponent
        return a, from_bits(where(e < least, least, e))

    @o.function
    def split(x):
        """(|x|, q, |x| to nearest), |x| at most 2**128."""
        a, e = power(x)
        q = e * to_quantum
        c = q * 2.0**52
        return a, q, (a + c) - c

    @o.function
    def nearest(x):
        a, e = power(x)
        c = e * to_c
        y = (a + c) - c
        if not narrowed:
            y = where(beyond <= y, inf, y)
        return from_bits(bits(y) | (bits(x) & sign))

    @o.function
    def toward_zero(x):
        a, q, y = split(x)
        y = where(a < y, y - q, y)
        y = where(beyond <= y, greatest, y)
        # a * inf: inf or NaN, as x is
        y = where(from_bits(bits(x) & magnitude) < inf, y, a * inf)
        return from_bits(bits(y) | (bits(x) & sign))

    @o.function
    def stochastic(x, u):
        a, q, y = split(x)
        y = where(a < y, y - q, y)
        uniform = from_bits((u >> drop) | one) - 1.0
        y = where(uniform * q < a - y, y + q, y)
        y = where(beyond <= y, inf, y)
        return from_bits(bits(y) | (bits(x) & sign))

    return {"nearest": nearest, "toward-zero": toward_zero, "stochastic": stochastic}[rounding]


@dataclass(frozen=True)
class Operations:
    """The operations on numbers of one precision, each rounded once; `fma` is a*b + c.

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
    exp: Function
    round: Function
    const: Callable[[Any], Any]


def significand_bits(precision: str) -> int:
    """The p of 'float64' (53), 'float32' (24) or 'bits:p' (2 <= p <= 24)."""
    if precision in ("float64", "float32"):
        return 53 if precision == "float64" else 24
    kind, _, p = precision.partition(":")
    if kind == "bits" and p.isdecimal() and 2 <= int(p) <= 24:
        return int(p)
    raise ValueError(f"precision {precision!r}: expected float64, float32 or bits:2 to bits:24")


@cache
def operations(o: ModuleType, precision: str, rounding: str, fma: bool) -> Operations:
    """The operations of `precision` ('float64', 'float32', 'bits:p') and `rounding`.

    `rounding` is 'nearest' or, below float64, 'toward-zero' or 'stochastic'.  Without `fma` a
    product is rounded before it is added.  exp of p-bit numbers is exp64 rounded to p bits.
    """
    p = significand_bits(precision)
    if rounding not in ("nearest", "toward-zero", "stochastic"):
        raise ValueError(f"rounding {rounding!r}: expected nearest, toward-zero or stochastic")
    if rounding != "nearest" and p == 53:
        raise ValueError(f"rounding {rounding!r} needs precision float32 or bits:p, not float64")
    if rounding == "nearest" and not precision.startswith("bits"):
        return _native(o, np.float64 if p == 53 else np.float32, fma)
    return _rounded(o, p, rounding, fma)


def _native(o: ModuleType, dtype: type[np.floating], fused: bool) -> Operations:
    """float32 and float64 to nearest: the machine's own operations."""
    add, mul, exponential = o.add, o.mul, exp(o, dtype)  # type: ignore[arg-type]
    double, narrow = dtype == np.float64, o.narrow

    @o.function
    def product_then_sum(a, b, c, t=None):
        return add(mul(a, b), c)

    @o.function
    def exp_native(a, t=None):
        return exponential(a)

    @o.function
    def round(a, t=None):
        return a if double else narrow(a)

    joined = o.fma if fused else product_then_sum
    return Operations(
        dtype, fused, False, add, o.sub, mul, o.div, o.sqrt, joined, exp_native, round, dtype
    )


def _rounded(o: ModuleType, p: int, rounding: str, fused: bool) -> Operations:
    """p-bit operations: in float64, then rounded.

    To nearest, the float64 result of + - * / sqrt may be a rounded one, because 53 >= 2*24 + 2
    bits make the second rounding innocuous.  Otherwise, and for fma, it is rounded to odd.
    """
    widen, narrow = o.widen, o.narrow
    exponential, fma_odd, final = exp64(o), odd_fma(o), _last_rounding(o, p, rounding)
    if rounding == "nearest":
        wide_add, wide_sub, wide_mul, wide_div, wide_sqrt = o.add, o.sub, o.mul, o.div, o.sqrt
    else:
        wide_add, wide_sub, wide_mul = odd_add(o), odd_sub(o), odd_mul(o)
        wide_div, wide_sqrt = odd_div(o), odd_sqrt(o)

    @o.function
    def add(a, b, t=None):
        return narrow(final(wide_add(widen(a), widen(b)), t))

    @o.function
    def sub(a, b, t=None):
        return narrow(final(wide_sub(widen(a), widen(b)), t))

    @o.function
    def mul(a, b, t=None):
        return narrow(final(wide_mul(widen(a), widen(b)), t))

    @o.function
    def div(a, b, t=None):
        return narrow(final(wide_div(widen(a), widen(b)), t))

    @o.function
    def sqrt(a, t=None):
        return narrow(final(wide_sqrt(widen(a)), t))

    @o.function
    def fma(a, b, c, t=None):
        return narrow(final(fma_odd(widen(a), widen(b), widen(c)), t))

    @o.function
    def product_then_sum(a, b, c, t=None):
        return add(mul(a, b, t), c, t)

    @o.function
    def exp_rounded(a, t=None):
        return narrow(final(exponential(widen(a)), t))

    @o.function
    def round(a, t=None):
        return narrow(final(a, t))

    joined = fma if fused else product_then_sum
    return Operations(
        np.float32, fused, True, add, sub, mul, div, sqrt, joined, exp_rounded, round, _constant(p)
    )


def _last_rounding(o: ModuleType, p: int, rounding: str) -> Function:
    """(x64, t) -> x rounded to p bits; t = (key 0, key 1, step), read by stochastic rounding only.

    The random word of a stochastic rounding is a function of the stream's key, the step and the
    number to be rounded: words 0 (high) and 1 of Philox at the counter (low word of x, high word
    of x, low word of the step, high word of the step).  So it does not depend on the order in
    which operations are carried out; equal numbers round alike within a step.
    """
    rounded, philox, bits = round_to(o, p, rounding, narrowed=True), o.philox, o.bits
    low, width = np.uint64(0xFFFFFFFF), np.uint64(32)
    if rounding != "stochastic":

        @o.function
        def final(x, t):
            return rounded(x)

        return final

    @o.function
    def draw(x, t):
        v = bits(x)
        step = (v ^ v) + t[2]  # of the same type as v
        high, rest, _, _ = philox(v & low, v >> width, step & low, step >> width, t[0], t[1])
        return rounded(x, (high << width) | rest)

    return draw


def _constant(p: int) -> Callable[[float], np.float32]:
    """value -> the nearest p-bit number, ties to even."""

    def const(value: float) -> np.float32:
        _, exponent = np.frexp(value)
        quantum = np.ldexp(1.0, np.maximum(exponent - 1, -126) + 1 - p)
        return np.float32(np.rint(value / quantum) * quantum)

    return const
