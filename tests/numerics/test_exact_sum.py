"""The exact sum in fractions, where a float64 ends."""

import math
from fractions import Fraction

import pytest

from nanorepro.numerics.exact_sum import float_of

BORDER = Fraction(2) ** 1024 - Fraction(2) ** 970  # half a step above the largest float64


@pytest.mark.parametrize("sign", [1, -1])
def test_a_sum_beyond_float64_is_infinite(sign):
    assert float_of(sign * Fraction(10) ** 400) == sign * math.inf
    assert float_of(sign * BORDER) == sign * math.inf
    assert float_of(sign * (BORDER - 1)) == sign * float.fromhex("0x1.fffffffffffffp+1023")


def test_a_sum_below_float64_keeps_its_sign():
    assert math.copysign(1.0, float_of(-(Fraction(2) ** -1076))) == -1.0
    assert float_of(Fraction(0)) == 0.0 and math.copysign(1.0, float_of(Fraction(0))) == 1.0
