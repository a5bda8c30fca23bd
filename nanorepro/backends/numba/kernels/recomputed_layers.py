"""The stages of a layer of many units between few inputs and few outputs, as in the wide model.

Its z, h and δ are never in memory: they are computed in registers, on the way forward, and twice on
the way back: with the examples side by side for the sums over its units, with the units side by
side for the sums over the mini-batch.  The wide model's step went from 550 to 370 ns an example.
Of a ReLU's z the first way back needs only whether they are positive: a bit each (235 → 212 ns).
"""

from collections.abc import Callable

from nanorepro.backends.numba.kernels.step import Kit, activated, apply_gradients, bent
from nanorepro.backends.numba.layout import Place
from nanorepro.backends.numba.llvm.simd import ballot, fill, inlined, load, mask_of, store, where
from nanorepro.backends.numba.llvm.tiles import (
    add_tile,
    chained,
    fill_tile,
    load_tile,
    outer,
    store_tile,
)
from nanorepro.backends.numba.sums.by_plan import in_tree, lanes_of

ONE = lanes_of(1)


def at_once(kit: Kit) -> int:
    """Examples side by side: two vectors, where that ends with the last ones."""
    return min(2 * kit.longest, kit.examples & -kit.examples)


def signs_of(kit: Kit, place: Place) -> tuple[bool, int, int]:
    """Whether h and z are kept as bits in m.on, where from on, and words for each unit."""
    return kit.zeros and at_once(kit) == 32, place.on, kit.examples // 32


def passing_forward(kit: Kit, place: Place, under: Place, over: Place) -> Callable:
    """`across_forward` of the layer and of the one over it: z_over = Σ_u W_over[u]·A(z[u])."""
    examples, units, step = kit.examples, place.layer.fan_out, at_once(kit)
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add, value = lanes_of(step), kit.ops.const(0.0), kit.ops.add, kit.value
    w_at, b_at, h_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_unit, by_output = over.w, over.z, over.by_input, over.by_output
    finish, signs, on, words = activated(kit, over, over.layer.fan_out), *signs_of(kit, place)

    @inlined
    def stage(m, x, first, rate, t):
        nothing = fill(zero, lanes)
        for i in range(0, examples, step):
            h_under = load_tile(m.h, h_at + i, examples, lanes, inputs, ONE)
            acc = fill_tile(zero, lanes, outputs, ONE)
            for u in range(units):
                z = chained(nothing, m.w, w_at + u, by_input, h_under)
                h = value(add(z, fill(m.w[b_at + u], lanes), t), t)
                if signs:
                    m.on[on + u * words + i // 32] = ballot(h)
                acc = outer(acc, m.w, over_at + u * by_unit, by_output, (h,), outputs)
            store_tile(acc, m.z, over_z + i, examples, outputs, ONE)
        finish(m, 0, 0, t)

    return stage


def passing_backward(kit: Kit, place: Place, under: Place, over: Place) -> Callable:
    """`across_backward` of the layer: δ_under = (Σ_u W[u]·δ[u])·A'(z_under)."""
    examples, units, step = kit.examples, place.layer.fan_out, at_once(kit)
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add = lanes_of(step), kit.ops.const(0.0), kit.ops.add
    w_at, b_at, under_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_unit, by_output = over.w, over.z, over.by_input, over.by_output
    backward, bend = kit.backward, bent(kit, under, place.layer.fan_in)
    one, (signs, on, words) = kit.ops.const(1.0), signs_of(kit, place)

    @inlined
    def stage(m, x, first, rate, t):
        nothing = fill(zero, lanes)
        for i in range(0, examples, step):
            h_under = load_tile(m.h, under_at + i, examples, lanes, inputs, ONE)
            d_over = load_tile(m.d, over_z + i, examples, lanes, outputs, ONE)
            acc = fill_tile(zero, lanes, inputs, ONE)
            for u in range(units):
                if signs:  # any z of this sign
                    positive = mask_of(m.on[on + u * words + i // 32])
                    z = where(positive, fill(one, lanes), nothing)
                else:
                    z = chained(nothing, m.w, w_at + u, by_input, h_under)
                    z = add(z, fill(m.w[b_at + u], lanes), t)
                back = chained(nothing, m.w, over_at + u * by_unit, by_output, d_over)
                d = backward(back, z, t)
                acc = outer(acc, m.w, w_at + u, by_input, (d,), inputs)
            store_tile(acc, m.d, under_at + i, examples, inputs, ONE)
        bend(m, 0, t)

    return stage


def passing_update(kit: Kit, place: Place, under: Place, over: Place) -> Callable:
    """`across_gradients` of the layer, by its biases too, and of the one over it; their update.

    The gradients of one vector of units are applied while those of the next are summed: divisions
    and roots run beside products (220 → 184 ns).
    """
    examples, units, step = kit.examples, place.width, kit.longest
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add = lanes_of(step), kit.ops.const(0.0), kit.ops.add
    w_at, b_at, under_at, by_input = place.w, place.b, under.z, place.by_input
    over_at, over_z, by_output = over.w, over.z, over.by_output
    value, backward, batch, apply = kit.value, kit.backward, kit.batch, apply_gradients(kit, step)
    # weights, biases and the weights over them are one table of so many rows
    rows = place.layer.fan_in + 1 + over.layer.fan_out
    assert b_at == w_at + (rows - 1 - over.layer.fan_out) * by_input
    assert over_at == b_at + by_input and over.by_output == by_input
    every = max(1, 1 << ((batch // rows).bit_length() - 1))

    @inlined
    def chain(i0, stride, count, p):
        m, weights, bias, above, at, limit, rate, t = p
        nothing = fill(zero, lanes)
        by_w, by_b = fill_tile(zero, lanes, inputs, ONE), nothing
        by_above = fill_tile(zero, lanes, outputs, ONE)
        for k in range(count):
            i = i0 + k * stride
            z = add(chained(nothing, m.h, under_at + i, examples, weights), bias, t)
            back = chained(nothing, m.d, over_z + i, examples, above)
            d = backward(back, z, t)
            by_w = outer(by_w, m.h, under_at + i, examples, (d,), inputs)
            by_b = add(by_b, d, t)
            by_above = outer(by_above, m.d, over_z + i, examples, (value(z, t),), outputs)
            if i % every == 0 and i < limit:
                w = at + i // every * by_input
                apply(m, w, w, rate, t)
        return by_w, by_b, by_above

    @inlined
    def join(a, b):
        return add_tile(a[0], b[0]), a[1] + b[1], add_tile(a[2], b[2])

    total = in_tree(kit.batch_sums.tree, batch, chain, join)

    @inlined
    def stage(m, x, first, rate, t):
        for u in range(0, units, step):
            weights = load_tile(m.w, w_at + u, by_input, lanes, inputs, ONE)
            above = load_tile(m.w, over_at + u, by_output, lanes, outputs, ONE)
            limit = rows * every if u else 0
            p = (m, weights, load(m.w, b_at + u, lanes), above, w_at + u - step, limit, rate, t)
            by_w, by_b, by_above = total(0, 1, batch, p)
            store_tile(by_w, m.g, w_at + u, by_input, inputs, ONE)
            store(m.g, b_at + u, by_b)
            store_tile(by_above, m.g, over_at + u, by_output, outputs, ONE)
        for q in range(rows):
            w = w_at + q * by_input + units - step
            apply(m, w, w, rate, t)

    return stage
