"""fma, the roundings and the operations against fractions and other people's conversions."""

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit
from oracles import naive
from support.kernels import LANES, SPECIAL, assert_same_bits, compiled
from support.slow import slow_after, slow_unless

from nanorepro.backends.numba.llvm import memory, simd
from nanorepro.numerics import error_free, numpy_arrays
from nanorepro.numerics.fast_rounding import directed_operations, fast_operations
from nanorepro.numerics.formats import significand_bits
from nanorepro.numerics.rounding import _rounded, operations, round_to

FLOAT = {np.float32: (24, -126, 127), np.float64: (53, -1022, 1023)}


# fma


def floats(dtype):
    return st.floats(width=32 if dtype == np.float32 else 64)


@cache
def scalar_fma():
    fma = simd.fma

    @njit
    def call(a, b, c):
        return fma(a, b, c)

    return call


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_fma_is_rounded_once(dtype, data):
    a, b = data.draw(floats(dtype)), data.draw(floats(dtype))
    with np.errstate(all="ignore"):
        cancelling = float(dtype(-a) * dtype(b))
    c = data.draw(st.one_of(floats(dtype), st.just(cancelling)))
    check_fma(dtype, a, b, c)


def check_fma(dtype, a, b, c):
    truth = np.array([naive.fma_exact(a, b, c, *FLOAT[dtype])], dtype)
    a, b, c = dtype(a), dtype(b), dtype(c)
    assert_same_bits(np.array([numpy_arrays.fma(a, b, c)], dtype), truth)
    assert_same_bits(np.array([scalar_fma()(a, b, c)], dtype), truth)


@example(a=-5e-324, b=0.5, c=0.0)
@example(a=5e-324, b=5e-324, c=-0.0)
@example(a=1e308, b=10.0, c=-math.inf)
@example(a=1e200, b=1e200, c=-1e308)
@example(a=-0.0, b=3.0, c=-0.0)
@example(a=0.0, b=math.inf, c=1.0)
@given(a=st.floats(), b=st.floats(), c=st.floats())
@settings(max_examples=300, deadline=None)
def test_fma_in_difficult_places(a, b, c):
    check_fma(np.float64, a, b, c)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_executions_of_fma_agree(dtype):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 50_000)).astype(dtype)
    c = (-a * b * rng.choice([1.0, 1.0 + 2.0**-20, 1e-8, 1e8], a.size)).astype(dtype)
    assert_same_bits(numpy_arrays.fma(a, b, c), compiled(simd.fma, 3)(a, b, c))


@pytest.mark.parametrize("momentum", slow_after(2, [1e-40, 0.9, 0.3, 0.5, 0.999, 1 - 2.0**-24]))
def test_decay_is_fma(momentum):
    decay, fma = compiled(error_free.decay(simd), 3), compiled(simd.fma, 3)
    rng = np.random.default_rng(1)
    # every subnormal, what lies above, and numbers of every size, with c = 0 and without
    v = np.arange(0x00800100, dtype=np.uint32).view(np.float32)
    v = np.concatenate([v, rng.integers(0, 2**32, 1 << 20, np.uint32).view(np.float32)])
    with np.errstate(all="ignore"):
        v = np.concatenate([v, -v, SPECIAL.astype(np.float32)])
    for piece in np.array_split(v, 16):
        m = np.full_like(piece, momentum)
        c = rng.integers(0, 2**32, piece.size, np.uint32).view(np.float32)
        with np.errstate(all="ignore"):
            others = (0 * m, -0.0 * m, c, c * np.float32(2.0**-100), -m * piece)
        for c in others:
            assert_same_bits(decay(m, piece, c), fma(m, piece, c))


# rounding to p bits


