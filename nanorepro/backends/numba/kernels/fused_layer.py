"""The backward pass of the second layer and of the first in one kernel, an example at a time."""

from collections.abc import Callable

from nanorepro.backends.numba.conditions import fused
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Equation, Form, Kernel, Phase, Work, own
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.llvm.tiles import chained, fill_tile, load_tile, outer, store_tile
from nanorepro.backends.numba.sums.by_plan import ONE, lanes_of
from nanorepro.backends.numba.work import product_work


def fused_backward(ctx: KernelContext, layout: Layout, k: int) -> Callable:
    """For one example i after the other, the units j of the layer below in one vector:

    g_W[j, u] = Σ_i h_below[i, j]·δ[i, u]
    δ_below[i, j] = (Σ_u W[j, u]·δ[i, u])·A'(z_below[i, j])
    g_b of the layer below [j] = Σ_i δ_below[i, j]

    The weights and the sums of their gradients stay in registers, and no δ is transposed.
    """
    place, under, units = layout[k], layout[k - 1], layout[k].layer.fan_out
    batch, examples, add = ctx.batch, layout.examples, ctx.ops.add
    w_at, by_output, d_at, b_at = place.w, place.by_output, place.z, under.b
    z_at, pitch, active, backward = under.z, under.by_example, under.layer.active, ctx.backward
    lanes, tall, zero = lanes_of(ctx.longest), lanes_of(units), ctx.ops.const(0.0)

    @inlined
    def kernel(m, x, first, rate, t):
        weights = load_tile(m.w, w_at, by_output, lanes, tall, ONE)
        gradients, bias = fill_tile(zero, lanes, tall, ONE), fill(zero, lanes)
        for i in range(batch):
            at = z_at + i * pitch
            h = load_tile(m.h, at, 0, lanes, ONE, ONE)
            d = chained(fill(zero, lanes), m.d, d_at + i, examples, weights)
            gradients = outer(gradients, m.d, d_at + i, examples, h, tall)
            if active:
                d = backward(d, load(m.z, at, lanes), t)
            store(m.d, at, d)
            bias = add(bias, d, t)
        store_tile(gradients, m.g, w_at, by_output, tall, ONE)
        store(m.bias_gradients, b_at, bias)

    return kernel


def fused_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """δ below, and the sums of the gradients by these weights and by the biases below."""
    layer, s = layout[k].layer, ctx.batch
    sums = Work(operations=s * layer.fan_in * layer.row + 3 * s * layer.fan_in)
    once = product_work(ctx, layout[k])
    return once + sums + Work(bytes=once.bytes)


KERNELS = (
    Kernel(
        name="fused_backward",
        carries={
            Equation.BACKWARD: own,
            Equation.WEIGHT_GRADIENT: own,
            Equation.BIAS_GRADIENT: lambda ctx, k: (k - 1,),
        },
        condition="a second layer of at most 12 units over a first one whose units fill a vector"
        " and which is taken example by example; all sums are plain chains",
        applies=fused,
        reads=("w", "z", "h", "d"),
        writes=("d", "g"),
        build=fused_backward,
        work=fused_work,
        forms=lambda ctx, k: {k: Form.INPUTS_CONTIGUOUS},
        phase=Phase.BACKWARD,
        examples=({"hidden": "16,8,4,2"}, {"hidden": "12,9", "act": "swish", "batch": 20}),
    ),
)
