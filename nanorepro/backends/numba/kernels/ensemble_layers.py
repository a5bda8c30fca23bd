"""The kernels of an ensemble: in place of a number a vector, one of each model.

No vector is partly empty, however few the units of a layer, and nothing is transposed; the order
of every sum is that of one model alone.  A layer's number k of the model l lies at k·models + l.
All sums are plain chains, and all layers have biases: there are no embeddings.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import numpy as np

from nanorepro.backends.numba.conditions import chained, plain
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import SPARE
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.llvm.tiles import (
    add_tile,
    fill_tile,
    load_tile,
    opaque,
    outer_tile,
    row_of,
    spread,
)
from nanorepro.backends.numba.packed_features import (
    feature_columns,
    features_of_one,
    for_present_features,
)
from nanorepro.backends.numba.repeated import PlacedKernel, in_loops
from nanorepro.backends.numba.sequence import sequence
from nanorepro.backends.numba.sums.by_plan import ONE, Sums, lanes_of, total_of
from nanorepro.backends.numba.sums.products import Matrix
from nanorepro.backends.numba.update import vector_state
from nanorepro.model.layers import Layer

LARGEST = 4096  # parameters of a model; of hidden layers of 64 and 32 units it gains nothing
SOME = 4  # examples that pass all layers together: what is between fits in L1
HELD = 16  # vectors of sums in registers at a time
SIDE = 4  # rows and columns, at most, of a tile of them
FIRST = lanes_of(0)


def applies(ctx: KernelContext) -> bool:
    """Small models over bits, without embeddings, all of whose sums are plain chains."""
    if not ctx.alike or ctx.real:
        return False
    size = sum((layer.fan_in + 1) * layer.fan_out for layer in ctx.net)
    return plain(ctx) and chained(ctx) and ctx.net[0].bias and size <= LARGEST


@dataclass(frozen=True)
class Stacked:
    """Where a layer of all models lies in the memory, biases behind weights: offsets in numbers.

    A row of weights has `row` numbers, a row of z or h, an example's, `width`.
    """

    layer: Layer
    models: int
    w: int
    b: int
    z: int

    @property
    def row(self) -> int:
        return self.layer.row * self.models

    @property
    def width(self) -> int:
        return self.layer.fan_out * self.models

    @property
    def code(self) -> "Stacked":
        """The layer without name and offsets, on which the code of its kernels depends."""
        return replace(self, layer=replace(self.layer, names=()), w=0, b=0, z=0)

    @property
    def outputs(self) -> Matrix:
        """z, h or δ as A[k, r] of a sum over units k, for the example r."""
        return Matrix(self.z, self.models, self.width)

    @property
    def over_examples(self) -> Matrix:
        """The same as A[k, r] of a sum over the examples k, for the unit r."""
        return Matrix(self.z, self.width, self.models)

    @property
    def weights(self) -> Matrix:
        """W as B[k, c] of a sum over the inputs k, for the unit c."""
        return Matrix(self.w, self.row, self.models)

    @property
    def transposed_weights(self) -> Matrix:
        """W as B[k, c] of a sum over the units k, for the input c."""
        return Matrix(self.w, self.models, self.row)


def stack_layers(net: tuple[Layer, ...], batch: int, models: int) -> tuple[list[Stacked], int, int]:
    """The layers' places, and how many parameters and activations there are."""
    # below the first layer's weights and below δ, from row 32 on, a row of zeros (`in_chain`)
    inputs = [n.fan_in if k else max(n.fan_in, 32) + SPARE for k, n in enumerate(net)]
    weights = [k * n.row * models for k, n in zip(inputs, net, strict=True)]
    biases = [n.fan_out * models for n in net]
    rows = [(max(batch, 32) + SPARE) * n.fan_out * models for n in net]
    w = list(accumulate((a + b for a, b in zip(weights, biases, strict=True)), initial=0))
    z = list(accumulate(rows, initial=0))
    places = [Stacked(layer, models, w[k], w[k] + weights[k], z[k]) for k, layer in enumerate(net)]
    return places, w[-1], z[-1]


def parts_of(n: int, size: int) -> list[tuple[int, int, int]]:
    """Begin, end and size of the parts of n: whole ones, and one of what is left over."""
    whole = n - n % size
    return [part for part in ((0, whole, size), (whole, n, n - whole)) if part[0] < part[1]]


