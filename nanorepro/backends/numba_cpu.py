"""The fast execution: the reference's operations in its order, compiled for one recipe.

A training step is a sequence of stages, a few for each layer, built by the factories below for
fixed widths, activation, optimizer and dials.  Vectors lie across outputs (units, inputs or
examples), never across the terms of a sum, so each sum keeps the order of its plan.

Layout: the activations of a layer are (batch, width) with the units side by side; `width` is the
number of units, padded to full vectors.  What padding holds never reaches a result.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from nanorepro import streams, summation
from nanorepro.arithmetic import Operations, operations
from nanorepro.backends import arrays, simd
from nanorepro.backends.exact_sum import BINS
from nanorepro.backends.numba_sums import (
    LONG,
    REGISTER,
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
    function,
    inlined,
    load,
    philox,
    pointer,
    repeat,
    store,
    transpose,
)
from nanorepro.config import Config, Dials
from nanorepro.data import World
from nanorepro.network import ACTIVATIONS, Layer, Parameters, layers, sigmoid
from nanorepro.optimizers import OPTIMIZERS, learning_rate
from nanorepro.recipe import Recipe

EIGHT, THIRTY_TWO = lanes_of(8), lanes_of(32)
FEW = 64  # terms of sums over units that cost less than going to memory for the results
NARROW = 4  # units of a first layer that are summed over all features
BLOCK = 4096  # weights of a layer, at most, whose gradients wait for those of all layers

bounded = function(streams.bounded)
permute = function(streams.permute)
random_tree = function(summation.random_tree)


class Memory(NamedTuple):
    """What one model in training works on; arrays are flat unless a shape is given.

    w, a: parameters and optimizer state, layer after layer, weights before biases
    wt: small dense weights transposed, (fan_out, pitch below) each, for sums along the inputs
    z, h, d: (batch, pitch) of every layer: before and after the activation, the gradient by z
    turned, back: δ of a layer, and of some units of the layer below it, (units, batch)
    y: labels of the mini-batch; one: the number 1
    g: gradients of the parameters, where they lie in w, and then those of a block of weights
    rows: (batch, width) the gradients by z of the short layers side by side
    word, present: packed features of some examples, and of one; columns: packed examples of
    every feature; few: 32 sums
    slots, wide_slots, bins, special, lane: partial sums of plans and of exact sums
    plan: (m, 2), of the sums over the mini-batch; units: those of the sums over units
    """

    w: np.ndarray
    a: np.ndarray
    wt: np.ndarray
    z: np.ndarray
    h: np.ndarray
    d: np.ndarray
    turned: np.ndarray
    back: np.ndarray
    y: np.ndarray
    g: np.ndarray
    one: np.ndarray
    rows: np.ndarray
    word: np.ndarray
    present: np.ndarray
    columns: np.ndarray
    few: np.ndarray
    slots: np.ndarray
    wide_slots: np.ndarray
    bins: np.ndarray
    special: np.ndarray
    lane: np.ndarray
    plan: np.ndarray
    units: np.ndarray


@function
def pointers(m):
    """The memory as pointers, which is how the stages see it."""
    return Memory(
        pointer(m.w),
        pointer(m.a),
        pointer(m.wt),
        pointer(m.z),
        pointer(m.h),
        pointer(m.d),
        pointer(m.turned),
        pointer(m.back),
        pointer(m.y),
        pointer(m.g),
        pointer(m.one),
        pointer(m.rows),
        pointer(m.word),
        pointer(m.present),
        pointer(m.columns),
        pointer(m.few),
        pointer(m.slots),
        pointer(m.wide_slots),
        pointer(m.bins),
        pointer(m.special),
        pointer(m.lane),
        pointer(m.plan),
        pointer(m.units),
    )


@dataclass(frozen=True)
class Place:
    """Where a layer lies in the memory; widths and offsets in numbers."""

    layer: Layer
    below: int  # pitch of the layer below
    width: int
    row: int  # length of one input's row of weights, and of one set
    pitch: int  # from one example's units to the next one's; in dense layers one input's weights'
    lanes: int
    alone: bool  # weights updated apart from the others
    short: bool  # a row of units is one vector
    w: int
    b: int
    wt: int
    z: int
    z_below: int
    up: int  # first row of the unit plans, forward
    down: int  # and backward


@dataclass(frozen=True)
class Map:
    """The places of all layers and the sizes of the memory's arrays.

    The parameters from `small` on are updated together, at the end of a step; those before, each
    layer by itself, as soon as gradients are there.
    """

    places: tuple[Place, ...]
    small: int
    parameters: int
    block: int  # gradients that are held besides
    transposed: int
    turned: int  # units whose δ is transposed, at most
    activations: int
    unit_rows: int
    slots: int

    @property
    def short(self) -> tuple[Place, ...]:
        """The layers whose biases lie side by side at the end: all but the wide ones."""
        return tuple(p for p in self.places if p.layer.bias and p.short)


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def whole_vectors(n: int, longest: int) -> int:
    """Room for n numbers side by side as whole vectors."""
    return round_up(n, longest if n < 4 * longest else 4 * longest)


def terms_of(layer: Layer) -> tuple[int, int]:
    """Terms of the sums over units of a layer, forward and backward."""
    return layer.fan_in // layer.sets, layer.fan_out


def make_map(net: tuple[Layer, ...], batch: int, longest: int, dials: Dials) -> Map:
    """Lay out the memory of a model; vectors have `longest` lanes at most."""
    places: list[Place] = []
    below = wt = z = z_below = units = 0
    slots = summation.plan_slots(dials.tree, batch)
    for k, layer in enumerate(net):
        lanes = min(longest, 1 << (layer.row - 1).bit_length())
        row = (
            whole_vectors(layer.row, longest) if layer.row > longest else round_up(layer.row, lanes)
        )
        width = row * layer.sets
        # rows 2048 bytes apart would all lie in the same few sets of the first-level cache
        pitch = width if width % (32 * longest) else width + longest
        rows = [summation.plan_rows(dials.unit_tree, n) for n in terms_of(layer)]
        slots = max(slots, *(summation.plan_slots(dials.unit_tree, n) for n in terms_of(layer)))
        down = units + rows[0]
        alone = row >= longest if k == 0 else layer.fan_in * width > BLOCK
        places.append(
            Place(layer, below, width, row, pitch, lanes, alone, width <= longest, 0, 0, wt, z,
                  z_below, units, down)
        )  # fmt: skip
        wt += 0 if k == 0 or alone else layer.fan_out * below
        z_below, z = z, z + round_up(batch * pitch, longest)
        below, units = pitch, units + sum(rows)
    w = small = 0
    for alone in (True, False):
        small = w
        for k, place in enumerate(places):
            if place.alone == alone:
                places[k] = replace(place, w=w)
                row = place.pitch if k else place.row
                size = (
                    whole_vectors(place.layer.fan_in, longest)
                    if row == 1
                    else place.layer.fan_in * row
                )
                w = round_up(w + size, longest)
    for short in (False, True):
        for k, place in enumerate(places):
            if place.layer.bias and place.short == short:
                places[k] = replace(places[k], b=w)
                w += place.width
        w = round_up(w, longest)
    block = max(16 * place.pitch for place in places)
    turned = max((p.layer.fan_out for p in places if p.alone), default=0)
    return Map(tuple(places), small, w, block, wt, turned, z + longest, units, slots)


def flat_lanes(n: int, longest: int) -> int:
    """Lanes of the vectors that n elements side by side fill exactly."""
    return min(longest, n & -n)


@dataclass(frozen=True)
class Kit:
    """What the factories share: sizes, the dials' sums, and the formulas as compiled functions."""

    batch: int
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


