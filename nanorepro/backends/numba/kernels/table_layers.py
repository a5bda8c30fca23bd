"""Kernels of all layers of few units together: the table of their δ, and the sums over examples.

A row of the table has an example's δ of all these layers, contiguous; another table has h.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from nanorepro.backends.numba.conditions import (
    any_rows,
    few_units,
    in_shared_gradients,
    round_up,
    table_layers,
)
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import (
    Counts,
    Equation,
    Form,
    Kernel,
    Phase,
    Places,
    Work,
    preparation,
)
from nanorepro.backends.numba.layout import LayerLayout, Layout, Memory
from nanorepro.backends.numba.llvm.memory import load
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.llvm.tiles import (
    add_tile,
    fill_tile,
    load_tile,
    outer_shared,
    repeat,
    store_tile,
)
from nanorepro.backends.numba.repeated import PlacedKernel, in_loops, runs_of
from nanorepro.backends.numba.sums.by_plan import ONE, in_tree, lanes_of
from nanorepro.backends.numba.sums.products import Matrix, products
from nanorepro.backends.numba.transposing import transposing
from nanorepro.numerics.plans import plan_slots

HELD = 24  # vectors of sums, and of partial sums of their trees, at a time
HELD_IN_LOOP = 8  # of sums that are a loop: enough that none waits for its next term


def into_rows(ctx: KernelContext, layout: Layout, units: int) -> Callable:
    """A function (source, rows): of the first units, what lies (units, examples) into rows."""
    examples, width = layout.examples, layout.table_width
    transpose = transposing(round_up(units, ctx.longest), examples, ctx.longest)

    @inlined
    def fill_rows(source, rows):
        transpose(source, 0, examples, rows, 0, width)

    return fill_rows


def transpose_outputs(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """output_rows: h of the layers of few units that are under others of them."""
    fill_rows = into_rows(ctx, layout, output_units(ctx, layout))

    @inlined
    def kernel(m, x, first, rate, t):
        fill_rows(m.h, m.output_rows)

    return kernel


def transpose_deltas(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """delta_rows: δ of the layers of few units."""
    fill_rows = into_rows(ctx, layout, layout.units)

    @inlined
    def kernel(m, x, first, rate, t):
        fill_rows(m.d, m.delta_rows)

    return kernel


def output_units(ctx: KernelContext, layout: Layout) -> int:
    """Units of the table up to the last layer that is under a layer of shared gradients."""
    shared = [place.column for k, place in enumerate(layout.layers) if in_shared_gradients(ctx, k)]
    return max(shared, default=0)


@dataclass(frozen=True)
class SumGroup:
    """Vectors of sums over the mini-batch: zeros, with an example's terms, added, put into m.g.

    `code` and `places` are those of `repeated.PlacedKernel`.
    """

    code: Hashable
    places: Places
    vectors: int
    start: Callable
    join: Callable
    add: Callable
    put: Callable


def weight_sums(
    ctx: KernelContext, layout: Layout, place: LayerLayout, under: LayerLayout, most: int
) -> list[SumGroup]:
    """The gradient by W[j, u], Σ_i h[i, j]·δ[i, u], the units of several inputs in one vector."""
    row, pitch, n = place.row, layout.table_width, place.layer.fan_in * place.row
    size = min(ctx.longest, 1 << (n - 1).bit_length())
    lanes, per, units = lanes_of(size), lanes_of(size // row), lanes_of(row)
    zero, d_at = ctx.ops.const(0.0), place.column

    def group(begin: int, count: int) -> SumGroup:
        vectors, h_at = lanes_of(count), under.column + begin * len(per)
        g_at = place.w + begin * size

        @inlined
        def start():
            return fill_tile(zero, lanes, ONE, vectors)

        @inlined
        def join(m, sums, i):
            d = repeat(load(m.delta_rows, d_at + i * pitch, units), per)
            return outer_shared(sums, m.output_rows, h_at + i * pitch, d, per)

        @inlined
        def put(m, sums):
            store_tile(sums, m.g, g_at, 0, ONE, vectors)

        places = {"output_rows": (h_at,), "delta_rows": (d_at,), "g": (g_at,)}
        return SumGroup((row, size, count), places, count, start, join, add_tile, put)

    total = -(-n // size)
    return [group(k, min(most, total - k)) for k in range(0, total, most)]


def bias_sums(ctx: KernelContext, layout: Layout, begin: int) -> SumGroup:
    """The gradient by some biases, Σ_i δ[i, u]."""
    lanes, pitch = lanes_of(ctx.longest), layout.table_width
    zero, at = ctx.ops.const(0.0), layout.table_biases

    @inlined
    def start():
        return fill_tile(zero, lanes, ONE, ONE)

    @inlined
    def join(m, sums, i):
        return add_tile(sums, load_tile(m.delta_rows, begin + i * pitch, 0, lanes, ONE, ONE))

    @inlined
    def put(m, sums):
        store_tile(sums, m.bias_gradients, at + begin, 0, ONE, ONE)

    places = {"delta_rows": (begin,), "bias_gradients": (begin,)}
    return SumGroup("biases", places, 1, start, join, add_tile, put)


def both(a: SumGroup, b: SumGroup) -> SumGroup:
    """Two parts in one."""
    a_start, a_join, a_add, a_put = a.start, a.join, a.add, a.put
    b_start, b_join, b_add, b_put = b.start, b.join, b.add, b.put

    @inlined
    def start():
        return (a_start(), b_start())

    @inlined
    def join(m, sums, i):
        return (a_join(m, sums[0], i), b_join(m, sums[1], i))

    @inlined
    def add(x, y):
        return (a_add(x[0], y[0]), b_add(x[1], y[1]))

    @inlined
    def put(m, sums):
        a_put(m, sums[0])
        b_put(m, sums[1])

    names = {*a.places, *b.places}
    places = {name: a.places.get(name, ()) + b.places.get(name, ()) for name in names}
    return SumGroup((a.code, b.code), places, a.vectors + b.vectors, start, join, add, put)


def sum_groups(ctx: KernelContext, layout: Layout) -> list[SumGroup]:
    """The sums of `shared_gradients`, as many together as stay in registers.

    Of sums that repeat themselves layer by layer fewer, as those together become a loop.
    """
    most = max(1, HELD // (1 + plan_slots(ctx.batch_sums.tree, ctx.batch)))
    groups = [bias_sums(ctx, layout, k) for k in range(0, layout.units, ctx.longest)]
    for k, place in enumerate(layout.layers):
        if in_shared_gradients(ctx, k):
            groups += weight_sums(ctx, layout, place, layout[k - 1], most)
    together, at = [], 0
    for repeated, runs in groupby(runs_of(groups), lambda run: run.times > 1):
        n = sum(run.size for run in runs)
        together += joined(groups[at : at + n], min(most, HELD_IN_LOOP) if repeated else most)
        at += n
    return together


def joined(groups: list[SumGroup], most: int) -> list[SumGroup]:
    """The same sums, up to `most` vectors in one group."""
    together: list[SumGroup] = []
    for group in groups:
        if together and together[-1].vectors + group.vectors <= most:
            together[-1] = both(together[-1], group)
        else:
            together.append(group)
    return together


def shared_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i h_below[i, j]·δ[i, u] between layers of few units, g_b[u] = Σ_i δ[i, u].

    Several sums at a time, so that none waits for its next term alone.
    """
    tree, batch = ctx.batch_sums.tree, ctx.batch

    def kernel_of(group: SumGroup) -> Callable:
        start, join, put = group.start, group.join, group.put

        @inlined
        def chain(i0, stride, count, m):
            sums = start()
            for n in range(count):
                sums = join(m, sums, i0 + n * stride)
            return sums

        total = in_tree(tree, batch, chain, group.add)

        @inlined
        def kernel(m, x, first, rate, t):
            put(m, total(0, 1, batch, m))

        return kernel

    groups = sum_groups(ctx, layout)
    parts = [PlacedKernel(group.code, group.places, partial(kernel_of, group)) for group in groups]
    return in_loops(parts, Memory._fields)


