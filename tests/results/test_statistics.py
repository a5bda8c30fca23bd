"""Intervals that keep their coverage, and the test that two means are equal."""

import math

import numpy as np
import pytest
from scipy import stats
from support import coverage
from support.slow import slow_after

from nanorepro.numerics.streams import stream_key
from nanorepro.results import statistics, studentized

KEY = stream_key(0, "bootstrap")
RATIO = np.array([1.0, -1.0])
TRIALS = 300


@pytest.mark.parametrize(
    "population", slow_after(2, coverage.POPULATIONS[:-1]), ids=lambda p: p.name
)
def test_interval_of_a_ratio_of_16_pairs_covers(population):
    """At least 93 % of intervals hold the truth, up to the chance of so many trials."""
    missed = sum(coverage.misses(coverage.studentized, population, 16, TRIALS))
    assert stats.binomtest(TRIALS - missed, TRIALS, 0.93, alternative="less").pvalue > 0.01


def test_percentile_interval_of_heavy_tails_does_not_cover():
    """What the studentized interval is for: the test above can fail."""
    population = coverage.POPULATIONS[4]
    missed = sum(coverage.misses(coverage.percentile, population, 16, TRIALS))
    assert stats.binomtest(TRIALS - missed, TRIALS, 0.93, alternative="less").pvalue < 1e-6


def test_interval_where_nothing_is_skewed_is_students():
    values = np.random.default_rng(0).normal(10.0, 1.0, (1, 200))
    found = studentized.contrast(values, np.ones(1), KEY, log=False)
    theirs = stats.ttest_1samp(values[0], 0.0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.02)
    assert found.value == pytest.approx(values.mean())


def test_interval_does_not_depend_on_the_scale():
    pairs = np.exp(np.random.default_rng(1).normal(size=(2, 16)))
    found = studentized.contrast(pairs, RATIO, KEY)
    small = studentized.contrast(pairs * np.array([[2.0**-600], [2.0**-300]]), RATIO, KEY)
    shift = -300 * math.log(2.0)
    assert small == pytest.approx([x + shift for x in found])
    assert studentized.contrast(pairs, RATIO, KEY) == found
    assert found.low < found.value == pytest.approx(np.log(pairs[0].mean() / pairs[1].mean()))


@pytest.mark.parametrize("exponent", [-1060, -60, -40, 0, 40, 1000])
def test_interval_of_means_has_the_scale_of_its_values(exponent):
    pairs = np.exp(np.random.default_rng(1).normal(size=(2, 16)))
    unit = 2.0**exponent
    rounded = pairs * unit / unit  # as subnormal numbers have fewer bits
    found = studentized.contrast(rounded, RATIO, KEY, log=False)
    scaled = studentized.contrast(rounded * unit, RATIO, KEY, log=False)
    assert scaled == pytest.approx([x * unit for x in found], rel=1e-6 if exponent < -1000 else 0)
    assert scaled.low < scaled.value < scaled.high
    share = [
        studentized.contrast(some, np.array([1.0, 0.0]), KEY, log=False, whole=np.ones(2))
        for some in (rounded, rounded * unit)
    ]
    assert share[0] == share[1]
    assert share[0].low < share[0].high


def test_interval_of_few_or_degenerate_pairs():
    one, same = np.ones((2, 1)), np.full((2, 5), 3.0)
    assert all(map(math.isnan, studentized.contrast(one, RATIO, KEY)))
    assert studentized.contrast(same, RATIO, KEY) == pytest.approx((0.0, 0.0, 0.0))
    zero = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 1.0, 2.0]])
    assert all(map(math.isnan, studentized.contrast(zero, RATIO, KEY)))
    # where nearly all are zero nothing is known but the mean itself
    zero[0, 0] = 1.0
    found = studentized.contrast(zero, RATIO, KEY)
    assert found.low == -math.inf and found.high == math.inf
    some = np.array([[1.0, math.nan, 3.0, 2.0], [1.0, 1e300, 1.0, 1.0]])
    assert studentized.contrast(some, RATIO, KEY).value == pytest.approx(math.log(2.0))


