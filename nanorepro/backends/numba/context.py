"""What all kernels of a configuration share: its shapes, its sums and its formulas, compiled."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nanorepro.backends.numba.llvm import simd
from nanorepro.backends.numba.sums.by_plan import REGISTER, Sums
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.model.activations import ACTIVATIONS, sigmoid
from nanorepro.model.layers import Layer
from nanorepro.model.optimizers import OPTIMIZERS, Optimizer
from nanorepro.numerics.rounding import Operations, operations
from nanorepro.numerics.single_sums import KINDS
from nanorepro.specification import layers


@dataclass(frozen=True)
class KernelContext:
    """The network, the dials' sums, and the formulas of activation and optimizer."""

    net: tuple[Layer, ...]
    batch: int
    words: int  # of 32 bits that hold the features of an example
    longest: int  # lanes of a vector
    dials: Dials
    optimizer: Optimizer
    ops: Operations
    batch_sums: Sums
    unit_sums: Sums
    value: Callable  # A(z)
    value_and_kept: Callable  # A(z), and what is kept in place of z: A'(z) where that is costly
    backward: Callable  # d·A'(z), of d and what is kept
    sigmoid: Callable
    update: Callable  # of a weight and its state by a gradient
    starts: tuple[float, ...]  # of the optimizer's state: so many numbers for each weight
    skip_unchanged: bool  # a gradient of 0 leaves weight and state as they are
    zeros: bool  # A(z) is 0 for so many z that it is worth asking for which
    costly: bool  # A(z) takes so long that it is not computed twice
    real: bool  # the inputs are real numbers, not packed bits

    def sums(self, k: int, kind: str) -> Sums:
        """The sums of layer k that are `forward`, `backward` or `batch`."""
        usual = self.batch_sums if kind == "batch" else self.unit_sums
        name = self.dials.accumulator_of(k, kind)
        return usual if name == usual.accumulator else replace(usual, accumulator=name)

    def accumulators(self, k: int) -> tuple[str, ...]:
        """Those of all sums of layer k, on which the code of its kernels depends."""
        return tuple(self.dials.accumulator_of(k, kind) for kind in KINDS)

    @property
    def alike(self) -> bool:
        """Whether no single sum has an accumulator of its own."""
        return not self.dials.other_accumulators


def make_context(
    config: Config, dials: Dials, features: int, real: bool = False, keeps_z: bool = False
) -> KernelContext:
    """The context of a configuration and of one model's dials; for a trace all z are kept."""
    ops = operations(simd, dials.precision, dials.rounding, dials.fma)
    activation, optimizer = ACTIVATIONS[config.act], OPTIMIZERS[config.optimizer]
    value, backward = activation.make(simd, ops, config.beta)
    value_and_kept = with_z(value)
    if activation.with_slope and not keeps_z:
        value_and_kept, backward = activation.with_slope(simd, ops, config.beta), ops.mul
    return KernelContext(
        net=layers(config, features),
        batch=config.batch,
        words=-(-features // 32),
        longest=REGISTER // np.dtype(ops.dtype).itemsize,
        dials=dials,
        optimizer=optimizer,
        ops=ops,
        batch_sums=Sums(ops, dials.accumulator, dials.tree, True),
        unit_sums=Sums(ops, dials.unit_accumulator, dials.unit_tree, dials.unit_order == "given"),
        value=value,
        value_and_kept=value_and_kept,
        backward=backward,
        sigmoid=sigmoid(simd, ops),
        update=optimizer.make_update(simd, ops, config),
        starts=optimizer.starts(config),
        skip_unchanged=optimizer.zero_gradient_changes_nothing,
        zeros=activation.often_zero,
        costly=activation.costly,
        real=real,
    )


def with_z(value: Callable) -> Callable:
    """The function (z, t) → (A(z), z)."""

    @simd.inlined
    def both(z, t):
        return value(z, t), z

    return both