def table_bias_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_b[u] = Σ_i 1·δ[i, u] for all layers of few units: none waits for another layer's."""
    width, b_at = round_up(layout.units, ctx.longest), layout.table_biases
    one, d = Matrix(0, 0, 0), Matrix(0, layout.table_width, 0)
    total = products(ctx.batch_sums, ctx.batch, 1, width, one, d, 0, 0)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.constants, m.delta_rows, m.bias_gradients, b_at, 0, t)

    return kernel


def few_bias_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The same where no other gradient needs the table's rows: g_b[u] = Σ_i δ[u, i]·1."""
    b_at, d, one = layout.table_biases, Matrix(0, 1, layout.examples), Matrix(0, 0, 0)
    total = products(ctx.batch_sums, ctx.batch, layout.units, 1, d, one, 0, 1)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.d, m.constants, m.bias_gradients, b_at, 0, t)

    return kernel


def lowest(ctx: KernelContext, k: int) -> bool:
    """Once: for the lowest layer of few units."""
    return few_units(ctx, k) and not any(few_units(ctx, j) for j in range(k))


def all_of_table(ctx: KernelContext, k: int) -> list[int]:
    return table_layers(ctx)


def shared_layers(ctx: KernelContext, k: int) -> list[int]:
    return [j for j in range(len(ctx.net)) if in_shared_gradients(ctx, j)]


