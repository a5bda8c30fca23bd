"""The graphs of a report: relative PD against each axis that varied, and against the loss.

A graph shows every pair as a point, means over pairs with their 95 % intervals, and what
stands at each place when it is pointed at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes as Graph

from nanorepro.plots import inline, style
from nanorepro.plots.overview import capital
from nanorepro.results.metrics import Metric, metrics_of_all
from nanorepro.sweeps.chart_axes import (
    COLOURS,
    MARKERS,
    PD,
    graph,
    legend,
    loss_axis,
    rim,
    scale,
    x_axis,
    y_axis,
)
from nanorepro.sweeps.pooled import (
    Axes,
    Cell,
    Pairs,
    cells,
    interval_of,
    shown,
    told_apart,
)
from nanorepro.sweeps.table import value_of

LOOK: dict[str, Any] = {"font.size": 9.5, "axes.labelsize": 9.5, "legend.fontsize": 9.0,
                        "text.parse_math": False}  # fmt: skip
DRAWN = 60_000  # points of all graphs together
LINKED = 2000  # runs of which each is a place that leads to its row


@dataclass(frozen=True)
class Chart:
    """A graph of the report.

    Attributes
    ----------
    name : str
        Prefix of its ids.
    title : str
        What it shows.
    svg : str
        The picture.
    notes : tuple of str
        What must be known to read it.
    columns, rows : sequences
        The means that are drawn, as a table; empty where another table has them.
    """

    name: str
    title: str
    svg: str
    notes: tuple[str, ...]
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def charts(runs: Sequence[Pairs], axes: Axes) -> list[Chart]:
    """The graphs of a folder's runs."""
    if not runs:
        return []
    most = DRAWN // (len(axes) + 1)
    return [*(against(runs, axis, axes, most) for axis in axes), against_loss(runs, axes, most)]


def against(runs: Sequence[Pairs], axis: str, axes: Axes, most: int = DRAWN) -> Chart:
    """PD against an axis, by colour along a second one, pooled over the rest."""
    by = told_apart(runs, axis, axes)
    found = cells(runs, axis, by)
    place = scale(axis, axes[axis])
    series = list(axes[by]) if by else [None]
    title = f"{capital(PD.words)} against {axis}"
    drawn = inline.Drawn()
    with style.settings(LOOK):
        figure, ax = graph(axis)
        shown = np.concatenate([c.pd for c in found])
        log = y_axis(ax, [*shown, *(v for c in found for v in (c.low, c.high))])
        x_axis(ax, place, axes[axis])
        legend(figure, ax, by, series)
        inline.settle(figure)
        thinned = max(1, math.ceil(len(shown) / most))
        for number, of in enumerate(series):
            of_series = sorted(
                (c for c in found if c.of == of), key=lambda cell: place.at[cell.value]
            )
            width = 0.7 * place.gap / len(series)
            aside = width * (number - (len(series) - 1) / 2)
            x = np.array([place.at[c.value] + aside for c in of_series])
            _means(ax, x, of_series, number, log, place.ordered, drawn, axis, by)
            for cell, at in zip(of_series, x, strict=True):
                y, stuck = cell.pd[::thinned], cell.stuck[::thinned]
                _cloud(ax, at + 0.6 * width * _jitter(len(y)), y, stuck, number, log, drawn)
        svg = inline.inline(figure, f"by-{axis}", title, described(found, axis, by), drawn)
    notes = [*pooled_over(axes, axis, by), *_marked(runs, log, thinned)]
    columns, rows = numbers(found, axis, by, axes)
    return Chart(f"by-{axis}", title, svg, tuple(notes), columns, rows)


