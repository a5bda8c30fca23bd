"""exp and log in float64 and float32, from formulas of the kind that `error_free` describes."""

from functools import cache
from typing import Any

import numpy as np

from nanorepro.numerics.array_namespace import ArrayNamespace, Function, Value
from nanorepro.numerics.error_free import to_odd

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
# the same with two powers less, for the least error relative to exp(r): it stays below 2**-51
QUICK_EXP_COEFFICIENTS = tuple(
    float.fromhex(text)
    for text in (
        "0x1.555555554f06fp-3",
        "0x1.5555555542640p-5",
        "0x1.1111112a1b144p-7",
        "0x1.6c16c1e187257p-10",
        "0x1.a0197db6c657fp-13",
        "0x1.a01846451b635p-16",
        "0x1.72fa113e04be7p-19",
        "0x1.2a22215ee24e4p-22",
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

_FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
_ONE_BITS = np.uint64(0x3FF0000000000000)


@cache
def exp64(xp: ArrayNamespace) -> Function:
    """x64 -> exp(x); the error stays below 0.59 ulp where the result is normal.

    k = rint(x / log 2), r = x - k*LN2_HIGH (exact), d = k*LN2_LOW, and

        exp(x) = 2**k * exp(r - d),  exp(r - d) = E - d*E + O(2**-67),
        E = exp(r) = 1 + r + r*r/2 + r**3 * P(r).

    What 1 + r loses by rounding joins the small terms.  2**k is applied as two factors, so that
    a subnormal result is rounded by one multiplication; beyond float64's range the same factors
    give inf and 0.
    """
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 = EXP_COEFFICIENTS
    log2_e, ln2_high, ln2_low, round_to_integer = LOG2_E, LN2_HIGH, LN2_LOW, ROUND_TO_INTEGER
    one, width = np.uint64(1), np.uint64(52)

    @xp.function
    def exp64(x: Value) -> Value:
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
def exp(xp: ArrayNamespace, dtype: Any) -> Function:
    """x -> exp(x): `exp64`, or for float32 narrow(exp64(widen(x))).

    The float32 result is the correctly rounded one for every input.
    """
    exponential, widen, narrow = exp64(xp), xp.widen, xp.narrow
    if dtype == np.float64:
        return exponential

    @xp.function
    def exp32(x: Value) -> Value:
        return narrow(exponential(widen(x)))

    return exp32


@cache
def quick_exp(xp: ArrayNamespace) -> Function:
    """x32 -> exp(x), the correctly rounded float32, as `exp` gives it for every input.

    The same steps as in `exp64`, where float32 needs less: r = x - k*log(2) in one number, a
    shorter P in pairs of powers, each term joined by an fma, nothing lost that is looked after, and
    2**k added to the exponent (of a NaN x nothing, as the last bits of `shifted` are then 0).
    Terms wait for each other half as long.
    """
    bits, from_bits, where, fma = xp.bits, xp.from_bits, xp.where, xp.fma
    widen, narrow = xp.widen, xp.narrow
    c3, c4, c5, c6, c7, c8, c9, c10 = QUICK_EXP_COEFFICIENTS
    log2_e, ln2_high, ln2_low = LOG2_E, LN2_HIGH, LN2_LOW
    round_to_integer, width = 1.5 * 2.0**52, np.uint64(52)
    lowest, highest = np.float32(-104.0), np.float32(89.0)

    @xp.function
    def quick_exp(x: Value) -> Value:
        x = where(x > highest, highest, x)
        x = widen(where(x < lowest, lowest, x))
        shifted = fma(x, log2_e, round_to_integer)
        minus_k = round_to_integer - shifted
        r = fma(minus_k, ln2_low, fma(minus_k, ln2_high, x))
        square = r * r
        p3 = fma(fma(c6, r, c5), square, fma(c4, r, c3))
        p7 = fma(fma(c10, r, c9), square, fma(c8, r, c7))
        p = fma(p7, square * square, p3)
        e = 1.0 + fma(square, fma(r, p, 0.5), r)
        return narrow(from_bits(bits(e) + (bits(shifted) << width)))

    return quick_exp


@cache
def _log_pair(xp: ArrayNamespace) -> Function:
    """x64 -> (high, low), high = high + low rounded, for 0 < x < inf; relative error < 2**-57.

    x = 2**k * m with sqrt(1/2) <= m < sqrt(2), f = m - 1, s = f / (2 + f), and

        log(x) = k*LN2_HIGH + 2*s + (k*LN2_LOW + s**3 * Q(s*s)),  2*atanh(s) = 2*s + s**3 * Q(s*s).

    s is the sum of `head`, which has 26 bits, and of `rest`, which the remainder of the division
    gives: the products in the remainder are exact because 2 + f, too, is split.
    """
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    c0, c1, c2, c3, c4, c5, c6, c7 = LOG_COEFFICIENTS
    ln2_high, ln2_low = LN2_HIGH, LN2_LOW
    sqrt_half = np.sqrt(np.float64(0.5)).view(np.uint64)
    up, width, fraction = _ONE_BITS - sqrt_half, np.uint64(52), _FRACTION
    integer = np.float64(2.0**52).view(np.uint64)
    head_bits = np.uint64(0xFFFFFFFFF8000000)

    @xp.function
    def log_pair(x: Value) -> Value:
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
def _log_special(xp: ArrayNamespace) -> Function:
    """(x64, log(x)) -> log(x), also where x is zero, negative, infinite or NaN."""
    where = xp.where
    inf, nan = float("inf"), float("nan")

    @xp.function
    def special(x: Value, value: Value) -> Value:
        value = where(x < inf, value, x)
        value = where(x < 0.0, nan, value)
        return where(x == 0.0, -inf, value)

    return special


@cache
def log64(xp: ArrayNamespace) -> Function:
    """x64 -> log(x); the error stays below 0.55 ulp.  log(0) = -inf, log(x < 0) = NaN."""
    pair, special = _log_pair(xp), _log_special(xp)

    @xp.function
    def log64(x: Value) -> Value:
        high, _ = pair(x)
        return special(x, high)

    return log64


@cache
def log(xp: ArrayNamespace, dtype: type[np.floating]) -> Function:
    """x -> log(x): `log64`, or for float32 the correctly rounded result for every input.

    In five places the float64 nearest to log(x) is halfway between two float32 numbers and log(x)
    is not; so the float64 is rounded to odd instead.
    """
    pair, special, odd, widen, narrow = (
        _log_pair(xp),
        _log_special(xp),
        to_odd(xp),
        xp.widen,
        xp.narrow,
    )
    if dtype == np.float64:
        return log64(xp)

    @xp.function
    def log32(x: Value) -> Value:
        wide = widen(x)
        high, low = pair(wide)
        return narrow(special(wide, odd(high, low)))

    return log32