def passed_on(make_put: Callable, height: int, breadth: int, models: int) -> Callable:
    """A function (m, tile, r0, c0, rate, t) that gives `put` the tile's rows, at most SIDE."""
    put, wide = make_put(breadth * models), lanes_of(breadth)
    n0, n1, n2, n3 = (lanes_of(min(k, height - 1)) for k in range(SIDE))

    @inlined
    def pass_on(m, tile, r0, c0, rate, t):
        put(m, row_of(tile, n0, wide), r0, c0, rate, t)
        if height > 1:
            put(m, row_of(tile, n1, wide), r0 + 1, c0, rate, t)
        if height > 2:
            put(m, row_of(tile, n2, wide), r0 + 2, c0, rate, t)
        if height > 3:
            put(m, row_of(tile, n3, wide), r0 + 3, c0, rate, t)

    return pass_on


def paired_products(
    ctx: KernelContext,
    n: int,
    shape: tuple[int, int],
    a: str,
    left: Matrix,
    b: str,
    right: Matrix,
    make_put,
) -> Callable:
    """C[r, c] = Σ_k A[k, r]·B[k, c], k < n, model by model, for `shape` rows and columns.

    products(m, x, r0, rate, t): A's rows begin r0 later, and put(m, v, r, c, rate, t) is given some
    columns of a row.  A is in m.h or m.z, B in m.w or m.z.
    """
    models = ctx.longest
    zero, lanes, times = ctx.ops.const(0.0), lanes_of(models), opaque if n > 2 else np.int64
    a_at, a_by_k, a_by_r = left.base, left.by_k, left.by_r
    b_at, b_by_k, b_by_c = right.base, right.by_k, right.by_r
    of_h, of_w = a == "h", b == "w"

    def tiles_of(r_part, c_part):
        (begin, end, height), (first, last, breadth) = r_part, c_part
        tall, wide = lanes_of(height), lanes_of(breadth)
        pass_on = passed_on(make_put, height, breadth, models)

        # loops that the compiler does not write out: all in line, the step did not stay in the
        # processor's cache of instructions
        @inlined
        def tiles(m, x, r0, rate, t):
            a, b = m.h if of_h else m.z, m.w if of_w else m.z
            for r in range(r0 + begin, opaque(r0 + end), height):
                for c in range(first, opaque(last), breadth):
                    at, bt = a_at + r * a_by_r, b_at + c * b_by_c
                    acc = fill_tile(zero, lanes, tall, wide)
                    for k in range(times(n)):
                        u = load_tile(a, at + k * a_by_k, a_by_r, lanes, tall, ONE)
                        v = load_tile(b, bt + k * b_by_k, b_by_c, lanes, wide, ONE)
                        acc = outer_tile(acc, u, v)
                    pass_on(m, acc, r, c, rate, t)

        return tiles

    rows, columns = (parts_of(size, SIDE) for size in shape)
    return sequence([tiles_of(r, c) for r in rows for c in columns])


def put_activation(ctx: KernelContext, place: Stacked) -> Callable:
    """`put` of a pass upwards: z[i, u] ← v + b[u], h = A(z); nothing reads h of the output."""
    z_at, b_at, pitch, models = place.z, place.b, place.width, place.models
    add, value_and_kept, active = ctx.ops.add, ctx.value_and_kept, place.layer.active

    def make_put(size):
        lanes = lanes_of(size)

        @inlined
        def put(m, v, i, u, rate, t):
            at = z_at + i * pitch + u * models
            z = add(v, load(m.w, b_at + u * models, lanes), t)
            if active:
                h, z = value_and_kept(z, t)
                store(m.h, at, h)
            store(m.z, at, z)

        return put

    return make_put


def put_delta(ctx: KernelContext, place: Stacked) -> Callable:
    """`put` of a pass downwards: δ[i, u] = v·A'(z[i, u]), where an activation follows."""
    z_at, pitch, models, active = place.z, place.width, place.models, place.layer.active
    backward = ctx.backward

    def make_put(size):
        lanes = lanes_of(size)

        @inlined
        def put(m, v, i, u, rate, t):
            at = z_at + i * pitch + u * models
            if active:
                v = backward(v, load(m.z, at, lanes), t)
            store(m.z, at, v)

        return put

    return make_put


