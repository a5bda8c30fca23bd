"""The order of a sum as an array, and how its partial sums are held.

A plan is an (m, 2) int64 array of the instructions of `trees`, in the order of a tree and of its
leaves.
"""

from functools import lru_cache

import numpy as np

from nanorepro.numerics.array_namespace import Value
from nanorepro.numerics.streams import bounded, permutation, philox
from nanorepro.numerics.trees import LEAF_ORDERS, TREES, find_tree


def random_tree(n: Value, key: Value, block_low: Value, block_high: Value, plan: Value) -> None:
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
    record, k = find_tree("tree", tree)
    if record.instructions is None:
        raise ValueError(f"the tree {tree} is drawn in every step")
    rows = record.instructions(n, k) if k else record.instructions(n)
    return np.array(rows, np.int64).reshape(-1, 2)


def plan(tree: str, leaf_order: str, n: int, key: np.ndarray, block: int) -> np.ndarray:
    """The plan of one sum of n terms, (m, 2) int64; `random` draws from `block` of the stream."""
    if is_drawn(tree):
        rows = np.empty((2 * n - 1, 2), np.int64)
        random_tree(n, key, np.uint64(block & 0xFFFFFFFF), np.uint64(block >> 32), rows)
    else:
        rows = fixed_plan(tree, n)
    leaves = rows[:, 1] >= 0
    rows[leaves, 1] = order_of(leaf_order, n, key, block)[rows[leaves, 1]]
    return rows


def order_of(leaf_order: str, n: int, key: np.ndarray, block: int) -> np.ndarray:
    """The leaf order: the k-th term in the plan is term order[k]; (n,) int64."""
    terms = LEAF_ORDERS[leaf_order].terms
    return permutation(key, block, n) if terms is None else np.array(terms(n), np.int64)


def is_drawn(tree: str) -> bool:
    """Whether a tree is drawn anew in every step."""
    return tree in TREES and TREES[tree].instructions is None


@lru_cache(1024)
def plan_rows(tree: str, n: int) -> int:
    """Instructions in the plan of a sum of n terms."""
    return 2 * n - 1 if is_drawn(tree) else len(fixed_plan(tree, n))


@lru_cache(1024)
def plan_slots(tree: str, n: int) -> int:
    """Partial sums that the plan of a sum of n terms holds at a time."""
    return n if is_drawn(tree) else int(fixed_plan(tree, n)[:, 0].max()) + 1
