"""Sums in a fixed order, compiled: chains in registers, any other plan and accumulator in memory.

Two kinds of sums make up a training step: terms, the sum of some rows of a table, which are here,
and those of `products`.  Both have the order of their plan.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from nanorepro.backends.numba.llvm import simd
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined, trailing_zeros, where
from nanorepro.backends.numba.llvm.tiles import opaque
from nanorepro.backends.numba.sums.exact import exact_total, expansion, slowly
from nanorepro.numerics import accumulators, plans
from nanorepro.numerics.rounding import Operations
from nanorepro.numerics.trees import split_kind

REGISTER = 64  # bytes of a vector; a CPU with shorter registers takes several for one
UNROLLED = 32  # leaves, at most, of a tree that is written out in full: compiling it takes longer
WRITTEN = 8  # terms of a tree of products that are written out, those of equal parts being a loop
LONG = 64  # lanes of the longest vectors of sums
AHEAD = 4  # terms that are added without asking whether there are so many
GROUP = 8  # and then at a time: how many there are is mispredicted


def lanes_of(n: int) -> tuple[int, ...]:
    """A number of lanes as simd wants it: the length of a tuple."""
    return (0,) * n


ONE, THIRTY_TWO = lanes_of(1), lanes_of(32)


@dataclass(frozen=True)
class Sums:
    """The dials of a kind of sums: over the mini-batch, or over units."""

    ops: Operations
    accumulator: str
    tree: str
    fixed_order: bool  # leaves in the given order (a mini-batch's are brought into order before)

    @property
    def chain(self) -> bool:
        return (self.tree == "chain" and self.fixed_order) or self.accumulator == "exact"

    def resumable(self, n: int) -> bool:
        """Whether sums of n terms may be taken a part at a time: plain chains."""
        return self.chain and self.tiled(n)

    def tiled(self, n: int) -> bool:
        """Whether sums of n terms stay in registers: plain fused operations, always the same tree.

        Not where the tree is too large to be written out; then it is read from the plan.
        """
        native = self.ops.fma is simd.fma and self.ops.fused and self.accumulator == "plain"
        kind, k = split_kind("tree", self.tree)
        # those that `in_tree` knows; a chain is a loop
        leaves = {"chain": 1, "blocks": 1, "pairwise": n, "lanes": 2 * min(k, n)}
        return native and self.fixed_order and leaves.get(kind, UNROLLED + 1) <= UNROLLED


def in_chain(join: Callable, n: int, masked: bool, ahead: bool) -> Callable:
    """A function that lets the terms 0, ..., n - 1 join a state in this order.

    Of masked terms only those join whose bit is set in the 32-bit words of b from r on.  `ahead`:
    there is one word, and term 32 is 0; it joins where fewer are there than AHEAD, or than whole
    GROUPs after them, and changes nothing, as no sum is -0.
    """
    if not masked:

        @inlined
        def all_terms(m, state, r, c, a, b, t):
            for k in range(n):
                state = join(m, state, k, r, c, a, b, t)
            return state

        return all_terms

    words, at_once, in_turn = -(-n // 32), AHEAD if ahead else 0, GROUP if ahead else 1

    @inlined
    def present_terms(m, state, r, c, a, b, t):
        for word in range(words):
            v = b[r + word]
            for _ in range(at_once):
                k = np.int64(trailing_zeros(np.uint32(v)))
                v &= v - np.uint32(1)
                state = join(m, state, k, r, c, a, b, t)
            while v != 0:
                for _ in range(in_turn):
                    k = 32 * word + np.int64(trailing_zeros(np.uint32(v)))
                    v &= v - np.uint32(1)
                    state = join(m, state, k, r, c, a, b, t)
        return state

    return present_terms


def total_of(
    sums: Sums,
    n: int,
    lanes: tuple[int, ...],
    p0: int,
    masked: bool,
    make_join: Callable,
    slow: Callable | None,
    ahead: bool = False,
) -> Callable:
    """A function total(m, plan, r, c, a, b, t) that gives one vector of sums of n terms.

    `make_join(product, term)` gives join(m, state, k, r, c, a, b, t), the state after the k-th
    term joined it.  The plan's instructions lie from row p0 on.  `slow(m, r, c, a, b, t)` gives
    the sums where `exact` has to take the slow way.
    """
    if sums.accumulator == "exact":
        _, product, term, _ = expansion(sums.ops)
        chain = in_chain(make_join(product, term), n, masked, False)
        return exact_total(sums.ops, lanes, chain, slow)
    if sums.chain:
        return chain_total(sums, n, lanes, masked, make_join, ahead and sums.tiled(n))
    if sums.tiled(n):
        return tree_total(sums, n, lanes, masked, make_join, ahead)
    return plan_total(sums, n, lanes, p0, masked, make_join)


def chain_total(
    sums: Sums, n: int, lanes: tuple[int, ...], masked: bool, make_join: Callable, ahead: bool
) -> Callable:
    """((0 + x_0) + x_1) + ... + x_{n-1} in the accumulator; the function of `total_of`."""
    start, product, term, _, result = accumulator(sums.accumulator, sums.ops)
    zero, chain = sums.ops.const(0.0), in_chain(make_join(product, term), n, masked, ahead)

    @inlined
    def total(m, plan, r, c, a, b, t):
        return result(chain(m, start(fill(zero, lanes)), r, c, a, b, t), t)

    return total


def tree_total(
    sums: Sums, n: int, lanes: tuple[int, ...], masked: bool, make_join: Callable, ahead: bool
) -> Callable:
    """The sum of x_0, ..., x_{n-1} by a tree written out in registers; the function of `total_of`.

    A part of the tree begins with -0, as -0 + x is x even to the compiler; so a part without terms
    is -0, too, and changes nothing.  A sum of 0 becomes +0 at the end.
    """
    start, product, term, _, _ = accumulator(sums.accumulator, sums.ops)
    join, zero, nothing = make_join(product, term), sums.ops.const(0.0), sums.ops.const(-0.0)
    chain, few = in_chain(join, n, masked, ahead), masked and n <= 32

    @inlined
    def part(i0, stride, count, p):
        m, r, c, a, b, t = p
        state = start(fill(nothing, lanes))
        for k in range(count):
            i = i0 + k * stride
            joined = join(m, state, i, r, c, a, b, t)
            if masked:  # lane by lane: of a single condition the compiler makes a branch
                bit = fill(b[r + (i >> 5)], lanes) & (np.uint32(1) << np.uint32(i & 31))
                joined = (where(bit != np.uint32(0), joined[0], state[0]),)
            state = joined
        return state[0]

    by_tree = in_tree(sums.tree, n, part, simd.add, n)

    @inlined
    def total(m, plan, r, c, a, b, t):
        if few:  # at most two terms, the same by any tree
            v = b[r] & (b[r] - np.uint32(1))
            if v & (v - np.uint32(1)) == 0:
                return chain(m, start(fill(zero, lanes)), r, c, a, b, t)[0]
        return simd.add(by_tree(0, 1, n, (m, r, c, a, b, t)), zero)

    return total


def plan_total(
    sums: Sums, n: int, lanes: tuple[int, ...], p0: int, masked: bool, make_join: Callable
) -> Callable:
    """The sum of x_0, ..., x_{n-1} as the plan's rows say; the function of `total_of`.

    A row (s, k): x_k joins partial sum s.  A row (s, ~q): partial sum q is added to s and is 0
    from then on.  The result is partial sum 0.
    """
    start, product, term, merge, result = accumulator(sums.accumulator, sums.ops)
    join, zero = make_join(product, term), sums.ops.const(0.0)
    get, put, wide = *slot_access(len(start(0.0)), lanes), sums.accumulator == "wide"
    rows, slots = plans.plan_rows(sums.tree, n), plans.plan_slots(sums.tree, n)

    @inlined
    def total(m, plan, r, c, a, b, t):
        empty, held = start(fill(zero, lanes)), m.wide_slots if wide else m.slots
        for slot in range(slots):
            put(held, slot, empty)
        for row in range(p0, p0 + rows):
            slot, source = plan[2 * row], plan[2 * row + 1]
            if source < 0:
                put(held, slot, merge(get(held, slot), get(held, ~source), t))
                put(held, ~source, empty)
            elif not masked or b[r + (source >> 5)] >> np.uint32(source & 31) & np.uint32(1):
                put(held, slot, join(m, get(held, slot), source, r, c, a, b, t))
        return result(get(held, 0), t)

    return total


@cache
def accumulator(name: str, ops: Operations) -> tuple[Callable, ...]:
    """The functions of an accumulator, the same for all sums: each is compiled once for a type."""
    return accumulators.ACCUMULATORS[name].make(simd, ops)


@cache
def slot_access(components: int, lanes: tuple[int, ...]) -> tuple[Callable, Callable]:
    """Functions that read and write one partial sum, a tuple of vectors, in the scratch memory."""
    n = len(lanes)
    if components == 1:

        @inlined
        def get(slots, k):
            return (load(slots, k * n, lanes),)

        @inlined
        def put(slots, k, state):
            store(slots, k * n, state[0])

    else:

        @inlined
        def get(slots, k):
            return (load(slots, 2 * k * n, lanes), load(slots, (2 * k + 1) * n, lanes))

        @inlined
        def put(slots, k, state):
            store(slots, 2 * k * n, state[0])
            store(slots, (2 * k + 1) * n, state[1])

    return get, put


def in_tree(tree: str, n: int, chain: Callable, join: Callable, written: int = WRITTEN) -> Callable:
    """The sum of n terms by a tree that is always the same, as one expression in registers.

    `chain(i0, stride, count, p)` gives the sum of the terms i0, i0 + stride, ...; `join(x, y)` is
    x + y; p is handed on.  Returns total(0, 1, n, p).  Where there are more than `written` terms,
    equal parts are rounds of a loop: all written out, the step of the tower did not stay in the
    processor's cache of instructions.
    """
    kind, k = split_kind("tree", tree)
    k = min(k or n, n)
    if kind == "chain":
        return chain
    if kind == "blocks":
        return over_blocks(n, k, chain, join, written)
    if kind == "lanes":
        even = n % k == 0

        @inlined
        def lane(i, p):
            return chain(i, k, n // k if even else (n - i + k - 1) // k, p)

        return balanced(n, k, lane, chain, join, written)

    @inlined
    def term(i, p):
        return chain(i, 1, 1, p)

    return balanced(n, n, term, chain, join, written)


def over_blocks(n: int, k: int, chain: Callable, join: Callable, written: int) -> Callable:
    """((s_0 + s_1) + ...) + s_{k-1} of k contiguous chains, the first n mod k a term longer.

    The function of `in_tree`; s_0 joins a chain without terms.
    """
    short, longer, times = n // k, n % k, opaque if n > written else np.int64

    @inlined
    def total(i0, stride, count, p):
        s, i = chain(0, 1, 0, p), 0
        for _ in range(times(longer)):
            s = join(s, chain(i, 1, short + 1, p))
            i += short + 1
        for _ in range(times(k - longer)):
            s = join(s, chain(i, 1, short, p))
            i += short
        return s

    return total


def balanced(
    n: int, k: int, leaf: Callable, chain: Callable, join: Callable, written: int
) -> Callable:
    """T(0, k) with T(i, m) = T(i, ⌈m/2⌉) + T(i + ⌈m/2⌉, ⌊m/2⌋) and T(i, 1) = leaf(i, p).

    The function of `in_tree`.  The k leaves are of n terms together.  Subtrees of one size are one
    function; two halves of one size, of more than `written` terms, are rounds of a loop.
    """
    times, even = opaque if n > written else np.int64, n % k == 0

    @cache
    def part(m):
        if m == 1:
            return leaf
        left, right, half = part((m + 1) // 2), part(m // 2), (m + 1) // 2

        @inlined
        def both(i, p):
            return join(left(i, p), right(i + half, p))

        @inlined
        def twice(i, p):
            x = y = chain(0, 1, 0, p)
            for _ in range(times(2)):
                x, y = y, left(i, p)
                i += half
            return join(x, y)

        return twice if even and m % 2 == 0 and m * (n // k) > written else both

    top = part(k)

    @inlined
    def total(i0, stride, count, p):
        return top(0, p)

    return total


def terms(sums: Sums, n: int, width: int, stride: int, p0: int, ahead: bool = False) -> Callable:
    """A function that sums those of n rows of a table that a mask names.

    terms(m, plan, table, base, masks, word, out, at, t): row k, k < n, begins at table[base +
    k·stride] and is a term if bit k is set in the 32-bit words masks[word], ...; `width` sums go to
    out[at], out[at + 1], ...  `ahead`: there is a row 32, and it is 0.
    """
    longest = REGISTER // np.dtype(sums.ops.dtype).itemsize
    # long vectors where they fit: the loop over the terms, of which there are few, ends less often
    step = min(longest if sums.accumulator == "exact" else LONG, width & -width)

    lanes = lanes_of(step)
    _, slow_terms = slowly(sums.ops, lanes)

    def make_join(product, term):
        @inlined
        def join(m, state, k, word, c, table, masks, t):
            return term(state, load(table, c + k * stride, lanes), t)

        return join

    @inlined
    def slow(m, word, c, table, masks, t):
        return slow_terms(m, table, c, stride, masks, word, n, t)

    total = total_of(sums, n, lanes, p0, True, make_join, slow, ahead and n <= 32)

    @inlined
    def some(m, plan, table, base, masks, word, out, at, t):
        for c in range(0, width, step):
            store(out, at + c, total(m, plan, word, base + c, table, masks, t))

    return some