def put_update(ctx: KernelContext, parameters: int, begin: int, row: int) -> Callable:
    """`put` of gradients: the parameters [r, c] of the table from `begin` on are updated by v."""
    update, models = ctx.update, ctx.longest

    def make_put(size):
        lanes = lanes_of(size)
        get_state, put_state = vector_state(ctx, parameters, lanes)

        @inlined
        def put(m, v, r, c, rate, t):
            at = begin + r * row + c * models
            w, state = update(load(m.w, at, lanes), get_state(m, at), v, fill(rate, lanes), t)
            store(m.w, at, w)
            put_state(m, at, state)

        return put

    return make_put


def present_sums(sums: Sums, n: int, width: int, stride: int) -> Callable:
    """total(m, _, word, at, table, masks, t): the sum of those of n rows that a mask names.

    As `sums.by_plan.terms`, but all `width` numbers are one vector.
    """
    lanes = lanes_of(width)

    def make_join(product, term):
        @inlined
        def join(m, state, k, word, at, table, masks, t):
            return term(state, load(table, at + k * stride, lanes), t)

        return join

    return total_of(sums, n, lanes, 0, True, make_join, None, n <= 32)


def input_forward(ctx: KernelContext, place: Stacked) -> Callable:
    """z[i] = Σ_j W[j] over the features j of example i, + b and the activation."""
    n, row, w_at, models = place.layer.fan_in, place.row, place.w, place.models
    features, make_put = features_of_one(ctx), put_activation(ctx, place)

    def units_of(part):
        begin, end, size = part
        total, put = present_sums(ctx.unit_sums, n, size * models, row), make_put(size * models)

        @inlined
        def some(m, x, i, rate, t):
            for u in range(begin, end, size):
                z = total(m, 0, 0, w_at + u * models, m.w, m.features_of_example, t)
                put(m, z, i, u, rate, t)

        return some

    sums = sequence([units_of(part) for part in parts_of(place.layer.row, HELD)])

    @inlined
    def forward(m, x, first, i, t):
        features(m, x, first + i, 0)
        sums(m, x, i, i, t)

    return forward


