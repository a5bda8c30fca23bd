"""Statistics of made-up results, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nanorepro import estimates
from nanorepro.config import Config
from nanorepro.simulation import simulate


def result_of(pds, losses=None):
    """A result with made-up measures."""
    c = Config(model="linear", log2_examples=5, log2_eval=0, pairs=len(pds))
    r = simulate(c, "reference", 1)
    losses = losses or [1.0] * len(pds)
    pairs = [replace(p, pd=x, loss=(y, y)) for p, x, y in zip(r.pairs, pds, losses, strict=True)]
    return replace(r, series=[pairs])


def test_statistics_by_hand():
    a, b = result_of([1.0, 3.0, 2.0]), result_of([1.0, 1.0, 1.0])
    value, low, high = estimates.ratio(estimates.pd)([a, b])
    assert value == 2.0 and 1.0 <= low < 2.0 < high <= 3.0
    assert estimates.least_ratio(estimates.pd)([a, b, a])[0] == 0.5
    value, low, high = estimates.mean(estimates.pd)([result_of([1.0, math.nan, 3.0])])
    assert value == 2.0
    seen, low, high = estimates.share(lambda r: np.array([1.0, 0.0, 0.0, 0.0]))([a])
    assert seen == 0.25 and low == pytest.approx(0.0456, abs=1e-4)
    assert high == pytest.approx(0.6994, abs=1e-4)


def test_exponent_of_a_power_law():
    r = result_of([1.0, 1.0])
    steps = tuple(1 << k for k in range(8))
    series = [[replace(p, pd=float(s) ** -0.5) for p in r.pairs] for s in steps]
    r = replace(r, checkpoints=steps, series=series)
    assert estimates.over_pairs(estimates.exponent)([r])[0] == pytest.approx(-0.5)
