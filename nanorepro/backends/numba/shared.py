"""What kernels share: parts of a layer's equations, transposing, the update, packed features."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Work
from nanorepro.backends.numba.layout import LayerLayout, Layout, flat_lanes
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import ballot, fill, inlined, reduce_or, trailing_zeros
from nanorepro.backends.numba.llvm.tiles import transpose
from nanorepro.backends.numba.sums.by_plan import lanes_of, terms

ONE, THIRTY_TWO = lanes_of(1), lanes_of(32)
ALL = np.uint32(0xFFFFFFFF)
FEW = 64  # terms of sums over units that cost less than going to memory for the results


def sequence(kernels):
    """One kernel that carries out the given ones in order.

    Six at a time: each further level costs another pass of the compiler over all below it.
    """
    if len(kernels) == 1:
        return kernels[0]
    if len(kernels) > 6:
        size = -(-len(kernels) // 6)
        return sequence([sequence(kernels[k : k + size]) for k in range(0, len(kernels), size)])

    s0, s1, s2, s3, s4, s5 = (*kernels, *[nothing] * (6 - len(kernels)))

    @inlined
    def all_of(m, x, first, rate, t):
        s0(m, x, first, rate, t)
        s1(m, x, first, rate, t)
        s2(m, x, first, rate, t)
        s3(m, x, first, rate, t)
        s4(m, x, first, rate, t)
        s5(m, x, first, rate, t)

    return all_of


@inlined
def nothing(m, x, first, rate, t):
    return


def activation_forward(ctx: KernelContext, layout: Layout, place: LayerLayout, rows: int):
    """A function (m, r, u, t): z ← z + b (embeddings have no b); h = A(z), z where no A follows.

    In place of z what the activation keeps.  Of the `rows` units from u on, which lie from row r
    on, or of the examples from r on where the units are contiguous.
    """
    across, z_at, b_at = place.examples_contiguous, place.z, place.b
    stride = place.by_unit if across else place.by_example
    width = layout.examples if across else place.width
    bias, active = place.layer.bias, place.layer.active
    above = active or not bias  # nothing reads the h of the output
    add, value_and_kept = ctx.ops.add, ctx.value_and_kept
    step = ctx.longest if across else place.lanes
    lanes = lanes_of(step)

    @inlined
    def activate(m, r0, u0, t):
        for r in range(r0, r0 + rows):
            for c in range(0, width, step):
                at = z_at + r * stride + c
                z = load(m.z, at, lanes)
                if bias:
                    b = (
                        fill(m.biases[b_at + u0 + r - r0], lanes)
                        if across
                        else load(m.biases, b_at + c, lanes)
                    )
                    z = add(z, b, t)
                h = z
                if active:
                    h, z = value_and_kept(z, t)
                if bias:
                    store(m.z, at, z)
                if above:
                    store(m.h, at, h)

    return activate


def activation_backward(ctx: KernelContext, layout: Layout, place: LayerLayout, rows: int):
    """A function (m, r, t): δ ← δ·A'(z), where an activation follows.

    Rows as in `activation_forward`.
    """
    across, z_at, active = place.examples_contiguous, place.z, place.layer.active
    stride = place.by_unit if across else place.by_example
    width = layout.examples if across else place.width
    step = ctx.longest if across else place.lanes
    backward, lanes = ctx.backward, lanes_of(step)

    @inlined
    def multiply(m, r0, t):
        if active:
            for r in range(r0, r0 + rows):
                for c in range(0, width, step):
                    at = z_at + r * stride + c
                    store(m.d, at, backward(load(m.d, at, lanes), load(m.z, at, lanes), t))

    return multiply


def transposing(rows: int, columns: int, longest: int) -> Callable:
    """A function (source, at, pitch, target, to, to_pitch): target[c, r] ← source[r, c]."""
    squares, lanes = rows % longest == columns % longest == 0, lanes_of(longest)

    @inlined
    def turn(source, at, pitch, target, to, to_pitch):
        if squares:
            for r in range(0, rows, longest):
                for c in range(0, columns, longest):
                    begin, end = at + r * pitch + c, to + c * to_pitch + r
                    transpose(source, begin, pitch, target, end, to_pitch, lanes)
        else:
            for r in range(rows):
                for c in range(columns):
                    target[to + c * to_pitch + r] = source[at + r * pitch + c]

    return turn


def transposing_deltas(ctx: KernelContext, layout: Layout, under: LayerLayout, rows: int):
    """A function (m, at, room, j, t): δ = A'(z)·d of the `rows` units from j on, in their places.

    The d of a unit's examples are contiguous in m.scratch from `at` on; from `room` on is room.
    """
    step = ctx.longest if rows % ctx.longest == 0 else rows & -rows
    transpose_block, examples = transposing(rows, ctx.batch, ctx.longest), layout.examples
    lanes, z_at, below, batch = lanes_of(step), under.z, under.by_example, ctx.batch
    backward, active = ctx.backward, under.layer.active

    @inlined
    def turn(m, at, room, j, t):
        transpose_block(m.scratch, at, examples, m.scratch, room, rows)
        for i in range(batch):
            for c in range(0, rows, step):
                to = z_at + i * below + j + c
                d = load(m.scratch, room + i * rows + c, lanes)
                if active:
                    d = backward(d, load(m.z, to, lanes), t)
                store(m.d, to, d)

    return turn


def units_at_once(units: int, terms: int) -> int:
    """Units to take at a time, so that what is between two sums stays in L1."""
    if terms > FEW:
        return units
    return next((rows for rows in (16, 8, 4) if units % rows == 0), units)


def in_blocks(n: int, size: int, block_of: Callable) -> Callable:
    """A function (m, rate, t): block_of(size)(m, j, rate, t) for j = 0, size, ... < n.

    What is left over is a block of its own.
    """
    full = n - n % size
    whole, rest = block_of(size), block_of(n - full) if full < n else None

    @inlined
    def blocks(m, rate, t):
        for j in range(0, full, size):
            whole(m, j, rate, t)

    if rest is None:
        return blocks

    @inlined
    def blocks_and_rest(m, rate, t):
        blocks(m, rate, t)
        rest(m, full, rate, t)

    return blocks_and_rest


# The optimizer


def state_access(ctx: KernelContext, parameters: int, read: Callable, write: Callable):
    """Functions get(m, at) and put(m, at, state) for the optimizer's state of the weights at `at`.

    A state is a tuple, as `model.optimizers` has it; number k of the weight `at` is at
    m.a[at + k·parameters].  read(array, at) and write(array, at, vector) say which weights.
    """

    def access(count: int) -> tuple[Callable, Callable]:
        if count == 0:
            return no_state, nothing_to_put
        (get_before, put_before), k = access(count - 1), count - 1
        offset = k * parameters

        @inlined
        def get(m, at):
            return get_before(m, at) + (read(m.a, at + offset),)

        @inlined
        def put(m, at, state):
            put_before(m, at, state)
            write(m.a, at + offset, state[k])

        return get, put

    return access(len(ctx.starts))


@inlined
def no_state(m, at):
    return ()


@inlined
def nothing_to_put(m, at, state):
    return


def vector_state(ctx: KernelContext, parameters: int, lanes: tuple[int, ...]):
    """`state_access` of a vector of contiguous weights."""

    @inlined
    def read(array, at):
        return load(array, at, lanes)

    @inlined
    def write(array, at, vector):
        store(array, at, vector)

    return state_access(ctx, parameters, read, write)


def apply_gradients(ctx: KernelContext, layout: Layout, n: int) -> Callable:
    """(m, g_at, at, rate, t): update the n weights from `at` on by the gradients m.g[g_at], ..."""
    step = flat_lanes(n, ctx.longest)
    lanes, update = lanes_of(step), ctx.update
    get_state, put_state = vector_state(ctx, layout.parameters, lanes)

    @inlined
    def apply(m, g_at, at, rate, t):
        for k in range(0, n, step):
            g, rates = load(m.g, g_at + k, lanes), fill(rate, lanes)
            w, state = update(load(m.w, at + k, lanes), get_state(m, at + k), g, rates, t)
            store(m.w, at + k, w)
            put_state(m, at + k, state)

    return apply


# Packed features


def features_of_32(ctx: KernelContext) -> Callable:
    """A function (m, x, first, block, word): a word of features of 32 examples, as a vector."""
    batch, words = ctx.batch, ctx.words
    whole = words == 1 and batch % 32 == 0  # the words are contiguous

    @inlined
    def features(m, x, first, block, word):
        at = (first + 32 * block) * words
        if whole:
            return load(x, at, THIRTY_TWO)
        n = min(32, batch - 32 * block)
        for i in range(n):
            m.feature_words[i] = x[at + i * words + word]
        for i in range(n, 32):  # not those of the block before
            m.feature_words[i] = np.uint32(0)
        return load(m.feature_words, 0, THIRTY_TWO)

    return features


def features_of_one(ctx: KernelContext) -> Callable:
    """A function (m, x, i, part): a set's features of example i go to m.features_of_example."""
    layer, words = ctx.net[0], ctx.words
    sets, n = layer.sets, layer.fan_in // layer.sets
    whole, rest = n // 32, np.uint32((1 << (n % 32)) - 1)

    @inlined
    def features(m, x, i, part):
        # the bits of the set's features, from bit 0 on
        word, shift = part * n // 32, np.uint32(part * n % 32)
        for k in range(words - word):
            v = x[i * words + word + k] >> shift
            if shift != 0 and word + k + 1 < words:
                v |= x[i * words + word + k + 1] << (np.uint32(32) - shift)
            m.features_of_example[k] = v
        if sets > 1 and rest != 0:
            m.features_of_example[whole] &= rest

    return features


