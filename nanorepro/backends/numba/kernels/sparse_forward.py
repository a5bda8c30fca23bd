"""Forward pass of a large layer behind a ReLU: sums over the inputs that are not 0.

When zeros may be left out: `active_terms`.  Equal examples have their sums once.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.activation import activation_forward
from nanorepro.backends.numba.active_terms import (
    ALL,
    CONDITION,
    EXAMPLES,
    bounded_flag,
    columns_of,
    joining,
    often_zero,
)
from nanorepro.backends.numba.conditions import round_up
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import (
    Counts,
    Equation,
    Form,
    Kernel,
    Phase,
    Work,
    own,
    preparation,
)
from nanorepro.backends.numba.layout import LayerLayout, Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import any_nonzero, ballot, inlined, trailing_zeros
from nanorepro.backends.numba.llvm.tiles import fill_tile, in_line, load_tile, outer, store_tile
from nanorepro.backends.numba.packed_features import features_of_32
from nanorepro.backends.numba.sums.by_plan import ONE, THIRTY_TWO, lanes_of
from nanorepro.backends.numba.work import activation_work, product_work


def find_duplicates(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """duplicate_of: of every example the first of its block of 32 that has the same features."""
    batch, words, features = ctx.batch, ctx.words, features_of_32(ctx)

    @inlined
    def kernel(m, x, first, rate, t):
        for begin in range(0, batch, 32):
            end = min(begin + 32, batch)
            for i in range(begin, end):
                m.duplicate_of[i] = np.uint32(0)  # a bit for every example that differs
            for word in range(words):
                v = features(m, x, first, begin // 32, word)
                for i in range(begin, end):
                    m.duplicate_of[i] |= ballot(v ^ x[(first + i) * words + word])
            for i in range(begin, end):
                m.duplicate_of[i] = np.uint32(begin) + trailing_zeros(m.duplicate_of[i] ^ ALL)

    return kernel


def find_active_inputs(ctx: KernelContext, place: LayerLayout, under: LayerLayout) -> Callable:
    """A function (m): bit k of active_mask[mask + 32·blocks·w + i] says that h[i, 32·w + k] ≠ 0."""
    batch, fan_in, pitch, h_at = ctx.batch, place.layer.fan_in, under.by_example, under.z
    padded, mask = round_up(batch, 32), place.mask
    last = ALL >> np.uint32(-fan_in % 32)  # what follows the last input is padding

    @inlined
    def find(m):
        for j in range(0, fan_in, 32):
            inputs = last if j + 32 > fan_in else ALL
            for i in range(batch):
                h = load(m.h, h_at + i * pitch + j, THIRTY_TWO)
                m.active_mask[mask + j // 32 * padded + i] = ballot(h) & inputs

    return find


def mark_all_inputs(ctx: KernelContext, place: LayerLayout) -> Callable:
    """A function (m): the mask of `find_active_inputs` with all bits set."""
    batch, fan_in, mask, padded = ctx.batch, place.layer.fan_in, place.mask, round_up(ctx.batch, 32)

    @inlined
    def mark(m):
        for j in range(0, fan_in, 32):
            for i in range(batch):
                bits = ALL >> np.uint32(max(j + 32 - fan_in, 0))
                m.active_mask[mask + j // 32 * padded + i] = bits

    return mark


def active_sums(ctx: KernelContext, place: LayerLayout, under: LayerLayout) -> Callable:
    """A function (m): z[i, u] = Σ_j h_below[i, j]·W[j, u] over the active inputs j.

    Only of examples that are no duplicates.  Returns whether all weights are bounded by 2^52.
    """
    batch, fan_in, width, longest = ctx.batch, place.layer.fan_in, place.width, ctx.longest
    lanes, zero, columns = lanes_of(longest), ctx.ops.const(0.0), columns_of(ctx, place)
    wide, panel, in_all = lanes_of(columns), columns * longest, lanes_of(columns * longest)
    h_at, below, w_at, by_input = under.z, under.by_example, place.w, place.by_input
    z_at, pitch, padded, mask = place.z, place.by_example, round_up(batch, 32), place.mask
    join = joining(ctx, columns, 1, by_input)

    @inlined
    def sums(m):
        # 32 rows of a panel of weights at a time, which stay in L1
        bounded = True
        for c in range(0, width, panel):
            check = fill_tile(zero, lanes, ONE, wide)
            for j in range(0, fan_in, 32):
                at = w_at + j * by_input + c
                for k in range(min(32, fan_in - j)):  # which fetches the panel, too
                    row = load_tile(m.w, at + k * by_input, 0, lanes, ONE, wide)
                    check = outer(check, m.constants, 1, 0, row, ONE)  # overflows unless bounded
                for i in range(batch):
                    if m.duplicate_of[i] == i:
                        to = z_at + i * pitch + c
                        acc = fill_tile(zero, lanes, ONE, wide)
                        if j > 0:
                            acc = load_tile(m.z, to, 0, lanes, ONE, wide)
                        bits = m.active_mask[mask + j // 32 * padded + i]
                        acc = join(acc, bits, m.h, h_at + i * below + j, m.w, at)
                        store_tile(acc, m.z, to, 0, ONE, wide)
            bounded &= not any_nonzero(in_line(check, in_all) * zero)
        return bounded

    return sums


def sparse_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i, u] = Σ_j h_below[i, j]·W[j, u] over the inputs that are not 0, + b and the activation.

    Equal examples have their sums once; all inputs join where a weight is not bounded.
    """
    place, under, batch, longest = layout[k], layout[k - 1], ctx.batch, ctx.longest
    z_at, pitch, width, lanes = place.z, place.by_example, place.width, lanes_of(longest)
    find, mark_all = find_active_inputs(ctx, place, under), mark_all_inputs(ctx, place)
    sums, flag = active_sums(ctx, place, under), bounded_flag(ctx, place)
    activate = activation_forward(ctx, layout, place, batch)

    @inlined
    def kernel(m, x, first, rate, t):
        find(m)
        bounded = sums(m)
        m.active_mask[flag] = bounded
        if not bounded:
            mark_all(m)
            sums(m)
        for i in range(batch):
            if m.duplicate_of[i] != i:
                for c in range(0, width, longest):
                    same = load(m.z, z_at + np.int64(m.duplicate_of[i]) * pitch + c, lanes)
                    store(m.z, z_at + i * pitch + c, same)
        activate(m, 0, 0, t)

    return kernel


