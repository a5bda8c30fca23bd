"""What the forward and the backward kernel of a large layer behind a ReLU share.

A product 0·x changes no sum (docs/arithmetic.md) unless x is infinite or NaN; so the step looks at
all weights and δ, and where not all are bounded by 2^52, all terms join.  Bounded numbers have
finite sums of products, too: then an input that is 0 for all examples needs no δ.  Which inputs of
an example are not 0 is said by bits of words, as its features are.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.conditions import examples_contiguous, large, plain, round_up, row
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import LayerLayout
from nanorepro.backends.numba.llvm.simd import DIRECTED, inlined, trailing_zeros
from nanorepro.backends.numba.llvm.tiles import load_tile, outer
from nanorepro.backends.numba.sums.by_plan import ONE, lanes_of

ALL = np.uint32(0xFFFFFFFF)
# vectors of sums at a time, so that what meets them stays in L1; fewer where registers are fewer
COLUMNS = 8 if DIRECTED else 4

CONDITION = (
    "a layer of more than 4096 weights and many units over one whose activation is often 0 (ReLU);"
    " the sums over units are plain chains"
)
EXAMPLES = (
    {"hidden": "70,128", "act": "relu"},
    {"hidden": "33,256", "act": "relu", "optimizer": "sgd"},
)


def often_zero(ctx: KernelContext, k: int) -> bool:
    """A large layer behind an activation that is often 0; the sums over units are plain chains.

    The inputs of the model are bits, by which equal examples are found.
    """
    wide = large(ctx, k) and row(ctx, k) >= COLUMNS * ctx.longest
    behind = wide and ctx.zeros and ctx.net[k - 1].active and not examples_contiguous(ctx, k - 1)
    return behind and plain(ctx) and not ctx.real


def columns_of(ctx: KernelContext, place: LayerLayout) -> int:
    """Vectors of sums at a time."""
    return COLUMNS if place.width % (COLUMNS * ctx.longest) == 0 else COLUMNS // 2


def bounded_flag(ctx: KernelContext, place: LayerLayout) -> int:
    """Where active_mask says whether all weights of a layer are bounded: after its bits."""
    return place.mask + round_up(place.layer.fan_in, 32) // 32 * round_up(ctx.batch, 32)


def joining(ctx: KernelContext, columns: int, by_a: int, by_b: int) -> Callable:
    """A function (acc, bits, a, a_at, b, b_at): acc[c] ← fma(a[k], b[k, c], acc[c]).

    For those k, ascending, whose bits are set; a[k] is at a_at + k·by_a, b[k] at b_at + k·by_b.
    """
    lanes, wide = lanes_of(ctx.longest), lanes_of(columns)

    @inlined
    def join(acc, bits, a, a_at, b, b_at):
        v = bits
        while v != 0:
            k = np.int64(trailing_zeros(np.uint32(v)))
            v &= v - np.uint32(1)
            row = load_tile(b, b_at + k * by_b, 0, lanes, ONE, wide)
            acc = outer(acc, a, a_at + k * by_a, 0, row, ONE)
        return acc

    return join
