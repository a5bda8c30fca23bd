"""The paper's claims as data, and whether they hold in the runs there are.

A claim is a list of parts; a part is a statistic of named runs with the range that the paper's
words allow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanorepro.paper.curves import (
    ALL,
    DRAWN,
    FIRST,
    LAST,
    MID,
    OPTIMIZERS,
    SIMPLE,
    SMELU,
    SWISH,
    Size,
    curves,
    run_keys,
)
from nanorepro.paper.estimates import (
    Quantity,
    Statistic,
    clean,
    correlation,
    count,
    deviation,
    every_ratio,
    exponent,
    farthest,
    learned,
    least_ratio,
    loss,
    mean,
    opposite,
    over_pairs,
    pd,
    rank_correlation,
    ratio,
    share,
    stuck,
)

if TYPE_CHECKING:
    from nanorepro.results.result import Result


@dataclass(frozen=True)
class Part:
    """One number of a claim: a statistic of runs (curve, place), and where the paper has it."""

    what: str
    statistic: Statistic
    runs: tuple[tuple[str, str], ...]
    low: float = -math.inf
    high: float = math.inf

    @property
    def expected(self) -> str:
        if self.low == self.high:
            return f"{self.low:g}"
        if self.high == math.inf:
            return f"{self.low:.3g} or more"
        if self.low == -math.inf:
            return f"{self.high:.3g} or less"
        return f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: its words, the figure it belongs to, the least log2 T that can tell."""

    figure: int
    words: str
    least: int
    parts: tuple[Part, ...]


HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot tell at this size"


@dataclass(frozen=True)
class Measured:
    """A part with what was measured: value and interval, NaN where runs are missing."""

    part: Part
    value: float
    low: float
    high: float
    ids: tuple[str, ...]
    verdict: str
    what: str


def at_size(what: str, size: Size) -> str:
    """The words of a part, with the z that each of its places is at that size."""
    places = (("z = 1", FIRST), ("middle z", MID), ("the largest z", LAST), ("largest z", LAST))
    for words, place in places:
        (window,) = size.at(place)
        what = what.replace(words, f"z = 2^{window}" if window else "z = 1")
    return what


def measure(claim: Claim, size: Size, runs: dict[tuple[str, int], "Result"]) -> list[Measured]:
    """Every part of a claim, from the runs there are, by (curve, window)."""
    found = []
    for part in claim.parts:
        keys, what = run_keys(part.runs, size), at_size(part.what, size)
        if missing := [k for k in keys if k not in runs]:
            ids = tuple(runs[k].config.id for k in keys if k not in missing)
            found.append(Measured(part, math.nan, math.nan, math.nan, ids, OPEN, what))
            continue
        results = [runs[k] for k in keys]
        value, low, high, where = part.statistic(results)
        ids = tuple(r.config.id for r in results)
        told = size.log2_examples >= claim.least and size.pairs > 1
        verdict = judge(low, high, part) if told else OPEN
        what += f" ({where})" if where else ""
        found.append(Measured(part, value, low, high, ids, verdict, what))
    return found


