"""The bootstrap over pairs: resamples from the `bootstrap` stream, in bounded memory.

Resample r of n pairs takes pairs ⌊u·n⌋ from the Philox words of the counters r·n, ..., r·n + n - 1.
They are made a block of resamples at a time, so that memory does not grow with the pairs.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from nanorepro.numerics.streams import bounded, words

RESAMPLES = 2000
BLOCK = 1 << 14  # picks at a time, whose random words fit in the caches
KEPT = 32  # blocks that are kept for the next statistic, 4 MB


def resamples(key: np.ndarray, n: int, count: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Blocks (resamples, n) of the numbers of n pairs, drawn with replacement; `count` rows."""
    rows = max(1, BLOCK // n)
    for first in range(0, count, rows):
        yield _picks(key.tobytes(), n, first, min(first + rows, count))


@lru_cache(maxsize=KEPT)
def _picks(key: bytes, n: int, first: int, last: int) -> np.ndarray:
    """Resamples first ... last - 1, int64, which many statistics of as many pairs ask for."""
    high, low = words(np.frombuffer(key, np.uint64), np.arange(first * n, last * n))[:2]
    picked: np.ndarray = bounded(high, low, np.uint64(n))
    found = picked.astype(np.int64).reshape(last - first, n)
    found.setflags(write=False)
    return found
