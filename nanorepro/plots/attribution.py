"""Which source makes two models differ: PD alone and without it, and its share."""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nanorepro.analysis.attribution import Attribution, Effect
from nanorepro.analysis.single_sums import SingleSums, log_pd
from nanorepro.numerics.single_sums import KINDS
from nanorepro.plots.style import BLACK, BLUE, CYAN, GREY, RED, YLORBR, settings
from nanorepro.results.metrics import METRICS
from nanorepro.results.result import title_of
from nanorepro.results.studentized import Interval

EDGE = 0.02  # where on the axis an exact 0 is marked
ABOVE = 18.0  # points between axes and title, for the legend
ROOM = 2.0  # between the axis and the least value, as a ratio


def attribution(found: Attribution) -> Figure:
    """A row for each source, the largest share first: its PD alone and without it, its shares."""
    effects = sorted(found.effects, key=lambda e: _known(e.log_share.value))
    notes = found.findings()
    with settings():
        rows, below = 1.6 + 0.42 * len(effects), 2.2 if found.sums else 0.0
        size = (10.0, rows + below + 0.3 + 0.16 * len(notes))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(
            2 if found.sums else 1, 2, width_ratios=(3, 2),
            height_ratios=(rows, below) if found.sums else None,
        )  # fmt: skip
        left = figure.add_subplot(grid[0, 0])
        right = figure.add_subplot(grid[0, 1], sharey=left)
        right.tick_params(labelleft=False)
        if found.sums:
            _sums(figure, figure.add_subplot(grid[1, :]), found.sums)
        _alone(left, found, effects)
        _shares(right, effects)
        left.set_yticks(range(len(effects)), [e.source.name for e in effects], parse_math=False)
        left.set_ylim(-0.6, len(effects) - 0.4)
        title = re.sub(r"2\^(\d+)", r"$2^{\1}$", title_of(found.config))
        figure.suptitle(title, fontsize=9.0, x=0.01, ha="left")
        figure.supxlabel("\n".join(notes), fontsize=7.5, x=0.01, ha="left")
    return figure


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _alone(ax: Axes, found: Attribution, effects: Sequence[Effect]) -> None:
    """PD where only the source is there, and where all but it are, on a logarithmic axis."""
    words = METRICS["pd"].words
    ax.set_title(f"{words[0].upper()}{words[1:]}: mean over pairs, 95 % intervals", pad=ABOVE)
    ax.set_xlabel(words)
    whole = found.whole
    every = [v for e in effects for v in (*e.alone, *e.without)] + [*whole, found.floor]
    positive = [v for v in every if v > 0.0 and math.isfinite(v)]
    ax.set_xscale("log")
    ax.set_xlim(min(positive) / ROOM**2, max(positive) * ROOM)
    if whole.value > 0.0:
        left, right = ax.get_xlim()
        ends = max(whole.low, left), min(whole.high, right)
        ax.axvspan(*ends, color=GREY, alpha=0.4, lw=0, gid="whole interval")
        ax.axvline(whole.value, color=BLACK, lw=1.0, label="all sources", gid="whole")
    ax.axvline(found.floor, color=GREY, lw=1.0, ls="--", label="unit roundoff", gid="floor")
    for y, e in enumerate(effects):
        _point(ax, e.alone, y + 0.12, BLUE, BLUE, "it alone" if y == 0 else "")
        _point(ax, e.without, y - 0.12, RED, "white", "all but it" if y == 0 else "")
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, borderaxespad=0.4)
    ax.grid(axis="x", color=GREY, lw=0.3)


