"""What the kernels of a wide layer between few inputs and few outputs share.

Those of `kernels.recomputed_layers` and of `kernels.kept_layers`: where its weights lie, with its
biases and the weights above as one table, and the layers whose equations they carry out.
"""

from collections.abc import Hashable

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Form, Places
from nanorepro.backends.numba.layout import Layout


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
