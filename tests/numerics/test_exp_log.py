"""exp and log against mpmath; they and sums, both executions of them against each other."""

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache

import mpmath
import numpy as np
import pytest
from numba import njit
from oracles import naive
from support.kernels import LANES, SPECIAL, assert_same_bits, compiled

from nanorepro.backends import reference
from nanorepro.backends.numba import backend as numba_backend
from nanorepro.backends.numba.llvm import memory, simd
from nanorepro.numerics import exp_log, numpy_arrays
from nanorepro.numerics.exp_by_table import exp_by_table


@cache
def sweeper(name):
    """A kernel over the float32 patterns [start, stop): which results are not certainly right."""
    function = getattr(exp_log, name)(simd, np.float32)
    load, store, narrow = memory.load, memory.store, simd.narrow
    bits, from_bits = simd.bits, simd.from_bits
    reference = {"exp": math.exp, "log": math.log}[name]
    two, block = np.uint64(2), 4096

    @njit(error_model="numpy")
    def rounded(x):
        """libm's result as a float32, and whether it is certainly the right one."""
        r, certain = reference(np.float64(x)), True
        if 2.0**-1000 < abs(r) < np.inf:
            certain = narrow(from_bits(bits(r) - two)) == narrow(from_bits(bits(r) + two))
        return narrow(r), certain

    @njit(nogil=True, error_model="numpy")
    def sweep(start, stop, lanes, suspects):
        """Fill `suspects` with the patterns whose result is not libm's float64 result rounded.

        Or where the two float64 numbers two steps from libm's round to different float32 numbers.
        A block at whose ends libm gives one float32 number, and surely, has it throughout, as exp
        and log are monotonic; most of exp's are 0, 1 or infinite, and half of log's are NaN.
        """
        found = 0
        x, y = np.empty(block, np.float32), np.empty(block, np.float32)
        for base in range(start, stop, block):
            for i in range(block):
                x[i] = from_bits(np.uint32(base + i))
            for i in range(0, block, len(lanes)):
                store(y, i, function(load(x, i, lanes)))
            low, certain = rounded(x[0])
            high, surely = rounded(x[block - 1])
            constant = (
                certain and surely and (bits(low) == bits(high) or low != low and high != high)
            )
            truth = low
            for i in range(block):
                if not constant:
                    truth, certain = rounded(x[i])
                same = bits(y[i]) == bits(truth) or (truth != truth and y[i] != y[i])
                if not (certain and same):
                    if found < suspects.size:
                        suspects[found] = base + i
                    found += 1
        return found

    return sweep


@pytest.mark.slow  # all 2^32 inputs
@pytest.mark.parametrize("name", ["exp", "log"])
def test_every_float32_result_is_correctly_rounded(name):
    sweep, parts = sweeper(name), 64
    step = 2**32 // parts
    sweep(0, 4096, LANES, np.empty(1, np.int64))  # compiled before the threads start

    def part(number):
        suspects = np.empty(10_000, np.int64)
        found = sweep(number * step, (number + 1) * step, LANES, suspects)
        assert found <= suspects.size, f"{found} results differ from libm's from {number * step:#x}"
        return suspects[:found]

    with ThreadPoolExecutor(2) as pool:
        suspects = np.concatenate(list(pool.map(part, range(parts))))
    x = suspects.astype(np.uint32).view(np.float32)
    y = compiled(getattr(exp_log, name)(simd, np.float32))(x)
    print(f"{name}: {x.size} of 2**32 inputs checked by mpmath")
    assert x.size > 0
    with mpmath.workdps(50):
        for argument, result in zip(x.tolist(), y.tolist(), strict=True):
            exact = getattr(mpmath, name)(mpmath.mpf(argument))
            truth = naive.round_fraction(Fraction(*exact.as_integer_ratio()), 24, "nearest")
            assert result == truth, (argument.hex(), result.hex(), truth.hex())


# the faster formulas of exp in float32 that this machine can carry out
FASTER = [exp_log.quick_exp, exp_by_table] if simd.TABLES else [exp_log.quick_exp]


@pytest.mark.parametrize("way", FASTER)
def test_faster_formulas_give_the_bits_of_exp(way):
    rng = np.random.default_rng(3)
    with np.errstate(over="ignore"):
        x = [SPECIAL, draw_arguments("exp", 20_000), rng.normal(0.0, 4.0, 100_000)]
        x = np.concatenate([*x, 2.0 ** rng.uniform(-40.0, 0.0, 20_000)]).astype(np.float32)
    plain = compiled(exp_log.exp(simd, np.float32))(x)
    assert_same_bits(plain, compiled(way(simd))(x))


@pytest.mark.slow  # all 2^32 inputs
@pytest.mark.parametrize("way", FASTER)
def test_faster_formulas_give_the_bits_of_exp_for_every_float32(way):
    plain, quick = exp_log.exp(simd, np.float32), way(simd)
    load, store, bits, from_bits = memory.load, memory.store, simd.bits, simd.from_bits
    block, parts = 4096, 64

    @njit(nogil=True, error_model="numpy")
    def differing(start, stop, lanes):
        found = 0
        x, y = np.empty(block, np.float32), np.empty(block, np.float32)
        z = np.empty(block, np.float32)
        for base in range(start, stop, block):
            for i in range(block):
                x[i] = from_bits(np.uint32(base + i))
            for i in range(0, block, len(lanes)):
                store(y, i, plain(load(x, i, lanes)))
                store(z, i, quick(load(x, i, lanes)))
            for i in range(block):
                found += bits(y[i]) != bits(z[i]) and (y[i] == y[i] or z[i] == z[i])
        return found

    step = 2**32 // parts
    differing(0, block, LANES)  # compiled before the threads start
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda k: differing(k * step, (k + 1) * step, LANES), range(parts))
        assert sum(found) == 0


