"""The stages of the small layers above the first: the examples lie side by side."""

from collections.abc import Callable

from nanorepro.backends.numba.kernels.step import (
    Kit,
    activated,
    bent,
    few_units,
    some_vectors,
    transposed,
)
from nanorepro.backends.numba.layout import Map, Place
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.sums.products import Matrix, products


def across_forward(kit: Kit, place: Place, under: Place) -> Callable:
    """`dense_forward`, the examples side by side."""
    n, examples, z_at, units = place.layer.fan_in, kit.examples, place.z, place.layer.fan_out
    turn = transposed(kit.batch, n, kit.longest)
    h_at, pitch, turning = under.z, under.by_example, not under.across
    left = Matrix(place.w, place.by_input, place.by_output)
    right = Matrix(0 if turning else h_at, examples, 0)
    rows = few_units(units, n)
    total = products(kit.unit_sums, n, rows, examples, left, right, place.up, examples)
    finish = activated(kit, place, rows)

    @inlined
    def stage(m, x, first, rate, t):
        if turning:
            turn(m.h, h_at, pitch, m.turned, 0, examples)
        h = m.turned if turning else m.h
        for u in range(0, units, rows):
            total(m, m.units, m.w, h, m.z, z_at + u * examples, u, t)
            finish(m, u, u, t)

    return stage


def across_backward(kit: Kit, place: Place, under: Place) -> Callable:
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j]), the examples side by side."""
    n, examples, inputs = place.layer.fan_out, kit.examples, place.layer.fan_in
    left, right = Matrix(place.w, place.by_output, place.by_input), Matrix(place.z, examples, 0)
    turning, d_at, pitch = not under.across, under.z, under.by_example
    to = 0 if turning else d_at
    rows = few_units(inputs, n)
    total = products(kit.unit_sums, n, rows, examples, left, right, place.down, examples)
    turn = transposed(inputs, kit.batch, kit.longest)
    bend = bent(kit, under, kit.batch if turning else rows)
    # with the weights along the inputs an example's δ below are side by side at once
    if turning and place.by_output > 1 and kit.unit_sums.tiled(n):
        left, right = Matrix(place.z, examples, 1), Matrix(place.w, place.by_output, 0)
        width = place.by_output
        total = products(kit.unit_sums, n, kit.batch, width, left, right, place.down, pitch)

        @inlined
        def by_examples(m, x, first, rate, t):
            total(m, m.units, m.d, m.w, m.d, d_at, 0, t)
            bend(m, 0, t)

        return by_examples

    @inlined
    def stage(m, x, first, rate, t):
        d = m.turned if turning else m.d
        for j in range(0, inputs, rows):
            total(m, m.units, m.w, m.d, d, to + j * examples, j, t)
            if not turning:
                bend(m, j, t)
        if turning:
            turn(m.turned, 0, examples, m.d, d_at, pitch)
            bend(m, 0, t)

    return stage


def across_gradients(kit: Kit, place: Place, under: Place, chart: Map) -> Callable:
    """The gradient by W[j, u], Σ_i h[i, j]·δ[i, u], for an update later; of many units by b, too.

    What has to lie side by side, inputs or units, is turned round a few vectors at a time.
    """
    w_at, b_at, sums, batch, layer = place.w, place.b, kit.batch_sums, kit.batch, place.layer
    examples = kit.examples
    if place.by_output > 1:
        pitch, left = place.by_output, Matrix(place.z, 1, examples)
        if under.across:
            step, at = some_vectors(pitch, kit.longest), under.z
            turn = transposed(step, examples, kit.longest)
            right = Matrix(0, step, 0)
            total = products(sums, batch, layer.fan_out, step, left, right, 0, pitch)

            @inlined
            def stage(m, x, first, rate, t):
                for j in range(0, pitch, step):
                    turn(m.h, at + j * examples, examples, m.back, 0, step)
                    total(m, m.plan, m.d, m.back, m.g, w_at + j, 0, t)

        else:
            right = Matrix(under.z, under.by_example, 0)
            total = products(sums, batch, layer.fan_out, pitch, left, right, 0, pitch)

            @inlined
            def stage(m, x, first, rate, t):
                total(m, m.plan, m.d, m.h, m.g, w_at, 0, t)

        return stage

    pitch, left = place.by_input, Matrix(under.z, under.by_example, under.by_unit)
    if place.column < 0:
        step, at = some_vectors(pitch, kit.longest), place.z
        turn = transposed(step, examples, kit.longest)
        right = Matrix(0, step, 0)
        total = products(sums, batch, layer.fan_in, step, left, right, 0, pitch)
        bias = products(sums, batch, 1, step, Matrix(0, 0, 0), right, 0, 0)

        @inlined
        def stage(m, x, first, rate, t):
            for u in range(0, pitch, step):
                turn(m.d, at + u * examples, examples, m.back, 0, step)
                total(m, m.plan, m.h, m.back, m.g, w_at + u, 0, t)
                bias(m, m.plan, m.one, m.back, m.g, b_at + u, 0, t)

    else:
        in_rows = layer.fan_out > 1
        right = Matrix(place.column, chart.width, 0) if in_rows else Matrix(place.z, 1, 0)
        total = products(sums, batch, layer.fan_in, pitch, left, right, 0, pitch)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.h, m.rows if in_rows else m.d, m.g, w_at, 0, t)

    return stage
