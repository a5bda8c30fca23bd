"""The paper's claims as data, and whether they hold in the runs there are.

A claim is a list of criteria; a criterion is a statistic of named runs with the range that the
paper's words allow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanorepro.paper.curves import ALL, FIRST, LAST, MID, Size, run_keys
from nanorepro.paper.estimates import (
    FAILS,
    HOLDS,
    OPEN,
    Estimate,
    Statistic,
    ratio,
    same_at_every_window,
)
from nanorepro.paper.observed import Key, Observed
from nanorepro.paper.quantities import LOG_LOSS, LOSS, PD, Quantity

__all__ = [
    "FAILS", "HOLDS", "OPEN", "Claim", "Criterion", "Measured", "decide", "verdict",
]  # fmt: skip

RESAMPLINGS = 9  # that must say the same
COMPARABLE = 1.1  # times another loss
NEAR_BORDER = 0.25  # of an end's distance from the value, of which resamples move it by a tenth


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
    more : Size, optional
        The runs that decide where those of the figure do not: more pairs, if need be of fewer
        examples.
    ours : bool
        Whether it is a question of our own, beside what the paper says.
    """

    words: str
    least: int
    criteria: tuple[Criterion, ...]
    more: Size | None = None
    ours: bool = False

    def needed(self, size: Size) -> list[Key]:
        """The runs of the claim at a size."""
        return run_keys([run for c in self.criteria for run in c.runs], size)


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
    said : str
        What a test says of it, if one decides.
    size : str
        T and pairs, where they are not the figure's.
    """

    criterion: Criterion
    value: float
    low: float
    high: float
    ids: tuple[str, ...]
    verdict: str
    what: str
    said: str = ""
    size: str = ""


def at_size(what: str, size: Size) -> str:
    """The words of a criterion, with the z that each of its places is at that size."""
    places = (("z = 1", FIRST), ("middle z", MID), ("the largest z", LAST), ("largest z", LAST))
    for words, place in places:
        (window,) = size.at(place)
        what = what.replace(words, f"z = 2^{window}" if window else "z = 1")
    return what


def measure(claim: Claim, size: Size, runs: Mapping[Key, Observed]) -> list[Measured]:
    """Every criterion of a claim, from the runs there are of one size."""
    found = []
    own = size != claim.more
    words = "" if own else f"T = 2^{size.log2_examples}, {size.pairs} pairs"
    for criterion in claim.criteria:
        keys, what = run_keys(criterion.runs, size), at_size(criterion.what, size)
        names = {q.name for q in criterion.statistic.quantities}
        there = [runs[k] for k in keys if k in runs and names <= runs[k].values.keys()]
        ids = tuple(r.id for r in there)
        if len(there) < len(keys):
            nan = math.nan
            found.append(Measured(criterion, nan, nan, nan, ids, OPEN, what, size=words))
            continue
        e = criterion.statistic(there)
        told = size.pairs > 1 and not (own and size.log2_examples < claim.least)
        verdict, said = judged(e, criterion, there) if told else (OPEN, e.said)
        what += f" ({e.where})" if e.where else ""
        found.append(Measured(criterion, e.value, e.low, e.high, ids, verdict, what, said, words))
    return found


def decide(
    claim: Claim, size: Size, runs: Mapping[Key, Observed], more: Mapping[Key, Observed]
) -> tuple[str, list[Measured]]:
    """The verdict on a claim and its criteria, from the figure's runs and those with more pairs.

    More pairs decide a criterion only where the figure's own leave it open; both are listed.
    """
    own = measure(claim, size, runs)
    if verdict(own) != OPEN or claim.more is None or not more:
        return verdict(own), own
    other = measure(claim, claim.more, more)
    parts: list[Measured] = []
    decisive = []
    for first, second in zip(own, other, strict=True):
        known = len(second.ids) == len(run_keys(second.criterion.runs, claim.more))
        if first.verdict == OPEN and known:
            parts += [first, second]
            decisive.append(second)
        else:
            parts.append(first)
            decisive.append(first)
    return verdict(decisive), parts


def judged(e: Estimate, criterion: Criterion, runs: Sequence[Observed]) -> tuple[str, str]:
    """The verdict on an estimate, and what is said of it.

    By its test if it has one, else by its interval.  The ends of a bootstrap interval vary with
    the resamples; where one is near a border, other resamples must say the same.
    """
    if e.told:
        return e.told, e.said
    verdict = judge(e.low, e.high, criterion)
    if verdict == OPEN or not near(e, criterion):
        return verdict, e.said
    for resampling in range(1, RESAMPLINGS):
        other = criterion.statistic(runs, resampling)
        if judge(other.low, other.high, criterion) != verdict:
            return OPEN, "with other resamples it crosses the border"
    return verdict, e.said


def near(e: Estimate, criterion: Criterion) -> bool:
    """Whether an end of the interval is so near a border that the resamples may decide."""
    return any(
        abs(border - end) < NEAR_BORDER * abs(end - e.value)
        for border in (criterion.low, criterion.high)
        for end in (e.low, e.high)
    )


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


NEAR = math.sqrt(COMPARABLE)  # of L at z = 1: then no two L are more than 10 % apart


def equal_losses(
    names: Sequence[str], of_log: Quantity = LOG_LOSS, bound: float = NEAR
) -> tuple[Criterion, ...]:
    """That L at every z is what it is at z = 1, within a factor: two one-sided tests for each z."""
    return tuple(
        Criterion(f"{n}: L over that at z = 1, at the z told worst",
             same_at_every_window(of_log, bound), ((n, ALL),), 1 / bound, bound)
        for n in names
    )  # fmt: skip


def equal_loss(what: str, first: tuple[str, str], second: tuple[str, str]) -> Criterion:
    """That L is the same in two runs, within the same factor, by the same tests."""
    test = same_at_every_window(LOG_LOSS, NEAR)
    return Criterion(what, test, (second, first), 1 / NEAR, NEAR)


def less_pd(
    what: str,
    first: str,
    second: str,
    place: str,
    pd: Quantity = PD,
    loss: Quantity = LOSS,
    of: str = "",
) -> tuple[Criterion, Criterion]:
    """That PD of one curve is less than another's, at comparable loss: 1.1 times it at most."""
    runs = two(first, second, place)
    return (
        Criterion(f"{what}: PD{of}", ratio(pd), runs, 0.0, 1.0),
        Criterion(f"{what}: L{of}", ratio(loss), runs, 0.0, COMPARABLE),
    )


LEAST_LOG2_T, LEAST_LOG2_T_DEEP = 20, 14  # of models that learn in seconds, and of the deep ones


def counted(of: Sequence[Mapping[str, Any]]) -> str:
    """How many of some claims, as records have them, have which verdict, in words."""
    asked = [c["verdict"] for c in of if c.get("ours")]
    found = _counted([c["verdict"] for c in of if not c.get("ours")])
    return f"{found}; of questions of our own {_counted(asked)}" if asked else found


def _counted(verdicts: Sequence[str]) -> str:
    several = {HOLDS: "hold", FAILS: "do not hold", OPEN: OPEN}
    counts = {v: verdicts.count(v) for v in several if v in verdicts}
    return ", ".join(f"{n} {v if n == 1 else several[v]}" for v, n in counts.items()) or "none"
