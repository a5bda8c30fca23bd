"""How two tensors differ, against plain NumPy on the whole arrays, in every format."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanorepro.analysis import tensor_pair
from nanorepro.analysis.difference import measure
from nanorepro.data.tensors.arrays import tensors_of
from nanorepro.data.tensors.record import FORMATS
from nanorepro.data.tensors.values import values_of
from nanorepro.errors import ConfigError
from nanorepro.numerics.ulp import ulps


def found(a, b, axes=None):
    one, other = (tensors_of({"w": x}, "x").tensors["w"] for x in (a, b))
    return measure(one, other if axes is None else other.permuted(axes))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("apart", [0.0, 1e-7, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("n", [1, 2, 999, tensor_pair.BLOCK + 7, 3 * tensor_pair.BLOCK])
def test_against_plain_numpy(kind, apart, n):
    a = rng().normal(size=n).astype(kind)
    b = (a + apart * rng(1).normal(size=n)).astype(kind)
    d = found(a, b)
    steps = np.sort(ulps(a, b).astype(object))
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert d.unequal == np.count_nonzero(a != b) and d.equal == (d.unequal == 0)
    assert d.largest_ulp == float(steps[-1]) and d.median_ulp == float(steps[(n - 1) // 2])
    assert d.largest_difference == np.abs(x - y).max()
    close = {"rel": 1e-12, "abs": 1e-300}
    assert d.relative_distance == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(x), **close)
    cosine = math.fsum(x * y) / np.linalg.norm(x) / np.linalg.norm(y)
    assert d.cosine == pytest.approx(cosine, abs=1e-12)


@given(
    st.sampled_from([16, 32, 64]).flatmap(
        lambda w: st.tuples(
            st.just(w),
            st.lists(st.tuples(*[st.integers(0, 2**w - 1)] * 2), min_size=1, max_size=9),
        )
    )
)
def test_any_bits(drawn):
    width, rows = drawn
    bits = np.array(rows, f"u{width // 8}").T
    a, b = (row.copy().view(f"f{width // 8}") for row in bits)
    d = found(a, b)
    steps = sorted(map(int, ulps(a, b)))
    real = [math.inf if s == np.iinfo(bits.dtype).max else float(s) for s in steps]
    both_nan = np.isnan(a) & np.isnan(b)
    assert d.unequal == np.count_nonzero((bits[0] != bits[1]) & ~both_nan)
    assert (d.largest_ulp, d.median_ulp) == (real[-1], real[(len(real) - 1) // 2])
    assert d.nan_in_one == np.count_nonzero(np.isnan(a) ^ np.isnan(b))
    assert d.not_finite == np.count_nonzero(~(np.isfinite(a) & np.isfinite(b)))
    assert d.zero_signs == np.count_nonzero((a == 0) & (b == 0) & (bits[0] != bits[1]))
    assert d.norm_a >= 0.0 and d.distance >= 0.0 and not math.isnan(d.relative_distance)
    if d.norm_a and d.norm_b and math.isfinite(d.norm_a + d.norm_b):
        assert 0.0 <= d.angle <= math.pi


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e300])
def test_squares_that_overflow_or_vanish(scale):
    a, b = np.array([3.0, 4.0]) * scale, np.array([3.0, 0.0]) * scale
    d = found(a, b)
    assert d.norm_a == pytest.approx(5.0 * scale, rel=1e-3)
    assert d.relative_distance == pytest.approx(0.8, rel=1e-3)
    assert d.cosine == pytest.approx(0.6, rel=1e-3)


def test_a_small_angle_is_not_lost():
    a = rng().normal(size=1000)
    across = rng(1).normal(size=1000)
    across -= a * (a @ across) / (a @ a)
    across *= 1e-11 * np.linalg.norm(a) / np.linalg.norm(across)
    assert found(a, a + across).angle == pytest.approx(1e-11, rel=1e-3)
    assert found(a, 2.0 * a).angle < 1e-7


def test_special_numbers():
    d = found(np.float32([0.0, np.nan, 1.0, np.inf]), np.float32([-0.0, -np.nan, np.nan, np.inf]))
    assert (d.unequal, d.zero_signs, d.nan_in_one, d.not_finite) == (2, 1, 1, 3)
    assert d.largest_ulp == math.inf and d.first_unequal == (0,)
    assert not found(np.float32([0.0]), np.float32([-0.0])).equal
    assert found(np.float32([np.nan]), np.float32([-np.nan])).equal


def test_empty_and_scalar():
    assert found(np.zeros((0, 3), "f4"), np.zeros((0, 3), "f4")).equal
    d = found(np.float32(1.0), np.nextafter(np.float32(1.0), np.float32(2.0)))
    assert (d.shape, d.first_unequal, d.largest_ulp) == ((), (), 1.0)


def test_zero_against_something():
    d = found(np.zeros(3), np.ones(3))
    assert d.relative_distance == math.inf and math.isnan(d.cosine)
    assert found(np.zeros(3), np.zeros(3)).relative_distance == 0.0


@pytest.mark.parametrize("kind", ["i1", "u1", "i8", "u8", "?"])
def test_integers_are_compared_exactly(kind):
    ends = (0, 1) if kind == "?" else (np.iinfo(kind).min, np.iinfo(kind).max)
    a, b = np.array([ends[0], 1], kind), np.array([ends[1], 1], kind)
    d = found(a, b)
    assert d.largest_ulp == float(int(ends[1]) - int(ends[0])) and d.unequal == 1
    assert math.isfinite(d.largest_ulp)


def test_complex_numbers_are_two_each():
    a = np.array([1 + 2j, 3 - 1j], np.complex64)
    b = a.copy()
    b[1] += np.complex64(1j * 2**-23)
    d = found(a, b)
    assert (d.elements, d.unequal, d.largest_ulp, d.first_unequal) == (4, 1, 2.0, (1,))


def test_formats_are_widened_exactly():
    half = rng().normal(size=500).astype(np.float16)
    d = found(half, half.astype(np.float32))
    assert d.equal and (d.format_a, d.format_b, d.compared_as) == ("float16", "float32", "float32")
    single = rng().normal(size=500).astype(np.float32)
    assert found(single, single.astype(np.float64)).equal
    assert not found(single.astype(np.float16), single).equal
    assert found(np.int8([-1]), np.int32([-1])).equal
    with pytest.raises(ConfigError, match="int64 and float64 are not compared"):
        found(np.int64([1]), np.float64([1]))
    with pytest.raises(ConfigError, match="not compared"):
        found(np.uint64([1]), np.int64([1]))


@pytest.mark.parametrize(
    "name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
)
def test_formats_that_numpy_has_not(name):
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, name))
    codes = np.arange(1 << (8 * kind.itemsize), dtype=f"u{kind.itemsize}")
    values = values_of(codes, FORMATS[name])
    assert np.array_equal(values, codes.view(kind).astype(np.float32), equal_nan=True)
    numbers = codes[~np.isnan(values)]
    order = numbers[np.argsort(values[~np.isnan(values)], kind="stable")].view(kind)
    steps = found(order[:-1], order[1:])
    assert steps.largest_ulp == 1.0  # neighbours; the two zeros are 0 apart
    assert steps.zero_signs == (0 if FORMATS[name].unsigned_zero else 1)


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_axes_in_another_order(axes, limit, monkeypatch):
    from nanorepro.data.tensors import record

    monkeypatch.setattr(record, "IN_MEMORY", limit)
    a = rng().normal(size=(31, 40, 50))
    a[3, 4, 5] = 7.0
    other = np.ascontiguousarray(a.transpose(axes))
    back = tuple(np.argsort(axes))
    assert found(a, other, back).equal
    other[tuple(np.array([3, 4, 5])[list(axes)])] = 8.0
    d = found(a, other, back)
    assert (d.unequal, d.first_unequal, d.shape) == (1, (3, 4, 5), (31, 40, 50))
