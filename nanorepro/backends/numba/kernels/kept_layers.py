"""Kernels of a wide layer between few inputs and few outputs whose activation is costly.

As those of `recomputed_layers`, but A(z) and what the activation keeps for its slope are computed
once, of examples that differ, and kept for the backward pass, a vector of units at a time with the
units contiguous.  What has to be summed over the units is transposed in the L1 cache.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.activation import activation_backward, activation_forward
from nanorepro.backends.numba.conditions import WIDE_LAYER, kept, round_up
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Equation, Kernel, Phase, Work, own
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.llvm.tiles import (
    chained,
    in_line,
    load_tile,
    outer,
    store_tile,
    transpose,
)
from nanorepro.backends.numba.sums.by_plan import ONE, lanes_of
from nanorepro.backends.numba.update import apply_gradients
from nanorepro.backends.numba.wide_layer import (
    and_above,
    assert_one_table,
    examples_an_update,
    forms_of_both,
    own_above_and_below,
    rows_of,
    sums_of_units,
)
from nanorepro.backends.numba.work import update_work


def transposing_kept(ctx: KernelContext, layout: Layout) -> Callable:
    """A function (m, source, at): m.scratch[u, i] ← source[i, u] of a vector of units, all i."""
    examples, longest, lanes = layout.examples, ctx.longest, lanes_of(ctx.longest)

    @inlined
    def transpose_kept(m, source, at):
        for i in range(0, examples, longest):
            transpose(source, at + i * longest, longest, m.scratch, i, examples, lanes)

    return transpose_kept


def summing_over_units(ctx: KernelContext, layout: Layout, outputs: int) -> Callable:
    """A function (m, out, at, w, by_u, by_v, n): out[v, i] += Σ_u w[v, u]·m.scratch[u, i].

    Over n units u, for `outputs` v; w lies from m.w[w] on.
    """
    examples = layout.examples
    step = min(2 * ctx.longest, examples & -examples)
    lanes, tall = lanes_of(step), lanes_of(outputs)

    @inlined
    def add(m, out, at, w, by_u, by_v, n):
        for i in range(0, examples, step):
            acc = load_tile(out, at + i, examples, lanes, tall, ONE)
            for u in range(n):
                row = (load(m.scratch, u * examples + i, lanes),)
                acc = outer(acc, m.w, w + u * by_u, by_v, row, tall)
            store_tile(acc, out, at + i, examples, tall, ONE)

    return add


def places_at(layout: Layout) -> int:
    """Where in active_indices each example's place among those that differ lies."""
    return layout.examples + 2


def kept_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """For the units u of the layer, a vector at a time:

    z_u[i] = Σ_j W[j, u]·h_below[j, i] + b[u], h_u = A(z_u)
    z_above[v, i] = Σ_u W_above[u, v]·h_u[i]

    And the activation above.
    """
    place, under, over = layout[k], layout[k - 1], layout[k + 1]
    examples, units, step, batch = layout.examples, place.layer.fan_out, ctx.longest, ctx.batch
    inputs, outputs = lanes_of(place.layer.fan_in), over.layer.fan_out
    lanes, zero, add, activated = (
        lanes_of(step),
        ctx.ops.const(0.0),
        ctx.ops.add,
        ctx.value_and_kept,
    )
    w_at, b_at, under_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_unit, by_output = over.w, over.z, over.by_input, over.by_output
    transpose_one, total = transposing_kept(ctx, layout), summing_over_units(ctx, layout, outputs)
    activate = activation_forward(ctx, layout, over, outputs)
    both, at_place = lanes_of(2 * step), places_at(layout)

    @inlined
    def kernel(m, x, first, rate, t):
        nothing, count = fill(zero, lanes), 0
        for i in range(batch):
            same = np.int64(m.duplicate_of[i])
            m.active_indices[count] = i
            m.active_indices[at_place + i] = (
                count if same == i else m.active_indices[at_place + same]
            )
            count += same == i
        m.active_indices[count] = m.active_indices[count - 1]
        for v in range(outputs):
            for i in range(0, examples, step):
                store(m.z, over_z + v * examples + i, nothing)
        for u in range(0, units, step):
            weights = load_tile(m.w, w_at + u, by_input, lanes, inputs, ONE)
            bias, at = load(m.w, b_at + u, lanes), 2 * u * examples
            # two at a time, as the terms of exp wait for each other
            for k in range(0, count, 2):
                i, j = under_at + m.active_indices[k], under_at + m.active_indices[k + 1]
                z0 = add(chained(nothing, m.h, i, examples, weights), bias, t)
                z1 = add(chained(nothing, m.h, j, examples, weights), bias, t)
                h, slope = activated(in_line((z0, z1), both), t)
                store(m.kept, at + k * step, h)
                store(m.kept, at + (examples + k) * step, slope)
            transpose_one(m, m.kept, at)
            total(m, m.z, over_z, over_at + u * by_unit, by_unit, by_output, min(step, units - u))
        for v in range(outputs):
            z_at = over_z + v * examples
            for i in range(batch - 1, -1, -1):  # no place is behind its example
                m.z[z_at + i] = m.z[z_at + m.active_indices[at_place + i]]
        activate(m, 0, 0, t)

    return kernel


