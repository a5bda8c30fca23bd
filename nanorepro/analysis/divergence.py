"""How the two models of a pair part and how far: the answer of `nanorepro.diverge`."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.analysis.lockstep import Lockstep, PairExamples, Position, equal
from nanorepro.analysis.parting import (
    Branch,
    Events,
    LossParting,
    Parting,
    bisect,
    comparable,
    forward_may_differ,
    parting,
)
from nanorepro.backends.nudge import nudge_step
from nanorepro.backends.protocols import Backend, Traces, Trained
from nanorepro.config import Config, command
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.results.content import EqualByContent
from nanorepro.results.metrics import average, weight_distance
from nanorepro.results.studentized import mean_of
from nanorepro.specification import ModelSpec, spec_of
from nanorepro.training.examples import source_of
from nanorepro.training.measuring import Measurer
from nanorepro.training.parameters import initial_parameters
from nanorepro.training.threads import Progress, ThreadedWork

PER_OCTAVE = 4  # steps at which pairs are measured, for each doubling
THRESHOLD = 1e-4  # relative PD above which a pair has parted
SATURATED = 0.1  # part of the greatest distance up to which the growth rate is taken


@dataclass(frozen=True, eq=False)
class PairDivergence(EqualByContent):
    """One pair.

    Attributes
    ----------
    pair : int
        Which one.
    parting : Parting or None
        Where its parameters differ first; None if they never do.
    branch : Branch or None
        The first mini-batch in which an activation takes another branch; None if there is none, or
        if the two models see different mini-batches.
    loss : LossParting or None
        The first mini-batch whose training loss, rounded to float32, differs; None as for `branch`.
    distance : ndarray (steps,)
        Euclidean distance of the parameters at the steps of `Divergence.steps`.
    pd : ndarray (steps,)
        Relative PD there, eq. 3.
    excess_loss : ndarray (steps, 2)
        Excess loss of both models there, eq. 2; of the caller's examples their log loss.
    """

    pair: int
    parting: Parting | None
    branch: Branch | None
    loss: LossParting | None
    distance: np.ndarray
    pd: np.ndarray
    excess_loss: np.ndarray


@dataclass(frozen=True, eq=False)
class Divergence(EqualByContent):
    """All pairs of a configuration.

    Attributes
    ----------
    config : Config
        What was trained.
    steps : tuple of int
        Mini-batches after which the pairs were measured: 1, 2, ... at equal ratios.
    threshold : float
        The relative PD above which a pair counts as parted.
    pairs : tuple of PairDivergence
        Each pair.
    comparable : bool
        Whether the two models of a pair see the same examples in each mini-batch, so that branches
        and training losses can be compared.
    per_octave : int
        How many of `steps` there are from one to twice as many.
    """

    config: Config
    steps: tuple[int, ...]
    threshold: float
    pairs: tuple[PairDivergence, ...]
    comparable: bool
    per_octave: int = PER_OCTAVE

    @cached_property
    def growth_rates(self) -> tuple[float, ...]:
        """The finite-time Lyapunov exponent of each pair, per step; NaN if it cannot be told.

        λ = log(d(t2)/d(t1))/(t2 - t1): d the distance, t1 the first step of `steps` at which it is
        not 0, t2 the first at which it is a tenth of its greatest value, or the last.
        """
        return tuple(growth_rate(self.steps, pair.distance) for pair in self.pairs)

    @cached_property
    def growth_powers(self) -> tuple[float, ...]:
        """The a of each pair for which d grows as t^a between the same steps."""
        logs = [math.log(step) for step in self.steps]
        return tuple(growth_rate(logs, pair.distance) for pair in self.pairs)

    @property
    def growth_rate(self) -> tuple[float, tuple[float, float]]:
        """Mean of `growth_rates` over the pairs that have one, and its interval; NaN of one."""
        return self._mean(self.growth_rates)

    @property
    def growth_power(self) -> tuple[float, tuple[float, float]]:
        """Mean of `growth_powers`, and its interval."""
        return self._mean(self.growth_powers)

    def _mean(self, values: Sequence[float]) -> tuple[float, tuple[float, float]]:
        known = [v for v in values if math.isfinite(v)]
        if len(known) < 2:
            return average(known), (math.nan, math.nan)
        return average(known), mean_of(known, stream_key(self.config.seed, "bootstrap"))[1:]

    @cached_property
    def diverged(self) -> tuple[int, ...]:
        """The pairs with a model whose numbers are infinite or NaN at some of `steps`."""
        return tuple(p.pair for p in self.pairs if not np.isfinite(p.pd).all())

    @cached_property
    def parted_at(self) -> tuple[int | None, ...]:
        """The first of `steps` at which each pair's PD is above the threshold; None if never."""
        return tuple(
            next((s for s, pd in zip(self.steps, p.pd, strict=True) if pd > self.threshold), None)
            for p in self.pairs
        )

    def survival(self) -> dict[str, np.ndarray]:
        """The share of pairs that have not parted, with a 95 % interval.

        Returns
        -------
        dict
            "step" (n,): 0 and the steps at which a pair parts; "share", "low", "high" (n,): the
            Kaplan-Meier estimate after each, and its interval (log-log), by `scipy.stats.ecdf`;
            NaN where the share is 0.  A pair that diverges is seen up to the step before.
        """
        from scipy.stats import CensoredData, ecdf

        parted = [s for s in self.parted_at if s is not None]
        if not parted:
            one = np.ones(1)
            return {"step": np.zeros(1), "share": one, "low": one, "high": one}
        left = [
            max((s for s, pd in zip(self.steps, p.pd, strict=True) if np.isfinite(pd)), default=0)
            for p, at in zip(self.pairs, self.parted_at, strict=True)
            if at is None
        ]
        found = ecdf(CensoredData(uncensored=parted, right=left)).sf
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the share is 0 or 1 there is no interval
            interval = found.confidence_interval(method="log-log")
        return {
            "step": np.concatenate([[0.0], found.quantiles]),
            "share": np.concatenate([[1.0], found.probabilities]),
            "low": np.concatenate([[1.0], interval.low.probabilities]),
            "high": np.concatenate([[1.0], interval.high.probabilities]),
        }

    @property
    def command(self) -> str:
        """The command that makes this again."""
        words = command(self.config, "nanorepro.diverge")
        if self.threshold != THRESHOLD:
            words += f" --threshold {self.threshold!r}"
        return words if self.per_octave == PER_OCTAVE else f"{words} --per-octave {self.per_octave}"

    def as_record(self) -> dict[str, Any]:
        """All of it as plain values, as JSON has them; NaN stays."""
        rate, rate_interval = self.growth_rate
        power, power_interval = self.growth_power
        loss = "log_loss" if self.config.is_given else "excess_loss"
        return {
            "id": self.config.id,
            "config": asdict(self.config),
            "command": self.command,
            "steps": list(self.steps),
            "threshold": self.threshold,
            "comparable": self.comparable,
            "growth_rate": rate,
            "growth_rate_interval": rate_interval,
            "growth_power": power,
            "growth_power_interval": power_interval,
            "parted_at": list(self.parted_at),
            "survival": {name: values.tolist() for name, values in self.survival().items()},
            "pairs": [
                {
                    **{
                        name: value for name, value in asdict(pair).items() if name != "excess_loss"
                    },
                    "distance": pair.distance.tolist(),
                    "pd": pair.pd.tolist(),
                    loss: pair.excess_loss.tolist(),
                    "growth_rate": pair_rate,
                }
                for pair, pair_rate in zip(self.pairs, self.growth_rates, strict=True)
            ],
        }


