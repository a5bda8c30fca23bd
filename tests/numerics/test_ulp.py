"""Distances in units in the last place, against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanorepro.numerics.ulp import far, ulps

TYPES = {16: np.float16, 32: np.float32, 64: np.float64}


def number(bits, width):
    return np.array([bits], f"u{width // 8}").view(TYPES[width])


def pairs():
    return st.sampled_from([16, 32, 64]).flatmap(
        lambda w: st.tuples(st.just(w), *[st.integers(0, 2**w - 1)] * 3)
    )


def place(x):
    """Where a number stands, counted by its exact value: sign times steps up from 0."""
    width = 8 * x.dtype.itemsize
    bits = int(x.view(f"u{width // 8}")[0])
    magnitude = bits % 2 ** (width - 1)
    return -magnitude if bits >> (width - 1) else magnitude


@given(pairs())
def test_it_is_the_difference_of_places(drawn):
    width, *bits = drawn
    a, b, c = (number(x, width) for x in bits)
    d = int(ulps(a, b)[0])
    if np.isnan(a[0]) and np.isnan(b[0]):
        assert d == 0
    elif np.isnan(a[0]) or np.isnan(b[0]):
        assert d == far(ulps(a, b).dtype)
    else:
        assert d == abs(place(a) - place(b))
        assert (d == 0) == (a[0] == b[0])  # so the zeros are alike
        if not np.isnan(c[0]):
            assert d <= int(ulps(a, c)[0]) + int(ulps(c, b)[0])
    assert d == int(ulps(b, a)[0]) == int(ulps(-a, -b)[0])


@given(st.sampled_from([16, 32, 64]).flatmap(lambda w: st.tuples(st.just(w), st.integers(0, 2**w))))
def test_neighbours_are_one_apart(drawn):
    width, bits = drawn
    x = number(bits % 2**width, width)
    if np.isnan(x[0]) or np.isposinf(x[0]):
        return
    above = np.nextafter(x, TYPES[width](np.inf))
    assert int(ulps(x, above)[0]) == 1


@pytest.mark.parametrize("kind", TYPES.values())
def test_the_ends_of_the_line(kind):
    low, high = np.array([-np.inf], kind), np.array([np.inf], kind)
    largest = np.array([np.finfo(kind).max], kind)
    tiny = np.array([np.finfo(kind).smallest_subnormal], kind)
    zero, nan = np.zeros(1, kind), np.array([np.nan], kind)
    assert int(ulps(largest, high)[0]) == 1
    assert int(ulps(-tiny, tiny)[0]) == 2
    assert int(ulps(zero, -zero)[0]) == 0
    assert int(ulps(low, high)[0]) < int(ulps(zero, nan)[0])
    assert int(ulps(nan, -nan)[0]) == 0
