"""The bootstrap over pairs: resamples from the `bootstrap` stream, in bounded memory.

Resample r of n pairs takes pairs ⌊u·n⌋ from the Philox words of the counters r·n, ..., r·n + n - 1.
They are made a block of resamples at a time, so that memory does not grow with the pairs, and once
for all statistics that are wanted of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nanorepro.numerics.streams import bounded, words

RESAMPLES = 2000
BLOCK = 1 << 14  # picks at a time, whose random words fit in the caches


def resamples(key: np.ndarray, n: int, count: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Blocks (resamples, n) of the numbers of n pairs, drawn with replacement; `count` rows."""
    rows = max(1, BLOCK // n)
    for first in range(0, count, rows):
        last = min(first + rows, count)
        high, low = words(key, np.arange(first * n, last * n))[:2]
        picked: np.ndarray = bounded(high, low, np.uint64(n))
        yield picked.astype(np.int64).reshape(last - first, n)


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray], key: np.ndarray, n: int, count: int = RESAMPLES
) -> np.ndarray:
    """The sorted values of a statistic over the resamples.

    `statistic` has a block of resamples (rows, n) and gives values (..., rows); the result is
    (..., count), sorted along its last axis.
    """
    blocks = [statistic(picked) for picked in resamples(key, n, count)]
    return np.sort(np.concatenate(blocks, axis=-1), axis=-1)


def percentiles(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The ends of the percentile interval of sorted values (count,); NaN if not all are finite."""
    if not np.isfinite(values).all():
        return math.nan, math.nan
    last, tail = len(values) - 1, (1.0 - level) / 2.0
    return float(values[round(tail * last)]), float(values[round((1.0 - tail) * last)])


def mean_intervals(
    rows: Sequence[Sequence[float] | np.ndarray],
    key: np.ndarray,
    count: int = RESAMPLES,
    level: float = 0.95,
) -> list[tuple[float, float]]:
    """The interval of the mean of each row of values, by the same resamples; NaN of none."""
    values = np.asarray(rows, np.float64)
    if values.size == 0:
        return [(math.nan, math.nan) for _ in rows]

    def means(picked: np.ndarray) -> np.ndarray:
        return np.stack([row[picked].mean(axis=1) for row in values])

    found = bootstrap(means, key, values.shape[1], count)
    return [percentiles(row, level) for row in found]


def mean_interval(
    values: Sequence[float], key: np.ndarray, count: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean over pairs."""
    return mean_intervals([values], key, count, level)[0]
