"""A kernel of large layers: the units are contiguous, and weights pass the caches once."""

from collections.abc import Callable

from nanorepro.backends.numba.activation import activation_backward
from nanorepro.backends.numba.conditions import large
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import (
    Counts,
    Equation,
    Form,
    Kernel,
    Phase,
    Work,
    own,
    own_block_and_below,
)
from nanorepro.backends.numba.layout import LayerLayout, Layout
from nanorepro.backends.numba.llvm.memory import prefetch_early
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.sequence import in_blocks
from nanorepro.backends.numba.sums.products import Matrix, products, steps_of
from nanorepro.backends.numba.transposing import transposing, transposing_deltas
from nanorepro.backends.numba.update import apply_gradients
from nanorepro.backends.numba.work import product_work, update_work

ROWS = 16  # rows of the weights that are updated together


def delta_below(
    ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout, rows: int
) -> Callable:
    """A function (m, j, t): δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j]), some inputs j.

    δ is in m.transposed.  The sums lie along the examples, so that W need not be transposed.
    """
    z_at, examples, across = under.z, layout.examples, under.examples_contiguous
    w, d = Matrix(place.w, 1, place.by_input), Matrix(0, examples, 0)
    n, plan = place.layer.fan_out, place.backward_plan
    total = products(ctx.unit_sums, n, rows, examples, w, d, plan, examples)
    multiply = activation_backward(ctx, layout, under, rows)
    transpose_back = transposing_deltas(ctx, layout, under, rows)

    @inlined
    def delta(m, j, t):
        if across:
            total(m, m.unit_plans, m.w, m.transposed, m.d, z_at + j * examples, j, t)
            multiply(m, j, t)
        else:
            total(m, m.unit_plans, m.w, m.transposed, m.scratch, 0, j, t)
            transpose_back(m, 0, rows * examples, j, t)

    return delta


def gradient_block(
    ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout, rows: int
) -> Callable:
    """A function (m, j, rate, t): g_W[j, u] = Σ_i h_below[i, j]·δ[i, u], some inputs j; the update.

    There is room for the gradients of two blocks: where sums stay in registers, those of the block
    before are applied meanwhile, so that divisions run beside products.  The last block is then
    applied at once.
    """
    batch, fan_in, width, vector = ctx.batch, place.layer.fan_in, place.width, ctx.longest
    pitch, w_at, g_at, size = place.by_input, place.w, layout.parameters, min(fan_in, ROWS)
    room, full = size * pitch, fan_in - fan_in % size
    vectors, steps = room // vector, steps_of(ctx.batch_sums, batch, rows, width, vector)
    every = steps // vectors if rows == size else 0
    meanwhile = ctx.batch_sums.tiled(batch) and every > 0
    apply_one = apply_gradients(ctx, layout, vector)

    @inlined
    def apply_some(m, q, before):
        """At the q-th step of the sums: a vector of the gradients of the block before."""
        g_before, w_before, n, rate, t = before
        k = q // every
        if q % every == 0 and k < vectors:
            if k < n:
                apply_one(m, g_before + k * vector, w_before + k * vector, rate, t)
            # weights of the next rows, and their state
            prefetch_early(m.w, w_before + 2 * room + k * vector)
            prefetch_early(m.a, w_before + room + k * vector)

    h, d = Matrix(under.z, under.by_example, under.by_unit), Matrix(place.z, pitch, 0)
    more = apply_some if meanwhile else None
    total = products(ctx.batch_sums, batch, rows, width, h, d, 0, pitch, interleaved=more)
    apply = apply_gradients(ctx, layout, rows * pitch)

    @inlined
    def block(m, j, rate, t):
        to = g_at + j // size % 2 * room
        if meanwhile:
            before = (g_at + room - (to - g_at), w_at + (j - size) * pitch)
            total(m, m.plan, m.h, m.d, m.g, to, j, (*before, vectors * (j > 0), rate, t))
        else:
            total(m, m.plan, m.h, m.d, m.g, to, j, t)
        if not meanwhile or j + size == full:
            apply(m, to, w_at + j * pitch, rate, t)

    return block


def backward_and_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """`delta_below`, then `gradient_block`, for some rows of W at a time."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    fan_in, fan_out, d_at, pitch = place.layer.fan_in, place.layer.fan_out, place.z, place.by_input
    transpose_deltas = transposing(ctx.batch, fan_out, ctx.longest)

    def block_of(rows: int) -> Callable:
        below = delta_below(ctx, layout, place, under, rows)
        update = gradient_block(ctx, layout, place, under, rows)

        @inlined
        def block(m, j, rate, t):
            below(m, j, t)
            update(m, j, rate, t)

        return block

    every_row = in_blocks(fan_in, min(fan_in, ROWS), block_of)

    @inlined
    def kernel(m, x, first, rate, t):
        transpose_deltas(m.d, d_at, pitch, m.transposed, 0, examples)
        every_row(m, rate, t)

    return kernel


def backward_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    place = layout[k]
    return {
        "transposed": place.layer.fan_out * layout.examples,
        "scratch": 2 * min(place.layer.fan_in, ROWS) * layout.examples,
        "g": 2 * ROWS * place.by_input,
    }


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    layer, s = layout[k].layer, ctx.batch
    once, weights = product_work(ctx, layout[k]), layer.fan_in * layer.row
    gradients = Work(operations=s * weights, bytes=once.bytes - 4 * weights, resident=8 * weights)
    below = Work(operations=s * layer.fan_in)
    return once + below + gradients + update_work(ctx, weights)


KERNELS = (
    Kernel(
        name="backward_and_update",
        carries={
            Equation.BACKWARD: own,
            Equation.WEIGHT_GRADIENT: own,
            Equation.WEIGHT_UPDATE: own,
        },
        condition="a layer above the first of more than 4096 weights",
        applies=large,
        reads=("w", "a", "z", "h", "d"),
        writes=("d", "w", "a", "g", "transposed", "scratch"),
        build=backward_and_update,
        work=backward_work,
        forms=lambda ctx, k: {k: Form.UNITS_CONTIGUOUS},
        phase=Phase.BACKWARD,
        room=backward_room,
        works_on=own_block_and_below,
        examples=(
            {"hidden": "70,64", "act": "identity"},
            {"hidden": "40,130", "tree": "random", "optimizer": "sgd"},
        ),
    ),
)