# Stages: (m, x, first, rate, t) with x (n, words) the packed examples, `first` the index of the
# mini-batch's first, `rate` the learning rate and t what stochastic rounding draws from.


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


@inlined
def copy(target, source, at, n):
    """The n numbers of source from `at` on become those of target."""
    for k in range(n):
        target[k] = source[at + k]


def find_features(kit: Kit, place: Place) -> Callable:
    """m.columns: for every feature, the examples of the mini-batch that have it, a bit each."""
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
                for j in range(32):
                    bit = np.uint32(1) << np.uint32(j)
                    m.columns[(32 * word + j) * blocks + block] = ballot(v & bit)

    return stage


def first_forward(kit: Kit, place: Place) -> Callable:
    """z = Σ_j W[j] over the features present; embeddings: one sum for each set (section 5).

    Then the activation, while the example's units are in the nearest cache.
    """
    layer, batch, words, sets = place.layer, kit.batch, kit.words, place.layer.sets
    row, pitch, w_at, z_at = place.row, place.pitch, place.w, place.z
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


def narrow_forward(kit: Kit, place: Place) -> Callable:
    """`first_forward` for rows of a few units: 32 examples at a time."""
    layer, row, blocks = place.layer, place.row, -(-kit.batch // 32)
    width, pitch, finish = place.width, place.pitch, activated(kit, place, kit.batch)
    sets, batch, w_at, z_at = layer.sets, kit.batch, place.w, place.z
    n = layer.fan_in // sets
    total = masked_terms(kit.unit_sums, n, place.up)

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for c in range(width):
                j = c // row * n
                at, word = w_at + j * row + c % row, j * blocks + block
                total(m, m.units, m.w, at, row, m.columns, word, blocks, m.few, t)
                for i in range(min(32, batch - 32 * block)):
                    m.z[z_at + (32 * block + i) * pitch + c] = m.few[i]
        finish(m, 0, t)

    return stage


def narrow_update(kit: Kit, place: Place) -> Callable:
    """`first_update` for rows of a few units: 32 features at a time."""
    layer, row, width, words = place.layer, place.row, place.width, kit.words
    pitch = place.pitch
    n, w_at, d_at = layer.fan_in // layer.sets, place.w, place.z
    total = masked_terms(kit.batch_sums, kit.batch, 0)

    @inlined
    def stage(m, x, first, rate, t):
        for word in range(words):
            for c in range(width):
                total(m, m.plan, m.d, d_at + c, pitch, x, first * words + word, words, m.few, t)
                low, high = c // row * n, c // row * n + n
                for j in range(max(low, 32 * word), min(high, 32 * word + 32)):
                    m.g[w_at + j * row + c % row] = m.few[j - 32 * word]

    return stage


def dense_forward(kit: Kit, place: Place) -> Callable:
    """z[i, u] = Σ_j h[i, j]·W[j, u], then the activation."""
    left = Matrix(place.z_below, 1, place.below)
    right = Matrix(place.w, place.pitch, 0)
    n, batch, z_at, pitch = place.layer.fan_in, kit.batch, place.z, place.pitch
    rows = few_examples(kit, place.width) if n <= FEW else batch
    total = products(kit.unit_sums, n, rows, place.width, left, right, place.up, pitch)
    finish = activated(kit, place, rows)

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(0, batch, rows):
            total(m, m.units, m.h, m.w, m.z, z_at + i * pitch, i, t)
            finish(m, i, t)

    return stage


def few_examples(kit: Kit, width: int) -> int:
    """Examples to take at a time, so that what is between two sums stays in the nearest cache."""
    if width < 4 * kit.longest:
        return kit.batch
    return next(rows for rows in (4, 2, 1) if kit.batch % rows == 0)


def activated(kit: Kit, place: Place, rows: int) -> Callable:
    """A function (m, i, t) for the examples from i on: z ← z + b (embeddings have no b); h = A(z).

    h = z where no activation follows.  `rows` examples; short ones lie side by side in a vector,
    and what a last one has too much is padding.
    """
    pitch, width, z_at, b_at = place.pitch, place.width, place.z, place.b
    bias, active = place.layer.bias, place.layer.active
    add, value, lanes = kit.ops.add, kit.value, lanes_of(place.lanes)
    beside = lanes_of(kit.longest // width if rows > 1 and place.lanes == width else 1)
    part, count = place.lanes, len(beside)
    long = lanes_of(part * count)

    @inlined
    def finish(m, i0, t):
        for i in range(i0, i0 + rows, count):
            for c in range(0, width, part):
                at = z_at + i * pitch + c
                z = load(m.z, at, long)
                if bias:
                    z = add(z, repeat(load(m.w, b_at + c, lanes), beside), t)
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


def dense_backward(kit: Kit, place: Place, under: Place) -> Callable:
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j]), for small W."""
    left, right = Matrix(place.z, 1, place.pitch), Matrix(place.wt, place.below, 0)
    fan_out, batch, z_at, active = place.layer.fan_out, kit.batch, place.z_below, under.layer.active
    below = place.below
    rows = few_examples(kit, below)
    total = products(kit.unit_sums, fan_out, rows, below, left, right, place.down, below)
    step = kit.longest
    lanes, mul, slope = lanes_of(step), kit.ops.mul, kit.slope

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(0, batch, rows):
            begin = z_at + i * below
            total(m, m.units, m.d, m.wt, m.d, begin, i, t)
            if active:
                for at in range(begin, begin + rows * below, step):
                    g = mul(load(m.d, at, lanes), slope(load(m.z, at, lanes), t), t)
                    store(m.d, at, g)

    return stage


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
    """The gradient by b of a wide layer, Σ_i δ[i], as sums of products 1·δ[i], which are exact."""
    left, right = Matrix(0, 0, 0), Matrix(place.z, place.pitch, 0)
    total = products(kit.batch_sums, kit.batch, 1, place.width, left, right, 0, 0)
    b_at = place.b

    @inlined
    def stage(m, x, first, rate, t):
        total(m, m.plan, m.one, m.d, m.g, b_at, 0, t)

    return stage


def short_bias_sums(kit: Kit, places: tuple[Place, ...]) -> Callable:
    """`bias_sums` for all short layers together: no sum waits for those of another layer."""
    width = round_up(sum(place.width for place in places), kit.longest)
    left, right = Matrix(0, 0, 0), Matrix(0, width, 0)
    total = products(kit.batch_sums, kit.batch, 1, width, left, right, 0, 0)
    b_at = places[0].b
    copies = [copy_rows(kit, place, place.b - b_at, width) for place in places]
    copy_all = sequence(copies)

    @inlined
    def stage(m, x, first, rate, t):
        copy_all(m, x, first, rate, t)
        total(m, m.plan, m.one, m.rows, m.g, b_at, 0, t)

    return stage


def copy_rows(kit: Kit, place: Place, column: int, width: int) -> Callable:
    """The layer's δ into its columns of m.rows."""
    batch, pitch, lanes, z_at = kit.batch, place.pitch, lanes_of(place.lanes), place.z

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(batch):
            store(m.rows, i * width + column, load(m.d, z_at + i * pitch, lanes))

    return stage


