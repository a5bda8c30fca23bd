"""Summation orders as data: which term joins which partial sum.

A plan is a list of instructions (slot, source), carried out in order over partial sums ("slots")
that all start at +0.  A source ≥ 0 is a leaf: that term joins the slot.  A source < 0 is the slot
~source: it joins by + and starts anew at +0.  The sum is what slot 0 holds at the end.  A term
that is absent (a feature that is 0) is passed over.

A tree is added here, as a function and its name in TREES, and nowhere else.
"""

from collections.abc import Callable

from nanorepro.errors import wrong
from nanorepro.parsing import whole_number


def chain(n: int) -> list[tuple[int, int]]:
    """((t0 + t1) + t2) + ..."""
    return [(0, i) for i in range(n)]


def pairwise(n: int) -> list[tuple[int, int]]:
    """A balanced binary tree: the first ⌈n/2⌉ terms, the others, and the sum of both."""

    def part(low: int, high: int, slot: int) -> list[tuple[int, int]]:
        if high - low == 1:
            return [(slot, low)]
        middle = (low + high + 1) // 2
        return part(low, middle, slot) + part(middle, high, slot + 1) + [(slot, ~(slot + 1))]

    return part(0, n, 0)


def lanes(n: int, k: int) -> list[tuple[int, int]]:
    """k strided chains, the i-th term in chain i mod k; then pairwise over the chains."""

    def join(low: int, high: int) -> list[tuple[int, int]]:
        if high - low == 1:
            return []
        middle = (low + high + 1) // 2
        return join(low, middle) + join(middle, high) + [(low, ~middle)]

    return [(i % k, i) for i in range(n)] + join(0, min(k, n))


def blocks(n: int, k: int) -> list[tuple[int, int]]:
    """k contiguous chains whose lengths differ by at most one, longer first; a chain over them."""
    k = min(k, n)
    ends = [(b + 1) * (n // k) + min(b + 1, n % k) for b in range(k)]
    plan, low = [], 0
    for b, high in enumerate(ends):
        plan += [(b, i) for i in range(low, high)]
        low = high
    return plan + [(0, ~b) for b in range(1, k)]


# What --tree takes: of n terms, and `kind:k` of n and k.  `summation` draws random trees.
TREES: dict[str, Callable[..., list[tuple[int, int]]]] = {
    "chain": chain,
    "pairwise": pairwise,
    "lanes:k": lanes,
    "blocks:k": blocks,
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