def growth_rate(times: Sequence[float], distance: np.ndarray) -> float:
    """Rate at which a distance grows with time until it is a tenth of its greatest value."""
    known = np.flatnonzero((distance > 0.0) & np.isfinite(distance)).tolist()
    if not known:
        return math.nan
    first, great = known[0], SATURATED * max(distance[k] for k in known)
    last = next(k for k in known if distance[k] >= great)
    if last == first:
        return math.nan
    return float(math.log(distance[last] / distance[first]) / (times[last] - times[first]))


def steps_measured(steps: int, per_octave: int = PER_OCTAVE) -> tuple[int, ...]:
    """1, 2, ... up to `steps`, so many for each doubling where there are as many.

    Examples
    --------
    >>> steps_measured(16, 2)
    (1, 2, 3, 4, 6, 8, 11, 16)
    """
    count = per_octave * max(steps - 1, 1).bit_length()
    some = {round(2.0 ** (k / per_octave)) for k in range(count + 1)}
    return tuple(sorted({s for s in some if s < steps} | {steps}))


def measured_pairs(
    config: Config,
    engine: Backend,
    given: Given | None,
    steps: tuple[int, ...],
    threads: int,
    progress: Progress | None,
    known: Mapping[int, PairDivergence],
    finished: Callable[[PairDivergence], None],
) -> tuple[PairDivergence, ...]:
    """Train every pair in step that is not known, and say where, when and how fast it parts.

    Parameters
    ----------
    config : Config
        What is trained; it has been checked.
    engine : Backend
        What computes it; it has `TracedModel`.
    given : Given or None
        The caller's examples, if the run has such.
    steps : tuple of int
        Mini-batches after which the pairs are measured (`steps_measured`).
    threads : int
        Pairs that are trained at a time.
    progress : callable or None
        As of `diverge`.
    known : mapping
        Pairs that have been measured, by number.
    finished : callable
        Called with every pair that has been measured now, in the thread that did.

    Notes
    -----
    One pass over the examples finds the interval of `steps` in which a pair parts, and replays that
    halve it the step, as far as it stays apart from there on; so the memory does not grow with T.
    """
    missing = [k for k in range(config.pairs) if k not in known]
    found = dict(known)
    if missing:
        world = source_of(config, given, engine)
        work = _Work(config, engine, steps, progress, world, config.pairs - len(missing))

        def measured(k: int) -> PairDivergence:
            pair = work.pair(k)
            finished(pair)
            return pair

        found |= zip(missing, work.threads.run(measured, missing, threads), strict=True)
    return tuple(found[k] for k in range(config.pairs))


