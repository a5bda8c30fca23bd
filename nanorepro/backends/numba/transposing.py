"""Numbers of units by examples become numbers of examples by units."""

from collections.abc import Callable

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import LayerLayout, Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.llvm.tiles import transpose
from nanorepro.backends.numba.sums.by_plan import lanes_of


def transposing(rows: int, columns: int, longest: int) -> Callable:
    """A function (source, at, pitch, target, to, to_pitch): target[c, r] ← source[r, c]."""
    squares, lanes = rows % longest == columns % longest == 0, lanes_of(longest)

    @inlined
    def transpose_all(source, at, pitch, target, to, to_pitch):
        if squares:
            for r in range(0, rows, longest):
                for c in range(0, columns, longest):
                    begin, end = at + r * pitch + c, to + c * to_pitch + r
                    transpose(source, begin, pitch, target, end, to_pitch, lanes)
        else:
            for r in range(rows):
                for c in range(columns):
                    target[to + c * to_pitch + r] = source[at + r * pitch + c]

    return transpose_all


def transposing_deltas(ctx: KernelContext, layout: Layout, under: LayerLayout, rows: int):
    """A function (m, at, room, j, t): δ = A'(z)·d of the `rows` units from j on, in their places.

    The d of a unit's examples are contiguous in m.scratch from `at` on; from `room` on is room.
    """
    step = ctx.longest if rows % ctx.longest == 0 else rows & -rows
    transpose_block, examples = transposing(rows, ctx.batch, ctx.longest), layout.examples
    lanes, z_at, below, batch = lanes_of(step), under.z, under.by_example, ctx.batch
    backward, active = ctx.backward, under.layer.active

    @inlined
    def transpose_deltas(m, at, room, j, t):
        transpose_block(m.scratch, at, examples, m.scratch, room, rows)
        for i in range(batch):
            for c in range(0, rows, step):
                to = z_at + i * below + j + c
                d = load(m.scratch, room + i * rows + c, lanes)
                if active:
                    d = backward(d, load(m.z, to, lanes), t)
                store(m.d, to, d)

    return transpose_deltas
