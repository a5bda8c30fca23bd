"""The stages of a training step, compiled: equations 4 to 6, back-propagation and the update.

A stage is a function (m, x, first, rate, t), made by a factory below for fixed widths, activation,
optimizer and dials: m the memory, x (n, words) the packed examples, `first` the index of the
mini-batch's first, `rate` the learning rate and t what stochastic rounding draws from.  Vectors lie
across outputs (units, inputs or examples), never across the terms of a sum, so each sum keeps the
order of its plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from nanorepro.arithmetic import Operations
from nanorepro.backends.layout import Map, Place, flat_lanes, round_up
from nanorepro.backends.numba_sums import (
    TILES,
    Matrix,
    Sums,
    lanes_of,
    masked_terms,
    products,
    terms,
)
from nanorepro.backends.simd import (
    ballot,
    fill,
    inlined,
    load,
    store,
    trailing_zeros,
    united,
)
from nanorepro.backends.tiles import add_present, fill_tile, store_tile, transpose

THIRTY_TWO = lanes_of(32)
FEW = 64  # terms of sums over units that cost less than going to memory for the results


@dataclass(frozen=True)
class Kit:
    """What the factories share: sizes, the dials' sums, and the formulas as compiled functions."""

    batch: int
    examples: int  # the same, padded to whole vectors
    words: int
    longest: int
    ops: Operations
    batch_sums: Sums
    unit_sums: Sums
    value: Callable
    slope: Callable
    sigmoid: Callable
    update: Callable
    skip_unchanged: bool  # a zero gradient leaves weight and state as they are


