"""Sums of products in a fixed order: matrices of them, in tiles of registers or row by row.

C[r, c] = Σ_k A[k, r]·B[k, c].  Vectors lie along c; the order of k is the plan's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanorepro.backends.numba.llvm.memory import load, prefetch, prefetch_early
from nanorepro.backends.numba.llvm.simd import inlined, widen
from nanorepro.backends.numba.llvm.tiles import (
    add_tile,
    fill_tile,
    gather,
    load_tile,
    opaque,
    outer,
    repeat,
    spread,
    store_rows,
    store_tile,
)
from nanorepro.backends.numba.sums.by_plan import (
    LONG,
    REGISTER,
    UNROLLED,
    Sums,
    in_tree,
    lanes_of,
    total_of,
)
from nanorepro.backends.numba.sums.exact import slowly

TILES = {4: 6, 2: 8, 1: 16}  # columns (in vectors) to rows of sums kept in registers at a time
# a streamed B is fetched from L2 so many rows ahead
NEXT = 8
TREE_TILES = {4: 1, 2: 2, 1: 4}  # of sums by a tree, several partial ones each


@dataclass(frozen=True)
class Matrix:
    """Where element (k, r) of a matrix lies in a flat array: base + k·by_k + r·by_r."""

    base: int
    by_k: int
    by_r: int


def products(
    sums: Sums,
    n: int,
    rows: int,
    width: int,
    left: Matrix,
    right: Matrix,
    p0: int,
    pitch: int,
    streamed: bool = False,
    interleaved: Callable | None = None,
) -> Callable:
    """A function that gives `rows` rows of C[r, c] = Σ_k A[k, r]·B[k, c], k < n, c < width.

    products(m, plan, a, b, out, at, r0, t) writes row r to out[at + (r - r0)·pitch + c].
    The columns of B are contiguous.  `streamed`: B does not fit in the caches.
    `interleaved(m, q, t)` is called at the q-th of `steps_of` steps and does other work meanwhile;
    t is for that work alone, as sums that are `tiled` do not read it.
    """
    longest = REGISTER // np.dtype(sums.ops.dtype).itemsize
    step = min(longest, width)
    if not sums.tiled(n):
        return _long_vectors(sums, n, rows, width, step, left, right, p0, pitch)
    most, columns = _tile(sums, width, step)
    by_rows = min(most, rows)
    full = rows - rows % by_rows
    size, at = (step, columns), (left, right, pitch, streamed, interleaved)
    tile = _sums_of(sums, n, by_rows, *size, *at)
    rest = _sums_of(sums, n, rows - full, *size, *at) if full < rows else None
    # a tree of many terms is much code, which the compiler would write out for every tile
    end = opaque if not sums.chain and n > UNROLLED else np.int64

    @inlined
    def tiles(m, plan, a, b, out, at, r0, t):
        q = 0
        # columns outside: a panel of B stays in L2 while all rows pass by, the rest
        # included
        for c in range(0, width, step * columns):
            for r in range(0, end(full), by_rows):
                tile(m, a, b, out, at, r0, r, c, q, t)
                q += n
            if rest is not None:
                rest(m, a, b, out, at, r0, full, c, q, t)
                q += n

    return tiles


def _tile(sums: Sums, width: int, step: int) -> tuple[int, int]:
    """Rows, at most, and columns, in vectors, of the sums kept in registers at a time."""
    columns = next(c for c in TILES if width // step % c == 0)
    return (TILES if sums.chain else TREE_TILES)[columns], columns


def steps_of(sums: Sums, n: int, rows: int, width: int, step: int) -> int:
    """How many times a row of B's vectors meets a column of A in `products` that are tiled."""
    most, columns = _tile(sums, width, step)
    return -(-rows // most) * (width // step // columns) * n


def _sums_of(
    sums: Sums,
    n: int,
    by_rows: int,
    step: int,
    columns: int,
    left: Matrix,
    right: Matrix,
    pitch: int,
    streamed: bool,
    interleaved: Callable | None,
) -> Callable:
    """A function for the by_rows × columns vectors of sums from row r and column c on."""
    tall, wide, lanes, zero = (0,) * by_rows, (0,) * columns, lanes_of(step), sums.ops.const(0.0)
    one = lanes_of(1)
    a0, ak, ar, b0, bk = left.base, left.by_k, left.by_r, right.base, right.by_k

    @inlined
    def chain(i0, stride, count, p):
        m, a, a_at, b, b_at, later, q, acc, t = p
        for k in range(count):
            i = i0 + k * stride
            if streamed:
                prefetch_early(b, later + i * bk)
                for v in range(columns):
                    prefetch(b, b_at + (i + NEXT) * bk + v * step)
            if interleaved is not None:
                interleaved(m, q + i, t)
            # each value of A meets each vector of B
            right = load_tile(b, b_at + i * bk, 0, lanes, one, wide)
            acc = outer(acc, a, a_at + i * ak, ar, right, tall)
        return acc

    total = in_tree(sums.tree, n, chain, add_tile)

    @inlined
    def tile(m, a, b, out, at, r0, r, c, q, t):
        acc = fill_tile(zero, lanes, tall, wide)
        # a line of every row of the next panel while a tile is summed
        later = b0 + c + step * columns + q // n % columns * step
        p = (m, a, a0 + (r0 + r) * ar, b, b0 + c, later, q, acc, t)
        store_tile(total(0, 1, n, p), out, at + r * pitch + c, pitch, tall, wide)

    return tile


def _long_vectors(
    sums, n, rows, width, step, left: Matrix, right: Matrix, p0: int, pitch: int
) -> Callable:
    """The same for any plan, accumulator and operations: some rows as one long vector.

    A term of a sum waits for the one before, and an operation of many instructions waits long:
    sums of several rows at a time fill that time.
    """
    by_rows = 1
    if sums.accumulator != "exact":  # whose slow way should stay rare
        step = min(LONG, width & -width) if width > step else step
        by_rows = min(LONG // step, 1 << (rows.bit_length() - 1))
    full = rows - rows % by_rows
    a0, ak, ar, b0, bk = left.base, left.by_k, left.by_r, right.base, right.by_k

    lanes, tall, long = lanes_of(step), lanes_of(by_rows), lanes_of(step * by_rows)
    emulated = sums.ops.emulated
    slow_products, _ = slowly(sums.ops, lanes)

    def make_join(product, term):
        @inlined
        def join(m, state, k, r, c, a, b, t):
            x, y = gather(a, a0 + k * ak + r * ar, ar, tall), load(b, b0 + k * bk + c, lanes)
            if emulated:  # fewer numbers to widen than after they are spread out
                x, y = widen(x), widen(y)
            return product(state, spread(x, lanes), repeat(y, tall), t)

        return join

    @inlined
    def slow(m, r, c, a, b, t):
        return slow_products(m, a, a0 + r * ar, ak, b, b0 + c, bk, n, t)

    total = total_of(sums, n, long, p0, False, make_join, slow)

    @inlined
    def each(m, plan, a, b, out, at, r0, t):
        for r in range(0, full, by_rows):
            for c in range(0, width, step):
                value = total(m, plan, r0 + r, c, a, b, t)
                store_rows(value, out, at + r * pitch + c, pitch, tall)

    if full == rows:
        return each
    rest = _long_vectors(sums, n, rows - full, width, step, left, right, p0, pitch)

    @inlined
    def all_rows(m, plan, a, b, out, at, r0, t):
        each(m, plan, a, b, out, at, r0, t)
        rest(m, plan, a, b, out, at + full * pitch, r0 + full, t)

    return all_rows
