"""The bootstrap over pairs: scipy's interval, one stream, bounded memory."""

import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from nanorepro.numerics.streams import bounded, stream_key, words
from nanorepro.results import bootstrap as module
from nanorepro.results.bootstrap import bootstrap, mean_interval, mean_intervals, resamples

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


def test_the_interval_is_that_of_all_resamples_at_once():
    values = np.random.default_rng(3).exponential(size=100)
    means = np.sort(values[all_at_once(KEY, 100)].mean(axis=1))
    assert mean_interval(values, KEY) == (means[50], means[1949])


def test_intervals_of_many_metrics_are_those_of_each():
    rows = np.random.default_rng(4).normal(size=(5, 40))
    assert mean_intervals(rows, KEY) == [mean_interval(row, KEY) for row in rows]
    assert all(math.isnan(end) for end in mean_interval([1.0, math.nan], KEY))


def test_memory_does_not_grow_with_the_pairs():
    """All resamples of 4,096 pairs at once took 640 MB."""
    values = np.random.default_rng(5).random(4096)
    tracemalloc.start()
    try:
        bootstrap(lambda picked: values[picked].mean(axis=1), KEY, 4096, 200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6


def test_bootstrap_interval_is_a_function_of_its_arguments():
    values = list(np.random.default_rng(0).random(16))
    assert mean_interval(values, KEY) == mean_interval(values, KEY)
    other = mean_interval(values, stream_key(1, "bootstrap"))
    assert other != mean_interval(values, KEY)


def test_bootstrap_interval_of_degenerate_samples():
    assert all(map(math.isnan, mean_interval([], KEY)))
    assert mean_interval([0.25], KEY) == (0.25, 0.25)
    assert mean_interval([0.25] * 9, KEY) == (0.25, 0.25)


def test_bootstrap_interval_is_scipys():
    """The same percentile interval, up to the noise of resampling."""
    values = np.random.default_rng(1).exponential(size=16)
    found = mean_interval(values, KEY)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    spread = theirs.high - theirs.low
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.05 * spread)
    assert found[0] < values.mean() < found[1]


def test_bootstrap_interval_covers():
    """Of 300 samples of 16 normal values, a percentile interval of 95 % covers about 92 %."""
    rng = np.random.default_rng(2)
    covered = 0
    for k in range(300):
        low, high = mean_interval(rng.normal(size=16), stream_key(k, "bootstrap"))
        covered += low <= 0.0 <= high
    assert stats.binomtest(covered, 300, 0.92).pvalue > 1e-3
    wide = mean_interval(rng.normal(size=16), KEY, level=0.99)
    assert wide[1] - wide[0] > 0.5
