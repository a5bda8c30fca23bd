"""The order of a sum as an array, and how its partial sums are held.

A plan is an (m, 2) int64 array of the instructions of `plans`, in the order of a tree and of its
leaves.
"""

import math
from fractions import Fraction

import numpy as np

from nanorepro.config import split_kind
from nanorepro.plans import TREES
from nanorepro.streams import bounded, permutation, philox


def random_tree(n, key, block_low, block_high, plan):
    """Fill `plan` (2n - 1, 2): every term a slot; n - 1 times, two of the slots left are joined.

    The two are drawn from words 0, 1 and 2, 3 of the counter (n_left, block_low, block_high, 2);
    the later in the list joins the earlier, and the last slot of the list takes its place.
    """
    left = np.arange(n)
    for i in range(n):
        plan[i, 0] = i
        plan[i, 1] = i
    for row in range(n, 2 * n - 1):
        m = 2 * n - row
        w = philox(np.uint64(m), block_low, block_high, np.uint64(2), key[0], key[1])
        a = np.int64(bounded(w[0], w[1], np.uint64(m)))
        b = np.int64(bounded(w[2], w[3], np.uint64(m - 1)))
        if b >= a:
            b += 1
        low, high = min(a, b), max(a, b)
        plan[row, 0] = left[low]
        plan[row, 1] = ~left[high]
        left[high] = left[m - 1]
    # the sum has to end in slot 0: exchange the names of slot 0 and the last one
    last = left[0]
    for row in range(2 * n - 1):
        for column in range(2):
            leaf = column == 1 and plan[row, 1] >= 0
            name = plan[row, column] if column == 0 else ~plan[row, column]
            if not leaf and (name == last or name == 0):
                name = last - name
                plan[row, column] = name if column == 0 else ~name


def fixed_plan(tree: str, n: int) -> np.ndarray:
    """The plan of a tree that is the same in every step (all but `random`), (m, 2) int64."""
    kind, k = split_kind("tree", tree)
    rows = TREES[kind + ":k"](n, k) if k else TREES[kind](n)
    return np.array(rows, np.int64).reshape(-1, 2)


def plan(tree: str, leaf_order: str, n: int, key: np.ndarray, block: int) -> np.ndarray:
    """The plan of one sum of n terms, (m, 2) int64; `random` draws from `block` of the stream."""
    if tree == "random":
        rows = np.empty((2 * n - 1, 2), np.int64)
        random_tree(n, key, np.uint64(block & 0xFFFFFFFF), np.uint64(block >> 32), rows)
    else:
        rows = fixed_plan(tree, n)
    leaves = rows[:, 1] >= 0
    rows[leaves, 1] = order_of(leaf_order, n, key, block)[rows[leaves, 1]]
    return rows


def order_of(leaf_order: str, n: int, key: np.ndarray, block: int) -> np.ndarray:
    """The leaf order: the k-th term in the plan is term order[k]; (n,) int64."""
    if leaf_order == "random":
        return permutation(key, block, n)
    order = np.arange(n)
    return order[::-1].copy() if leaf_order == "reversed" else order


def plan_rows(tree: str, n: int) -> int:
    """Instructions in the plan of a sum of n terms."""
    return 2 * n - 1 if tree == "random" else len(fixed_plan(tree, n))


def plan_slots(tree: str, n: int) -> int:
    """Partial sums that the plan of a sum of n terms holds at a time."""
    return n if tree == "random" else int(fixed_plan(tree, n)[:, 0].max()) + 1


# An accumulator is a function of (o, ops) that returns five functions on its state, a tuple: start
# from a zero, join a product a·b, join a term, merge another partial sum, and the rounded result.


def plain(o, ops):
    """s ← fma(a, b, s), or s ← s + a; partial sums join by +."""
    add, fma = ops.add, ops.fma

    @o.function
    def start(zero):
        return (zero,)

    @o.function
    def product(state, a, b, t):
        return (fma(a, b, state[0], t),)

    @o.function
    def term(state, a, t):
        return (add(state[0], a, t),)

    @o.function
    def merge(state, other, t):
        return (add(state[0], other[0], t),)

    @o.function
    def result(state, t):
        return state[0]

    return start, product, term, merge, result


