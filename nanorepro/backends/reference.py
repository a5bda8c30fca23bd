"""The specification in code: NumPy and plain loops, slow, one operation after another.

Every sum is a loop over the plan's instructions; NumPy only carries out the same instruction for
all outputs at once.  docs/arithmetic.md says the same in words.
"""

from collections.abc import Callable, Sequence

import numpy as np

from nanorepro.backends.protocols import State as OptimizerState
from nanorepro.data import packing, sampling, worlds
from nanorepro.model.activations import ACTIVATIONS, sigmoid
from nanorepro.model.layers import Layer, Parameters
from nanorepro.model.optimizers import OPTIMIZERS, learning_rate
from nanorepro.numerics import numpy_arrays, streams
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.exact_sum import fsum
from nanorepro.numerics.exp_log import exp64, log64
from nanorepro.numerics.plans import plan
from nanorepro.numerics.rounding import Operations, operations
from nanorepro.numerics.single_sums import sites
from nanorepro.specification import ModelSpec

examples, pack = sampling.examples, packing.pack
exp, log = exp64(numpy_arrays), log64(numpy_arrays)
RoundingKey = tuple[np.uint64, np.uint64, np.uint64]
State = tuple[np.ndarray, ...]  # of an accumulator

__all__ = [
    "Model", "draw", "examples", "exp", "fsum", "log", "pack", "shuffle",
    "shuffle_and_split", "split", "train_models", "uniform",
]  # fmt: skip


uniform = streams.uniform


def draw(world: worlds.World, key: np.ndarray, first: int, joined: np.ndarray) -> None:
    """Fill `joined` with the examples first, first + 1, ... of a stream, joined."""
    joined[:] = sampling.join(*examples(world, key, first, len(joined)))


def shuffle(rows: np.ndarray, key: np.ndarray, first: int) -> None:
    """Bring the rows into the order of the permutations first, first + 1, ... of a stream."""
    for k, row in enumerate(rows):
        row[:] = row[streams.permutation(key, first + k, len(row))]


def shuffle_and_split(
    rows: np.ndarray, key: np.ndarray, first: int, x: np.ndarray, y: np.ndarray
) -> None:
    """`shuffle` of a copy of the rows, and its `split`."""
    rows = rows.copy()
    shuffle(rows, key, first)
    split(rows.ravel(), x, y)