def test_log_where_float64_is_halfway():
    """The five inputs for which float64's nearest log rounds to the wrong float32."""
    x = np.array([0x3C413D3A, 0x41178FEB, 0x4C5D65A5, 0x65D890D3, 0x6F31A8EC], np.uint32)
    x = x.view(np.float32)
    y = exp_log.log(numpy_arrays, np.float32)(x)
    with mpmath.workdps(50):
        for argument, result in zip(x.tolist(), y.tolist(), strict=True):
            exact = Fraction(*mpmath.log(mpmath.mpf(argument)).as_integer_ratio())
            assert result == naive.round_fraction(exact, 24, "nearest")


def draw_arguments(name, count):
    rng = np.random.default_rng(7)
    near = rng.uniform(-2.0, 2.0, count // 2)
    if name == "exp":
        return np.concatenate([near, rng.uniform(-708.0, 709.7, count - near.size)])
    return np.exp(np.concatenate([near, rng.uniform(-744.0, 709.7, count - near.size)]))


@pytest.mark.parametrize(("name", "bound"), [("exp", 0.59), ("log", 0.55)])
def test_float64_error(name, bound):
    x = draw_arguments(name, 100_000)
    y = compiled(getattr(exp_log, name)(simd, np.float64))(x)
    exact = getattr(mpmath, name)
    with mpmath.workprec(120):
        steps = np.spacing(np.abs(y)).tolist()
        worst = max(
            float(abs(exact(mpmath.mpf(a)) - b)) / step
            for a, b, step in zip(x.tolist(), y.tolist(), steps, strict=True)
        )
    print(f"{name}: worst error {worst:.4f} ulp")
    assert worst < bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["exp", "log"])
def test_both_executions_of_exp_and_log_agree(name, dtype):
    with np.errstate(over="ignore"):
        x = np.concatenate([SPECIAL, draw_arguments(name, 20_000)]).astype(dtype)
    function = getattr(exp_log, name)
    plain = function(numpy_arrays, dtype)(x)
    assert_same_bits(plain, compiled(function(simd, dtype))(x))
    scalar = njit(function(simd, dtype), error_model="numpy")
    assert_same_bits(plain[:200], np.array([scalar(value) for value in x[:200]], dtype))
    one = function(numpy_arrays, dtype)(dtype(0.5))
    assert isinstance(one, dtype)


@pytest.mark.parametrize("name", ["exp", "log"])
def test_both_backends_on_arrays_of_any_length_agree(name):
    with np.errstate(over="ignore"):
        x = np.concatenate([SPECIAL, draw_arguments(name, 20_000)]).astype(np.float64)
    plain, fast = getattr(reference, name), getattr(numba_backend, name)
    for n in (0, 1, 15, 16, 17, len(x)):
        assert_same_bits(plain(x[:n]), fast(x[:n]))
    assert_same_bits(plain(x[:6].reshape(2, 3)), fast(x[:6].reshape(2, 3)))


def test_special_values_of_exp_and_log():
    exp, log = exp_log.exp(numpy_arrays, np.float64), exp_log.log(numpy_arrays, np.float64)
    inf, nan = math.inf, math.nan
    np.testing.assert_array_equal(
        exp(np.array([0.0, -0.0, inf, -inf, nan, 710.0, -746.0])), [1, 1, inf, 0, nan, inf, 0]
    )
    np.testing.assert_array_equal(
        log(np.array([0.0, -0.0, inf, -inf, nan, -5e-324, 1.0])),
        [-inf, -inf, inf, nan, nan, nan, 0],
    )
    assert not np.signbit(log(np.float64(1.0)))
    assert log(np.float64(5e-324)) == math.log(5e-324)


def sums_to_try(rng):
    """Sums of like numbers, of numbers that cancel, of all exponents, of what is no number."""
    for n in (0, 1, 2, 15, 16, 17, 2072):
        yield rng.random(n)
        x = rng.standard_normal(n) * 2.0 ** rng.integers(-60, 60, n)
        yield np.concatenate([x, -x, 2.0**-70 * rng.standard_normal(n)])[rng.permutation(3 * n)]
        yield rng.standard_normal(n) * 2.0 ** rng.integers(-1074, 900, n)
        yield rng.integers(-9, 9, n) * 2.0**-1074
        yield np.full(n, -0.0)
    # half-way between two numbers, and just beside
    yield np.array([1.0, 2.0**-53])
    yield np.array([1.0 + 2.0**-52, 2.0**-53])
    yield np.array([1.0, 2.0**-53, 2.0**-1074])
    yield np.array([1.0, 2.0**-53, -(2.0**-1074)])
    yield np.array([1e100, 1.0, -1e100, 1.0])
    for special in ([np.inf, 1.0], [-np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf]):
        yield np.array(special)


def test_exactly_rounded_sums_of_both_executions():
    rng = np.random.default_rng(5)
    for x in sums_to_try(rng):
        expected, found = reference.fsum(x), numba_backend.fsum(x)
        assert isinstance(found, float)
        assert found == expected or (math.isnan(found) and math.isnan(expected)), x[:5]
        assert found != 0.0 or math.copysign(1.0, found) == 1.0
    assert math.isnan(reference.fsum(np.array([np.inf, -np.inf])))