def test_wilsons_interval_and_rank_correlation():
    assert statistics.proportion(1, 4) == pytest.approx((0.25, 0.0456, 0.6994), abs=1e-4)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, 16))
    y = 0.8 * x + 0.6 * rng.normal(size=(400, 16))
    truth = 6 / math.pi * math.asin(0.8 / 2)  # Spearman's, of a normal pair
    found = [statistics.rank_correlation(a, b) for a, b in zip(x, y, strict=True)]
    held = sum(f.low <= truth <= f.high for f in found)
    assert stats.binomtest(held, 400, 0.93, alternative="less").pvalue > 0.01
    assert all(map(math.isnan, statistics.rank_correlation(np.ones(16), x[0])))
    assert statistics.rank_correlation(x[0], 2 * x[0]) == (1.0, 1.0, 1.0)


def test_equality_is_told_at_its_level_and_with_its_power():
    """At the margin in 5 % of cases at most, at 0 as often as the power says."""
    n, spread, margin, trials = 40, 0.1, 0.05, 2000
    rng = np.random.default_rng(4)
    at_margin = rng.normal(margin, spread, (trials, n))
    equal = rng.normal(0.0, spread, (trials, n))

    def told(rows):
        return sum(statistics.equivalence(row, margin).p < 0.05 for row in rows[:300])

    assert stats.binomtest(told(at_margin), 300, 0.05, alternative="greater").pvalue > 0.01
    power = statistics.equivalence_power(n, spread, margin)
    assert power == pytest.approx(0.856, abs=0.01)
    assert stats.binomtest(told(equal), 300, power).pvalue > 0.01


def test_equality_is_two_one_sided_tests():
    d = np.random.default_rng(5).normal(0.01, 0.1, 30)
    found = statistics.equivalence(d, 0.06)
    low, high = stats.ttest_1samp(d, 0.0).confidence_interval(0.90)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.p < 0.05) == (low > -0.06 and high < 0.06)
    above = stats.ttest_1samp(d, -0.06, alternative="greater").pvalue
    below = stats.ttest_1samp(d, 0.06, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below))
    assert statistics.equivalence(d + 1.0, 0.06).beyond < 1e-6
    assert math.isnan(statistics.equivalence(np.array([1.0, math.nan]), 0.1).p)
    for mean, p in ((0.05, 0.0), (0.07, 1.0)):  # pairs that are all the same
        found = statistics.equivalence(np.full(4, mean), 0.06)
        assert (found.p, found.beyond) == (p, 1.0 - p)


def test_pairs_that_are_needed():
    n = statistics.pairs_for(0.3, 0.05)
    assert statistics.equivalence_power(n, 0.3, 0.05) >= 0.9
    assert statistics.equivalence_power(n - 1, 0.3, 0.05) < 0.9
    assert n == pytest.approx((0.3 / 0.05 * 2 * 1.645) ** 2, rel=0.02)


def test_shares_of_a_whole_add_up_and_are_exact_where_pairs_are_equal():
    key = stream_key(0, "bootstrap")
    rows = np.random.default_rng(5).lognormal(0.0, 1.0, (3, 16)) + 1.0
    whole = np.array([1.0, 1.0, 1.0])
    for log in (True, False):
        parts = [studentized.contrast(rows, w, key, log, whole=whole) for w in np.eye(3)]
        assert sum(p.value for p in parts) == pytest.approx(1.0)
        assert all(p.low < p.value < p.high for p in parts)
        equal = np.repeat([[1.0], [2.0], [5.0]], 4, axis=1)
        same = studentized.contrast(equal, np.array([0.0, 1.0, 0.0]), key, log, whole=whole)
        right = np.log(2.0) / np.log(10.0) if log else 0.25
        assert same == pytest.approx((right,) * 3)
        assert np.isnan(studentized.contrast(equal, whole, key, log, whole=0.0 * whole).value)


@pytest.mark.parametrize("log", slow_after(1, [True, False]))
def test_intervals_of_shares_of_16_log_normal_pairs_cover(log):
    missed = sum(coverage.share_misses(0.5, log, 16, TRIALS))
    assert stats.binomtest(TRIALS - missed, TRIALS, 0.93, alternative="less").pvalue > 0.01
