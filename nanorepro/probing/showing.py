"""Trees for readers: as a formula, as an outline in lines."""

from nanorepro.probing.trees import Tree, leaves


def formula(tree: Tree) -> str:
    """The tree in parentheses.

    Examples
    --------
    >>> formula(((0, 1), 2))
    '((0 + 1) + 2)'
    """
    return "(" + " + ".join(map(formula, tree)) + ")" if isinstance(tree, tuple) else str(tree)


def outline(tree: Tree, indent: int = 0) -> str:
    """The tree in indented lines; what is added one after another is one list.

    Examples
    --------
    >>> print(outline((((0, 2), 4), ((1, 3), 5))))
    2 added:
      3 one after another: 0, 2, 4
      3 one after another: 1, 3, 5
    """
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
