"""Adam (Kingma and Ba 2015) with bias correction, by the rule of Keras 3."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanorepro.errors import wrong
from nanorepro.model.optimizers.shared import EpsilonSetting, Optimizer, RateSetting
from nanorepro.numerics.array_namespace import ArrayNamespace, Function
from nanorepro.numerics.formats import significand_bits
from nanorepro.settings import setting

if TYPE_CHECKING:
    import numpy as np

    from nanorepro.numerics.rounding import Operations


@dataclass(frozen=True, kw_only=True)
class AdamSettings(EpsilonSetting, RateSetting):
    """The settings of Adam."""

    beta1: float = setting(
        0.9, "Adam: decay of the mean of gradients, from 0 to below 1", low=0.0, below=1
    )
    beta2: float = setting(
        0.999, "Adam: decay of the mean of their squares, from 0 to below 1", low=0.0, below=1
    )


def make_update(xp: ArrayNamespace, ops: "Operations", setting: AdamSettings) -> Function:
    """m ← m + (1 - β₁)(g - m), v ← v + (1 - β₂)(g² - v), w ← w - (α·m)/(√v + ε)."""
    epsilon, zero = ops.const(setting.epsilon), ops.const(0.0)
    c1, c2 = ops.const(1.0 - setting.beta1), ops.const(1.0 - setting.beta2)
    add, sub, mul, div, sqrt, fma = ops.add, ops.sub, ops.mul, ops.div, ops.sqrt, ops.fma

    @xp.function
    def update(w: Any, state: Any, g: Any, rate: Any, t: Any) -> Any:
        m = fma(c1, sub(g, state[0], t), state[0], t)
        v = fma(c2, fma(g, g, sub(zero, state[1], t), t), state[1], t)
        return sub(w, div(mul(rate, m, t), add(sqrt(v, t), epsilon, t), t), t), (m, v)

    return update


def schedule(setting: AdamSettings, step: "np.ndarray") -> "np.ndarray":
    """α = (lr·√(1 - β₂ⁿ))/(1 - β₁ⁿ) with n = step + 1."""
    import numpy as np

    first, second = power(setting.beta1, step + 1.0), power(setting.beta2, step + 1.0)
    return setting.lr * np.sqrt(1.0 - second) / (1.0 - first)


def power(base: float, n: "np.ndarray") -> "np.ndarray":
    """baseⁿ for whole numbers n, by squaring, from the lowest binary digit of n to the highest.

    r = 1; for each digit: if it is 1, r ← r·q; then q ← q·q; q is the base at first.
    """
    import numpy as np

    digits, q, found = n.astype(np.int64), base, np.ones(n.shape)
    while digits.any():
        found = np.where(digits & 1, found * q, found)
        digits, q = digits >> 1, q * q
    return found


def check(config: Any) -> None:
    """A weight whose gradients have all been 0 would be divided by ε = 0, or ε rounded to 0."""
    for precision in config.precision.split(","):
        p = significand_bits(precision)
        half = 2.0 ** -(126 + p) if precision != "float64" else 0.0  # of the least number above 0
        if config.epsilon <= half:
            right = f"a number above {half:.2g}" + (f" in {precision}" if half else "")
            raise wrong("epsilon", config.epsilon, f"{right} with {{optimizer=adam}}")


ADAM = Optimizer(
    name="adam",
    summary="steps by the means of a weight's gradients and of their squares",
    settings=AdamSettings,
    state={"m": 0.0, "v": 0.0},
    make_update=make_update,
    schedule=schedule,
    operations=8,  # g - m; m + c1·; 0 - v; + g·g; v + c2·; α·m; + ε; w -
    divisions=1,
    roots=1,
    check=check,
)
