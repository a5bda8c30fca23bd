"""The order of a sum as a tree: found from the results of that sum.

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

import numbers
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nanorepro.errors import ConfigError
from nanorepro.probing.formats import FORMATS, LONGEST, Format

Tree = Any  # int | tuple[Tree, ...]
Ask = Callable[[int, int, np.ndarray], int]


class NoTree(ValueError):
    """The results are not those of one summation tree."""


# From results to the tree


def array_type(name: str) -> Any:
    """The NumPy type of a format; float32, which holds its values, where ml_dtypes is missing."""
    if name == "bfloat16":
        try:
            return np.dtype(import_module("ml_dtypes").bfloat16)
        except ImportError:
            return np.dtype(np.float32)
    return np.dtype(name)


def number(found: Any) -> float:
    """What a function returned as one number; raises ConfigError where it is none."""
    shape = tuple(getattr(found, "shape", ()))
    kind = str(getattr(found, "dtype", type(found).__name__)).removeprefix("torch.")
    fraction = isinstance(found, numbers.Rational) and not isinstance(found, numbers.Integral)
    if shape in ((), (1,)) and ("float" in kind or fraction):
        return float(found[0] if shape else found)
    what = "None" if found is None else f"a value of type {kind}"
    if shape not in ((), (1,)):
        what = f"an array of shape {shape}"
    raise ConfigError(f"it returns {what}", "", "a function that returns one floating-point number")


def reveal(
    sum_of: Callable[[np.ndarray], Any], n: int, dtype: Any = np.float32, bits: int | None = None
) -> Tree:
    """The tree by which a function adds the terms of an array.

    Parameters
    ----------
    sum_of : callable
        Takes an array (n,) and returns its sum.
    n : int
        The number of terms.
    dtype : numpy.dtype or str, optional
        Their type: float16, bfloat16 (of ml_dtypes), float32 or float64.
    bits : int, optional
        The significand bits of its sums where they are fewer than the type's.

    Raises
    ------
    NoTree
        Where the results fit none: they change between calls, or their order depends on the values.
    ConfigError
        Where it returns no floating-point number, or n is out of range.

    Examples
    --------
    >>> reveal(lambda terms: np.cumsum(terms)[-1], 4)
    (((0, 1), 2), 3)
    """
    form = FORMATS[dtype if isinstance(dtype, str) else np.dtype(dtype).name]
    kind = array_type(form.name)
    most = min(form.most, 1 << bits) if bits else form.most
    check_number(n)

    def total(
        at: Sequence[int], values: Sequence[float], ones: Sequence[int] | np.ndarray = ()
    ) -> float:
        terms = np.zeros(n, kind)
        terms[np.asarray(ones, np.intp)] = form.one
        terms[list(at)] = values
        return number(sum_of(terms))

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        return count(total((plus, minus), (form.big, -form.big), ones), form.one)

    _check_repeats(sum_of, n, kind)
    tree = tree_from(ask, n, most)
    for node in nodes_of(tree):
        if len(node) > 2:
            _check_fused(node, total, form, bits or form.bits)
    return tree


DEPENDS = (
    "the order of the additions depends on the values of the terms, as where they are sorted first:"
    " there is no one tree"
)


def _check_repeats(sum_of: Callable[[np.ndarray], Any], n: int, kind: Any) -> None:
    """Raise NoTree if the same terms have different sums."""
    terms = (1.0 / np.arange(3.0, n + 3.0) * (-1.0) ** np.arange(n)).astype(kind)
    first = number(sum_of(terms.copy()))
    for _ in range(7):
        again = number(sum_of(terms.copy()))
        if again != first and not (np.isnan(first) and np.isnan(again)):
            raise NoTree(f"the results change from call to call: {first} and {again}")


def _check_fused(node: tuple[Tree, ...], total: Callable[..., float], form: Format, p: int) -> None:
    """Raise NoTree if what looks as if it were added at once is added in an order after all.

    Terms that are sorted by value have M and -M at their two ends, and all between is lost, as in a
    fused addition, which cuts each term off at the last place of the largest.  But with an order
    M + x - M is *rounded* to that place u: of x = 1.75·u it leaves 2·u.  Terms sorted by magnitude
    have M beside -M, and nothing is lost, as in a sum that is rounded once.  But with an order
    M + u/2 + u/2 is M.
    """
    i, j, k = (leaves(part)[0] for part in node[:3])
    exponent = 14 if form.name == "float16" else 60
    m = 1.5 * 2.0**exponent

    def left(x: float) -> float:
        """What M and -M leave of x."""
        return total((i, j, k), (m, -m, x))

    lost, kept = exponent + (10 if form.name == "float16" else 20), 0  # in powers of two below M
    if left(2.0 ** (exponent - lost)) == 0.0:
        while lost - kept > 1:
            middle = (lost + kept) // 2
            if left(2.0 ** (exponent - middle)) == 0.0:
                lost = middle
            else:
                kept = middle
        u = 2.0 ** (exponent - kept)
        if kept and left(1.75 * u) == 2.0 * u:
            raise NoTree(DEPENDS)
        return
    m = 2.0**exponent
    u = 2.0 ** (exponent - p + 1)
    if total((i, j, k), (m, u / 2, u / 2)) == m:
        raise NoTree(DEPENDS)


def nodes_of(tree: Tree) -> Iterator[tuple[Tree, ...]]:
    """All nodes of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, tuple):
            yield node
            waiting += node


def leaves(tree: Tree) -> list[int]:
    """The terms of a tree, from left to right."""
    return [k for part in tree for k in leaves(part)] if isinstance(tree, tuple) else [tree]


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
    for _ in range(max(n, 24)):
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

    for node in nodes_of(tree):
        if len(node) > 2:
            return False
        for part, other in (node, node[::-1]):
            if isinstance(part, tuple):
                a, b, c = term(part[0]), term(part[1]), term(other)
                if not (lost(a, c, b) and lost(b, c, a)):
                    return False
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
    """The tree of a plan (m, 2) as `numerics.plans.plan` gives it."""
    slots: dict[int, Tree] = {}
    for slot, source in plan.tolist():
        joins = source if source >= 0 else slots.pop(~source, None)
        if joins is not None:
            slots[slot] = (slots[slot], joins) if slot in slots else joins
    return canonical(slots[0])
