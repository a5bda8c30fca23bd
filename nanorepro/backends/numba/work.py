"""What a kernel must do at least: operations, divisions, roots and bytes (`bench.micro`)."""

from dataclasses import replace

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Work
from nanorepro.backends.numba.layout import LayerLayout, Layout


def product_work(ctx: KernelContext, place: LayerLayout) -> Work:
    """A product of the mini-batch with a layer's weights, each number read or written once."""
    s, weights = ctx.batch, place.layer.fan_in * place.layer.row
    moved = 4 * (weights + s * place.layer.fan_in + s * place.layer.fan_out)
    return Work(operations=s * weights, bytes=moved, resident=moved)


def activation_work(ctx: KernelContext, place: LayerLayout) -> Work:
    """z + b and A(z) of a layer."""
    n = ctx.batch * place.layer.fan_out
    return Work(operations=2 * n, bytes=12 * n, resident=8 * n)


def forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """z = h·W + b and A(z) of a layer above the first."""
    return product_work(ctx, layout[k]) + activation_work(ctx, layout[k])


def backward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """(W·δ)·A'(z) of such a layer."""
    return product_work(ctx, layout[k]) + Work(operations=ctx.batch * layout[k].layer.fan_in)


def gradient_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Σ_i h[i]·δ[i] of such a layer."""
    return product_work(ctx, layout[k])


def bias_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """Σ_i δ[i] of a layer."""
    n = ctx.batch * layout[k].layer.fan_out
    return Work(operations=n, bytes=4 * n)


def features_work(place: LayerLayout, counts: Counts) -> Work:
    """Sums of a row of numbers for every feature present."""
    n, weights = counts.features * place.layer.row, place.layer.fan_in * place.layer.row
    return Work(operations=n, bytes=4 * n, resident=8 * weights)


def features_update_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """The gradients of the features that are present in a mini-batch, and their update."""
    updated = update_work(ctx, counts.rows * layout[0].layer.row)
    return features_work(layout[0], counts) + updated


def input_forward_work(ctx: KernelContext, layout: Layout, k: int, counts: Counts) -> Work:
    """The forward pass of the first layer."""
    place = layout[0]
    sums = features_work(place, counts) + Work(bytes=4 * ctx.batch * place.layer.fan_out)
    weights = place.layer.fan_in * place.layer.row
    return replace(sums, resident=4 * weights) + activation_work(ctx, place)


def update_work(ctx: KernelContext, n: float) -> Work:
    """Work of updating n weights: they and their state are read and written."""
    optimizer = ctx.optimizer
    return Work(
        operations=optimizer.operations * n,
        divisions=optimizer.divisions * n,
        roots=optimizer.roots * n,
        bytes=8 * (1 + len(ctx.starts)) * n,
    )
