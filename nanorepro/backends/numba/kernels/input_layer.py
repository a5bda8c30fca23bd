"""Kernels of the first layer, whose inputs are bits, for common shapes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nanorepro.backends.numba.activation import activation_forward
from nanorepro.backends.numba.conditions import any_rows, examples_contiguous, over_bits, row
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Equation, Form, Kernel, Phase, own
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.simd import inlined, mask_of, trailing_zeros
from nanorepro.backends.numba.llvm.tiles import add_present, fill_tile, store_tile
from nanorepro.backends.numba.packed_features import (
    feature_gradient,
    feature_gradients,
    for_present_features,
)
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.backends.numba.sums.products import TILES
from nanorepro.backends.numba.update import apply_gradients
from nanorepro.backends.numba.work import (
    features_update_work,
    features_work,
    input_forward_work,
)


def present_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i] = Σ_j W[j], the features j in turn that any example has, for 32 examples at once.

    No branch depends on a single example.
    """
    place, words, blocks = layout[0], ctx.words, -(-ctx.batch // 32)
    layer, row, sets, units = place.layer, place.row, place.layer.sets, place.layer.row
    n, w_at, z_at, examples = layer.fan_in // sets, place.w, place.z, layout.examples
    lanes, zero, wide = lanes_of(ctx.longest), ctx.ops.const(0.0), lanes_of(32 // ctx.longest)
    by_rows = min(TILES[len(wide)], units)
    full = units - units % by_rows
    activate = activation_forward(ctx, layout, place, layer.fan_out)

    def tile_of(rows: int) -> Callable:
        tall = lanes_of(rows)

        @inlined
        def tile(m, block, part, u):
            acc = fill_tile(zero, lanes, tall, wide)
            low, high = part * n, part * n + n
            for word in range(low >> 5, (high + 31) >> 5):
                v = m.present_features[block * words + word]
                if sets > 1:
                    begin, end = max(low - 32 * word, 0), min(high - 32 * word, 32)
                    v &= np.uint32((1 << end) - (1 << begin))
                while v != 0:
                    j = 32 * word + np.int64(trailing_zeros(v))
                    v &= v - np.uint32(1)
                    having = mask_of(m.columns[j * blocks + block])
                    acc = add_present(acc, m.w, w_at + j * row + u, 1, having, tall, wide)
            to = z_at + (part * units + u) * examples + 32 * block
            store_tile(acc, m.z, to, examples, tall, wide)

        return tile

    whole, rest = tile_of(by_rows), tile_of(units - full) if full < units else None

    @inlined
    def kernel(m, x, first, rate, t):
        for block in range(blocks):
            for part in range(sets):
                for u in range(0, full, by_rows):
                    whole(m, block, part, u)
                if rest is not None:
                    rest(m, block, part, full)
        activate(m, 0, 0, t)

    return kernel


def present_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """W[j] ← update(W[j], Σ_i δ[i] over the examples i with feature j), where any has it.

    A gradient of 0 leaves the other rows as they are.
    """
    place, gradient = layout[0], feature_gradient(ctx, layout)
    w_at, row = place.w, place.row
    apply = apply_gradients(ctx, layout, row)

    @inlined
    def one(m, x, j, rate, t):
        at = w_at + j * row
        gradient(m, j, at, t)
        apply(m, at, at, rate, t)

    return for_present_features(ctx, one)


def input_gradients_of_rows(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The general `input_gradients`, δ being in the table's rows."""
    return feature_gradients(ctx, layout)


def together(ctx: KernelContext, k: int) -> bool:
    return k == 0 and examples_contiguous(ctx, 0)


def skips_rows(ctx: KernelContext, k: int) -> bool:
    return over_bits(ctx, k) and ctx.skip_unchanged and row(ctx, 0) >= ctx.longest


PRESENT_UPDATE = Kernel(
    name="present_update",
    carries={Equation.WEIGHT_GRADIENT: own, Equation.WEIGHT_UPDATE: own},
    condition="a first layer over bits whose units fill a vector; g = 0 changes nothing (AdaGrad)",
    applies=skips_rows,
    reads=("d", "columns", "present_features", "w", "a"),
    writes=("g", "w", "a"),
    build=present_update,
    work=features_update_work,
    phase=Phase.LAST,
    examples=({"hidden": "16,8,4,2"}, {"hidden": "33,4", "accumulator": "kahan"}),
)

KERNELS = (
    Kernel(
        name="present_forward",
        carries={Equation.FORWARD: own},
        condition="a first layer of at most a vector of units; sums over units are plain chains",
        applies=together,
        reads=("w", "columns", "present_features"),
        writes=("z", "h"),
        build=present_forward,
        work=input_forward_work,
        forms=lambda ctx, k: {0: Form.EXAMPLES_CONTIGUOUS},
        phase=Phase.FORWARD,
        examples=({"hidden": "6,3"}, {"hidden": "6", "batch": 40}),
    ),
    replace(
        PRESENT_UPDATE,
        name="present_update_of_rows",
        condition=PRESENT_UPDATE.condition + "; its examples are contiguous in z",
        applies=lambda ctx, k: skips_rows(ctx, k) and together(ctx, k),
        reads=("delta_rows", "columns", "present_features", "w", "a"),
        examples=({"hidden": "16,3", "features": 40},),
    ),
    PRESENT_UPDATE,
    Kernel(
        name="input_gradients_of_rows",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition="a first layer whose examples are contiguous in z; some δ are in rows",
        applies=lambda ctx, k: together(ctx, k) and any_rows(ctx),
        reads=("delta_rows", "columns", "present_features"),
        writes=("g",),
        build=input_gradients_of_rows,
        work=lambda ctx, layout, k, counts: features_work(layout[0], counts),
        phase=Phase.INPUT_LAYER,
        examples=({"hidden": "6,3"},),
    ),
)
