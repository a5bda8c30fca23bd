"""What a kernel is: a record of the equations that it carries out, and of when and how it does.

A kernel's function is made by `build` for fixed shapes, activation, optimizer and dials.  It has
the form (m, x, first, rate, t): m the memory (`layout.Memory`), x (n, words) the packed examples,
`first` the index of the mini-batch's first, `rate` the learning rate, and t what stochastic
rounding draws from.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, Flag, IntEnum, auto
from typing import Any

from nanorepro.backends.numba.context import KernelContext


class Equation(Enum):
    """The equations of a layer in one step (docs/arithmetic.md, "One step")."""

    FORWARD = "z = Σ_j h_below[j]·W[j] + b, h = A(z)"
    OUTPUT_GRADIENT = "δ = (σ(z) - y)/s, of the last layer"
    BACKWARD = "δ_below[j] = (Σ_u W[j, u]·δ[u])·A'(z_below[j])"
    WEIGHT_GRADIENT = "g_W[j, u] = Σ_i h_below[i, j]·δ[i, u]"
    BIAS_GRADIENT = "g_b[u] = Σ_i δ[i, u]"
    WEIGHT_UPDATE = "W, its state ← update(W, its state, g_W, η)"
    BIAS_UPDATE = "b, its state ← update(b, its state, g_b, η)"


class Form(Flag):
    """What a kernel wants of how a layer lies in memory."""

    UNITS_CONTIGUOUS = auto()  # of z, h and δ: the units of an example are contiguous
    EXAMPLES_CONTIGUOUS = auto()  # the examples of a unit are contiguous
    INPUTS_CONTIGUOUS = auto()  # of W: the inputs of a unit, else the units of an input
    TABLE = auto()  # δ has a column for each unit in the table of all layers of few units
    RECOMPUTED = auto()  # z, h and δ are not in those arrays


class Phase(IntEnum):
    """When in a step a kernel has its turn; within a phase see `step.in_order`."""

    FORWARD = auto()
    OUTPUT = auto()
    BACKWARD = auto()
    TABLE = auto()
    GRADIENTS = auto()
    BIASES = auto()
    INPUT_LAYER = auto()
    UPDATE = auto()
    LAST = auto()


@dataclass(frozen=True)
class Work:
    """What has to be done at least, in one mini-batch.

    Fused, added or multiplied numbers; divisions; square roots; bytes read or written.
    """

    operations: float = 0.0
    divisions: float = 0.0
    roots: float = 0.0
    bytes: float = 0.0
    resident: float = 0.0  # bytes among which these are: says which cache they come from

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.operations + other.operations,
            self.divisions + other.divisions,
            self.roots + other.roots,
            self.bytes + other.bytes,
            max(self.resident, other.resident),
        )


@dataclass(frozen=True)
class Counts:
    """How much there is in a mini-batch, on which the work of some kernels depends."""

    features: float  # present, of all examples together
    rows: float  # different ones of them
    examples: float = 0.0  # different ones, where a kernel looks for those that are equal
    # of a large layer behind a ReLU, below it: what is not 0
    distinct: float = 0.0  # h of different examples
    terms: float = 0.0  # h of all examples
    inputs: float = 0.0  # inputs of some example
    units: float = 0.0  # units whose δ is not 0 for some example


Layers = Callable[[KernelContext, int], Iterable[int]]


def own(ctx: KernelContext, k: int) -> tuple[int, ...]:
    """Of the layer itself."""
    return (k,)


def never(ctx: KernelContext, k: int) -> bool:
    """Of a `preparation`."""
    return False


def no_forms(ctx: KernelContext, k: int) -> Mapping[int, Form]:
    """It takes layers as they lie."""
    return {}


def no_room(ctx: KernelContext, layout: Any, k: int) -> Mapping[str, int]:
    return {}


Places = Mapping[str, tuple[int, ...]]


def own_and_below(layout: Any, k: int) -> tuple[Hashable, Places]:
    """It works on layer k, and on the activations of the layer below."""
    place, under = layout[k], layout[k - 1] if k else None
    weights, activations = (place.w,), (place.z,) + ((under.z,) if under else ())
    return (place.code, under.code_above if under else None), {
        "w": weights, "a": weights, "g": weights,
        "biases": (place.b,), "bias_gradients": (place.b,),
        "z": activations, "h": activations, "d": activations,
        "delta_rows": (place.column,), "active_mask": (place.mask,),
        "unit_plans": (2 * place.forward_plan, 2 * place.backward_plan),
    }  # fmt: skip


def own_block_and_below(layout: Any, k: int) -> tuple[Hashable, Places]:
    """The same, and m.g holds the gradients of a block of weights, always in one place."""
    code, places = own_and_below(layout, k)
    return code, {**places, "g": ()}


@dataclass(frozen=True, eq=False)
class Kernel:
    """One way of carrying out some equations of some layers.

    Attributes
    ----------
    name
        What it is called in tables.
    carries
        The equations that it carries out, each with the layers that it does so for when it is
        picked for layer k: (context, k) → numbers of layers.
    condition
        When it is used, in words; `applies(context, k)` is the same as a function.
    reads, writes
        The buffers of `layout.Memory` that it works on, but for x, y and the sums' own.
    build
        (context, layout, k) → the compiled function.
    work
        (context, layout, k, counts) → what it has to do at least.
    forms
        (context, k) → how it wants layers to lie in memory, by their number.
    room
        (context, layout, k) → the numbers that it needs room for in buffers that kernels share.
    mask
        (context, k) → the words of `active_mask` that it keeps from the forward pass on.
    works_on
        (layout, k) → what its code depends on, and its places in the buffers, in numbers: it is
        compiled once for layers that differ by places alone (`repeated`).
    phase
        When in the step it has its turn.
    general
        It applies to all shapes and dials, and takes what no special kernel does.
    examples
        Options of configurations for which it is picked: what it is tested with.
    """

    name: str
    carries: Mapping[Equation, Layers]
    condition: str
    applies: Callable[[KernelContext, int], bool]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    build: Callable[[KernelContext, Any, int], Callable]
    work: Callable[[KernelContext, Any, int, Counts], Work]
    phase: Phase
    forms: Callable[[KernelContext, int], Mapping[int, Form]] = no_forms
    room: Callable[[KernelContext, Any, int], Mapping[str, int]] = no_room
    mask: Callable[[KernelContext, int], int] = lambda ctx, k: 0
    works_on: Callable[[Any, int], tuple[Hashable, Places]] = own_and_below
    general: bool = False
    examples: tuple[dict[str, Any], ...] = ()


def preparation(**given: Any) -> Kernel:
    """A kernel that writes what others read: it carries out no equation and is picked with them."""
    return Kernel(carries={}, applies=never, **given)
