"""What is measured of stored runs: quantities of pairs, and statistics with intervals over pairs.

A quantity has a value for every pair of a run.  A sample function has the results and `pick`
(resamples, pairs), the pairs of each resample, and gives one value a resample.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nanorepro.numerics.streams import stream_key
from nanorepro.results.bootstrap import bootstrap, percentiles
from nanorepro.results.metrics import cosine

if TYPE_CHECKING:
    from nanorepro.results.result import Result


class Estimate(NamedTuple):
    """A value with its 95 % interval over pairs; `where` names the run it is of, if that varies."""

    value: float
    low: float
    high: float
    where: str = ""


Results = Sequence["Result"]
Statistic = Callable[[Results], Estimate]
Quantity = Callable[["Result"], np.ndarray]  # a value for every pair
Sample = Callable[[Results, np.ndarray], np.ndarray]


def pd(r: "Result") -> np.ndarray:
    """Relative PD of every pair, eq. 3; NaN where a model diverged."""
    return np.array([p.pd for p in r.pairs])


def loss(r: "Result") -> np.ndarray:
    """Excess loss of every pair, the mean of its two models, eq. 2."""
    return np.array([sum(p.loss) / 2 for p in r.pairs])


def learned(r: "Result") -> np.ndarray:
    """Excess loss of every pair, NaN where a model is stuck."""
    return np.where(stuck(r) > 0, math.nan, loss(r))


def stuck(r: "Result") -> np.ndarray:
    """Whether a model of the pair is stuck."""
    return np.array([float(any(p.stuck)) for p in r.pairs])


def deviation(r: "Result") -> np.ndarray:
    """Cosine between w_1 - θ and w_2 - θ of every pair."""
    return np.array(r.deviation_cosine)


def correlation(r: "Result") -> np.ndarray:
    """Correlation of all parameters of every pair."""
    return np.array(r.weight_correlation)


def joined(parameters: dict[str, np.ndarray], names: str) -> np.ndarray:
    """The parameters whose names begin with one of the letters, in one row, float64."""
    chosen = [v.ravel() for k, v in parameters.items() if k[0] in names]
    return np.concatenate(chosen).astype(np.float64)


def alignment(r: "Result") -> np.ndarray:
    """Cosine between the first-layer weights of the two models of every pair."""
    rows = [[m["w0"].ravel().astype(float) for m in pair] for pair in r.parameters]
    return np.array([cosine(first, second) for first, second in rows])


def opposite(r: "Result") -> np.ndarray:
    """Whether the two models' first-layer weights point to opposite sides."""
    return (alignment(r) < 0).astype(float)


def absolute_cosine(r: "Result") -> np.ndarray:
    """How nearly equal or opposite the first-layer weights are: |cosine|."""
    return np.abs(alignment(r))


def largest_difference(r: "Result") -> np.ndarray:
    """Largest difference between corresponding weights of every pair."""
    return np.array([np.abs(joined(a, "w") - joined(b, "w")).max() for a, b in r.parameters])


def centred(r: "Result", names: str) -> np.ndarray:
    """Pearson correlation of the parameters whose names begin so, of every pair."""
    both = [[joined(m, names) for m in p] for p in r.parameters]
    return np.array([cosine(a - a.mean(), b - b.mean()) for a, b in both])


def over_pairs(sample: Sample) -> Statistic:
    """A statistic with its percentile bootstrap interval, over the same resamples in all runs."""

    def statistic(results: Results) -> Estimate:
        config = results[0].config
        with np.errstate(all="ignore"):
            value = float(sample(results, np.arange(config.pairs)[None])[0])
            key = stream_key(config.seed, "bootstrap")
            values = bootstrap(lambda pick: sample(results, pick), key, config.pairs)
        return Estimate(value, *percentiles(values))

    return statistic


def average(x: np.ndarray, pick: np.ndarray) -> np.ndarray:
    """Mean over the pairs of each resample that are finite."""
    x = x[pick]
    known = np.isfinite(x)
    return np.where(known, x, 0.0).sum(axis=1) / known.sum(axis=1)


def mean(of: Quantity) -> Statistic:
    """The mean over pairs."""
    return over_pairs(lambda results, pick: average(of(results[0]), pick))


def ratio(of: Quantity) -> Statistic:
    """The mean of the first run over that of the second."""
    return over_pairs(
        lambda results, pick: average(of(results[0]), pick) / average(of(results[1]), pick)
    )


def every_ratio(of: Quantity, bound: float) -> Statistic:
    """The mean of each later run over that of the first; of these ratios the one farthest off.

    That is one whose interval lies outside 1/bound to bound, if there is one, else the one whose
    interval reaches farthest from 1.  So what is told of its interval is right for all: it lies
    outside if any does, and inside only if all do.
    """
    single = ratio(of)

    def off(e: Estimate) -> tuple[bool, float]:
        if not (math.isfinite(e.low) and math.isfinite(e.high)):
            return False, math.inf
        outside = e.low > bound or e.high < 1 / bound
        return outside, max(e.high, 1 / e.low if e.low > 0 else math.inf)

    def statistic(results: Results) -> Estimate:
        first, *later = results
        found = [single([r, first])._replace(where=f"2^{r.config.log2_window}") for r in later]
        return max(found, key=off, default=Estimate(math.nan, math.nan, math.nan))

    return statistic


def least_ratio(of: Quantity) -> Statistic:
    """The least mean among all runs but the last, over the last's."""

    def sample(results: Results, pick: np.ndarray) -> np.ndarray:
        means = np.array([average(of(r), pick) for r in results])
        return means[:-1].min(axis=0) / means[-1]

    return over_pairs(sample)


def exponent(results: Results, pick: np.ndarray) -> np.ndarray:
    """d log Δ_r / d log t over the last four doublings of the training examples."""
    (r,) = results
    whole = [c for c, s in enumerate(r.checkpoints) if s >= 1 << r.config.log2_window][-5:]
    if len(whole) < 3:
        return np.full(len(pick), math.nan)
    pds = np.array([[p.pd for p in r.series[c]] for c in whole])
    x = np.log([r.checkpoints[c] for c in whole])
    y = np.log([average(row, pick) for row in pds])
    x = x - x.mean()
    return x @ y / (x @ x)


def rank_correlation(results: Results, pick: np.ndarray) -> np.ndarray:
    """Spearman's correlation over pairs between that of the embeddings and that of the weights."""
    (r,) = results
    a, b = (centred(r, names)[pick] for names in ("e", "w"))
    a, b = (np.argsort(np.argsort(x, axis=1), axis=1) - (x.shape[1] - 1) / 2 for x in (a, b))
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def count(of: Quantity) -> Statistic:
    """In how many pairs of all runs it was seen: a count, without an interval."""

    def statistic(results: Results) -> Estimate:
        seen = float(sum(of(r).sum() for r in results))
        return Estimate(seen, seen, seen)

    return statistic


def share(of: Quantity) -> Statistic:
    """The share of pairs, with Wilson's 95 % interval."""

    def statistic(results: Results) -> Estimate:
        x = np.concatenate([of(r) for r in results])
        n, p, z = len(x), float(x.mean()), 1.959964
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return Estimate(p, max(middle - half, 0.0), min(middle + half, 1.0))

    return statistic
