"""Kernels of small layers above the first: the examples of a unit are contiguous."""

from collections.abc import Callable

from nanorepro.backends.numba.activation import activation_backward, activation_forward
from nanorepro.backends.numba.conditions import (
    examples_contiguous,
    few_units,
    inputs_contiguous,
    small,
    table_layers,
)
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Equation, Form, Kernel, Phase, own
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.sums.products import Matrix, products
from nanorepro.backends.numba.transposing import transposing
from nanorepro.backends.numba.work import backward_work, bias_work, forward_work, gradient_work

FEW = 64  # terms of sums over units that cost less than going to memory for the results


def units_at_once(units: int, terms: int) -> int:
    """Units to take at a time, so that what is between two sums stays in L1."""
    if terms > FEW:
        return units
    return next((rows for rows in (16, 8, 4) if units % rows == 0), units)


def small_forward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """z[u, i] = Σ_j W[j, u]·h_below[j, i], then + b and the activation; some units at a time."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    n, z_at, units = place.layer.fan_in, place.z, place.layer.fan_out
    h_at, pitch, transposes = under.z, under.by_example, not under.examples_contiguous
    transpose = transposing(ctx.batch, n, ctx.longest)
    w = Matrix(place.w, place.by_input, place.by_output)
    h = Matrix(0 if transposes else h_at, examples, 0)
    rows, plan = units_at_once(units, n), place.forward_plan
    total = products(ctx.unit_sums, n, rows, examples, w, h, plan, examples)
    activate = activation_forward(ctx, layout, place, rows)

    @inlined
    def kernel(m, x, first, rate, t):
        if transposes:
            transpose(m.h, h_at, pitch, m.transposed, 0, examples)
        h = m.transposed if transposes else m.h
        for u in range(0, units, rows):
            total(m, m.unit_plans, m.w, h, m.z, z_at + u * examples, u, t)
            activate(m, u, u, t)

    return kernel


def small_backward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """δ_below[j, i] = (Σ_u W[j, u]·δ[u, i])·A'(z_below[j, i]); some inputs j at a time."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    n, inputs, d_at = place.layer.fan_out, place.layer.fan_in, under.z
    w, d = Matrix(place.w, place.by_output, place.by_input), Matrix(place.z, examples, 0)
    rows, plan = units_at_once(inputs, n), place.backward_plan
    total = products(ctx.unit_sums, n, rows, examples, w, d, plan, examples)
    multiply = activation_backward(ctx, layout, under, rows)

    @inlined
    def kernel(m, x, first, rate, t):
        for j in range(0, inputs, rows):
            total(m, m.unit_plans, m.w, m.d, m.d, d_at + j * examples, j, t)
            multiply(m, j, t)

    return kernel


