"""The fast execution: the reference's operations in its order, compiled for one model.

A training step is a sequence of kernels (`kernels.step`) over a memory (`layout`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanorepro.backends.numba.context import KernelContext, make_context
from nanorepro.backends.numba.draws import permutations, random_trees
from nanorepro.backends.numba.ensemble import make_ensemble
from nanorepro.backends.numba.kernels.step import Step, build, make_step
from nanorepro.backends.numba.layout import (
    Memory,
    allocate,
    flat_lanes,
    plan_slots,
    unit_plan_rows,
    unit_terms,
)
from nanorepro.backends.numba.llvm.cache import KEPT, PARTS_KEPT, cached_njit
from nanorepro.backends.numba.llvm.compiler import forget_parts
from nanorepro.backends.numba.llvm.memory import load, pointer, pointers, store
from nanorepro.backends.numba.llvm.simd import inlined, numbers
from nanorepro.backends.numba.sequence import nothing
from nanorepro.backends.numba.sums.by_plan import LONG, lanes_of
from nanorepro.backends.numba.sums.exact import BINS
from nanorepro.backends.protocols import State
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.model.layers import Parameters
from nanorepro.model.optimizers import OPTIMIZERS, learning_rates
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.plans import fixed_plan, is_drawn, plan, plan_rows
from nanorepro.numerics.rounding import operations
from nanorepro.numerics.trees import LEAF_ORDERS
from nanorepro.specification import ModelSpec, compile_key


@inlined
def copy(target, source, at, n):
    """The n numbers of source from `at` on become those of target."""
    for k in range(n):
        target[k] = source[at + k]


@dataclass(frozen=True)
class Compiled:
    """The loop over mini-batches of a specification, and what its memory has to be."""

    ctx: KernelContext
    step: Step
    loop: Callable


def make_loop(ctx: KernelContext, step: Step, between: Callable = nothing) -> Callable:
    """The compiled loop over mini-batches, which trains or only computes logits.

    One function does both, so that the forward pass is compiled once.  `between` is a kernel that
    follows it in training, with the array z in place of the examples.
    """
    batch, by = ctx.batch, flat_lanes(ctx.batch, ctx.longest)
    lanes, z_last = lanes_of(by), step.layout[-1].z
    plan_size, units_size = 2 * plan_rows(ctx.dials.tree, batch), 2 * unit_plan_rows(ctx)
    ascend, descend = (build(ctx, step.layout, picks) for picks in (step.forward, step.backward))

    @cached_njit
    def loop(memory, x, y, steps, rates, key, number, plans, unit_plans, z):
        """Train on all mini-batches of the examples x (n, words) or (n, d), y (n,).

        `steps` is their number, or 0: then nothing is trained, and z (n,) gets the logits.
        """
        m, features, labels, told = pointers(memory), pointer(x), pointer(y), pointer(z)
        for k in range(x.shape[0] // batch):
            trained = k < steps  # asked for every k, or the compiler makes two loops
            for i in range(0, batch, by):
                store(m.y, i, numbers(load(labels, k * batch + i, lanes), m.y))
            if plans.shape[0]:
                copy(m.plan, pointer(plans), k % plans.shape[0] * plan_size, plan_size)
            if unit_plans.shape[0]:
                at = k % unit_plans.shape[0] * units_size
                copy(m.unit_plans, pointer(unit_plans), at, units_size)
            t = (key[0], key[1], np.uint64(number + k if trained else number))
            rate = rates[k % rates.shape[0]]
            ascend(m, features, k * batch, rate, t)
            if trained:
                between(m, told, k * batch, rate, t)
                descend(m, features, k * batch, rate, t)
            else:
                for i in range(batch):
                    told[k * batch + i] = m.z[z_last + i]

    return loop


@lru_cache(KEPT)
def compile_model(
    config: Config, dials: Dials, features: int, general_only: bool = False, real: bool = False
) -> Compiled:
    """The loop for a configuration as `compile_key` gives it."""
    forget_parts(beyond=PARTS_KEPT)
    ctx = make_context(config, dials, features, real, keeps_z=general_only)
    step = make_step(ctx, general_only)
    return Compiled(ctx, step, make_loop(ctx, step))


def make_memory(compiled: Compiled) -> Memory:
    """The memory of a model: state at its start, constants, else zeros."""
    ctx, layout = compiled.ctx, compiled.step.layout
    dials, dtype, words, blocks = ctx.dials, ctx.ops.dtype, ctx.words, -(-ctx.batch // 32)
    parameters, room = layout.parameters, layout.room_of
    memory = allocate(Memory(
        w=(parameters, dtype),
        a=(len(ctx.starts) * parameters, dtype),
        z=(layout.activations, dtype),
        h=(layout.activations, dtype),
        d=(layout.activations, dtype),
        transposed=(room("transposed"), dtype),
        scratch=(room("scratch"), dtype),
        kept=(room("kept"), dtype),
        y=(layout.examples, dtype),
        g=(parameters + room("g"), dtype),
        constants=(2, dtype),
        delta_rows=(room("delta_rows"), dtype),
        output_rows=(room("output_rows"), dtype),
        feature_words=(32, np.uint32),
        features_of_example=(words + 1, np.uint32),
        present_features=(words * blocks, np.uint32),
        columns=(32 * words * blocks, np.uint32),
        duplicate_of=(32 * blocks, np.uint32),
        active_mask=(room("active_mask"), np.uint32),
        examples_of_input=(room("examples_of_input"), np.uint32),
        active_indices=(room("active_indices"), np.int64),
        slots=(2 * plan_slots(ctx) * LONG, dtype),
        wide_slots=(plan_slots(ctx) * LONG, np.float64),
        bins=(BINS, np.int64),
        special=(1, np.float64),
        lane=(LONG, dtype),
        plan=((plan_rows(dials.tree, ctx.batch), 2), np.int64),
        unit_plans=((unit_plan_rows(ctx), 2), np.int64),
        biases=(0, dtype),
        bias_gradients=(0, dtype),
    ))  # fmt: skip
    return memory._replace(biases=memory.w, bias_gradients=memory.g)


def in_leaf_order(spec: ModelSpec, step: int, x: np.ndarray, y: np.ndarray) -> tuple:
    """The examples and labels of all mini-batches from a step on in their leaf order."""
    batch, order = spec.config.batch, spec.dials.leaf_order
    steps, terms = len(y) // batch, LEAF_ORDERS[order].terms
    if order == "given":
        return x, y
    if terms is None:
        at = permutations(spec.key("order"), step, steps, batch)
    else:
        at = np.arange(steps * batch).reshape(steps, batch)[:, terms(batch)].ravel()
    return x[at], y[at]


class Model:
    """One model in training."""

    def __init__(self, spec: ModelSpec, parameters: Parameters, general_only: bool = False):
        self.spec, self.step, dials = spec, 0, spec.dials
        # once, not with every call of `train`
        self.dials, self.rounding_key = dials, spec.key("rounding")
        key = compile_key(spec.config)
        self.compiled = compile_model(key, dials, spec.features, general_only, spec.real)
        self.layout, ctx = self.compiled.step.layout, self.compiled.ctx
        self.const = operations(numpy_arrays, dials.precision, dials.rounding, dials.fma).const
        self.memory = make_memory(self.compiled)
        states = self.memory.a.reshape(-1, self.layout.parameters)
        for state, start in zip(states, ctx.starts, strict=True):
            state[:] = self.const(start)
        self.memory.constants[:] = 1, 2.0 ** (np.finfo(ctx.ops.dtype).maxexp - 51)
        self.set_parameters(parameters)

    def _views(self, flat: np.ndarray) -> Parameters:
        """The parameters as views of a flat array, in their own shapes."""
        views = {}
        for place in self.layout.layers:
            layer = place.layer
            n = layer.fan_in // layer.sets
            flat_weights = flat[place.w : place.w + place.weights]
            if place.inputs_contiguous:
                table = flat_weights.reshape(-1, place.by_output)[:, : layer.fan_in].T
            else:
                table = flat_weights.reshape(-1, place.by_input)
            for part in range(layer.sets):
                u = part * layer.row if place.inputs_contiguous else 0
                views[layer.names[part]] = table[part * n : (part + 1) * n, u : u + layer.row]
            if layer.bias:
                views[layer.names[-1]] = flat[place.b : place.b + layer.fan_out]
        return views

    def set_parameters(self, parameters: Parameters) -> None:
        """Take other parameters; the optimizer's state and the step stay."""
        for name, view in self._views(self.memory.w).items():
            view[:] = self.const(parameters[name])

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return {name: view.copy() for name, view in self._views(self.memory.w).items()}

    def _states(self) -> dict[str, np.ndarray]:
        """Each array of the optimizer's state as it lies in the memory, flat, by name."""
        rows = self.memory.a.reshape(-1, self.layout.parameters)
        return dict(zip(OPTIMIZERS[self.spec.config.optimizer].state, rows, strict=True))

    def state(self) -> State:
        """A copy of the optimizer's state."""
        return {
            name: {key: view.copy() for key, view in self._views(row).items()}
            for name, row in self._states().items()
        }

    def restore(self, step: int, parameters: Parameters, state: State) -> None:
        """Be at a step with these bits, which a model of this specification gave."""
        self.step, states = step, self._states()
        rows = [(self.memory.w, parameters), *((states[k], state[k]) for k in states)]
        for row, record in rows:
            for key, view in self._views(row).items():
                view[:] = record[key]

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order."""
        self.run(self.compiled.loop, x, y, self.memory.y[:0])

    def run(self, loop: Callable, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
        """Train by what `make_loop` gave, on whole mini-batches."""
        config = self.spec.config
        x, y = self.inputs(x), np.require(y, np.uint8, "CW")
        steps = len(y) // config.batch
        x, y = in_leaf_order(self.spec, self.step, x, y)
        rates = self.const(learning_rates(config, self.step, steps))
        rates = np.asarray(rates, self.compiled.ctx.ops.dtype)
        loop(
            self.memory, x, y, steps, rates, self.rounding_key,
            self.step, self._batch_plans(steps), self._unit_plans(steps), z,
        )  # fmt: skip
        self.step += steps

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """Examples as the kernels read them: real features in the model's precision.

        Never read-only, for which Numba would compile the loop once more.
        """
        return np.require(self.const(x) if self.spec.real else x, requirements="CW")

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of packed examples, or of real features, (n,)."""
        batch, n, x = self.spec.config.batch, len(x), self.inputs(x)
        x = np.concatenate([x, np.zeros((-n % batch, x.shape[1]), x.dtype)])
        z = np.empty(len(x), self.compiled.ctx.ops.dtype)
        labels, no_plans = np.zeros(len(x), np.uint8), self.memory.plan[None][:0]
        self.compiled.loop(
            self.memory, x, labels, 0, self.memory.y[:1], self.rounding_key,
            self.step, no_plans, self._unit_plans(1), z,
        )  # fmt: skip
        return z[:n]

    def _batch_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over the mini-batch: none, one for all steps, or one a step."""
        dials, batch = self.dials, self.spec.config.batch
        if dials.tree == "chain":
            return np.zeros((0, *self.memory.plan.shape), np.int64)
        if not is_drawn(dials.tree):
            return fixed_plan(dials.tree, batch)[None]
        plans = np.empty((steps, *self.memory.plan.shape), np.int64)
        random_trees(plans, batch, self.spec.key("order"), self.step)
        return plans

    def _unit_plans(self, steps: int) -> np.ndarray:
        """Plans of the sums over units, those of all layers one after another."""
        dials = self.dials
        if (dials.unit_tree, dials.unit_order) == ("chain", "given"):
            return np.zeros((0, *self.memory.unit_plans.shape), np.int64)
        drawn = is_drawn(dials.unit_tree) or LEAF_ORDERS[dials.unit_order].terms is None
        key, places = self.spec.key("order", "units"), self.layout.layers
        plans = np.zeros((steps if drawn else 1, *self.memory.unit_plans.shape), np.int64)
        for k in range(len(plans)):
            for at, place in enumerate(places):
                for back, n in enumerate(unit_terms(place.layer)):
                    block = ((self.step + k) * len(places) + at) * 2 + back
                    rows = plan(dials.unit_tree, dials.unit_order, n, key, block)
                    plans[k, (place.forward_plan, place.backward_plan)[back] :][: len(rows)] = rows
        return plans


def train_models(
    spec: ModelSpec, records: Sequence[Parameters], x: np.ndarray, y: np.ndarray
) -> list[Parameters]:
    """The records, each trained on the same packed examples; small models together."""
    trained: list[Parameters] = []
    while len(trained) < len(records):
        rest = records[len(trained) :]
        if ensemble := make_ensemble(spec, rest):
            ensemble.train(*in_leaf_order(spec, 0, x, y))
            trained += ensemble.parameters()
        else:
            model = Model(spec, rest[0])
            model.train(x, y)
            trained.append(model.parameters())
    return trained