def update_small(kit: Kit, chart: Map) -> Callable:
    """All parameters whose gradients lie ready in m.g."""
    small = chart.small
    apply = apply_gradients(kit, chart.parameters - small)

    @inlined
    def stage(m, x, first, rate, t):
        apply(m, small, small, rate, t)

    return stage


def renew_transposed(kit: Kit, place: Place) -> Callable:
    """wt ← W."""
    layer, wt_at, below = place.layer, place.wt, place.below
    turn = transposed(layer.fan_in, layer.fan_out, kit.longest)
    w_at, pitch = place.w, place.pitch

    @inlined
    def stage(m, x, first, rate, t):
        turn(m.w, w_at, pitch, m.wt, wt_at, below)

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


def dense_gradients(kit: Kit, place: Place) -> Callable:
    """The gradient by W[j, u], Σ_i h[i, j]·δ[i, u], for an update later."""
    fan_in, w_at, longest = place.layer.fan_in, place.w, kit.longest
    values, deltas = Matrix(place.z_below, place.below, 1), Matrix(place.z, place.pitch, 0)
    sums, batch, width, pitch = kit.batch_sums, kit.batch, place.width, place.pitch
    if width == 1 and fan_in >= longest:
        # one unit: vectors lie along the inputs instead
        values, deltas = Matrix(place.z_below, place.below, 0), Matrix(place.z, 1, 0)
        total = products(sums, batch, 1, whole_vectors(fan_in, longest), deltas, values, 0, 0)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.d, m.h, m.g, w_at, 0, t)

    else:
        total = products(sums, batch, fan_in, width, values, deltas, 0, pitch)

        @inlined
        def stage(m, x, first, rate, t):
            total(m, m.plan, m.h, m.d, m.g, w_at, 0, t)

    return stage


