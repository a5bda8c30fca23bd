"""What examples are drawn from (sections 2 and 6): the distributions of features and labels.

Each half of the 32 features is made of equal sets.  The j-th feature of a set, j from 1 on, is 1
with probability `marginal(j)`; the log-odds of the label are a sum of components of θ, one for each
feature that is present or, with interactions, for each two of a set (a feature with itself, too)
that are both present.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

HALF_FEATURES = 16


@dataclass(frozen=True)
class Distribution:
    """A world.

    Attributes
    ----------
    name, summary : str
        What `--data` takes, and what it is in a few words.
    marginal : callable
        j -> P(x_j = 1) of the j-th feature of a set, float64 operations to nearest.
    set_size : int
        Features of a set, a divisor of 16.
    interactions : bool
        Whether two features of a set add to the log-odds together: xᵀΘx with lower triangles in
        blocks, not xᵀθ.
    """

    name: str
    summary: str
    marginal: Callable[[int], float]
    set_size: int
    interactions: bool = False

    @property
    def components(self) -> int:
        """Components of θ."""
        each = (self.set_size + 1) * self.set_size // 2 if self.interactions else self.set_size
        return 2 * (HALF_FEATURES // self.set_size) * each

    def first_partner(self, j: int) -> int:
        """The first feature of a half (from 0) that has a component together with the j-th."""
        return j // self.set_size * self.set_size if self.interactions else j


def linear_marginal(j: int) -> float:
    """6/(jπ)²."""
    return 6.0 / ((j * math.pi) * (j * math.pi))


def quadratic_marginal(j: int) -> float:
    """90/(jπ)⁴."""
    square = (j * math.pi) * (j * math.pi)
    return 90.0 / (square * square)


DISTRIBUTIONS = {
    record.name: record
    for record in (
        Distribution("linear", "log-odds xᵀθ", linear_marginal, set_size=16),
        Distribution(
            "quadratic", "log-odds xᵀΘx in blocks of 4", quadratic_marginal, 4, interactions=True
        ),
    )
}
