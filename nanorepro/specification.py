"""What a backend is told of one model in training: the record that passes to it."""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np

from nanorepro.config import Config
from nanorepro.dials import Dials, dials
from nanorepro.model.architectures import ARCHITECTURES
from nanorepro.model.layers import Layer, make_layers, shapes
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.streams import stream_key


@dataclass(frozen=True)
class ModelSpec:
    """One model of a pair: its layers, its dials, and the keys of its own streams.

    Parameters
    ----------
    config : Config
        The run.
    features : int
        Inputs: 32 in the paper's worlds, any number of the caller's.
    pair, model : int
        Which one it is: pair from 0 on, model 0 or 1.
    real : bool
        Whether the inputs are real numbers, in arrays (n, features), not 0 and 1, packed.
    """

    config: Config
    features: int
    pair: int
    model: int
    real: bool = False

    @property
    def net(self) -> tuple[Layer, ...]:
        """Its layers, from the inputs up."""
        return layers(self.config, self.features)

    @property
    def dials(self) -> Dials:
        """Its dials."""
        return dials(self.config, self.model)

    def key(self, role: str, stream: str = "") -> np.ndarray:
        """Key of a stream: the pair's, or the model's own where the two differ in that role."""
        model = self.model if role in self.config.roles else 0
        number = self.config.first_stream + self.pair
        return stream_key(self.config.seed, stream or role, number, model)


def spec_of(config: Config, pair: int, model: int) -> ModelSpec:
    """A model of a run, over the examples of the run."""
    return ModelSpec(config, config.features, pair, model, config.real)


def of_first_models(config: Config) -> Config:
    """The run whose pairs are twice the first model of this one's: nothing differs.

    Runs of which it is the same have the same first models, to the bit.
    """
    first = {f.name: getattr(config, f.name).split(",")[0] for f in fields(Dials)}
    found: Config = replace(config, differ="none", **first)
    return found


def layers(config: Config, features: int) -> tuple[Layer, ...]:
    """The layers of a configuration's models over so many inputs, from the inputs up.

    Raises
    ------
    ConfigError
        For an odd number of features that are to be two equal sets.
    """
    return make_layers(config.widths, ARCHITECTURES[config.model].embeddings, features)


@lru_cache(256)
def compile_key(config: Config) -> Config:
    """What compiled code depends on beside a model's dials: the network, the update, the batch.

    All else is at its default, so that runs which differ in it share their code.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    update = [name for name in optimizer.names if name not in optimizer.rate_settings]
    names = ("model", "hidden", "act", "beta", "batch", "optimizer", *update)
    return Config(**{name: getattr(config, name) for name in names})


def parameters_of(config: Config) -> int:
    """Parameters of one model."""
    return sum(math.prod(shape) for shape in shapes(layers(config, config.features)).values())


def example_cost(config: Config) -> int:
    """About how long training on an example takes; only the ratios matter.

    The parameters, and so much that the smallest models, which they do not tell, are about right.
    """
    return 70 + parameters_of(config)
