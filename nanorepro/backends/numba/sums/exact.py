"""Correctly rounded sums: what `exact` means, compiled.

The fast way keeps the sum as an unevaluated sum of two (float64 precision: four) float64 and tells
when that was not enough.  Then the slow way adds in integers, one sum at a time, over all
exponents.  Neither result depends on the order of the terms.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from nanorepro.backends.numba.llvm import simd
from nanorepro.backends.numba.llvm.memory import load
from nanorepro.backends.numba.llvm.simd import (
    any_nonzero,
    apart,
    fill,
    first,
    function,
    where,
    widen,
)
from nanorepro.numerics.error_free import odd_add, two_sum
from nanorepro.numerics.rounding import Operations

OFFSET = 2176  # position of the bit 2^0: products of subnormal float64 begin at 2^-2148
BINS = 140  # of 32 bits each, in int64
LOW32 = np.int64(0xFFFFFFFF)
FRACTION = np.uint64(0x000FFFFFFFFFFFFF)
MAGNITUDE = np.uint64(0x7FFFFFFFFFFFFFFF)

pair = two_sum(simd)
odd = odd_add(simd)


@function
def absolute(x):
    return simd.from_bits(simd.bits(x) & MAGNITUDE)


@function
def grow2(s, x):
    """(s0, s1, lost) + x: exact unless `lost` becomes nonzero."""
    s0, e = pair(s[0], x)
    s1, e = pair(s[1], e)
    return (s0, s1, s[2] + absolute(e))


@function
def grow4(s, x):
    """(s0, ..., s3, lost) + x."""
    s0, e = pair(s[0], x)
    s1, e = pair(s[1], e)
    s2, e = pair(s[2], e)
    s3, e = pair(s[3], e)
    return (s0, s1, s2, s3, s[4] + absolute(e))


@cache
def expansion(ops: Operations) -> tuple[Callable, ...]:
    """start, product, term and result of the fast way; the last of the state is `lost`."""
    mul, round, fused = ops.mul, ops.round, ops.fused

    @function
    def start2(zero):
        z = widen(zero)
        return (z, z, z)

    @function
    def product2(state, a, b, t):
        if fused:
            return grow2(state, widen(a) * widen(b))
        return grow2(state, widen(mul(a, b, t)))

    @function
    def term2(state, a, t):
        return grow2(state, widen(a))

    @function
    def result2(state, t):
        return round(odd(state[0], state[1]), t)

    @function
    def start4(zero):
        return (zero, zero, zero, zero, zero)

    @function
    def product4(state, a, b, t):
        p = mul(a, b, t)
        if not fused:
            return grow4(state, p)
        s = grow4(grow4(state, p), simd.fma(a, b, -p))
        # the residual of a product near underflow is not exact
        near = where(absolute(p) < 2.0**-960, 1.0, p - p)
        near = where(a == 0.0, 0.0, where(b == 0.0, 0.0, near))
        return (s[0], s[1], s[2], s[3], s[4] + near)

    @function
    def term4(state, a, t):
        return grow4(state, a)

    @function
    def result4(state, t):
        s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
        for _ in range(3):
            s2, s3 = pair(s2, s3)
            s1, s2 = pair(s1, s2)
            s0, s1 = pair(s0, s1)
        return s0 + odd(s1, odd(s2, s3))

    if ops.dtype == np.float64:
        return start4, product4, term4, result4
    return start2, product2, term2, result2


@function
def add_integer(bins, negative, value, position):
    """bins += ±value·2^position, 0 ≤ value < 2^54."""
    k, shift = position >> 5, position & 31
    low, high = (value & LOW32) << shift, (value >> 32) << shift
    parts = (low & LOW32, (low >> 32) + (high & LOW32), high >> 32)
    for i in range(3):
        bins[k + i] += -parts[i] if negative else parts[i]


@function
def significand(x):
    """A finite float64 as (integer, exponent) of its magnitude."""
    pattern = simd.bits(x)
    exponent = np.int64((pattern >> np.uint64(52)) & np.uint64(0x7FF))
    fraction = np.int64(pattern & FRACTION)
    return (fraction | (1 << 52), exponent - 1075) if exponent else (fraction, np.int64(-1074))


@function
def add_term(bins, special, x):
    """bins += x; what is infinite or NaN joins special[0]."""
    if not absolute(x) < np.inf:
        special[0] += x
        return
    integer, exponent = significand(x)
    add_integer(bins, x < 0.0, integer, exponent + OFFSET)


@function
def add_product(bins, special, x, y):
    """bins += x·y, exactly."""
    if not (absolute(x) < np.inf and absolute(y) < np.inf):
        special[0] += x * y
        return
    a, ea = significand(x)
    b, eb = significand(y)
    negative, at = (x < 0.0) != (y < 0.0), ea + eb + OFFSET
    a0, a1, b0, b1 = a & 0x7FFFFFF, a >> 27, b & 0x7FFFFFF, b >> 27
    add_integer(bins, negative, a0 * b0, at)
    add_integer(bins, negative, a0 * b1, at + 27)
    add_integer(bins, negative, a1 * b0, at + 27)
    add_integer(bins, negative, a1 * b1, at + 54)


@function
def rounded(bins, special, to_odd):
    """The sum as a float64, rounded to odd or to nearest (ties to even); +0 for zero."""
    if special[0] != 0.0:
        return special[0]
    carry = np.int64(0)
    for k in range(BINS):
        value = bins[k] + carry
        bins[k] = value & LOW32
        carry = value >> 32
    negative = carry < 0
    if negative:
        carry = np.int64(1)
        for k in range(BINS):
            value = (LOW32 - bins[k]) + carry
            bins[k] = value & LOW32
            carry = value >> 32
    top = BINS - 1
    while top >= 0 and bins[top] == 0:
        top -= 1
    if top < 0:
        return 0.0
    length = 0
    while bins[top] >> length:
        length += 1
    lowest = max(32 * top + length - 53, OFFSET - 1074)
    k, shift = lowest >> 5, lowest & 31
    n = (bins[k] >> shift) | (bins[k + 1] << (32 - shift))
    if shift:
        n |= bins[k + 2] << (64 - shift)
    below = bins[k] & ((np.int64(1) << shift) - 1)
    half = below >> (shift - 1) if shift else bins[k - 1] >> 31
    rest = below & ((np.int64(1) << (shift - 1)) - 1) if shift else bins[k - 1] & 0x7FFFFFFF
    for i in range(k if shift else k - 1):
        rest |= bins[i]
    if to_odd:
        n |= np.int64(half != 0 or rest != 0)
    else:
        n += np.int64(half != 0 and (rest != 0 or n & 1 == 1))
    exponent = lowest - OFFSET
    # in two steps: 2^exponent by itself may be subnormal
    scale = (
        simd.from_bits(np.uint64(exponent + 1223) << np.uint64(52))
        if exponent < 0
        else (simd.from_bits(np.uint64(exponent + 1023) << np.uint64(52)))
    )
    magnitude = np.float64(n) * scale * (2.0**-200 if exponent < 0 else 1.0)
    return -magnitude if negative else magnitude


@cache
def slowly(ops: Operations, lanes: tuple[int, ...]) -> tuple[Callable, Callable]:
    """The slow way for sums of products and of masked terms, compiled once for all sums.

    products(m, a, at, ak, b, bt, bk, n, t): Σ_k a[at + k·ak]·b[bt + k·bk + lane]
    terms(m, table, at, stride, masks, word, n, t): Σ_k table[at + k·stride + lane] over bits set
    """
    mul, round, fused, double = ops.mul, ops.round, ops.fused, ops.dtype == np.float64
    width, one = len(lanes), (0,)

    @function
    def empty(m):
        for k in range(BINS):
            m.bins[k] = 0
        m.special[0] = 0.0

    @function
    def finish(m, lane, t):
        m.lane[lane] = first(round(fill(rounded(m.bins, m.special, not double), one), t))

    @apart
    def products(m, a, at, ak, b, bt, bk, n, t):
        for lane in range(width):
            empty(m)
            for k in range(n):
                x, y = a[at + k * ak], b[bt + k * bk + lane]
                if fused:
                    add_product(m.bins, m.special, widen(x), widen(y))
                else:
                    z = mul(fill(x, one), fill(y, one), t)
                    add_term(m.bins, m.special, widen(first(z)))
            finish(m, lane, t)
        return load(m.lane, 0, lanes)

    @apart
    def terms(m, table, at, stride, masks, word, n, t):
        for lane in range(width):
            empty(m)
            for k in range(n):
                if masks[word + (k >> 5)] >> np.uint32(k & 31) & np.uint32(1):
                    add_term(m.bins, m.special, widen(table[at + k * stride + lane]))
            finish(m, lane, t)
        return load(m.lane, 0, lanes)

    return products, terms


def exact_total(
    ops: Operations, lanes: tuple[int, ...], chain: Callable, slow: Callable
) -> Callable:
    """The function of `by_plan.total_of`: the fast way by `chain`, where needed the slow one."""
    start, _, _, result = expansion(ops)
    zero = ops.const(0.0)

    @function
    def total(m, plan, r, c, a, b, t):
        state = chain(m, start(fill(zero, lanes)), r, c, a, b, t)
        if any_nonzero(state[-1]):
            return slow(m, r, c, a, b, t)
        return result(state, t)

    return total
