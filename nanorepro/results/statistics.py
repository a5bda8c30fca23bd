"""Shares and correlations over pairs with their intervals, and the test that two means are equal.

The intervals of means are in `studentized`.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import integrate, special, stats

from nanorepro.results.studentized import Interval


class Equivalence(NamedTuple):
    """What is told of a mean that should be 0 within a margin.

    `low` and `high` are the ends of the 90 % interval, which lies inside the margin exactly when
    two one-sided tests at 5 % say so; `p` is the larger of their two p values, `beyond` the p value
    of the mean lying beyond the margin.  `spread` is the deviation of the `pairs` differences.
    """

    value: float
    low: float
    high: float
    p: float
    beyond: float
    spread: float
    pairs: int


def proportion(k: int, n: int, level: float = 0.95) -> Interval:
    """k of n, with Wilson's interval."""
    ends = stats.binomtest(k, n).proportion_ci(level, "wilson")
    return Interval(k / n, float(ends.low), float(ends.high))


def rank_correlation(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> Interval:
    """Spearman's correlation over pairs, with the interval of Bonett and Wright (2000)."""
    known = np.isfinite(x) & np.isfinite(y)
    n = int(known.sum())
    if n < 4 or min(np.ptp(x[known]), np.ptp(y[known])) == 0.0:
        return Interval(math.nan, math.nan, math.nan)
    r = float(stats.spearmanr(x[known], y[known]).statistic)
    if abs(r) > 1.0 - 1e-12:
        return Interval(r, r, r)
    half = float(special.ndtri((1.0 + level) / 2.0)) * math.sqrt((1.0 + r * r / 2.0) / (n - 3))
    return Interval(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def mean_difference(differences: np.ndarray, level: float = 0.95) -> Interval:
    """The mean of paired differences, with Student's interval; NaN of fewer than two."""
    d = differences[np.isfinite(differences)]
    if len(d) < 2:
        return Interval(math.nan, math.nan, math.nan)
    mean, error = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d))
    width = float(stats.t.ppf(0.5 + level / 2.0, len(d) - 1)) * error
    return Interval(mean, mean - width, mean + width)


def equivalence(differences: np.ndarray, margin: float) -> Equivalence:
    """Whether the mean of paired differences is 0 within ±margin: two one-sided t tests.

    Schuirmann (1987): equal, at 5 %, if the mean is both above -margin and below margin by
    one-sided tests at 5 % each.  Not to find a difference is no proof that there is none.
    """
    d = differences[np.isfinite(differences)]
    n = len(d)
    if n < 2:
        nan = math.nan
        return Equivalence(nan, nan, nan, nan, nan, nan, n)
    mean, spread = float(d.mean()), float(d.std(ddof=1))
    if spread == 0.0:
        outside = float(not abs(mean) < margin)
        return Equivalence(mean, mean, mean, outside, 1.0 - outside, 0.0, n)
    above = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(d, margin, alternative="less").pvalue
    under = stats.ttest_1samp(d, -margin, alternative="less").pvalue
    over = stats.ttest_1samp(d, margin, alternative="greater").pvalue
    half = float(stats.t.ppf(0.95, n - 1)) * spread / math.sqrt(n)
    return Equivalence(
        mean, mean - half, mean + half, float(max(above, below)), float(min(under, over)),
        spread, n,
    )  # fmt: skip


def equivalence_power(n: int, spread: float, margin: float, alpha: float = 0.05) -> float:
    """The chance that n pairs tell equality within ±margin where it is exact.

    The mean of n differences is normal with deviation spread/√n, and the estimate of the spread
    independent of it; the power is the mean over that estimate of the chance that the mean lies
    where both tests reject (Phillips, 1990).
    """
    df, error = n - 1, spread / math.sqrt(n)
    t = float(stats.t.ppf(1.0 - alpha, df))

    def density(u: float) -> float:  # u: estimated over true spread
        room = max(margin - t * error * u, 0.0) / error
        chi: float = stats.chi.pdf(u * math.sqrt(df), df) * math.sqrt(df)
        return float(special.ndtr(room) - special.ndtr(-room)) * chi

    spread_of_u = 8.0 / math.sqrt(2.0 * df)
    ends = max(0.0, 1.0 - spread_of_u), min(1.0 + spread_of_u, margin / (t * error))
    if ends[0] >= ends[1]:
        return 0.0
    return min(float(integrate.quad(density, *ends, limit=200)[0]), 1.0)


def pairs_for(spread: float, margin: float, power: float = 0.9) -> int:
    """The pairs that tell equality within ±margin with a given power where it is exact."""
    few, many = 1, 2
    while equivalence_power(many, spread, margin) < power and many < 1 << 40:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        if equivalence_power(middle, spread, margin) < power:
            few = middle
        else:
            many = middle
    return many