def backward_and_update(kit: Kit, place: Place, under: Place, g_at: int) -> Callable:
    """`dense_backward`, then W[j, u] ← update(W[j, u], Σ_i h[i, j]·δ[i, u]), for large W.

    A few rows of W at a time, which pass through the caches once.  The sums over u lie along the
    examples, so that W need not be transposed, only δ.
    """
    batch, fan_in, fan_out = kit.batch, place.layer.fan_in, place.layer.fan_out
    width, pitch, below, w_at, z_at = place.width, place.pitch, place.below, place.w, place.z_below
    examples = round_up(batch, kit.longest)
    turn_delta = transposed(batch, fan_out, kit.longest)
    mul, slope, active = kit.ops.mul, kit.slope, under.layer.active
    d_at = place.z

    def block_of(rows: int) -> Callable:
        lanes = lanes_of(rows & -rows if rows < kit.longest else kit.longest)
        step = len(lanes)
        weights, across = Matrix(w_at, 1, pitch), Matrix(0, examples, 0)
        back = products(
            kit.unit_sums, fan_out, rows, examples, weights, across, place.down, examples
        )
        turn_back = transposed(rows, batch, kit.longest)
        left, right = Matrix(place.z_below, below, 1), Matrix(d_at, pitch, 0)
        total = products(kit.batch_sums, batch, rows, width, left, right, 0, pitch)
        apply = apply_gradients(kit, rows * pitch)
        turned = rows * examples

        @inlined
        def block(m, j, rate, t):
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


