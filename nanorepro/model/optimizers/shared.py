"""What an optimizer is, and the settings that several of them have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from nanorepro.numerics.array_namespace import ArrayNamespace, Function
from nanorepro.settings import setting

if TYPE_CHECKING:
    import numpy as np

    from nanorepro.numerics.rounding import Operations


@dataclass(frozen=True, kw_only=True)
class RateSetting:
    """The learning rate."""

    lr: float = setting(
        0.1, "learning rate η, above 0", low=1e-12, high=1e12, paper="1 and 0.1; sgd 0.1 and 0.01"
    )


@dataclass(frozen=True, kw_only=True)
class EpsilonSetting:
    """The number that keeps a step finite where the state is small."""

    epsilon: float = setting(
        1e-7, "the epsilon that joins the root of the squares, 0 or more", low=0.0, high=1.0
    )


def all_used(setting: Any) -> tuple[str, ...]:
    """No setting is without effect beside the others."""
    return ()


def all_allowed(setting: Any) -> None:
    """No settings contradict each other."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optimizer: one update of one weight, the same code for every backend.

    Attributes
    ----------
    name, summary : str
        What `--optimizer` takes, and what it is in a few words.
    settings : type
        The frozen keyword-only dataclass of its settings; every other optimizer's are left out of
        the id.
    state : mapping of str to float or str
        The numbers that it keeps for each weight, by name and in order, and where each starts: at a
        number, or at the value of the setting of that name.
    make_update : callable
        (xp, ops, setting) -> update(w, state, g, rate, t) -> (w, state), for a weight, the tuple of
        its state, its gradient, the step's learning rate and the rounding key: scalars, vectors or
        arrays.  `xp` is an array namespace, `ops` the dials' rounded operations in it.
    rate_settings : tuple of str
        The settings that only the schedule reads: an update is compiled once for all their values.
    schedule : callable or None
        (setting, step) -> rate, of float64 steps from 0 on and of any shape: only IEEE operations,
        and no step needs another one's rate.  None where all rates are lr.
    zero_gradient_changes_nothing : bool
        Whether a gradient of 0 leaves the weight and its state as they are, to the bit.
    operations, divisions, roots : int
        What an update carries out for each weight; a multiplication and the addition that follows
        it are one operation.
    unused : callable
        setting -> names of its settings that have no effect beside the others.
    check : callable
        setting -> None; raises ConfigError for settings that contradict each other.
    """

    name: str
    summary: str
    settings: type
    state: Mapping[str, float | str]
    make_update: "Callable[[ArrayNamespace, Operations, Any], Function]"
    rate_settings: tuple[str, ...] = ("lr",)
    schedule: "Callable[[Any, np.ndarray], np.ndarray] | None" = None
    zero_gradient_changes_nothing: bool = False
    operations: int
    divisions: int = 0
    roots: int = 0
    unused: Callable[[Any], tuple[str, ...]] = all_used
    check: Callable[[Any], None] = all_allowed

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its settings."""
        return tuple(f.name for f in fields(self.settings))

    def starts(self, setting: Any) -> tuple[float, ...]:
        """Where the numbers of the state start."""
        return tuple(
            float(getattr(setting, start)) if isinstance(start, str) else start
            for start in self.state.values()
        )