def feature_columns(ctx: KernelContext) -> Callable:
    """The kernel that finds `columns`, the examples of every feature, and `present_features`."""
    words, blocks, features = ctx.words, -(-ctx.batch // 32), features_of_32(ctx)

    @inlined
    def kernel(m, x, first, rate, t):
        for block in range(blocks):
            for word in range(words):
                v = features(m, x, first, block, word)
                present = np.uint32(reduce_or(v))
                m.present_features[block * words + word] = present
                for j in range(32):
                    m.columns[(32 * word + j) * blocks + block] = np.uint32(0)
                while present != 0:
                    j = np.int64(trailing_zeros(np.uint32(present)))
                    bit = np.uint32(1) << np.uint32(j)
                    m.columns[(32 * word + j) * blocks + block] = ballot(v & bit)
                    present &= present - np.uint32(1)

    return kernel


def for_present_features(ctx: KernelContext, body: Callable) -> Callable:
    """The kernel body(m, x, j, rate, t) for each feature j that some example has."""
    words, blocks = ctx.words, -(-ctx.batch // 32)

    @inlined
    def kernel(m, x, first, rate, t):
        for word in range(words):
            v = np.uint32(0)
            for block in range(blocks):
                v |= m.present_features[block * words + word]
            while v != 0:
                j = 32 * word + np.int64(trailing_zeros(v))
                v &= v - np.uint32(1)
                body(m, x, j, rate, t)

    return kernel


def feature_gradient(ctx: KernelContext, layout: Layout) -> Callable:
    """A function (m, j, to, t): Σ_i δ[i] over the examples i with feature j goes to m.g[to], ...

    The units of an example are contiguous in m.delta_rows where the first layer's examples are
    contiguous in m.d.
    """
    place, batch, blocks = layout[0], ctx.batch, -(-ctx.batch // 32)
    row, n = place.row, place.layer.fan_in // place.layer.sets
    in_rows = place.examples_contiguous and layout.table_width > 0
    pitch, d_at = (layout.table_width, place.column) if in_rows else (place.by_example, place.z)
    ahead = in_rows or row <= 2 * ctx.longest
    total = terms(ctx.sums(0, "batch"), batch, row, pitch, 0, ahead=ahead)

    @inlined
    def gradient(m, j, to, t):
        d = m.delta_rows if in_rows else m.d
        total(m, m.plan, d, d_at + (j // n) * row, m.columns, j * blocks, m.g, to, t)

    return gradient


def feature_gradients(ctx: KernelContext, layout: Layout) -> Callable:
    """The kernel g_W[j] = Σ_i δ[i] over the examples i that have feature j; 0 where none has."""
    place, gradient = layout[0], feature_gradient(ctx, layout)
    row, begin, end = place.row, place.w, place.w + place.layer.fan_in * place.row
    zero, step, lanes = ctx.ops.const(0.0), place.lanes, lanes_of(place.lanes)

    @inlined
    def one(m, x, j, rate, t):
        gradient(m, j, begin + j * row, t)

    each = for_present_features(ctx, one)

    @inlined
    def kernel(m, x, first, rate, t):
        for at in range(begin, end, step):
            store(m.g, at, fill(zero, lanes))
        each(m, x, first, rate, t)

    return kernel


# What there is to do at least


def product_work(ctx: KernelContext, place: LayerLayout) -> Work:
    """A product of the mini-batch with a layer's weights, each number read or written once."""
    s, weights = ctx.batch, place.layer.fan_in * place.layer.row
    moved = 4 * (weights + s * place.layer.fan_in + s * place.layer.fan_out)
    return Work(operations=s * weights, bytes=moved, resident=moved)


def activation_work(ctx: KernelContext, place: LayerLayout) -> Work:
    """z + b and A(z) of a layer."""
    n = ctx.batch * place.layer.fan_out
    return Work(operations=2 * n, bytes=12 * n, resident=8 * n)


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """z = h·W + b and A(z) of a layer above the first."""
    return product_work(ctx, layout[k]) + activation_work(ctx, layout[k])


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """(W·δ)·A'(z) of such a layer."""
    return product_work(ctx, layout[k]) + Work(operations=ctx.batch * layout[k].layer.fan_in)


def gradient_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Σ_i h[i]·δ[i] of such a layer."""
    return product_work(ctx, layout[k])


def bias_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Σ_i δ[i] of a layer."""
    n = ctx.batch * layout[k].layer.fan_out
    return Work(operations=n, bytes=4 * n)


def features_work(place: LayerLayout, counts: Counts) -> Work:
    """Sums of a row of numbers for every feature present."""
    n, weights = counts.features * place.layer.row, place.layer.fan_in * place.layer.row
    return Work(operations=n, bytes=4 * n, resident=8 * weights)


def input_forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """The forward pass of the first layer."""
    place = layout[0]
    sums = features_work(place, counts) + Work(bytes=4 * ctx.batch * place.layer.fan_out)
    weights = place.layer.fan_in * place.layer.row
    return replace(sums, resident=4 * weights) + activation_work(ctx, place)


def update_work(ctx: KernelContext, n: float) -> Work:
    """Work of updating n weights: they and their state are read and written."""
    optimizer = ctx.optimizer
    return Work(
        operations=optimizer.operations * n,
        divisions=optimizer.divisions * n,
        roots=optimizer.roots * n,
        bytes=8 * (1 + len(ctx.starts)) * n,
    )
