"""The general kernels, one for each equation of a step: they apply to all shapes and dials.

The units of an example are contiguous.  Vectors lie across outputs (units, inputs or examples),
never across the terms of a sum, so each sum keeps the order of its plan.
"""

from collections.abc import Callable

from nanorepro.backends.numba.activation import activation_forward
from nanorepro.backends.numba.conditions import over_bits, over_reals, round_up
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
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.packed_features import (
    feature_columns,
    feature_gradients,
    features_of_one,
)
from nanorepro.backends.numba.sequence import in_blocks, sequence
from nanorepro.backends.numba.sums.by_plan import lanes_of, terms
from nanorepro.backends.numba.sums.products import Matrix, products
from nanorepro.backends.numba.transposing import transposing, transposing_deltas
from nanorepro.backends.numba.update import apply_gradients
from nanorepro.backends.numba.work import (
    backward_work,
    bias_work,
    features_work,
    forward_work,
    gradient_work,
    input_forward_work,
    update_work,
)

ROWS = 16  # inputs of a layer whose δ are taken together


def find_features(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """columns: of every feature its examples, a bit each; present_features: those of any."""
    return feature_columns(ctx)


def input_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i] = Σ_j W[j] over the features j of example i; embeddings: one sum for each set.

    Then + b and the activation, while the example's units are in L1.
    """
    place, batch = layout[0], ctx.batch
    layer, sets, row, pitch = place.layer, place.layer.sets, place.row, place.by_example
    w_at, z_at, n = place.w, place.z, layer.fan_in // layer.sets
    ahead = sets == 1 and row <= 2 * ctx.longest
    total = terms(ctx.sums(0, "forward"), n, row, row, place.forward_plan, ahead=ahead)
    features, activate = features_of_one(ctx), activation_forward(ctx, layout, place, 1)

    @inlined
    def kernel(m, x, first, rate, t):
        for i in range(batch):
            for part in range(sets):
                features(m, x, first + i, part)
                at = w_at + part * n * row
                out = z_at + i * pitch + part * row
                total(m, m.unit_plans, m.w, at, m.features_of_example, 0, m.z, out, t)
            activate(m, i, 0, t)

    return kernel


def real_input_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i, u] = Σ_j x[i, j]·W[j, u], then + b and the activation; embeddings: each set's sums."""
    place, batch, d = layout[0], ctx.batch, layout[0].layer.fan_in
    n, row, z_at, pitch = d // place.layer.sets, place.row, place.z, place.by_example
    kind = ctx.sums(0, "forward")

    def of_set(part: int) -> Callable:
        x = Matrix(part * n, 1, d)
        w = Matrix(place.w + part * n * place.by_input, place.by_input, 0)
        out = z_at + part * row
        total = products(kind, n, batch, row, x, w, place.forward_plan, pitch)

        @inlined
        def sums(m, inputs, first, rate, t):
            total(m, m.unit_plans, inputs, m.w, m.z, out, first, t)

        return sums

    every_set = sequence([of_set(part) for part in range(place.layer.sets)])
    activate = activation_forward(ctx, layout, place, batch)

    @inlined
    def kernel(m, x, first, rate, t):
        every_set(m, x, first, rate, t)
        activate(m, 0, 0, t)

    return kernel


def real_input_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i x[i, j]·δ[i, u]."""
    place, d = layout[0], layout[0].layer.fan_in
    n, row, kind = d // place.layer.sets, place.row, ctx.sums(0, "batch")

    def of_set(part: int) -> Callable:
        x, delta = Matrix(part * n, d, 1), Matrix(place.z + part * row, place.by_example, 0)
        to = place.w + part * n * place.by_input
        total = products(kind, ctx.batch, n, row, x, delta, 0, place.by_input)

        @inlined
        def sums(m, inputs, first, rate, t):
            total(m, m.plan, inputs, m.d, m.g, to, first * d, t)

        return sums

    return sequence([of_set(part) for part in range(place.layer.sets)])


def layer_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[i, u] = Σ_j h_below[i, j]·W[j, u], then + b and the activation."""
    place, under, batch = layout[k], layout[k - 1], ctx.batch
    h, w = Matrix(under.z, under.by_unit, under.by_example), Matrix(place.w, place.by_input, 0)
    n, z_at, pitch = place.layer.fan_in, place.z, place.by_example
    plan = place.forward_plan
    sums = ctx.sums(k, "forward")
    total = products(sums, n, batch, place.width, h, w, plan, pitch, streamed=True)
    activate = activation_forward(ctx, layout, place, batch)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.unit_plans, m.h, m.w, m.z, z_at, 0, t)
        activate(m, 0, 0, t)

    return kernel


