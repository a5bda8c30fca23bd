"""The table of all kernels, and which of them make up a training step.

A step is a list of equations (docs/arithmetic.md, "One step"), each for the layers that have it.
`select` goes through the table from the most special kernels to the general ones: a kernel is
picked for every layer to which it applies and of whose equations none is carried out already.
Special kernels take all sums of a kind in one way: where a single one has an accumulator of its
own, general kernels carry out the whole step.
What the picked kernels read and no equation gives (the columns of the features, the rows of the
table) is prepared by further kernels.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Equation, Kernel, Phase
from nanorepro.backends.numba.kernels import (
    distinct_forward,
    fused_layer,
    general,
    input_layer,
    kept_layers,
    large_layers,
    narrow_input_layer,
    recomputed_layers,
    small_layers,
    sparse_backward,
    sparse_forward,
    table_layers,
)
from nanorepro.backends.numba.layout import Layout, Memory, make_layout
from nanorepro.backends.numba.repeated import PlacedKernel, in_loops

SPECIAL = (
    *recomputed_layers.KERNELS,
    *kept_layers.KERNELS,
    *narrow_input_layer.KERNELS,
    *fused_layer.KERNELS,
    *table_layers.KERNELS,
    *input_layer.KERNELS,
    *sparse_forward.KERNELS,
    *distinct_forward.KERNELS,
    *sparse_backward.KERNELS,
    *large_layers.KERNELS,
    *small_layers.KERNELS,
)
GENERAL = general.KERNELS
PREPARATIONS = (
    sparse_forward.FIND_DUPLICATES,
    general.FIND_FEATURES,
    table_layers.TRANSPOSE_OUTPUTS,
    table_layers.TRANSPOSE_DELTAS,
)


@dataclass(frozen=True)
class Pick:
    """A kernel, picked for a layer."""

    kernel: Kernel
    k: int

    def build(self, ctx: KernelContext, layout: Layout) -> Callable:
        return self.kernel.build(ctx, layout, self.k)

    def placed(self, ctx: KernelContext, layout: Layout) -> PlacedKernel:
        code, places = self.kernel.works_on(layout, self.k)
        code = code, ctx.accumulators(self.k)
        return PlacedKernel((self.kernel, code), places, partial(self.build, ctx, layout))


@dataclass(frozen=True)
class Step:
    """The kernels of a step in their order, and the memory that they work on."""

    layout: Layout
    forward: tuple[Pick, ...]
    backward: tuple[Pick, ...]

    @property
    def picks(self) -> tuple[Pick, ...]:
        return self.forward + self.backward


def equations(ctx: KernelContext) -> set[tuple[Equation, int]]:
    """The equations of a step, each with the number of a layer."""
    found = {(Equation.OUTPUT_GRADIENT, len(ctx.net) - 1)}
    for k, layer in enumerate(ctx.net):
        found |= {(e, k) for e in (Equation.FORWARD, Equation.WEIGHT_GRADIENT)}
        found.add((Equation.WEIGHT_UPDATE, k))
        if layer.bias:
            found |= {(Equation.BIAS_GRADIENT, k), (Equation.BIAS_UPDATE, k)}
        if k > 0:
            found.add((Equation.BACKWARD, k))
    return found


def carried_out(ctx: KernelContext, kernel: Kernel, k: int) -> set[tuple[Equation, int]]:
    """The equations that a kernel carries out when it is picked for layer k."""
    return {(e, at) for e, layers in kernel.carries.items() for at in layers(ctx, k)}


def select(ctx: KernelContext, general_only: bool = False) -> list[Pick]:
    """The kernels that carry out each equation of a step once, most special ones first."""
    every, picks = equations(ctx), []
    left = {*every}
    special = () if general_only or not ctx.alike else SPECIAL
    for kernel in special + GENERAL:
        for k in range(len(ctx.net)):
            if not kernel.applies(ctx, k):
                continue
            wanted = carried_out(ctx, kernel, k) & every
            # of a general kernel some may be carried out already, of a special one none
            if wanted & left if kernel.general else wanted and wanted <= left:
                picks.append(Pick(kernel, k))
                left -= wanted
    assert not left, left
    return picks


def preparations(picks: Iterable[Pick]) -> list[Pick]:
    """The kernels that prepare what the picked ones read."""
    reads = {name for pick in picks for name in pick.kernel.reads}
    return [Pick(kernel, 0) for kernel in PREPARATIONS if reads & {*kernel.writes}]


def in_order(picks: list[Pick], layout: Layout) -> tuple[tuple[Pick, ...], tuple[Pick, ...]]:
    """The kernels of the forward pass, and those from the loss to the update, in their order.

    The forward pass, gradients and biases go up the layers, the backward pass down.  What the
    layers in the table share is carried out as soon as the δ of all of them are there: what waits
    for it then overlaps the rest.
    """
    forward = sorted((p for p in picks if p.kernel.phase == Phase.FORWARD), key=lambda p: p.k)
    rest = [p for p in picks if p.kernel.phase != Phase.FORWARD]
    lowest = min((k for k, place in enumerate(layout.layers) if place.in_table), default=0)

    def position(pick: Pick) -> tuple[int, int]:
        phase = pick.kernel.phase
        if phase == Phase.TABLE:  # after the backward pass of the layer above the lowest
            return Phase.BACKWARD, -2 * (lowest + 1) + 1
        return phase, -2 * pick.k if phase in (Phase.OUTPUT, Phase.BACKWARD) else pick.k

    prepared = preparations(picks)
    early = [p for p in prepared if p.kernel.phase == Phase.FORWARD]
    late = [p for p in prepared if p.kernel.phase != Phase.FORWARD]
    at_once = preparations(forward)
    waiting = [p for p in early if p not in at_once]
    backward = sorted([*late, *rest], key=position)
    return (*at_once, *forward), (*waiting, *backward)


def make_step(ctx: KernelContext, general_only: bool = False) -> Step:
    """The kernels of a step and the layout that they want; for tests, general kernels only."""
    picks = select(ctx, general_only)
    layout = make_layout(ctx, [(p.kernel, p.k) for p in [*picks, *preparations(picks)]])
    return Step(layout, *in_order(picks, layout))


def build(ctx: KernelContext, layout: Layout, picks: Iterable[Pick]) -> Callable:
    """The kernel that carries out the picked ones in their order."""
    return in_loops([pick.placed(ctx, layout) for pick in picks], Memory._fields)