def input_update(ctx: KernelContext, place: Stacked, parameters: int) -> Callable:
    """W[j] ← update(W[j], Σ_i δ[i] over the examples i that have feature j).

    What no example has is passed over, where a gradient of 0 leaves it as it is.
    """
    batch, d_at, models, blocks = ctx.batch, place.z, place.models, -(-ctx.batch // 32)
    make_put = put_update(ctx, parameters, place.w, place.row)
    fan_in = place.layer.fan_in

    def units_of(part):
        begin, end, size = part
        total = present_sums(ctx.batch_sums, batch, size * models, place.width)
        put = make_put(size * models)

        @inlined
        def some(m, x, j, rate, t):
            for u in range(begin, end, size):
                g = total(m, 0, j * blocks, d_at + u * models, m.z, m.columns, t)
                put(m, g, j, u, rate, t)

        return some

    of_feature = sequence([units_of(part) for part in parts_of(place.layer.row, HELD)])
    if ctx.skip_unchanged:
        return for_present_features(ctx, of_feature)

    @inlined
    def kernel(m, x, first, rate, t):
        for j in range(fan_in):
            of_feature(m, x, j, rate, t)

    return kernel


def output_delta(ctx: KernelContext, place: Stacked, some: int) -> Callable:
    """δ[i] = (σ(z[i]) - y[i])/s of some examples in one vector: exp's terms wait for each other."""
    z_at, models, examples = place.z, place.models, lanes_of(some)
    one, lanes, size = lanes_of(models), lanes_of(some * models), ctx.ops.const(float(ctx.batch))
    sigmoid, sub, div = ctx.sigmoid, ctx.ops.sub, ctx.ops.div

    @inlined
    def delta(m, x, i, rate, t):
        at = z_at + i * models
        y = spread(load(m.y, i, examples), one)
        p = sigmoid(load(m.z, at, lanes), t)
        store(m.z, at, div(sub(p, y, t), fill(size, lanes), t))

    return delta


def bias_update(ctx: KernelContext, place: Stacked, parameters: int) -> Callable:
    """b ← update(b, Σ_i δ[i])."""
    batch, pitch, d_at, models = ctx.batch, place.width, place.z, place.models
    zero, lanes = ctx.ops.const(0.0), lanes_of(models)
    make_put = put_update(ctx, parameters, place.b, 0)

    def units_of(part):
        begin, end, size = part
        wide, put = lanes_of(size), make_put(size * models)

        @inlined
        def some(m, x, first, rate, t):
            for u in range(begin, end, size):
                acc = fill_tile(zero, lanes, ONE, wide)
                for i in range(batch):
                    at = d_at + u * models + i * pitch
                    acc = add_tile(acc, load_tile(m.z, at, 0, lanes, ONE, wide))
                put(m, row_of(acc, FIRST, wide), 0, u, rate, t)

        return some

    return sequence([units_of(part) for part in parts_of(place.layer.fan_out, HELD)])


def forward_pass(ctx: KernelContext, place: Stacked, under: Stacked, some: int) -> PlacedKernel:
    """z[i, u] = Σ_j h_below[i, j]·W[j, u], + b and the activation."""
    n, shape, put = place.layer.fan_in, (some, place.layer.fan_out), put_activation(ctx, place)
    operands = ("h", under.outputs, "w", place.weights)
    places = {"w": (place.w, place.b), "h": (under.z, place.z), "z": (place.z,)}
    build = partial(paired_products, ctx, n, shape, *operands, put)
    return PlacedKernel(("forward", place.code), places, build)


def backward_pass(ctx: KernelContext, place: Stacked, under: Stacked, some: int) -> PlacedKernel:
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j])."""
    n, shape, put = place.layer.fan_out, (some, place.layer.fan_in), put_delta(ctx, under)
    operands = ("z", place.outputs, "w", place.transposed_weights)
    places = {"w": (place.w,), "z": (place.z, under.z)}
    build = partial(paired_products, ctx, n, shape, *operands, put)
    return PlacedKernel(("backward", place.code, under.layer.active), places, build)


def up_and_down(
    ctx: KernelContext, places: list[Stacked], some: int, fields: tuple[str, ...]
) -> Callable:
    """A function (m, x, first, i, t): z, h and δ of all layers for `some` examples from i on."""
    input_layer, *dense = places
    pairs = list(zip(dense, places, strict=False))
    input_sums = input_forward(ctx, input_layer)
    output = PlacedKernel("output", {}, partial(output_delta, ctx, places[-1], some))
    up = [forward_pass(ctx, place, under, some) for place, under in pairs]
    down = [backward_pass(ctx, place, under, some) for place, under in reversed(pairs)]
    rest = in_loops([*up, output, *down], fields)

    @inlined
    def up_down(m, x, first, i, t):
        for k in range(opaque(some)):
            input_sums(m, x, first, i + k, t)
        rest(m, x, i, i, t)

    return up_down


def weight_update(ctx: KernelContext, place: Stacked, under: Stacked, parameters: int) -> Callable:
    """W[j, u] ← update(W[j, u], Σ_i h_below[i, j]·δ[i, u])."""
    shape, put = (
        (place.layer.fan_in, place.layer.fan_out),
        put_update(ctx, parameters, place.w, place.row),
    )
    operands = ("h", under.over_examples, "z", place.over_examples)
    products = paired_products(ctx, ctx.batch, shape, *operands, put)

    @inlined
    def kernel(m, x, first, rate, t):
        products(m, x, 0, rate, t)

    return kernel


def step_of(
    ctx: KernelContext, places: list[Stacked], parameters: int, fields: tuple[str, ...]
) -> Callable:
    """A whole step as one kernel: up and down the layers, then all gradients and updates.

    `fields` are the names of the memory's arrays.
    """
    input_layer, *dense = places

    def loop_of(part):
        begin, end, size = part
        body = up_and_down(ctx, places, size, fields)

        @inlined
        def loop(m, x, first, rate, t):
            for i in range(begin, opaque(end), size):
                body(m, x, first, i, t)

        return loop

    def weights_of(place, under):
        at = {"w": (place.w,), "a": (place.w,), "h": (under.z,), "z": (place.z,)}
        build = partial(weight_update, ctx, place, under, parameters)
        return PlacedKernel(("weights", place.code), at, build)

    def biases_of(place):
        at = {"w": (place.b,), "a": (place.b,), "z": (place.z,)}
        return PlacedKernel(
            ("biases", place.code), at, partial(bias_update, ctx, place, parameters)
        )

    updates = [weights_of(place, under) for place, under in zip(dense, places, strict=False)]
    updates += [biases_of(place) for place in places]
    first_updates = partial(input_update, ctx, input_layer, parameters)
    return sequence([
        feature_columns(ctx),
        *(loop_of(part) for part in parts_of(ctx.batch, SOME)),
        in_loops([*updates, PlacedKernel("inputs", {}, first_updates)], fields),
    ])  # fmt: skip
