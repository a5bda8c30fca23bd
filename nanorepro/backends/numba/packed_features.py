"""Features as bits: which are present, in which examples, and sums over those examples."""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import Layout
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import ballot, fill, inlined, reduce_or, trailing_zeros
from nanorepro.backends.numba.sums.by_plan import THIRTY_TWO, lanes_of, terms


def features_of_32(ctx: KernelContext) -> Callable:
    """A function (m, x, first, block, word): a word of features of 32 examples, as a vector."""
    batch, words = ctx.batch, ctx.words
    whole = words == 1 and batch % 32 == 0  # the words are contiguous

    @inlined
    def features(m, x, first, block, word):
        at = (first + 32 * block) * words
        if whole:
            return load(x, at, THIRTY_TWO)
        n = min(32, batch - 32 * block)
        for i in range(n):
            m.feature_words[i] = x[at + i * words + word]
        for i in range(n, 32):  # not those of the block before
            m.feature_words[i] = np.uint32(0)
        return load(m.feature_words, 0, THIRTY_TWO)

    return features


def features_of_one(ctx: KernelContext) -> Callable:
    """A function (m, x, i, part): a set's features of example i go to m.features_of_example."""
    layer, words = ctx.net[0], ctx.words
    sets, n = layer.sets, layer.fan_in // layer.sets
    whole, rest = n // 32, np.uint32((1 << (n % 32)) - 1)

    @inlined
    def features(m, x, i, part):
        # the bits of the set's features, from bit 0 on
        word, shift = part * n // 32, np.uint32(part * n % 32)
        for k in range(words - word):
            v = x[i * words + word + k] >> shift
            if shift != 0 and word + k + 1 < words:
                v |= x[i * words + word + k + 1] << (np.uint32(32) - shift)
            m.features_of_example[k] = v
        if sets > 1 and rest != 0:
            m.features_of_example[whole] &= rest

    return features


def feature_columns(ctx: KernelContext) -> Callable:
    """The kernel that finds `columns`, the examples of every feature, and `present_features`."""
    words, blocks, features = ctx.words, -(-ctx.batch // 32), features_of_32(ctx)

    @inlined
    def kernel(m, x, first, rate, t):
        for block in range(blocks):
            for word in range(words):
                v = features(m, x, first, block, word)
                present = np.uint32(reduce_or(v))
                m.present_features[block * words + word] = present
                for j in range(32):
                    m.columns[(32 * word + j) * blocks + block] = np.uint32(0)
                while present != 0:
                    j = np.int64(trailing_zeros(np.uint32(present)))
                    bit = np.uint32(1) << np.uint32(j)
                    m.columns[(32 * word + j) * blocks + block] = ballot(v & bit)
                    present &= present - np.uint32(1)

    return kernel


def for_present_features(ctx: KernelContext, body: Callable) -> Callable:
    """The kernel body(m, x, j, rate, t) for each feature j that some example has."""
    words, blocks = ctx.words, -(-ctx.batch // 32)

    @inlined
    def kernel(m, x, first, rate, t):
        for word in range(words):
            v = np.uint32(0)
            for block in range(blocks):
                v |= m.present_features[block * words + word]
            while v != 0:
                j = 32 * word + np.int64(trailing_zeros(v))
                v &= v - np.uint32(1)
                body(m, x, j, rate, t)

    return kernel


def feature_gradient(ctx: KernelContext, layout: Layout) -> Callable:
    """A function (m, j, to, t): Σ_i δ[i] over the examples i with feature j goes to m.g[to], ...

    The units of an example are contiguous in m.delta_rows where the first layer's examples are
    contiguous in m.d.
    """
    place, batch, blocks = layout[0], ctx.batch, -(-ctx.batch // 32)
    row, n = place.row, place.layer.fan_in // place.layer.sets
    in_rows = place.examples_contiguous and layout.table_width > 0
    pitch, d_at = (layout.table_width, place.column) if in_rows else (place.by_example, place.z)
    ahead = in_rows or row <= 2 * ctx.longest
    total = terms(ctx.sums(0, "batch"), batch, row, pitch, 0, ahead=ahead)

    @inlined
    def gradient(m, j, to, t):
        d = m.delta_rows if in_rows else m.d
        total(m, m.plan, d, d_at + (j // n) * row, m.columns, j * blocks, m.g, to, t)

    return gradient


def feature_gradients(ctx: KernelContext, layout: Layout) -> Callable:
    """The kernel g_W[j] = Σ_i δ[i] over the examples i that have feature j; 0 where none has."""
    place, gradient = layout[0], feature_gradient(ctx, layout)
    row, begin, end = place.row, place.w, place.w + place.layer.fan_in * place.row
    zero, step, lanes = ctx.ops.const(0.0), place.lanes, lanes_of(place.lanes)

    @inlined
    def one(m, x, j, rate, t):
        gradient(m, j, begin + j * row, t)

    each = for_present_features(ctx, one)

    @inlined
    def kernel(m, x, first, rate, t):
        for at in range(begin, end, step):
            store(m.g, at, fill(zero, lanes))
        each(m, x, first, rate, t)

    return kernel
