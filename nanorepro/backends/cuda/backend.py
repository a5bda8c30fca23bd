"""The GPU's backend: what `training` asks of one (`backends.protocols`), from the files here.

Models are trained and evaluated on the GPU; the measures and the caller's arrays are the host's,
by the same compiled code as the CPU's backend.
"""

from collections.abc import Sequence

import numpy as np

from nanorepro.backends.cuda import group as groups
from nanorepro.backends.cuda.device import current
from nanorepro.backends.cuda.ensemble import Ensemble
from nanorepro.backends.numba.backend import (
    draw,
    examples,
    exp,
    fsum,
    log,
    pack,
    shuffle,
    shuffle_and_split,
    split,
    uniform,
)
from nanorepro.backends.protocols import Group, Report, State, Trained
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec

__all__ = [
    "Model",
    "device",
    "draw",
    "examples",
    "exp",
    "fsum",
    "log",
    "pack",
    "shuffle",
    "shuffle_and_split",
    "split",
    "train_group",
    "train_models",
    "uniform",
]


ROWS = 1 << 26  # numbers of the caller's examples on the device at a time, about


def trained(ensemble: Ensemble, x: np.ndarray, y: np.ndarray) -> None:
    """Train all models of an ensemble on the same examples in the given order."""
    words, batch = x.shape[1], ensemble.batch
    piece = max(1, ROWS // ((1 + words) * batch)) * batch
    for first in range(0, len(y), piece):
        some = slice(first, first + piece)
        rows = ensemble.device.array(ensemble.joined(x[some], y[some]))
        ensemble.train(rows, 0, 0, words, len(y[some]) // batch)
        ensemble.device.synchronize()


class Model:
    """One model in training."""

    def __init__(self, spec: ModelSpec, parameters: Parameters):
        self.ensemble, self.step = Ensemble(current(), [spec], [parameters]), 0

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order.

        Of real features x is (n, features) float32.
        """
        trained(self.ensemble, x, y)
        self.step = self.ensemble.step

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (n,) of examples as `train` takes them."""
        return self.ensemble.logits(x)[0]

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return self.ensemble.parameters()[0]

    def set_parameters(self, parameters: Parameters) -> None:
        """Take other parameters; the optimizer's state and the step stay."""
        self.ensemble.set_parameters([parameters])

    def state(self) -> State:
        """A copy of the optimizer's state."""
        return self.ensemble.records()[0][1]

    def restore(self, step: int, parameters: Parameters, state: State) -> None:
        """Be at a step with these bits, which a model of this specification gave."""
        self.ensemble.restore(step, [(parameters, state)])
        self.step = step


def train_models(
    spec: ModelSpec, records: Sequence[Parameters], x: np.ndarray, y: np.ndarray
) -> list[Parameters]:
    """The records, each trained from step 0 on the same packed examples in the given order."""
    found: list[Parameters] = []
    most = groups.models_together(current(), spec)
    for first in range(0, len(records), most):
        some = records[first : first + most]
        ensemble = Ensemble(current(), [spec] * len(some), some)
        trained(ensemble, x, y)
        found += ensemble.parameters()
    return found


def train_group(group: Group, report: Report) -> list[Trained]:
    """Train all models of a group to the end of the run, in the group's order."""
    return groups.train_group(current(), group, report)


def device() -> str:
    """The GPU's name."""
    return current().name
