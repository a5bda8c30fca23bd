"""Which source makes two models differ, and how much: the answer of `nanorepro.attribute`.

Every subset of the sources in which the two models of a pair differ is a run; the prediction
difference of all of them gives what each source does alone, what is left without it, and its
Shapley share, which adds up to the whole.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.analysis.shapley import interaction_weights, members, shapley_weights
from nanorepro.analysis.single_sums import SingleSums, runs_of_sums, single_sums
from nanorepro.config import ROLES, Config, command
from nanorepro.dials import Dials, dials
from nanorepro.errors import ConfigError, wrong
from nanorepro.numerics.formats import significand_bits
from nanorepro.numerics.plans import is_drawn
from nanorepro.numerics.streams import stream_key
from nanorepro.numerics.trees import LEAF_ORDERS
from nanorepro.results.content import EqualByContent
from nanorepro.results.metrics import metrics_of
from nanorepro.results.studentized import Interval, contrast, mean_of

MOST = 8  # sources: 256 runs
MATTERS = 0.1  # part of the whole from which an interaction is named
NAMED = 3  # interactions of a kind, at most, that are named one by one
KINDS = "overlap", "amplify each other"
LEVEL = 0.95  # of all intervals; of all interactions together


@dataclass(frozen=True)
class Source:
    """Something in which the two models of a pair may differ.

    Attributes
    ----------
    name : str
        As it is shown: a role of `differ`, or a dial with its two values.
    field : str
        The dial's field; empty for a role.
    """

    name: str
    field: str = ""


def sources_of(config: Config) -> tuple[Source, ...]:
    """The roles of `differ`, then the dials that have two values.

    Examples
    --------
    >>> [s.name for s in sources_of(Config(differ="init,shuffle", tree="chain,lanes:8"))]
    ['init', 'shuffle', 'tree=chain,lanes:8']
    """
    found = [Source(role) for role in ROLES if role in config.roles]
    first, second = dials(config, 0), dials(config, 1)
    for f in fields(Dials):
        if getattr(first, f.name) != getattr(second, f.name):
            found.append(Source(f"{f.name}={getattr(config, f.name)}", f.name))
    return tuple(found)


def differing_in(config: Config, sources: tuple[Source, ...], there: np.ndarray) -> Config:
    """The run whose models differ in some of the sources only.

    A role that is not there is not in `differ`; a dial that is not there has its first value in
    both models.  Roles that change nothing in this run are left out, so that runs that must have
    the same bits are one run.
    """
    roles = {s.name for s, here in zip(sources, there, strict=True) if here and not s.field}
    values: dict[str, Any] = {
        s.field: str(getattr(config, s.field)).split(",")[0]
        for s, here in zip(sources, there, strict=True)
        if s.field and not here
    }
    found: Config = replace(config, differ="none", **values)
    return replace(found, differ=",".join(sorted(roles - idle_roles(found))) or "none")


def idle_roles(config: Config) -> set[str]:
    """The roles of which no bit of a run depends: nothing in the second model draws from them."""
    d = dials(config, 1)
    orders = (LEAF_ORDERS[order].terms is None for order in (d.leaf_order, d.unit_order))
    drawn = any(orders) or is_drawn(d.tree) or is_drawn(d.unit_tree)
    return {*(() if drawn else ("order",)), *(() if d.rounding == "stochastic" else ("rounding",))}


def runs_of(config: Config) -> tuple[Config, ...]:
    """The run of every subset of the sources, by its number (`shapley.members`).

    Some are the same run, where a source changes nothing.  Raises ConfigError without sources, or
    with too many.
    """
    sources = sources_of(config)
    if not sources:
        right = "sources out of " + ",".join(ROLES) + ", or two values a,b of a dial"
        raise ConfigError("the models of a pair differ in nothing", "differ", right)
    if len(sources) > MOST:
        problem = f"{len(sources)} sources are {1 << len(sources)} runs"
        raise ConfigError(problem, "differ", f"{MOST} sources at most, dials with two values too")
    if config.pairs < 2:
        raise wrong("pairs", config.pairs, "2 or more: the intervals are over pairs")
    if config.warm_start:
        raise ConfigError("no warm start here", "warm_start", "none")
    if config.eval_every:
        raise ConfigError("only the last step is measured here", "eval_every", "none")
    return tuple(differing_in(config, sources, there) for there in members(len(sources)))


def unit_roundoff(config: Config) -> float:
    """2^-p of the coarser of the two models' precisions: what rounding changes in a number."""
    bits = min(significand_bits(dials(config, model).precision) for model in (0, 1))
    return float(2.0**-bits)


@dataclass(frozen=True)
class Effect:
    """What one source does.

    Attributes
    ----------
    source : Source
        Which one.
    idle : bool
        Whether it changes no bit of any run, by how the runs are defined.
    alone, without : Interval
        Mean relative PD where only it differs, and where all others do.
    log_value, log_share : Interval
        Its Shapley value in decades of PD above the floor, and as a share of the whole.
    value, share : Interval
        The same of PD itself.
    """

    source: Source
    idle: bool
    alone: Interval
    without: Interval
    log_value: Interval
    log_share: Interval
    value: Interval
    share: Interval


