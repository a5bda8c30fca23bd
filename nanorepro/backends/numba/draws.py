"""The streams, compiled: examples drawn some at a time, permutations, random trees.

An example and its label travel as one number, `data.sampling.join`'s: whoever moves both moves one.
"""

import numpy as np

from nanorepro.backends.numba.llvm.cache import cached_njit
from nanorepro.backends.numba.llvm.memory import load, offset, pointer, store
from nanorepro.backends.numba.llvm.simd import fill, from_bits, function, inlined, philox, where
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.data.worlds import World
from nanorepro.numerics import plans, streams

CALLS = 16  # of Philox at a time; of eight each waits for the round before
LANES = lanes_of(CALLS)
TOGETHER = 128  # examples that are looked up together
BLOCKS = 32  # of so many calls, whose places are drawn before the first swap
U16, U32 = np.uint64(16), np.uint64(32)
LOW16, LOW32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)
ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
SCALE = np.uint64(0x4130 << 48)  # 2^20, whose last bits count 2^-32

bounded = function(streams.bounded)
function(streams.philox)  # which a random tree calls
random_tree = function(plans.random_tree)


@inlined
def swap(values, i, j):
    values[i], values[j] = values[j], values[i]


@inlined
def blocks_of(n):
    """Blocks of calls that the permutation of n takes."""
    return (n - 1) // (2 * CALLS) + 1


@inlined
def room_for_places():
    """Memory of `permute_rows`: places to swap with, and 0, 1, ..."""
    return np.empty(BLOCKS * 2 * CALLS, np.uint64), np.arange(CALLS).astype(np.uint64)