def in_table(ctx: KernelContext, k: int) -> dict[int, Form]:
    return dict.fromkeys(table_layers(ctx), Form.TABLE)


def sums_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    layers = [p.layer for j, p in enumerate(layout.layers) if in_shared_gradients(ctx, j)]
    weights, units = sum(n.fan_in * n.row for n in layers), layout.units
    moved = units + output_units(ctx, layout)
    return Work(operations=ctx.batch * (weights + units), bytes=4 * ctx.batch * moved)


def bias_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    n = ctx.batch * layout.units
    return Work(operations=n, bytes=4 * n)


def transposed_work(units: int, ctx: KernelContext) -> Work:
    moved = 2 * 4 * units * ctx.batch
    return Work(bytes=moved, resident=moved)


def rows_room(ctx: KernelContext, layout: Layout) -> int:
    return (layout.examples + 2) * layout.table_width


TRANSPOSE_OUTPUTS = preparation(
    name="transpose_outputs",
    condition="a kernel reads h of layers of few units in rows",
    reads=("h",),
    writes=("output_rows",),
    build=transpose_outputs,
    work=lambda ctx, layout, k, counts: transposed_work(output_units(ctx, layout), ctx),
    phase=Phase.OUTPUT,
    room=lambda ctx, layout, k: {"output_rows": rows_room(ctx, layout)},
)
TRANSPOSE_DELTAS = preparation(
    name="transpose_deltas",
    condition="a kernel reads δ of layers of few units in rows",
    reads=("d",),
    writes=("delta_rows",),
    build=transpose_deltas,
    work=lambda ctx, layout, k, counts: transposed_work(layout.units, ctx),
    phase=Phase.TABLE,
    room=lambda ctx, layout, k: {"delta_rows": rows_room(ctx, layout)},
)

KERNELS = (
    Kernel(
        name="shared_gradients",
        carries={Equation.WEIGHT_GRADIENT: shared_layers, Equation.BIAS_GRADIENT: all_of_table},
        condition="layers of less than a vector of units over such layers; the sums over the"
        " mini-batch stay in registers",
        applies=lambda ctx, k: lowest(ctx, k) and bool(shared_layers(ctx, k)),
        reads=("delta_rows", "output_rows"),
        writes=("g",),
        build=shared_gradients,
        work=sums_work,
        forms=in_table,
        phase=Phase.TABLE,
        examples=({"hidden": "16,8,4,2"}, {"hidden": "7,3", "tree": "pairwise"}),
    ),
    Kernel(
        name="table_bias_gradients",
        carries={Equation.BIAS_GRADIENT: all_of_table},
        condition="layers of less than a vector of units, some of whose δ are in rows",
        applies=lambda ctx, k: lowest(ctx, k) and any_rows(ctx),
        reads=("delta_rows", "constants"),
        writes=("g",),
        build=table_bias_gradients,
        work=bias_work,
        forms=in_table,
        phase=Phase.TABLE,
        examples=({"hidden": "6,3", "accumulator": "kahan"},),
    ),
    Kernel(
        name="few_bias_gradients",
        carries={Equation.BIAS_GRADIENT: all_of_table},
        condition="layers of less than a vector of units",
        applies=lowest,
        reads=("d", "constants"),
        writes=("g",),
        build=few_bias_gradients,
        work=bias_work,
        forms=in_table,
        phase=Phase.TABLE,
        examples=({"hidden": "40,3"}, {"hidden": "3", "tree": "random"}),
    ),
)
