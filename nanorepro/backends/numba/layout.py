"""Where a model in training lies in memory: computed from what the picked kernels want.

The general kernels have the units of an example contiguous, (examples, units).  Kernels of small
layers have the examples of a unit contiguous, (units, examples): so a layer of a few units fills
whole vectors, too.  What padding holds never reaches a result.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from math import prod
from operator import or_
from typing import NamedTuple

import numpy as np

from nanorepro.backends.numba.conditions import lanes_for, round_up, whole_vectors
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Equation, Form, Kernel
from nanorepro.model.layers import Layer
from nanorepro.numerics import plans

LINE = 64  # bytes of a cache line
SPARE = 1  # rows of zeros after the 32 of the first layer, for features that are not there


class Memory(NamedTuple):
    """What one model in training works on; arrays are flat unless a shape is given.

    w: parameters; a: optimizer state, number k of the parameter at w[i] at a[i + k·parameters]
    z, h, d: of every layer: before the activation (or A'(z), if that is kept), after it, and δ
    transposed: h or δ of one layer the other way round; scratch: of some of its units
    delta_rows: (examples, width), δ of the layers of a few units, contiguous, zeros below them
    output_rows: likewise h, of those under another of them
    kept: h and A'(z) of a layer of which nothing else is kept, a vector of units after the other
    y: labels of the mini-batch; constants: the number 1, and one that is huge
    g: gradients of the parameters, where they lie in w, and then those of a block of weights
    feature_words, features_of_example: packed features of some examples, and of one
    present_features: of all examples of the mini-batch together, in words
    columns: packed examples of every feature
    duplicate_of: of every example the first that has the same features
    active_mask: of every 32 inputs of a large layer and every example, which h are not 0; then
    whether all its weights are bounded by 2^52
    examples_of_input: of every input of such a layer the examples for which it is not 0
    active_indices: the inputs that are not 0 for all examples, and then the units whose δ are not
    slots, wide_slots, bins, special, lane: partial sums of plans and of exact sums
    plan: (m, 2), of the sums over the mini-batch; unit_plans: those of the sums over units
    biases, bias_gradients: w and g once more, as a kernel's pointer to the biases of its layer may
    be moved by another distance than that to the weights (`repeated`)
    """

    w: np.ndarray
    a: np.ndarray
    z: np.ndarray
    h: np.ndarray
    d: np.ndarray
    transposed: np.ndarray
    scratch: np.ndarray
    kept: np.ndarray
    y: np.ndarray
    g: np.ndarray
    constants: np.ndarray
    delta_rows: np.ndarray
    output_rows: np.ndarray
    feature_words: np.ndarray
    features_of_example: np.ndarray
    present_features: np.ndarray
    columns: np.ndarray
    duplicate_of: np.ndarray
    active_mask: np.ndarray
    examples_of_input: np.ndarray
    active_indices: np.ndarray
    slots: np.ndarray
    wide_slots: np.ndarray
    bins: np.ndarray
    special: np.ndarray
    lane: np.ndarray
    plan: np.ndarray
    unit_plans: np.ndarray
    biases: np.ndarray
    bias_gradients: np.ndarray


def allocate(wanted):
    """Zeros for each (shape, type) of a named tuple, out of one piece of memory, as such a tuple.

    Each array begins with a cache line, so that no vector lies on two.
    """
    arrays = [(np.dtype(dtype), shape) for shape, dtype in wanted]
    sizes = [dtype.itemsize * (prod(n) if isinstance(n, tuple) else n) for dtype, n in arrays]
    begins = [LINE * k for k in accumulate((-(-n // LINE) for n in sizes), initial=0)]
    arena = np.zeros(begins[-1] + LINE, np.uint8)
    first = -arena.ctypes.data % LINE
    return type(wanted)(*(
        np.ndarray(shape, dtype, arena, first + at)
        for (dtype, shape), at in zip(arrays, begins, strict=False)
    ))  # fmt: skip


@dataclass(frozen=True)
class LayerLayout:
    """Where a layer lies in the memory; widths, strides and offsets in numbers.

    Of z, h and δ: unit u of example i is at z + u·by_unit + i·by_example.  The weight of input j
    and unit u is at w + j·by_input + u·by_output; of embeddings u counts the units of one set, or
    where inputs are contiguous those of all, and there is room for weights that are in no set.
    """

    layer: Layer
    form: Form
    row: int  # units, padded to whole vectors; of embeddings those of one set
    lanes: int  # of a vector of units
    by_unit: int
    by_example: int
    by_input: int
    by_output: int
    forward_plan: int  # first row of the unit plans, forward
    backward_plan: int  # and backward
    separate: bool  # its weights are not updated with those of all layers
    column: int = -1  # of its first unit in the table
    mask: int = 0  # its first word in active_mask
    w: int = 0
    b: int = 0
    z: int = 0

    @property
    def width(self) -> int:
        """Numbers that the units of an example take, contiguous."""
        return self.row * self.layer.sets

    @property
    def weights(self) -> int:
        """Room for the weights."""
        if self.inputs_contiguous:
            return self.layer.fan_out * self.by_output
        return self.layer.fan_in * self.by_input

    @property
    def examples_contiguous(self) -> bool:
        return Form.EXAMPLES_CONTIGUOUS in self.form

    @property
    def inputs_contiguous(self) -> bool:
        return Form.INPUTS_CONTIGUOUS in self.form

    @property
    def recomputed(self) -> bool:
        return Form.RECOMPUTED in self.form

    @property
    def in_table(self) -> bool:
        return Form.TABLE in self.form

    @property
    def code(self) -> "LayerLayout":
        """The layer without name and offsets: what the code of its kernels depends on."""
        return replace(
            self, layer=replace(self.layer, names=()), forward_plan=0, backward_plan=0, column=0,
            mask=0, w=0, b=0, z=0,
        )  # fmt: skip

    @property
    def code_above(self) -> "LayerLayout":
        """What the code of the kernels of the layer above depends on: how z, h and δ lie."""
        layer = replace(self.layer, names=(), fan_in=0, bias=False)
        form = self.form & ~Form.INPUTS_CONTIGUOUS
        return replace(self.code, layer=layer, form=form, by_input=0, by_output=0, separate=False)


@dataclass(frozen=True)
class Layout:
    """The places of all layers, and the sizes of the memory's arrays.

    The parameters from `together` on are updated together, at the end of a step; those before,
    each layer by itself, as soon as its gradients are there.
    """

    layers: tuple[LayerLayout, ...]
    examples: int  # of a mini-batch, padded to whole vectors
    units: int  # of the layers in the table
    table_width: int  # of a row of the table
    together: int = 0
    parameters: int = 0
    table_biases: int = 0  # where those of the layers in the table begin
    activations: int = 0
    room: tuple[tuple[str, int], ...] = ()  # of buffers that kernels share, by name

    def __getitem__(self, k: int) -> LayerLayout:
        return self.layers[k]

    def room_of(self, name: str) -> int:
        return dict(self.room).get(name, 0)

    @property
    def table(self) -> list[LayerLayout]:
        return [place for place in self.layers if place.in_table]


def spaced(width: int, longest: int) -> int:
    """From one row to the next: 2048 bytes apart all would lie in a few sets of the cache."""
    return width if width % (32 * longest) else width + longest


def unit_terms(layer: Layer) -> tuple[int, int]:
    """Terms of the sums over units of a layer, forward and backward."""
    return layer.fan_in // layer.sets, layer.fan_out


def flat_lanes(n: int, longest: int) -> int:
    """Lanes of the vectors that n contiguous numbers fill exactly."""
    return min(longest, n & -n)


def plan_slots(ctx: KernelContext) -> int:
    """Partial sums that a plan of any sum needs."""
    terms = [n for layer in ctx.net for n in unit_terms(layer)]
    over_units = max(plans.plan_slots(ctx.dials.unit_tree, n) for n in terms)
    return max(over_units, plans.plan_slots(ctx.dials.tree, ctx.batch))


def unit_plan_rows(ctx: KernelContext) -> int:
    """Rows of the unit plans of all layers."""
    terms = [n for layer in ctx.net for n in unit_terms(layer)]
    return sum(plans.plan_rows(ctx.dials.unit_tree, n) for n in terms)


def make_layout(ctx: KernelContext, picked: Iterable[tuple[Kernel, int]]) -> Layout:
    """The layout that the picked kernels want, each for the layer that it was picked for."""
    picked = tuple(picked)
    forms = forms_of(ctx, picked)
    lanes = 32 if Form.EXAMPLES_CONTIGUOUS in forms[0] else ctx.longest
    examples = round_up(ctx.batch, lanes)
    places = place_masks(
        ctx, picked, shape_layers(ctx, forms, separate_layers(ctx, picked), examples)
    )
    table = [place for place in places if place.in_table]
    units = sum(place.layer.fan_out for place in table)
    rows = any({"delta_rows"} & {*kernel.reads} for kernel, _ in picked)
    width = spaced(round_up(units, ctx.longest), ctx.longest) if rows else 0
    layout = Layout(tuple(places), examples, units, width)
    layout = place_activations(ctx, place_parameters(ctx, layout))
    room: dict[str, int] = {}
    for kernel, k in picked:
        for name, n in kernel.room(ctx, layout, k).items():
            room[name] = max(room.get(name, 0), n)
    room["active_mask"] = sum(kernel.mask(ctx, k) for kernel, k in picked)
    return replace(layout, room=tuple(sorted(room.items())))


def forms_of(ctx: KernelContext, picked) -> list[Form]:
    """How each layer is to lie: all that the kernels picked for it want."""
    wanted: list[list[Form]] = [[] for _ in ctx.net]
    for kernel, k in picked:
        for at, form in kernel.forms(ctx, k).items():
            wanted[at].append(form)
    forms = [reduce(or_, some, Form(0)) for some in wanted]
    either = Form.UNITS_CONTIGUOUS | Form.EXAMPLES_CONTIGUOUS
    assert all(
        (form & either) in (Form.UNITS_CONTIGUOUS, Form.EXAMPLES_CONTIGUOUS) for form in forms
    )
    return forms


def separate_layers(ctx: KernelContext, picked) -> set[int]:
    """The layers whose weights some special kernel updates."""
    return {
        at
        for kernel, k in picked
        if not kernel.general and Equation.WEIGHT_UPDATE in kernel.carries
        for at in kernel.carries[Equation.WEIGHT_UPDATE](ctx, k)
    }


def shape_layers(ctx, forms: list[Form], separate: set[int], examples: int) -> list[LayerLayout]:
    """Each layer's form and strides, without its offsets."""
    places, column, plan_row = [], 0, 0
    for k, (layer, form) in enumerate(zip(ctx.net, forms, strict=True)):
        row = whole_vectors(layer.row, ctx.longest)
        by_unit, by_example = 1, spaced(row * layer.sets, ctx.longest)
        by_input, by_output = row if k == 0 else by_example, 1
        if Form.EXAMPLES_CONTIGUOUS in form:
            by_unit, by_example, by_input = examples, 1, row
        if Form.INPUTS_CONTIGUOUS in form:
            whole = whole_vectors(layer.fan_in, ctx.longest)
            by_input, by_output = 1, whole if k else round_up(layer.fan_in, 32)
        rows = [plans.plan_rows(ctx.dials.unit_tree, n) for n in unit_terms(layer)]
        in_table = Form.TABLE in form
        places.append(LayerLayout(
            layer, form, row, lanes_for(layer.row, ctx.longest), by_unit, by_example, by_input,
            by_output, plan_row, plan_row + rows[0], k in separate, column if in_table else -1,
        ))  # fmt: skip
        plan_row += sum(rows)
        column += layer.fan_out * in_table
    return places


def place_masks(ctx: KernelContext, picked, places: list[LayerLayout]) -> list[LayerLayout]:
    """Where each layer's words in `active_mask` begin."""
    at = 0
    for kernel, k in sorted(picked, key=lambda pick: pick[1]):
        if words := kernel.mask(ctx, k):
            places[k] = replace(places[k], mask=at)
            at += words
    return places


def place_parameters(ctx: KernelContext, layout: Layout) -> Layout:
    """Where weights and biases lie: first those of layers that are updated by themselves.

    Behind the first layer's 32 rows of weights there is one of zeros.  The biases of the layers in
    the table are together; those of a recomputed layer follow its weights.
    """
    longest, places, w = ctx.longest, list(layout.layers), 0
    for separate in (True, False):
        together = w
        for k, place in enumerate(places):
            if place.separate == separate:
                room = max(place.weights, (32 + SPARE) * place.by_input * (k == 0))
                b = round_up(w + room, longest)
                places[k] = replace(place, w=w, b=b)
                w = round_up(b + place.width * place.recomputed, longest)
    table_biases, b = w, w + round_up(layout.units, longest)
    for k, place in enumerate(places):
        if place.in_table:
            places[k] = replace(place, b=table_biases + place.column)
        elif not place.recomputed:
            places[k] = replace(place, b=b)
            b = round_up(b + place.width, longest)
    return replace(
        layout, layers=tuple(places), together=together, parameters=b, table_biases=table_biases
    )


def place_activations(ctx: KernelContext, layout: Layout) -> Layout:
    """Where z, h and δ lie: first those of the table, each unit's examples contiguous.

    Where units are contiguous, there is a row of zeros behind those of 32 examples.
    """
    longest, examples, places = ctx.longest, layout.examples, list(layout.layers)
    z = round_up(layout.units, longest) * examples
    for k, place in enumerate(places):
        if place.in_table:
            places[k] = replace(place, z=place.column * examples)
        elif not place.recomputed:
            places[k] = replace(place, z=z)
            rows = max(ctx.batch, 32) + SPARE
            units_first = place.examples_contiguous
            z += round_up(
                place.width * examples if units_first else rows * place.by_example, longest
            )
    # and what is read with the last units to fill a vector
    return replace(layout, layers=tuple(places), activations=z + 4 * longest * examples)