class _Work:
    """What the threads share."""

    def __init__(
        self,
        config: Config,
        backend: Backend,
        steps: tuple[int, ...],
        progress: Progress | None,
        world: World | Given,
        known: int,
    ):
        self.config, self.backend, self.steps, self.world = config, backend, steps, world
        self.measurer = Measurer(config, self.world, backend)
        passes = 4 if comparable(config) else 2  # of training, and of looking at each mini-batch
        examples = passes * config.examples
        self.threads = ThreadedWork(config.pairs * examples, progress, known * examples)

    def pair(self, k: int) -> PairDivergence:
        """All of one pair."""
        specs = [spec_of(self.config, k, m) for m in (0, 1)]
        start = [initial_parameters(self.config, k, m, self.config.features) for m in (0, 1)]
        examples = PairExamples(self.config, k, self.world, self.backend)
        pair = Lockstep(self.backend.Model, specs, start, examples, self.threads.report)
        before = origin = pair.positions()
        # the last positions in which the two are equal, and the step at which they are not
        apart: int | None = None if equal(*pair.parameters()) else 0
        found = parting(pair) if apart == 0 else None
        measured = []
        nudge = {at for spec in specs if (at := nudge_step(spec))}  # after it they may meet again
        for step in sorted({*self.steps} | nudge):
            pair.go_on(step)
            if apart is None:
                if equal(*pair.parameters()):
                    before = pair.positions()
                else:
                    apart = step
            if step in self.steps:
                measured.append(self.measure(pair))
        if found is None and apart is not None:
            found, before = bisect(pair, before, apart)
        branch, loss = self.events(specs, examples, origin, found, before)
        distance, pd, losses = (np.array(v) for v in zip(*measured, strict=True))
        return PairDivergence(k, found, branch, loss, distance, pd, losses)

    def events(
        self,
        specs: Sequence[ModelSpec],
        examples: PairExamples,
        origin: Sequence[Position],
        found: Parting | None,
        before: Sequence[Position],
    ) -> tuple[Branch | None, LossParting | None]:
        """The first other branch and the first other loss, from where there may be one."""
        assert isinstance(self.backend, Traces)
        anywhere = forward_may_differ(specs)
        if not comparable(self.config) or (found is None and not anywhere):
            return None, None
        start = origin if anywhere else before
        records = [at.parameters for at in start]
        pair = Lockstep(self.backend.TracedModel, specs, records, examples, self.threads.report)
        pair.go_back(start)
        events = Events(pair)
        events.look(self.config.steps)
        return events.branch, events.loss

    def measure(self, pair: Lockstep) -> tuple[float, float, tuple[float, float]]:
        """Distance, PD and the two losses where the models are."""
        patterns, parameters = self.measurer.patterns, pair.parameters()
        models = [
            Trained(record, model.logits(patterns)[None])
            for record, model in zip(parameters, pair.models, strict=True)
        ]
        with np.errstate(over="ignore", invalid="ignore"):
            compared = self.measurer.comparison(models, 0)
            distance = weight_distance(*parameters, self.backend.fsum)
            return distance, compared.relative_pd, compared.losses
