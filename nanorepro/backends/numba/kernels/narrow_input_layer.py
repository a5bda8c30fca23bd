"""The stages of a first layer of a few units, whose weights lie along the features.

A step of a small model is one long chain: no sum waits for throughput, each for the sum before.
So what is added lies in registers from the forward sums to the update, sums that do not depend on
each other are taken in one loop, and nothing is read as a vector that was written number by number:
such a read waits until all of them are in the cache.  The linear model's step went from 3.4 to 1.9
ns an example, the double's from 5.4 to 2.8.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.kernels.input_layer import THIRTY_TWO, some_features
from nanorepro.backends.numba.kernels.step import Kit, activated, apply_gradients, state_access
from nanorepro.backends.numba.layout import Map, Place
from nanorepro.backends.numba.llvm.simd import (
    fill,
    inlined,
    mask_of,
    store,
    trailing_zeros,
    united,
    where,
)
from nanorepro.backends.numba.llvm.tiles import (
    add_present,
    add_tile,
    fill_tile,
    in_line,
    load_tile,
    outer,
    store_rows,
    store_tile,
)
from nanorepro.backends.numba.sums.by_plan import Sums, in_tree, lanes_of, total_of

ONE = lanes_of(1)


def masked_terms(sums: Sums, n: int, p0: int) -> Callable:
    """A function that gives 32 sums of n numbers at once, each with terms of its own.

    masked(m, plan, numbers, at, stride, masks, word, step, out, to, t): the k-th number is
    numbers[at + k·stride], and a term of those sums whose bits are set in masks[word + k·step];
    the sums go to out[to], ..., out[to + 31].
    No branch depends on the data: the linear model's training went from 15.4 to 7.6 ns an example.
    """
    lanes = THIRTY_TWO

    def make_join(product, term):
        @inlined
        def join(m, state, k, at, word, numbers, masks, t):
            joined = term(state, fill(numbers[at[0] + k * at[1]], lanes), t)
            return choose(mask_of(masks[word[0] + k * word[1]]), joined, state)

        return join

    if sums.accumulator == "kahan":

        @inlined
        def choose(mask, a, b):
            return (where(mask, a[0], b[0]), where(mask, a[1], b[1]))

    else:

        @inlined
        def choose(mask, a, b):
            return (where(mask, a[0], b[0]),)

    total = total_of(sums, n, lanes, p0, False, make_join, None)

    @inlined
    def masked(m, plan, numbers, at, stride, masks, word, step, out, to, t):
        store(out, to, total(m, plan, (at, stride), (word, step), numbers, masks, t))

    return masked


def narrow_forward(kit: Kit, place: Place) -> Callable:
    """`first_forward` for a few units: 32 examples at a time."""
    layer, blocks, units = place.layer, -(-kit.batch // 32), place.layer.fan_out
    n, w_at, by_unit, z_at = layer.fan_in // layer.sets, place.w, place.by_output, place.z
    row, examples, finish = layer.row, kit.examples, activated(kit, place, units)
    total = masked_terms(kit.unit_sums, n, place.up)

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for u in range(units):
                j = u // row * n
                at, word = w_at + u * by_unit + j, j * blocks + block
                to = z_at + u * examples + 32 * block
                total(m, m.units, m.w, at, 1, m.columns, word, blocks, m.z, to, t)
        finish(m, 0, 0, t)

    return stage


def narrow_present_forward(kit: Kit, place: Place) -> Callable:
    """`present_forward` for a few units, which finds the features, too: each is read but once."""
    layer, blocks, w_at, z_at = place.layer, -(-kit.batch // 32), place.w, place.z
    n, sets, units, examples = layer.fan_in // layer.sets, layer.sets, layer.row, kit.examples
    by_unit, by_set = place.by_output, units * place.by_output
    tall, lanes, wide = lanes_of(units), lanes_of(kit.longest), lanes_of(32 // kit.longest)
    zero, features = kit.ops.const(0.0), some_features(kit)
    finish = activated(kit, place, layer.fan_out)

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for part in range(sets):
                acc = fill_tile(zero, lanes, tall, wide)
                low, high = part * n, part * n + n
                for word in range(low >> 5, (high + 31) >> 5):
                    v = features(m, x, first, block, word)
                    found = np.uint32(united(v))
                    if sets > 1:
                        begin, end = max(low - 32 * word, 0), min(high - 32 * word, 32)
                        found &= np.uint32((1 << end) - (1 << begin))
                    at = w_at + part * by_set + 32 * word
                    while found != 0:
                        j = np.int64(trailing_zeros(found))
                        who = v & (np.uint32(1) << np.uint32(j)) != np.uint32(0)
                        acc = add_present(acc, m.w, at + j, by_unit, who, tall, wide)
                        found &= found - np.uint32(1)
                to = z_at + part * units * examples + 32 * block
                store_tile(acc, m.z, to, examples, tall, wide)
        finish(m, 0, 0, t)

    return stage


def narrow_update(kit: Kit, place: Place) -> Callable:
    """`first_update` for a few units: 32 features at a time.

    Embeddings: of all features, those of the other sets, too, whose weights nothing reads.
    """
    words, units, by_unit, examples = kit.words, place.layer.fan_out, place.by_output, kit.examples
    w_at, d_at = place.w, place.z
    total = masked_terms(kit.batch_sums, kit.batch, 0)
    apply = apply_gradients(kit, place.weights)

    @inlined
    def stage(m, x, first, rate, t):
        for word in range(words):
            for u in range(units):
                at, to = d_at + u * examples, w_at + u * by_unit + 32 * word
                total(m, m.plan, m.d, at, 1, x, first * words + word, words, m.g, to, t)
        apply(m, w_at, w_at, rate, t)

    return stage


def narrow_tiled_update(
    kit: Kit, place: Place, chart: Map, beside: bool, over: Place | None
) -> Callable:
    """`narrow_update` of sums in registers; in the same loop, those that are a number each.

    `beside`: `few_bias_sums` (linear, 2.3 → 1.9 ns); `over`: `across_gradients` of the layer above,
    which has one unit (double, 3.4 → 2.8 ns).
    """
    words, units, by_unit, examples = kit.words, place.layer.fan_out, place.by_output, kit.examples
    w_at, d_at, batch, update = place.w, place.z, kit.batch, kit.update
    tall, lanes, wide = lanes_of(units), lanes_of(kit.longest), lanes_of(32 // kit.longest)
    zero, whole, upper = kit.ops.const(0.0), lanes_of(32 * units), over is not None
    few, above = lanes_of(beside * chart.units), lanes_of(over.layer.fan_in if over else 0)
    b_at, over_w, over_d = chart.biases, over.w if over else 0, over.z if over else 0

    @inlined
    def chain(i0, stride, count, p):
        m, x, at = p
        acc = fill_tile(zero, lanes, tall, wide)
        by_b, by_w = fill_tile(zero, ONE, few, ONE), fill_tile(zero, ONE, above, ONE)
        for k in range(count):
            i = i0 + k * stride
            present = mask_of(x[at + i * words])
            acc = add_present(acc, m.d, d_at + i, examples, present, tall, wide)
            by_b = add_tile(by_b, load_tile(m.d, i, examples, ONE, few, ONE))
            d_over = load_tile(m.d, over_d + i, 0, ONE, ONE, ONE)
            by_w = outer(by_w, m.h, d_at + i, examples, d_over, above)
        return acc, by_b, by_w

    @inlined
    def join(a, b):
        return add_tile(a[0], b[0]), add_tile(a[1], b[1]), add_tile(a[2], b[2])

    total = in_tree(kit.batch_sums.tree, batch, chain, join)

    @inlined
    def read(array, at):
        return in_line(load_tile(array, at, by_unit, lanes, tall, wide), whole)

    @inlined
    def write(array, at, vector):
        store_rows(vector, array, at, by_unit, tall)

    get_state, put_state = state_access(kit, read, write)

    @inlined
    def stage(m, x, first, rate, t):
        for word in range(words):
            at = w_at + 32 * word
            acc, by_b, by_w = total(0, 1, batch, (m, x, first * words + word))
            w = in_line(load_tile(m.w, at, by_unit, lanes, tall, wide), whole)
            w, state = update(w, get_state(m, at), in_line(acc, whole), fill(rate, whole), t)
            store_rows(w, m.w, at, by_unit, tall)
            put_state(m, at, state)
            # whole vectors, as `update_small` reads them: 2.9 → 2.5 ns
            if beside:
                store(m.g, b_at, in_line(by_b, lanes))
            if upper:
                store(m.g, over_w, in_line(by_w, lanes))

    return stage
