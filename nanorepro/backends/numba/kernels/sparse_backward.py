"""Backward pass and update of a large layer behind a ReLU: sums over what is not 0.

When zeros may be left out: `active_terms`.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.active_terms import (
    ALL,
    CONDITION,
    EXAMPLES,
    bounded_flag,
    columns_of,
    joining,
    often_zero,
)
from nanorepro.backends.numba.conditions import chained, round_up
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
from nanorepro.backends.numba.llvm.memory import load, prefetch_early, store
from nanorepro.backends.numba.llvm.simd import any_nonzero, ballot, fill, fma, inlined
from nanorepro.backends.numba.llvm.tiles import (
    fill_tile,
    load_tile,
    outer_at,
    places,
    store_at,
    store_tile,
)
from nanorepro.backends.numba.sequence import in_blocks
from nanorepro.backends.numba.sums.by_plan import ONE, THIRTY_TWO, lanes_of
from nanorepro.backends.numba.transposing import transposing, transposing_deltas
from nanorepro.backends.numba.update import apply_gradients
from nanorepro.backends.numba.work import product_work, update_work

ROWS, TALL = 32, 8  # of weights that are updated together, and sums of δ at a time


def active_delta(ctx: KernelContext, layout: Layout, place: LayerLayout) -> Callable:
    """A function (m, p, begin, end): Σ_u W[j, u]·δ[u] of `TALL` inputs j goes to m.scratch.

    Of the inputs active_indices[p], ..., over the units active_indices[begin], ..., [end - 1].
    """
    longest, examples, zero = ctx.longest, layout.examples, ctx.ops.const(0.0)
    columns = 2 if examples % (2 * longest) == 0 else 1
    lanes, wide, tall = lanes_of(longest), lanes_of(columns), lanes_of(TALL)
    w_at, by_input, step = place.w, place.by_input, columns * longest

    @inlined
    def delta(m, p, begin, end):
        at = places(m.active_indices, p, by_input, w_at, tall)
        for c in range(0, examples, step):
            acc = fill_tile(zero, lanes, tall, wide)
            for q in range(begin, end):
                u = m.active_indices[q]
                row = load_tile(m.transposed, u * examples + c, 0, lanes, ONE, wide)
                acc = outer_at(acc, m.w, at, u, row)
            store_at(acc, m.scratch, places(m.active_indices, p, examples, c, tall), wide)

    return delta


def find_active_units(ctx: KernelContext, layout: Layout, place: LayerLayout, begin: int):
    """A function (m): the units whose δ are not all 0 go to active_indices[begin], ..., [end - 1].

    Returns end, and whether all δ and weights are bounded by 2^52; if not, all units are active.
    """
    fan_out, examples, longest = place.layer.fan_out, layout.examples, ctx.longest
    lanes, zero = lanes_of(longest), ctx.ops.const(0.0)
    flag = bounded_flag(ctx, place)

    @inlined
    def units(m):
        check, huge, end = fill(zero, lanes), fill(m.constants[1], lanes), begin
        for u in range(fan_out):
            found = False
            for c in range(0, examples, longest):
                d = load(m.transposed, u * examples + c, lanes)
                check, found = fma(d, huge, check), found | any_nonzero(d)
            m.active_indices[end] = u
            end += found
        bounded = m.active_mask[flag] != 0 and not any_nonzero(check * zero)
        if not bounded:
            end = begin + fan_out
            for u in range(fan_out):
                m.active_indices[begin + u] = u
        return end, bounded

    return units


def is_active(ctx: KernelContext) -> Callable:
    """A function (m, j): whether input j is not 0 for some example."""
    blocks = -(-ctx.batch // 32)

    @inlined
    def active(m, j):
        found = np.uint32(0)
        for b in range(blocks):
            found |= m.examples_of_input[j * blocks + b]
        return found != 0

    return active


def collect_inputs(ctx: KernelContext, layout: Layout, place: LayerLayout) -> Callable:
    """A function (m, bounded) that finds the active inputs, and says how many there are.

    Bit i of examples_of_input[j·blocks + b]: h of input j is not 0 in example 32·b + i, or not
    all is bounded.  The inputs go to active_indices; the δ of all of them in m.scratch become 0.
    """
    batch, fan_in, blocks = ctx.batch, place.layer.fan_in, -(-ctx.batch // 32)
    mask, padded, examples, longest = place.mask, 32 * blocks, layout.examples, ctx.longest
    lanes, zero, active = lanes_of(longest), ctx.ops.const(0.0), is_active(ctx)

    @inlined
    def inputs(m, bounded):
        for j in range(0, fan_in, 32):
            for b in range(blocks):
                v = load(m.active_mask, mask + j // 32 * padded + 32 * b, THIRTY_TWO)
                for k in range(min(32, fan_in - j)):
                    bits = ballot(v & (np.uint32(1) << np.uint32(k)))
                    if not bounded:
                        bits = ALL >> np.uint32(max(32 * (b + 1) - batch, 0))
                    m.examples_of_input[(j + k) * blocks + b] = bits
        n = 0
        for j in range(fan_in):
            m.active_indices[n] = j
            n += active(m, j)
            for c in range(0, examples, longest):
                store(m.scratch, j * examples + c, fill(zero, lanes))
        for p in range(n, n + TALL):  # whole tiles of something
            m.active_indices[p] = m.active_indices[max(n - 1, 0)]
        return n

    return inputs


def update_row(ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout):
    """A function (m, j, c, rate, t): some columns u, from c on, of W[j, u] are updated by

    g_W[j, u] = Σ_i h_below[i, j]·δ[i, u] over the examples i in which input j is not 0.
    """
    longest, blocks, columns = ctx.longest, -(-ctx.batch // 32), columns_of(ctx, place)
    lanes, wide, zero = lanes_of(longest), lanes_of(columns), ctx.ops.const(0.0)
    h_at, below, d_at, pitch = under.z, under.by_example, place.z, place.by_example
    w_at, by_input, g_at = place.w, place.by_input, layout.parameters
    join = joining(ctx, columns, below, pitch)
    apply = apply_gradients(ctx, layout, columns * longest)

    @inlined
    def update(m, j, c, rate, t):
        acc = fill_tile(zero, lanes, ONE, wide)
        for b in range(blocks):
            h, d = h_at + 32 * b * below + j, d_at + 32 * b * pitch + c
            acc = join(acc, m.examples_of_input[j * blocks + b], m.h, h, m.d, d)
        store_tile(acc, m.g, g_at, 0, ONE, wide)
        apply(m, g_at, w_at + j * by_input + c, rate, t)

    return update


def update_active_rows(ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout):
    """A function (m, n, begin, end, rate, t): δ below and the update of the n active inputs' rows.

    32 rows at a time, while those after them are fetched.
    """
    w_at, by_input, width, longest = place.w, place.by_input, place.width, ctx.longest
    panel, delta = columns_of(ctx, place) * longest, active_delta(ctx, layout, place)
    update = update_row(ctx, layout, place, under)

    @inlined
    def rows(m, n, begin, end, rate, t):
        for first_row in range(0, n, ROWS):
            last_row = min(first_row + ROWS, n)
            for p in range(first_row, last_row, TALL):
                delta(m, p, begin, end)
            for c in range(0, width, panel):
                for p in range(first_row, last_row):
                    update(m, m.active_indices[p], c, rate, t)
            for p in range(last_row, min(last_row + ROWS, n)):
                at = w_at + m.active_indices[p] * by_input
                for c in range(0, width, longest):
                    prefetch_early(m.w, at + c)
                    prefetch_early(m.a, at + c)

    return rows


def update_other_rows(ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout):
    """A function (m, rate, t): the update of the rows of inputs that are 0 for all examples."""
    fan_in, width, panel = place.layer.fan_in, place.width, columns_of(ctx, place) * ctx.longest
    active, update = is_active(ctx), update_row(ctx, layout, place, under)

    @inlined
    def others(m, rate, t):
        for j in range(fan_in):
            if not active(m, j):
                for c in range(0, width, panel):
                    update(m, j, c, rate, t)

    return others


def sparse_backward_and_update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j]), and the update of W by

    g_W[j, u] = Σ_i h_below[i, j]·δ[i, u], over the inputs, units and examples that are not 0.

    An input that is 0 for all examples has δ of 0, and AdaGrad leaves its weights as they are.
    """
    place, under, examples, fan_in = layout[k], layout[k - 1], layout.examples, ctx.net[k].fan_in
    d_at, pitch, skip = place.z, place.by_example, ctx.skip_unchanged
    transpose_deltas = transposing(ctx.batch, place.layer.fan_out, ctx.longest)
    begin, room = round_up(fan_in, 32) + TALL, fan_in * examples
    find_units = find_active_units(ctx, layout, place, begin)
    find_inputs = collect_inputs(ctx, layout, place)
    update_active = update_active_rows(ctx, layout, place, under)
    update_others = update_other_rows(ctx, layout, place, under)

    def block_of(rows: int) -> Callable:
        transpose = transposing_deltas(ctx, layout, under, rows)

        @inlined
        def block(m, j, rate, t):
            transpose(m, j * examples, room, j, t)

        return block

    transpose_back = in_blocks(fan_in, ctx.longest, block_of)

    @inlined
    def kernel(m, x, first, rate, t):
        transpose_deltas(m.d, d_at, pitch, m.transposed, 0, examples)
        end, bounded = find_units(m)
        n = find_inputs(m, bounded)
        update_active(m, n, begin, end, rate, t)
        if not skip:
            update_others(m, rate, t)
        transpose_back(m, rate, t)

    return kernel


