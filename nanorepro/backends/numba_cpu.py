"""The fast execution: the reference's operations in its order, compiled for one recipe.

A training step is a sequence of stages, a few for each layer, built by the factories below for
fixed widths, activation, optimizer and dials.  Vectors lie across outputs (units, inputs or
examples), never across the terms of a sum, so each sum keeps the order of its plan.

Layout: the activations of a layer are (batch, width) with the units side by side; `width` is the
number of units, padded to full vectors.  What padding holds never reaches a result.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable

from nanorepro import streams, summation
from nanorepro.arithmetic import operations
from nanorepro.backends import arrays, simd
from nanorepro.backends.simd import fill, load, philox, store, trailing_zeros
from nanorepro.config import Config, Dials
from nanorepro.data import World
from nanorepro.network import ACTIVATIONS, Layer, Parameters, layers, sigmoid
from nanorepro.optimizers import OPTIMIZERS, learning_rate
from nanorepro.recipe import Recipe
from nanorepro.summation import ACCUMULATORS

REGISTER = 64  # bytes of a vector; a CPU with shorter registers takes several for one

bounded = register_jitable(streams.bounded)
permute = register_jitable(streams.permute)
random_tree = register_jitable(summation.random_tree)


class Memory(NamedTuple):
    """What one model in training works on; arrays are flat unless a shape is given.

    w, a: parameters and optimizer state, layer after layer, weights before biases
    wt: dense weights transposed, (fan_out, width below) each, for sums along the inputs
    z, h, d: (batch, width) of every layer: before and after the activation, the gradient by z
    y: labels of the mini-batch; slots, unit_slots: partial sums of a plan, over the mini-batch and
        over units
    on: present features of an example, or examples in which a feature is present
    plan: (m, 2), of the sums over the mini-batch; units: those of the sums over units
    """

    w: np.ndarray
    a: np.ndarray
    wt: np.ndarray
    z: np.ndarray
    h: np.ndarray
    d: np.ndarray
    y: np.ndarray
    slots: np.ndarray
    unit_slots: np.ndarray
    on: np.ndarray
    plan: np.ndarray
    units: np.ndarray


@dataclass(frozen=True)
class Place:
    """Where a layer lies in the memory; widths and offsets in numbers."""

    layer: Layer
    below: int  # width of the layer below
    width: int
    row: int  # length of one input's row of weights
    lanes: int
    w: int
    b: int
    wt: int
    z: int
    z_below: int
    units: tuple[int, int]  # first rows of the unit plans, forward and backward
    plan_rows: tuple[int, int]
    slots: tuple[int, int]


@dataclass(frozen=True)
class Map:
    """The places of all layers and the sizes of the memory's arrays."""

    places: tuple[Place, ...]
    parameters: int
    transposed: int
    activations: int
    unit_rows: int


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def make_map(net: tuple[Layer, ...], batch: int, itemsize: int, unit_tree: str) -> Map:
    """Lay out the memory of a model."""
    longest = REGISTER // itemsize
    places: list[Place] = []
    below = w = wt = z = z_below = units = 0
    for k, layer in enumerate(net):
        lanes = min(longest, 1 << (layer.row - 1).bit_length())
        row = round_up(layer.row, lanes)
        width = row * layer.sets
        b = w + layer.fan_in * row
        terms = (layer.fan_in // layer.sets, layer.fan_out)
        rows = tuple(summation.plan_rows(unit_tree, n) for n in terms)
        slots = tuple(summation.plan_slots(unit_tree, n) for n in terms)
        places.append(
            Place(
                layer, below, width, row, lanes, w, b, wt, z, z_below,
                (units, units + rows[0]), rows, slots,
            )
        )  # fmt: skip
        w = b + (width if layer.bias else 0)
        wt += layer.fan_out * below if k else 0
        z_below, z = z, z + batch * width
        below, units = width, units + sum(rows)
    return Map(tuple(places), w, wt, z + longest, units)


def lanes_of(n: int) -> tuple[int, ...]:
    """A number of lanes as simd wants it: the length of a tuple."""
    return (0,) * n


# Stages: (m, x, first, rate, t) with x (n, words) the packed examples, `first` the index of the
# mini-batch's first, `rate` the learning rate and t what stochastic rounding draws from.


@dataclass(frozen=True)
class Kit:
    """What the factories share: the dials' operations and sums, as compiled functions."""

    batch: int
    words: int
    ops: object
    zero: object
    batch_sum: tuple
    unit_sum: tuple
    batch_slots: int
    batch_chain: bool
    unit_chain: bool
    value: object
    slope: object
    sigmoid: object
    update: object
    skip_unchanged: bool  # a zero gradient leaves weight and state as they are


def sequence(stages):
    """One stage that carries out the given ones in order.

    Six at a time: each further level costs another pass of the compiler over all below it.
    """
    if len(stages) > 6:
        size = -(-len(stages) // 6)
        return sequence([sequence(stages[k : k + size]) for k in range(0, len(stages), size)])

    @register_jitable
    def nothing(m, x, first, rate, t):
        return

    s0, s1, s2, s3, s4, s5 = (*stages, *[nothing] * (6 - len(stages)))

    @register_jitable
    def all_of(m, x, first, rate, t):
        s0(m, x, first, rate, t)
        s1(m, x, first, rate, t)
        s2(m, x, first, rate, t)
        s3(m, x, first, rate, t)
        s4(m, x, first, rate, t)
        s5(m, x, first, rate, t)

    return all_of


@register_jitable
def copy_rows(target, source):
    """target ← source, both (n, 2)."""
    for row in range(target.shape[0]):
        target[row, 0] = source[row, 0]
        target[row, 1] = source[row, 1]


def slot_access(components: int, lanes):
    """Functions that read and write one partial sum, a tuple of vectors, in the scratch memory."""
    n = len(lanes)
    if components == 1:

        @register_jitable
        def get(slots, k):
            return (load(slots, k * n, lanes),)

        @register_jitable
        def put(slots, k, state):
            store(slots, k * n, state[0])

    else:

        @register_jitable
        def get(slots, k):
            return (load(slots, 2 * k * n, lanes), load(slots, (2 * k + 1) * n, lanes))

        @register_jitable
        def put(slots, k, state):
            store(slots, 2 * k * n, state[0])
            store(slots, (2 * k + 1) * n, state[1])

    return get, put


@register_jitable
def batch_slots(m):
    return m.slots


@register_jitable
def unit_slots(m):
    return m.unit_slots


def planned_sum(kit: Kit, accumulator, memory, slots: int, lanes, join):
    """A sum by a plan of that many slots: `join(m, state, leaf, ...)` lets a term join a state.

    The partial sums lie in memory(m), `batch_slots` or `unit_slots`.
    Returns total(m, plan, p0, p1, a, b, c, x, t): plan rows p0 to p1; a, b, c are for `join`.
    """
    start, _, _, merge, result = accumulator
    get, put = slot_access(len(start(0.0)), lanes)
    zero = kit.zero

    @register_jitable
    def total(m, plan, p0, p1, a, b, c, x, t):
        empty, held = start(fill(zero, lanes)), memory(m)
        for slot in range(slots):
            put(held, slot, empty)
        for row in range(p0, p1):
            slot, source = plan[row, 0], plan[row, 1]
            if source >= 0:
                put(held, slot, join(m, get(held, slot), source, a, b, c, x, t))
            else:
                put(held, slot, merge(get(held, slot), get(held, ~source), t))
                put(held, ~source, empty)
        return result(get(held, 0), t)

    return total


def first_forward(kit: Kit, place: Place):
    """z = Σ_j W[j] over the features present, + b; h = A(z).  Eqs. 4 to 6; embeddings have no b."""
    layer, lanes = place.layer, lanes_of(place.lanes)
    n, step, row, width = layer.fan_in // layer.sets, place.lanes, place.row, place.width
    batch, words, sets, zero = kit.batch, kit.words, layer.sets, kit.zero
    w_at, b_at, z_at = place.w, place.b, place.z
    bias, active, chain = layer.bias, layer.active, kit.unit_chain
    u0, u1 = place.units[0], place.units[0] + place.plan_rows[0]
    add, value = kit.ops.add, kit.value
    start, _, term, _, result = kit.unit_sum
    masks = set_masks(layer.sets, n, words)

    @register_jitable
    def join(m, state, j, at, feature0, c, x, t):
        j += feature0
        if (x[at, j >> 5] >> np.uint32(j & 31)) & np.uint32(1):
            return term(state, load(m.w, w_at + j * row + c, lanes), t)
        return state

    planned = planned_sum(kit, kit.unit_sum, unit_slots, place.slots[0], lanes, join)

    @register_jitable
    def forward(m, x, first, rate, t):
        for i in range(batch):
            for part in range(sets):
                present = 0
                for word in range(words):
                    v = x[first + i, word] & masks[part, word]
                    while v != 0:
                        m.on[present] = w_at + (32 * word + np.int64(trailing_zeros(v))) * row
                        present += 1
                        v &= v - np.uint32(1)
                for c in range(0, row, step):
                    if chain:
                        state = start(fill(zero, lanes))
                        for k in range(present):
                            state = term(state, load(m.w, m.on[k] + c, lanes), t)
                        z = result(state, t)
                    else:
                        z = planned(m, m.units, u0, u1, first + i, part * n, c, x, t)
                    if bias:
                        z = add(z, load(m.w, b_at + c, lanes), t)
                    at = z_at + i * width + part * row + c
                    store(m.z, at, z)
                    if active:
                        z = value(z, t)
                    store(m.h, at, z)

    return forward


def set_masks(sets: int, n: int, words: int) -> np.ndarray:
    """Bits of the features of each set in each word, (sets, words) uint32."""
    masks = np.zeros((sets, words), np.uint32)
    for j in range(sets * n):
        masks[j // n, j // 32] |= np.uint32(1 << (j % 32))
    return masks


def dense_forward(kit: Kit, place: Place):
    """z[i, u] = Σ_j h[i, j]·W[j, u] + b[u]; h = A(z)."""
    layer, lanes = place.layer, lanes_of(place.lanes)
    fan_in, below, width, step = layer.fan_in, place.below, place.width, place.lanes
    w_at, b_at, z_at, h_at = place.w, place.b, place.z, place.z_below
    active, batch, zero, chain = layer.active, kit.batch, kit.zero, kit.unit_chain
    u0, u1 = place.units[0], place.units[0] + place.plan_rows[0]
    add, value = kit.ops.add, kit.value
    start, product, _, _, result = kit.unit_sum

    @register_jitable
    def join(m, state, j, i, c, unused, x, t):
        h = fill(m.h[h_at + i * below + j], lanes)
        return product(state, h, load(m.w, w_at + j * width + c, lanes), t)

    planned = planned_sum(kit, kit.unit_sum, unit_slots, place.slots[0], lanes, join)

    @register_jitable
    def forward(m, x, first, rate, t):
        for i in range(batch):
            for c in range(0, width, step):
                if chain:
                    state = start(fill(zero, lanes))
                    for j in range(fan_in):
                        state = join(m, state, j, i, c, 0, x, t)
                    z = result(state, t)
                else:
                    z = planned(m, m.units, u0, u1, i, c, 0, x, t)
                z = add(z, load(m.w, b_at + c, lanes), t)
                store(m.z, z_at + i * width + c, z)
                if active:
                    z = value(z, t)
                store(m.h, z_at + i * width + c, z)

    return forward


def output_gradient(kit: Kit, place: Place, longest: int):
    """δ[i] = (σ(z[i]) - y[i])/s, the gradient of the mini-batch's mean loss; vectors of examples."""
    lanes, z_at, batch = lanes_of(longest), place.z, kit.batch
    size = kit.ops.const(float(kit.batch))
    squash, sub, div = kit.sigmoid, kit.ops.sub, kit.ops.div

    @register_jitable
    def gradient(m, x, first, rate, t):
        for i in range(0, batch, longest):
            p = squash(load(m.z, z_at + i, lanes), t)
            d = div(sub(p, load(m.y, i, lanes), t), fill(size, lanes), t)
            store(m.d, z_at + i, d)

    return gradient


def dense_backward(kit: Kit, place: Place, under: Place):
    """δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j])."""
    lanes, step = lanes_of(under.lanes), under.lanes
    fan_out, below, width = place.layer.fan_out, place.below, place.width
    wt_at, d_at, z_at = place.wt, place.z, place.z_below
    active, batch, zero, chain = under.layer.active, kit.batch, kit.zero, kit.unit_chain
    u0, u1 = place.units[1], place.units[1] + place.plan_rows[1]
    start, product, _, _, result = kit.unit_sum
    mul, slope = kit.ops.mul, kit.slope

    @register_jitable
    def join(m, state, u, i, c, unused, x, t):
        d = fill(m.d[d_at + i * width + u], lanes)
        return product(state, load(m.wt, wt_at + u * below + c, lanes), d, t)

    planned = planned_sum(kit, kit.unit_sum, unit_slots, place.slots[1], lanes, join)

    @register_jitable
    def backward(m, x, first, rate, t):
        for i in range(batch):
            for c in range(0, below, step):
                if chain:
                    state = start(fill(zero, lanes))
                    for u in range(fan_out):
                        state = join(m, state, u, i, c, 0, x, t)
                    g = result(state, t)
                else:
                    g = planned(m, m.units, u0, u1, i, c, 0, x, t)
                at = z_at + i * below + c
                if active:
                    g = mul(g, slope(load(m.z, at, lanes), t), t)
                store(m.d, at, g)

    return backward


def bias_update(kit: Kit, place: Place):
    """b ← update(b, Σ_i δ[i])."""
    lanes, step, width, batch = lanes_of(place.lanes), place.lanes, place.width, kit.batch
    d_at, b_at, zero, chain = place.z, place.b, kit.zero, kit.batch_chain
    start, _, term, _, result = kit.batch_sum
    update = kit.update

    @register_jitable
    def join(m, state, i, c, unused, unused2, x, t):
        return term(state, load(m.d, d_at + i * width + c, lanes), t)

    planned = planned_sum(kit, kit.batch_sum, batch_slots, kit.batch_slots, lanes, join)

    @register_jitable
    def stage(m, x, first, rate, t):
        for c in range(0, width, step):
            if chain:
                state = start(fill(zero, lanes))
                for i in range(batch):
                    state = join(m, state, i, c, 0, 0, x, t)
                g = result(state, t)
            else:
                g = planned(m, m.plan, 0, m.plan.shape[0], c, 0, 0, x, t)
            w, a = load(m.w, b_at + c, lanes), load(m.a, b_at + c, lanes)
            w, a = update(w, a, g, fill(rate, lanes), t)
            store(m.w, b_at + c, w)
            store(m.a, b_at + c, a)

    return stage


def dense_update(kit: Kit, place: Place):
    """W[j, u] ← update(W[j, u], Σ_i h[i, j]·δ[i, u]); the gradient is never stored."""
    layer, lanes, step = place.layer, lanes_of(place.lanes), place.lanes
    fan_in, fan_out, width, below = layer.fan_in, layer.fan_out, place.width, place.below
    w_at, wt_at, d_at, h_at = place.w, place.wt, place.z, place.z_below
    batch, zero, chain = kit.batch, kit.zero, kit.batch_chain
    start, product, _, _, result = kit.batch_sum
    update = kit.update

    @register_jitable
    def join(m, state, i, j, c, unused, x, t):
        h = fill(m.h[h_at + i * below + j], lanes)
        return product(state, h, load(m.d, d_at + i * width + c, lanes), t)

    planned = planned_sum(kit, kit.batch_sum, batch_slots, kit.batch_slots, lanes, join)

    @register_jitable
    def stage(m, x, first, rate, t):
        for j in range(fan_in):
            for c in range(0, width, step):
                if chain:
                    state = start(fill(zero, lanes))
                    for i in range(batch):
                        state = join(m, state, i, j, c, 0, x, t)
                    g = result(state, t)
                else:
                    g = planned(m, m.plan, 0, m.plan.shape[0], j, c, 0, x, t)
                at = w_at + j * width + c
                w, a = update(load(m.w, at, lanes), load(m.a, at, lanes), g, fill(rate, lanes), t)
                store(m.w, at, w)
                store(m.a, at, a)
        for j in range(fan_in):
            for u in range(fan_out):
                m.wt[wt_at + u * below + j] = m.w[w_at + j * width + u]

    return stage


def first_update(kit: Kit, place: Place):
    """W[j] ← update(W[j], Σ_i δ[i] over the examples in which feature j is present).

    A feature that no example of the mini-batch has, leaves its row as it is under AdaGrad: the row
    is passed over.
    """
    layer, lanes, step = place.layer, lanes_of(place.lanes), place.lanes
    fan_in, row, width, n = layer.fan_in, place.row, place.width, layer.fan_in // layer.sets
    w_at, d_at, batch, zero = place.w, place.z, kit.batch, kit.zero
    chain, skip = kit.batch_chain, kit.skip_unchanged
    start, _, term, _, result = kit.batch_sum
    update = kit.update

    @register_jitable
    def join(m, state, i, j, c, first, x, t):
        if (x[first + i, j >> 5] >> np.uint32(j & 31)) & np.uint32(1):
            return term(state, load(m.d, d_at + i * width + c, lanes), t)
        return state

    planned = planned_sum(kit, kit.batch_sum, batch_slots, kit.batch_slots, lanes, join)

    @register_jitable
    def stage(m, x, first, rate, t):
        for j in range(fan_in):
            word, bit = j >> 5, np.uint32(j & 31)
            part = (j // n) * row
            present = 0
            for i in range(batch):
                m.on[present] = d_at + i * width + part
                present += np.int64((x[first + i, word] >> bit) & np.uint32(1))
            if skip and present == 0:
                continue
            for c in range(0, row, step):
                if chain:
                    state = start(fill(zero, lanes))
                    for k in range(present):
                        state = term(state, load(m.d, m.on[k] + c, lanes), t)
                    g = result(state, t)
                else:
                    g = planned(m, m.plan, 0, m.plan.shape[0], j, part + c, first, x, t)
                at = w_at + j * row + c
                w, a = update(load(m.w, at, lanes), load(m.a, at, lanes), g, fill(rate, lanes), t)
                store(m.w, at, w)
                store(m.a, at, a)

    return stage


@dataclass(frozen=True)
class Compiled:
    """The functions of a recipe and the memory they work on."""

    map: Map
    ops: object
    start: float
    train: object
    forward: object


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
    itemsize = np.dtype(ops.dtype).itemsize
    chart = make_map(net, config.batch, itemsize, dials.unit_tree)
    places = chart.places
    longest = REGISTER // itemsize
    value, slope = ACTIVATIONS[config.act](simd, ops, config.beta)
    update, start = OPTIMIZERS[config.optimizer](simd, ops, config)
    kit = Kit(
        batch=config.batch,
        words=-(-features // 32),
        ops=ops,
        zero=ops.const(0.0),
        batch_sum=ACCUMULATORS[dials.accumulator](simd, ops),
        unit_sum=ACCUMULATORS[dials.unit_accumulator](simd, ops),
        batch_slots=summation.plan_slots(dials.tree, config.batch),
        batch_chain=dials.tree == "chain",
        unit_chain=dials.unit_tree == "chain" and dials.unit_order == "given",
        value=value,
        slope=slope,
        sigmoid=sigmoid(simd, ops),
        update=update,
        skip_unchanged=config.optimizer == "adagrad",
    )
    up = [first_forward(kit, places[0])]
    up += [dense_forward(kit, place) for place in places[1:]]
    down = [output_gradient(kit, places[-1], longest)]
    for k in range(len(places) - 1, 0, -1):
        down.append(dense_backward(kit, places[k], places[k - 1]))
        down += [dense_update(kit, places[k]), bias_update(kit, places[k])]
    down.append(first_update(kit, places[0]))
    if places[0].layer.bias:
        down.append(bias_update(kit, places[0]))
    ascend, step, batch, digest = sequence(up), sequence(up + down), config.batch, sources()

    @njit(cache=True, nogil=True)
    def train(m, x, y, rates, key, number, plans, units):
        """Train on the examples x (n, words), y (n,), a whole number of mini-batches."""
        t = (key[0], key[1], np.uint64(number))
        for k in range(x.shape[0] // batch):
            for i in range(batch):
                m.y[i] = y[k * batch + i]
            if plans.shape[0]:
                copy_rows(m.plan, plans[k % plans.shape[0]])
            if units.shape[0]:
                copy_rows(m.units, units[k % units.shape[0]])
            t = (key[0], key[1], np.uint64(number + k))
            step(m, x, k * batch, rates[k % rates.shape[0]], t)
        return digest

    @njit(cache=True, nogil=True)
    def forward(m, x, first, z, key, number, units):
        """Logits z (batch,) of the examples from `first` on."""
        if units.shape[0]:
            copy_rows(m.units, units[0])
        ascend(m, x, first, m.y[0], (key[0], key[1], np.uint64(number)))
        for i in range(batch):
            z[i] = m.z[z_last + i]
        return digest

    z_last = places[-1].z
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
        start = self.const(self.compiled.start)
        widest = max(n for place in chart.places for n in place.slots)
        wide, unit_wide = (
            np.float64 if name == "wide" else dtype
            for name in (dials.accumulator, dials.unit_accumulator)
        )
        self.memory = Memory(
            w=np.zeros(chart.parameters, dtype),
            a=np.full(chart.parameters, start, dtype),
            wt=np.zeros(chart.transposed, dtype),
            z=np.zeros(chart.activations, dtype),
            h=np.zeros(chart.activations, dtype),
            d=np.zeros(chart.activations, dtype),
            y=np.zeros(round_up(config.batch, longest), dtype),
            slots=np.zeros(2 * summation.plan_slots(dials.tree, config.batch) * longest, wide),
            unit_slots=np.zeros(2 * widest * longest, unit_wide),
            on=np.zeros(max(config.batch, recipe.features) + 1, np.int64),
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
            table = flat[place.w : place.w + layer.fan_in * place.row].reshape(-1, place.row)
            for part in range(layer.sets):
                views[layer.names[part]] = table[part * n : (part + 1) * n, : layer.row]
            if layer.bias:
                views[layer.names[-1]] = flat[place.b : place.b + layer.fan_out]
        return views

    def _load(self, parameters: Parameters) -> None:
        for name, view in self._views(self.memory.w).items():
            view[:] = self.const(parameters[name])
        for place in self.compiled.map.places[1:]:
            w = self._views(self.memory.w)[place.layer.names[0]]
            wt = self.memory.wt[place.wt :][: place.layer.fan_out * place.below]
            wt.reshape(-1, place.below)[:, : place.layer.fan_in] = w.T

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return {name: view.copy() for name, view in self._views(self.memory.w).items()}

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order."""
        config, dials = self.recipe.config, self.recipe.dials
        steps = len(y) // config.batch
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
        units = self._unit_plans(1)
        for first in range(0, n, batch):
            self.compiled.forward(
                self.memory, x, first, z[first:], self._rounding_key(), self.step, units
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
                for back, n in enumerate((place.layer.fan_in // place.layer.sets,
                                          place.layer.fan_out)):
                    block = ((self.step + k) * len(places) + at) * 2 + back
                    rows = summation.plan(dials.unit_tree, dials.unit_order, n, key, block)
                    plans[k, place.units[back] :][: len(rows)] = rows
        return plans


@njit(cache=True, nogil=True)
def permute_rows(orders, key, first):
    """The permutations of the blocks first, first + 1, ... of a stream, one a row, in place."""
    for k in range(orders.shape[0]):
        block = np.uint64(first + k)
        permute(orders[k], key, block & np.uint64(0xFFFFFFFF), block >> np.uint64(32))


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
    """`data.examples`, one Philox call an example."""
    low16, u16, low32, u32 = (
        np.uint64(0xFFFF), np.uint64(16), np.uint64(0xFFFFFFFF), np.uint64(32),
    )  # fmt: skip
    for i in range(x.shape[0]):
        c = np.uint64(first + i)
        w0, w1, w2, w3 = philox(c & low32, c >> u32, np.uint64(0), np.uint64(0), key[0], key[1])
        a, b = np.int64(w0 & low16), np.int64(w0 >> u16)
        low = a if w1 < accept[a] else np.int64(alias[a])
        high = b if w2 < accept[b] else np.int64(alias[b])
        o = odds[0, low] * odds[1, high]
        u = (np.float64(w3) + 0.5) * 2.0**-32
        x[i] = np.uint32(low | (high << 16))
        y[i] = np.uint8(u * (1.0 + o) < o)


def examples(world: World, key: np.ndarray, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples first, ..., first + n - 1 of a stream: features (n,) uint32 and labels (n,) uint8."""
    x, y = np.empty(n, np.uint32), np.empty(n, np.uint8)
    draw(key, first, world.accept, world.alias, world.odds, x, y)
    return x, y