def _point(ax: Axes, value: Interval, y: float, colour: str, face: str, label: str) -> None:
    """A mean with its interval; 0 as an arrow at the left edge."""
    style: dict[str, Any] = {"color": colour, "markerfacecolor": face, "gid": "mean"}
    if label:
        ax.plot([], [], "o", label=label, **style)
    if value.value > 0.0:
        ax.plot([value.value], [y], "o", **style)
        if not math.isnan(value.low) and not math.isnan(value.high):
            left, right = ax.get_xlim()  # beyond which an end of which nothing is known lies
            ends = [max(value.low, left / ROOM), min(value.high, right * ROOM)]
            ax.plot(ends, [y, y], color=colour, lw=1.2, gid="interval")
    elif value.value == 0.0:
        edge = ax.get_yaxis_transform()
        ax.plot([EDGE], [y], "<", transform=edge, **style)
        ax.text(EDGE + 0.02, y, "exactly 0", transform=edge, va="center", fontsize=6.5,
                bbox={"fc": "white", "ec": "none", "pad": 0.5})  # fmt: skip


def _shares(ax: Axes, effects: Sequence[Effect]) -> None:
    """Shapley shares of the logarithm of PD, and of PD itself."""
    ax.set_title("Shapley share of the whole", pad=ABOVE)
    ax.set_xlabel("share [%]")
    sides = (("log_share", BLUE, 0.18, "of log PD above the roundoff"),
             ("share", CYAN, -0.18, "of PD"))  # fmt: skip
    for name, colour, aside, label in sides:
        shares = [getattr(e, name) for e in effects]
        where = [y + aside for y in range(len(effects))]
        values = [100.0 * s.value if math.isfinite(s.value) else 0.0 for s in shares]
        ax.barh(where, values, height=0.32, color=colour, label=label, gid=name)
        for y, s in zip(where, shares, strict=True):
            if math.isfinite(s.low) and math.isfinite(s.high):
                ends = [100.0 * s.low, 100.0 * s.high]
                ax.plot(ends, [y, y], color=BLACK, lw=0.9, gid=f"{name} interval")
    for y, e in enumerate(effects):
        if e.idle:
            ax.text(1.0, y, "changes no bit here", va="center", fontsize=7.0)
    ax.axvline(0.0, color=BLACK, lw=0.7)
    low, high = ax.get_xlim()
    ax.set_xlim(max(low, -60.0), min(max(high, 100.0), 160.0))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.4)


def _sums(figure: Figure, ax: Axes, found: SingleSums) -> None:
    """A cell for each sum, a column for each layer: PD where it alone is not exact."""
    as_is, none, *means = found.means
    ax.set_title(
        f"{METRICS['pd'].words} where this sum alone is as it is and all others are exact"
        f" (all exact: {_short(none.value)}; all as they are: {_short(as_is.value)})"
    )
    layers = 1 + max((layer for layer, _ in found.sites), default=0)
    heights = {site: log_pd(mean.value, found.floor)
               for site, mean in zip(found.sites, means, strict=True)}  # fmt: skip
    table = np.full((len(KINDS), layers), np.nan)
    for (layer, kind), height in heights.items():
        table[KINDS.index(kind), layer] = height
    top = max(log_pd(as_is.value, found.floor), np.nanmax(table, initial=0.0), 1e-9)
    colours = LinearSegmentedColormap.from_list("decades", YLORBR[:7])
    image = ax.imshow(table, cmap=colours, vmin=0.0, vmax=top, aspect="auto")
    for site, mean in zip(found.sites, means, strict=True):
        at = site[0], KINDS.index(site[1])
        ax.text(*at, _short(mean.value), ha="center", va="center", fontsize=8.0)
        if site in found.sufficient:
            corner, width = (at[0] - 0.48, at[1] - 0.46), 2.0 if site == found.responsible else 1.0
            frame = Rectangle(corner, 0.96, 0.92, fill=False, lw=width, gid="sufficient")
            ax.add_patch(frame)
    ax.set_xticks(range(layers), [f"layer {k}" for k in range(layers)])
    ax.set_yticks(range(len(KINDS)), KINDS)
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, label="decades above the roundoff", pad=0.01)


def _short(value: float) -> str:
    return "0" if value == 0.0 else f"{value:.2g}"