@dataclass(frozen=True)
class Interaction:
    """What two sources do together beyond what each does.

    Attributes
    ----------
    first, second : Source
        Which ones.
    log_value, value : Interval
        Shapley interaction index in decades of PD above the floor, and in PD; the intervals hold
        for all interactions of a scale together (Bonferroni).
    log_matters, matters : bool
        Whether the interval is without 0 and the index a tenth of the whole or more.
    """

    first: Source
    second: Source
    log_value: Interval
    value: Interval
    log_matters: bool
    matters: bool

    @property
    def kind(self) -> str:
        """Whether both together do less than both add up to, or more."""
        return KINDS[int((self.log_value if self.log_matters else self.value).value > 0.0)]

    def words(self) -> str:
        """What it says, in a sentence."""
        said = []
        if self.log_matters:
            than = "less" if self.log_value.value < 0.0 else "more"
            said.append(f"{abs(self.log_value.value):.2g} decades {than}")
        if self.matters:
            than = "less" if self.value.value < 0.0 else "more"
            said.append(f"a PD {abs(self.value.value):.2g} {than}")
        both = f"{self.first.name} and {self.second.name} {self.kind}"
        return f"{both}: together {', '.join(said)} than both add up to"


def percent(share: Interval) -> str:
    """A share with its interval; a dash for what cannot be told."""
    value, low, high = (round(100.0 * x) + 0.0 if math.isfinite(x) else x for x in share)
    if math.isnan(value):
        return "-"
    return f"{value:.0f} %" + ("" if math.isnan(low) else f" [{low:.0f}, {high:.0f}]")


