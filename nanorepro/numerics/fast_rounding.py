"""p-bit operations from float32's own: the bits of `rounding`'s in fewer instructions.

A float32 operation gives s, the exact result rounded to 24 bits.  Call the middle between two
p-bit numbers, p < 24, a tie.  It is a float32 number, and rounding is monotonic: s is on the same
side of every tie as the exact result, or is a tie itself.  So s rounded to p bits is the result to
nearest, unless s is an inexact tie.  That there is none, or what is done then, is said at each
operation.  Likewise s cut to p bits is the result toward zero, unless s is a p-bit number and
greater in magnitude than the exact result: then it is the p-bit number before.

Here 2**k is the power of two below |s|, but k is not below -126.  The ties around s are the odd
multiples of h = 2**(k - p), and s differs from the exact result by at most 2**(k - 24).

There is a way for each range of p, and one for processors that round as the instruction says:

to nearest, p <= SHORT      no tie is inexact, but in fma          `of_few_bits`
to nearest, p < LONG        a vector with a tie goes a slower way  `with_ties_looked_for`
to nearest from LONG on,    what s lacks is computed               `with_errors`
and toward zero
any, where DIRECTED         float32 rounded in three directions    `directed_operations`
"""

from functools import cache
from typing import Any

import numpy as np

from nanorepro.numerics.array_namespace import ArrayNamespace, FastArrayNamespace, Function, Value
from nanorepro.numerics.error_free import two_sum

SHORT = 8  # bits of which float32 has three times as many
LONG = 19  # bits from which on most long vectors hold a tie


@cache
def round_pattern(xp: FastArrayNamespace, p: int) -> tuple[Function, Function, Function]:
    """Functions that round a float32 vector s to p < 24 bits, to nearest.

    nearest(s):         ties to even
    nearest_to(s, e):   ties to the side of s + e, to even where e = 0
    has_tie(s):         whether an element is a tie

    The p-bit numbers are the float32 whose last 24 - p bits are 0, subnormal ones and inf, too: a
    half is added to the pattern, where it may carry into the exponent, and those bits are cleared.
    So it is for NaN if they are 0 before, as in every result of p-bit numbers.
    """
    bits, from_bits, where, any_true = xp.bits, xp.from_bits, xp.where, xp.any_true
    sign, last = np.uint32(1 << 31), np.uint32(1 << (24 - p))
    half, below = np.uint32(1 << (23 - p)), np.uint32((1 << (23 - p)) - 1)
    dropped, kept = np.uint32((1 << (24 - p)) - 1), np.uint32((1 << 32) - (1 << (24 - p)))

    @xp.function
    def nearest(s: Value) -> Value:
        u = bits(s)
        return from_bits((u + where((u & last) != 0, half, below)) & kept)

    @xp.function
    def nearest_to(s: Value, e: Value) -> Value:
        u = bits(s)
        # positive as a float32 if a tie goes up in magnitude
        up = where(e == 0.0, u & last, bits(e) ^ (u & sign))
        return from_bits((u + where(from_bits(up) > 0.0, half, below)) & kept)

    @xp.function
    def has_tie(s: Value) -> Value:
        return any_true((bits(s) & dropped) == half)

    return nearest, nearest_to, has_tie


@cache
def cut_pattern(xp: ArrayNamespace, p: int) -> Function:
    """(s, e) -> s + e toward zero on p <= 24 bits, for a float32 vector s and errors by their sign.

    One less in magnitude is one less in the pattern, of inf the greatest number; then the last
    24 - p bits are cleared.  Of a p-bit s that leaves the p-bit number before it, and another s,
    whose last bits are not all 0, loses nothing by it.  Where e is NaN, s is what it is.
    """
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    sign, one = np.uint32(1 << 31), np.uint32(1)
    kept = np.uint32((1 << 32) - (1 << (24 - p)))

    @xp.function
    def cut(s: Value, e: Value) -> Value:
        u = bits(s)
        return from_bits(where(from_bits(bits(e) ^ (u & sign)) < 0.0, u - one, u) & kept)

    return cut


