"""Kernels of a first layer of a few units, whose weights lie along the features.

A step of a small model is one long chain: no sum waits for throughput, each for the sum before.
So what is added lies in registers from the forward sums to the update, sums that do not depend on
each other are taken in one loop, and nothing is read as a vector that was written number by number:
such a read waits until all of them are in the cache.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.activation import activation_forward
from nanorepro.backends.numba.conditions import (
    inputs_contiguous,
    narrow,
    plain,
    table_layers,
    tiled,
    with_biases,
    with_second_layer,
)
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Equation, Form, Kernel, Phase, own
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import store
from nanorepro.backends.numba.llvm.simd import (
    fill,
    inlined,
    mask_of,
    reduce_or,
    trailing_zeros,
    where,
)
from nanorepro.backends.numba.llvm.tiles import (
    add_present,
    add_tile,
    fill_tile,
    in_line,
    load_tile,
    outer,
    store_rows,
    store_tile,
)
from nanorepro.backends.numba.packed_features import features_of_32
from nanorepro.backends.numba.sums.by_plan import (
    ONE,
    THIRTY_TWO,
    Sums,
    accumulator,
    in_tree,
    lanes_of,
    total_of,
)
from nanorepro.backends.numba.update import apply_gradients, state_access
from nanorepro.backends.numba.work import (
    features_update_work,
    input_forward_work,
)


def masked_terms(sums: Sums, n: int, p0: int) -> Callable:
    """A function that gives 32 sums of n numbers at once, each with terms of its own.

    masked(m, plan, numbers, at, stride, masks, word, step, out, to, t): the k-th number is
    numbers[at + k·stride], and a term of those sums whose bits are set in masks[word + k·step];
    the sums go to out[to], ..., out[to + 31].  No branch depends on the data.
    """
    lanes = THIRTY_TWO

    def make_join(product, term):
        @inlined
        def join(m, state, k, at, word, numbers, masks, t):
            joined = term(state, fill(numbers[at[0] + k * at[1]], lanes), t)
            return choose(mask_of(masks[word[0] + k * word[1]]), joined, state)

        return join

    start = accumulator(sums.accumulator, sums.ops)[0]
    if len(start(0.0)) == 2:

        @inlined
        def choose(mask, a, b):
            return (where(mask, a[0], b[0]), where(mask, a[1], b[1]))

    else:

        @inlined
        def choose(mask, a, b):
            return (where(mask, a[0], b[0]),)

    total = total_of(sums, n, lanes, p0, False, make_join, None)

    @inlined
    def masked(m, plan, numbers, at, stride, masks, word, step, out, to, t):
        store(out, to, total(m, plan, (at, stride), (word, step), numbers, masks, t))

    return masked


def narrow_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i, u] = Σ_j W[j, u] over the features j of example i, for 32 examples at once."""
    place, blocks, units = layout[0], -(-ctx.batch // 32), ctx.net[0].fan_out
    layer, w_at, by_unit, z_at = place.layer, place.w, place.by_output, place.z
    n, row, examples = layer.fan_in // layer.sets, layer.row, layout.examples
    activate = activation_forward(ctx, layout, place, units)
    total = masked_terms(ctx.unit_sums, n, place.forward_plan)

    @inlined
    def kernel(m, x, first, rate, t):
        for block in range(blocks):
            for u in range(units):
                j = u // row * n
                at, word = w_at + u * by_unit + j, j * blocks + block
                to = z_at + u * examples + 32 * block
                total(m, m.unit_plans, m.w, at, 1, m.columns, word, blocks, m.z, to, t)
        activate(m, 0, 0, t)

    return kernel


def narrow_present_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The same over the features that any example has, in registers; it finds them, too."""
    place, blocks = layout[0], -(-ctx.batch // 32)
    layer, w_at, z_at, examples = place.layer, place.w, place.z, layout.examples
    n, sets, units = layer.fan_in // layer.sets, layer.sets, layer.row
    by_unit, by_set = place.by_output, units * place.by_output
    tall, lanes, wide = lanes_of(units), lanes_of(ctx.longest), lanes_of(32 // ctx.longest)
    zero, features = ctx.ops.const(0.0), features_of_32(ctx)
    activate = activation_forward(ctx, layout, place, layer.fan_out)

    @inlined
    def kernel(m, x, first, rate, t):
        for block in range(blocks):
            for part in range(sets):
                acc = fill_tile(zero, lanes, tall, wide)
                low, high = part * n, part * n + n
                for word in range(low >> 5, (high + 31) >> 5):
                    v = features(m, x, first, block, word)
                    present = np.uint32(reduce_or(v))
                    if sets > 1:
                        begin, end = max(low - 32 * word, 0), min(high - 32 * word, 32)
                        present &= np.uint32((1 << end) - (1 << begin))
                    at = w_at + part * by_set + 32 * word
                    while present != 0:
                        j = np.int64(trailing_zeros(present))
                        having = v & (np.uint32(1) << np.uint32(j)) != np.uint32(0)
                        acc = add_present(acc, m.w, at + j, by_unit, having, tall, wide)
                        present &= present - np.uint32(1)
                to = z_at + part * units * examples + 32 * block
                store_tile(acc, m.z, to, examples, tall, wide)
        activate(m, 0, 0, t)

    return kernel


def narrow_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i δ[i, u] over the examples i with feature j, for 32 features at once; update.

    Embeddings: of all features, those of the other sets, too, whose weights nothing reads.
    """
    place, words, examples = layout[0], ctx.words, layout.examples
    units, by_unit, w_at, d_at = place.layer.fan_out, place.by_output, place.w, place.z
    total = masked_terms(ctx.batch_sums, ctx.batch, 0)
    apply = apply_gradients(ctx, layout, place.weights)

    @inlined
    def kernel(m, x, first, rate, t):
        for word in range(words):
            for u in range(units):
                at, to = d_at + u * examples, w_at + u * by_unit + 32 * word
                total(m, m.plan, m.d, at, 1, x, first * words + word, words, m.g, to, t)
        apply(m, w_at, w_at, rate, t)

    return kernel


def narrow_sums(ctx: KernelContext, layout: Layout) -> Callable:
    """A function total(0, 1, s, (m, x, word)): the sums over the mini-batch.

    In one loop over the examples i, for 32 features j and all units u:
    Σ_i δ[i, u] over those with feature j; `with_biases`, also Σ_i δ[i, u] of all layers in the
    table; `with_second_layer`, also its Σ_i h[i, j]·δ_2[i].
    """
    place, words, examples = layout[0], ctx.words, layout.examples
    tall, lanes, wide = vectors_of(ctx)
    biases, second = further_lanes(ctx, layout)
    zero, d_at, second_d = ctx.ops.const(0.0), place.z, layout[1].z if second else 0

    @inlined
    def chain(i0, stride, count, p):
        m, x, at = p
        weights = fill_tile(zero, lanes, tall, wide)
        by_b, by_w = fill_tile(zero, ONE, biases, ONE), fill_tile(zero, ONE, second, ONE)
        for k in range(count):
            i = i0 + k * stride
            present = mask_of(x[at + i * words])
            weights = add_present(weights, m.d, d_at + i, examples, present, tall, wide)
            by_b = add_tile(by_b, load_tile(m.d, i, examples, ONE, biases, ONE))
            delta = load_tile(m.d, second_d + i, 0, ONE, ONE, ONE)
            by_w = outer(by_w, m.h, d_at + i, examples, delta, second)
        return weights, by_b, by_w

    @inlined
    def join(a, b):
        return add_tile(a[0], b[0]), add_tile(a[1], b[1]), add_tile(a[2], b[2])

    return in_tree(ctx.batch_sums.tree, ctx.batch, chain, join)


def vectors_of(ctx: KernelContext) -> tuple[tuple[int, ...], ...]:
    """Units, lanes, and vectors of 32 numbers, as lengths of tuples."""
    units = ctx.net[0].fan_out
    return lanes_of(units), lanes_of(ctx.longest), lanes_of(32 // ctx.longest)


def further_lanes(ctx: KernelContext, layout: Layout) -> tuple[tuple[int, ...], ...]:
    """The biases and the weights of the second layer that are summed, too; as lengths of tuples."""
    biases = layout.units if with_biases(ctx) else 0
    return lanes_of(biases), lanes_of(ctx.net[1].fan_in if with_second_layer(ctx) else 0)


def narrow_tiled_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """W ← update(W, g_W) with g_W in registers; what else `narrow_sums` sums goes to m.g."""
    place, words, batch, update = layout[0], ctx.words, ctx.batch, ctx.update
    by_unit, w_at, b_at = place.by_output, place.w, layout.table_biases
    tall, lanes, wide = vectors_of(ctx)
    biases, second = further_lanes(ctx, layout)
    whole = lanes_of(32 * len(tall))
    any_biases, above, above_w = len(biases) > 0, len(second) > 0, layout[1].w if second else 0
    total = narrow_sums(ctx, layout)

    @inlined
    def read(array, at):
        return in_line(load_tile(array, at, by_unit, lanes, tall, wide), whole)

    @inlined
    def write(array, at, vector):
        store_rows(vector, array, at, by_unit, tall)

    get_state, put_state = state_access(ctx, layout.parameters, read, write)

    @inlined
    def kernel(m, x, first, rate, t):
        for word in range(words):
            at = w_at + 32 * word
            weights, by_b, by_w = total(0, 1, batch, (m, x, first * words + word))
            g = in_line(weights, whole)
            w, state = update(read(m.w, at), get_state(m, at), g, fill(rate, whole), t)
            write(m.w, at, w)
            put_state(m, at, state)
            # whole vectors, as the general `update` reads them
            if any_biases:
                store(m.bias_gradients, b_at, in_line(by_b, lanes))
            if above:
                store(m.g, above_w, in_line(by_w, lanes))

    return kernel


def narrow_form(ctx: KernelContext, k: int) -> dict[int, Form]:
    return {0: Form.EXAMPLES_CONTIGUOUS | Form.INPUTS_CONTIGUOUS}


def tiled_form(ctx: KernelContext, k: int) -> dict[int, Form]:
    forms = dict.fromkeys(summed_biases(ctx, k), Form.TABLE)
    if with_second_layer(ctx) and inputs_contiguous(ctx, 1):
        forms[1] = forms.get(1, Form(0)) | Form.INPUTS_CONTIGUOUS
    return forms


def summed_weights(ctx: KernelContext, k: int) -> tuple[int, ...]:
    return (0, 1) if with_second_layer(ctx) else (0,)


def summed_biases(ctx: KernelContext, k: int) -> list[int]:
    return table_layers(ctx) if with_biases(ctx) else []


FEW = "a first layer of at most four units, no accumulator in float64 or exact"

KERNELS = (
    Kernel(
        name="narrow_present_forward",
        carries={Equation.FORWARD: own},
        condition=FEW + "; the sums over units are plain chains",
        applies=lambda ctx, k: narrow(ctx, k) and plain(ctx),
        reads=("w",),
        writes=("z", "h"),
        build=narrow_present_forward,
        work=input_forward_work,
        forms=narrow_form,
        phase=Phase.FORWARD,
        examples=({"model": "linear"}, {"hidden": "4,3", "batch": 40}),
    ),
    Kernel(
        name="narrow_forward",
        carries={Equation.FORWARD: own},
        condition=FEW,
        applies=narrow,
        reads=("w", "columns"),
        writes=("z", "h"),
        build=narrow_forward,
        work=input_forward_work,
        forms=narrow_form,
        phase=Phase.FORWARD,
        examples=(
            {"hidden": "3,6", "unit_tree": "lanes:3"},
            {"model": "linear", "precision": "bits:8"},
        ),
    ),
    Kernel(
        name="narrow_tiled_update",
        carries={
            Equation.WEIGHT_GRADIENT: summed_weights,
            Equation.WEIGHT_UPDATE: own,
            Equation.BIAS_GRADIENT: summed_biases,
        },
        condition=FEW + "; the sums over the mini-batch stay in registers.  The table's biases, at"
        " most a vector of them, and the weights of a second layer of one unit go along",
        applies=lambda ctx, k: narrow(ctx, k) and tiled(ctx),
        reads=("d", "h", "w", "a"),
        writes=("g", "w", "a"),
        build=narrow_tiled_update,
        work=features_update_work,
        forms=tiled_form,
        phase=Phase.INPUT_LAYER,
        examples=({"model": "double"}, {"hidden": "2,1", "tree": "pairwise"}, {"hidden": "4,5"}),
    ),
    Kernel(
        name="narrow_update",
        carries={Equation.WEIGHT_GRADIENT: own, Equation.WEIGHT_UPDATE: own},
        condition=FEW,
        applies=narrow,
        reads=("d", "w", "a"),
        writes=("g", "w", "a"),
        build=narrow_update,
        work=features_update_work,
        forms=narrow_form,
        phase=Phase.INPUT_LAYER,
        examples=({"hidden": "3", "tree": "random"}, {"hidden": "3", "accumulator": "kahan"}),
    ),
)
