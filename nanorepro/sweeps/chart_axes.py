"""The axes of a report's graphs: limits, ticks, scales, legend."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from nanorepro.plots import style
from nanorepro.plots.overview import MARGIN, WIDE
from nanorepro.results.metrics import METRICS
from nanorepro.sweeps.pooled import REPLICATES, shown

COLOURS = (style.BLUE, style.RED, style.GREEN, style.PURPLE, style.YELLOW, style.CYAN,
           style.BLACK, style.GREY)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
SIZE = (4.7, 3.5)
PD = METRICS["pd"]
TICKS = 12  # values that are written below an axis
LONGEST = 18  # characters of one of them
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """Where the values of a field stand on a horizontal axis.

    Attributes
    ----------
    at : dict
        Place of each value.
    gap : float
        The least distance of two of them, or what is left for each where they are far apart.
    ordered : bool
        Whether a line between two values means something.
    """

    at: dict[Any, float]
    gap: float
    ordered: bool


def scale(axis: str, values: Sequence[Any]) -> Scale:
    """Numbers stand where they are, by their logarithms if they span much; all else in a row."""
    real = all(isinstance(v, int | float) for v in values)
    ordered = real and axis not in REPLICATES
    if not ordered or len(values) < 3:
        return Scale({v: float(k) for k, v in enumerate(values)}, 1.0, ordered)
    wide = values[0] > 0 and values[-1] > WIDE * values[0]
    at = [math.log10(v) if wide else float(v) for v in values]
    gap = min(b - a for a, b in zip(at, at[1:], strict=False))
    return Scale(dict(zip(values, at, strict=True)), min(gap, (at[-1] - at[0]) / 8), True)


def short(value: Any) -> str:
    """The same, no longer than an axis has place for."""
    text = shown(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def tick(value: float) -> str:
    """A number of an axis: 0.02, 3000, 10⁻⁶, 2×10⁻⁷."""
    if value == 0.0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:g}"
    digits, power = f"{value:.3e}".split("e")
    digits = digits.rstrip("0").rstrip(".")
    exponent = "10" + str(int(power)).translate(SUPERSCRIPT)
    return exponent if digits == "1" else f"{digits}×{exponent}"


def graph(xlabel: str) -> tuple[Figure, Axes]:
    """An empty graph of PD; what lies behind it is the page's."""
    figure = Figure(figsize=SIZE, dpi=72, layout="constrained")
    ax = figure.add_subplot()
    figure.patch.set_visible(False)
    ax.patch.set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis="y", color=style.GREY, alpha=0.4, lw=0.6)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(PD.label)
    return figure, ax


def y_axis(ax: Axes, values: Sequence[float]) -> bool:
    """Limits and ticks of the PD; whether the axis is logarithmic."""
    known = np.array([v for v in values if math.isfinite(v)])
    positive = known[known > 0.0]
    if not len(positive):
        ax.set_ylim(-0.05, 1.0)
        ax.set_yticks([0.0], ["0"])
        return False
    if positive.max() <= WIDE * positive.min() and len(positive) == len(known):
        room = 0.08 * (known.max() - known.min()) or 0.5 * known.max()
        ax.set_ylim(max(0.0, known.min() - room), known.max() + room)
        ax.yaxis.set_major_locator(MaxNLocator(6))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: tick(v)))
        return False
    low, high = math.log10(positive.min()), math.log10(positive.max())
    room = max(0.06 * (high - low), 0.1)
    ax.set_yscale("log")
    below = 2.5 * room if len(positive) < len(known) else room  # for those that are exactly 0
    ax.set_ylim(10.0 ** (low - below), 10.0 ** (high + room))
    _log_ticks(ax.yaxis, high - low)
    return True


def _log_ticks(axis: Any, decades: float) -> None:
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.9 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda v, _: tick(v)))
    axis.set_minor_locator(NullLocator())


def loss_axis(ax: Axes, values: Sequence[float]) -> None:
    """Limits and ticks of the loss."""
    known = np.array([v for v in values if math.isfinite(v)])
    if not len(known):
        ax.set_xticks([])
        return
    low, high = known.min(), known.max()
    if low > 0.0 and high > WIDE * low:
        ax.set_xscale("log")
        room = (high / low) ** 0.05
        ax.set_xlim(low / room, high * room)
        _log_ticks(ax.xaxis, math.log10(high / low))
        return
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    ax.set_xlim(low - room, high + room)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: tick(v)))


def x_axis(ax: Axes, place: Scale, values: Sequence[Any]) -> None:
    """Limits and ticks of a field; of many values some are written."""
    low, high = min(place.at.values()), max(place.at.values())
    room = max(0.6 * place.gap, 0.03 * (high - low))
    ax.set_xlim(low - room, high + room)
    apart = (high - low) / TICKS
    marked: list[Any] = []
    for value in values:
        if not marked or place.at[value] - place.at[marked[-1]] >= apart:
            marked.append(value)
    labels = [short(value) for value in marked]
    ax.set_xticks([place.at[value] for value in marked], labels)
    if sum(map(len, labels)) + 2 * len(labels) > 46:
        ax.tick_params(axis="x", labelrotation=40)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def legend(figure: Figure, ax: Axes, by: str | None, series: Sequence[Any]) -> None:
    if by is None:
        return
    for k, of in enumerate(series):
        ax.plot([], [], color=COLOURS[k], marker=MARKERS[k], ls="", ms=5, label=short(of))
    fitting = max(1, min(len(series), 50 // (max(len(short(of)) for of in series) + 4)))
    lines = math.ceil(len(series) / fitting)
    figure.legend(
        loc="outside upper left", ncols=math.ceil(len(series) / lines), title=by,
        alignment="left", handletextpad=0.2, columnspacing=1.0, borderpad=0.0,
    )  # fmt: skip


def rim(ax: Axes) -> float:
    """Where on a logarithmic axis a PD of exactly 0 is marked."""
    low, high = ax.get_ylim()
    return float(low * (high / low) ** MARGIN)
