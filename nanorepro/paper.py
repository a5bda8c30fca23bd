"""The paper's figures and claims as data: which runs they need, and what the runs must show.

A figure is a list of curves; a curve is a configuration whose window varies.  A claim is a list of
parts; a part is a statistic of named runs with the range that the paper's words allow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nanorepro.config import Config, ConfigError
from nanorepro.metrics import cosine
from nanorepro.streams import bounded, stream_key, words

if TYPE_CHECKING:
    from nanorepro.simulation import Result

FIGURES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
FIRST, MID, LAST, ALL = "first", "mid", "last", "all"  # places in a list of windows
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdaGrad 0.1": {"optimizer": "adagrad", "lr": 0.1},
    "AdaGrad 1": {"optimizer": "adagrad", "lr": 1.0},
    "SGD 0.01": {"optimizer": "sgd", "lr": 0.01},
    "SGD 0.1": {"optimizer": "sgd", "lr": 0.1},
}
SMELU, SWISH = (0.02, 0.1, 0.5), (4.0, 16.0, 64.0)  # β of figure 10
SLOWER = 0.01  # the learning rate after a warm start


@dataclass(frozen=True)
class Size:
    """How large the runs of a figure are: T, N, pairs, and the windows log2 z."""

    log2_examples: int
    log2_eval: int
    pairs: int
    windows: tuple[int, ...]
    seed: int = 0
    hidden: str = ""  # in place of the deep model's layers
    without: tuple[str, ...] = ()  # curves left out

    def at(self, place: str) -> tuple[int, ...]:
        """The windows at a place of the list; the middle one is the longest up to half the last."""
        first, last = self.windows[0], self.windows[-1]
        middle = max(w for w in self.windows if 2 * w <= last or w == first)
        return {FIRST: (first,), MID: (middle,), LAST: (last,), ALL: self.windows}[place]


PAPER = Size(26, 16, 16, tuple(range(0, 21, 2)))
LAPTOP = Size(22, 16, 16, (0, 4, 8, 12, 16, 17))
SMOKE = Size(10, 8, 2, (0, 2, 5))
SCALES: dict[str, dict[int, Size]] = {
    "paper": dict.fromkeys(FIGURES, PAPER),
    "laptop": dict.fromkeys(FIGURES, LAPTOP)
    | {8: Size(20, 16, 16, (0, 4, 8, 12, 15)), 9: Size(20, 16, 16, (0, 4, 8, 12, 15))}
    | {10: Size(16, 14, 16, (0, 3, 6, 9, 11))},
    "smoke": dict.fromkeys(FIGURES, SMOKE)
    | {10: Size(8, 6, 2, (0, 1, 3), hidden="64,32", without=("SmeLU 0.02 deep", "Swish 64 deep"))},
}


def size(
    figure: int,
    scale: str,
    log2_examples: int | None = None,
    pairs: int | None = None,
    windows: Sequence[int] | None = None,
    seed: int = 0,
) -> Size:
    """The size of a figure at a scale, with what is given in place of its own.

    At a smaller T the windows that do not fit give way to the longest that does.
    """
    found = SCALES[scale][figure]
    examples = found.log2_examples if log2_examples is None else log2_examples
    if not 5 <= examples <= 40:
        raise ConfigError(f"--log2-examples: {examples} is not allowed; give 5 to 40")
    longest = examples - 5
    wanted = found.windows if windows is None else tuple(sorted(set(windows)))
    if windows is not None and not all(0 <= w <= longest for w in wanted):
        raise ConfigError(
            f"--windows: {','.join(map(str, wanted))} is not allowed; give log2 z from 0 to"
            f" {longest}, as 2^{examples} examples allow"
        )
    fitting = {w for w in wanted if w <= longest}
    if len(fitting) < len(wanted):
        fitting.add(longest)
    return replace(
        found,
        log2_examples=examples,
        pairs=found.pairs if pairs is None else pairs,
        windows=tuple(sorted(fitting)),
        seed=seed,
    )


@dataclass(frozen=True)
class Curve:
    """A line of a figure.

    `source` names the curve whose models, trained with the shortest window, it starts from.
    """

    name: str
    config: Config
    source: str = ""

    def at(self, window: int, fingerprint: str = "") -> Config:
        """The run of one window; `fingerprint` is that of the source's run."""
        c = replace(self.config, log2_window=window)
        if not self.source:
            return c
        return replace(c, warm_start=fingerprint, first_example=c.examples)


