"""The two models of a pair, trained in step: to any step, back to an earlier one, or traced."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import Backend, ModelInTraining
from nanorepro.config import Config
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec
from nanorepro.training.example_stream import CHUNK
from nanorepro.training.group import longest_piece
from nanorepro.training.sequences import sequence_of, shuffle_windows

Report = Callable[[int], None]  # called with the examples that were trained on


class PairExamples:
    """The examples of a pair, any steps of them, in the order in which each model sees them."""

    def __init__(self, config: Config, pair: int, world: World | Given, backend: Backend):
        self.config, self.backend = config, backend
        self.sequence = sequence_of(config, pair, world, backend)
        whole = max(CHUNK // config.window, 1) * config.window
        self.size = min(whole, config.examples)
        self.drawn: tuple[int, np.ndarray] | None = None  # the last chunk
        self.ordered: dict[int, tuple[int, np.ndarray]] = {}  # by model

    def pieces(
        self, spec: ModelSpec, low: int, high: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """x, as models take it, and y (n,) uint8 of the mini-batches from step `low` to `high`."""
        batch = self.config.batch
        at, end, piece = low * batch, high * batch, longest_piece(batch, self.sequence.width)
        while at < end:
            k, inside = divmod(at, self.size)
            n = min(piece, end - at, self.size - inside)
            joined = self._ordered(spec, k)[inside : inside + n]
            x, y = self.sequence.room(n)
            self.sequence.split(joined, x, y)
            yield x, y
            at += n

    def places(self, spec: ModelSpec, low: int, high: int) -> np.ndarray:
        """Which examples of the pair's sequence the model sees from step `low` to `high`, (n,)."""
        window, batch = self.config.window, self.config.batch
        first = low * batch // window * window
        last = min(-(-high * batch // window) * window, self.config.examples)
        order = np.arange(first, last, dtype=np.uint64)
        shuffle_windows(self.backend, self.config, spec.key("shuffle"), first, order)
        found = order[low * batch - first :][: (high - low) * batch]
        return found.astype(np.int64)

    def _ordered(self, spec: ModelSpec, k: int) -> np.ndarray:
        model = spec.model if "shuffle" in self.config.roles else 0
        known = self.ordered.get(model)
        if known is None or known[0] != k:
            joined = self._drawn(k).copy()
            key = spec.key("shuffle")
            shuffle_windows(self.backend, self.config, key, k * self.size, joined)
            known = self.ordered[model] = k, joined
        return known[1]

    def _drawn(self, k: int) -> np.ndarray:
        if self.drawn is None or self.drawn[0] != k:
            first = k * self.size
            joined = np.empty(min(self.size, self.config.examples - first), np.uint64)
            self.sequence.draw(first, joined)
            self.drawn = k, joined
        return self.drawn[1]


@dataclass(frozen=True)
class Position:
    """A model at a step: all that the rest of its training depends on."""

    step: int
    parameters: Parameters
    state: Any


class Lockstep:
    """The two models of a pair at one step, which goes on or back.

    `at` a step means what that step starts from: a nudge before it has been made.
    """

    def __init__(
        self,
        make: Callable[[ModelSpec, Parameters], ModelInTraining],
        specs: Sequence[ModelSpec],
        start: Sequence[Parameters],
        examples: PairExamples,
        report: Report = lambda examples: None,
    ):
        self.specs, self.examples, self.report = tuple(specs), examples, report
        self.models = [make(spec, record) for spec, record in zip(specs, start, strict=True)]

    @property
    def step(self) -> int:
        return self.models[0].step

    def positions(self) -> list[Position]:
        """Where both models are."""
        return [Position(m.step, m.parameters(), m.state()) for m in self.models]

    def go_back(self, positions: Sequence[Position]) -> None:
        """Be where `positions` says, which this pair of models gave."""
        for model, at in zip(self.models, positions, strict=True):
            model.restore(at.step, at.parameters, at.state)

    def go_on(self, step: int) -> None:
        """Train both models up to a step."""
        for spec, model in zip(self.specs, self.models, strict=True):
            for end in pauses(spec, model.step, step):
                for x, y in self.examples.pieces(spec, model.step, end):
                    model.train(x, y)
                    self.report(len(y))
                self.arrive(spec, model)

    def arrive(self, spec: ModelSpec, model: ModelInTraining) -> None:
        """Nudge a model that has come to the step of its nudge."""
        if model.step and model.step == nudge_step(spec):
            model.restore(model.step, nudged(spec, model.parameters()), model.state())

    def parameters(self) -> tuple[Parameters, Parameters]:
        """A copy of both records."""
        first, second = (model.parameters() for model in self.models)
        return first, second


def pauses(spec: ModelSpec, low: int, high: int) -> list[int]:
    """Where training from one step to another stops: at the step of a nudge, and at the end."""
    nudge = nudge_step(spec)
    return [nudge, high] if nudge is not None and low < nudge < high else [high]


def equal(first: Parameters, second: Parameters) -> bool:
    """Whether two records have the same numbers, every NaN taken as one."""
    return all(np.array_equal(first[n], second[n], equal_nan=True) for n in first)