def split(joined: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Features x (n,) uint32 and labels y (n,) uint8 of joined examples."""
    x[:], y[:] = joined & np.uint64(0xFFFFFFFF), joined >> np.uint64(32)


class Model:
    """One model in training."""

    def __init__(self, spec: ModelSpec, parameters: Parameters) -> None:
        config, dials = spec.config, spec.dials
        self.spec, self.net, self.step = spec, spec.net, 0
        self.ops = operations(numpy_arrays, dials.precision, dials.rounding, dials.fma)
        self.sums = {
            site: Sum(dials.accumulator_of(*site), self.ops) for site in sites(len(self.net))
        }
        self.value, self.backward = ACTIVATIONS[config.act].make(
            numpy_arrays, self.ops, config.beta
        )
        self.sigmoid = sigmoid(numpy_arrays, self.ops)
        optimizer = OPTIMIZERS[config.optimizer]
        self.update = optimizer.make_update(numpy_arrays, self.ops, config)
        starts = optimizer.starts(config)
        self.set_parameters(parameters)
        self.a = {
            name: tuple(np.full_like(v, self.ops.const(start)) for start in starts)
            for name, v in self.w.items()
        }

    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return {name: value.copy() for name, value in self.w.items()}

    def set_parameters(self, parameters: Parameters) -> None:
        """Take other parameters."""
        self.w = {name: self.ops.const(value) for name, value in parameters.items()}

    def state(self) -> OptimizerState:
        """A copy of the optimizer's state."""
        names = OPTIMIZERS[self.spec.config.optimizer].state
        return {
            name: {key: arrays[k].copy() for key, arrays in self.a.items()}
            for k, name in enumerate(names)
        }

    def restore(self, step: int, parameters: Parameters, state: OptimizerState) -> None:
        """Be at a step with these bits, which a model of this specification gave."""
        self.step = step
        self.w = {name: value.copy() for name, value in parameters.items()}
        self.a = {name: tuple(of[name].copy() for of in state.values()) for name in parameters}

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train on packed examples (n, words) uint32 and labels (n,) in the given order.

        Of real features x is (n, d).
        """
        batch = self.spec.config.batch
        for k in range(0, len(y), batch):
            self.train_step(self.inputs(x[k : k + batch]), y[k : k + batch])
            self.step += 1

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """The features of examples, (n, d): bool of packed ones, real ones in the precision."""
        if self.spec.real:
            return np.asarray(self.ops.const(x))
        return packing.unpack(x, self.spec.features).astype(bool)

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits of examples, (n,)."""
        z, _ = self.forward(self.inputs(x))
        return z[-1][:, 0]

    def unit_plan(self, k: int, backward: int, n: int) -> np.ndarray:
        """The plan of the sum over n units of layer k, forward (0) or backward (1)."""
        dials, key = self.spec.dials, self.spec.key("order", "units")
        block = (self.step * len(self.net) + k) * 2 + backward
        return plan(dials.unit_tree, dials.unit_order, n, key, block)

    def batch_plan(self, n: int) -> np.ndarray:
        """The plan of the sums over the n examples of the mini-batch."""
        dials = self.spec.dials
        return plan(dials.tree, dials.leaf_order, n, self.spec.key("order"), self.step)

    def forward(self, x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Equations 4 to 6: z[k] (s, fan_out) before and h[k] after the activation of layer k."""
        z: list[np.ndarray] = []
        h: list[np.ndarray] = []
        t = self.rounding_key()
        for k, layer in enumerate(self.net):
            n = layer.fan_in // layer.sets
            plan = self.unit_plan(k, 0, n)
            if k == 0:
                total = self.first_sums(layer, plan, x, t)
            else:
                w = self.w[layer.names[0]]
                left, right = h[-1].T[:, :, None], w[:, None, :]
                total = self.sums[k, "forward"].products(plan, left, right, t)
            if layer.bias:
                total = self.ops.add(total, self.w[layer.names[-1]][None, :], t)
            z.append(total)
            h.append(self.value(total, t) if layer.active else total)
        return z, h

    def first_sums(
        self, layer: Layer, plan: np.ndarray, x: np.ndarray, t: RoundingKey
    ) -> np.ndarray:
        """Of the first layer: Σ of the weights of the features present; of real ones Σ x·w."""
        n, sums, found = layer.fan_in // layer.sets, self.sums[0, "forward"], []
        add = sums.products if self.spec.real else sums.terms
        for part in range(layer.sets):
            inputs = x[:, part * n : (part + 1) * n].T[:, :, None]
            found.append(add(plan, inputs, self.w[layer.names[part]][:, None, :], t))
        return np.concatenate(found, axis=1)

    def gradients(self, x: np.ndarray, y: np.ndarray) -> Parameters:
        """The gradient of the mini-batch's mean loss by every parameter (back-propagation)."""
        ops, t = self.ops, self.rounding_key()
        z, h = self.forward(x)
        labels, size = ops.const(y.astype(np.float64)), ops.const(float(len(y)))
        delta = ops.div(ops.sub(self.sigmoid(z[-1], t), labels[:, None], t), size, t)
        plan = self.batch_plan(len(y))
        g: Parameters = {}
        for k in range(len(self.net) - 1, -1, -1):
            layer = self.net[k]
            if layer.active:
                delta = self.backward(delta, z[k], t)
            if layer.bias:
                present = np.ones((len(y), 1), bool)
                g[layer.names[-1]] = self.sums[k, "batch"].terms(plan, present, delta, t)
            if k == 0:
                g.update(self.first_gradients(layer, plan, x, delta, t))
            else:
                name = layer.names[0]
                left, right = h[k - 1][:, :, None], delta[:, None, :]
                g[name] = self.sums[k, "batch"].products(plan, left, right, t)
                back = self.unit_plan(k, 1, layer.fan_out)
                w = self.w[name].T[:, None, :]
                delta = self.sums[k, "backward"].products(back, w, delta.T[:, :, None], t)
        return g

    def first_gradients(
        self, layer: Layer, plan: np.ndarray, x: np.ndarray, delta: np.ndarray, t: RoundingKey
    ) -> Parameters:
        """Of the first layer: Σ of the δ of the examples that have the feature; or Σ x·δ."""
        n, row = layer.fan_in // layer.sets, layer.row
        sums = self.sums[0, "batch"]
        add = sums.products if self.spec.real else sums.terms
        return {
            layer.names[part]: add(
                plan,
                x[:, part * n : (part + 1) * n, None],
                delta[:, None, part * row : (part + 1) * row],
                t,
            )
            for part in range(layer.sets)
        }

    def train_step(self, x: np.ndarray, y: np.ndarray) -> None:
        """One mini-batch: gradients, then the optimizer's update of every parameter."""
        g, t = self.gradients(x, y), self.rounding_key()
        rate = self.ops.const(learning_rate(self.spec.config, self.step))
        for name in self.w:
            self.w[name], self.a[name] = self.update(self.w[name], self.a[name], g[name], rate, t)

    def rounding_key(self) -> RoundingKey:
        """What stochastic rounding draws from in this step: the key of its stream, and the step."""
        key = self.spec.key("rounding")
        return key[0], key[1], np.uint64(self.step)


class TracedModel(Model):
    """One model in training that tells what its layers compute."""

    def trace(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Train, and give z (n, units) of all layers, each example's before its update."""
        batch, rows = self.spec.config.batch, []
        for k in range(0, len(y), batch):
            z, _ = self.forward(self.inputs(x[k : k + batch]))
            rows.append(np.concatenate(z, axis=1))
            self.train(x[k : k + batch], y[k : k + batch])
        return np.concatenate(rows)


def train_models(
    spec: ModelSpec, records: Sequence[Parameters], x: np.ndarray, y: np.ndarray
) -> list[Parameters]:
    """The records, each trained on the same packed examples."""
    found = []
    for record in records:
        model = Model(spec, record)
        model.train(x, y)
        found.append(model.parameters())
    return found


class Sum:
    """Sums by a plan and an accumulator; the terms of all outputs lie along the first axis."""

    def __init__(self, accumulator: str, ops: Operations) -> None:
        parts = ACCUMULATORS[accumulator].make(numpy_arrays, ops)
        self.start, self.product, self.term, self.merge, self.result = parts
        self.zero = ops.const(0.0)

    def products(
        self, plan: np.ndarray, a: np.ndarray, b: np.ndarray, t: RoundingKey
    ) -> np.ndarray:
        """Σ a·b over the first axis, in the order of the plan; a and b broadcast."""
        return self.by(plan, lambda state, i: self.product(state, a[i], b[i], t), a[0], b[0], t)

    def terms(
        self, plan: np.ndarray, present: np.ndarray, a: np.ndarray, t: RoundingKey
    ) -> np.ndarray:
        """Σ a over those of the first axis that are present (bool, broadcasts with a)."""

        a = np.broadcast_to(a, np.broadcast_shapes(present.shape, a.shape))

        def join(state: State, i: int) -> State:
            joined = self.term(state, a[i], t)
            return tuple(
                np.where(present[i], new, old) for new, old in zip(joined, state, strict=True)
            )

        return self.by(plan, join, present[0], a[0], t)

    def by(
        self,
        plan: np.ndarray,
        join: Callable[[State, int], State],
        like_a: np.ndarray,
        like_b: np.ndarray,
        t: RoundingKey,
    ) -> np.ndarray:
        """The sum in the order of the plan; join(state, i) adds the i-th term to a partial sum."""
        zero = np.full(np.broadcast_shapes(like_a.shape, like_b.shape), self.zero)
        state = [self.start(zero) for _ in range(int(plan[:, 0].max()) + 1)]
        for slot, source in plan.tolist():
            if source >= 0:
                state[slot] = join(state[slot], source)
            else:
                state[slot] = self.merge(state[slot], state[~source], t)
                state[~source] = self.start(zero)
        return self.result(state[0], t)
