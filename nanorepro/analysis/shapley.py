"""Shapley values and interactions of players whose every coalition has a value.

Coalitions of k players are the numbers from 0 to 2^k - 1: player i is in those whose bit i is set.
Both are linear in the values, so they are given as weights of the 2^k values.
"""

from itertools import combinations
from math import factorial

import numpy as np


def members(k: int) -> np.ndarray:
    """Which of k players are in each coalition: bool (2^k, k)."""
    found: np.ndarray = np.arange(1 << k)[:, None] >> np.arange(k) & 1 == 1
    return found


def shapley_weights(k: int) -> np.ndarray:
    """Weights (k, 2^k) of the coalitions' values in each player's Shapley value (Shapley, 1953).

    φ_i = Σ over the S without i of |S|! (k - |S| - 1)!/k! · (v(S with i) - v(S)).

    Examples
    --------
    >>> shapley_weights(2).tolist()  # of the coalitions {}, {0}, {1}, {0, 1}
    [[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]]
    """
    there = members(k)
    size = there.sum(axis=1)
    joining = np.array([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)])
    found = np.where(there, joining[size - 1][:, None], -joining[np.minimum(size, k - 1)][:, None])
    return np.ascontiguousarray(found.T)


def interaction_weights(k: int) -> dict[tuple[int, int], np.ndarray]:
    """Weights (2^k,) of the values in the Shapley interaction index of each two players.

    I_ij = Σ over the S without i, j of |S|! (k - |S| - 2)!/(k - 1)! times what both add to S beyond
    what each adds: v(S with both) - v(S with i) - v(S with j) + v(S) (Grabisch and Roubens, 1999).

    Examples
    --------
    >>> interaction_weights(2)[0, 1].tolist()
    [1.0, -1.0, -1.0, 1.0]
    """
    there = members(k)
    found = {}
    for i, j in combinations(range(k), 2):
        size = there.sum(axis=1) - there[:, i] - there[:, j]  # of the S that it is in
        weight = np.array([factorial(s) * factorial(k - s - 2) for s in range(k - 1)])
        sign = np.where(there[:, i] == there[:, j], 1.0, -1.0)
        found[i, j] = sign * weight[size] / factorial(k - 1)
    return found