def mask_words(ctx: KernelContext, k: int) -> int:
    """A bit for each input of each example, in words, and `bounded_flag`."""
    return 1 + round_up(ctx.net[k].fan_in, 32) // 32 * round_up(ctx.batch, 32)


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    layer, once = layout[k].layer, product_work(ctx, layout[k])
    sums = Work(operations=counts.distinct * layer.row, bytes=once.bytes, resident=once.bytes)
    return sums + activation_work(ctx, layout[k])


FIND_DUPLICATES = preparation(
    name="find_duplicates",
    condition="a kernel asks which examples are equal",
    reads=(),
    writes=("duplicate_of",),
    build=find_duplicates,
    work=lambda ctx, layout, k, counts: Work(operations=ctx.batch**2, bytes=8 * ctx.batch),
    phase=Phase.FORWARD,
)

KERNELS = (
    Kernel(
        name="sparse_forward",
        carries={Equation.FORWARD: own},
        condition=CONDITION,
        applies=often_zero,
        reads=("w", "h", "duplicate_of", "constants"),
        writes=("z", "h", "active_mask"),
        build=sparse_forward,
        work=forward_work,
        forms=lambda ctx, k: {k: Form.UNITS_CONTIGUOUS},
        phase=Phase.FORWARD,
        mask=mask_words,
        examples=EXAMPLES,
    ),
)
