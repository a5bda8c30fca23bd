"""Forward pass of a large layer: equal examples have their sums and activations once.

Of 32 examples of the synthetic worlds some 20 are different.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nanorepro.backends.numba.activation import activation_forward
from nanorepro.backends.numba.conditions import by_distinct_examples
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Equation, Form, Kernel, Phase, Work, own
from nanorepro.backends.numba.layout import LayerLayout, Layout
from nanorepro.backends.numba.llvm.memory import load, prefetch, prefetch_early, store
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.llvm.tiles import fill_tile, load_tile, outer_at, places, store_at
from nanorepro.backends.numba.sums.by_plan import ONE, lanes_of
from nanorepro.backends.numba.sums.products import NEXT
from nanorepro.backends.numba.work import activation_work, product_work

COLUMNS = 4  # vectors of units to a tile of sums
TALL, SHORT = 6, 3  # examples to a tile, and to the last one where that is enough


def find_distinct(ctx: KernelContext) -> Callable:
    """A function (m): how many examples differ; their numbers go to active_indices.

    The last is repeated, so that there are whole tiles.
    """
    batch = ctx.batch

    @inlined
    def find(m):
        count = 0
        for i in range(batch):
            m.active_indices[count] = i
            count += m.duplicate_of[i] == i
        for k in range(TALL):
            m.active_indices[count + k] = m.active_indices[count - 1]
        return count

    return find


def sums_of_rows(ctx: KernelContext, place: LayerLayout, under: LayerLayout, rows: int) -> Callable:
    """A function (m, r, c, line): z[i, u] = Σ_j h_below[i, j]·W[j, u] for a tile.

    Of the examples i = active_indices[r], ... and COLUMNS vectors of units from c on.  The next
    vectors of the weights, and cache line `line` of the next tile's, are fetched meanwhile.
    """
    step, fan_in = ctx.longest, place.layer.fan_in
    lanes, tall, wide = lanes_of(step), lanes_of(rows), lanes_of(COLUMNS)
    h_at, below, by_unit, w_at = under.z, under.by_example, under.by_unit, place.w
    by_input, z_at, pitch, zero = place.by_input, place.z, place.by_example, ctx.ops.const(0.0)

    @inlined
    def sums(m, r, c, line):
        acc = fill_tile(zero, lanes, tall, wide)
        h = places(m.active_indices, r, below, h_at, tall)
        later = w_at + c + step * (COLUMNS + line)
        for j in range(fan_in):
            prefetch_early(m.w, later + j * by_input)
            for v in range(COLUMNS):
                prefetch(m.w, w_at + (j + NEXT) * by_input + c + v * step)
            right = load_tile(m.w, w_at + j * by_input + c, 0, lanes, ONE, wide)
            acc = outer_at(acc, m.h, h, j * by_unit, right)
        store_at(acc, m.z, places(m.active_indices, r, pitch, z_at + c, tall), wide)

    return sums


def distinct_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i, u] = Σ_j h_below[i, j]·W[j, u], then + b and the activation, and copies of these."""
    place, under, batch, longest = layout[k], layout[k - 1], ctx.batch, ctx.longest
    z_at, pitch, width, lanes = place.z, place.by_example, place.width, lanes_of(longest)
    find, panel = find_distinct(ctx), COLUMNS * longest
    tall, short = (sums_of_rows(ctx, place, under, rows) for rows in (TALL, SHORT))
    activate = activation_forward(ctx, layout, place, 1)

    @inlined
    def kernel(m, x, first, rate, t):
        count = find(m)
        # whole tiles, and one more unless what is left fills a short one
        full = (count + TALL - SHORT - 1) // TALL * TALL
        for c in range(0, width, panel):
            for r in range(0, full, TALL):
                tall(m, r, c, r // TALL % COLUMNS)
            if full < count:
                short(m, full, c, full // TALL % COLUMNS)
        for r in range(count):
            activate(m, m.active_indices[r], 0, t)
        for i in range(batch):
            if m.duplicate_of[i] != i:
                source, target = z_at + np.int64(m.duplicate_of[i]) * pitch, z_at + i * pitch
                for c in range(0, width, longest):
                    store(m.z, target + c, load(m.z, source + c, lanes))
                    store(m.h, target + c, load(m.h, source + c, lanes))

    return kernel


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """z = h·W + b and A(z) of the examples that differ; those of the others are copied."""
    full = product_work(ctx, layout[k]) + activation_work(ctx, layout[k])
    return replace(full, operations=full.operations * counts.examples / ctx.batch)


KERNELS = (
    Kernel(
        name="distinct_forward",
        carries={Equation.FORWARD: own},
        condition="a layer above the first of more than 4096 weights, whose units are whole groups"
        " of four vectors, padding included; the sums over units are plain chains",
        applies=by_distinct_examples,
        reads=("w", "h", "duplicate_of"),
        writes=("z", "h", "active_indices"),
        build=distinct_forward,
        work=forward_work,
        forms=lambda ctx, k: {k: Form.UNITS_CONTIGUOUS},
        phase=Phase.FORWARD,
        room=lambda ctx, layout, k: {"active_indices": ctx.batch + TALL},
        examples=(
            {"hidden": "70,128", "act": "identity"},
            {"hidden": "64,100", "act": "swish", "batch": 7},
            {"hidden": "40,192", "act": "smelu", "optimizer": "sgd", "batch": 40},
        ),
    ),
)