def curves(size: Size) -> dict[str, Curve]:
    """Every curve of the paper by name, at a size."""
    found: dict[str, Curve] = {}

    def add(name: str, source: str = "", **fields) -> None:
        sizes = {
            "log2_examples": size.log2_examples, "log2_eval": size.log2_eval,
            "pairs": size.pairs, "seed": size.seed, "eval_every": "log",
        }  # fmt: skip
        found[name] = Curve(name, Config(**{**sizes, **fields}), source)

    for suffix, differ in (("", "shuffle"), (" diff", "init,shuffle")):
        add("linear" + suffix, model="linear", differ=differ)
        for units, model in ((1, "single"), (2, "double")):
            for title, act in (("Identity", "identity"), ("ReLU", "relu")):
                add(f"{title} {units}{suffix}", model=model, act=act, differ=differ)
    for title, act in (("Identity", "identity"), ("ReLU", "relu")):
        add(f"{title} tower", model="tower", act=act)
    for name, optimizer in OPTIMIZERS.items():
        add(f"linear, {name}", model="linear", **optimizer)
        for title, act in (("Identity", "identity"), ("ReLU", "relu")):
            add(f"{title} wide, {name}", model="wide", act=act, **optimizer)
    for title, act in (("SmeLU 0.1", "smelu"), ("Swish 16", "swish")):
        beta = float(title.split()[1])
        add(f"{title} wide, AdaGrad 0.1", model="wide", act=act, beta=beta)
    quadratic: dict[str, Any] = {"data": "quadratic", "model": "deep"}
    if size.hidden:
        quadratic |= {"model": "tower", "hidden": size.hidden}
    add("linear, quadratic", data="quadratic", model="linear")
    add("ReLU deep", act="relu", **quadratic)
    for beta in SMELU:
        add(f"SmeLU {beta:g} deep", act="smelu", beta=beta, **quadratic)
    for beta in SWISH:
        add(f"Swish {beta:g} deep", act="swish", beta=beta, **quadratic)
    add("ReLU deep TL", source="ReLU deep", act="relu", lr=SLOWER, **quadratic)
    return found


SIMPLE = ("linear", "Identity 1", "ReLU 1", "Identity 2", "ReLU 2")
WIDE = tuple(f"{m}, {o}" for m in ("linear", "Identity wide", "ReLU wide") for o in OPTIMIZERS)
SMOOTH = tuple(f"SmeLU {b:g} deep" for b in SMELU) + tuple(f"Swish {b:g} deep" for b in SWISH)
DRAWN: dict[int, tuple[tuple[str, str], ...]] = {
    1: (),
    2: tuple((n + s, ALL) for n in SIMPLE for s in ("", " diff")),
    3: (("linear diff", LAST), ("Identity 1 diff", FIRST), ("Identity 2", LAST), ("ReLU 2", LAST)),
    4: (("ReLU 1", FIRST), ("ReLU 1", LAST)),
    5: (),
    6: (("Identity tower", ALL), ("ReLU tower", ALL)),
    7: (("ReLU tower", MID),),
    8: tuple(
        (n, ALL) for n in (*WIDE, "SmeLU 0.1 wide, AdaGrad 0.1", "Swish 16 wide, AdaGrad 0.1")
    ),
    9: (("ReLU wide, AdaGrad 0.1", MID),),
    10: tuple((n, ALL) for n in ("linear, quadratic", "ReLU deep", *SMOOTH, "ReLU deep TL")),
}
TITLES = {
    1: "Simple models",
    2: "Simple models, AdaGrad 0.1",
    3: "Trained weights of pairs of models",
    4: "Differences between the weights of a ReLU 1 pair",
    5: "Deep tower and wide embedding models",
    6: "Narrow tower models [16, 8, 4, 2], AdaGrad 0.1",
    7: "Parameters of a pair of ReLU towers",
    8: "Wide models with trained embeddings, 1000 units",
    9: "Parameters of two pairs of wide ReLU models",
    10: "Deep models [1024, 512] in the quadratic world",
}

