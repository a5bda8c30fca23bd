"""The compiled backend: what `training` asks of a backend, from the files that hold it."""

from nanorepro.backends.numba.draws import (
    draw,
    examples,
    shuffle,
    shuffle_and_split,
    split,
    uniform,
)
from nanorepro.backends.numba.exp_log import exp, fsum, log
from nanorepro.backends.numba.model import Model, train_models
from nanorepro.backends.numba.packing import pack
from nanorepro.backends.numba.traced_model import TracedModel

__all__ = [
    "Model",
    "TracedModel",
    "draw",
    "examples",
    "exp",
    "fsum",
    "log",
    "pack",
    "shuffle",
    "shuffle_and_split",
    "split",
    "train_models",
    "uniform",
]