def small_backward_transposed(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The same over a layer whose units are contiguous: Σ_u W[j, u]·δ[u, i] is transposed."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    n, inputs, d_at = place.layer.fan_out, place.layer.fan_in, under.z
    w, d = Matrix(place.w, place.by_output, place.by_input), Matrix(place.z, examples, 0)
    rows, plan, pitch = units_at_once(inputs, n), place.backward_plan, under.by_example
    total = products(ctx.unit_sums, n, rows, examples, w, d, plan, examples)
    transpose = transposing(inputs, ctx.batch, ctx.longest)
    multiply = activation_backward(ctx, layout, under, ctx.batch)

    @inlined
    def kernel(m, x, first, rate, t):
        for j in range(0, inputs, rows):
            total(m, m.unit_plans, m.w, m.d, m.transposed, j * examples, j, t)
        transpose(m.transposed, 0, examples, m.d, d_at, pitch)
        multiply(m, 0, t)

    return kernel


def small_backward_along_inputs(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The same with vectors along the inputs: δ_below[i, j], an example's inputs contiguous."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    d, w = Matrix(place.z, examples, 1), Matrix(place.w, place.by_output, 0)
    n, width, plan = place.layer.fan_out, place.by_output, place.backward_plan
    total = products(ctx.unit_sums, n, ctx.batch, width, d, w, plan, under.by_example)
    multiply, d_at = activation_backward(ctx, layout, under, ctx.batch), under.z

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.unit_plans, m.d, m.w, m.d, d_at, 0, t)
        multiply(m, 0, t)

    return kernel


def some_vectors(n: int, longest: int) -> int:
    """Of n contiguous numbers as many as are transposed at a time, a divisor."""
    return 4 * longest if n % (4 * longest) == 0 else n


def gradients_along_inputs(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i h_below[j, i]·δ[u, i], vectors along j; h is transposed, some j at a time."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    pitch, w_at, h_at = place.by_output, place.w, under.z
    step = some_vectors(pitch, ctx.longest)
    transpose = transposing(step, examples, ctx.longest)
    d, h = Matrix(place.z, 1, examples), Matrix(0, step, 0)
    total = products(ctx.batch_sums, ctx.batch, place.layer.fan_out, step, d, h, 0, pitch)

    @inlined
    def kernel(m, x, first, rate, t):
        for j in range(0, pitch, step):
            transpose(m.h, h_at + j * examples, examples, m.scratch, 0, step)
            total(m, m.plan, m.d, m.scratch, m.g, w_at + j, 0, t)

    return kernel


def gradients_over_units(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """The same over a layer whose units are contiguous: h_below[i, j] lies as it should."""
    place, under, examples = layout[k], layout[k - 1], layout.examples
    pitch, w_at = place.by_output, place.w
    d, h = Matrix(place.z, 1, examples), Matrix(under.z, under.by_example, 0)
    total = products(ctx.batch_sums, ctx.batch, place.layer.fan_out, pitch, d, h, 0, pitch)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.d, m.h, m.g, w_at, 0, t)

    return kernel


def gradients_of_rows(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i h_below[j, i]·δ[i, u], vectors along u; δ is in the table's rows."""
    place, width = layout[k], layout.table_width
    return _along_units(ctx, layout, k, "delta_rows", Matrix(place.column, width, 0))


def gradients_of_one_unit(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j] = Σ_i h_below[j, i]·δ[i] of a layer of one unit."""
    return _along_units(ctx, layout, k, "d", Matrix(layout[k].z, 1, 0))


def _along_units(ctx: KernelContext, layout: Layout, k: int, name: str, d: Matrix) -> Callable:
    place, under = layout[k], layout[k - 1]
    w_at, pitch, n, rows = place.w, place.by_input, place.layer.fan_in, name == "delta_rows"
    h = Matrix(under.z, under.by_example, under.by_unit)
    total = products(ctx.batch_sums, ctx.batch, n, pitch, h, d, 0, pitch)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.h, m.delta_rows if rows else m.d, m.g, w_at, 0, t)

    return kernel


def gradients_of_many_units(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_W[j, u] = Σ_i h_below[j, i]·δ[u, i] and g_b[u] = Σ_i δ[u, i], vectors along u.

    δ is transposed, some units at a time.
    """
    place, under, examples = layout[k], layout[k - 1], layout.examples
    w_at, b_at, d_at, pitch = place.w, place.b, place.z, place.by_input
    batch, sums, step = ctx.batch, ctx.batch_sums, some_vectors(place.by_input, ctx.longest)
    transpose = transposing(step, examples, ctx.longest)
    h, d = Matrix(under.z, under.by_example, under.by_unit), Matrix(0, step, 0)
    weights = products(sums, batch, place.layer.fan_in, step, h, d, 0, pitch)
    biases = products(sums, batch, 1, step, Matrix(0, 0, 0), d, 0, 0)

    @inlined
    def kernel(m, x, first, rate, t):
        for u in range(0, pitch, step):
            transpose(m.d, d_at + u * examples, examples, m.scratch, 0, step)
            weights(m, m.plan, m.h, m.scratch, m.g, w_at + u, 0, t)
            biases(m, m.plan, m.constants, m.scratch, m.bias_gradients, b_at + u, 0, t)

    return kernel


def small_bias_gradients(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """g_b[u] = Σ_i δ[u, i]·1."""
    place, b_at, units = layout[k], layout[k].b, layout[k].layer.fan_out
    d = Matrix(place.z, 1, layout.examples)
    total = products(ctx.batch_sums, ctx.batch, units, 1, d, Matrix(0, 0, 0), 0, 1)

    @inlined
    def kernel(m, x, first, rate, t):
        total(m, m.plan, m.d, m.constants, m.bias_gradients, b_at, 0, t)

    return kernel


# When they apply


def over_units(ctx: KernelContext, k: int) -> bool:
    """Small, over a layer whose units are contiguous."""
    return small(ctx, k) and not examples_contiguous(ctx, k - 1)


def along_inputs_at_once(ctx: KernelContext, k: int) -> bool:
    tiled = ctx.unit_sums.tiled(ctx.net[k].fan_out)
    return over_units(ctx, k) and inputs_contiguous(ctx, k) and tiled


def many_along_inputs(ctx: KernelContext, k: int) -> bool:
    return small(ctx, k) and not few_units(ctx, k) and inputs_contiguous(ctx, k)


# What they want


def as_examples(ctx: KernelContext, k: int) -> dict[int, Form]:
    return {k: Form.EXAMPLES_CONTIGUOUS}


def along_inputs(ctx: KernelContext, k: int) -> dict[int, Form]:
    return {k: Form.INPUTS_CONTIGUOUS}


def in_table(ctx: KernelContext, k: int) -> dict[int, Form]:
    return dict.fromkeys(table_layers(ctx), Form.TABLE)


def transposed_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    over_units = not layout[k - 1].examples_contiguous
    return {"transposed": layout[k].layer.fan_in * layout.examples * over_units}


def gradients_room(ctx: KernelContext, layout: Layout, k: int) -> dict[str, int]:
    place = layout[k]
    n = place.by_output if place.inputs_contiguous else place.by_input
    return {"scratch": some_vectors(n, ctx.longest) * layout.examples}


SMALL = "a layer above the first of at most 4096 weights"
KERNELS = (
    Kernel(
        name="small_forward",
        carries={Equation.FORWARD: own},
        condition=SMALL,
        applies=small,
        reads=("w", "h"),
        writes=("z", "h", "transposed"),
        build=small_forward,
        work=forward_work,
        forms=as_examples,
        phase=Phase.FORWARD,
        room=transposed_room,
        examples=({"hidden": "40,3"}, {"hidden": "20,5", "unit_tree": "pairwise"}),
    ),
    Kernel(
        name="small_backward_along_inputs",
        carries={Equation.BACKWARD: own},
        condition=SMALL + ", over one whose units are contiguous; its weights lie along its inputs,"
        " and its sums over units stay in registers",
        applies=along_inputs_at_once,
        reads=("w", "z", "d"),
        writes=("d",),
        build=small_backward_along_inputs,
        work=backward_work,
        forms=along_inputs,
        phase=Phase.BACKWARD,
        examples=({"hidden": "40,3"}, {"hidden": "33,2", "optimizer": "sgd"}),
    ),
    Kernel(
        name="small_backward_transposed",
        carries={Equation.BACKWARD: own},
        condition=SMALL + ", over one whose units are contiguous",
        applies=over_units,
        reads=("w", "z", "d"),
        writes=("d", "transposed"),
        build=small_backward_transposed,
        work=backward_work,
        forms=as_examples,
        phase=Phase.BACKWARD,
        room=transposed_room,
        examples=({"hidden": "17,40"}, {"hidden": "33,2", "unit_accumulator": "kahan"}),
    ),
    Kernel(
        name="small_backward",
        carries={Equation.BACKWARD: own},
        condition=SMALL,
        applies=small,
        reads=("w", "z", "d"),
        writes=("d",),
        build=small_backward,
        work=backward_work,
        forms=as_examples,
        phase=Phase.BACKWARD,
        examples=({"hidden": "6,3"}, {"hidden": "3,6", "unit_tree": "lanes:3"}),
    ),
    Kernel(
        name="gradients_over_units",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition=SMALL + ", over one whose units are contiguous, its weights along its inputs",
        applies=lambda ctx, k: over_units(ctx, k) and inputs_contiguous(ctx, k),
        reads=("h", "d"),
        writes=("g",),
        build=gradients_over_units,
        work=gradient_work,
        forms=along_inputs,
        phase=Phase.GRADIENTS,
        examples=({"hidden": "40,3"}, {"hidden": "40,3", "tree": "random"}),
    ),
    Kernel(
        name="gradients_along_inputs",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition=SMALL + " with fewer vectors along its inputs than its units",
        applies=inputs_contiguous,
        reads=("h", "d"),
        writes=("g", "scratch"),
        build=gradients_along_inputs,
        work=gradient_work,
        forms=along_inputs,
        phase=Phase.GRADIENTS,
        room=gradients_room,
        examples=({"hidden": "17,40"},),
    ),
    Kernel(
        name="gradients_of_many_units",
        carries={Equation.WEIGHT_GRADIENT: own, Equation.BIAS_GRADIENT: own},
        condition=SMALL + " and at least a vector of units",
        applies=lambda ctx, k: small(ctx, k) and not few_units(ctx, k),
        reads=("h", "d", "constants"),
        writes=("g", "scratch"),
        build=gradients_of_many_units,
        work=gradient_work,
        phase=Phase.GRADIENTS,
        room=gradients_room,
        examples=({"hidden": "5,40"}, {"hidden": "17,33,1", "accumulator": "wide"}),
    ),
    Kernel(
        name="gradients_of_rows",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition=SMALL + " and of less than a vector of units, but more than one",
        applies=lambda ctx, k: small(ctx, k) and ctx.net[k].fan_out > 1,
        reads=("h", "delta_rows"),
        writes=("g",),
        build=gradients_of_rows,
        work=gradient_work,
        forms=in_table,
        phase=Phase.GRADIENTS,
        examples=({"hidden": "6,3", "accumulator": "kahan"},),
    ),
    Kernel(
        name="gradients_of_one_unit",
        carries={Equation.WEIGHT_GRADIENT: own},
        condition=SMALL + " and of one unit",
        applies=small,
        reads=("h", "d"),
        writes=("g",),
        build=gradients_of_one_unit,
        work=gradient_work,
        forms=as_examples,
        phase=Phase.GRADIENTS,
        examples=({"hidden": "17,33,1", "accumulator": "wide"},),
    ),
    Kernel(
        name="small_bias_gradients",
        carries={Equation.BIAS_GRADIENT: own},
        condition=SMALL + " and of at least a vector of units, its weights along its inputs",
        applies=many_along_inputs,
        reads=("d", "constants"),
        writes=("g",),
        build=small_bias_gradients,
        work=bias_work,
        phase=Phase.BIASES,
        examples=({"hidden": "60,20,3"}, {"hidden": "12,33", "batch": 5}),
    ),
)
