"""The stages of large layers behind a ReLU, whose inputs are 0 half of the time and more often.

A product 0·x changes no sum (docs/arithmetic.md) unless x is infinite or NaN; so the step looks at
all weights and δ, and where not all are moderate, to 2^52, all terms join.  Moderate numbers have
finite sums of products, too: then an input that is 0 for all examples needs no δ.  Which inputs of
an example are not 0 is said by bits of words, as its features are.  Deep: 13.3 → 9.5 µs.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.kernels.input_layer import THIRTY_TWO, some_features
from nanorepro.backends.numba.kernels.large_layers import in_blocks, turned_back
from nanorepro.backends.numba.kernels.step import Kit, activated, apply_gradients, transposed
from nanorepro.backends.numba.layout import Place, round_up
from nanorepro.backends.numba.llvm.simd import (
    DIRECTED,
    any_nonzero,
    ballot,
    fill,
    fma,
    inlined,
    load,
    prefetch_early,
    store,
    trailing_zeros,
)
from nanorepro.backends.numba.llvm.tiles import (
    fill_tile,
    in_line,
    load_tile,
    outer,
    outer_at,
    places,
    store_at,
    store_tile,
)
from nanorepro.backends.numba.sums.by_plan import lanes_of

ONE, ALL = lanes_of(1), np.uint32(0xFFFFFFFF)
# vectors of sums at a time, so that what meets them stays in the nearest cache; fewer where
# registers are fewer (as haswell, 24.9 → 21.7 µs)
COLUMNS = 8 if DIRECTED else 4
ROWS, TALL = 32, 8  # of weights that are updated together, and sums of δ at a time


def has_zeros(kit: Kit, place: Place, under: Place) -> bool:
    """Whether a layer is large and its inputs are zeros often enough."""
    wide = not place.across and place.width >= COLUMNS * kit.longest
    return wide and kit.zeros and under.layer.active and not under.across


def flag_of(kit: Kit, place: Place) -> int:
    """Where m.on says whether all weights of a layer are moderate: after its bits."""
    return place.on + round_up(place.layer.fan_in, 32) // 32 * round_up(kit.batch, 32)


def find_equals(kit: Kit) -> Callable:
    """m.like: for every example the first of the same block of 32 that has the same features."""
    batch, words, features = kit.batch, kit.words, some_features(kit)

    @inlined
    def stage(m, x, first, rate, t):
        for begin in range(0, batch, 32):
            end = min(begin + 32, batch)
            for i in range(begin, end):
                m.like[i] = np.uint32(0)  # a bit for every example that differs
            for word in range(words):
                v = features(m, x, first, begin // 32, word)
                for i in range(begin, end):
                    m.like[i] |= ballot(v ^ x[(first + i) * words + word])
            for i in range(begin, end):
                m.like[i] = np.uint32(begin) + trailing_zeros(m.like[i] ^ ALL)

    return stage


def live_inputs(kit: Kit, place: Place, under: Place) -> Callable:
    """A function (m): bit k of m.on[on + 32·blocks·w + i] says that h[i, 32·w + k] is not 0."""
    batch, fan_in, pitch, h_at = kit.batch, place.layer.fan_in, under.by_example, under.z
    padded, on = round_up(batch, 32), place.on
    last = ALL >> np.uint32(-fan_in % 32)  # what follows the last input is padding

    @inlined
    def find(m):
        for j in range(0, fan_in, 32):
            mask = last if j + 32 > fan_in else ALL
            for i in range(batch):
                h = load(m.h, h_at + i * pitch + j, THIRTY_TWO)
                m.on[on + j // 32 * padded + i] = ballot(h) & mask

    return find


def joining(kit: Kit, columns: int, by_a: int, by_b: int) -> Callable:
    """A function (acc, bits, a, a_at, b, b_at): acc[c] ← fma(a[k], b[k, c], acc[c]).

    For those k, ascending, whose bits are set; a[k] is at a_at + k·by_a, b[k] at b_at + k·by_b.
    """
    lanes, wide = lanes_of(kit.longest), lanes_of(columns)

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


def columns_of(kit: Kit, place: Place) -> int:
    """Vectors of sums at a time, so that what meets them stays in the nearest cache."""
    return COLUMNS if place.width % (COLUMNS * kit.longest) == 0 else COLUMNS // 2


def sparse_forward(kit: Kit, place: Place, under: Place) -> Callable:
    """`dense_forward` over the inputs that are not 0; equal examples have their sums once."""
    batch, fan_in, width = kit.batch, place.layer.fan_in, place.width
    longest, lanes, zero = kit.longest, lanes_of(kit.longest), kit.ops.const(0.0)
    columns = columns_of(kit, place)
    wide, panel, in_all = lanes_of(columns), columns * longest, lanes_of(columns * longest)
    h_at, below, w_at, by_input = under.z, under.by_example, place.w, place.by_input
    z_at, pitch, padded, on = place.z, place.by_example, round_up(batch, 32), place.on
    find, join = live_inputs(kit, place, under), joining(kit, columns, 1, by_input)
    finish, flag = activated(kit, place, batch), flag_of(kit, place)

    @inlined
    def sums(m):
        # 32 rows of a panel of weights at a time, which stay in the nearest cache
        moderate = True
        for c in range(0, width, panel):
            check = fill_tile(zero, lanes, ONE, wide)
            for j in range(0, fan_in, 32):
                at = w_at + j * by_input + c
                for k in range(min(32, fan_in - j)):  # which fetches the panel, too
                    row = load_tile(m.w, at + k * by_input, 0, lanes, ONE, wide)
                    check = outer(check, m.one, 1, 0, row, ONE)  # overflows unless w is moderate
                for i in range(batch):
                    if m.like[i] == i:
                        to = z_at + i * pitch + c
                        acc = fill_tile(zero, lanes, ONE, wide)
                        if j > 0:
                            acc = load_tile(m.z, to, 0, lanes, ONE, wide)
                        bits = m.on[on + j // 32 * padded + i]
                        acc = join(acc, bits, m.h, h_at + i * below + j, m.w, at)
                        store_tile(acc, m.z, to, 0, ONE, wide)
            moderate &= not any_nonzero(in_line(check, in_all) * zero)
        return moderate

    @inlined
    def stage(m, x, first, rate, t):
        find(m)
        moderate = sums(m)
        m.on[flag] = moderate
        if not moderate:
            for j in range(0, fan_in, 32):
                for i in range(batch):
                    bits = ALL >> np.uint32(max(j + 32 - fan_in, 0))
                    m.on[on + j // 32 * padded + i] = bits
            sums(m)
        for i in range(batch):
            if m.like[i] != i:
                for c in range(0, width, longest):
                    same = load(m.z, z_at + np.int64(m.like[i]) * pitch + c, lanes)
                    store(m.z, z_at + i * pitch + c, same)
        finish(m, 0, 0, t)

    return stage


def live_delta(kit: Kit, place: Place) -> Callable:
    """A function (m, p, begin, end): Σ_u W[j, u]·δ[u] of `TALL` inputs j goes to m.back.

    Of the inputs m.alive[p], ..., over the units m.alive[begin], ..., m.alive[end - 1].
    """
    longest, examples, zero = kit.longest, kit.examples, kit.ops.const(0.0)
    columns = 2 if examples % (2 * longest) == 0 else 1
    lanes, wide, tall = lanes_of(longest), lanes_of(columns), lanes_of(TALL)
    w_at, by_input, step = place.w, place.by_input, columns * longest

    @inlined
    def delta(m, p, begin, end):
        at = places(m.alive, p, by_input, w_at, tall)
        for c in range(0, examples, step):
            acc = fill_tile(zero, lanes, tall, wide)
            for q in range(begin, end):
                u = m.alive[q]
                row = load_tile(m.turned, u * examples + c, 0, lanes, ONE, wide)
                acc = outer_at(acc, m.w, at, u, row)
            store_at(acc, m.back, places(m.alive, p, examples, c, tall), wide)

    return delta


def live_units(kit: Kit, place: Place, begin: int) -> Callable:
    """A function (m): the units whose δ are not all 0 go to m.alive[begin], ..., m.alive[end - 1].

    Returns end, and whether all δ and weights are moderate; if not, all units are alive.
    """
    fan_out, examples, longest = place.layer.fan_out, kit.examples, kit.longest
    lanes, zero = lanes_of(longest), kit.ops.const(0.0)
    flag = flag_of(kit, place)

    @inlined
    def units(m):
        check, huge, end = fill(zero, lanes), fill(m.one[1], lanes), begin
        for u in range(fan_out):
            found = False
            for c in range(0, examples, longest):
                d = load(m.turned, u * examples + c, lanes)
                check, found = fma(d, huge, check), found | any_nonzero(d)
            m.alive[end] = u
            end += found
        moderate = m.on[flag] != 0 and not any_nonzero(check * zero)
        if not moderate:
            end = begin + fan_out
            for u in range(fan_out):
                m.alive[begin + u] = u
        return end, moderate

    return units


def sparse_backward_and_update(kit: Kit, place: Place, under: Place, g_at: int) -> Callable:
    """`backward_and_update`, a weight's gradient over those examples in which its input is not 0.

    An input that is 0 for all has δ of 0, and AdaGrad leaves its weights as they are.
    """
    batch, fan_in, fan_out, width = kit.batch, place.layer.fan_in, place.layer.fan_out, place.width
    longest, lanes, zero = kit.longest, lanes_of(kit.longest), kit.ops.const(0.0)
    columns = columns_of(kit, place)
    wide, panel = lanes_of(columns), columns * longest
    h_at, below, w_at, by_input = under.z, under.by_example, place.w, place.by_input
    d_at, pitch, blocks, on = place.z, place.by_example, -(-batch // 32), place.on
    padded, skip, examples = 32 * blocks, kit.skip_unchanged, kit.examples
    turn_delta, apply = transposed(batch, fan_out, longest), apply_gradients(kit, panel)
    join, delta = joining(kit, columns, below, pitch), live_delta(kit, place)
    begin, room = round_up(fan_in, 32) + TALL, fan_in * examples
    units = live_units(kit, place, begin)

    @inlined
    def inputs(m, moderate):
        """m.who[j·blocks + b], bit i: h of input j is not 0 in example 32·b + i; and m.alive."""
        for j in range(0, fan_in, 32):
            for b in range(blocks):
                v = load(m.on, on + j // 32 * padded + 32 * b, THIRTY_TWO)
                for k in range(min(32, fan_in - j)):
                    bits = ballot(v & (np.uint32(1) << np.uint32(k)))
                    if not moderate:
                        bits = ALL >> np.uint32(max(32 * (b + 1) - batch, 0))
                    m.who[(j + k) * blocks + b] = bits
        n = 0
        for j in range(fan_in):
            m.alive[n] = j
            n += present(m, j)
            for c in range(0, examples, longest):
                store(m.back, j * examples + c, fill(zero, lanes))
        for p in range(n, n + TALL):  # whole tiles of something
            m.alive[p] = m.alive[max(n - 1, 0)]
        return n

    @inlined
    def present(m, j):
        found = np.uint32(0)
        for b in range(blocks):
            found |= m.who[j * blocks + b]
        return found != 0

    @inlined
    def update(m, j, c, rate, t):
        acc = fill_tile(zero, lanes, ONE, wide)
        for b in range(blocks):
            h, d = h_at + 32 * b * below + j, d_at + 32 * b * pitch + c
            acc = join(acc, m.who[j * blocks + b], m.h, h, m.d, d)
        store_tile(acc, m.g, g_at, 0, ONE, wide)
        apply(m, g_at, w_at + j * by_input + c, rate, t)

    def block_of(rows: int) -> Callable:
        turn = turned_back(kit, under, rows)

        @inlined
        def block(m, j, rate, t):
            turn(m, j * examples, room, j, t)

        return block

    turn_all = in_blocks(fan_in, longest, block_of)

    @inlined
    def stage(m, x, first, rate, t):
        turn_delta(m.d, d_at, pitch, m.turned, 0, examples)
        end, moderate = units(m)
        n = inputs(m, moderate)
        for first_row in range(0, n, ROWS):
            last_row = min(first_row + ROWS, n)
            for p in range(first_row, last_row, TALL):
                delta(m, p, begin, end)
            for c in range(0, width, panel):
                for p in range(first_row, last_row):
                    update(m, m.alive[p], c, rate, t)
            for p in range(last_row, min(last_row + ROWS, n)):
                at = w_at + m.alive[p] * by_input
                for c in range(0, width, longest):
                    prefetch_early(m.w, at + c)
                    prefetch_early(m.a, at + c)
        if not skip:
            for j in range(fan_in):
                if not present(m, j):
                    for c in range(0, width, panel):
                        update(m, j, c, rate, t)
        turn_all(m, rate, t)

    return stage
