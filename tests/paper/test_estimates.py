"""Statistics of made-up results, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.results import result_of

from nanorepro.paper import estimates


def test_statistics_by_hand():
    a, b = result_of([1.0, 3.0, 2.0]), result_of([1.0, 1.0, 1.0])
    value, low, high, _ = estimates.ratio(estimates.pd)([a, b])
    assert value == 2.0 and 1.0 <= low < 2.0 < high <= 3.0
    assert estimates.least_ratio(estimates.pd)([a, b, a])[0] == 0.5
    value, low, high, _ = estimates.mean(estimates.pd)([result_of([1.0, math.nan, 3.0])])
    assert value == 2.0
    seen, low, high, _ = estimates.share(lambda r: np.array([1.0, 0.0, 0.0, 0.0]))([a])
    assert seen == 0.25 and low == pytest.approx(0.0456, abs=1e-4)
    assert high == pytest.approx(0.6994, abs=1e-4)


def test_ratio_farthest_off():
    """An interval that lies outside comes before one that reaches farther across the bound."""
    flat = [1.0, 1.0, 1.0, 1.0]

    def run(window, *losses):
        return result_of(flat, losses, window)

    every = estimates.every_ratio(estimates.loss, 1.05)
    near, wide = run(1, 0.98, 0.98, 0.98, 0.98), run(2, 0.5, 1.0, 1.0, 1.5)
    above, below = run(3, 1.2, 1.2, 1.2, 1.2), run(4, 0.7, 0.7, 0.7, 0.7)
    stuck = run(5, math.nan, math.nan, 1.0, 1.0)
    first = run(0, *flat)
    assert every([first, near]) == pytest.approx((0.98, 0.98, 0.98, "2^1"))
    assert every([first, wide, near]).where == "2^2"
    assert every([first, above, near, wide]).where == "2^3"
    assert every([first, above, wide, below]).where == "2^4"
    assert every([first, wide, near, stuck]).where == "2^5"
    assert every([first, stuck, above]).where == "2^3"
    assert math.isnan(every([first]).value)


def test_exponent_of_a_power_law():
    r = result_of([1.0, 1.0])
    steps = tuple(1 << k for k in range(8))
    series = [[p.changed(pd=float(s) ** -0.5) for p in r.pairs] for s in steps]
    r = replace(r, checkpoints=steps).with_series(series)
    assert estimates.over_pairs(estimates.exponent)([r])[0] == pytest.approx(-0.5)