def against_loss(runs: Sequence[Pairs], axes: Axes, most: int = DRAWN) -> Chart:
    """PD against the loss: every run with both intervals, its pairs as points."""
    metric = metrics_of_all(run.entry.is_given for run in runs)["loss"]
    by = told_apart(runs, None, axes)
    series = list(axes[by]) if by else [None]
    title = f"{capital(PD.words)} against {metric.words}"
    drawn = inline.Drawn()
    known = [run for run in runs if run.finite.any()]
    pds, losses = (
        np.concatenate([getattr(run, name)[run.finite] for run in runs]) for name in ("pd", "loss")
    )
    with style.settings(LOOK):
        figure, ax = graph(metric.label)
        ends = [end for run in known for end in interval_of(run.entry, "relative_pd")]
        log = y_axis(ax, [*pds, *ends])
        ends = [end for run in known for end in interval_of(run.entry, run.loss_name)]
        loss_axis(ax, [*losses, *ends])
        legend(figure, ax, by, series)
        inline.settle(figure)
        thinned = max(1, math.ceil(len(pds) / most))
        for number, of in enumerate(series):
            of_series = [r for r in known if by is None or value_of(r.entry, by) == of]
            if not of_series:
                continue
            _runs(ax, of_series, number, log, drawn, axes, metric)
            x, y, stuck = (
                np.concatenate([getattr(run, name)[run.finite] for run in of_series])[::thinned]
                for name in ("loss", "pd", "stuck")
            )
            _cloud(ax, x, y, stuck, number, log, drawn)
        about = f"{len(known)} runs; the table of runs has their numbers"
        svg = inline.inline(figure, "pd-loss", title, about, drawn)
    coloured = (f"Colour and marker: {by}.",) if by else ()
    notes = ("A marker is a run, with the intervals of both means.", *coloured)
    return Chart("pd-loss", title, svg, (*notes, *_marked(runs, log, thinned)))


