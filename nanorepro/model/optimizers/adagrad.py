"""AdaGrad (Duchi et al. 2011), in the three forms that TensorFlow has had."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanorepro.model.optimizers.shared import EpsilonSetting, Optimizer, RateSetting
from nanorepro.numerics.array_namespace import ArrayNamespace, Function
from nanorepro.settings import setting

if TYPE_CHECKING:
    from nanorepro.numerics.rounding import Operations

EPSILON_PLACES = ("outside", "inside", "none")


@dataclass(frozen=True, kw_only=True)
class AdaGradSettings(EpsilonSetting, RateSetting):
    """The settings of AdaGrad."""

    initial_accumulator: float = setting(
        0.1, "AdaGrad: where its accumulators start", low=1e-12, high=1e12, paper=0.1
    )
    epsilon_place: str = setting(
        "outside",
        "AdaGrad: epsilon outside the root as in the paper's Keras, inside it as in Keras 3, or"
        " none as in TensorFlow 1",
        choices=EPSILON_PLACES,
    )


def make_update(xp: ArrayNamespace, ops: "Operations", setting: AdaGradSettings) -> Function:
    """a ← a + g², then w ← w - (η·g)/D, where D is by the place of epsilon

    outside:  √a + ε     the paper's Keras
    inside:   √(a + ε)   Keras 3
    none:     √a         TensorFlow 1
    """
    epsilon = ops.const(setting.epsilon)
    place = setting.epsilon_place
    inside, outside = place == "inside", place == "outside"
    add, sub, mul, div, sqrt, fma = ops.add, ops.sub, ops.mul, ops.div, ops.sqrt, ops.fma

    @xp.function
    def update(w: Any, state: Any, g: Any, rate: Any, t: Any) -> Any:
        a = fma(g, g, state[0], t)
        if inside:
            root = sqrt(add(a, epsilon, t), t)
        elif outside:
            root = add(sqrt(a, t), epsilon, t)
        else:
            root = sqrt(a, t)
        return sub(w, div(mul(rate, g, t), root, t), t), (a,)

    return update


def unused(setting: AdaGradSettings) -> tuple[str, ...]:
    """Epsilon, where there is no place for it."""
    return ("epsilon",) if setting.epsilon_place == "none" else ()


ADAGRAD = Optimizer(
    name="adagrad",
    summary="rates that shrink with the squares of a weight's gradients",
    settings=AdaGradSettings,
    state={"a": "initial_accumulator"},
    make_update=make_update,
    # a + 0 = a > 0, and w - 0/D = w
    zero_gradient_changes_nothing=True,
    operations=4,  # a + g·g; + ε; η·g; w -
    divisions=1,
    roots=1,
    unused=unused,
)
