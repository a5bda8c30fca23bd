"""Stochastic gradient descent with momentum, and a rate that decays, as in Keras."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanorepro.model.optimizers.shared import Optimizer, RateSetting
from nanorepro.numerics.array_namespace import ArrayNamespace, Function
from nanorepro.settings import setting

if TYPE_CHECKING:
    import numpy as np

    from nanorepro.numerics.rounding import Operations


@dataclass(frozen=True, kw_only=True)
class SGDSettings(RateSetting):
    """The settings of stochastic gradient descent."""

    momentum: float = setting(0.9, "SGD: momentum, from 0 to below 1", low=0.0, below=1, paper=0.9)
    decay: float = setting(
        0.001, "SGD: the rate is lr/(1 + decay·step), 0 or more", low=0.0, high=1e6, paper=0.001
    )


def make_update(xp: ArrayNamespace, ops: "Operations", setting: SGDSettings) -> Function:
    """v ← m·v - η·g, w ← w + v."""
    momentum = ops.const(setting.momentum)
    zero = ops.const(0.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    # the velocity of a unit that is never active fades until it is subnormal, and stays so
    decay = ops.decay if momentum > 0.0 else ops.fma

    @xp.function
    def update(w: Any, state: Any, g: Any, rate: Any, t: Any) -> Any:
        v = decay(momentum, state[0], sub(zero, mul(rate, g, t), t), t)
        return add(w, v, t), (v,)

    return update


def schedule(setting: SGDSettings, step: "np.ndarray") -> "np.ndarray":
    """η = lr/(1 + decay·step)."""
    return setting.lr / (1.0 + setting.decay * step)


SGD = Optimizer(
    name="sgd",
    summary="gradient descent with momentum",
    settings=SGDSettings,
    state={"v": 0.0},
    make_update=make_update,
    rate_settings=("lr", "decay"),
    schedule=schedule,
    operations=3,  # η·g; m·v - ; w +
)
