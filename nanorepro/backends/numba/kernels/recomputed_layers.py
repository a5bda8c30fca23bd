"""Kernels of a wide layer between few inputs and few outputs, as in the wide model.

Its z, h and δ are never in memory: they are computed in registers, in the forward pass and twice in
the backward pass: with the examples contiguous for the sums over its units, with the units
contiguous for the sums over the mini-batch.  Of a ReLU's z the first of the two needs only whether
they are positive: a bit each.
"""

from collections.abc import Callable

from nanorepro.backends.numba.activation import activation_backward, activation_forward
from nanorepro.backends.numba.conditions import WIDE_LAYER, recomputed
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import (
    Counts,
    Equation,
    Kernel,
    Phase,
    Work,
    own,
)
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import ballot, fill, inlined, mask_of, where
from nanorepro.backends.numba.llvm.tiles import (
    chained,
    fill_tile,
    load_tile,
    outer,
    store_tile,
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


def examples_at_once(ctx: KernelContext, layout: Layout) -> int:
    """Contiguous examples: two vectors, where that ends with the last ones."""
    return min(2 * ctx.longest, layout.examples & -layout.examples)


def signs_of(ctx: KernelContext, layout: Layout, k: int) -> tuple[bool, int, int]:
    """Whether h and z are kept as bits in active_mask, where from on, and words for each unit."""
    keeps = ctx.zeros and examples_at_once(ctx, layout) == 32
    return keeps, layout[k].mask, layout.examples // 32


def recomputed_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """For the units u of the layer in turn, z_u in registers:

    z_u[i] = Σ_j W[j, u]·h_below[j, i] + b[u], h_u = A(z_u)
    z_above[v, i] = Σ_u W_above[u, v]·h_u[i]

    And the activation above.
    """
    place, under, over = layout[k], layout[k - 1], layout[k + 1]
    examples, units, step = layout.examples, place.layer.fan_out, examples_at_once(ctx, layout)
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add, value = lanes_of(step), ctx.ops.const(0.0), ctx.ops.add, ctx.value
    w_at, b_at, h_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_unit, by_output = over.w, over.z, over.by_input, over.by_output
    activate = activation_forward(ctx, layout, over, over.layer.fan_out)
    signs, mask, words = signs_of(ctx, layout, k)

    @inlined
    def kernel(m, x, first, rate, t):
        nothing = fill(zero, lanes)
        for i in range(0, examples, step):
            h_under = load_tile(m.h, h_at + i, examples, lanes, inputs, ONE)
            acc = fill_tile(zero, lanes, outputs, ONE)
            for u in range(units):
                z = chained(nothing, m.w, w_at + u, by_input, h_under)
                h = value(add(z, fill(m.w[b_at + u], lanes), t), t)
                if signs:
                    m.active_mask[mask + u * words + i // 32] = ballot(h)
                acc = outer(acc, m.w, over_at + u * by_unit, by_output, (h,), outputs)
            store_tile(acc, m.z, over_z + i, examples, outputs, ONE)
        activate(m, 0, 0, t)

    return kernel


def recomputed_backward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """For the units u of the layer in turn, z_u (or its sign) and δ_u in registers:

    δ_u[i] = (Σ_v W_above[u, v]·δ_above[v, i])·A'(z_u[i]), δ_below[j, i] = Σ_u W[j, u]·δ_u[i]

    And A' below.
    """
    place, under, over = layout[k], layout[k - 1], layout[k + 1]
    examples, units, step = layout.examples, place.layer.fan_out, examples_at_once(ctx, layout)
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add, backward = lanes_of(step), ctx.ops.const(0.0), ctx.ops.add, ctx.backward
    w_at, b_at, under_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_unit, by_output = over.w, over.z, over.by_input, over.by_output
    multiply = activation_backward(ctx, layout, under, place.layer.fan_in)
    one, (signs, mask, words) = ctx.ops.const(1.0), signs_of(ctx, layout, k)

    @inlined
    def kernel(m, x, first, rate, t):
        nothing = fill(zero, lanes)
        for i in range(0, examples, step):
            h_under = load_tile(m.h, under_at + i, examples, lanes, inputs, ONE)
            d_over = load_tile(m.d, over_z + i, examples, lanes, outputs, ONE)
            acc = fill_tile(zero, lanes, inputs, ONE)
            for u in range(units):
                if signs:  # any z of this sign
                    positive = mask_of(m.active_mask[mask + u * words + i // 32])
                    z = where(positive, fill(one, lanes), nothing)
                else:
                    z = chained(nothing, m.w, w_at + u, by_input, h_under)
                    z = add(z, fill(m.w[b_at + u], lanes), t)
                back = chained(nothing, m.w, over_at + u * by_unit, by_output, d_over)
                d = backward(back, z, t)
                acc = outer(acc, m.w, w_at + u, by_input, (d,), inputs)
            store_tile(acc, m.d, under_at + i, examples, inputs, ONE)
        multiply(m, 0, t)

    return kernel


def recomputed_at_example(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """For `sums_of_units`, by the vectors of W and b: z_u as in `recomputed_backward`."""
    under, examples = layout[k - 1].z, layout.examples
    lanes, zero, add = lanes_of(ctx.longest), ctx.ops.const(0.0), ctx.ops.add
    value, backward = ctx.value, ctx.backward

    @inlined
    def at_example(m, i, units, back, t):
        weights, bias = units
        z = add(chained(fill(zero, lanes), m.h, under + i, examples, weights), bias, t)
        return backward(back, z, t), value(z, t)

    return at_example


def recomputed_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """`sums_of_units` for all vectors of units, and the update of W, b and W_above by them."""
    place, over = layout[k], layout[k + 1]
    units, step, rows, batch = place.width, ctx.longest, rows_of(ctx, k), ctx.batch
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, every = lanes_of(step), examples_an_update(ctx, k)
    w_at, b_at, by_input = place.w, place.b, place.by_input
    over_at, by_output = over.w, over.by_output
    total = sums_of_units(ctx, layout, k, recomputed_at_example(ctx, layout, k))
    apply = apply_gradients(ctx, layout, step)
    assert_one_table(layout, k)

    @inlined
    def kernel(m, x, first, rate, t):
        for u in range(0, units, step):
            weights = load_tile(m.w, w_at + u, by_input, lanes, inputs, ONE)
            above = load_tile(m.w, over_at + u, by_output, lanes, outputs, ONE)
            limit = rows * every if u else 0
            both = weights, load(m.w, b_at + u, lanes)
            p = (m, both, above, w_at + u - step, limit, rate, t)
            by_w, by_b, by_above = total(0, 1, batch, p)
            store_tile(by_w, m.g, w_at + u, by_input, inputs, ONE)
            store(m.g, b_at + u, by_b)
            store_tile(by_above, m.g, over_at + u, by_output, outputs, ONE)
        for q in range(rows):
            w = w_at + q * by_input + units - step
            apply(m, w, w, rate, t)

    return kernel


def mask_words(ctx: KernelContext, k: int) -> int:
    return ctx.net[k].fan_out * -(-ctx.batch // 32)


def weights_and_above(ctx: KernelContext, k: int) -> tuple[int, int, int]:
    """Weights of the layer, weights above it, and units."""
    layer = ctx.net[k]
    return layer.fan_in * layer.fan_out, ctx.net[k + 1].fan_out * layer.fan_out, layer.fan_out


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    weights, above, units = weights_and_above(ctx, k)
    operations = ctx.batch * (weights + above + 2 * units)
    return Work(operations=operations, bytes=4 * (weights + above))


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Forward again, but for ReLU, and δ below."""
    weights, above, units = weights_and_above(ctx, k)
    again = 0 if ctx.zeros else weights + units
    operations = ctx.batch * (again + weights + above + 2 * units)
    return Work(operations=operations, bytes=4 * (weights + above))


def gradients_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """And again, and the gradients of both layers."""
    weights, above, units = weights_and_above(ctx, k)
    operations = ctx.batch * (2 * weights + 2 * above + 5 * units)
    return Work(operations=operations) + update_work(ctx, weights + units + above)


CONDITION = WIDE_LAYER + "; the activation is cheap"
EXAMPLES = (
    {"hidden": "4,100,2", "act": "relu"},
    {"hidden": "3,70", "act": "identity", "tree": "pairwise"},
    {"model": "wide", "act": "relu", "optimizer": "sgd", "batch": 40},
)

KERNELS = (
    Kernel(
        name="recomputed_forward",
        carries={Equation.FORWARD: and_above},
        condition=CONDITION,
        applies=recomputed,
        reads=("w", "h"),
        writes=("z", "h", "active_mask"),
        build=recomputed_forward,
        work=forward_work,
        forms=forms_of_both,
        phase=Phase.FORWARD,
        mask=mask_words,
        works_on=own_above_and_below,
        examples=EXAMPLES,
    ),
    Kernel(
        name="recomputed_backward",
        carries={Equation.BACKWARD: and_above},
        condition=CONDITION,
        applies=recomputed,
        reads=("w", "h", "z", "d", "active_mask"),
        writes=("d",),
        build=recomputed_backward,
        work=backward_work,
        phase=Phase.BACKWARD,
        works_on=own_above_and_below,
        examples=EXAMPLES,
    ),
    Kernel(
        name="recomputed_update",
        carries={
            Equation.WEIGHT_GRADIENT: and_above,
            Equation.BIAS_GRADIENT: own,
            Equation.WEIGHT_UPDATE: and_above,
            Equation.BIAS_UPDATE: own,
        },
        condition=CONDITION,
        applies=recomputed,
        reads=("w", "a", "h", "d"),
        writes=("g", "w", "a"),
        build=recomputed_update,
        work=gradients_work,
        phase=Phase.BACKWARD,
        works_on=own_above_and_below,
        examples=EXAMPLES,
    ),
)
