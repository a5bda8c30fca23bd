"""A summation tree drawn: terms at the bottom, each node above what it adds."""

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from nanorepro.plots.style import BLUE, RED, settings
from nanorepro.probing.trees import Tree

NAMED = 80  # terms up to which each is named below
Point = tuple[float, float]


def branches(tree: Tree) -> tuple[list[int], list[list[Point]], list[Point]]:
    """The terms in the order in which they are drawn, the lines, and the nodes of many parts.

    A node stands in the middle over its parts, one above the highest of them.
    """
    terms: list[int] = []
    lines: list[list[Point]] = []
    many: list[Point] = []

    def place(tree: Tree) -> Point:
        if not isinstance(tree, tuple):
            terms.append(tree)
            return len(terms) - 1.0, 0.0
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
    lines.append([(x, y), (x, y * 1.04 + 0.1)])
    return terms, lines, many


def summation_tree(tree: Tree, title: str = "") -> Figure:
    """The tree as a figure; all its lines are one artist, so that thousands of terms are drawn."""
    terms, lines, many = branches(tree)
    with settings():
        width = min(16.0, max(4.0, 1.5 + 0.22 * len(terms)))
        figure = Figure(figsize=(width, 4.0), layout="constrained")
        axes = figure.subplots()
        axes.add_collection(
            LineCollection(lines, colors=BLUE, linewidths=1.2, capstyle="round", gid="branches")
        )
        axes.autoscale_view()
        if many:
            axes.plot(*zip(*many, strict=True), "o", color=RED, label="added at once", gid="many")
            axes.legend()
        if len(terms) <= NAMED:
            axes.set_xticks(range(len(terms)), [str(k) for k in terms], fontsize=7)
        else:
            axes.set_xticks([])
        axes.set_xlabel("term")
        axes.set_ylabel("additions")
        axes.set_ylim(0, None)
        axes.locator_params(axis="y", integer=True)
        axes.set_title(title, fontsize=10, parse_math=False)
    return figure