def judge(low: float, high: float, part: Part) -> str:
    """Whether an interval lies inside, outside or across the border of the expected range."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return OPEN
    if part.low <= low and high <= part.high:
        return HOLDS
    return FAILS if high < part.low or low > part.high else OPEN


def verdict(parts: Sequence[Measured]) -> str:
    """A claim holds if all its parts do, and fails if one does."""
    seen = {p.verdict for p in parts}
    return FAILS if FAILS in seen else OPEN if OPEN in seen else HOLDS


def needed(figure: int, size: Size) -> list[tuple[str, int]]:
    """The runs of a figure and its claims: the ends of the windows first, then those between."""
    drawn = run_keys(DRAWN[figure], size)
    claimed = [k for c in CLAIMS if c.figure == figure for p in c.parts
               for k in run_keys(p.runs, size)]  # fmt: skip
    all_keys = list(dict.fromkeys([*drawn, *claimed]))
    sources = {n: c.source for n, c in curves(size).items() if c.source}
    first = [(sources[n], size.windows[0]) for n, _ in all_keys if n in sources]
    ends = [*size.at(FIRST), *size.at(LAST), *size.at(MID), *size.windows]
    rank = {w: k for k, w in reversed(list(enumerate(ends)))}
    all_keys = [key for key in all_keys if key[0] not in size.without]
    ordered = sorted(all_keys, key=lambda key: rank[key[1]])
    return list(dict.fromkeys([*first, *ordered]))


def order_of(power: int) -> dict[str, float]:
    """`O(10^power)`: within a factor of ten, since θ and the initial values are other draws."""
    return {"low": 10.0 ** (power - 1), "high": 10.0 ** (power + 1)}


def two(first: str, second: str, place: str) -> tuple[tuple[str, str], ...]:
    return (first, place), (second, place)


def ends(name: str) -> tuple[tuple[str, str], ...]:
    """The runs at the largest and at the smallest window."""
    return (name, LAST), (name, FIRST)


NEAR = math.sqrt(1.1)  # of L at z = 1: then no two L are more than 10 % apart


def loss_parts(names: Sequence[str], of: Quantity = loss) -> tuple[Part, ...]:
    """That L at every z is what it is at z = 1.

    Not the largest L over the least: of many noisy means that is above 1 where none differs.
    """
    return tuple(
        Part(f"{n}: L over that at z = 1, at the z farthest off", every_ratio(of, NEAR),
             ((n, ALL),), 1 / NEAR, NEAR)
        for n in names
    )  # fmt: skip


SETTLED, SMALL = 20, 14  # least log2 T: of models that learn in seconds, and of the deep ones

CLAIMS: tuple[Claim, ...] = (
    Claim(2, "with identical initialization and no shuffling, linear and identity models have PD"
          " of order 1e-7: negligible, not 0", SETTLED, (
        Part("linear, z = 1: PD", mean(pd), (("linear", FIRST),), **order_of(-7)),
        Part("Identity 1, z = 1: PD", mean(pd), (("Identity 1", FIRST),), **order_of(-7)),
    )),
    Claim(2, "distinct initialization lifts the PD of single identity from O(1e-7) to O(1e-4)",
          SETTLED, (
        Part("Identity 1 diff, z = 1: PD", mean(pd), (("Identity 1 diff", FIRST),), **order_of(-4)),
        Part("Identity 1, z = 1: PD diff over same", ratio(pd),
             two("Identity 1 diff", "Identity 1", FIRST), 100.0),
    )),
    Claim(2, "distinct initialization lifts the PD of single ReLU to O(1e-2), which is retained"
          " with more shuffling", SETTLED, (
        Part("ReLU 1 diff, z = 1: PD", mean(pd), (("ReLU 1 diff", FIRST),), **order_of(-2)),
        Part("ReLU 1 diff over Identity 1 diff, z = 1: PD", ratio(pd),
             two("ReLU 1 diff", "Identity 1 diff", FIRST), 10.0),
        Part("ReLU 1 diff: PD at the largest z over z = 1", ratio(pd), ends("ReLU 1 diff"),
             1 / 3, 3.0),
    )),
    Claim(2, "the linear model's PD somewhat degrades by distinct initialization with little"
          " shuffling, not with more", SETTLED, (
        Part("linear, z = 1: PD diff over same", ratio(pd), two("linear diff", "linear", FIRST),
             1.0),
        Part("linear, largest z: PD diff over same", ratio(pd),
             two("linear diff", "linear", LAST), 0.5, 2.0),
    )),
    Claim(2, "ReLU with two units and identical initialization shows PD orders of magnitude above"
          " the baseline at z = 1; identity with two units does not", SETTLED, (
        Part("ReLU 2 over linear, z = 1: PD", ratio(pd), two("ReLU 2", "linear", FIRST), 100.0),
        Part("Identity 2 over linear, z = 1: PD", ratio(pd), two("Identity 2", "linear", FIRST),
             0.0, 10.0),
    )),
    Claim(2, "PD grows with z; with aggressive shuffling the linear model's is also high", SETTLED,
          (
        *(Part(f"{n}: PD at the largest z over z = 1", ratio(pd), ends(n), 10.0)
          for n in SIMPLE[1:]),
        Part("linear: PD at the largest z over z = 1", ratio(pd), ends("linear"), 1000.0),
    )),
    Claim(2, "as shuffling increases, there is a gap between the linear baseline and the deep"
          " models", SETTLED, tuple(
        Part(f"{n} over linear, middle z: PD", ratio(pd), two(n, "linear", MID), 1.0)
        for n in SIMPLE[1:]
    )),
    Claim(2, "enough shuffling with equal initialization gives PD of equal or higher order than"
          " distinct initialization", SETTLED, tuple(
        Part(f"{n}, largest z: PD same over diff", ratio(pd), two(n, f"{n} diff", LAST), 1 / 3)
        for n in SIMPLE[1:]
    )),
    Claim(2, "loss is equal for a given model regardless of initialization and shuffling", SETTLED,
          loss_parts(SIMPLE) + tuple(
        Part(f"{n}, z = 1: L diff over same", ratio(loss), two(f"{n} diff", n, FIRST), 1 / 1.1, 1.1)
        for n in SIMPLE
    )),
    Claim(2, "the linear model has the best loss in the linear world", SETTLED, tuple(
        Part(f"{n} over linear, z = 1: L", ratio(loss), two(n, "linear", FIRST), 1.0)
        for n in SIMPLE[1:]
    )),
    Claim(2, "with more training examples PD improves for the linear model and hardly for the"
          " deep ones", SETTLED, (
        Part("linear, middle z: exponent of PD in T", over_pairs(exponent), (("linear", MID),),
             high=-0.25),
        *(Part(f"{n}, middle z: exponent of PD in T", over_pairs(exponent), ((n, MID),), -0.25)
          for n in SIMPLE[1:]),
    )),
    Claim(3, "with distinct initialization, single models fall into two phases: weights equal or"
          " of opposite sign; with identical initialization the latter was never observed",
          SETTLED, (
        Part("Identity 1 diff, z = 1: share of opposite pairs", share(opposite),
             (("Identity 1 diff", FIRST),), 0.02, 0.98),
        Part("Identity 1 diff, z = 1: |cosine| of the weights", mean(clean),
             (("Identity 1 diff", FIRST),), 0.99),
        Part("ReLU 1 diff, z = 1: share of opposite pairs", share(opposite),
             (("ReLU 1 diff", FIRST),), 0.02, 0.98),
        Part("Identity 1, all z: opposite pairs", count(opposite), (("Identity 1", ALL),), 0, 0),
        Part("ReLU 1, all z: opposite pairs", count(opposite), (("ReLU 1", ALL),), 0, 0),
    )),
    Claim(3, "the cosine of deviations from θ is almost 1 with no shuffling and 0.191 with maximum"
          " shuffling (linear, distinct initialization)", SETTLED, (
        Part("linear diff, z = 1: cosine", mean(deviation), (("linear diff", FIRST),), 0.99),
        Part("linear diff, largest z: cosine", mean(deviation), (("linear diff", LAST),),
             0.0, 0.4),
    )),
    Claim(4, "weight differences of a single ReLU pair are O(1e-6) with minimum and O(1e-2) with"
          " maximum shuffling", SETTLED, (
        Part("ReLU 1, z = 1: largest |Δw|", mean(farthest), (("ReLU 1", FIRST),), **order_of(-6)),
        Part("ReLU 1, largest z: largest |Δw|", mean(farthest), (("ReLU 1", LAST),),
             **order_of(-2)),
    )),
    Claim(6, "the ReLU tower has worse PD than single ReLU even with minimal shuffling and"
          " identical initialization", SETTLED, (
        Part("ReLU tower over ReLU 1, z = 1: PD", ratio(pd), two("ReLU tower", "ReLU 1", FIRST),
             1.0),
    )),
    Claim(6, "some towers are stuck, unable to learn, which degrades loss and PD", SETTLED, (
        Part("ReLU tower, z = 1: share of pairs with a stuck model", share(stuck),
             (("ReLU tower", FIRST),), 0.005),
    )),
    Claim(6, "with minimal shuffling, the identity tower retains a PD of O(1e-6)", SETTLED, (
        Part("Identity tower, z = 1: PD", mean(pd), (("Identity tower", FIRST),), **order_of(-6)),
    )),
    Claim(6, "PDs of both towers are worse than a single ReLU's also with more shuffling", SETTLED,
          tuple(
        Part(f"{n} over ReLU 1, {what} z: PD", ratio(pd), two(n, "ReLU 1", place), 1.0)
        for n in ("ReLU tower", "Identity tower")
        for place, what in ((MID, "middle"), (LAST, "largest"))
    )),
    Claim(6, "when they manage to learn, excess loss is similar at every z", SETTLED,
          loss_parts(("Identity tower", "ReLU tower"), learned)),
    Claim(7, "the parameters of two ReLU towers of a pair form a wide correlation cloud", SETTLED, (
        Part("ReLU tower, middle z: correlation of parameters", mean(correlation),
             (("ReLU tower", MID),), high=0.95),
    )),
    Claim(8, "a well tuned learning rate leads to a better loss than the linear baseline with the"
          " identity activation", SETTLED, (
        Part("best wide Identity over linear (AdaGrad 0.1), z = 1: L", least_ratio(loss),
             tuple((f"Identity wide, {o}", FIRST) for o in OPTIMIZERS)
             + (("linear, AdaGrad 0.1", FIRST),), high=1.0),
    )),
    Claim(8, "too large learning rates degrade loss and PD", SETTLED, tuple(
        Part(f"{m} wide, z = 1: {what}, AdaGrad 1 over 0.1", ratio(of),
             two(f"{m} wide, AdaGrad 1", f"{m} wide, AdaGrad 0.1", FIRST), 1.0)
        for m in ("Identity", "ReLU") for what, of in (("L", loss), ("PD", pd))
    )),
    Claim(8, "ReLU exhibits worse PD than identity even with minimal shuffling; linear has the best"
          " PD curve", SETTLED, (
        Part("ReLU over Identity wide, z = 1: PD", ratio(pd),
             two("ReLU wide, AdaGrad 0.1", "Identity wide, AdaGrad 0.1", FIRST), 1.0),
        *(Part(f"Identity wide over linear, {what}: PD", ratio(pd),
               two("Identity wide, AdaGrad 0.1", "linear, AdaGrad 0.1", place), 1.0)
          for place, what in ((FIRST, "z = 1"), (MID, "middle z"), (LAST, "largest z"))),
    )),
    Claim(8, "excess loss is mostly the same for a configuration while PD changes with shuffling",
          SETTLED, loss_parts(("linear, AdaGrad 0.1", "Identity wide, AdaGrad 0.1",
                               "ReLU wide, AdaGrad 0.1"))),
    Claim(9, "pairs whose embeddings are aligned have a narrow cloud of hidden weights; less"
          " correlated embeddings go with larger deviations", SETTLED, (
        Part("wide ReLU, middle z: rank correlation over pairs, embeddings and weights",
             over_pairs(rank_correlation), (("ReLU wide, AdaGrad 0.1", MID),), 0.0),
    )),
    Claim(10, "non-linear activations have superior loss in the quadratic world, the linear"
          " baseline a very poor one", SMALL, tuple(
        Part(f"linear over {n}, z = 1: L", ratio(loss), two("linear, quadratic", n, FIRST), 2.0)
        for n in ("ReLU deep", "SmeLU 0.1 deep", "Swish 16 deep")
    )),
    Claim(10, "properly tuned SmeLU and Swish have lower PD than ReLU, at comparable loss, as long"
          " as shuffling is limited", SMALL, tuple(
        Part(f"{n} over ReLU, z = 1: {what}", ratio(of), two(n, "ReLU deep", FIRST), 0.0, high)
        for n in ("SmeLU 0.1 deep", "Swish 16 deep")
        for what, of, high in (("PD", pd, 1.0), ("L", loss, 1.1))
    )),
    Claim(10, "with aggressive shuffling the gain in PD disappears", SMALL, tuple(
        Part(f"{n} over ReLU, largest z: PD", ratio(pd), two(n, "ReLU deep", LAST), 0.8)
        for n in ("SmeLU 0.1 deep", "Swish 16 deep")
    )),
    Claim(10, "there is a trade-off in β: the smoother activation has lower PD and higher loss",
          SMALL, tuple(
        Part(f"{a} over {b}, {where}: {what}", ratio(of),
             ((f"{a} deep", place), (f"{b} deep", place)), low, high)
        for a, b in ((f"SmeLU {SMELU[-1]:g}", f"SmeLU {SMELU[0]:g}"),
                     (f"Swish {SWISH[0]:g}", f"Swish {SWISH[-1]:g}"))
        for what, of, low, high, place, where in (
            ("PD", pd, 0.0, 1.0, MID, "middle z"), ("L", loss, 1.0, math.inf, MID, "middle z"))
    )),
    Claim(10, "a warm start with a lower learning rate reduces PD even with aggressive shuffling,"
          " at competitive loss", SMALL, (
        Part("ReLU TL over ReLU, largest z: PD", ratio(pd), two("ReLU deep TL", "ReLU deep", LAST),
             0.0, 1.0),
        Part("ReLU TL over ReLU, largest z: L", ratio(loss),
             two("ReLU deep TL", "ReLU deep", LAST), 0.0, 1.1),
    )),
    Claim(10, "excess loss is unaffected by shuffling", SMALL,
          loss_parts(("ReLU deep", "SmeLU 0.1 deep", "Swish 16 deep"))),
)  # fmt: skip