def spread(count, seed=0):
    """Float64 numbers over and beyond float32's range, many of them near ties of every p."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(1.0, 2.0, count) * 2.0 ** rng.integers(-155, 131, count)
    keep = rng.integers(1, 30, count)
    short = np.rint(x / 2.0 ** (np.frexp(x)[1] - keep)) * 2.0 ** (np.frexp(x)[1] - keep)
    x = np.where(rng.random(count) < 0.5, short, x)
    x = np.where(rng.random(count) < 0.3, np.nextafter(x, rng.choice([0.0, np.inf], count)), x)
    return np.concatenate([SPECIAL, x * rng.choice([-1.0, 1.0], count)])


@pytest.mark.parametrize("rounding", ["nearest", "toward-zero"])
@pytest.mark.parametrize("p", [2, 3, 8, 11, 17, 24])
def test_rounding_against_fractions(p, rounding):
    x = spread(4000)
    y = round_to(numpy_arrays, p, rounding)(x)
    for value, result in zip(x.tolist(), y.tolist(), strict=True):
        truth = value
        if math.isfinite(value) and value != 0:
            truth = naive.round_fraction(Fraction(value), p, rounding)
        assert result == truth or (math.isnan(result) and math.isnan(truth)), value.hex()
        assert math.isnan(result) or math.copysign(1.0, result) == math.copysign(1.0, value)
    assert_same_bits(y, compiled(round_to(simd, p, rounding))(x))


def test_24_bits_are_float32():
    x = spread(200_000)
    x = np.concatenate([x, (np.arange(-64, 64) / 8) * 2.0**-149])
    edge = (2.0 - 2.0**-24) * 2.0**127  # the middle between the greatest float32 and 2**128
    x = np.concatenate([x, [edge, np.nextafter(edge, 0.0), np.nextafter(edge, np.inf)]])
    with np.errstate(all="ignore"):
        expected = x.astype(np.float32).astype(np.float64)
    assert_same_bits(round_to(numpy_arrays, 24, "nearest")(x), expected)


def test_8_bits_are_bfloat16():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2**32, 1_000_000, dtype=np.uint64).astype(np.uint32)
    x[: 2**17] = np.arange(2**17, dtype=np.uint32) << 15  # every bfloat16 and every tie
    x = x.view(np.float32)
    with np.errstate(all="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert_same_bits(round_to(numpy_arrays, 8, "nearest")(numpy_arrays.widen(x)), expected)


def test_11_bits_are_float16_in_its_normal_range():
    rng = np.random.default_rng(6)
    x = rng.uniform(1.0, 2.0, 200_000) * 2.0 ** rng.integers(-14, 15, 200_000)
    x[::2] = np.rint(x[::2] * 2.0**12 / 2.0 ** np.frexp(x[::2])[1]) * 2.0 ** (
        np.frexp(x[::2])[1] - 12.0
    )
    expected = x.astype(np.float16).astype(np.float64)
    assert_same_bits(round_to(numpy_arrays, 11, "nearest")(x), expected)


@pytest.mark.parametrize("p", [2, 8, 24])
def test_stochastic_rounding_is_unbiased_and_keeps_exact_values(p):
    rounded = round_to(numpy_arrays, p, "stochastic")
    rng = np.random.default_rng(8)
    x = spread(300)
    x = x[np.abs(x) < 2.0**127]
    n = 4000
    u = rng.integers(0, 2**64, (x.size, n), dtype=np.uint64)
    y = rounded(x[:, None], u)
    low = round_to(numpy_arrays, p, "toward-zero")(x)
    size = np.abs(x)
    moved = np.abs(y) != np.abs(low)[:, None]
    exact = size == np.abs(low)
    assert not moved[exact].any()
    # the quantum from the definition, and the number of times up within 4.5 standard deviations
    exponent = np.maximum(np.frexp(size)[1] - 1, -126)
    q = 2.0 ** (exponent + 1.0 - p)
    np.testing.assert_array_equal(np.abs(y)[moved], (np.abs(low) + q)[np.nonzero(moved)[0]])
    fraction = (size - np.abs(low)) / q
    deviation = moved.sum(axis=1) - n * fraction
    assert (np.abs(deviation) <= 4.5 * np.sqrt(n * fraction * (1 - fraction)) + 1).all()
    variance = (n * fraction * (1 - fraction)).sum()
    assert abs(deviation.sum()) <= 4 * np.sqrt(variance)
    both = np.repeat(x, 5), u[:, :5].ravel()
    assert_same_bits(rounded(*both), compiled(round_to(simd, p, "stochastic"), 2)(*both))


def test_stochastic_rounding_counts_words_exactly():
    """Of 64 equally spaced words, exactly the discarded fraction rounds up."""
    rounded = round_to(numpy_arrays, 3, "stochastic")
    for eighths in range(8):
        x = 1.0 + eighths / 32  # a quantum is 1/4
        u = np.arange(64, dtype=np.uint64) << np.uint64(58)
        assert (rounded(np.float64(x), u) > 1.0).sum() == 8 * eighths
    assert rounded(np.float64(-1.125), np.uint64(0)) == -1.25
    assert rounded(np.float64(2.0**128), np.uint64(2**64 - 1)) == math.inf
    assert rounded(np.float64(-math.inf), np.uint64(2**64 - 1)) == -math.inf


# operations


def operands(p, count=3000):
    """Three arrays of p-bit numbers whose sums, products and quotients meet hard cases."""
    rng = np.random.default_rng(p)
    x = rng.uniform(1.0, 2.0, (3, count)) * 2.0 ** rng.integers(-12, 13, (3, count))
    x *= rng.choice([-1.0, 1.0], x.shape)
    wild = rng.random(count) < 0.4
    x[:, wild] *= 2.0 ** rng.integers(-130, 116, (3, wild.sum()))
    close = rng.random(count) < 0.3
    x[2, close] = -x[0, close] * x[1, close]
    x = np.concatenate([x, rng.choice(SPECIAL, (3, 400))], axis=1)
    return [numpy_arrays.narrow(row) for row in round_to(numpy_arrays, p, "nearest")(x)]


def exact_results(a, b, c):
    """The exact operations on finite float numbers; None where the result is no fraction."""
    a, b, c = Fraction(a), Fraction(b), Fraction(c)
    return {
        "add": a + b,
        "sub": a - b,
        "mul": a * b,
        "div": a / b if b else None,
        "sqrt": naive.sqrt_fraction(a) if a > 0 else None,
        "fma": a * b + c,
    }


# with operations that say where to round, on a processor that has them, and without
WAYS = [fast_operations] + simd.DIRECTED * [directed_operations]


def vector_operations(precision, rounding, fma, way):
    if way is None:
        return operations(simd, precision, rounding, fma)
    p = significand_bits(precision)
    plain = _rounded(simd, p, rounding, fma)
    return replace(plain, emulated=False, **way(simd, p, rounding, plain))


@cache
def all_operations(precision, rounding, fma, way=None):
    ops = vector_operations(precision, rounding, fma, way)
    add, sub, mul, div = ops.add, ops.sub, ops.mul, ops.div
    sqrt, fma, exp = ops.sqrt, ops.fma, ops.exp
    load, store = memory.load, memory.store

    @njit(error_model="numpy")
    def kernel(lanes, out, x, y, z):
        for i in range(0, x.size, len(lanes)):
            a, b, c = load(x, i, lanes), load(y, i, lanes), load(z, i, lanes)
            store(out[0], i, add(a, b))
            store(out[1], i, sub(a, b))
            store(out[2], i, mul(a, b))
            store(out[3], i, div(a, b))
            store(out[4], i, sqrt(a))
            store(out[5], i, fma(a, b, c))
            store(out[6], i, exp(a))

    def apply(a, b, c):
        size = a.size // len(LANES) * len(LANES)
        out = np.empty((7, size), a.dtype)
        kernel(LANES, out, a[:size], b[:size], c[:size])
        return out

    return apply


@np.errstate(all="ignore")
def plain_operations(precision, rounding, fma, a, b, c):
    ops = operations(numpy_arrays, precision, rounding, fma)
    results = [ops.add(a, b), ops.sub(a, b), ops.mul(a, b), ops.div(a, b)]
    return np.array([*results, ops.sqrt(a), ops.fma(a, b, c), ops.exp(a)])


@pytest.mark.parametrize("rounding", ["nearest", "toward-zero"])
@pytest.mark.parametrize("p", slow_after(2, [8, 24, 2, 11]))
def test_operations_round_once(p, rounding):
    precision = f"bits:{p}"
    a, b, c = operands(p)
    plain = plain_operations(precision, rounding, True, a, b, c)
    names = ["add", "sub", "mul", "div", "sqrt", "fma"]
    for i, values in enumerate(zip(a.tolist(), b.tolist(), c.tolist(), strict=True)):
        if not all(map(math.isfinite, values)):
            continue
        for row, (name, exact) in enumerate(exact_results(*values).items()):
            assert name == names[row]
            if exact is not None:
                truth = naive.round_fraction(exact, p, rounding)
                assert plain[row, i] == truth, (name, values, float(plain[row, i]), truth)
    if p in (8, 24):
        fast = all_operations(precision, rounding, True)(a, b, c)
        assert_same_bits(fast, plain[:, : fast.shape[1]].copy())


def near_ties(p, count=40_000, at_ends=0.6, far=126):
    """Three arrays of p-bit numbers with a*b + c at or near the middle between two p-bit numbers.

    Of sizes up to 2**far, and that part of them `at_ends`, where float32 under- or overflows.
    """
    rng = np.random.default_rng(100 + p)
    bits = rng.integers(1, p + 1, (3, count))
    a, b, c = rng.integers(1 << (bits - 1), 1 << bits).astype(np.float64)
    tie = a * b / 2.0 ** (np.frexp(a * b)[1] - p)  # where it ends in 1/2
    tie = np.flatnonzero(tie % 1.0 == 0.5)
    product = rng.random(count) < 0.5
    if tie.size:
        a, b = (np.where(product, x[rng.choice(tie, count)], x) for x in (a, b))
    # c far below, or where it reaches the last bits, or the tie less the product
    c *= 2.0 ** rng.choice([*range(-40, 41), -100, -150, -200], count)
    quantum = 2.0 ** (np.frexp(a * b)[1] - p + rng.integers(-2, 3, count))
    middle = (np.floor(a * b / quantum) + rng.choice([-2.5, -0.5, 0.5, 1.5], count)) * quantum
    c = np.where(rng.random(count) < 0.3, middle - a * b, c)
    c[rng.random(count) < 0.1] = 0.0
    # all three by 2**(i + j): at the ends of the range, or anywhere
    ends = np.concatenate([np.arange(-170, -90), np.arange(90, 130)])
    size = np.where(
        rng.random(count) < at_ends, rng.choice(ends, count), rng.integers(-far, far + 2, count)
    )
    i = size // 2 + rng.integers(-40, 41, count)
    signs = rng.choice([-1.0, 1.0], (3, count))
    x = signs * [a * 2.0**i, b * 2.0 ** (size - i), c * 2.0**size]
    return [numpy_arrays.narrow(row) for row in round_to(numpy_arrays, p, "nearest")(x)]


BITS = [(p, "nearest") for p in (2, 3, 5, 8, 9, 11, 12, 16, 18, 19, 21, 23)]
BITS += [(p, "toward-zero") for p in (2, 8, 9, 18, 23, 24)]
# the last p of each way in which operations are carried out
SOME = [(p, "nearest") for p in (8, 11, 18, 23)] + [(24, "toward-zero")]


@pytest.mark.parametrize(
    ("p", "rounding", "fma"),
    slow_unless(
        lambda p, rounding, fma: fma and (p, rounding) in SOME,
        [(p, rounding, fma) for p, rounding in BITS for fma in (True, False)],
    ),
)
def test_fast_operations_change_no_bit(p, rounding, fma):
    # without an end in a vector, too: with one, all of it goes the slow way
    middle = near_ties(p, at_ends=0.0, far=40)
    for a, b, c in (operands(p, 20_000), near_ties(p), middle):
        for x, y, z in ((a, b, c), (c, a, b)):
            expected = plain_operations(f"bits:{p}", rounding, fma, x, y, z)
            for way in WAYS:
                fast = all_operations(f"bits:{p}", rounding, fma, way)(x, y, z)
                assert_same_bits(fast, expected[:, : fast.shape[1]].copy())


@pytest.mark.parametrize(
    ("p", "rounding"),
    [(8, "nearest"), (20, "nearest"), (23, "nearest"), (8, "toward-zero"), (24, "toward-zero")],
)
def test_fast_operations_at_the_ends_of_the_range_one_by_one(p, rounding):
    """Each in a vector of its own, where no neighbour sends it the slow way."""
    one, least, great = 1.0, 2.0**-149, (2.0 - 2.0 ** (1 - p)) * 2.0**127
    ends = [0.0, -0.0, one, -one, 3.0, -3.0, least, -least, 2.0**-126, -(2.0**-126)]
    ends += [2.0**-75, -(2.0**-75), 2.0**75, great, -great, math.inf, -math.inf, math.nan]
    ends = round_to(numpy_arrays, p, "toward-zero")(np.array(ends))
    triples = np.stack(np.meshgrid(ends, ends, ends), axis=-1).reshape(-1, 3)
    a, b, c = (numpy_arrays.narrow(x.repeat(8)) for x in triples.T)
    expected = plain_operations(f"bits:{p}", rounding, True, a, b, c)
    for way in WAYS:
        assert_same_bits(all_operations(f"bits:{p}", rounding, True, way)(a, b, c), expected)


def test_short_products_and_ties_one_by_one():
    """All products of two 8-bit significands, plus a c that is next to nothing, or just below."""
    m, n = (x.ravel() for x in np.meshgrid(np.arange(128.0, 256.0), np.arange(128.0, 256.0)))
    for size in (-150, -149, -148, -142, -141, -134, -126, -40, 0, 60, 111, 112):
        for c in (0.0, -0.0, 2.0**-133, -(2.0**-133), 2.0 ** (size + 7), -(2.0 ** (size + 7))):
            a, b = (
                numpy_arrays.narrow(m * 2.0**-7),
                round_to(numpy_arrays, 8, "nearest"),
            )
            operands = (a, numpy_arrays.narrow(b(n * 2.0 ** (size + 7))), np.full_like(a, c))
            expected = operations(numpy_arrays, "bits:8", "nearest", True).fma(*operands)
            for way in WAYS:
                fast = all_operations("bits:8", "nearest", True, way)(*operands)[5]
                assert_same_bits(fast, expected)


@pytest.mark.parametrize(
    ("p", "a", "b", "c"),
    [
        (9, 257.0, 510.0 * 2.0**-26, 1.0 + 2.0**-8),
        (12, 1.0, 2.0**-12 - 2.0**-24, 1.0 + 2.0**-11),
    ],
)
def test_a_fast_operation_goes_no_further_than_it_is_right(p, a, b, c):
    """The first precision with an inexact tie that goes unnoticed: 9 bits in fma, 12 in a sum."""
    x, y, z = (np.full(8, value, np.float32) for value in (a, b, c))
    for way in WAYS:
        fast = all_operations(f"bits:{p}", "nearest", True, way)
        assert (fast(x, y, z)[5] == np.float32(c)).all()
        if a == 1.0:
            assert (fast(y, z, x)[0] == np.float32(c)).all()


def test_a_nan_stays_one_whatever_its_bits():
    """A fast operation adds to the last bits, which are 0 in a NaN of the precision."""
    strange = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00001], np.uint32).view(np.float32)
    for p in (2, 8, 23):
        number = operations(simd, f"bits:{p}", "nearest", True).const(strange)
        x = np.resize(number, 24)
        for way in WAYS:
            for rounding in ("nearest", "toward-zero"):
                fast = all_operations(f"bits:{p}", rounding, True, way)
                assert np.isnan(fast(x, x, x)).all()


MIXED = [("float32", r, None) for r in ("nearest", "stochastic")]
MIXED += [(f"bits:{p}", "stochastic", None) for p in (8, 16, 20)]
MIXED += [
    (f"bits:{p}", r, w) for p in (8, 16, 20) for r in ("nearest", "toward-zero") for w in WAYS
]
MIXED += [("float32", "toward-zero", w) for w in WAYS]


@pytest.mark.parametrize(
    ("precision", "rounding", "way"),
    slow_unless(lambda precision, rounding, way: precision in ("float32", "bits:8"), MIXED),
)
def test_an_operand_may_be_one_number(precision, rounding, way):
    """As the momentum is, or a rate: what it gives beside vectors is what a vector of it gives."""
    ops = vector_operations(precision, rounding, True, way)
    add, sub, mul, div, fma, decay = ops.add, ops.sub, ops.mul, ops.div, ops.fma, ops.decay
    load, store = memory.load, memory.store

    @njit(error_model="numpy")
    def kernel(lanes, out, x, y, n, m, momentum, t):
        for i in range(0, x.size, len(lanes)):
            a, b = load(x, i, lanes), load(y, i, lanes)
            store(out[0], i, add(a, n, t))
            store(out[1], i, add(n, a, t))
            store(out[2], i, sub(a, n, t))
            store(out[3], i, sub(n, a, t))
            store(out[4], i, mul(a, n, t))
            store(out[5], i, mul(n, a, t))
            store(out[6], i, div(a, n, t))
            store(out[7], i, div(n, a, t))
            store(out[8], i, fma(n, a, b, t))
            store(out[9], i, fma(a, n, b, t))
            store(out[10], i, fma(a, b, n, t))
            store(out[11], i, fma(n, a, m, t))
            store(out[12], i, decay(momentum, a, b, t))

    a, b, c = (x[: len(x) // 64 * 64] for x in operands(significand_bits(precision), 512))
    plain = operations(numpy_arrays, precision, rounding, True)
    t = (np.uint64(3), np.uint64(5), np.uint64(7))
    number, between = type(a[0]), plain.const(0.875)
    with np.errstate(all="ignore"):
        for n, m in [(c[0], c[1]), (number(0.0), number(1.0)), (number(math.inf), number(-0.0))]:
            out = np.empty((13, a.size), a.dtype)
            kernel(LANES, out, a, b, n, m, between, t)
            N, M = np.full_like(a, n), np.full_like(a, m)
            expected = [plain.add(a, N, t), plain.add(N, a, t), plain.sub(a, N, t)]
            expected += [plain.sub(N, a, t), plain.mul(a, N, t), plain.mul(N, a, t)]
            expected += [plain.div(a, N, t), plain.div(N, a, t), plain.fma(N, a, b, t)]
            expected += [plain.fma(a, N, b, t), plain.fma(a, b, N, t), plain.fma(N, a, M, t)]
            assert_same_bits(out, np.array([*expected, plain.decay(between, a, b, t)]))


@pytest.mark.parametrize("fma", [True, False])
def test_24_bits_nearest_compute_as_float32(fma):
    a, b, c = operands(24, 100_000)
    expected = plain_operations("float32", "nearest", fma, a, b, c)
    assert_same_bits(plain_operations("bits:24", "nearest", fma, a, b, c), expected)
    fast = all_operations("float32", "nearest", fma)(a, b, c)
    assert_same_bits(fast, expected[:, : fast.shape[1]].copy())


def test_float64_operations_agree():
    a, b, c = (x.astype(np.float64) * 1.1 for x in operands(24))
    fast = all_operations("float64", "nearest", True)(a, b, c)
    plain = plain_operations("float64", "nearest", True, a, b, c)
    assert_same_bits(fast, plain[:, : fast.shape[1]].copy())


def test_without_fma_the_product_is_rounded_first():
    for precision in ("bits:8", "float32", "float64"):
        ops = operations(numpy_arrays, precision, "nearest", False)
        a, b, c = ops.const(1.1), ops.const(1.7), ops.const(-1.9)
        assert ops.fma(a, b, c) == ops.add(ops.mul(a, b), c)
        assert ops.fma(a, b, c) != operations(numpy_arrays, precision, "nearest", True).fma(a, b, c)


def test_constants_are_the_nearest_number():
    for p in (2, 8, 24):
        const = operations(numpy_arrays, f"bits:{p}", "toward-zero", True).const
        for value in [0.1, -0.1, 1.0, 0.0, 1e-40, 3e-42, 1 / 3, 448.0, 1.25, 1.75]:
            assert float(const(value)) == naive.round_fraction(Fraction(value), p, "nearest")
            assert isinstance(const(value), np.float32)
    assert operations(numpy_arrays, "float64", "nearest", True).const(0.1) == 0.1


@pytest.mark.parametrize(
    ("precision", "rounding"),
    [
        ("float64", "toward-zero"),
        ("float16", "nearest"),
        ("bits:1", "nearest"),
        ("bits:25", "nearest"),
        ("bits:x", "nearest"),
        ("float32", "up"),
    ],
)
def test_unknown_precisions_and_roundings_are_named(precision, rounding):
    with pytest.raises(ValueError, match="expected|float64"):
        operations(numpy_arrays, precision, rounding, True)
