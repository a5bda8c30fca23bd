"""What the kernels of a wide layer between few inputs and few outputs share.

Those of `kernels.recomputed_layers` and of `kernels.kept_layers`: where its weights lie, with its
biases and the weights above as one table, the layers whose equations they carry out, and the sums
over the mini-batch.
"""

from collections.abc import Callable, Hashable

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Form, Places
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.llvm.tiles import add_tile, chained, fill_tile, outer
from nanorepro.backends.numba.sums.by_plan import ONE, in_tree, lanes_of
from nanorepro.backends.numba.update import apply_gradients


def rows_of(ctx: KernelContext, k: int) -> int:
    """Rows of the one table that weights, biases and the weights above them are."""
    return ctx.net[k].fan_in + 1 + ctx.net[k + 1].fan_out


def examples_an_update(ctx: KernelContext, k: int) -> int:
    """Examples to one update of a vector, so that all end with the mini-batch."""
    return max(1, 1 << ((ctx.batch // rows_of(ctx, k)).bit_length() - 1))


def and_above(ctx: KernelContext, k: int) -> tuple[int, int]:
    return (k, k + 1)


def forms_of_both(ctx: KernelContext, k: int) -> dict[int, Form]:
    over = Form.EXAMPLES_CONTIGUOUS | Form.INPUTS_CONTIGUOUS
    return {k: Form.EXAMPLES_CONTIGUOUS | Form.RECOMPUTED, k + 1: over}


def own_above_and_below(layout: Layout, k: int) -> tuple[Hashable, Places]:
    """They work on layer k, whose biases lie behind its weights, on the one above and below."""
    place, over, under = layout[k], layout[k + 1], layout[k - 1]
    weights, activations = (place.w, place.b, over.w), (under.z, over.z)
    return (place.code, over.code, under.code_above), {
        "w": weights, "a": weights, "g": weights, "biases": (over.b,),
        "z": activations, "h": activations, "d": activations, "active_mask": (place.mask,),
    }  # fmt: skip


def assert_one_table(layout: Layout, k: int) -> None:
    """The rows of W, b and W_above follow each other at one distance."""
    place, over = layout[k], layout[k + 1]
    assert place.b == place.w + place.layer.fan_in * place.by_input
    assert over.w == place.b + place.by_input and over.by_output == place.by_input


def sums_of_units(ctx: KernelContext, layout: Layout, k: int, at_example: Callable) -> Callable:
    """A function total(0, 1, s, p): the sums over the mini-batch for a vector of units u.

    δ_u[i] = (Σ_v W_above[u, v]·δ_above[v, i])·A'(z_u[i]); in registers
    Σ_i h_below[j, i]·δ_u[i], Σ_i δ_u[i], Σ_i A(z_u[i])·δ_above[v, i].

    at_example(m, i, units, back, t): δ_u[i] and A(z_u[i]), of the sum over v.

    p: m, the units as at_example has them, W_above; and where the weights of the vector before
    begin, how many of its `rows_of` updates are still to do, times `every`, rate and t: the
    gradients of one vector are applied while those of the next are summed, divisions and roots
    beside products.
    """
    place, under, over = layout[k], layout[k - 1], layout[k + 1]
    inputs, outputs = lanes_of(place.layer.fan_in), lanes_of(over.layer.fan_out)
    lanes, zero, add = lanes_of(ctx.longest), ctx.ops.const(0.0), ctx.ops.add
    under_at, over_z, by_input, examples = under.z, over.z, place.by_input, layout.examples
    every, apply = examples_an_update(ctx, k), apply_gradients(ctx, layout, ctx.longest)

    @inlined
    def chain(i0, stride, count, p):
        m, units, above, at, limit, rate, t = p
        nothing = fill(zero, lanes)
        by_w, by_b = fill_tile(zero, lanes, inputs, ONE), nothing
        by_above = fill_tile(zero, lanes, outputs, ONE)
        for n in range(count):
            i = i0 + n * stride
            back = chained(nothing, m.d, over_z + i, examples, above)
            d, h = at_example(m, i, units, back, t)
            by_w = outer(by_w, m.h, under_at + i, examples, (d,), inputs)
            by_b = add(by_b, d, t)
            by_above = outer(by_above, m.d, over_z + i, examples, (h,), outputs)
            if i % every == 0 and i < limit:
                w = at + i // every * by_input
                apply(m, w, w, rate, t)
        return by_w, by_b, by_above

    @inlined
    def join(a, b):
        return add_tile(a[0], b[0]), a[1] + b[1], add_tile(a[2], b[2])

    return in_tree(ctx.batch_sums.tree, ctx.batch, chain, join)
