"""What `training` asks of a backend: the interface that every execution of the contract has.

A backend is a module.  It must compute what docs/arithmetic.md says, to the bit; how is its own
affair.  One that trains many models at once, as a GPU does, also has `train_group`; for the others
`training.group` trains the models of a group one after another, chunk by chunk.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec

State = Mapping[str, Parameters]
"""An optimizer's state: each of its arrays by name, as a record like that of the parameters."""


@dataclass(frozen=True)
class Snapshot:
    """One model after some steps: all that the rest of its training depends on besides its spec.

    Streams are counter-based, so the step is their position.

    step: mini-batches that it was trained on
    parameters: the record at that step, in the model's precision
    state: the optimizer's; empty before the first step, where it is new, and after the last
    logits: (checkpoints, patterns) of the evaluation patterns at the checkpoints up to that step
    """

    step: int
    parameters: Parameters
    state: State
    logits: np.ndarray

    @staticmethod
    def before(parameters: Parameters, patterns: int) -> "Snapshot":
        """A model before its first step."""
        dtype = next(iter(parameters.values())).dtype
        return Snapshot(0, parameters, {}, np.empty((0, patterns), dtype))


Report = Callable[[int, Callable[[], Sequence[Snapshot]]], None]
"""Called with the examples that were trained on since the last call, each counted once a model,
and with what makes a snapshot of every model of the group, in its order, as it is now.

It raises `Interrupted` when the run is to end early; a backend lets the exception pass.
"""


class Interrupted(Exception):
    """Raised by `Report` in the threads that train when the run is to end early."""


@dataclass(frozen=True)
class Trained:
    """One model after its last step.

    parameters: the trained record, in the model's precision
    logits: (checkpoints, patterns) of the evaluation patterns at each of the run's checkpoints
    """

    parameters: Parameters
    logits: np.ndarray

    @property
    def diverged(self) -> bool:
        """Whether a parameter is NaN or infinite."""
        return not all(np.isfinite(v).all() for v in self.parameters.values())


@dataclass(frozen=True)
class Group:
    """Models of one run that are trained together, and the examples they see.

    models: what each model is; all have one Config, the pairs and the dials may vary
    start: the parameters of each before training, in its precision, or where it was left
    world: what the examples are drawn from, or the caller's
    pools: of the caller's examples the places (epoch,) uint64 of those that each pair is trained on
        in an epoch
    patterns: (n, words) uint32, or (n, d) float32 if features are real: the evaluation examples
        whose logits are wanted at every checkpoint

    With c the Config and s a model's specification, its i-th training example is example
    c.first_example + i of the stream ("examples", s.pair), for i from 0 to c.examples - 1; the w-th
    window, examples w·c.window and on, is brought into the order of permutation w of the stream
    s.key("shuffle").  Both models of a pair see the same examples.  Of the caller's, example q is
    the one at place pool[π(q mod epoch)], π permutation ⌊q/epoch⌋ of that stream.
    Before step `nudge_step(s)` a model's parameters are `nudged` (`backends.nudge`); where that is
    step 0, `start` has it.
    """

    models: Sequence[ModelSpec]
    start: Sequence[Snapshot]
    world: World | Given
    patterns: np.ndarray
    pools: Mapping[int, np.ndarray] = field(default_factory=dict)


class ModelInTraining(Protocol):
    """One model, its optimizer's state, and the step it is at."""

    step: int

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) uint8 in the given order.

        n is a multiple of the mini-batch.  Of real features x is (n, features) float32.
        """

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (n,) of examples as `train` takes them, in the model's precision."""

    def parameters(self) -> Parameters:
        """A copy of the parameters."""

    def set_parameters(self, parameters: Parameters) -> None:
        """Take other parameters; the optimizer's state and the step stay."""

    def state(self) -> State:
        """A copy of the optimizer's state."""

    def restore(self, step: int, parameters: Parameters, state: State) -> None:
        """Be at a step with these bits, which a model of this specification gave."""


@runtime_checkable
class TracedModel(ModelInTraining, Protocol):
    """A model that also tells what its layers compute; it need not be as fast."""

    def trace(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Train as `train` does, n > 0; z (n, units) of all layers, from the first up.

        Row i is what example i of the given order had before its mini-batch's update.
        """


class Backend(Protocol):
    """A module that carries out the contract."""

    def Model(self, spec: ModelSpec, parameters: Parameters, /) -> ModelInTraining:
        """One model at step 0, with these parameters and a new state of the optimizer."""

    def train_models(
        self, spec: ModelSpec, records: Sequence[Parameters], x: np.ndarray, y: np.ndarray, /
    ) -> list[Parameters]:
        """The records, each trained from step 0 on the same packed examples in the given order."""

    def draw(self, world: World, key: np.ndarray, first: int, joined: np.ndarray, /) -> None:
        """Fill `joined` (n,) uint64 with examples first, ... of a stream, each as x + y·2^32."""

    def uniform(self, key: np.ndarray, n: int, block: int, /) -> np.ndarray:
        """`streams.uniform`: n values in (0, 1), float64, of a block of a stream."""

    def shuffle(self, rows: np.ndarray, key: np.ndarray, first: int, /) -> None:
        """Bring rows (windows, n) into the order of the permutations first, first + 1, ..."""

    def shuffle_and_split(
        self, rows: np.ndarray, key: np.ndarray, first: int, x: np.ndarray, y: np.ndarray, /
    ) -> None:
        """`split` of the rows in the order that `shuffle` would bring them into; they stay."""

    def split(self, joined: np.ndarray, x: np.ndarray, y: np.ndarray, /) -> None:
        """Features x (n,) uint32 and labels y (n,) uint8 of joined examples."""

    def examples(
        self, world: World, key: np.ndarray, first: int, n: int, /
    ) -> tuple[np.ndarray, np.ndarray]:
        """Examples first, ..., first + n - 1 of a stream: x (n,) uint32 and y (n,) uint8."""

    def pack(self, x: np.ndarray, /) -> np.ndarray | None:
        """Numbers (n, d) packed to (n, ⌈d/32⌉) uint32; None if one is neither 0 nor 1."""

    def exp(self, x: np.ndarray, /) -> np.ndarray:
        """The contract's exp, float64."""

    def log(self, x: np.ndarray, /) -> np.ndarray:
        """The contract's log, float64."""

    def fsum(self, x: np.ndarray, /) -> float:
        """The exactly rounded sum."""


@runtime_checkable
class TrainsGroups(Protocol):
    """What a backend has besides if it trains many models at once."""

    def train_group(self, group: Group, report: Report, /) -> list[Trained]:
        """Train all models of a group to the end of the run; in the group's order."""

    def device(self) -> str:
        """The device's name, for the provenance of a result."""


@runtime_checkable
class Traces(Protocol):
    """What a backend has besides if it can tell what the layers compute in training."""

    def TracedModel(self, spec: ModelSpec, parameters: Parameters, /) -> TracedModel:
        """One model at step 0, as `Model`."""
