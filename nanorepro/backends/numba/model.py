"""The fast execution: the reference's operations in its order, compiled for one model.

A training step is a sequence of stages (`stages` and the layers' modules) over a memory (`layout`);
the streams are drawn by `numba_draws`, whose `draw`, `shuffle`, `split`, `examples` and
`permutations` are this backend's, as exp, log and fsum are `numba_elementary`'s and `pack` is
`numba_packing`'s.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numba import njit

from nanorepro.backends.numba.draws import (
    draw,
    examples,
    permutations,
    random_trees,
    shuffle,
    split,
)
from nanorepro.backends.numba.ensemble import make_ensemble
from nanorepro.backends.numba.exp_log import exp, fsum, log
from nanorepro.backends.numba.kernels.input_layer import (
    find_features,
    first_forward,
    first_update,
    present_forward,
)
from nanorepro.backends.numba.kernels.large_layers import backward_and_update, dense_forward
from nanorepro.backends.numba.kernels.narrow_input_layer import (
    narrow_forward,
    narrow_present_forward,
    narrow_tiled_update,
    narrow_update,
)
from nanorepro.backends.numba.kernels.recomputed_layers import (
    passing_backward,
    passing_forward,
    passing_update,
)
from nanorepro.backends.numba.kernels.row_gradients import (
    few_bias_sums,
    fused_backward,
    shared_gradients,
    turn_deltas,
    turn_outputs,
)
from nanorepro.backends.numba.kernels.small_layers import (
    across_backward,
    across_forward,
    across_gradients,
)
from nanorepro.backends.numba.kernels.sparse_layers import (
    find_equals,
    has_zeros,
    sparse_backward_and_update,
    sparse_forward,
)
from nanorepro.backends.numba.kernels.step import (
    Kit,
    bias_sums,
    essence,
    make_kit,
    output_gradient,
    sequence,
    update_small,
)
from nanorepro.backends.numba.layout import (
    Map,
    Memory,
    Ways,
    allocate,
    flat_lanes,
    make_map,
    terms_of,
)
from nanorepro.backends.numba.llvm.compiler import sources
from nanorepro.backends.numba.llvm.simd import inlined, load, numbers, pointer, pointers, store
from nanorepro.backends.numba.packing import pack
from nanorepro.backends.numba.sums.by_plan import LONG, lanes_of
from nanorepro.backends.numba.sums.exact import BINS
from nanorepro.config import Config, Dials
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.layers import Parameters
from nanorepro.model.optimizers import learning_rates
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.plans import fixed_plan, plan, plan_rows
from nanorepro.numerics.rounding import Operations, operations
from nanorepro.specification import ModelSpec, layers

__all__ = [
    "Model",
    "draw",
    "examples",
    "exp",
    "fsum",
    "log",
    "pack",
    "permutations",
    "shuffle",
    "split",
    "train_models",
]

NARROW = 4  # units of a first layer that are summed over all features


@inlined
def copy(target, source, at, n):
    """The n numbers of source from `at` on become those of target."""
    for k in range(n):
        target[k] = source[at + k]


@dataclass(frozen=True)
class Compiled:
    """The functions of a model specification and what their memory has to be."""

    map: Map
    ops: Operations
    starts: tuple[float, ...]
    train: Callable
    forward: Callable


def stages_of(kit: Kit, chart: Map, ways: Ways) -> tuple[list, list]:
    """The stages of a step: those of the forward pass, and those from the loss to the update."""
    first, *dense = places = chart.places
    layers = list(zip(dense, places, (*dense[1:], None), strict=False))  # with those under and over
    find = [find_features(kit, first)]
    if ways.sparse:  # nothing waits for them before the gradients
        up, down = [first_forward(kit, first)], find
    elif ways.narrow and ways.plain:
        up, down = [narrow_present_forward(kit, first)], []
    elif first.across and ways.plain:
        up, down = [*find, present_forward(kit, first)], []
    else:
        forward = narrow_forward if ways.narrow else first_forward
        up, down = [*find, forward(kit, first)], []
    # sums that are a number each, and are taken beside those of a narrow layer
    beside = ways.narrow and ways.tiled and not chart.width and chart.units <= kit.longest
    upper = dense[0] if beside and dense and dense[0].layer.fan_out == 1 else None
    if any(ways.plain and has_zeros(kit, place, under) for place, under, _ in layers):
        up.insert(0, find_equals(kit))
    for place, under, over in layers:
        if place.passing:
            up.append(passing_forward(kit, place, under, over))
        elif ways.plain and has_zeros(kit, place, under):
            up.append(sparse_forward(kit, place, under))
        elif not under.passing:
            up.append((across_forward if place.across else dense_forward)(kit, place, under))
    down.append(output_gradient(kit, places[-1]))
    if chart.outputs:
        down.append(turn_outputs(kit, chart))
    # as soon as the δ of all layers of a few units are there: what waits then overlaps the rest
    lowest = next((place for place in places if place.column >= 0), None)
    if lowest is places[-1]:
        down += few_stages(kit, chart, beside)
    for place, under, over in reversed(layers):
        if place.passing:
            down.append(passing_backward(kit, place, under, over))
            down.append(passing_update(kit, place, under, over))
        elif ways.plain and ways.chain and has_zeros(kit, place, under):
            down.append(sparse_backward_and_update(kit, place, under, chart.parameters))
        elif not place.across:
            down.append(backward_and_update(kit, place, under, chart.parameters))
        elif not under.passing:
            down.append((fused_backward if place.fused else across_backward)(kit, place, under))
        if under is lowest:
            down += few_stages(kit, chart, beside)
    for place, under, _ in layers:
        together = place.passing or place.shared or place.fused or place is upper
        if place.across and not (together or under.passing):
            down.append(across_gradients(kit, place, under, chart))
    for place, over in zip(places, (*dense, None), strict=True):
        # those of few units together, others across with their weights, or below a fused layer
        together = place.column >= 0 or (place.across and place.by_output == 1)
        if place.layer.bias and not together and not (over and over.fused):
            down.append(bias_sums(kit, place))
    small = [update_small(kit, chart)]
    if ways.narrow and ways.tiled:
        return up, [*down, narrow_tiled_update(kit, first, chart, beside, upper), *small]
    if ways.narrow:
        return up, [*down, narrow_update(kit, first), *small]
    if first.alone:  # its branches are decided while the divisions go on: 12.3 → 11.9 ns
        return up, [*down, *small, first_update(kit, first, chart)]
    return up, [*down, first_update(kit, first, chart), *small]


def few_stages(kit: Kit, chart: Map, beside: bool) -> list:
    """The gradients that layers of a few units take together, and what they need for it."""
    found = [turn_deltas(kit, chart)] if chart.width else []
    if chart.outputs:
        found.append(shared_gradients(kit, chart))
    elif not beside:
        found.append(few_bias_sums(kit, chart))
    return found


@cache
def compile_model(config: Config, dials: Dials, features: int) -> Compiled:
    """The functions for a configuration as `essence` gives it."""
    net, kit = layers(config, features), make_kit(config, dials, features)
    longest, ops = kit.longest, kit.ops
    wholly = {"wide", "exact"} & {dials.accumulator, dials.unit_accumulator}
    units = net[0].fan_out
    plain, tiled = kit.unit_sums.resumable(1), kit.batch_sums.tiled(config.batch)
    sparse = plain and tiled and features <= 32 and net[0].sets == 1
    ways = Ways(
        narrow=units <= NARROW and not wholly,
        sparse=sparse and longest < 2 * units <= 4 * longest,
        plain=plain,
        tiled=tiled,
        chain=kit.batch_sums.resumable(config.batch),
        passing=plain and tiled and not ACTIVATIONS[config.act].costly,
    )
    chart = make_map(net, config.batch, longest, dials, ways)
    kit = replace(kit, examples=chart.examples, parameters=chart.parameters)
    up, down = stages_of(kit, chart, ways)
    ascend, descend, batch, digest = sequence(up), sequence(down), config.batch, sources()
    z_last, step = chart.places[-1].z, flat_lanes(batch, longest)
    lanes = lanes_of(step)

    plan_size, units_size = 2 * plan_rows(dials.tree, batch), 2 * chart.unit_rows

    @njit(cache=True, nogil=True)
    def train(memory, x, y, rates, key, number, plans, units):
        """Train on the examples x (n, words), y (n,), a whole number of mini-batches."""
        m, features, labels = pointers(memory), pointer(x), pointer(y)
        for k in range(x.shape[0] // batch):
            for i in range(0, batch, step):
                store(m.y, i, numbers(load(labels, k * batch + i, lanes), m.y))
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

    return Compiled(chart, ops, kit.starts, train, forward)


def in_leaf_order(spec: ModelSpec, step: int, x: np.ndarray, y: np.ndarray) -> tuple:
    """The examples and labels of all mini-batches from a step on in their leaf order."""
    batch, order = spec.config.batch, spec.dials.leaf_order
    steps = len(y) // batch
    if order == "given":
        return x, y
    if order == "random":
        at = permutations(spec.key("order"), step, steps, batch)
    else:
        at = np.arange(steps * batch).reshape(steps, batch)[:, ::-1].ravel()
    return x[at], y[at]


class Model:
    """One model in training."""

    def __init__(self, spec: ModelSpec, parameters: Parameters, step: int = 0):
        self.spec, self.step = spec, step
        # once, not with every call of `train`: 21 → 8 µs before the kernel begins
        self.dials, self.rounding_key = spec.dials, spec.key("rounding")
        config, dials = spec.config, self.dials
        self.compiled = compile_model(essence(config), dials, spec.features)
        chart, dtype = self.compiled.map, self.compiled.ops.dtype
        self.const = operations(numpy_arrays, dials.precision, dials.rounding, dials.fma).const
        words, blocks = -(-spec.features // 32), -(-config.batch // 32)
        self.memory = allocate(Memory(
            w=(chart.parameters, dtype),
            a=(len(self.compiled.starts) * chart.parameters, dtype),
            z=(chart.activations, dtype),
            h=(chart.activations, dtype),
            d=(chart.activations, dtype),
            turned=(chart.turned, dtype),
            back=((64 + chart.most) * chart.examples, dtype),
            y=(chart.examples, dtype),
            g=(chart.parameters + chart.block, dtype),
            one=(2, dtype),
            rows=(chart.rows, dtype),
            outputs=(chart.rows if chart.outputs else 0, dtype),
            word=(32, np.uint32),
            present=(words + 1, np.uint32),
            found=(words * blocks, np.uint32),
            columns=(32 * words * blocks, np.uint32),
            like=(32 * blocks, np.uint32),
            on=(chart.on, np.uint32),
            who=(blocks * chart.most, np.uint32),
            alive=(2 * (chart.most + 32), np.int64),
            slots=(2 * chart.slots * LONG, dtype),
            wide_slots=(chart.slots * LONG, np.float64),
            bins=(BINS, np.int64),
            special=(1, np.float64),
            lane=(LONG, dtype),
            plan=((plan_rows(dials.tree, config.batch), 2), np.int64),
            units=((chart.unit_rows, 2), np.int64),
        ))  # fmt: skip
        for state, start in zip(
            self.memory.a.reshape(-1, chart.parameters), self.compiled.starts, strict=True
        ):
            state[:] = self.const(start)
        self.memory.one[:] = 1, 2.0 ** (np.finfo(dtype).maxexp - 51)
        self._load(parameters)

    def _views(self, flat: np.ndarray) -> Parameters:
        """The parameters as views of a flat array, in their own shapes."""
        views = {}
        for place in self.compiled.map.places:
            layer = place.layer
            n = layer.fan_in // layer.sets
            flat_weights = flat[place.w : place.w + place.weights]
            if place.by_output > 1:
                table = flat_weights.reshape(-1, place.by_output)[:, : layer.fan_in].T
            else:
                table = flat_weights.reshape(-1, place.by_input)
            for part in range(layer.sets):
                u = part * layer.row if place.by_output > 1 else 0
                views[layer.names[part]] = table[part * n : (part + 1) * n, u : u + layer.row]
            if layer.bias:
                views[layer.names[-1]] = flat[place.b : place.b + layer.fan_out]
        return views

    def _load(self, parameters: Parameters) -> None:
        for name, view in self._views(self.memory.w).items():
            view[:] = self.const(parameters[name])

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return {name: view.copy() for name, view in self._views(self.memory.w).items()}

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order."""
        config = self.spec.config
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y, np.uint8)
        steps = len(y) // config.batch
        x, y = in_leaf_order(self.spec, self.step, x, y)
        rates = self.const(learning_rates(config, self.step, steps))
        self.compiled.train(
            self.memory, x, y, np.asarray(rates, self.compiled.ops.dtype), self.rounding_key,
            self.step,
            self._batch_plans(steps), self._unit_plans(steps),
        )  # fmt: skip
        self.step += steps

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of packed examples, (n,)."""
        batch, n = self.spec.config.batch, len(x)
        x = np.concatenate([x, np.zeros((-n % batch, x.shape[1]), np.uint32)])
        z = np.empty(len(x), self.compiled.ops.dtype)
        self.compiled.forward(self.memory, x, z, self.rounding_key, self.step, self._unit_plans(1))
        return z[:n]

    def _batch_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over the mini-batch: none, one for all steps, or one a step."""
        dials, batch = self.dials, self.spec.config.batch
        if dials.tree == "chain":
            return np.zeros((0, *self.memory.plan.shape), np.int64)
        if dials.tree != "random":
            return fixed_plan(dials.tree, batch)[None]
        plans = np.empty((steps, *self.memory.plan.shape), np.int64)
        random_trees(plans, batch, self.spec.key("order"), self.step)
        return plans

    def _unit_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over units, those of all layers one after another."""
        dials = self.dials
        if (dials.unit_tree, dials.unit_order) == ("chain", "given"):
            return np.zeros((0, *self.memory.units.shape), np.int64)
        random = "random" in (dials.unit_tree, dials.unit_order)
        key, places = self.spec.key("order", "units"), self.compiled.map.places
        plans = np.zeros((steps if random else 1, *self.memory.units.shape), np.int64)
        for k in range(len(plans)):
            for at, place in enumerate(places):
                for back, n in enumerate(terms_of(place.layer)):
                    block = ((self.step + k) * len(places) + at) * 2 + back
                    rows = plan(dials.unit_tree, dials.unit_order, n, key, block)
                    plans[k, (place.up, place.down)[back] :][: len(rows)] = rows
        return plans


def train_models(
    spec: ModelSpec, records: Sequence[Parameters], x: np.ndarray, y: np.ndarray
) -> list[Parameters]:
    """The records, each trained on the same packed examples; small models side by side."""
    found: list[Parameters] = []
    while len(found) < len(records):
        rest = records[len(found) :]
        if ensemble := make_ensemble(spec, rest):
            ensemble.train(*in_leaf_order(spec, 0, x, y))
            found += ensemble.parameters()
        else:
            model = Model(spec, rest[0])
            model.train(x, y)
            found.append(model.parameters())
    return found
