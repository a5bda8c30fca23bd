"""What is trained in a comparison: a configuration, its examples in memory, initial values."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro import Config, initial_parameters
from nanorepro.data.packing import unpack
from nanorepro.data.sampling import examples
from nanorepro.data.worlds import make_world
from nanorepro.model.layers import Parameters
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.training.simulation import evaluation_set

MODELS = 32  # of an ensemble
SGD = {"optimizer": "sgd", "lr": 0.01}
LARGE = ("wide", "deep")  # the models that are compared with every activation

# the comparisons by name
CONFIGS = {
    "linear": Config(model="linear", seed=1),
    "double": Config(model="double", seed=1),
    "tower": Config(model="tower", seed=1),
    "tower-sgd": Config(model="tower", seed=1, **SGD),
    "wide": Config(model="wide", seed=1),
    "deep": Config(model="deep", seed=1, data="quadratic"),
    "deep-sgd": Config(model="deep", seed=1, data="quadratic", **SGD),
}
OTHERS = ("identity", "smelu", "swish")  # activations beside ReLU
CONFIGS |= {f"{name}-{act}": replace(CONFIGS[name], act=act) for name in LARGE for act in OTHERS}


@dataclass(frozen=True)
class Sizes:
    """Examples that a call trains a model on; and after which the losses are compared."""

    single: int
    ensemble: int
    run: int
    checked: int


# of fewer examples, trained on again and again, a processor memorises which branch follows
SMALL = Sizes(1 << 17, 1 << 15, 1 << 20, 1 << 10)
DEEP = Sizes(1 << 12, 1 << 8, 1 << 11, 1 << 8)
WIDE = replace(SMALL, run=1 << 17)
SIZES = {name: {"wide": WIDE, "deep": DEEP}.get(c.model, SMALL) for name, c in CONFIGS.items()}
# how many times faster than the best peer we want to be
GOALS = {"linear": 4.0, "double": 5.5, "tower": 8.0}
GOALS |= {name: 2.5 for name, c in CONFIGS.items() if c.model in LARGE and c.optimizer == "adagrad"}


@dataclass(frozen=True)
class Case:
    """What an engine gets: n examples, the same for all models of an ensemble, initial values."""

    config: Config
    n: int

    @cached_property
    def packed(self) -> tuple[np.ndarray, np.ndarray]:
        """The first examples of pair 0, packed: (n,) uint32, and labels (n,) uint8."""
        world = make_world(self.config.seed, self.config.data)
        return examples(world, stream_key(self.config.seed, "examples"), 0, self.n)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The same unpacked, mini-batch by mini-batch: (steps, 32, 32) and (steps, 32) float32."""
        x, y = self.packed
        x = unpack(x[:, None], 32).astype(np.float32)
        return x.reshape(-1, self.config.batch, 32), y.reshape(-1, self.config.batch).astype("f4")

    @property
    def steps(self) -> int:
        return self.n // self.config.batch

    @property
    def last(self) -> int:
        """Number of the last layer."""
        return len(self.config.widths)

    @property
    def adagrad(self) -> bool:
        return self.config.optimizer == "adagrad"

    @property
    def state_start(self) -> float:
        """Where the optimizer's accumulators start."""
        return self.config.initial_accumulator if self.adagrad else 0.0

    def start(self, model: int) -> Parameters:
        """The initial values of a model: those of the pair of that number."""
        return initial_parameters(replace(self.config, pairs=model + 1), pair=model)

    def starts(self, axis: int) -> Parameters:
        """The initial values of an ensemble, stacked along an axis."""
        records = [self.start(k) for k in range(MODELS)]
        return {name: np.stack([r[name] for r in records], axis) for name in records[0]}


@dataclass(frozen=True)
class Job:
    """One program made ready: start() → state, train(state) → state, waited for.

    read(state) gives the parameters of the first and the last model; `examples` is what a call
    trains on, of all models together.
    """

    start: Callable[[], Any]
    train: Callable[[Any], Any]
    read: Callable[[Any], list[Parameters]]
    examples: int


@dataclass(frozen=True)
class Engine:
    """A program: make(case) → Job, training one model or an ensemble; None where it cannot."""

    make: Callable[[Case], Job | None]
    models: int = 1


def ends_of(stacked: Any, axis: int) -> list[Parameters]:
    """The records of the first and the last model of an ensemble."""
    return [
        {name: np.take(np.asarray(v), at, axis) for name, v in stacked.items()}
        for at in (0, MODELS - 1)
    ]


def activation(config: Config, relu: Callable, sigmoid: Callable, where: Callable) -> Callable:
    """A(z) of a framework's own functions."""
    b = config.beta

    def smelu(z: Any) -> Any:
        return where(z <= -b, 0.0 * z, where(z >= b, z, (z + b) * (z + b) / (4.0 * b)))

    def swish(z: Any) -> Any:
        return z * sigmoid(b * z)

    return {"identity": lambda z: z, "relu": relu, "smelu": smelu, "swish": swish}[config.act]


def logits(config: Config, w: Parameters, x: np.ndarray) -> np.ndarray:
    """Logits (n,) of x (n, 32), in float64, by NumPy."""
    active = activation(
        config, lambda z: np.maximum(z, 0.0), lambda z: 1.0 / (1.0 + np.exp(-z)), np.where
    )
    h = x.astype(np.float64)
    if "e0" in w:
        h = np.concatenate([h[:, :16] @ w["e0"], h[:, 16:] @ w["e1"]], axis=1)
    last = sum(name.startswith("w") for name in w) - 1
    for k in range(last):
        h = active(h @ w[f"w{k}"].astype(np.float64) + w[f"b{k}"])
    return (h @ w[f"w{last}"].astype(np.float64) + w[f"b{last}"])[:, 0]


def evaluation_loss(config: Config, w: Parameters) -> float:
    """Excess loss (eq. 2) of a record on the evaluation set."""
    e = evaluation_set(config, make_world(config.seed, config.data))
    z = logits(config, w, unpack(e.x[:, None], 32))
    return metrics.excess_loss(e.log_odds, z, e.counts)
