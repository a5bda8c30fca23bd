"""A world as tables over the patterns of half an example, from which examples are drawn.

An example is 32 features in one uint32 (bit j is feature j) and a label, 0 or 1.  It is a function
of (seed, pair, index) alone.  One Philox call draws it: its two 16-bit halves by the alias method,
its label by a Bernoulli draw.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanorepro.data.distributions import DISTRIBUTIONS, HALF_FEATURES
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.array_namespace import Function
from nanorepro.numerics.exp_log import exp64, log64
from nanorepro.numerics.streams import stream_key, uniform, words

HALF = 1 << 16  # patterns of 16 features

exp = exp64(numpy_arrays)
log = log64(numpy_arrays)


@dataclass(frozen=True, eq=False)  # by identity, as its arrays cannot be hashed
class World:
    """What examples are drawn from: tables over the 2^16 patterns of half an example.

    Attributes
    ----------
    theta : np.ndarray
        (components,) float64, the true weights.
    accept, alias : np.ndarray
        (65536,) uint32 and uint16, thresholds and patterns of the alias method, one table for both
        halves.
    columns : np.ndarray
        (65536,) uint64, both in one number, accept·2^16 + alias.
    log_odds, odds : np.ndarray
        (2, 65536) float64, by half: an example's log-odds are the sum of its halves', its odds the
        product.
    """

    theta: np.ndarray
    accept: np.ndarray
    alias: np.ndarray
    columns: np.ndarray
    log_odds: np.ndarray
    odds: np.ndarray


def normals(key: np.ndarray, n: int) -> np.ndarray:
    """n standard normal values, by Marsaglia's polar method; (n,) float64.

    The a-th attempt for value c takes u, v from words 0 and 1 of the counter (c, 0, a, 0).
    """
    values = np.empty(n)
    todo = np.arange(n)
    attempt = 1
    while len(todo):
        w = words(key, todo, attempt)
        u, v = (2.0 * ((w[k].astype(np.float64) + 0.5) * 2.0**-32) - 1.0 for k in (0, 1))
        s = u * u + v * v
        inside = s < 1.0
        s = s[inside]
        values[todo[inside]] = u[inside] * np.sqrt(-2.0 * log(s) / s)
        todo = todo[~inside]
        attempt += 1
    return values


def true_weights(seed: int, world: str) -> np.ndarray:
    """θ: each component from N(μ, 1) with μ picked from {-2, 0, 2} (section 2); float64.

    linear: (32,), one for each feature.  quadratic: (80,), for each of 8 blocks of 4 the lower
    triangle of Θ row by row (section 6).
    """
    key = stream_key(seed, "theta")
    n = DISTRIBUTIONS[world].components
    mean = np.array([-2.0, 0.0, 2.0])[(uniform(key, n) * 3.0).astype(np.int64)]
    return np.asarray(mean + normals(key, n))


def marginals(world: str) -> np.ndarray:
    """P(x_j = 1) of the features of half an example, (16,): those of its sets."""
    record = DISTRIBUTIONS[world]
    one_set = [record.marginal(j) for j in range(1, record.set_size + 1)]
    return np.tile(one_set, HALF_FEATURES // record.set_size)


def half_log_odds(theta: np.ndarray, world: str) -> np.ndarray:
    """Log-odds of every pattern of either half, terms added in ascending order; (2, 65536).

    The terms of bit j come last of a pattern that has no higher bit, so the patterns of j bits give
    those of j + 1: half the additions of a pass over all patterns for each term.
    """
    record, table, component = DISTRIBUTIONS[world], np.empty((2, HALF)), 0
    for half in range(2):
        table[half, 0] = 0.0
        for j in range(16):
            n = 1 << j
            upper = table[half, n : 2 * n]
            upper[:] = table[half, :n]
            for b in range(record.first_partner(j), j):
                # those with bit b; to the others +0 would be added, which changes none: none is -0
                upper.reshape(-1, 2, 1 << b)[:, 1] += theta[component]
                component += 1
            upper += theta[component]
            component += 1
    return table


def alias_table(probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Walker's alias table (Vose's construction) in integers: `accept` uint32, `alias` uint16.

    A column c and a 32-bit coin give the pattern c if coin < accept[c], else alias[c].  The weights
    are the probabilities in units of 2^-48, the largest taking up the rounding.

    The last large column fills up small ones, from the last on, until it is small itself and the
    next one to be filled.  How many a column fills is searched for, not counted.
    """
    weight = np.floor(probability * 2.0**48 + 0.5).astype(np.int64)
    weight[np.argmax(weight)] += (1 << 48) - int(weight.sum())
    full = 1 << 32
    accept, alias = np.full(HALF, full - 1), np.arange(HALF)
    small, large = (np.flatnonzero(c)[::-1] for c in (weight < full, weight >= full))
    wanting = np.concatenate([[0], np.cumsum(full - weight[small])])  # by the first of the small
    filled = 0
    emptied = None
    for g in large.tolist():
        left = int(weight[g])
        if emptied is not None:
            c, rest = emptied
            accept[c], alias[c] = rest, g
            left -= full - rest
        if left >= full:
            least = int(wanting[filled]) + left - full
            end = min(int(wanting.searchsorted(least, "right")), len(small))
            alias[small[filled:end]] = g
            left -= int(wanting[end] - wanting[filled])
            filled = end
        if left >= full:
            break
        emptied = g, left
    accept[small[:filled]] = weight[small[:filled]]
    return accept.astype(np.uint32), alias.astype(np.uint16)


@lru_cache(maxsize=4)
def make_world(seed: int, world: str, exp: Function = exp) -> World:
    """A world of a seed by its distribution's name, its arrays read-only.

    `exp` is any backend's.
    """
    probability = np.ones(1)
    for p in marginals(world):
        probability = np.concatenate([probability * (1.0 - p), probability * p])
    accept, alias = alias_table(probability)
    theta = true_weights(seed, world)
    log_odds = half_log_odds(theta, world)
    columns = accept.astype(np.uint64) << np.uint64(16) | alias
    odds = np.empty_like(log_odds)
    # part by part: exp's temporary arrays fit in the cache, and their memory is not given back
    for part, values in zip(odds.reshape(32, -1), log_odds.reshape(32, -1), strict=True):
        part[:] = exp(values)
    found = World(theta, accept, alias, columns, log_odds, odds)
    for array in vars(found).values():
        array.setflags(write=False)
    return found
