"""Examples drawn from a world, each addressable by its index (eq. 1)."""

import numpy as np

from nanorepro.data.options import WORLD_FEATURES
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import words

FEATURES = WORLD_FEATURES


def examples(world: World, key: np.ndarray, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples first, ..., first + n - 1 of a stream: features (n,) uint32 and labels (n,) uint8.

    Word 0 of an example's call gives the columns of its halves, words 1 and 2 their coins, and the
    label is 1 if u·(1 + o) < o, o the odds and u = (word 3 + 1/2)/2^32: eq. 1.
    """
    w0, w1, w2, w3 = words(key, np.arange(first, first + n))
    column = (w0 & np.uint64(0xFFFF)).astype(np.int64), (w0 >> np.uint64(16)).astype(np.int64)
    low, high = (
        np.where(coin < world.accept[c], c, world.alias[c])
        for c, coin in zip(column, (w1, w2), strict=True)
    )
    odds = world.odds[0, low] * world.odds[1, high]
    u = (w3.astype(np.float64) + 0.5) * 2.0**-32
    return (low | high << 16).astype(np.uint32), (u * (1.0 + odds) < odds).astype(np.uint8)


def join(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Features (n,) uint32 and labels (n,) as one number each, (n,) uint64: x + y·2^32."""
    return np.asarray(x | y.astype(np.uint64) << np.uint64(32))


def example_log_odds(world: World, x: np.ndarray) -> np.ndarray:
    """xᵀθ or xᵀΘx of packed examples, float64 of the same shape."""
    return np.asarray(world.log_odds[0, x & 0xFFFF] + world.log_odds[1, x >> 16])