@cache
def float_errors(xp: ArrayNamespace) -> tuple[Function, ...]:
    """Functions that give what a float32 result s lacks, by its sign: (mul, div, sqrt, fma, tiny).

    They do unless a number is `tiny`, 0 < |x| < 2**-100, said at each: then no step underflows, and
    each but the last is exact.  A result of 0 or inf is no tie, whatever it lacks.
    """
    bits, from_bits, fma, pair = xp.bits, xp.from_bits, xp.fma, two_sum(xp)
    sign, one = np.uint32(1 << 31), np.uint32(1)
    below = np.float32(2.0**-100).view(np.uint32) - one

    @xp.function
    def tiny(x: Value) -> Value:
        # 0 - 1 is the greatest number
        return (bits(x) & ~sign) - one < below

    @xp.function
    def mul_error(a: Value, b: Value, s: Value) -> Value:
        """s is not tiny."""
        return fma(a, b, -s)

    @xp.function
    def div_error(a: Value, b: Value, s: Value) -> Value:
        """a and s are not tiny; the remainder a - sb is (a/b - s)b."""
        return from_bits(bits(fma(-s, b, a)) ^ (bits(b) & sign))

    @xp.function
    def sqrt_error(a: Value, s: Value) -> Value:
        """a is not tiny."""
        return fma(-s, s, a)

    @xp.function
    def fma_error(a: Value, b: Value, c: Value, ab: Value, s: Value) -> Value:
        """ab is not tiny; NaN where a step overflows.

        ErrFmaNearest (Boldo and Muller, IEEE Trans. Comput. 60, 2011).  Where ab underflows to 0,
        s is c: no tie, but not exact.
        """
        x, y = pair(c, fma(a, b, -ab))
        u, v = pair(ab, x)
        return ((u - s) + v) + y

    return mul_error, div_error, sqrt_error, fma_error, tiny


def fast_operations(xp: FastArrayNamespace, p: int, rounding: str, plain: Any) -> dict[str, Any]:
    """Operations with the results of `plain`'s, those on p bits, by their names.

    `rounding` is nearest, for p < 24, or toward-zero.
    """
    if rounding == "toward-zero" or p >= LONG:
        return with_errors(xp, p, rounding == "toward-zero", plain)
    return of_few_bits(xp, p, plain) if p <= SHORT else with_ties_looked_for(xp, p, plain)


