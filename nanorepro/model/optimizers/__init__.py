"""The optimizers.  Another one is a file beside these, and its name in the two lists here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanorepro.model.optimizers.adagrad import ADAGRAD, AdaGradSettings
from nanorepro.model.optimizers.adam import ADAM, AdamSettings
from nanorepro.model.optimizers.sgd import SGD, SGDSettings
from nanorepro.model.optimizers.shared import Optimizer
from nanorepro.settings import setting, summaries

if TYPE_CHECKING:
    import numpy as np

__all__ = ["OPTIMIZERS", "Optimizer", "OptimizerSettings", "learning_rate", "learning_rates"]

OPTIMIZERS = {optimizer.name: optimizer for optimizer in (ADAGRAD, SGD, ADAM)}


@dataclass(frozen=True, kw_only=True)
class OptimizerChoice:
    """Which optimizer."""

    optimizer: str = setting(
        "adagrad", "optimizer; " + summaries(OPTIMIZERS), choices=OPTIMIZERS, paper="adagrad, sgd"
    )


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings(AdamSettings, SGDSettings, AdaGradSettings, OptimizerChoice):
    """Which optimizer, and the settings of all of them: a part of `Config`."""


def learning_rate(setting: OptimizerSettings, step: int) -> float:
    """The rate of a step, from 0 on, in float64."""
    return float(learning_rates(setting, step, 1)[0])


def learning_rates(setting: OptimizerSettings, first: int, steps: int) -> "np.ndarray":
    """The rates of so many steps from the first on, (steps,), or the one of all, (1,); float64."""
    import numpy as np

    schedule = OPTIMIZERS[setting.optimizer].schedule
    if schedule is None:
        return np.array([setting.lr])
    return schedule(setting, first + np.arange(steps, dtype=np.float64))
