"""The paper's claims as data, and whether they hold in the runs there are.

A claim is a list of criteria; a criterion is a statistic of named runs with the range that the
paper's words allow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanorepro.paper.curves import ALL, FIRST, LAST, MID, Size, run_keys
from nanorepro.paper.estimates import Quantity, Statistic, every_ratio, loss

if TYPE_CHECKING:
    from nanorepro.results.result import Result


@dataclass(frozen=True)
class Criterion:
    """One number of a claim, and the range that the paper gives.

    Attributes
    ----------
    what : str
        What is measured, in words.
    statistic : callable
        How, from results.
    runs : tuple of (curve, place)
        Of which runs.
    low, high : float
        The range in which the paper has it.
    """

    what: str
    statistic: Statistic
    runs: tuple[tuple[str, str], ...]
    low: float = -math.inf
    high: float = math.inf

    @property
    def expected(self) -> str:
        """The range in words."""
        if self.low == self.high:
            return f"{self.low:g}"
        if self.high == math.inf:
            return f"{self.low:.3g} or more"
        if self.low == -math.inf:
            return f"{self.high:.3g} or less"
        return f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes
    ----------
    words : str
        The paper's, shortened.
    least : int
        The least log2 T at which the runs can tell.
    criteria : tuple of Criterion
        All must hold.
    """

    words: str
    least: int
    criteria: tuple[Criterion, ...]


HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell at this size"


@dataclass(frozen=True)
class Measured:
    """A criterion with what was measured.

    Attributes
    ----------
    criterion : Criterion
        Of which claim it is a part.
    value, low, high : float
        What was measured, with its 95 % interval; NaN where runs are missing.
    ids : tuple of str
        Of the runs that were measured.
    verdict : str
        Whether it holds.
    what : str
        The criterion's words, with the windows at the size of the runs.
    """

    criterion: Criterion
    value: float
    low: float
    high: float
    ids: tuple[str, ...]
    verdict: str
    what: str


def at_size(what: str, size: Size) -> str:
    """The words of a criterion, with the z that each of its places is at that size."""
    places = (("z = 1", FIRST), ("middle z", MID), ("the largest z", LAST), ("largest z", LAST))
    for words, place in places:
        (window,) = size.at(place)
        what = what.replace(words, f"z = 2^{window}" if window else "z = 1")
    return what


def measure(claim: Claim, size: Size, runs: dict[tuple[str, int], "Result"]) -> list[Measured]:
    """Every criterion of a claim, from the runs there are, by (curve, window)."""
    found = []
    for criterion in claim.criteria:
        keys, what = run_keys(criterion.runs, size), at_size(criterion.what, size)
        if missing := [k for k in keys if k not in runs]:
            ids = tuple(runs[k].config.id for k in keys if k not in missing)
            found.append(Measured(criterion, math.nan, math.nan, math.nan, ids, OPEN, what))
            continue
        results = [runs[k] for k in keys]
        value, low, high, where = criterion.statistic(results)
        ids = tuple(r.config.id for r in results)
        told = size.log2_examples >= claim.least and size.pairs > 1
        verdict = judge(low, high, criterion) if told else OPEN
        what += f" ({where})" if where else ""
        found.append(Measured(criterion, value, low, high, ids, verdict, what))
    return found


def judge(low: float, high: float, criterion: Criterion) -> str:
    """Whether an interval lies inside, outside or across the border of the expected range."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return OPEN
    if criterion.low <= low and high <= criterion.high:
        return HOLDS
    return FAILS if high < criterion.low or low > criterion.high else OPEN


def verdict(measured: Sequence[Measured]) -> str:
    """A claim holds if all its criteria do, and fails if one does."""
    seen = {m.verdict for m in measured}
    return FAILS if FAILS in seen else OPEN if OPEN in seen else HOLDS


def order_of(power: int) -> dict[str, float]:
    """`O(10^power)`: within a factor of ten, since θ and the initial values are other draws."""
    return {"low": 10.0 ** (power - 1), "high": 10.0 ** (power + 1)}


def two(first: str, second: str, place: str) -> tuple[tuple[str, str], ...]:
    """The runs of two curves at one place."""
    return (first, place), (second, place)


def ends(name: str) -> tuple[tuple[str, str], ...]:
    """The runs at the largest and at the smallest window."""
    return (name, LAST), (name, FIRST)


NEAR = math.sqrt(1.1)  # of L at z = 1: then no two L are more than 10 % apart


def equal_losses(names: Sequence[str], of: Quantity = loss) -> tuple[Criterion, ...]:
    """That L at every z is what it is at z = 1.

    Not the largest L over the least: of many noisy means that is above 1 where none differs.
    """
    return tuple(
        Criterion(f"{n}: L over that at z = 1, at the z farthest off", every_ratio(of, NEAR),
             ((n, ALL),), 1 / NEAR, NEAR)
        for n in names
    )  # fmt: skip


SETTLED, SMALL = 20, 14  # least log2 T: of models that learn in seconds, and of the deep ones