def output_gradient(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """δ[i] = (σ(z[i]) - y[i])/s, the gradient of the mean loss by z; vectors of examples.

    Two vectors at a time, as the terms of exp wait for each other.
    """
    z_at, padded = layout[k].z, round_up(ctx.batch, ctx.longest)
    step = min(2 * ctx.longest, padded & -padded)
    lanes, size = lanes_of(step), ctx.ops.const(float(ctx.batch))
    sigmoid, sub, div = ctx.sigmoid, ctx.ops.sub, ctx.ops.div

    @inlined
    def kernel(m, x, first, rate, t):
        for i in range(0, padded, step):
            p = sigmoid(load(m.z, z_at + i, lanes), t)
            d = div(sub(p, load(m.y, i, lanes), t), fill(size, lanes), t)
            store(m.d, z_at + i, d)

    return kernel


def layer_backward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j]), some inputs j at a time.

    The sums lie along the examples, so that W need not be transposed, only δ, and the sums back.
    """
    place, under, examples = layout[k], layout[k - 1], layout.examples
    fan_in, fan_out, d_at, pitch = (
        place.layer.fan_in,
        place.layer.fan_out,
        place.z,
        place.by_example,
    )
    transpose_deltas = transposing(ctx.batch, fan_out, ctx.longest)

    def block_of(rows: int) -> Callable:
        w, d = Matrix(place.w, 1, place.by_input), Matrix(0, examples, 0)
        plan = place.backward_plan
        sums = ctx.sums(k, "backward")
        total = products(sums, fan_out, rows, examples, w, d, plan, examples)
        transpose_back = transposing_deltas(ctx, layout, under, rows)

        @inlined
        def block(m, j, rate, t):
            total(m, m.unit_plans, m.w, m.transposed, m.scratch, 0, j, t)
            transpose_back(m, 0, rows * examples, j, t)

        return block

    every_input = in_blocks(fan_in, min(fan_in, ROWS), block_of)

    @inlined
    def kernel(m, x, first, rate, t):
        transpose_deltas(m.d, d_at, pitch, m.transposed, 0, examples)
        every_input(m, rate, t)

    return kernel


def layer_backward_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    layer = layout[k].layer
    return {
        "transposed": layer.fan_out * layout.examples,
        "scratch": 2 * min(layer.fan_in, ROWS) * layout.examples,
    }


def input_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j] = Σ_i δ[i] over the examples i that have feature j; 0 where none has."""
    return feature_gradients(ctx, layout)


def weight_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i h_below[i, j]·δ[i, u]."""
    place, under = layout[k], layout[k - 1]
    h = Matrix(under.z, under.by_example, under.by_unit)
    d = Matrix(place.z, place.by_example, 0)
    fan_in, w_at, pitch = place.layer.fan_in, place.w, place.by_input
    total = products(ctx.sums(k, "batch"), ctx.batch, fan_in, place.width, h, d, 0, pitch)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.h, m.d, m.g, w_at, 0, t)

    return kernel


def bias_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_b[u] = Σ_i δ[i, u], as sums of products 1·δ[i, u], which are exact."""
    place, one, b_at = layout[k], Matrix(0, 0, 0), layout[k].b
    d = Matrix(place.z, place.by_example, 0)
    total = products(ctx.sums(k, "batch"), ctx.batch, 1, place.width, one, d, 0, 0)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.constants, m.d, m.bias_gradients, b_at, 0, t)

    return kernel


