"""What a training step is made of, compiled: the stages' form, their common parts, the last ones.

A stage is a function (m, x, first, rate, t), made by a factory for fixed widths, activation,
optimizer and dials: m the memory, x (n, words) the packed examples, `first` the index of the
mini-batch's first, `rate` the learning rate and t what stochastic rounding draws from.  Vectors lie
across outputs (units, inputs or examples), never across the terms of a sum, so each sum keeps the
order of its plan.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from nanorepro.backends.numba.layout import Map, Place, flat_lanes, round_up
from nanorepro.backends.numba.llvm import simd
from nanorepro.backends.numba.llvm.simd import fill, inlined, load, store
from nanorepro.backends.numba.llvm.tiles import transpose
from nanorepro.backends.numba.sums.by_plan import REGISTER, Sums, lanes_of
from nanorepro.backends.numba.sums.products import Matrix, products
from nanorepro.config import Config, Dials
from nanorepro.model.activations import ACTIVATIONS, sigmoid
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.rounding import Operations, operations

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
    backward: Callable
    sigmoid: Callable
    update: Callable
    starts: tuple[float, ...]  # of the optimizer's state, one number for each weight in each
    parameters: int  # from one number of a weight's state to the next, in m.a
    skip_unchanged: bool  # a zero gradient leaves weight and state as they are
    zeros: bool  # A(z) is 0 for so many z that it is worth asking for which


@cache
def essence(config: Config) -> Config:
    """The configuration with what does not concern the compiled code at its default."""
    plain = Config()
    names = ("log2_examples", "log2_window", "log2_eval", "first_example", "pairs", "differ", "lr")
    names += ("decay", "init", "eval_every", "seed", "warm_start", "data")
    return replace(config, **{name: getattr(plain, name) for name in names})


def make_kit(config: Config, dials: Dials, features: int) -> Kit:
    """The kit of a configuration; `examples` and `parameters` are the layout's to say."""
    ops = operations(simd, dials.precision, dials.rounding, dials.fma)
    activation, optimizer = ACTIVATIONS[config.act], OPTIMIZERS[config.optimizer]
    value, backward = activation.make(simd, ops, config.beta)
    return Kit(
        batch=config.batch,
        examples=config.batch,
        words=-(-features // 32),
        longest=REGISTER // np.dtype(ops.dtype).itemsize,
        ops=ops,
        batch_sums=Sums(ops, dials.accumulator, dials.tree, True),
        unit_sums=Sums(ops, dials.unit_accumulator, dials.unit_tree, dials.unit_order == "given"),
        value=value,
        backward=backward,
        sigmoid=sigmoid(simd, ops),
        update=optimizer.make_update(simd, ops, config),
        starts=optimizer.starts(config),
        parameters=0,
        skip_unchanged=optimizer.zero_gradient_changes_nothing,
        zeros=activation.often_zero,
    )


def sequence(stages):
    """One stage that carries out the given ones in order.

    Six at a time: each further level costs another pass of the compiler over all below it.
    """
    if len(stages) == 1:
        return stages[0]
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


def activated(kit: Kit, place: Place, rows: int) -> Callable:
    """A function (m, r, u, t): z ← z + b (embeddings have no b); h = A(z), z where no A follows.

    Of the `rows` units from u on, which lie from row r on, or of the examples from r on where the
    units lie side by side.
    """
    across, z_at, b_at = place.across, place.z, place.b
    stride = place.by_unit if across else place.by_example
    width = kit.examples if across else place.width
    bias, active = place.layer.bias, place.layer.active
    above = active or not bias  # nothing reads the h of the output
    add, value = kit.ops.add, kit.value
    step = kit.longest if across else place.lanes
    lanes = lanes_of(step)

    @inlined
    def finish(m, r0, u0, t):
        for r in range(r0, r0 + rows):
            for c in range(0, width, step):
                at = z_at + r * stride + c
                z = load(m.z, at, lanes)
                if bias:
                    b = (
                        fill(m.w[b_at + u0 + r - r0], lanes)
                        if across
                        else load(m.w, b_at + c, lanes)
                    )
                    z = add(z, b, t)
                    store(m.z, at, z)
                if active:
                    z = value(z, t)
                if above:
                    store(m.h, at, z)

    return finish


def bent(kit: Kit, place: Place, rows: int) -> Callable:
    """A function (m, r, t): δ ← δ·A'(z), where an activation follows; rows as in `activated`."""
    across, z_at, active = place.across, place.z, place.layer.active
    stride = place.by_unit if across else place.by_example
    width = kit.examples if across else place.width
    step = kit.longest if across else place.lanes
    backward, lanes = kit.backward, lanes_of(step)

    @inlined
    def bend(m, r0, t):
        if active:
            for r in range(r0, r0 + rows):
                for c in range(0, width, step):
                    at = z_at + r * stride + c
                    store(m.d, at, backward(load(m.d, at, lanes), load(m.z, at, lanes), t))

    return bend


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


def few_units(units: int, terms: int) -> int:
    """Units to take at a time, so that what is between two sums stays in the nearest cache."""
    if terms > FEW:
        return units
    return next((rows for rows in (16, 8, 4) if units % rows == 0), units)


def some_vectors(n: int, longest: int) -> int:
    """Of n numbers side by side as many as are turned round at a time, a divisor."""
    return 4 * longest if n % (4 * longest) == 0 else n


def state_access(kit: Kit, read: Callable, write: Callable) -> tuple[Callable, Callable]:
    """Functions get(m, at) and put(m, at, state) for the optimizer's state of the weights at `at`.

    A state is a tuple, as `model.optimizers` has it; number k of the weight `at` is at
    m.a[at + k·parameters].  read(array, at) and write(array, at, vector) say which weights.
    """

    def access(count: int) -> tuple[Callable, Callable]:
        if count == 0:
            return no_state, nothing_to_put
        (get_before, put_before), k = access(count - 1), count - 1
        offset = k * kit.parameters

        @inlined
        def get(m, at):
            return get_before(m, at) + (read(m.a, at + offset),)

        @inlined
        def put(m, at, state):
            put_before(m, at, state)
            write(m.a, at + offset, state[k])

        return get, put

    return access(len(kit.starts))


@inlined
def no_state(m, at):
    return ()


@inlined
def nothing_to_put(m, at, state):
    return


def vector_state(kit: Kit, lanes: tuple[int, ...]) -> tuple[Callable, Callable]:
    """`state_access` of a vector of weights that lie side by side."""

    @inlined
    def read(array, at):
        return load(array, at, lanes)

    @inlined
    def write(array, at, vector):
        store(array, at, vector)

    return state_access(kit, read, write)


@cache
def apply_gradients(kit: Kit, n: int) -> Callable:
    """Update the n weights from `at` on by the gradients from m.g[g_at] on."""
    step = flat_lanes(n, kit.longest)
    lanes, update = lanes_of(step), kit.update
    get_state, put_state = vector_state(kit, lanes)

    @inlined
    def apply(m, g_at, at, rate, t):
        for k in range(0, n, step):
            g, rates = load(m.g, g_at + k, lanes), fill(rate, lanes)
            w, state = update(load(m.w, at + k, lanes), get_state(m, at + k), g, rates, t)
            store(m.w, at + k, w)
            put_state(m, at + k, state)

    return apply


def output_gradient(kit: Kit, place: Place) -> Callable:
    """δ[i] = (σ(z[i]) - y[i])/s, the gradient of the mean loss by z; vectors of examples.

    Two vectors at a time, as the terms of exp wait for each other.
    """
    z_at, padded = place.z, round_up(kit.batch, kit.longest)
    step = min(2 * kit.longest, padded & -padded)
    lanes, size = lanes_of(step), kit.ops.const(float(kit.batch))
    squash, sub, div = kit.sigmoid, kit.ops.sub, kit.ops.div

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(0, padded, step):
            p = squash(load(m.z, z_at + i, lanes), t)
            d = div(sub(p, load(m.y, i, lanes), t), fill(size, lanes), t)
            store(m.d, z_at + i, d)

    return stage


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


def update_small(kit: Kit, chart: Map) -> Callable:
    """All parameters whose gradients lie ready in m.g."""
    small = chart.small
    apply = apply_gradients(kit, chart.parameters - small)

    @inlined
    def stage(m, x, first, rate, t):
        apply(m, small, small, rate, t)

    return stage
