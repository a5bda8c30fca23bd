"""The activation of a layer, forward and backward, over rows of its units or examples."""

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import LayerLayout, Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.sums.by_plan import lanes_of


def activation_forward(ctx: KernelContext, layout: Layout, place: LayerLayout, rows: int):
    """A function (m, r, u, t): z ← z + b (embeddings have no b); h = A(z), z where no A follows.

    In place of z what the activation keeps.  Of the `rows` units from u on, which lie from row r
    on, or of the examples from r on where the units are contiguous.
    """
    across, z_at, b_at = place.examples_contiguous, place.z, place.b
    stride = place.by_unit if across else place.by_example
    width = layout.examples if across else place.width
    bias, active = place.layer.bias, place.layer.active
    above = active or not bias  # nothing reads the h of the output
    add, value_and_kept = ctx.ops.add, ctx.value_and_kept
    step = ctx.longest if across else place.lanes
    lanes = lanes_of(step)

    @inlined
    def activate(m, r0, u0, t):
        for r in range(r0, r0 + rows):
            for c in range(0, width, step):
                at = z_at + r * stride + c
                z = load(m.z, at, lanes)
                if bias:
                    b = (
                        fill(m.biases[b_at + u0 + r - r0], lanes)
                        if across
                        else load(m.biases, b_at + c, lanes)
                    )
                    z = add(z, b, t)
                h = z
                if active:
                    h, z = value_and_kept(z, t)
                if bias:
                    store(m.z, at, z)
                if above:
                    store(m.h, at, h)

    return activate


def activation_backward(ctx: KernelContext, layout: Layout, place: LayerLayout, rows: int):
    """A function (m, r, t): δ ← δ·A'(z), where an activation follows.

    Rows as in `activation_forward`.
    """
    across, z_at, active = place.examples_contiguous, place.z, place.layer.active
    stride = place.by_unit if across else place.by_example
    width = layout.examples if across else place.width
    step = ctx.longest if across else place.lanes
    backward, lanes = ctx.backward, lanes_of(step)

    @inlined
    def multiply(m, r0, t):
        if active:
            for r in range(r0, r0 + rows):
                for c in range(0, width, step):
                    at = z_at + r * stride + c
                    store(m.d, at, backward(load(m.d, at, lanes), load(m.z, at, lanes), t))

    return multiply
