"""The stages of the first layer, whose inputs are bits: its sums take the features present."""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.kernels.step import Kit, activated, apply_gradients
from nanorepro.backends.numba.layout import Map, Place
from nanorepro.backends.numba.llvm.simd import (
    ballot,
    fill,
    inlined,
    load,
    mask_of,
    store,
    trailing_zeros,
    united,
)
from nanorepro.backends.numba.llvm.tiles import add_present, fill_tile, store_tile
from nanorepro.backends.numba.sums.by_plan import lanes_of, terms
from nanorepro.backends.numba.sums.products import TILES

THIRTY_TWO = lanes_of(32)


def some_features(kit: Kit) -> Callable:
    """A function (m, x, first, block, word): a word of features of 32 examples side by side."""
    batch, words = kit.batch, kit.words
    whole = words == 1 and batch % 32 == 0  # the words lie side by side

    @inlined
    def features(m, x, first, block, word):
        at = (first + 32 * block) * words
        if whole:
            return load(x, at, THIRTY_TWO)
        n = min(32, batch - 32 * block)
        for i in range(n):
            m.word[i] = x[at + i * words + word]
        for i in range(n, 32):  # not those of the block before
            m.word[i] = np.uint32(0)
        return load(m.word, 0, THIRTY_TWO)

    return features


def find_features(kit: Kit, place: Place) -> Callable:
    """m.columns: the examples of every feature, a bit each; m.found: the features found."""
    words, blocks, features = kit.words, -(-kit.batch // 32), some_features(kit)

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for word in range(words):
                v = features(m, x, first, block, word)
                found = np.uint32(united(v))
                m.found[block * words + word] = found
                for j in range(32):
                    m.columns[(32 * word + j) * blocks + block] = np.uint32(0)
                while found != 0:
                    j = np.int64(trailing_zeros(np.uint32(found)))
                    bit = np.uint32(1) << np.uint32(j)
                    m.columns[(32 * word + j) * blocks + block] = ballot(v & bit)
                    found &= found - np.uint32(1)

    return stage


def present_features(kit: Kit, place: Place) -> Callable:
    """A function (m, x, i, part): the features of a set that example i has go to m.present."""
    words, sets, n = kit.words, place.layer.sets, place.layer.fan_in // place.layer.sets
    whole, rest = n // 32, np.uint32((1 << (n % 32)) - 1)

    @inlined
    def features(m, x, i, part):
        # the bits of the set's features, from bit 0 on
        word, shift = part * n // 32, np.uint32(part * n % 32)
        for k in range(words - word):
            v = x[i * words + word + k] >> shift
            if shift != 0 and word + k + 1 < words:
                v |= x[i * words + word + k + 1] << (np.uint32(32) - shift)
            m.present[k] = v
        if sets > 1 and rest != 0:
            m.present[whole] &= rest

    return features


def first_forward(kit: Kit, place: Place) -> Callable:
    """z = Σ_j W[j] over the features present; embeddings: one sum for each set (section 5).

    Then the activation, while the example's units are in the nearest cache.
    """
    layer, batch, sets = place.layer, kit.batch, place.layer.sets
    row, pitch, w_at, z_at = place.row, place.by_example, place.w, place.z
    n = layer.fan_in // sets
    total = terms(kit.unit_sums, n, row, row, place.up, ahead=sets == 1 and row <= 2 * kit.longest)
    features, finish = present_features(kit, place), activated(kit, place, 1)

    @inlined
    def stage(m, x, first, rate, t):
        for i in range(batch):
            for part in range(sets):
                features(m, x, first + i, part)
                at = w_at + part * n * row
                out = z_at + i * pitch + part * row
                total(m, m.units, m.w, at, m.present, 0, m.z, out, t)
            finish(m, i, 0, t)

    return stage


def present_forward(kit: Kit, place: Place) -> Callable:
    """`first_forward`, 32 examples side by side, for the features that any of them has.

    No branch depends on a single example: the tower's step went from 31 to 27 ns an example.
    """
    layer, row, words, blocks = place.layer, place.row, kit.words, -(-kit.batch // 32)
    n, sets, units, w_at, z_at = layer.fan_in // layer.sets, layer.sets, layer.row, place.w, place.z
    lanes, examples, zero = lanes_of(kit.longest), kit.examples, kit.ops.const(0.0)
    wide = lanes_of(32 // kit.longest)
    by_rows = min(TILES[len(wide)], units)
    full = units - units % by_rows
    finish = activated(kit, place, layer.fan_out)

    def tile_of(rows: int) -> Callable:
        tall = lanes_of(rows)

        @inlined
        def tile(m, block, part, u):
            acc = fill_tile(zero, lanes, tall, wide)
            low, high = part * n, part * n + n
            for word in range(low >> 5, (high + 31) >> 5):
                v = m.found[block * words + word]
                if sets > 1:
                    begin, end = max(low - 32 * word, 0), min(high - 32 * word, 32)
                    v &= np.uint32((1 << end) - (1 << begin))
                while v != 0:
                    j = 32 * word + np.int64(trailing_zeros(v))
                    v &= v - np.uint32(1)
                    who = mask_of(m.columns[j * blocks + block])
                    acc = add_present(acc, m.w, w_at + j * row + u, 1, who, tall, wide)
            to = z_at + (part * units + u) * examples + 32 * block
            store_tile(acc, m.z, to, examples, tall, wide)

        return tile

    whole, rest = tile_of(by_rows), tile_of(units - full) if full < units else None

    @inlined
    def stage(m, x, first, rate, t):
        for block in range(blocks):
            for part in range(sets):
                for u in range(0, full, by_rows):
                    whole(m, block, part, u)
                if rest is not None:
                    rest(m, block, part, full)
        finish(m, 0, 0, t)

    return stage


def first_update(kit: Kit, place: Place, chart: Map) -> Callable:
    """W[j] ← update(W[j], Σ_i δ[i] over the examples in which feature j is present).

    A feature that no example of the mini-batch has, leaves its row as it is under AdaGrad.  Where a
    row fills vectors it is then passed over; shorter rows are updated with all others.  Under SGD
    its gradient is 0.
    """
    layer, row, batch, w_at = place.layer, place.row, kit.batch, place.w
    fan_in, by_row = layer.fan_in, place.alone
    skip = by_row and kit.skip_unchanged
    in_rows = place.across and chart.width > 0
    pitch, d_at = (chart.width, place.column) if in_rows else (place.by_example, place.z)
    few = in_rows or row <= 2 * kit.longest
    total = terms(kit.batch_sums, batch, row, pitch, 0, ahead=few)
    apply = apply_gradients(kit, row if skip else fan_in * row)
    n, blocks, words = fan_in // layer.sets, -(-batch // 32), kit.words
    zero, step, lanes = kit.ops.const(0.0), place.lanes, lanes_of(place.lanes)

    @inlined
    def stage(m, x, first, rate, t):
        if not skip:
            for at in range(w_at, w_at + fan_in * row, step):
                store(m.g, at, fill(zero, lanes))
        for word in range(words):
            v = np.uint32(0)
            for block in range(blocks):
                v |= m.found[block * words + word]
            while v != 0:
                j = 32 * word + np.int64(trailing_zeros(v))
                v &= v - np.uint32(1)
                d, base, at = m.rows if in_rows else m.d, d_at + (j // n) * row, w_at + j * row
                total(m, m.plan, d, base, m.columns, j * blocks, m.g, at, t)
                if skip:
                    apply(m, at, at, rate, t)
        if by_row and not skip:
            apply(m, w_at, w_at, rate, t)

    return stage