def kept_at_example(ctx: KernelContext, layout: Layout) -> Callable:
    """For `sums_of_units`, by where h_u lie: A(z_u) as kept; δ_u goes to m.scratch, too."""
    step, lanes, backward = ctx.longest, lanes_of(ctx.longest), ctx.backward
    room, at_place = layout.examples * ctx.longest, places_at(layout)

    @inlined
    def at_example(m, i, units, back, t):
        same = units + m.active_indices[at_place + i] * step
        d = backward(back, load(m.kept, same + room, lanes), t)
        store(m.scratch, room + i * step, d)
        return d, load(m.kept, same, lanes)

    return at_example


def kept_backward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """`sums_of_units` for all vectors of units, the update by them, and with the weights before it

    δ_below[j, i] = (Σ_u W[j, u]·δ_u[i])·A'(z_below[j, i])
    """
    place, under, over = layout[k], layout[k - 1], layout[k + 1]
    examples, units, step, batch = layout.examples, place.layer.fan_out, ctx.longest, ctx.batch
    inputs, outputs = place.layer.fan_in, lanes_of(over.layer.fan_out)
    lanes, every, rows, zero = (
        lanes_of(step),
        examples_an_update(ctx, k),
        rows_of(ctx, k),
        ctx.ops.const(0.0),
    )
    w_at, b_at, by_input, under_at = place.w, place.b, place.by_input, under.z
    over_at, by_output, wide = over.w, over.by_output, lanes_of(place.layer.fan_in)
    total = sums_of_units(ctx, layout, k, kept_at_example(ctx, layout))
    apply = apply_gradients(ctx, layout, step)
    transpose_one, add = transposing_kept(ctx, layout), summing_over_units(ctx, layout, inputs)
    multiply = activation_backward(ctx, layout, under, inputs)
    last = round_up(units, step) - step
    assert_one_table(layout, k)

    @inlined
    def kernel(m, x, first, rate, t):
        nothing = fill(zero, lanes)
        for j in range(inputs):
            for i in range(0, examples, step):
                store(m.d, under_at + j * examples + i, nothing)
        for u in range(0, units, step):
            above = load_tile(m.w, over_at + u, by_output, lanes, outputs, ONE)
            limit = rows * every if u else 0
            p = (m, 2 * u * examples, above, w_at + u - step, limit, rate, t)
            by_w, by_b, by_above = total(0, 1, batch, p)
            store_tile(by_w, m.g, w_at + u, by_input, wide, ONE)
            store(m.g, b_at + u, by_b)
            store_tile(by_above, m.g, over_at + u, by_output, outputs, ONE)
            transpose_one(m, m.scratch, examples * step)
            add(m, m.d, under_at, w_at + u, 1, by_input, min(step, units - u))
        for q in range(rows):
            w = w_at + q * by_input + last
            apply(m, w, w, rate, t)
        multiply(m, 0, t)

    return kernel


def kept_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    """h and what is kept of it; δ of a vector of units, and the same or h transposed."""
    units = round_up(layout[k].layer.fan_out, ctx.longest)
    return {
        "kept": 2 * units * layout.examples,
        "scratch": 2 * ctx.longest * layout.examples,
        "active_indices": 2 * places_at(layout),
    }


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Both layers; the activation is counted as 30 operations."""
    layer, above = ctx.net[k], ctx.net[k + 1].fan_out
    numbers = ctx.batch * layer.fan_out
    return Work(operations=numbers * (layer.fan_in + above + 30), bytes=8 * numbers)


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """δ of the layer and below, gradients, update."""
    layer, above = ctx.net[k], ctx.net[k + 1].fan_out
    numbers, rows = ctx.batch * layer.fan_out, rows_of(ctx, k)
    sums = Work(operations=numbers * (2 * layer.fan_in + 2 * above + 2), bytes=8 * numbers)
    return sums + update_work(ctx, rows * layer.fan_out)


CONDITION = WIDE_LAYER + "; the activation is costly"
EXAMPLES = (
    {"hidden": "4,100,2", "act": "swish"},
    {"hidden": "3,70", "act": "smelu", "tree": "pairwise"},
    {"model": "wide", "act": "swish", "optimizer": "sgd", "batch": 40},
)

KERNELS = (
    Kernel(
        name="kept_forward",
        carries={Equation.FORWARD: and_above},
        condition=CONDITION,
        applies=kept,
        reads=("w", "h", "duplicate_of"),
        writes=("z", "h", "kept", "scratch", "active_indices"),
        build=kept_forward,
        work=forward_work,
        forms=forms_of_both,
        phase=Phase.FORWARD,
        room=kept_room,
        works_on=own_above_and_below,
        examples=EXAMPLES,
    ),
    Kernel(
        name="kept_backward",
        carries={
            Equation.BACKWARD: and_above,
            Equation.WEIGHT_GRADIENT: and_above,
            Equation.BIAS_GRADIENT: own,
            Equation.WEIGHT_UPDATE: and_above,
            Equation.BIAS_UPDATE: own,
        },
        condition=CONDITION,
        applies=kept,
        reads=("w", "a", "h", "z", "d", "kept", "active_indices"),
        writes=("d", "g", "w", "a", "scratch"),
        build=kept_backward,
        work=backward_work,
        phase=Phase.BACKWARD,
        room=kept_room,
        works_on=own_above_and_below,
        examples=EXAMPLES,
    ),
)
