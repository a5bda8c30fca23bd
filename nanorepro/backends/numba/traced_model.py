"""Training that also tells what every layer computed: by the general kernels, which keep all z."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from nanorepro.backends.numba.layout import LayerLayout
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.model import Model, compile_model, in_leaf_order, make_loop
from nanorepro.backends.numba.sequence import sequence
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec, compile_key


def keep(place: LayerLayout, batch: int, column: int, width: int) -> Callable:
    """A kernel that copies z of a layer, all units of each example, into rows of `width`."""
    at, by_unit, by_example, units = place.z, place.by_unit, place.by_example, place.layer.fan_out

    @inlined
    def kernel(m, rows, first, rate, t):
        for i in range(batch):
            for u in range(units):
                rows[(first + i) * width + column + u] = m.z[at + i * by_example + u * by_unit]

    return kernel


@lru_cache(maxsize=16)
def compile_trace(config: Config, dials: Dials, features: int, real: bool) -> Callable:
    """Training by the general kernels, which also fills z (n, units) before each update."""
    compiled = compile_model(config, dials, features, True, real)
    layers = compiled.step.layout.layers
    units = [place.layer.fan_out for place in layers]
    columns = [sum(units[:k]) for k in range(len(units))]
    keep_all = sequence([
        keep(place, config.batch, column, sum(units))
        for place, column in zip(layers, columns, strict=True)
    ])  # fmt: skip
    return make_loop(compiled.ctx, compiled.step, keep_all)


class TracedModel(Model):
    """One model in training that tells what its layers compute."""

    def __init__(self, spec: ModelSpec, parameters: Parameters):
        super().__init__(spec, parameters, general_only=True)
        key = compile_key(spec.config)
        self.compiled_trace = compile_trace(key, spec.dials, spec.features, spec.real)

    def trace(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Train, and give z (n, units) of all layers, each example's before its update."""
        units = sum(place.layer.fan_out for place in self.layout.layers)
        order = in_leaf_order(self.spec, self.step, x, np.arange(len(y)))[1]
        z = np.empty((len(y), units), self.compiled.ctx.ops.dtype)
        self.run(self.compiled_trace, x, y, z.reshape(-1))
        found = np.empty_like(z)
        found[order] = z
        return found