def complete(
    xp: ArrayNamespace,
    plain: Any,
    add: Function,
    mul: Function,
    div: Function,
    sqrt: Function,
    fma: Function,
) -> dict[str, Any]:
    """All operations by their names: the given ones, subtraction, and fma as the dial says."""

    @xp.function
    def sub(a: Value, b: Value, t: Any = None) -> Value:
        return add(a, -b)

    @xp.function
    def product_then_sum(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        return add(mul(a, b), c)

    joined = fma if plain.fused else product_then_sum
    return {"add": add, "sub": sub, "mul": mul, "div": div, "sqrt": sqrt, "fma": joined,
            "decay": joined}  # fmt: skip


def of_few_bits(xp: FastArrayNamespace, p: int, plain: Any) -> dict[str, Any]:
    """To nearest, p <= SHORT: every tie is exact, but in fma, where its error is one more fma."""
    nearest, nearest_to, _ = round_pattern(xp, p)
    mul_float, div_float, sqrt_float, fma_float = xp.mul, xp.div, xp.sqrt, xp.fma

    @xp.function
    def mul(a: Value, b: Value, t: Any = None) -> Value:
        """A tie is exact.

        A product with bits below 2**-149 is at most (2**p - 1)**2 * 2**-150, and so is less than
        the least tie, 2**(-126 - p), by more than the error of s.
        """
        return nearest(mul_float(a, b))

    @xp.function
    def div(a: Value, b: Value, t: Any = None) -> Value:
        """A tie is exact: 24 >= 2p + 2 (Figueroa, SIGNUM 30, 1995).

        And as a subnormal number: what is not a tie is 2**(-126 - 2p) away from it, over 2**-150.
        """
        return nearest(div_float(a, b))

    @xp.function
    def sqrt(a: Value, t: Any = None) -> Value:
        """A tie is exact, as of quotients."""
        return nearest(sqrt_float(a))

    @xp.function
    def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        """e = (ab - s) + c is the error of a tie s.

        If c is a multiple of h, and c is not s, then |ab| >= h - 2**(k - 24), more than products
        of bits below 2**(k - 23) can be, for (2**p - 1)**2 < 2**(24 - p) - 1: ab + c is a
        multiple of 2**(k - 23) as s is, so s is exact, and e = 0.
        Otherwise |c| < 2**(k - 1) and k > -126, so |ab| > 2**(k - 1): it is a multiple of
        2**(k - 2p), as s is, and so is ab - s, which is below 2**k: no rounding before the last.
        """
        s = fma_float(a, b, c)
        return nearest_to(s, fma_float(a, b, -s) + c)

    return complete(xp, plain, sum_to_nearest(xp, p), mul, div, sqrt, fma)


def with_ties_looked_for(xp: FastArrayNamespace, p: int, plain: Any) -> dict[str, Any]:
    """To nearest: a vector with a tie, of which few have one, goes a slower way."""
    nearest, nearest_to, has_tie = round_pattern(xp, p)
    mul_float, div_float, sqrt_float, fma_float = xp.mul, xp.div, xp.sqrt, xp.fma
    plain_mul, plain_div, plain_sqrt = plain.mul, plain.div, plain.sqrt
    error = sign_of_error(xp)

    @xp.function
    def mul(a: Value, b: Value, t: Any = None) -> Value:
        s = mul_float(a, b)
        if has_tie(s):
            return plain_mul(a, b)
        return nearest(s)

    @xp.function
    def div(a: Value, b: Value, t: Any = None) -> Value:
        s = div_float(a, b)
        if has_tie(s):
            return plain_div(a, b)
        return nearest(s)

    @xp.function
    def sqrt(a: Value, t: Any = None) -> Value:
        s = sqrt_float(a)
        if has_tie(s):
            return plain_sqrt(a)
        return nearest(s)

    @xp.function
    def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        s = fma_float(a, b, c)
        if has_tie(s):
            return nearest_to(s, error(a, b, c, s))
        return nearest(s)

    return complete(xp, plain, sum_to_nearest(xp, p), mul, div, sqrt, fma)


def with_errors(xp: FastArrayNamespace, p: int, toward_zero: bool, plain: Any) -> dict[str, Any]:
    """What s lacks is computed at once, in float32, where its range allows; else `plain`'s way."""
    mul_error, div_error, sqrt_error, fma_error, tiny = float_errors(xp)
    mul_float, div_float, sqrt_float, fma_float = xp.mul, xp.div, xp.sqrt, xp.fma
    plain_mul, plain_div, plain_sqrt = plain.mul, plain.div, plain.sqrt
    any_true, error = xp.any_true, sign_of_error(xp)
    to_side = cut_pattern(xp, p) if toward_zero else round_pattern(xp, p)[1]
    add = sum_toward_zero(xp, p, plain) if toward_zero else sum_to_nearest(xp, p)

    @xp.function
    def mul(a: Value, b: Value, t: Any = None) -> Value:
        s = mul_float(a, b)
        if any_true(tiny(s)):
            return plain_mul(a, b)
        return to_side(s, mul_error(a, b, s))

    @xp.function
    def div(a: Value, b: Value, t: Any = None) -> Value:
        s = div_float(a, b)
        if any_true(tiny(a)) or any_true(tiny(s)):
            return plain_div(a, b)
        return to_side(s, div_error(a, b, s))

    @xp.function
    def sqrt(a: Value, t: Any = None) -> Value:
        s = sqrt_float(a)
        if any_true(tiny(a)):
            return plain_sqrt(a)
        return to_side(s, sqrt_error(a, s))

    @xp.function
    def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        """Where ab underflows to 0, s is c: no tie to nearest, but toward zero not exact."""
        s = fma_float(a, b, c)
        ab = mul_float(a, b)
        e = fma_error(a, b, c, ab, s)
        slow = tiny(ab) | (e != e)
        if toward_zero:
            slow = slow | ((ab == 0.0) & (a != 0.0) & (b != 0.0))
        if any_true(slow):
            return to_side(s, error(a, b, c, s))
        return to_side(s, e)

    return complete(xp, plain, add, mul, div, sqrt, fma)


@cache
def sum_to_nearest(xp: FastArrayNamespace, p: int) -> Function:
    """a + b to nearest: a tie is exact up to p = 11; beyond, the error of s is computed.

    Be s a tie and a the operand with bits below 2**(k - 23), so |a| < 2**(k - 24 + p).  Then b is a
    multiple of h, too, and not s: |a| >= h - 2**(k - 24), which takes p >= 12.
    """
    nearest, nearest_to, _ = round_pattern(xp, p)
    add_float, pair, ties_are_exact = xp.add, two_sum(xp), p <= 11

    @xp.function
    def add(a: Value, b: Value, t: Any = None) -> Value:
        if ties_are_exact:
            return nearest(add_float(a, b))
        s, e = pair(a, b)
        return nearest_to(s, e)

    return add


def sum_toward_zero(xp: FastArrayNamespace, p: int, plain: Any) -> Function:
    """a + b toward zero, from its error; where s overflows by `plain`'s way."""
    cut, pair, any_true, plain_add = cut_pattern(xp, p), two_sum(xp), xp.any_true, plain.add

    @xp.function
    def add(a: Value, b: Value, t: Any = None) -> Value:
        s, e = pair(a, b)
        if any_true(e != e):
            return plain_add(a, b)
        return cut(s, e)

    return add


@cache
def sign_of_error(xp: FastArrayNamespace) -> Function:
    """(a32, b32, c32, s32) -> a float32 with the sign of ab + c - s, zero if that is.

    x + y = ab + c, and x - s is exact: 0, or more than y.  The factor prevents underflow.
    """
    pair, widen, narrow = two_sum(xp), xp.widen, xp.narrow

    @xp.function
    def error(a: Value, b: Value, c: Value, s: Value) -> Value:
        x, y = pair(widen(a) * widen(b), widen(c))
        return narrow(((x - widen(s)) + y) * 2.0**200)

    return error


def directed_operations(
    xp: FastArrayNamespace, p: int, rounding: str, plain: Any
) -> dict[str, Any]:
    """`fast_operations` of an array namespace that is DIRECTED.

    Toward zero, all of them are z, what float32's gives toward zero, without its last 24 - p bits.
    To nearest, those bits and whether z is inexact say all: a half is added, less the last bit if
    z is exact and the p-bit number before it even.  z is inexact if rounding up and down differ.
    """
    bits, from_bits, where = xp.bits, xp.from_bits, xp.where
    last, kept = np.uint32(1 << (24 - p)), np.uint32((1 << 32) - (1 << (24 - p)))
    half = np.uint32((1 << (24 - p)) >> 1)
    below = np.uint32(max(int(half) - 1, 0))
    add_to, mul_to, div_to = xp.add_to, xp.mul_to, xp.div_to
    sqrt_to, fma_to = xp.sqrt_to, xp.fma_to
    to_zero, up, down = xp.TOWARD_ZERO, xp.UP, xp.DOWN
    toward_zero, fma_float, any_true = rounding == "toward-zero", xp.fma, xp.any_true
    tiny, plain_div, plain_sqrt = float_errors(xp)[-1], plain.div, plain.sqrt

    @xp.function
    def cut(z: Value) -> Value:
        return from_bits(bits(z) & kept)

    @xp.function
    def nearest(z: Value, inexact: Value) -> Value:
        u = bits(z)
        return from_bits((u + where(((u & last) != 0) | inexact, half, below)) & kept)

    @xp.function
    def add(a: Value, b: Value, t: Any = None) -> Value:
        z = add_to(to_zero, a, b)
        return cut(z) if toward_zero else nearest(z, add_to(up, a, b) != add_to(down, a, b))

    @xp.function
    def mul(a: Value, b: Value, t: Any = None) -> Value:
        z = mul_to(to_zero, a, b)
        return cut(z) if toward_zero else nearest(z, mul_to(up, a, b) != mul_to(down, a, b))

    @xp.function
    def div(a: Value, b: Value, t: Any = None) -> Value:
        """The remainder is exact; one division is enough."""
        z = div_to(to_zero, a, b)
        if toward_zero:
            return cut(z)
        if any_true(tiny(a)) or any_true(tiny(z)):
            return plain_div(a, b)
        return nearest(z, fma_float(-z, b, a) != 0.0)

    @xp.function
    def sqrt(a: Value, t: Any = None) -> Value:
        z = sqrt_to(to_zero, a)
        if toward_zero:
            return cut(z)
        if any_true(tiny(a)):
            return plain_sqrt(a)
        return nearest(z, fma_float(-z, z, a) != 0.0)

    @xp.function
    def fma(a: Value, b: Value, c: Value, t: Any = None) -> Value:
        z = fma_to(to_zero, a, b, c)
        return cut(z) if toward_zero else nearest(z, fma_to(up, a, b, c) != fma_to(down, a, b, c))

    return complete(xp, plain, add, mul, div, sqrt, fma)
