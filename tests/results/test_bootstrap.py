"""Intervals of means over pairs: one stream, bounded memory, the coverage that they state."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from nanorepro.numerics.streams import bounded, stream_key, words
from nanorepro.results import bootstrap as module
from nanorepro.results import studentized
from nanorepro.results.bootstrap import resamples
from nanorepro.results.studentized import contrast, mean_of

KEY = stream_key(0, "bootstrap")


def all_at_once(key, n, count=2000):
    """The resamples as the stream defines them, without blocks."""
    high, low = words(key, np.arange(count * n))[:2]
    return bounded(high, low, np.uint64(n)).astype(np.int64).reshape(count, n)


@pytest.mark.parametrize("n", [1, 2, 16, 33, 100])
@pytest.mark.parametrize("block", [1, 64, 1000, 1 << 20])
def test_blocks_change_no_resample(monkeypatch, n, block):
    monkeypatch.setattr(module, "BLOCK", block)
    assert np.array_equal(np.concatenate(list(resamples(KEY, n, 200))), all_at_once(KEY, n, 200))


def test_memory_does_not_grow_with_the_pairs():
    """All resamples of 4,096 pairs at once took 640 MB."""
    peaks = []
    contrast(np.ones((1, 2)), np.ones(1), KEY)  # what is imported and kept
    for n in (2048, 8192):
        values = np.random.default_rng(5).lognormal(size=(1, n))
        module._picks.cache_clear(), studentized._normals.cache_clear()
        tracemalloc.start()
        try:
            contrast(values, np.ones(1), KEY, count=400)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0] < 16e6


def test_an_interval_is_a_function_of_its_arguments():
    values = list(np.random.default_rng(0).random(16))
    assert mean_of(values, KEY) == mean_of(values, KEY)
    assert mean_of(values, stream_key(1, "bootstrap")) != mean_of(values, KEY)


def test_intervals_of_degenerate_samples():
    assert all(map(math.isnan, mean_of([], KEY)))
    assert all(map(math.isnan, mean_of([0.25], KEY)))
    assert mean_of([0.0], KEY) == mean_of([0.0, 0.0, math.nan], KEY) == (0.0, 0.0, 0.0)
    assert mean_of([0.25] * 9, KEY) == (0.25, 0.25, 0.25)
    value, low, high = mean_of([1e-9] * 2 + [0.0] * 6, KEY)
    assert value == pytest.approx(2.5e-10) and low == 0.0 and high == math.inf


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: rng.normal(size=16), 0.0),
        (lambda rng: rng.lognormal(sigma=1.0, size=16), math.exp(0.5)),
        (lambda rng: 1e-9 * rng.lognormal(sigma=0.5, size=4), 1e-9 * math.exp(0.125)),
    ],
    ids=["normal", "log-normal", "four pairs"],
)
def test_intervals_of_95_percent_hold_the_mean_in_so_many_cases(draw, truth):
    rng = np.random.default_rng(2)
    covered = 0
    for k in range(200):
        _, low, high = mean_of(draw(rng), stream_key(k, "bootstrap"))
        covered += low <= truth <= high
    assert stats.binomtest(covered, 200, 0.95).pvalue > 1e-2
