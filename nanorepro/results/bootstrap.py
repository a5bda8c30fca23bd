"""The bootstrap over pairs: resamples from the `bootstrap` stream, in bounded memory.

Resample r of n pairs takes pairs ⌊u·n⌋ from the Philox words of the counters r·n, ..., r·n + n - 1.
They are made a block of resamples at a time, so that memory does not grow with the pairs.
"""

from collections.abc import Iterator

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
