"""Statistics of claims: of the pairs' numbers of one or more runs, a value with its interval."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nanorepro.numerics.streams import stream_key
from nanorepro.paper.observed import Observed
from nanorepro.paper.quantities import (
    EMBEDDINGS,
    FIRST_LAYER,
    PD,
    STUCK,
    WEIGHTS,
    Quantity,
)
from nanorepro.results import statistics
from nanorepro.results.studentized import Interval, contrast

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell at this size"
ALPHA, BEYOND = 0.05, 0.001  # of the tests that losses are equal, and of those that they are not


class Estimate(NamedTuple):
    """A value with its interval over pairs.

    `where` names the run it is of, if that varies; `told` is what a test of its own says, if it is
    not the interval that decides, and `said` the test's numbers in words.
    """

    value: float
    low: float
    high: float
    where: str = ""
    told: str = ""
    said: str = ""


Observations = Sequence[Observed]
Key = np.ndarray
"""The key of the resamples, (2,)."""
Change = Callable[[np.ndarray], np.ndarray]
"""A function of a quantity of every pair."""
NOTHING = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Statistic:
    """How a claim's number is estimated.

    Attributes
    ----------
    quantities : tuple of Quantity
        What it needs of every run.
    estimate : callable
        The estimate from the runs and the key of the resamples.
    series : bool
        Whether it needs the course of PD.
    """

    quantities: tuple[Quantity, ...]
    estimate: Callable[[Observations, Key], Estimate]
    series: bool = False

    def __call__(self, runs: Observations, resampling: int = 0) -> Estimate:
        """The estimate, with an interval of other resamples where `resampling` is not 0."""
        return self.estimate(runs, stream_key(runs[0].seed, "bootstrap", resampling))


def mean(of: Quantity, change: Change = lambda x: x) -> Statistic:
    """The mean over pairs of a quantity, or of a function of it, of either sign."""

    def estimate(runs: Observations, key: Key) -> Estimate:
        row = change(runs[0][of])[None]
        return Estimate(*contrast(row, np.ones(1), key, log=False))

    return Statistic((of,), estimate)


def positive_mean(of: Quantity) -> Statistic:
    """The mean over pairs of a quantity that is not negative."""

    def estimate(runs: Observations, key: Key) -> Estimate:
        return _exp(contrast(runs[0][of][None], np.ones(1), key))

    return Statistic((of,), estimate)


def _exp(found: Interval) -> Estimate:
    """The estimate of a quantity from that of its logarithm."""
    with np.errstate(over="ignore"):
        return Estimate(*np.exp(found).tolist())


def ratio(of: Quantity, change: Change = lambda x: x) -> Statistic:
    """The mean of the first run over that of the second, over the same pairs.

    Of a quantity, or of a function of it.
    """

    def estimate(runs: Observations, key: Key) -> Estimate:
        rows = np.array([change(run[of]) for run in runs])
        return _exp(contrast(rows, np.array([1.0, -1.0]), key))

    return Statistic((of,), estimate)


def change_of_ratio(of: Quantity) -> Statistic:
    """The ratio of the first run to the second over that of the third to the fourth."""

    def estimate(runs: Observations, key: Key) -> Estimate:
        rows = np.array([run[of] for run in runs])
        return _exp(contrast(rows, np.array([1.0, -1.0, -1.0, 1.0]), key))

    return Statistic((of,), estimate)


def geometric_ratio(of: Quantity) -> Statistic:
    """The geometric mean of the pairs' ratios of the first run to the second."""

    def estimate(runs: Observations, _: Key) -> Estimate:
        with np.errstate(divide="ignore", invalid="ignore"):
            return _exp(statistics.mean_difference(np.log(runs[0][of]) - np.log(runs[1][of])))

    return Statistic((of,), estimate)


def least_ratio(of: Quantity) -> Statistic:
    """The least of the ratios of all runs but the last to the last."""
    return Statistic((of,), lambda runs, key: _least(of, [(r, runs[-1]) for r in runs[:-1]], key))


def best_of_ratios(of: Quantity) -> Statistic:
    """The least of the ratios of the first run to the second, of the third to the fourth, ..."""
    return Statistic(
        (of,), lambda runs, key: _least(of, list(zip(runs[::2], runs[1::2], strict=True)), key)
    )


def _least(of: Quantity, pairs: Sequence[tuple[Observed, Observed]], key: Key) -> Estimate:
    """The least of some ratios, with a wider interval: 95 % for all of them together."""
    level = 1.0 - 0.05 / len(pairs)
    ends = [
        contrast(np.array([a[of], b[of]]), np.array([1.0, -1.0]), key, level=level)
        for a, b in pairs
    ]
    found = [_exp(e)._replace(where=a.curve) for e, (a, _) in zip(ends, pairs, strict=True)]
    known = [e for e in found if math.isfinite(e.value)]
    return min(known, key=lambda e: e.value, default=NOTHING)