def rounded(value: float | None) -> str:
    """A number of the tables, with four digits."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4g}"


def described(found: Sequence[Cell], axis: str, by: str | None) -> str:
    """What a graph shows, in words."""
    known = [cell for cell in found if math.isfinite(cell.mean)]
    if not known:
        return "No pair is finite."
    low, high = (f(known, key=lambda cell: cell.mean) for f in (min, max))
    ends = (f"{rounded(c.mean)} at {named(c, axis, by)}" for c in (low, high))
    return "The mean over pairs goes from {} to {}.".format(*ends)


def named(cell: Cell, axis: str, by: str | None) -> str:
    """Where a cell lies: `act = relu, log2_window = 5`."""
    second = f", {by} = {shown(cell.of)}" if by else ""
    return f"{axis} = {shown(cell.value)}{second}"


def pooled_over(axes: Axes, axis: str, by: str | None) -> list[str]:
    """What the colour says, and over which other axes the pairs were pooled."""
    rest = [f"{name} ({len(values)} values)" for name, values in axes.items()
            if name not in (axis, by)]  # fmt: skip
    notes = [f"Colour and marker: {by}."] if by else []
    return [*notes, f"Pairs are pooled over {', '.join(rest)}."] if rest else notes


def numbers(
    found: Sequence[Cell], axis: str, by: str | None, axes: Axes
) -> tuple[list[str], list[list[str]]]:
    """The table behind a graph."""
    columns = [axis, *([by] if by else []), f"mean {PD.words}", "95 % interval", "pairs", "runs"]

    def place(cell: Cell) -> tuple[int, int]:
        return axes[axis].index(cell.value), axes[by].index(cell.of) if by else 0

    rows = [
        [shown(c.value), *([shown(c.of)] if by else []), rounded(c.mean),
         f"{rounded(c.low)} to {rounded(c.high)}", str(len(c.pd)), str(len(c.runs))]
        for c in sorted(found, key=place)
    ]  # fmt: skip
    return columns, rows


def _means(
    ax: Graph, x: np.ndarray, found: Sequence[Cell], number: int, log: bool, ordered: bool,
    drawn: inline.Drawn, axis: str, by: str | None,
) -> None:  # fmt: skip
    """The means of a series with their intervals, and what they say when pointed at."""
    mean, low, high = (np.array([getattr(c, n) for c in found]) for n in ("mean", "low", "high"))
    colour = COLOURS[number]
    _bars(ax, x, mean, low, high, colour, log)
    y = np.where(mean > 0.0, mean, np.nan) if log else mean
    ax.plot(x, y, color=colour, lw=1.2 if ordered else 0.0, marker=MARKERS[number], ms=5.5)
    at_rim = np.where(mean == 0.0, rim(ax), mean) if log else mean
    px, py = inline.places(ax, x, at_rim)
    for cell, left, top in zip(found, px, py, strict=True):
        if math.isfinite(top):
            text = (
                f"{named(cell, axis, by)}: {rounded(cell.mean)} [{rounded(cell.low)},"
                f" {rounded(cell.high)}], {len(cell.pd)} pairs"
            )
            drawn.spots.append(inline.Spot(left, top, text))


def _bars(
    ax: Graph, x: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str,
    log: bool,
) -> None:  # fmt: skip
    """Vertical intervals."""
    bottom = ax.get_ylim()[0]
    there = np.isfinite(low) & np.isfinite(high) & (high > 0.0 if log else True)
    low = np.maximum(low, bottom) if log else low
    ax.vlines(x[there], low[there], high[there], color=colour, lw=1.8)


def _runs(
    ax: Graph, runs: Sequence[Pairs], number: int, log: bool, drawn: inline.Drawn, axes: Axes,
    loss: Metric,
) -> None:  # fmt: skip
    """Runs of one colour against both measures."""
    x = np.array([run.entry.summary[run.loss_name] for run in runs], float)
    y = np.array([run.entry.summary["relative_pd"] for run in runs], float)
    low, high = np.array([interval_of(r.entry, "relative_pd") for r in runs]).T
    left, right = np.array([interval_of(r.entry, r.loss_name) for r in runs]).T
    at_rim = np.where(y == 0.0, rim(ax), y) if log else y
    colour = COLOURS[number]
    _bars(ax, x, y, low, high, colour, log)
    there = np.isfinite(left) & np.isfinite(right) & np.isfinite(at_rim)
    ax.hlines(at_rim[there], left[there], right[there], color=colour, lw=1.2)
    ax.plot(x, at_rim, color=colour, ls="", marker=MARKERS[number], ms=4.5)
    if len(drawn.spots) + len(runs) > LINKED:
        return
    for run, at, top in zip(runs, *inline.places(ax, x, at_rim), strict=True):
        if math.isfinite(at) and math.isfinite(top):
            values = ", ".join(f"{n} = {shown(value_of(run.entry, n))}" for n in axes)
            s = run.entry.summary
            text = (
                f"{values or 'run'}: {PD.words} {rounded(s['relative_pd'])},"
                f" {loss.words} {rounded(s[run.loss_name])} {loss.unit}; {run.entry.id}"
            )
            drawn.spots.append(inline.Spot(at, top, text, f"#run-{run.entry.id}"))


def _cloud(
    ax: Graph, x: np.ndarray, y: np.ndarray, stuck: np.ndarray, number: int, log: bool,
    drawn: inline.Drawn,
) -> None:  # fmt: skip
    """Single pairs: dots, crosses where a model is stuck, triangles at the rim for exactly 0."""
    zero = (y == 0.0) if log else np.zeros(len(y), bool)
    for which, shape in ((zero, "triangle"), (stuck & ~zero, "cross"), (~stuck & ~zero, "dot")):
        at = np.full(int(which.sum()), rim(ax)) if shape == "triangle" else y[which]
        px, py = inline.places(ax, x[which], at)
        drawn.points.append(inline.Points(px, py, COLOURS[number], shape))


def _jitter(n: int) -> np.ndarray:
    """Places between -1/2 and 1/2 that lie evenly however many there are: van der Corput's."""
    k = np.arange(n)
    found, part = np.zeros(n), 0.5
    while k.any():
        found += part * (k & 1)
        k, part = k >> 1, part / 2
    return found - 0.5 if n > 1 else found


def _marked(runs: Sequence[Pairs], log: bool, thinned: int) -> list[str]:
    """What the points say, where there are such."""
    notes = []
    if any((run.stuck & run.finite).any() for run in runs):
        notes.append("A cross is a pair with a stuck model.")
    if log and any((run.pd[run.finite] == 0.0).any() for run in runs):
        notes.append("A triangle at the lower rim is exactly 0.")
    if diverged := sum(int((~run.finite).sum()) for run in runs):
        pairs = "1 pair" if diverged == 1 else f"{diverged:,} pairs"
        notes.append(f"Without {pairs} that diverged.")
    if thinned > 1:
        notes.append(f"One pair in {thinned} is drawn as a point; the means are over all.")
    return notes