# Statistics: results → (value, low, high), the 95 % interval over pairs.  A sample function has the
# results and `pick` (draws, pairs), the pairs of each draw, and gives one value a draw.

Results = Sequence["Result"]
Statistic = Callable[[Results], tuple[float, float, float]]
Quantity = Callable[["Result"], np.ndarray]  # a value for every pair
Sample = Callable[[Results, np.ndarray], np.ndarray]
DRAWS = 2000


def pd(r: "Result") -> np.ndarray:
    """Relative PD of every pair, eq. 3; NaN where a model diverged."""
    return np.array([p.pd for p in r.pairs])


def loss(r: "Result") -> np.ndarray:
    """Excess loss of every pair, the mean of its two models, eq. 2."""
    return np.array([sum(p.loss) / 2 for p in r.pairs])


def learned(r: "Result") -> np.ndarray:
    """Excess loss of every pair, NaN where a model is stuck."""
    return np.where(stuck(r) > 0, math.nan, loss(r))


def stuck(r: "Result") -> np.ndarray:
    """Whether a model of the pair is stuck."""
    return np.array([float(any(p.stuck)) for p in r.pairs])


def deviation(r: "Result") -> np.ndarray:
    """Cosine between w_1 - θ and w_2 - θ of every pair."""
    return np.array(r.deviation_cosine)


def correlation(r: "Result") -> np.ndarray:
    """Correlation of all parameters of every pair."""
    return np.array(r.weight_correlation)


def joined(parameters: dict[str, np.ndarray], names: str) -> np.ndarray:
    """The parameters whose names begin with one of the letters, in one row, float64."""
    chosen = [v.ravel() for k, v in parameters.items() if k[0] in names]
    return np.concatenate(chosen).astype(np.float64)


def alignment(r: "Result") -> np.ndarray:
    """Cosine between the first-layer weights of the two models of every pair."""
    return np.array([cosine(*(m["w0"].ravel().astype(float) for m in p)) for p in r.parameters])


def opposite(r: "Result") -> np.ndarray:
    """Whether the two models' first-layer weights point to opposite sides."""
    return (alignment(r) < 0).astype(float)


def clean(r: "Result") -> np.ndarray:
    """How nearly equal or opposite the first-layer weights are: |cosine|."""
    return np.abs(alignment(r))


def farthest(r: "Result") -> np.ndarray:
    """Largest difference between corresponding weights of every pair."""
    return np.array([np.abs(joined(a, "w") - joined(b, "w")).max() for a, b in r.parameters])


def centred(r: "Result", names: str) -> np.ndarray:
    """Pearson correlation of the parameters whose names begin so, of every pair."""
    both = [[joined(m, names) for m in p] for p in r.parameters]
    return np.array([cosine(a - a.mean(), b - b.mean()) for a, b in both])


def picks(result: "Result") -> np.ndarray:
    """Draws of pairs with replacement, from the `bootstrap` stream; (DRAWS, pairs)."""
    n = result.config.pairs
    high, low = words(stream_key(result.config.seed, "bootstrap"), np.arange(DRAWS * n))[:2]
    return bounded(high, low, np.uint64(n)).astype(np.int64).reshape(DRAWS, n)


def over_pairs(sample: Sample) -> Statistic:
    """A statistic with its percentile bootstrap interval; the same pairs are drawn in all runs."""

    def statistic(results: Results) -> tuple[float, float, float]:
        with np.errstate(all="ignore"):
            value = float(sample(results, np.arange(results[0].config.pairs)[None])[0])
            draws = np.sort(sample(results, picks(results[0])))
        if not np.isfinite(draws).all():
            return value, math.nan, math.nan
        tail = round(0.025 * (DRAWS - 1))
        return value, float(draws[tail]), float(draws[-1 - tail])

    return statistic