def all_over_learned(of: Quantity) -> Statistic:
    """The mean over all pairs over that of the pairs without a stuck model.

    log mean(x) + log mean(l) - log mean(x·l), where l is 1 of a pair that learned, else 0.
    """

    def estimate(runs: Observations, key: Key) -> Estimate:
        (run,) = runs
        x, learned = run[of], 1.0 - run[STUCK]
        rows = np.array([x, learned, x * learned])
        return _exp(contrast(rows, np.array([1.0, 1.0, -1.0]), key))

    return Statistic((of, STUCK), estimate)


def same_at_every_window(of_log: Quantity, bound: float) -> Statistic:
    """Whether a geometric mean is the same, within a factor, in each later run as in the first.

    Two one-sided tests of the paired differences of logarithms for each later run: equal if all
    tests say so, for then an unequal one passes with a chance of 5 % at most; not equal if one lies
    beyond the bound at 0.1 %, for a figure makes about 50 tests.  The value is of the run that is
    told worst.
    """

    def estimate(runs: Observations, _: Key) -> Estimate:
        first, *later = runs
        margin = math.log(bound)
        found = []
        for r in later:
            with np.errstate(invalid="ignore"):
                e = statistics.equivalence(r[of_log] - first[of_log], margin)
            told = OPEN
            if e.p < ALPHA:
                told = HOLDS
            elif e.beyond < BEYOND:
                told = FAILS
            found.append((told, e, f"2^{r.log2_window}" if len(runs) > 2 else ""))
        if not found:
            return NOTHING
        rank = {FAILS: 2, OPEN: 1, HOLDS: 0}
        told, e, where = max(found, key=lambda f: (rank[f[0]], _worst(f[1])))
        value, low, high = (math.exp(x) for x in (e.value, e.low, e.high))
        return Estimate(value, low, high, where, told, _said(e, margin))

    return Statistic((of_log,), estimate)


def _worst(e: statistics.Equivalence) -> float:
    return math.inf if math.isnan(e.p) else e.p


def _said(e: statistics.Equivalence, margin: float) -> str:
    if math.isnan(e.p):
        return "no test"
    if e.spread == 0.0:
        return f"equality: p = {e.p:.2g}"
    power = statistics.equivalence_power(e.pairs, e.spread, margin)
    needed = statistics.pairs_for(e.spread, margin)
    return f"equality: p = {e.p:.2g}; power of {e.pairs:,} pairs {power:.0%}, {needed:,} have 90 %"


def slope_in_examples(share: float = 0.0) -> Statistic:
    """d log Δ_r / d log t of a run over the last four doublings of the training examples.

    With a share, less so much of the same slope of a second run, over the same pairs.
    """

    def estimate(runs: Observations, key: Key) -> Estimate:
        steps = sorted(runs[0].series)
        if len(steps) < 3:
            return NOTHING
        x = np.log(steps)
        x = (x - x.mean()) / ((x - x.mean()) @ (x - x.mean()))
        rows = np.array([run.series[s] for run in runs for s in steps])
        weights = np.concatenate([x, -share * x]) if share else x
        return Estimate(*contrast(rows, weights, key))

    return Statistic((PD,), estimate, series=True)


def rank_correlation() -> Statistic:
    """Spearman's correlation over pairs between that of the embeddings and that of the weights."""

    def estimate(runs: Observations, _: Key) -> Estimate:
        (run,) = runs
        return Estimate(*statistics.rank_correlation(run[EMBEDDINGS], run[WEIGHTS]))

    return Statistic((EMBEDDINGS, WEIGHTS), estimate)


def opposite(cosines: np.ndarray) -> np.ndarray:
    """Whether the two models' first-layer weights point to opposite sides."""
    return (cosines < 0).astype(float)


def noise(cosines: np.ndarray) -> np.ndarray:
    """How far the two models' first-layer weights are from the same line through 0."""
    return np.asarray(1.0 - np.abs(cosines))


def count_opposite() -> Statistic:
    """In how many pairs of all runs weights were opposite: a count, without an interval."""

    def estimate(runs: Observations, _: Key) -> Estimate:
        seen = float(sum(opposite(r[FIRST_LAYER]).sum() for r in runs))
        return Estimate(seen, seen, seen)

    return Statistic((FIRST_LAYER,), estimate)


def _share(of: Quantity, change: Change) -> Statistic:
    def estimate(runs: Observations, _: Key) -> Estimate:
        x = np.concatenate([change(r[of]) for r in runs])
        return Estimate(*statistics.proportion(int(x.sum()), len(x)))

    return Statistic((of,), estimate)


def share_opposite() -> Statistic:
    """The share of pairs with opposite weights, with Wilson's interval."""
    return _share(FIRST_LAYER, opposite)


def share_stuck() -> Statistic:
    """The share of pairs with a stuck model, with Wilson's interval."""
    return _share(STUCK, lambda x: x)
