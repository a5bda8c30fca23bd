"""Counter-based random streams: Philox4x32-10, the keys of the roles, permutations.

Nothing here holds state.  A word is a function of (seed, role, pair, model) and a counter, so any
example, permutation or initial value is addressable by itself, in any order, on any machine.
The functions work on Python integers held as np.uint64, on arrays of them, and in Numba.
"""

import numpy as np

from nanorepro.numerics.array_namespace import Function, Value

STREAMS = {
    "theta": 1,  # the true weights of the world
    "evaluation": 2,  # the evaluation examples
    "examples": 3,  # the training examples of a pair
    "bootstrap": 4,  # resampling of pairs for intervals
    "init": 5,
    "shuffle": 6,
    "order": 7,
    "rounding": 8,
    "nudge": 9,
    "units": 10,  # role order, for the sums over units
    "deal": 11,  # which of the caller's examples are held out, and whose the others are
}

U32 = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)
PIECE = 1 << 12  # values at a time, whose words fit in the caches
M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def make_philox() -> Function:
    """`philox`, made anew: the compiler knows a function in one way only, as a call or in line."""

    def philox(
        c0: Value, c1: Value, c2: Value, c3: Value, k0: Value, k1: Value
    ) -> tuple[Value, Value, Value, Value]:
        """Philox4x32-10 (Salmon et al., SC 2011): four 32-bit words from a counter and a key.

        Arguments and results are 32-bit values in uint64 scalars or arrays.
        """
        for _ in range(10):
            p0 = M0 * c0
            p1 = M1 * c2
            c0 = (p1 >> U32) ^ c1 ^ k0
            c1 = p1 & LOW
            c2 = (p0 >> U32) ^ c3 ^ k1
            c3 = p0 & LOW
            k0 = (k0 + W0) & LOW
            k1 = (k1 + W1) & LOW
        return c0, c1, c2, c3

    return philox


philox = make_philox()


def stream_key(seed: int, stream: str, pair: int = 0, model: int = 0) -> np.ndarray:
    """The key (2 words) of a stream: the first two words of Philox at (stream, pair, model, 0).

    A stream that a pair shares has model 0, so the first model of a pair is the same run whatever
    the two differ in.
    """
    u = np.uint64
    words = philox(u(STREAMS[stream]), u(pair), u(model), u(0), u(seed & 0xFFFFFFFF), u(seed >> 32))
    return np.array(words[:2], np.uint64)


def words(key: np.ndarray, counters: np.ndarray, block: int = 0) -> tuple[np.ndarray, ...]:
    """Philox words at the counters (c mod 2^32, c div 2^32, block, 0): four arrays of uint64."""
    c = counters.astype(np.uint64)
    zero = np.zeros_like(c)
    found: tuple[np.ndarray, ...]
    found = philox(c & LOW, c >> U32, zero + np.uint64(block), zero, key[0], key[1])
    return found


def uniform(key: np.ndarray, n: int, block: int = 0) -> np.ndarray:
    """n values (word + 1/2)/2^32 in (0, 1), float64, from the first word of each counter."""
    values = np.empty(n)
    for i in range(0, n, PIECE):
        first = words(key, np.arange(i, min(i + PIECE, n)), block)[0]
        values[i : i + PIECE] = (first.astype(np.float64) + 0.5) * 2.0**-32
    return values


def bounded(high: Value, low: Value, n: Value) -> Value:
    """⌊(high·2^32 + low)·n / 2^64⌋: a whole number below n ≤ 2^32 from two random words."""
    return (high * n + ((low * n) >> U32)) >> U32


def permute(order: Value, key: Value, block_low: Value, block_high: Value) -> None:
    """Fisher-Yates shuffle of `order` in place, by the words of one block of a stream.

    For i = n-1, ..., 1: swap order[i] and order[j], j = bounded(·, i + 1) from words 0 and 1 (i
    even) or 2 and 3 (i odd) of the counter (⌊i/2⌋, block_low, block_high, 1).
    """
    one = np.uint64(1)
    w = philox(np.uint64(0), block_low, block_high, one, key[0], key[1])
    for i in range(order.shape[0] - 1, 0, -1):
        if i % 2 == 1 or i == order.shape[0] - 1:
            w = philox(np.uint64(i // 2), block_low, block_high, one, key[0], key[1])
        high, low = (w[2], w[3]) if i % 2 == 1 else (w[0], w[1])
        j = np.int64(bounded(high, low, np.uint64(i + 1)))
        keep = order[i]
        order[i] = order[j]
        order[j] = keep


def permutation(key: np.ndarray, block: int, n: int) -> np.ndarray:
    """The block-th permutation of 0..n-1 of a stream, int64."""
    order = np.arange(n)
    permute(order, key, np.uint64(block & 0xFFFFFFFF), np.uint64(block >> 32))
    return order