def update(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """w, state ← update(w, state, g, η) of all parameters whose gradients lie ready in m.g."""
    together = layout.together
    apply = apply_gradients(ctx, layout, layout.parameters - together)

    @inlined
    def kernel(m, x, first, rate, t):
        apply(m, together, together, rate, t)

    return kernel


def every_layer(ctx: KernelContext, k: int) -> range:
    return range(len(ctx.net))


def as_units(ctx: KernelContext, k: int) -> dict[int, Form]:
    """The layer's units are contiguous."""
    return {k: Form.UNITS_CONTIGUOUS}


def first_layer(ctx: KernelContext, k: int) -> bool:
    return k == 0


def above_first(ctx: KernelContext, k: int) -> bool:
    return k > 0


def last_layer(ctx: KernelContext, k: int) -> bool:
    return k == len(ctx.net) - 1


def has_bias(ctx: KernelContext, k: int) -> bool:
    return ctx.net[k].bias


def output_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """σ: some 17 operations in float64, each as much as two, and one division of each kind."""
    return Work(operations=36 * ctx.batch, divisions=4 * ctx.batch, bytes=12 * ctx.batch)


def together_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    weights = [p.layer.fan_in * p.layer.row for p in layout.layers if not p.separate]
    biases = [p.layer.fan_out for p in layout.layers if p.layer.bias and not p.recomputed]
    return update_work(ctx, sum(weights) + sum(biases))


FIND_FEATURES = preparation(
    name="find_features",
    condition="a kernel reads the examples of each feature",
    reads=(),
    writes=("columns", "present_features"),
    build=find_features,
    work=lambda ctx, layout, k, counts: Work(operations=32 * ctx.batch, bytes=8 * ctx.batch),
    phase=Phase.FORWARD,
)

KERNELS = (
    Kernel(
        name="input_forward",
        carries={Equation.FORWARD: own},
        condition="the first layer, over bits",
        applies=over_bits,
        reads=("w",),
        writes=("z", "h"),
        build=input_forward,
        work=input_forward_work,
        forms=as_units,
        phase=Phase.FORWARD,
        general=True,
        examples=({"hidden": "3", "unit_accumulator": "exact", "accumulator": "exact"},),
    ),
    Kernel(
        name="real_input_forward",
        carries={Equation.FORWARD: own},
        condition="the first layer, over real numbers",
        applies=over_reals,
        reads=("w",),
        writes=("z", "h"),
        build=real_input_forward,
        work=forward_work,
        forms=as_units,
        phase=Phase.FORWARD,
        general=True,
    ),
    Kernel(
        name="layer_forward",
        carries={Equation.FORWARD: own},
        condition="a layer above the first",
        applies=above_first,
        reads=("w", "h"),
        writes=("z", "h"),
        build=layer_forward,
        work=forward_work,
        forms=as_units,
        phase=Phase.FORWARD,
        general=True,
    ),
    Kernel(
        name="output_gradient",
        carries={Equation.OUTPUT_GRADIENT: own},
        condition="the last layer",
        applies=last_layer,
        reads=("z",),
        writes=("d",),
        build=output_gradient,
        work=output_work,
        phase=Phase.OUTPUT,
        general=True,
    ),
    Kernel(
        name="layer_backward",
        carries={Equation.BACKWARD: own},
        condition="a layer above the first",
        applies=above_first,
        reads=("w", "z", "d"),
        writes=("d", "transposed", "scratch"),
        build=layer_backward,
        work=backward_work,
        phase=Phase.BACKWARD,
        room=layer_backward_room,
        general=True,
    ),
    Kernel(
        name="weight_gradients",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition="a layer above the first",
        applies=above_first,
        reads=("h", "d"),
        writes=("g",),
        build=weight_gradients,
        work=gradient_work,
        phase=Phase.GRADIENTS,
        general=True,
    ),
    Kernel(
        name="input_gradients",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition="the first layer, over bits",
        applies=over_bits,
        reads=("d", "columns", "present_features"),
        writes=("g",),
        build=input_gradients,
        work=lambda ctx, layout, k, counts: features_work(layout[0], counts),
        phase=Phase.INPUT_LAYER,
        general=True,
    ),
    Kernel(
        name="real_input_gradients",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition="the first layer, over real numbers",
        applies=over_reals,
        reads=("d",),
        writes=("g",),
        build=real_input_gradients,
        work=gradient_work,
        phase=Phase.INPUT_LAYER,
        general=True,
    ),
    Kernel(
        name="bias_gradients",
        carries={Equation.BIAS_GRADIENT: own},
        condition="a layer with biases",
        applies=has_bias,
        reads=("d", "constants"),
        writes=("g",),
        build=bias_gradients,
        work=bias_work,
        phase=Phase.BIASES,
        general=True,
    ),
    Kernel(
        name="update",
        carries={Equation.WEIGHT_UPDATE: every_layer, Equation.BIAS_UPDATE: every_layer},
        condition="once, after all gradients that no other kernel applies",
        applies=first_layer,
        reads=("g", "w", "a"),
        writes=("w", "a"),
        build=update,
        work=together_work,
        phase=Phase.UPDATE,
        general=True,
    ),
)
