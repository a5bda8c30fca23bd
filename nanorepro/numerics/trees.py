"""Summation orders as data: which term joins which partial sum.

A plan is a list of instructions (slot, source), carried out in order over partial sums ("slots")
that all start at +0.  A source ≥ 0 is a leaf: that term joins the slot.  A source < 0 is the slot
~source: it joins by + and starts anew at +0.  The sum is what slot 0 holds at the end.  A term
that is absent (a feature that is 0) is passed over.

Another tree is a function here, and its record in TREES.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nanorepro.errors import wrong
from nanorepro.parsing import whole_number

MOST = 4096  # chains of a tree at most
Instructions = list[tuple[int, int]]


@dataclass(frozen=True)
class Tree:
    """A summation order.

    Attributes
    ----------
    name : str
        What `--tree` takes; it ends in `:k` if a number is to follow.
    summary : str
        What it is in a few words.
    instructions : callable or None
        Of n terms, or of n and k; None where the tree is drawn anew in every step.
    """

    name: str
    summary: str
    instructions: Callable[..., Instructions] | None


@dataclass(frozen=True)
class LeafOrder:
    """Which term is the k-th leaf.

    Attributes
    ----------
    name, summary : str
        What `--leaf-order` takes, and what it is in a few words.
    terms : callable or None
        n -> the terms in the order of the leaves; None where it is drawn anew in every step.
    """

    name: str
    summary: str
    terms: Callable[[int], Sequence[int]] | None


def chain(n: int) -> Instructions:
    """((t0 + t1) + t2) + ..."""
    return [(0, i) for i in range(n)]


def pairwise(n: int) -> Instructions:
    """A balanced binary tree: the first ⌈n/2⌉ terms, the others, and the sum of both."""

    def part(low: int, high: int, slot: int) -> Instructions:
        if high - low == 1:
            return [(slot, low)]
        middle = (low + high + 1) // 2
        return part(low, middle, slot) + part(middle, high, slot + 1) + [(slot, ~(slot + 1))]

    return part(0, n, 0)


def lanes(n: int, k: int) -> Instructions:
    """k strided chains, the i-th term in chain i mod k; then pairwise over the chains."""

    def join(low: int, high: int) -> Instructions:
        if high - low == 1:
            return []
        middle = (low + high + 1) // 2
        return join(low, middle) + join(middle, high) + [(low, ~middle)]

    return [(i % k, i) for i in range(n)] + join(0, min(k, n))


def blocks(n: int, k: int) -> Instructions:
    """k contiguous chains whose lengths differ by at most one, longer first; a chain over them."""
    k = min(k, n)
    ends = [(b + 1) * (n // k) + min(b + 1, n % k) for b in range(k)]
    plan, low = [], 0
    for b, high in enumerate(ends):
        plan += [(b, i) for i in range(low, high)]
        low = high
    return plan + [(0, ~b) for b in range(1, k)]


# A random tree is drawn by `plans.random_tree`.
TREES = {
    record.name: record
    for record in (
        Tree("chain", "one after another", chain),
        Tree("pairwise", "a balanced binary tree", pairwise),
        Tree("lanes:k", "k strided chains, then pairwise", lanes),
        Tree("blocks:k", "k contiguous chains, then a chain over them", blocks),
        Tree("random", "a random binary tree in every step", None),
    )
}
LEAF_ORDERS = {
    record.name: record
    for record in (
        LeafOrder("given", "as they stand", lambda n: range(n)),
        LeafOrder("reversed", "from the last to the first", lambda n: range(n - 1, -1, -1)),
        LeafOrder("random", "drawn in every step", None),
    )
}


def split_kind(name: str, value: str) -> tuple[str, int]:
    """`lanes:8` → ("lanes", 8); a kind without a number gives 0."""
    kind, colon, number = value.partition(":")
    if not colon:
        return kind, 0
    try:
        return kind, whole_number(number)
    except ValueError:
        raise wrong(name, value, "a whole number after the colon") from None


def find_tree(name: str, value: str) -> tuple[Tree, int]:
    """The record of a tree such as `chain` or `lanes:8`, and its k (0 without).

    Raises
    ------
    ConfigError
        Naming the field `name`, for a value that is no tree.
    """
    kind, k = split_kind(name, value)
    found = TREES.get(kind + ":k" if ":" in value else kind)
    if found is None or value.endswith(":k"):
        known = " or ".join(TREES)
        raise wrong(name, value, f"{known}, k from 1 to {MOST}")
    if ":" in value and not 1 <= k <= MOST:
        raise wrong(name, value, f"{found.name} with k from 1 to {MOST}")
    return found, k