def kahan(o, ops):
    """Kahan's sum s with compensation c: y = a - c, u = s + y, c ← (u - s) - y, s ← u.

    A product enters as y = fma(a, b, -c).  Another partial sum (s', c') enters as the term s', and
    c' is added to c.
    """
    add, sub, fma, zero_ = ops.add, ops.sub, ops.fma, ops.const(0.0)

    @o.function
    def start(zero):
        return (zero, zero)

    @o.function
    def close(s, y, t):
        u = add(s, y, t)
        return (u, sub(sub(u, s, t), y, t))

    @o.function
    def product(state, a, b, t):
        return close(state[0], fma(a, b, sub(zero_, state[1], t), t), t)

    @o.function
    def term(state, a, t):
        return close(state[0], sub(a, state[1], t), t)

    @o.function
    def merge(state, other, t):
        s, c = term(state, other[0], t)
        return (s, add(c, other[1], t))

    @o.function
    def result(state, t):
        return state[0]

    return start, product, term, merge, result


def wide(o, ops):
    """A float64 accumulator: s ← s + a·b with the product exact, rounded once at the end.

    Without fma the product is rounded to the precision before it joins.
    """
    widen, mul, fused, round = o.widen, ops.mul, ops.fused, ops.round

    @o.function
    def start(zero):
        return (widen(zero),)

    @o.function
    def product(state, a, b, t):
        if fused:
            return (state[0] + widen(a) * widen(b),)
        return (state[0] + widen(mul(a, b, t)),)

    @o.function
    def term(state, a, t):
        return (state[0] + widen(a),)

    @o.function
    def merge(state, other, t):
        return (state[0] + other[0],)

    @o.function
    def result(state, t):
        return round(state[0], t)

    return start, product, term, merge, result


def exact(o, ops):
    """The exact sum, rounded once: s ← s + a·b in fractions; without fma the product is rounded.

    The state is an array of fractions, and what is infinite or NaN summed beside it.  This is the
    specification (NumPy); compiled code has its own way to the same bits.
    """
    mul, fused = ops.mul, ops.fused

    def start(zero):
        return (np.full(np.shape(zero), Fraction(0), object), np.zeros(np.shape(zero)))

    def fractions(a):
        finite = np.isfinite(a)
        return finite, np.vectorize(Fraction, otypes=[object])(np.where(finite, a, 0.0))

    def product(state, a, b, t):
        if not fused:
            return term(state, mul(a, b, t), t)
        a, b = np.broadcast_arrays(o.widen(a), o.widen(b))
        finite_a, fa = fractions(a)
        finite_b, fb = fractions(b)
        with np.errstate(all="ignore"):
            special = np.where(finite_a & finite_b, 0.0, a * b)
            return (state[0] + fa * fb, state[1] + special)

    def term(state, a, t):
        finite, fa = fractions(o.widen(a))
        with np.errstate(all="ignore"):
            return (state[0] + fa, state[1] + np.where(finite, 0.0, o.widen(a)))

    def merge(state, other, t):
        return (state[0] + other[0], state[1] + other[1])

    def result(state, t):
        nearest = np.vectorize(float_of, otypes=[np.float64])
        if ops.dtype == np.float64:
            total = nearest(state[0])
        else:
            total = np.vectorize(odd_of, otypes=[np.float64])(state[0])
        return ops.round(np.where(state[1] == 0.0, total, state[1]), t)

    return start, product, term, merge, result


def float_of(q: Fraction) -> float:
    """The float64 nearest to a fraction: Python's division of integers is correctly rounded."""
    try:
        return float(q)
    except OverflowError:
        return math.copysign(math.inf, q)


def odd_of(q: Fraction) -> float:
    """A fraction rounded to odd: if inexact, the neighbouring float64 whose last bit is 1."""
    x = float(q)
    if Fraction(x) == q or int(np.float64(x).view(np.uint64)) & 1:
        return x
    return float(np.nextafter(x, math.inf if q > Fraction(x) else -math.inf))


ACCUMULATORS = {"plain": plain, "kahan": kahan, "wide": wide, "exact": exact}


def fsum(values: np.ndarray) -> float:
    """The exactly rounded sum of float64; NaN of infinities of both signs."""
    try:
        return math.fsum(values.tolist())
    except ValueError:
        return math.nan