def backward_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    """Sums below of all inputs, and a block to transpose them; TALL indices behind the inputs."""
    layer, examples = layout[k].layer, layout.examples
    return {
        "transposed": layer.fan_out * examples,
        "scratch": (layer.fan_in + TALL + ctx.longest) * examples,
        "g": columns_of(ctx, layout[k]) * ctx.longest,
        "examples_of_input": -(-ctx.batch // 32) * layer.fan_in,
        "active_indices": round_up(layer.fan_in, 32) + TALL + layer.fan_out + 1,
    }


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    layer, s, moved = layout[k].layer, ctx.batch, product_work(ctx, layout[k]).bytes
    below = Work(operations=s * counts.inputs * counts.units + s * layer.fan_in)
    weights = layer.fan_in * layer.row
    sums = Work(operations=counts.terms * layer.row, bytes=moved, resident=8 * weights)
    return below + sums + update_work(ctx, counts.inputs * layer.row)


KERNELS = (
    Kernel(
        name="sparse_backward_and_update",
        carries={
            Equation.BACKWARD: own,
            Equation.WEIGHT_GRADIENT: own,
            Equation.WEIGHT_UPDATE: own,
        },
        condition=CONDITION + ", and those over the mini-batch",
        applies=lambda ctx, k: often_zero(ctx, k) and chained(ctx),
        reads=("w", "a", "z", "h", "d", "active_mask", "constants"),
        writes=("d", "w", "a", "g", "transposed", "scratch", "examples_of_input", "active_indices"),
        build=sparse_backward_and_update,
        work=backward_work,
        forms=lambda ctx, k: {k: Form.UNITS_CONTIGUOUS},
        phase=Phase.BACKWARD,
        room=backward_room,
        works_on=own_block_and_below,
        examples=EXAMPLES,
    ),
)
