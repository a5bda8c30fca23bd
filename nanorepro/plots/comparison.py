"""How two sets of tensors differ, drawn: by tensor, or over the checkpoints of a series."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanorepro.analysis.comparison import CheckpointDifference, Comparison
from nanorepro.analysis.difference import TensorDifference
from nanorepro.plots.style import BLUE, CYAN, GREEN, GREY, PURPLE, RED, YELLOW, settings

COLOURS = (BLUE, RED, GREEN, YELLOW, CYAN, PURPLE)
NAMED = 60  # tensors that have a row
MARGIN = 0.03  # where on a logarithmic axis 0 and infinity are marked


def comparison(found: Comparison) -> Figure:
    """The distances of each tensor in ulp, and relative, on logarithmic axes."""
    with settings():
        if len(found.checkpoints) > 1:
            figure = Figure(figsize=(10.0, 4.2), layout="constrained")
            _series(figure, found)
        else:
            rows = min(len(found.checkpoints[0].tensors), NAMED)
            figure = Figure(figsize=(10.0, 1.6 + 0.2 * max(rows, 4)), layout="constrained")
            _tensors(figure, found.checkpoints[0])
        title = f"A: {found.a}\nB: {found.b}" + (f"\n{found.test}" if found.test else "")
        figure.suptitle(title, fontsize=8.0, x=0.01, ha="left", parse_math=False)
    return figure


def _tensors(figure: Figure, c: CheckpointDifference) -> None:
    """One checkpoint: a row for each tensor, those furthest apart where there are many."""
    shown = c.tensors
    if len(shown) > NAMED:
        far = sorted(shown, key=lambda t: -t.relative_distance)[:NAMED]
        shown = tuple(t for t in shown if t in far)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = list(range(len(shown)))
    largest = [t.largest_ulp for t in shown]
    median = [t.median_ulp for t in shown]
    _marks(left, median, rows, CYAN, "median")
    _marks(left, largest, rows, BLUE, "largest")
    _marks(right, [t.relative_distance for t in shown], rows, RED, "relative distance")
    _floor_axis(left, largest + median, "distance [ulp]", across=True)
    _floor_axis(right, [t.relative_distance for t in shown], r"$\|A - B\|\,/\,\|A\|$", across=True)
    for ax in (left, right):
        ax.grid(axis="y", color=GREY, lw=0.3)
    left.set_ylim(len(shown) - 0.5, -0.5)
    left.set_yticks(rows, [t.name for t in shown], fontsize=7, parse_math=False)
    left.set_title(
        "Units in the last place" + (f" ({len(shown)} of {len(c.tensors)})" if len(shown) <
                                     len(c.tensors) else "")
    )  # fmt: skip
    right.set_title("Relative distance")
    left.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)


def _marks(ax: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str) -> None:
    """Points of positive, finite values; 0 at the left edge, infinity at the right one."""
    inside = [(a, b) for a, b in zip(x, y, strict=True) if 0.0 < a < math.inf]
    if inside:
        ax.plot(*zip(*inside, strict=True), "o", color=colour, label=label, gid=label)
    edges = ax.get_yaxis_transform()
    for value, place, marker in ((0.0, MARGIN, "<"), (math.inf, 1.0 - MARGIN, ">")):
        rows = [b for a, b in zip(x, y, strict=True) if a == value]
        if rows:
            name = f"{label} exactly 0" if value == 0.0 else f"{label} infinite"
            ax.plot(
                [place] * len(rows), rows, marker, transform=edges, color=colour,
                markerfacecolor="none", label=name, gid=name,
            )  # fmt: skip


def _floor_axis(ax: Axes, values: Sequence[float], label: str, across: bool) -> None:
    """A logarithmic axis with room at both ends for what it cannot show."""
    positive = [v for v in values if 0.0 < v < math.inf]
    scale, limits = (ax.set_xscale, ax.set_xlim) if across else (ax.set_yscale, ax.set_ylim)
    (ax.set_xlabel if across else ax.set_ylabel)(label)
    if not positive:
        limits(0.0, 1.0)
        (ax.set_xticks if across else ax.set_yticks)([])
        return
    low, high = math.log10(min(positive)), math.log10(max(positive))
    room = 0.12 * max(high - low, 1.0)
    scale("log")
    limits(10.0 ** (low - room), 10.0 ** (high + room))


def _series(figure: Figure, found: Comparison) -> None:
    """A series: largest ulp and relative distance of the tensors over the checkpoints."""
    left, right = figure.subplots(1, 2)
    numbers = [c.number if c.number is not None else k for k, c in enumerate(found.checkpoints)]
    names = list(dict.fromkeys(t.name for c in found.checkpoints for t in c.tensors))
    by_name = [{t.name: t for t in c.tensors} for c in found.checkpoints]
    last = {name: _last(by_name, name) for name in names}
    coloured = sorted(names, key=lambda name: -last[name])[: len(COLOURS)]
    for ax, what, over, label in (
        (left, "largest_ulp", "largest_ulp", "largest distance [ulp]"),
        (right, "relative_distance", "relative_distance", r"$\|A - B\|\,/\,\|A\|$"),
    ):
        values: list[float] = []
        for name in names:
            at = [(x, getattr(row[name], what)) for x, row in zip(numbers, by_name, strict=True)
                  if name in row]  # fmt: skip
            values += [v for _, v in at]
            plotted = [(x, v if 0.0 < v < math.inf else math.nan) for x, v in at]
            colour = COLOURS[coloured.index(name)] if name in coloured else GREY
            ax.plot(
                *zip(*plotted, strict=True), ".-", color=colour, lw=0.8,
                label=name if name in coloured else None, zorder=3 if name in coloured else 1,
                gid=f"{what} {name}",
            )  # fmt: skip
        total = [getattr(c, over) for c in found.checkpoints]
        shown = [v if 0.0 < v < math.inf else math.nan for v in total]
        ax.plot(numbers, shown, "-", color="black", lw=1.4, label="over all", gid=f"{what} all")
        equal = [x for x, c in zip(numbers, found.checkpoints, strict=True) if c.equal]
        if equal:
            ax.plot(
                equal, [MARGIN] * len(equal), "v", transform=ax.get_xaxis_transform(),
                color=GREY, label="equal, bit for bit", gid="equal",
            )  # fmt: skip
        _floor_axis(ax, values + total, label, across=False)
        if min(numbers) > 0 and max(numbers) >= 20 * min(numbers):
            ax.set_xscale("log")
        ax.set_xlabel("checkpoint")
    left.set_title("Units in the last place")
    right.set_title("Relative distance")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _last(rows: Sequence[dict[str, TensorDifference]], name: str) -> float:
    """The last relative distance of a tensor that there is."""
    return next((row[name].relative_distance for row in rows[::-1] if name in row), 0.0)