def average(x: np.ndarray, pick: np.ndarray) -> np.ndarray:
    """Mean over the pairs of each draw that are finite."""
    x = x[pick]
    known = np.isfinite(x)
    return np.where(known, x, 0.0).sum(axis=1) / known.sum(axis=1)


def mean(of: Quantity) -> Statistic:
    """The mean over pairs."""
    return over_pairs(lambda results, pick: average(of(results[0]), pick))


def ratio(of: Quantity) -> Statistic:
    """The mean of the first run over that of the second."""
    return over_pairs(
        lambda results, pick: average(of(results[0]), pick) / average(of(results[1]), pick)
    )


def least_ratio(of: Quantity) -> Statistic:
    """The least mean among all runs but the last, over the last's."""

    def sample(results: Results, pick: np.ndarray) -> np.ndarray:
        means = np.array([average(of(r), pick) for r in results])
        return means[:-1].min(axis=0) / means[-1]

    return over_pairs(sample)


def exponent(results: Results, pick: np.ndarray) -> np.ndarray:
    """d log Δ_r / d log t over the last four doublings of the training examples."""
    (r,) = results
    whole = [c for c, s in enumerate(r.checkpoints) if s >= 1 << r.config.log2_window][-5:]
    if len(whole) < 3:
        return np.full(len(pick), math.nan)
    pds = np.array([[p.pd for p in r.series[c]] for c in whole])
    x = np.log([r.checkpoints[c] for c in whole])
    y = np.log([average(row, pick) for row in pds])
    x = x - x.mean()
    return x @ y / (x @ x)


def rank_correlation(results: Results, pick: np.ndarray) -> np.ndarray:
    """Spearman's correlation over pairs between that of the embeddings and that of the weights."""
    (r,) = results
    a, b = (centred(r, names)[pick] for names in ("e", "w"))
    a, b = (np.argsort(np.argsort(x, axis=1), axis=1) - (x.shape[1] - 1) / 2 for x in (a, b))
    return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def count(of: Quantity) -> Statistic:
    """In how many pairs of all runs it was seen: a count, without an interval."""

    def statistic(results: Results) -> tuple[float, float, float]:
        seen = float(sum(of(r).sum() for r in results))
        return seen, seen, seen

    return statistic


def share(of: Quantity) -> Statistic:
    """The share of pairs, with Wilson's 95 % interval."""

    def statistic(results: Results) -> tuple[float, float, float]:
        x = np.concatenate([of(r) for r in results])
        n, p, z = len(x), float(x.mean()), 1.959964
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return p, max(middle - half, 0.0), min(middle + half, 1.0)

    return statistic


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


def measure(claim: Claim, size: Size, runs: dict[tuple[str, int], "Result"]) -> list[Measured]:
    """Every part of a claim, from the runs there are, by (curve, window)."""
    found = []
    for part in claim.parts:
        keys = run_keys(part.runs, size)
        if missing := [k for k in keys if k not in runs]:
            ids = tuple(runs[k].config.id for k in keys if k not in missing)
            found.append(Measured(part, math.nan, math.nan, math.nan, ids, OPEN))
            continue
        results = [runs[k] for k in keys]
        value, low, high = part.statistic(results)
        ids = tuple(r.config.id for r in results)
        told = size.log2_examples >= claim.least and size.pairs > 1
        verdict = judge(low, high, part) if told else OPEN
        found.append(Measured(part, value, low, high, ids, verdict))
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


def run_keys(runs: Sequence[tuple[str, str]], size: Size) -> list[tuple[str, int]]:
    """(curve, place) → (curve, window)."""
    return [(name, w) for name, place in runs for w in size.at(place)]


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


def loss_parts(names: Sequence[str], of: Quantity = loss) -> tuple[Part, ...]:
    """That L at a z is what it is at z = 1.

    Not the largest L over the least: of many noisy means that is above 1 where none differs.
    """
    return tuple(
        Part(f"{n}: L at the {what} z over z = 1", ratio(of), ((n, place), (n, FIRST)),
             1 / 1.1, 1.1)
        for n in names for place, what in ((MID, "middle"), (LAST, "largest"))
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