@inlined
def permute_rows(rows, windows, n, key, first, room):
    """Bring `windows` rows of n into the order of the permutations first, ... of a stream.

    `streams.permute` with the words of some calls drawn at once, and the places of some such
    blocks, the last of a row first, before any of their swaps, so that no swap waits for a word.
    """
    places, count = room
    of_row, k0, k1 = blocks_of(n), key[0] & LOW32, key[1] & LOW32
    for start in range(0, windows * of_row, BLOCKS):
        end = min(start + BLOCKS, windows * of_row)
        for b in range(start, end):
            block, c = np.uint64(first + b // of_row), (of_row - 1 - b % of_row) * CALLS
            at = (load(count, 0, LANES) + np.uint64(c)) & LOW32
            low, high = fill(block & LOW32, LANES), fill(block >> U32, LANES)
            w0, w1, w2, w3 = philox(at, low, high, fill(ONE, LANES), k0, k1)
            j = 2 * CALLS * (b - start)
            store(places, j, bounded(w0, w1, (at * TWO + ONE) & LOW32))
            store(places, j + CALLS, bounded(w2, w3, (at * TWO + TWO) & LOW32))
        single = start
        while n == 2 * CALLS and single + 1 < end:  # two rows: a swap waits for the one before
            values, others = offset(rows, single * n), offset(rows, (single + 1) * n)
            even = offset(pointer(places), 2 * CALLS * (single - start))
            odd, more = offset(even, CALLS), offset(even, 2 * CALLS)
            for k in range(CALLS - 1, -1, -1):
                swap(values, 2 * k + 1, odd[k])
                swap(others, 2 * k + 1, more[CALLS + k])
                swap(values, 2 * k, even[k])
                swap(others, 2 * k, more[k])
            single += 2
        for b in range(single, end):
            values = offset(rows, b // of_row * n)
            c = (of_row - 1 - b % of_row) * CALLS
            even = offset(pointer(places), 2 * CALLS * (b - start))
            odd = offset(even, CALLS)
            whole = min(CALLS, n // 2 - c)  # calls of which both numbers are needed
            if n % 2 and b % of_row == 0:
                swap(values, n - 1, even[whole])
            for k in range(whole - 1, -1, -1):
                i = 2 * (c + k)
                swap(values, i + 1, odd[k])
                swap(values, i, even[k])


@cached_njit
def shuffle(rows, key, first):
    """Bring the rows into the order of the permutations first, first + 1, ... of a stream."""
    permute_rows(pointer(rows), rows.shape[0], rows.shape[1], key, first, room_for_places())


@inlined
def copy(source, target, n):
    for i in range(n):
        target[i] = source[i]


@inlined
def split_some(joined, x, y, n):
    for i in range(n):
        x[i] = joined[i] & LOW32
    for i in range(n):
        y[i] = joined[i] >> U32


@cached_njit
def shuffle_and_split(rows, key, first, x, y):
    """`shuffle` of a copy of the rows, and its `split`: some windows at a time, in the L1 cache."""
    windows, n = rows.shape
    together = max(1, BLOCKS // blocks_of(n))
    some, room = np.empty(together * n, np.uint64), room_for_places()
    for w in range(0, windows, together):
        now, at = min(together, windows - w), w * n
        copy(offset(pointer(rows), at), pointer(some), now * n)
        permute_rows(pointer(some), now, n, key, first + w, room)
        split_some(pointer(some), offset(pointer(x), at), offset(pointer(y), at), now * n)


@cached_njit
def random_trees(plans, n, key, first):
    """The random trees of the blocks first, first + 1, ... of a stream."""
    for k in range(plans.shape[0]):
        block = np.uint64(first + k)
        random_tree(n, key, block & LOW32, block >> U32, plans[k])


@cached_njit
def fill_uniform(key, block, values):
    """`streams.uniform` into whole groups of values."""
    count, none = np.arange(CALLS).astype(np.uint64), fill(ZERO, LANES)
    k0, k1, third = key[0] & LOW32, key[1] & LOW32, fill(np.uint64(block), LANES)
    for i in range(0, values.shape[0], CALLS):
        c = load(count, 0, LANES) + np.uint64(i)
        word, _, _, _ = philox(c & LOW32, c >> U32, third, none, k0, k1)
        store(values, i, from_bits(word | SCALE) - (2.0**20 - 2.0**-33))


def uniform(key: np.ndarray, n: int, block: int) -> np.ndarray:
    """n values in (0, 1), float64, of a block of a stream."""
    values = np.empty(-(-n // CALLS) * CALLS)
    fill_uniform(key, block, values)
    return values[:n]


def permutations(key: np.ndarray, first: int, count: int, n: int) -> np.ndarray:
    """The permutations first, ..., first + count - 1 of count·n examples in rows of n, flat."""
    orders = np.arange(count * n, dtype=np.uint32)
    shuffle(orders.reshape(count, n), key, first)
    return orders


@inlined
def look_up(table, at, found):
    """Of a block of indices, one by one: the machine's gathers take longer."""
    for i in range(TOGETHER):
        found[i] = table[at[i]]


@cached_njit
def draw_joined(key, first, columns, odds, joined):
    """`data.sampling.examples` first, first + 1, ... of a stream, joined, a block at a time.

    All take the same way, without a branch, as vectors but for the look-ups.
    """
    count, none = np.arange(CALLS).astype(np.uint64), fill(ZERO, LANES)
    k0, k1, one = key[0] & LOW32, key[1] & LOW32, fill(ONE << U32, LANES)
    coins = np.empty((3, TOGETHER), np.uint64)
    # of both halves: column, then pattern; threshold and alias of a column; odds of a pattern
    at, entry = np.empty((2, TOGETHER), np.uint64), np.empty((2, TOGETHER), np.uint64)
    ratio, out = np.empty((2, TOGETHER)), np.empty(TOGETHER, np.uint64)
    for start in range(0, joined.shape[0], TOGETHER):
        for i in range(0, TOGETHER, CALLS):
            c = load(count, 0, LANES) + np.uint64(first + start + i)
            w0, w1, w2, w3 = philox(c & LOW32, c >> U32, none, none, k0, k1)
            store(at, i, w0 & LOW16)
            store(at, TOGETHER + i, w0 >> U16)
            store(coins, i, w1)
            store(coins, TOGETHER + i, w2)
            store(coins, 2 * TOGETHER + i, w3)
        for half in range(2):
            look_up(pointer(columns), at[half], entry[half])
        for i in range(0, 2 * TOGETHER, CALLS):
            e, c = load(entry, i, LANES), load(at, i, LANES)
            store(at, i, where(load(coins, i, LANES) < (e >> U16), c, e & LOW16))
        for half in range(2):
            look_up(offset(pointer(odds), half * (1 << 16)), at[half], ratio[half])
        for i in range(0, TOGETHER, CALLS):
            x = load(at, i, LANES) | (load(at, TOGETHER + i, LANES) << U16)
            o = load(ratio, i, LANES) * load(ratio, TOGETHER + i, LANES)
            # (w3 + 1/2)/2^32, exactly
            u = from_bits(load(coins, 2 * TOGETHER + i, LANES) | SCALE) - (2.0**20 - 2.0**-33)
            store(out, i, x | where(u * (o + 1.0) < o, one, none))
        n = min(TOGETHER, joined.shape[0] - start)
        joined[start : start + n] = out[:n]


def draw(world: World, key: np.ndarray, first: int, joined: np.ndarray) -> None:
    """Fill `joined` with the examples first, first + 1, ... of a stream."""
    draw_joined(key, first, world.columns, world.odds, joined)


@cached_njit
def split(joined, x, y):
    """Features x and labels y of joined examples."""
    split_some(pointer(joined), pointer(x), pointer(y), joined.shape[0])


def examples(world: World, key: np.ndarray, first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples first, ..., first + n - 1 of a stream: features (n,) uint32, labels (n,) uint8."""
    joined, x, y = np.empty(n, np.uint64), np.empty(n, np.uint32), np.empty(n, np.uint8)
    draw(world, key, first, joined)
    split(joined, x, y)
    return x, y