def sequence(stages):
    """One stage that carries out the given ones in order.

    Six at a time: each further level costs another pass of the compiler over all below it.
    """
    if len(stages) > 6:
        size = -(-len(stages) // 6)
        return sequence([sequence(stages[k : k + size]) for k in range(0, len(stages), size)])

    s0, s1, s2, s3, s4, s5 = (*stages, *[nothing] * (6 - len(stages)))

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


def find_features(kit: Kit, place: Place) -> Callable:
    """m.columns: the examples of every feature, a bit each; m.found: the features found."""
    batch, words, blocks = kit.batch, kit.words, -(-kit.batch // 32)
    whole = words == 1 and batch % 32 == 0  # the words lie side by side

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            at = (first + 32 * block) * words
            for word in range(words):
                if whole:
                    v = load(x, at, THIRTY_TWO)
                else:
                    n = min(32, batch - 32 * block)
                    for i in range(n):
                        m.word[i] = x[at + i * words + word]
                    for i in range(n, 32):  # not those of the block before
                        m.word[i] = np.uint32(0)
                    v = load(m.word, 0, THIRTY_TWO)
                m.found[block * words + word] = united(v)
                for j in range(32):
                    bit = np.uint32(1) << np.uint32(j)
                    m.columns[(32 * word + j) * blocks + block] = ballot(v & bit)

    return stage


def first_forward(kit: Kit, place: Place) -> Callable:
    """z = Σ_j W[j] over the features present; embeddings: one sum for each set (section 5).

    Then the activation, while the example's units are in the nearest cache.
    """
    layer, batch, words, sets = place.layer, kit.batch, kit.words, place.layer.sets
    row, pitch, w_at, z_at = place.row, place.by_example, place.w, place.z
    n = layer.fan_in // sets
    whole, rest = n // 32, np.uint32((1 << (n % 32)) - 1)
    total, finish = terms(kit.unit_sums, n, row, row, place.up), activated(kit, place, 1)

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(batch):
            for part in range(sets):
                # the bits of the set's features, from bit 0 on
                word, shift = part * n // 32, np.uint32(part * n % 32)
                for k in range(words - word):
                    v = x[(first + i) * words + word + k] >> shift
                    if shift != 0 and word + k + 1 < words:
                        v |= x[(first + i) * words + word + k + 1] << (np.uint32(32) - shift)
                    m.present[k] = v
                if sets > 1 and rest != 0:
                    m.present[whole] &= rest
                at = w_at + part * n * row
                out = z_at + i * pitch + part * row
                total(m, m.units, m.w, at, m.present, 0, m.z, out, t)
            finish(m, i, t)

    return stage


def present_forward(kit: Kit, place: Place) -> Callable:
    """`first_forward`, 32 examples side by side, for the features that any of them has.

    No branch depends on a single example: the tower's step went from 31 to 27 ns an example.
    """
    layer, row, words, blocks = place.layer, place.row, kit.words, -(-kit.batch // 32)
    n, sets, units, w_at, z_at = layer.fan_in // layer.sets, layer.sets, layer.row, place.w, place.z
    lanes, examples, zero = lanes_of(kit.longest), kit.examples, kit.ops.const(0.0)
    wide = lanes_of(32 // kit.longest)
    by_rows = min(TILES[len(wide)], units)
    full = units - units % by_rows
    finish = activated(kit, place, layer.fan_out)

    def tile_of(rows: int) -> Callable:
        tall = lanes_of(rows)

        @inlined
        def tile(m, block, part, u):
            acc = fill_tile(zero, lanes, tall, wide)
            low, high = part * n, part * n + n
            for word in range(low >> 5, (high + 31) >> 5):
                v = m.found[block * words + word]
                if sets > 1:
                    begin, end = max(low - 32 * word, 0), min(high - 32 * word, 32)
                    v &= np.uint32((1 << end) - (1 << begin))
                while v != 0:
                    j = 32 * word + np.int64(trailing_zeros(v))
                    v &= v - np.uint32(1)
                    who = m.columns[j * blocks + block]
                    acc = add_present(acc, m.w, w_at + j * row + u, who, tall, wide)
            to = z_at + (part * units + u) * examples + 32 * block
            store_tile(acc, m.z, to, examples, tall, wide)

        return tile

    whole, rest = tile_of(by_rows), tile_of(units - full) if full < units else None

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for part in range(sets):
                for u in range(0, full, by_rows):
                    whole(m, block, part, u)
                if rest is not None:
                    rest(m, block, part, full)
        finish(m, 0, t)

    return stage


def narrow_forward(kit: Kit, place: Place) -> Callable:
    """`first_forward` for rows of a few units: 32 examples at a time."""
    layer, row, blocks = place.layer, place.row, -(-kit.batch // 32)
    units, finish = layer.fan_out, activated(kit, place, layer.fan_out)
    w_at, z_at, examples, layer_row = place.w, place.z, kit.examples, layer.row
    n = layer.fan_in // layer.sets
    total = masked_terms(kit.unit_sums, n, place.up)

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for u in range(units):
                j = u // layer_row * n
                at, word = w_at + j * row + u % layer_row, j * blocks + block
                to = z_at + u * examples + 32 * block
                total(m, m.units, m.w, at, row, m.columns, word, blocks, m.z, to, t)
        finish(m, 0, t)

    return stage


def narrow_update(kit: Kit, place: Place) -> Callable:
    """`first_update` for rows of a few units: 32 features at a time."""
    layer, row, words, units = place.layer, place.row, kit.words, place.layer.fan_out
    n, w_at, d_at = layer.fan_in // layer.sets, place.w, place.z
    layer_row, examples = layer.row, kit.examples
    total = masked_terms(kit.batch_sums, kit.batch, 0)

    @inlined
    def stage(m, x, first, rate, t):
        for word in range(words):
            for u in range(units):
                at = d_at + u * examples
                total(m, m.plan, m.d, at, 1, x, first * words + word, words, m.few, 0, t)
                low = u // layer_row * n
                for j in range(max(low, 32 * word), min(low + n, 32 * word + 32)):
                    m.g[w_at + j * row + u % layer_row] = m.few[j - 32 * word]

    return stage


def dense_forward(kit: Kit, place: Place, under: Place) -> Callable:
    """z[i, u] = Σ_j h[i, j]·W[j, u], then the activation; the units side by side."""
    left = Matrix(under.z, under.by_unit, under.by_example)
    right = Matrix(place.w, place.by_input, 0)
    n, batch, z_at, pitch = place.layer.fan_in, kit.batch, place.z, place.by_example
    total = products(kit.unit_sums, n, batch, place.width, left, right, place.up, pitch)
    finish = activated(kit, place, batch)

    @inlined
    def stage(m, x, first, rate, t):
        total(m, m.units, m.h, m.w, m.z, z_at, 0, t)
        finish(m, 0, t)

    return stage


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
            finish(m, u, t)

    return stage


def few_units(units: int, terms: int) -> int:
    """Units to take at a time, so that what is between two sums stays in the nearest cache."""
    if terms > FEW:
        return units
    return next((rows for rows in (16, 8, 4) if units % rows == 0), units)


def activated(kit: Kit, place: Place, rows: int) -> Callable:
    """A function (m, r, t): z ← z + b (embeddings have no b); h = A(z), or z where no A follows.

    Of the `rows` units from r on, or of the examples where the units lie side by side.
    """
    across, z_at, b_at = place.across, place.z, place.b
    stride = place.by_unit if across else place.by_example
    width = kit.examples if across else place.width
    bias, active = place.layer.bias, place.layer.active
    add, value = kit.ops.add, kit.value
    step = kit.longest if across else place.lanes
    lanes = lanes_of(step)

    @inlined
    def finish(m, r0, t):
        for r in range(r0, r0 + rows):
            for c in range(0, width, step):
                at = z_at + r * stride + c
                z = load(m.z, at, lanes)
                if bias:
                    b = fill(m.w[b_at + r], lanes) if across else load(m.w, b_at + c, lanes)
                    z = add(z, b, t)
                    store(m.z, at, z)
                if active:
                    z = value(z, t)
                store(m.h, at, z)

    return finish


def output_gradient(kit: Kit, place: Place) -> Callable:
    """δ[i] = (σ(z[i]) - y[i])/s, the gradient of the mean loss by z; vectors of examples."""
    longest, z_at, batch = kit.longest, place.z, kit.batch
    lanes, size = lanes_of(longest), kit.ops.const(float(kit.batch))
    squash, sub, div = kit.sigmoid, kit.ops.sub, kit.ops.div

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(0, batch, longest):
            p = squash(load(m.z, z_at + i, lanes), t)
            d = div(sub(p, load(m.y, i, lanes), t), fill(size, lanes), t)
            store(m.d, z_at + i, d)

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


def bent(kit: Kit, place: Place, rows: int) -> Callable:
    """A function (m, r, t): δ ← δ·A'(z), where an activation follows; rows as in `activated`."""
    across, z_at, active = place.across, place.z, place.layer.active
    stride = place.by_unit if across else place.by_example
    width = kit.examples if across else place.width
    step = kit.longest if across else place.lanes
    mul, slope, lanes = kit.ops.mul, kit.slope, lanes_of(step)

    @inlined
    def bend(m, r0, t):
        if active:
            for r in range(r0, r0 + rows):
                for c in range(0, width, step):
                    at = z_at + r * stride + c
                    g = mul(load(m.d, at, lanes), slope(load(m.z, at, lanes), t), t)
                    store(m.d, at, g)

    return bend


@cache
def apply_gradients(kit: Kit, n: int) -> Callable:
    """Update the n weights from `at` on by the gradients from m.g[g_at] on."""
    step = flat_lanes(n, kit.longest)
    lanes, update = lanes_of(step), kit.update

    @inlined
    def apply(m, g_at, at, rate, t):
        for k in range(0, n, step):
            w, a = load(m.w, at + k, lanes), load(m.a, at + k, lanes)
            w, a = update(w, a, load(m.g, g_at + k, lanes), fill(rate, lanes), t)
            store(m.w, at + k, w)
            store(m.a, at + k, a)

    return apply


def bias_sums(kit: Kit, place: Place) -> Callable:
    """The gradient by b of a layer, Σ_i δ[i], as sums of products 1·δ[i], which are exact."""
    one, b_at, batch = Matrix(0, 0, 0), place.b, kit.batch
    if place.across:
        deltas, units = Matrix(place.z, 1, kit.examples), place.layer.fan_out
        total = products(kit.batch_sums, batch, units, 1, deltas, one, 0, 1)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.d, m.one, m.g, b_at, 0, t)

    else:
        deltas = Matrix(place.z, place.by_example, 0)
        total = products(kit.batch_sums, batch, 1, place.width, one, deltas, 0, 0)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.one, m.d, m.g, b_at, 0, t)

    return stage


def few_bias_sums(kit: Kit, chart: Map) -> Callable:
    """`bias_sums` for all layers of a few units: no sum waits for those of another layer."""
    units, width, b_at, one = chart.units, chart.width, chart.biases, Matrix(0, 0, 0)
    if width:
        rows, wide = Matrix(0, width, 0), round_up(units, kit.longest)
        total = products(kit.batch_sums, kit.batch, 1, wide, one, rows, 0, 0)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.one, m.rows, m.g, b_at, 0, t)

    else:
        deltas = Matrix(0, 1, kit.examples)
        total = products(kit.batch_sums, kit.batch, units, 1, deltas, one, 0, 1)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.d, m.one, m.g, b_at, 0, t)

    return stage


def turn_deltas(kit: Kit, chart: Map) -> Callable:
    """The δ of the layers of a few units into the rows, an example's side by side."""
    examples, width = kit.examples, chart.width
    turn = transposed(round_up(chart.units, kit.longest), examples, kit.longest)

    @inlined
    def stage(m, x, first, rate, t):
        turn(m.d, 0, examples, m.rows, 0, width)

    return stage


def update_small(kit: Kit, chart: Map) -> Callable:
    """All parameters whose gradients lie ready in m.g."""
    small = chart.small
    apply = apply_gradients(kit, chart.parameters - small)

    @inlined
    def stage(m, x, first, rate, t):
        apply(m, small, small, rate, t)

    return stage


def transposed(rows: int, columns: int, longest: int) -> Callable:
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


def some_vectors(n: int, longest: int) -> int:
    """Of n numbers side by side as many as are turned round at a time, a divisor."""
    return 4 * longest if n % (4 * longest) == 0 else n


def backward_and_update(kit: Kit, place: Place, under: Place, g_at: int) -> Callable:
    """`across_backward`, then W[j, u] ← update(W[j, u], Σ_i h[i, j]·δ[i, u]), for large W.

    A few rows of W at a time, which pass through the caches once.  The sums over u lie along the
    examples, so that W need not be transposed, only δ.
    """
    batch, fan_in, fan_out = kit.batch, place.layer.fan_in, place.layer.fan_out
    width, pitch, w_at, z_at, examples = place.width, place.by_input, place.w, under.z, kit.examples
    below, by_unit, across = under.by_example, under.by_unit, under.across
    turn_delta = transposed(batch, fan_out, kit.longest)
    mul, slope, active = kit.ops.mul, kit.slope, under.layer.active
    d_at = place.z

    def block_of(rows: int) -> Callable:
        step = kit.longest if rows >= kit.longest else rows & -rows
        lanes = lanes_of(step)
        left, right = Matrix(w_at, 1, pitch), Matrix(0, examples, 0)
        back = products(kit.unit_sums, fan_out, rows, examples, left, right, place.down, examples)
        turn_back = transposed(rows, batch, kit.longest)
        left, right = Matrix(z_at, below, by_unit), Matrix(d_at, pitch, 0)
        total = products(kit.batch_sums, batch, rows, width, left, right, 0, pitch)
        apply, bend = apply_gradients(kit, rows * pitch), bent(kit, under, rows)
        turned = rows * examples

        @inlined
        def block(m, j, rate, t):
            if across:
                back(m, m.units, m.w, m.turned, m.d, z_at + j * examples, j, t)
                bend(m, j, t)
            else:
                back(m, m.units, m.w, m.turned, m.back, 0, j, t)
                turn_back(m.back, 0, examples, m.back, turned, rows)
                for i in range(batch):
                    for c in range(0, rows, step):
                        at = z_at + i * below + j + c
                        g = load(m.back, turned + i * rows + c, lanes)
                        if active:
                            g = mul(g, slope(load(m.z, at, lanes), t), t)
                        store(m.d, at, g)
            total(m, m.plan, m.h, m.d, m.g, g_at, j, t)
            apply(m, g_at, w_at + j * pitch, rate, t)

        return block

    size = min(fan_in, 16)
    full = fan_in - fan_in % size
    whole = block_of(size)
    rest = block_of(fan_in - full) if full < fan_in else None

    @inlined
    def stage(m, x, first, rate, t):
        turn_delta(m.d, d_at, pitch, m.turned, 0, examples)
        for j in range(0, full, size):
            whole(m, j, rate, t)

    if rest is None:
        return stage

    @inlined
    def stage_and_rest(m, x, first, rate, t):
        stage(m, x, first, rate, t)
        rest(m, full, rate, t)

    return stage_and_rest


def first_update(kit: Kit, place: Place, chart: Map) -> Callable:
    """W[j] ← update(W[j], Σ_i δ[i] over the examples in which feature j is present).

    A feature that no example of the mini-batch has, leaves its row as it is under AdaGrad.  Where a
    row fills vectors it is then passed over; shorter rows are updated with all others.
    """
    layer, row, batch, w_at = place.layer, place.row, kit.batch, place.w
    fan_in, by_row = layer.fan_in, place.alone
    skip = by_row and kit.skip_unchanged
    in_rows = place.across and chart.width > 0
    pitch, d_at = (chart.width, place.column) if in_rows else (place.by_example, place.z)
    total = terms(kit.batch_sums, batch, row, pitch, 0, ahead=in_rows)
    apply = apply_gradients(kit, row)
    n, blocks, words = fan_in // layer.sets, -(-batch // 32), kit.words

    @inlined
    def one(m, j, rate, t):
        base, at = d_at + (j // n) * row, w_at + j * row
        d = m.rows if in_rows else m.d
        total(m, m.plan, d, base, m.columns, j * blocks, m.g, at, t)
        if by_row:
            apply(m, at, at, rate, t)

    @inlined
    def found_only(m, x, first, rate, t):
        for word in range(words):
            v = np.uint32(0)
            for block in range(blocks):
                v |= m.found[block * words + word]
            while v != 0:
                one(m, 32 * word + np.int64(trailing_zeros(v)), rate, t)
                v &= v - np.uint32(1)

    @inlined
    def every(m, x, first, rate, t):
        for j in range(fan_in):
            one(m, j, rate, t)

    return found_only if skip else every
