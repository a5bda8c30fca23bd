"""The order of a sum as a tree: found from the results of that sum, and shown.

A tree is a term's index, or the tuple of the trees that are added at a node.  A node with more
than two parts adds them at once: a sum that is rounded once, or a fused instruction.

It is found after FPRev (Xie et al. 2024).  One term is +M, another -M, the rest are 1, so small
beside M that M + 1 rounds to M.  A 1 that joins M or -M before the two cancel is lost; the result
counts those that join afterwards, and so says how many terms lie under the node at which the two
meet.  These numbers, pair by pair, determine the tree.

Kahan's accumulator gives back where partial sums join what it lost before, and so different trees
of it can have the same numbers.  What is found of such a sum needs a proof of its own, `proved`: a
chain has one, other trees of more than a few terms do not.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from nanorepro.errors import ConfigError

Tree = Any  # int | tuple[Tree, ...]
Ask = Callable[[int, int, np.ndarray], int]

LONGEST = 2048  # terms


class NoTree(ValueError):
    """The results are not those of one summation tree."""


# From results to the tree


def reveal(
    sum_of: Callable[[np.ndarray], Any], n: int, dtype: Any = np.float32, bits: int | None = None
) -> Tree:
    """The tree by which `sum_of` adds the n terms of an array (n,) of a floating type.

    `bits` are the significand bits of its sums where they are fewer than the type's.  Raises
    NoTree where the results fit none: they change between calls, or it is no sum.
    """
    kind = np.dtype(dtype)
    if kind == np.float16:
        big, one, most = 2.0**15, 2.0**-14, 8  # absorbed by a float32 accumulator, too
    elif kind == np.float64:
        big, one, most = 2.0**1000, 1.0, 1 << 53
    elif kind.itemsize == 2:
        big, one, most = 2.0**120, 1.0, 1 << 8
    else:
        big, one, most = 2.0**120, 1.0, 1 << 24
    most = min(most, 1 << bits) if bits else most

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        terms = np.zeros(n, kind)
        terms[ones] = one
        terms[plus], terms[minus] = big, -big
        return count(float(sum_of(terms)), one)

    return tree_from(ask, n, most)


def count(total: float, one: float) -> int:
    """How many ones a result holds."""
    ratio = total / one
    if not np.isfinite(ratio):
        raise NoTree(f"a sum of M, -M and ones gave {total}")
    return round(ratio)


def check_number(n: int) -> None:
    """Raise ConfigError for fewer or more terms than a tree is found for."""
    if not 2 <= n <= LONGEST:
        raise ConfigError(f"{n} terms are not allowed; give 2 to {LONGEST}")


def tree_from(ask: Ask, n: int, most: int) -> Tree:
    """The tree of n terms by `ask(plus, minus, ones)`, the number of ones that are not lost.

    `ones` is a list of terms; at most `most` of them are asked for at a time.
    """
    check_number(n)
    everyone = np.arange(n)

    def size(i: int, j: int) -> int:
        """The terms under the node where i and j meet."""
        ones = everyone[(everyone != i) & (everyone != j)]
        kept = 0
        for k in range(0, len(ones), most):
            part = ones[k : k + most]
            found = ask(i, j, part)
            if not 0 <= found <= len(part):
                raise NoTree(f"M, -M and {len(part)} ones gave {found}")
            kept += found
        return n - kept

    sizes = np.zeros((n, n), np.int64)

    def build(terms: list[int]) -> tuple[Tree, int]:
        """The tree over some terms, and the size found at its root."""
        tree: Tree = terms[0]
        root, inside = 1, [terms[0]]
        meeting: dict[int, list[int]] = {}
        for j in terms[1:]:
            meeting.setdefault(size(terms[0], j), []).append(j)
        for root in sorted(meeting):
            group = meeting[root]
            part, within = build(group)
            # met at a node of the same size: they are parts of this very node
            joined = part if within == root and isinstance(part, tuple) else (part,)
            tree = (tree, *joined)
            sizes[np.ix_(inside, group)] = sizes[np.ix_(group, inside)] = root
            inside += group
        return tree, root

    tree, _ = build(everyone.tolist())
    some = np.random.default_rng(0)
    for _ in range(n):
        i, j = some.choice(n, 2, replace=False).tolist()
        if size(i, j) != sizes[i, j]:
            raise NoTree("the results fit no summation tree, or change from call to call")
    return canonical(tree)


def proved(tree: Tree, ask: Ask) -> bool:
    """Whether each node of a binary tree is certain though lost ones may come back, as by Kahan's.

    A 1 that joins M and -M when they have cancelled is never lost.  So of three terms, of which
    each of two is lost beside the other two, the third is the one that joins last.  One such
    triple for each node below the root, its third term from beside the node, determines the tree:
    two nodes that join hold terms of their own, each one that is not in the other.
    """

    def lost(i: int, j: int, one: int) -> bool:
        return ask(i, j, np.array([one])) == 0

    def term(tree: Tree) -> int:
        return term(tree[0]) if isinstance(tree, tuple) else tree

    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if not isinstance(node, tuple):
            continue
        if len(node) > 2:
            return False
        for part, other in (node, node[::-1]):
            if isinstance(part, tuple):
                a, b, c = term(part[0]), term(part[1]), term(other)
                if not (lost(a, c, b) and lost(b, c, a)):
                    return False
        nodes += node
    return True


def canonical(tree: Tree) -> Tree:
    """The same tree with the parts of each node in ascending order of their first terms."""
    return _canonical(tree)[1]


def _canonical(tree: Tree) -> tuple[int, Tree]:
    if not isinstance(tree, tuple):
        return tree, tree
    parts = sorted((_canonical(part) for part in tree), key=lambda part: part[0])
    return parts[0][0], tuple(part for _, part in parts)


def tree_of_plan(plan: np.ndarray) -> Tree:
    """The tree of a plan (m, 2) as `summation.plan` gives it."""
    slots: dict[int, Tree] = {}
    for slot, source in plan.tolist():
        joins = source if source >= 0 else slots.pop(~source, None)
        if joins is not None:
            slots[slot] = (slots[slot], joins) if slot in slots else joins
    return canonical(slots[0])


# Showing a tree


def formula(tree: Tree) -> str:
    """The tree in parentheses: ((0 + 1) + 2)."""
    return "(" + " + ".join(map(formula, tree)) + ")" if isinstance(tree, tuple) else str(tree)


def outline(tree: Tree, indent: int = 0) -> str:
    """The tree in indented lines; what is added one after another is one list."""
    margin = "  " * indent
    if not isinstance(tree, tuple):
        return f"{margin}{tree}"
    terms = _one_after_another(tree)
    how = {True: "at once", False: "one after another"}[len(tree) > 2]
    title = "2 added" if len(terms) == 2 else f"{len(terms)} {how}"
    if not any(isinstance(term, tuple) for term in terms):
        return f"{margin}{title}: {_ranges(terms)}"
    lines = [f"{margin}{title}:"]
    run: list[int] = []
    for term in [*terms, ()]:
        if isinstance(term, int):
            run.append(term)
            continue
        if run:
            lines.append(f"{margin}  {_ranges(run)}")
            run = []
        if term:
            lines.append(outline(term, indent + 1))
    return "\n".join(lines)


def _one_after_another(tree: Tree) -> list[Tree]:
    """What a node adds: its parts, or more of them where they form a chain of their own."""
    if len(tree) > 2:
        return list(tree)
    single: list[Tree] = []
    below = tree
    while isinstance(below, tuple) and len(below) == 2 and isinstance(below[1], int):
        single.append(below[1])
        below = below[0]
    if single:
        return [below, *single[::-1]]
    parts, below = [tree[1]], tree[0]
    size = len(leaves(tree[1]))
    while isinstance(below, tuple) and len(below) == 2 and len(leaves(below)) > size + 1:
        parts.append(below[1])
        below = below[0]
    sizes = [len(leaves(part)) for part in (below, *parts)]
    return [below, *parts[::-1]] if max(sizes) - min(sizes) <= 1 else list(tree)


def leaves(tree: Tree) -> list[int]:
    """The terms of a tree, from left to right."""
    return [k for part in tree for k in leaves(part)] if isinstance(tree, tuple) else [tree]


def _ranges(terms: list[int]) -> str:
    """0, 8, 16, 24 as `0, 8 .. 24`: what goes on in equal steps is shortened."""
    found, at = [], 0
    while at < len(terms):
        end = at + 1
        while end + 1 < len(terms) and terms[end + 1] - terms[end] == terms[at + 1] - terms[at]:
            end += 1
        if end - at >= 3:
            second = "" if abs(terms[at + 1] - terms[at]) == 1 else f", {terms[at + 1]}"
            found.append(f"{terms[at]}{second} .. {terms[end]}")
            at = end + 1
        else:
            found.append(str(terms[at]))
            at += 1
    return ", ".join(found)


def draw(tree: Tree, title: str = ""):
    """The tree as a Figure: terms at the bottom, each node above what it adds."""
    from matplotlib.figure import Figure

    lines, leaves = [], []
    many = []

    def place(tree: Tree) -> tuple[float, float]:
        if not isinstance(tree, tuple):
            leaves.append(tree)
            return len(leaves) - 1.0, 0.0
        parts = [place(part) for part in tree]
        top = 1.0 + max(y for _, y in parts)
        across = [x for x, _ in parts]
        lines.extend([[(x, y), (x, top)] for x, y in parts])
        lines.append([(across[0], top), (across[-1], top)])
        middle = (across[0] + across[-1]) / 2.0
        if len(parts) > 2:
            many.append((middle, top))
        return middle, top

    x, y = place(tree)
    figure = Figure(figsize=(min(16.0, max(4.0, 1.5 + 0.22 * len(leaves))), 4.0),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots()
    for line in [*lines, [(x, y), (x, y * 1.04 + 0.1)]]:
        axes.plot(*zip(*line, strict=True), color="#4477AA", linewidth=1.2, solid_capstyle="round")
    if many:
        axes.plot(*zip(*many, strict=True), "o", color="#EE6677", label="added at once")
        axes.legend(frameon=False)
    if len(leaves) <= 80:
        axes.set_xticks(range(len(leaves)), [str(k) for k in leaves], fontsize=7)
    else:
        axes.set_xticks([])
    axes.set_xlabel("term")
    axes.set_ylabel("additions")
    axes.set_ylim(0, None)
    axes.locator_params(axis="y", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure
