"""An ensemble: models trained together on the same examples, to the bits of each alone.

What a step consists of is in `kernels.ensemble_layers`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nanorepro.backends.numba.context import KernelContext, make_context
from nanorepro.backends.numba.kernels.ensemble_layers import Stacked, applies, stack_layers, step_of
from nanorepro.backends.numba.layout import LINE, allocate, flat_lanes
from nanorepro.backends.numba.llvm.cache import KEPT, PARTS_KEPT, cached_njit
from nanorepro.backends.numba.llvm.compiler import forget_parts
from nanorepro.backends.numba.llvm.memory import load, pointer, pointers, store
from nanorepro.backends.numba.llvm.simd import numbers
from nanorepro.backends.numba.sums.by_plan import REGISTER, lanes_of
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.model.layers import Parameters
from nanorepro.model.optimizers import learning_rates
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.rounding import operations
from nanorepro.specification import ModelSpec, compile_key


class Memory(NamedTuple):
    """What models in training work on, flat.

    w, a: parameters and optimizer state
    z, h: of every layer (examples, units): before and after the activation; then δ in z's place
    y: labels of the mini-batch
    feature_words, features_of_example, present_features, columns: as in `layout.Memory`
    """

    w: np.ndarray
    a: np.ndarray
    z: np.ndarray
    h: np.ndarray
    y: np.ndarray
    feature_words: np.ndarray
    features_of_example: np.ndarray
    present_features: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Compiled:
    """The step of some models, and what their memory has to be."""

    ctx: KernelContext
    places: list[Stacked]
    parameters: int
    activations: int
    train: Callable


@lru_cache(KEPT)
def compile_ensemble(config: Config, dials: Dials, features: int) -> Compiled | None:
    """The functions for a configuration as `compile_key` gives it; None: models go one by one."""
    ctx = make_context(config, dials, features)
    if not applies(ctx):
        return None
    forget_parts(beyond=PARTS_KEPT)
    places, parameters, activations = stack_layers(ctx.net, config.batch, ctx.longest)
    step, batch = step_of(ctx, places, parameters, Memory._fields), config.batch
    by = flat_lanes(batch, ctx.longest)
    lanes = lanes_of(by)

    @cached_njit
    def train(memory, x, y, rates, key):
        """Train on the examples x (n, words), y (n,), a whole number of mini-batches."""
        m, features, labels = pointers(memory), pointer(x), pointer(y)
        for k in range(x.shape[0] // batch):
            for i in range(0, batch, by):
                store(m.y, i, numbers(load(labels, k * batch + i, lanes), m.y))
            t = (key[0], key[1], np.uint64(k))
            step(m, features, k * batch, rates[k % rates.shape[0]], t)

    return Compiled(ctx, places, parameters, activations, train)


class Ensemble:
    """Models of one specification, at most one a lane of a vector; missing ones are zeros."""

    def __init__(self, spec: ModelSpec, compiled: Compiled, records: Sequence[Parameters]):
        ctx, config, dials = compiled.ctx, spec.config, spec.dials
        self.spec, self.compiled, self.step, self.count = spec, compiled, 0, len(records)
        self.const = operations(numpy_arrays, dials.precision, dials.rounding, dials.fma).const
        dtype, words, blocks = ctx.ops.dtype, ctx.words, -(-config.batch // 32)
        room = compiled.activations + LINE
        self.memory = allocate(Memory(
            w=(compiled.parameters, dtype),
            a=(len(ctx.starts) * compiled.parameters, dtype),
            z=(room, dtype),
            h=(room, dtype),
            y=(max(config.batch, ctx.longest), dtype),
            feature_words=(32, np.uint32),
            features_of_example=(words + 1, np.uint32),
            present_features=(words * blocks, np.uint32),
            columns=(32 * words * blocks, np.uint32),
        ))  # fmt: skip
        for state, start in zip(
            self.memory.a.reshape(-1, compiled.parameters), ctx.starts, strict=True
        ):
            state[:] = self.const(start)
        for k, record in enumerate(records):
            for name, view in self._views(k).items():
                view[:] = self.const(record[name])

    def _views(self, model: int) -> Parameters:
        """The parameters of a model as views of the memory, in their own shapes."""
        w, views = self.memory.w, {}
        for place in self.compiled.places:
            layer = place.layer
            weights, bias = layer.names
            table = w[place.w : place.w + layer.fan_in * place.row]
            views[weights] = table.reshape(layer.fan_in, layer.fan_out, -1)[..., model]
            views[bias] = w[place.b : place.b + place.width].reshape(layer.fan_out, -1)[:, model]
        return views

    def parameters(self) -> list[Parameters]:
        """Copies of the parameters of all models."""
        return [
            {name: view.copy() for name, view in self._views(k).items()} for k in range(self.count)
        ]

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Train all on packed examples (n, words) uint32 and labels (n,), in leaf order."""
        x, y = np.ascontiguousarray(x), np.ascontiguousarray(y, np.uint8)
        steps = len(y) // self.spec.config.batch
        rates = self.const(learning_rates(self.spec.config, self.step, steps))
        rates = np.asarray(rates, self.compiled.ctx.ops.dtype)
        self.compiled.train(self.memory, x, y, rates, self.spec.key("rounding"))
        self.step += steps


def make_ensemble(spec: ModelSpec, records: Sequence[Parameters]) -> Ensemble | None:
    """The first of some models together; None where one after another is as quick."""
    dials = spec.dials
    ops = operations(numpy_arrays, dials.precision, dials.rounding, dials.fma)
    lanes = REGISTER // np.dtype(ops.dtype).itemsize
    if spec.real or 4 * len(records) < 3 * lanes:  # empty lanes take as long as full ones
        return None
    compiled = compile_ensemble(compile_key(spec.config), dials, spec.features)
    return Ensemble(spec, compiled, records[:lanes]) if compiled else None
