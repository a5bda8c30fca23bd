"""PD against excess loss of every mitigation, both over the baseline's, a graph for each window."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from nanorepro.paper.mitigations import MITIGATIONS
from nanorepro.paper.plot_curves import Label, around, place_labels
from nanorepro.paper.record import Row
from nanorepro.plots.style import BLACK, BLUE, CYAN, GREEN, GREY, PURPLE, RED, YELLOW, heading

COLOURS = {
    "baseline": BLACK, "SmeLU": GREEN, "Swish": PURPLE, "rate": CYAN, "averages": RED,
    "arithmetic": BLUE, "examples": YELLOW,
}  # fmt: skip
FAMILY = {m.name: m.family for m in MITIGATIONS}
FAR = 4.0  # how many times farther than the points an interval's end may lie to be in the frame
SMALL = 5.0  # a marker's size where nothing more than the baseline is trained


def panels(table: Sequence[Row], title: str, note: str) -> Figure:
    """A point each, with its intervals; its area is the examples that it costs."""
    windows = list(dict.fromkeys(r["log2_window"] for r in table))
    figure = Figure(figsize=(7.6, 0.9 + 4.0 * max(len(windows), 1)), layout="constrained")
    graphs = figure.subplots(max(len(windows), 1), 1, squeeze=False)[:, 0]
    labels: list[list[Label]] = []
    for ax, window in zip(graphs, windows, strict=False):
        of = [r for r in table if r["log2_window"] == window and r["pd_ratio"] is not None]
        if not of:
            ax.text(0.5, 0.5, "no pair learned", ha="center", transform=ax.transAxes)
        ends = np.array([r[f"pd_ratio{e}"] for r in of for e in ("", "_low", "_high")], float)
        across = np.array([r["loss_ratio"] for r in of] or [1.0], float)
        bars = [r[f"loss_ratio_{end}"] for r in of for end in ("low", "high")]
        known = [end for end in bars if end is not None and end > 0.0]
        within = np.clip([*known, *across], across.min() / FAR, across.max() * FAR)
        low, high = within.min(), within.max()
        ax.set_yscale("log")
        around(ax.set_ylim, ends)
        ax.set_xscale("log")
        ax.set_xlim(low / 1.25, max(1.5 * across.max(), 1.1 * high))
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        floor = ax.get_ylim()[0] * (ax.get_ylim()[1] / ax.get_ylim()[0]) ** 0.06
        labels.append([point(ax, row, floor) for row in of])
        for line in (ax.axhline, ax.axvline):
            line(1.0, color=GREY, lw=0.8, zorder=0)
        ax.set_title(
            "z = 1: rounding alone" if window == 0 else rf"z = $2^{{{window}}}$ mini-batches"
        )
        ax.set(xlabel="excess loss over ReLU's", ylabel=r"$\Delta_r$ over ReLU's")
        ax.grid(True, which="major", color=GREY, alpha=0.35, lw=0.5)
    figure.legend(handles=handles(table), loc="outside right upper")
    heading(figure, title, note)
    for ax, of_graph in zip(graphs, labels, strict=False):
        place_labels(figure, ax, of_graph)
    return figure


def point(ax: Axes, row: Row, floor: float) -> Label:
    """One mitigation; what is exactly 0 stands at the floor.  Gives its label."""
    colour = COLOURS[FAMILY[row["name"]]]
    x, y = row["loss_ratio"], max(row["pd_ratio"] or 0.0, floor)
    size = SMALL * row["examples"] ** 0.5
    exact = row["pd_ratio"] == 0.0
    ax.plot([x], [y], ls="", marker="v" if exact else "o", color=colour, ms=size, mfc="none",
            mew=1.1, zorder=3, gid=row["name"])  # fmt: skip
    spread = [row[f"{c}_ratio_{e}"] for c in ("pd", "loss") for e in ("low", "high")]
    known = [np.nan if e is None else e for e in spread]
    if not exact:
        ax.plot([x, x], [max(known[0], floor), known[1]], color=colour, lw=0.8, alpha=0.6, zorder=2)
    ax.plot(known[2:], [y, y], color=colour, lw=0.8, alpha=0.6, zorder=2)
    return row["name"] + (" (PD 0)" if exact else ""), x, y, colour


def handles(table: Sequence[Row]) -> list[Line2D]:
    """The colours of the families that there are, and the sizes of the costs."""
    there = dict.fromkeys(FAMILY[r["name"]] for r in table)
    found = [Line2D([], [], ls="", marker="o", mfc="none", mew=1.1, color=COLOURS[f], label=f)
             for f in there]  # fmt: skip
    found += [
        Line2D([], [], ls="", marker="o", mfc="none", color=GREY, ms=SMALL * k**0.5,
               label=f"examples x{k}")
        for k in sorted({r["examples"] for r in table})
    ]  # fmt: skip
    return [*found, Line2D([], [], color=GREY, lw=0.8, label="95 % interval\nover pairs")]