def first_update(kit: Kit, place: Place) -> Callable:
    """W[j] ← update(W[j], Σ_i δ[i] over the examples in which feature j is present).

    A feature that no example of the mini-batch has, leaves its row as it is under AdaGrad.  Where a
    row fills vectors it is then passed over; shorter rows are updated with all others.
    """
    layer, row, batch, w_at = place.layer, place.row, kit.batch, place.w
    fan_in, by_row = layer.fan_in, place.alone
    skip = by_row and kit.skip_unchanged
    total = terms(kit.batch_sums, batch, row, place.pitch, 0)
    apply = apply_gradients(kit, row)
    d_at, n, blocks = place.z, fan_in // layer.sets, -(-batch // 32)

    @inlined
    def stage(m, x, first, rate, t):
        for j in range(fan_in):
            if skip:
                found = np.uint32(0)
                for block in range(blocks):
                    found |= m.columns[j * blocks + block]
                if found == 0:
                    continue
            base, at = d_at + (j // n) * row, w_at + j * row
            total(m, m.plan, m.d, base, m.columns, j * blocks, m.g, at, t)
            if by_row:
                apply(m, at, at, rate, t)

    return stage


@dataclass(frozen=True)
class Compiled:
    """The functions of a recipe and what their memory has to be."""

    map: Map
    ops: Operations
    start: float
    train: Callable
    forward: Callable


@cache
def sources() -> int:
    """A digest of this package's sources: compiled code on disk is that of these sources only."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).resolve().parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return int(digest.hexdigest()[:15], 16)


@cache
def compile_recipe(config: Config, dials: Dials, features: int) -> Compiled:
    """The functions for a configuration as `essence` gives it."""
    net = layers(config, features)
    ops = operations(simd, dials.precision, dials.rounding, dials.fma)
    longest = REGISTER // np.dtype(ops.dtype).itemsize
    chart = make_map(net, config.batch, longest, dials)
    places = chart.places
    value, slope = ACTIVATIONS[config.act](simd, ops, config.beta)
    update, start = OPTIMIZERS[config.optimizer](simd, ops, config)
    kit = Kit(
        batch=config.batch,
        words=-(-features // 32),
        longest=longest,
        ops=ops,
        batch_sums=Sums(ops, dials.accumulator, dials.tree, True),
        unit_sums=Sums(ops, dials.unit_accumulator, dials.unit_tree, dials.unit_order == "given"),
        value=value,
        slope=slope,
        sigmoid=sigmoid(simd, ops),
        update=update,
        skip_unchanged=config.optimizer == "adagrad",
    )
    up = [find_features(kit, places[0])]
    narrow = places[0].width <= NARROW
    short = narrow and kit.unit_sums.accumulator not in ("wide", "exact")
    up.append((narrow_forward if short else first_forward)(kit, places[0]))
    for place in places[1:]:
        up.append(dense_forward(kit, place))
    down, renew = [output_gradient(kit, places[-1])], []
    for k in range(len(places) - 1, 0, -1):
        if places[k].alone:
            down.append(backward_and_update(kit, places[k], places[k - 1], chart.parameters))
        else:
            down.append(dense_backward(kit, places[k], places[k - 1]))
            down.append(dense_gradients(kit, places[k]))
            renew.append(renew_transposed(kit, places[k]))
    short = narrow and kit.batch_sums.accumulator not in ("wide", "exact")
    down.append((narrow_update if short else first_update)(kit, places[0]))
    down += [bias_sums(kit, p) for p in places if p.layer.bias and not p.short]
    if chart.short:
        down.append(short_bias_sums(kit, chart.short))
    down += [update_small(kit, chart), *renew]
    ascend, descend, batch, digest = sequence(up), sequence(down), config.batch, sources()
    z_last = places[-1].z

    plan_size, units_size = 2 * summation.plan_rows(dials.tree, batch), 2 * chart.unit_rows

    @njit(cache=True, nogil=True)
    def train(memory, x, y, rates, key, number, plans, units):
        """Train on the examples x (n, words), y (n,), a whole number of mini-batches."""
        m, features = pointers(memory), pointer(x)
        for k in range(x.shape[0] // batch):
            for i in range(batch):
                m.y[i] = y[k * batch + i]
            if plans.shape[0]:
                copy(m.plan, pointer(plans), k % plans.shape[0] * plan_size, plan_size)
            if units.shape[0]:
                copy(m.units, pointer(units), k % units.shape[0] * units_size, units_size)
            t = (key[0], key[1], np.uint64(number + k))
            rate = rates[k % rates.shape[0]]
            ascend(m, features, k * batch, rate, t)
            descend(m, features, k * batch, rate, t)
        return digest

    @njit(cache=True, nogil=True)
    def forward(memory, x, z, key, number, units):
        """Logits z (n,) of the examples x (n, words), a whole number of mini-batches."""
        m, features = pointers(memory), pointer(x)
        if units.shape[0]:
            copy(m.units, pointer(units), 0, units_size)
        t = (key[0], key[1], np.uint64(number))
        for k in range(x.shape[0] // batch):
            ascend(m, features, k * batch, m.y[0], t)
            for i in range(batch):
                z[k * batch + i] = m.z[z_last + i]
        return digest

    return Compiled(chart, ops, start, train, forward)


def essence(config: Config) -> Config:
    """The configuration with what does not concern the compiled code at its default."""
    plain = Config()
    names = ("log2_examples", "log2_window", "log2_eval", "first_example", "pairs", "differ", "lr")
    names += ("decay", "init", "eval_every", "seed", "warm_start", "data")
    return replace(config, **{name: getattr(plain, name) for name in names})


class Model:
    """One model in training."""

    def __init__(self, recipe: Recipe, parameters: Parameters, step: int = 0):
        self.recipe, self.step = recipe, step
        config, dials = recipe.config, recipe.dials
        self.compiled = compile_recipe(essence(config), dials, recipe.features)
        chart, dtype = self.compiled.map, self.compiled.ops.dtype
        longest = REGISTER // np.dtype(dtype).itemsize
        self.const = operations(arrays, dials.precision, dials.rounding, dials.fma).const
        rows = sum(place.width for place in chart.short) + longest
        self.memory = Memory(
            w=np.zeros(chart.parameters, dtype),
            a=np.full(chart.parameters, self.const(self.compiled.start), dtype),
            wt=np.zeros(chart.transposed, dtype),
            z=np.zeros(chart.activations, dtype),
            h=np.zeros(chart.activations, dtype),
            d=np.zeros(chart.activations, dtype),
            turned=np.zeros(chart.turned * round_up(config.batch, longest), dtype),
            back=np.zeros(2 * 16 * round_up(config.batch, longest), dtype),
            y=np.zeros(round_up(config.batch, longest), dtype),
            g=np.zeros(chart.parameters + chart.block, dtype),
            one=np.ones(1, dtype),
            rows=np.zeros(config.batch * rows, dtype),
            word=np.zeros(32, np.uint32),
            present=np.zeros(-(-recipe.features // 32) + 1, np.uint32),
            columns=np.zeros(32 * -(-recipe.features // 32) * -(-config.batch // 32), np.uint32),
            few=np.zeros(32, dtype),
            slots=np.zeros(2 * chart.slots * LONG, dtype),
            wide_slots=np.zeros(chart.slots * LONG),
            bins=np.zeros(BINS, np.int64),
            special=np.zeros(1),
            lane=np.zeros(LONG, dtype),
            plan=np.zeros((summation.plan_rows(dials.tree, config.batch), 2), np.int64),
            units=np.zeros((chart.unit_rows, 2), np.int64),
        )
        self._load(parameters)

    def _views(self, flat: np.ndarray) -> Parameters:
        """The parameters as views of a flat array, in their own shapes."""
        views = {}
        for place in self.compiled.map.places:
            layer = place.layer
            n = layer.fan_in // layer.sets
            row = place.pitch if layer.sets == 1 and place.below else place.row
            table = flat[place.w : place.w + layer.fan_in * row].reshape(-1, row)
            for part in range(layer.sets):
                views[layer.names[part]] = table[part * n : (part + 1) * n, : layer.row]
            if layer.bias:
                views[layer.names[-1]] = flat[place.b : place.b + layer.fan_out]
        return views

    def _load(self, parameters: Parameters) -> None:
        for name, view in self._views(self.memory.w).items():
            view[:] = self.const(parameters[name])
        for place in self.compiled.map.places[1:]:
            if place.alone:
                continue
            w = self._views(self.memory.w)[place.layer.names[0]]
            wt = self.memory.wt[place.wt :][: place.layer.fan_out * place.below]
            wt.reshape(-1, place.below)[:, : place.layer.fan_in] = w.T

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return {name: view.copy() for name, view in self._views(self.memory.w).items()}

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order."""
        config, dials = self.recipe.config, self.recipe.dials
        x, steps = np.ascontiguousarray(x), len(y) // config.batch
        if dials.leaf_order != "given":
            order = self._leaf_orders(steps)
            x, y = x[order], y[order]
        self.compiled.train(
            self.memory, x, y, self._rates(steps), self._rounding_key(), self.step,
            self._batch_plans(steps), self._unit_plans(steps),
        )  # fmt: skip
        self.step += steps

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of packed examples, (n,)."""
        batch, n = self.recipe.config.batch, len(x)
        x = np.concatenate([x, np.zeros((-n % batch, x.shape[1]), np.uint32)])
        z = np.empty(len(x), self.compiled.ops.dtype)
        self.compiled.forward(
            self.memory, x, z, self._rounding_key(), self.step, self._unit_plans(1)
        )
        return z[:n]

    def _rates(self, steps: int) -> np.ndarray:
        """The learning rate of each step, or the one of all."""
        config = self.recipe.config
        if config.optimizer == "sgd" and config.decay:
            rates = [learning_rate(config, self.step + k) for k in range(steps)]
        else:
            rates = [config.lr]
        return np.asarray(self.const(np.array(rates)), self.compiled.ops.dtype)

    def _rounding_key(self) -> np.ndarray:
        return self.recipe.key("rounding")

    def _leaf_orders(self, steps: int) -> np.ndarray:
        """The examples of all mini-batches in their leaf order, (steps·batch,)."""
        batch = self.recipe.config.batch
        key = self.recipe.key("order")
        if self.recipe.dials.leaf_order == "random":
            return permutations(key, self.step, steps, batch)
        return np.arange(steps * batch).reshape(steps, batch)[:, ::-1].ravel()

    def _batch_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over the mini-batch: none, one for all steps, or one a step."""
        dials, batch = self.recipe.dials, self.recipe.config.batch
        if dials.tree == "chain":
            return np.zeros((0, *self.memory.plan.shape), np.int64)
        if dials.tree != "random":
            return summation.fixed_plan(dials.tree, batch)[None]
        plans = np.empty((steps, *self.memory.plan.shape), np.int64)
        random_trees(plans, batch, self.recipe.key("order"), self.step)
        return plans

    def _unit_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over units, those of all layers one after another."""
        dials = self.recipe.dials
        if (dials.unit_tree, dials.unit_order) == ("chain", "given"):
            return np.zeros((0, *self.memory.units.shape), np.int64)
        random = "random" in (dials.unit_tree, dials.unit_order)
        key, places = self.recipe.key("order", "units"), self.compiled.map.places
        plans = np.zeros((steps if random else 1, *self.memory.units.shape), np.int64)
        for k in range(len(plans)):
            for at, place in enumerate(places):
                for back, n in enumerate(terms_of(place.layer)):
                    block = ((self.step + k) * len(places) + at) * 2 + back
                    rows = summation.plan(dials.unit_tree, dials.unit_order, n, key, block)
                    plans[k, (place.up, place.down)[back] :][: len(rows)] = rows
        return plans


@njit(cache=True, nogil=True)
def permute_rows(orders, key, first):
    """The permutations of the blocks first, first + 1, ... of a stream, one a row, in place.

    `streams.permute` with the words of eight calls drawn side by side: 6.5 → 3.9 ns an element.
    """
    n = orders.shape[1]
    even, odd = np.empty(8, np.int64), np.empty(8, np.int64)
    count, low, u32 = np.arange(8).astype(np.uint64), np.uint64(0xFFFFFFFF), np.uint64(32)
    zero, one, two = np.uint64(0), np.uint64(1), np.uint64(2)
    for row in range(orders.shape[0]):
        order = orders[row]
        block = np.uint64(first + row)
        for c in range((n - 1) // 16 * 8, -1, -8):
            at = load(count, 0, EIGHT) + np.uint64(c)
            w0, w1, w2, w3 = philox(
                at, fill(block & low, EIGHT), fill(block >> u32, EIGHT), fill(one, EIGHT),
                key[0] + zero, key[1] + zero,
            )  # fmt: skip
            store(even, 0, bounded(w0, w1, at * two + one))
            store(odd, 0, bounded(w2, w3, at * two + two))
            for k in range(7, -1, -1):
                i = 2 * (c + k)
                if i + 1 < n:
                    order[i + 1], order[odd[k]] = order[odd[k]], order[i + 1]
                if 0 < i < n:
                    order[i], order[even[k]] = order[even[k]], order[i]


@njit(cache=True, nogil=True)
def random_trees(plans, n, key, first):
    """The random trees of the blocks first, first + 1, ... of a stream."""
    for k in range(plans.shape[0]):
        block = np.uint64(first + k)
        random_tree(n, key, block & np.uint64(0xFFFFFFFF), block >> np.uint64(32), plans[k])


def permutations(key: np.ndarray, first: int, count: int, n: int) -> np.ndarray:
    """The permutations first, ..., first + count - 1 of count·n examples in rows of n, flat."""
    orders = np.arange(count * n, dtype=np.uint32).reshape(count, n)
    permute_rows(orders, key, first)
    return orders.reshape(-1)


@njit(cache=True, nogil=True)
def draw(key, first, accept, alias, odds, x, y):
    """`data.examples`: one Philox call an example, eight side by side."""
    low16, u16, low32, u32 = (
        np.uint64(0xFFFF), np.uint64(16), np.uint64(0xFFFFFFFF), np.uint64(32),
    )  # fmt: skip
    zero, n = np.uint64(0), x.shape[0]
    count, w = np.arange(8).astype(np.uint64), np.empty((4, 8), np.uint64)
    for i0 in range(0, n, 8):
        c = load(count, 0, EIGHT) + np.uint64(first + i0)
        w0, w1, w2, w3 = philox(
            c & low32, c >> u32, fill(zero, EIGHT), fill(zero, EIGHT), key[0], key[1]
        )
        store(w, 0, w0)
        store(w, 8, w1)
        store(w, 16, w2)
        store(w, 24, w3)
        for k in range(min(8, n - i0)):
            a, b = np.int64(w[0, k] & low16), np.int64(w[0, k] >> u16)
            low = a if w[1, k] < accept[a] else np.int64(alias[a])
            high = b if w[2, k] < accept[b] else np.int64(alias[b])
            o = odds[0, low] * odds[1, high]
            u = (np.float64(np.int64(w[3, k])) + 0.5) * 2.0**-32
            x[i0 + k] = np.uint32(low | (high << 16))
            y[i0 + k] = np.uint8(u * (1.0 + o) < o)


@njit(cache=True, nogil=True)
def pick(x, y, order, picked_x, picked_y):
    """The examples x (n,), y (n,) in an order."""
    for k in range(order.shape[0]):
        picked_x[k] = x[order[k]]
        picked_y[k] = y[order[k]]


def arrange(x: np.ndarray, y: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x[order], y[order]."""
    picked = np.empty(len(order), np.uint32), np.empty(len(order), np.uint8)
    pick(x, y, order, *picked)
    return picked


def examples(world: World, key: np.ndarray, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples first, ..., first + n - 1 of a stream: features (n,) uint32, labels (n,) uint8."""
    x, y = np.empty(n, np.uint32), np.empty(n, np.uint8)
    draw(key, first, world.accept, world.alias, world.odds, x, y)
    return x, y