@dataclass(frozen=True, eq=False)
class Attribution(EqualByContent):
    """The prediction difference of every subset of the sources, and what follows.

    Attributes
    ----------
    config : Config
        The run in which all sources are there.
    sources : tuple of Source
        What the models of a pair differ in.
    runs : tuple of Config
        The run of every subset (`shapley.members`).
    pd : ndarray (2^k, pairs)
        Relative PD (eq. 3) of each pair of these runs; NaN of a pair that diverged.
    floor : float
        The PD below which the logarithm does not tell differences: g = log10(1 + PD/floor).
    sums : SingleSums or None
        PD where one sum alone is not exact, if that was asked for.
    """

    config: Config
    sources: tuple[Source, ...]
    runs: tuple[Config, ...]
    pd: np.ndarray
    floor: float
    sums: SingleSums | None = None

    @property
    def _key(self) -> np.ndarray:
        return stream_key(self.config.seed, "bootstrap")

    @cached_property
    def known(self) -> np.ndarray:
        """Which pairs have a PD in all runs, bool (pairs,): the others are left out."""
        found: np.ndarray = np.isfinite(self.pd).all(axis=0)
        return found

    def mean(self, subset: int) -> Interval:
        """Mean PD of a subset over the known pairs, with its interval; 0 where all are 0."""
        found = mean_of(self.pd[subset, self.known], self._key)
        return metrics_of(self.config)["pd"].within(found)

    @property
    def whole(self) -> Interval:
        """Mean PD where all sources are there."""
        return self.mean(len(self.pd) - 1)

    @property
    def nothing(self) -> Interval:
        """Mean PD where no source is there: 0, for then both models are the same."""
        return self.mean(0)

    @cached_property
    def decades(self) -> float:
        """Decades of PD above the floor between no source and all of them."""
        return self._contrast(self._difference(), log=True).value

    def _difference(self) -> np.ndarray:
        """Weights of the whole: all sources less none."""
        weights = np.zeros(len(self.pd))
        weights[0], weights[-1] = -1.0, 1.0
        return weights

    def _contrast(self, weights: np.ndarray, log: bool, level: float = LEVEL) -> Interval:
        """A sum of the subsets' values: decades with `log`, else PD."""
        used = weights != 0.0
        rows = self.pd[used][:, self.known] + (self.floor if log else 0.0)
        found = contrast(rows, weights[used], self._key, log, level)
        return Interval(*(end / math.log(10.0) for end in found)) if log else found

    def _share(self, weights: np.ndarray, log: bool) -> Interval:
        """A sum of the subsets' values as a share of the whole."""
        rows = self.pd[:, self.known]
        if log:
            rows = (rows + self.floor) / self.floor
        return contrast(rows, weights, self._key, log, LEVEL, whole=self._difference())

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each source does, in the order of `sources`."""
        k, found = len(self.sources), []
        for i, weights in enumerate(shapley_weights(k)):
            bit = 1 << i
            pairs = [(s, s | bit) for s in range(1 << k) if not s & bit]
            idle = all(self.runs[a].id == self.runs[b].id for a, b in pairs)
            found.append(
                Effect(
                    self.sources[i],
                    idle,
                    self.mean(bit),
                    self.mean((1 << k) - 1 - bit),
                    self._contrast(weights, log=True),
                    self._share(weights, log=True),
                    self._contrast(weights, log=False),
                    self._share(weights, log=False),
                )
            )
        return tuple(found)

    @cached_property
    def interactions(self) -> tuple[Interaction, ...]:
        """What each two sources do together beyond what each does."""
        weights = interaction_weights(len(self.sources))
        level = 1.0 - (1.0 - LEVEL) / max(len(weights), 1)
        whole, decades, found = self.whole.value - self.nothing.value, self.decades, []
        for (i, j), of in weights.items():
            log, plain = self._contrast(of, True, level), self._contrast(of, False, level)
            found.append(
                Interaction(
                    self.sources[i], self.sources[j], log, plain,
                    _matters(log, decades), _matters(plain, whole),
                )
            )  # fmt: skip
        return tuple(found)

    def findings(self) -> list[str]:
        """What there is to say, a sentence each, what matters most first."""
        if not self.known.any():
            return ["in every pair a model diverged: nothing can be told"]
        if self.nothing.value:  # never: the same models from the same bits
            return ["two models that differ in nothing differ: this is a bug"]
        if not self.whole.value > 0.0:
            return ["PD is exactly 0 for all subsets of the sources"]
        first = max(self.effects, key=lambda e: e.log_share.value)
        lines = [
            f"{first.source.name} has the largest share of log PD, {percent(first.log_share)}:"
            f" alone it gives {first.alone.value:.3g} of {self.whole.value:.3g},"
            f" without it {first.without.value:.3g} is left"
        ]
        silent = [e.source.name for e in self.effects if e.alone.value == 0.0]
        if silent:
            lines.append(f"alone exactly 0: {', '.join(silent)}")
        named = [i for i in self.interactions if i.log_matters or i.matters]
        for kind in KINDS:
            lines += self._interacting([i for i in named if i.kind == kind], kind)
        return lines + (self.sums.findings() if self.sums else [])

    def _interacting(self, named: list[Interaction], kind: str) -> list[str]:
        """Interactions of one kind in words, many of them in one sentence."""
        if len(named) <= NAMED:
            return [i.words() for i in named]
        logs = [abs(i.log_value.value) for i in named if i.log_matters]
        sizes = logs or [abs(i.value.value) for i in named]
        span = f"{min(sizes):.2g} to {max(sizes):.2g} {'decades' if logs else 'of PD'}"
        of = f"{len(named)} of {len(self.interactions)} pairs of sources"
        than = "less" if kind == KINDS[0] else "more"
        return [f"{of} {kind}: together {span} {than} than both add up to"]

    @property
    def command(self) -> str:
        """The command that makes this again."""
        words = command(replace(self.config, differ=Config().differ), "nanorepro.attribute")
        words += f" --differ {self.config.differ}"
        if self.floor != unit_roundoff(self.config):
            words += f" --floor {self.floor!r}"
        return words + (" --sums" if self.sums else "")

    def as_record(self) -> dict[str, Any]:
        """All of it as plain values, as JSON has them; NaN stays."""
        return {
            "id": self.config.id,
            "config": asdict(self.config),
            "command": self.command,
            "sources": [s.name for s in self.sources],
            "floor": self.floor,
            "decades": self.decades,
            "pairs_left_out": int((~self.known).sum()),
            "whole": self.whole,
            "nothing": self.nothing,
            "sums": self.sums.as_record() if self.sums else None,
            "effects": [{**_plain(e), "source": e.source.name} for e in self.effects],
            "interactions": [
                {**_plain(i), "first": i.first.name, "second": i.second.name}
                for i in self.interactions
            ],
            "subsets": [
                {
                    "sources": [s.name for s, h in zip(self.sources, there, strict=True) if h],
                    "run": run.id,
                    "relative_pd": self.mean(subset),
                    "pd": self.pd[subset].tolist(),
                }
                for subset, (run, there) in enumerate(
                    zip(self.runs, members(len(self.sources)), strict=True)
                )
            ],
        }


def _matters(found: Interval, whole: float) -> bool:
    """Whether an interaction is there, and large."""
    return bool((found.low > 0.0 or found.high < 0.0) and abs(found.value) >= MATTERS * abs(whole))


def _plain(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record)}


def wanted(config: Config, sums: bool) -> list[Config]:
    """All runs of an attribution, each once; with those of the single sums if asked for."""
    runs = runs_of(config)
    every = [*runs, *(runs_of_sums(runs[-1]) if sums else ())]
    return list({run.id: run for run in every}.values())


def attribution(
    config: Config, pd: Mapping[str, np.ndarray], floor: float | None = None, sums: bool = False
) -> Attribution:
    """The attribution of a configuration, from the PD (pairs,) of the runs `wanted`, by their ids.

    `floor` as in `Attribution`, the unit roundoff if None.
    """
    runs = runs_of(config)
    rows = np.array([pd[run.id] for run in runs], np.float64)
    floor = unit_roundoff(config) if floor is None else floor
    found = single_sums(runs[-1], pd, floor) if sums else None
    return Attribution(config, sources_of(config), runs, rows, floor, found)
