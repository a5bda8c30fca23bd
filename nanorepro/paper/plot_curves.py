"""PD against the window and against the excess loss, a line for each curve."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nanorepro.paper import curves
from nanorepro.paper.record import Row
from nanorepro.plots.style import BLACK, BLUE, GREEN, GREY, PURPLE, RED, heading
from nanorepro.results.metrics import METRICS

Label = tuple[str, float, float, str]  # text, its point, its colour
COLOURS = {"linear": BLACK, "Identity": BLUE, "ReLU": RED, "SmeLU": GREEN, "Swish": PURPLE}
MARKERS = ("o", "s", "^", "D")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


def look(name: str) -> tuple[str, str, Any, bool]:
    """Colour, marker, dashes and whether the marker is filled, of a curve."""
    colour = COLOURS[name.split()[0].rstrip(",")]
    for k, optimizer in enumerate(curves.OPTIMIZERS):
        if name.endswith(", " + optimizer):
            return colour, MARKERS[k], DASHES[k], k == 0
    for k, beta in enumerate((*curves.SMELU, *curves.SWISH)):
        if name.split()[:2] in (["SmeLU", f"{beta:g}"], ["Swish", f"{beta:g}"]):
            return colour, MARKERS[k % 3], DASHES[k % 3], k % 3 == 1
    marker = "s" if " 2" in name else "^" if "linear" in name else "o"
    dashed = name.endswith((" diff", " TL"))
    return colour, marker, DASHES[1] if dashed else "-", not dashed


def curve_panels(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Δ_r against log2 z above; Δ_r against L below, for three z, log2 z at the points."""
    figure = Figure(figsize=(7.6, 8.6), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    names = list(dict.fromkeys(r["curve"] for r in rows))
    means = [r for r in rows if r["pair"] == "mean"]
    pds = np.array([r["pd"] for r in rows], float)
    top.set(xlabel=r"$\log_2 z$", ylabel=METRICS["pd"].full_label)
    bottom.set(xlabel=METRICS["loss"].full_label, ylabel=METRICS["pd"].full_label)
    bottom.set_xscale("log")
    for ax in (top, bottom):
        ax.set_yscale("log")
        ax.grid(True, which="major", color=GREY, alpha=0.35, lw=0.5)
        around(ax.set_ylim, pds)
    windows = sorted({r["log2_window"] for r in means})
    three = curves.three_of(windows) if windows else ()
    shown = [r for r in rows if r["log2_window"] in three]
    around(bottom.set_xlim, numbers(shown, "loss"))  # intervals of long tails may leave the frame
    top.set_xticks(windows)
    width = 0.012 * (windows[-1] - windows[0]) if windows else 0.0
    floor = top.get_ylim()[0] * (top.get_ylim()[1] / top.get_ylim()[0]) ** 0.015
    handles, labels = [], list[Label]()
    for k, name in enumerate(names):
        of = [r for r in means if r["curve"] == name]
        single = [r for r in rows if r["curve"] == name and r["pair"] != "mean"]
        aside = width * (k / max(len(names) - 1, 1) - 0.5)
        labels += one_curve(top, bottom, name, of, single, aside, floor, three)
        handles.append(handle(name, of))
    handles += marks(rows)
    figure.legend(handles=handles, loc="outside right upper", handlelength=3.0)
    heading(figure, title, note)
    place_labels(figure, bottom, labels)
    return figure


def one_curve(
    top: Axes, bottom: Axes, name: str, means: list[Row], single: list[Row], aside: float,
    floor: float, windows: Sequence[int],
) -> list[Label]:  # fmt: skip
    """A curve in both graphs; what is exactly 0 stands at the floor of the logarithmic axis.

    The lower graph shows the windows that are named, as the paper's does; gives its labels.
    """
    colour, marker, dashes, filled = look(name)
    face = colour if filled else "white"
    x = np.array([r["log2_window"] for r in means]) + aside
    pd, low, high = (numbers(means, c) for c in ("pd", "pd_low", "pd_high"))
    y = np.maximum(pd, floor)
    spread = np.array([y - np.clip(low, floor, y), np.maximum(high, y) - y])
    line: Row = {"color": colour, "ls": dashes, "marker": marker, "mfc": face, "mew": 0.8, "ms": 4}
    top.plot(x, y, zorder=3, gid=f"pd {name}", **line)
    top.errorbar(x, y, np.nan_to_num(spread), fmt="none", ecolor=colour, elinewidth=0.8, zorder=2)
    for is_stuck, sign, large in ((False, ".", 2.6), (True, "x", 4.0)):
        some = [r for r in single if (r["stuck"] > 0) == is_stuck and r["diverged"] == 0]
        if some:
            px = np.array([r["log2_window"] for r in some]) + aside
            py = np.maximum([r["pd"] for r in some], floor)
            kind = "stuck" if is_stuck else "pairs"
            top.plot(px, py, ls="", color=colour, alpha=0.45, mew=0.7, zorder=1,
                     gid=f"{kind} {name}", marker=sign, ms=large)  # fmt: skip
    zero = pd == 0.0
    top.plot(x[zero], y[zero], ls="", marker="v", color=colour, mfc="white", ms=6, zorder=4)
    loss = numbers(means, "loss")
    ends = numbers(means, "loss_low"), numbers(means, "loss_high")
    across = np.array([loss - ends[0], ends[1] - loss]).clip(0.0)
    three = np.isin([r["log2_window"] for r in means], windows)
    bottom.plot(loss[three], y[three], zorder=3, gid=f"loss {name}", **line)
    bottom.errorbar(
        loss[three], y[three], xerr=np.nan_to_num(across[:, three]), fmt="none", ecolor=colour,
        elinewidth=0.6, zorder=2,
    )  # fmt: skip
    return [
        (f"{r['log2_window']}", at, height, colour)
        for r, at, height, shown in zip(means, loss, y, three, strict=True)
        if shown and math.isfinite(at) and math.isfinite(height)
    ]


def place_labels(figure: Figure, ax: Axes, labels: Sequence[Label]) -> None:
    """Labels beside their points, where they cover neither each other nor other points.

    Each goes to the nearest free place around its point, farther off with a line to it; equal
    labels of one colour at one place are written once.
    """
    if not labels:
        return
    figure.draw_without_rendering()
    scale = figure.dpi / 72.0
    points = ax.transData.transform([(x, y) for _, x, y, _ in labels]) / scale
    half = 2.6  # points: half of a marker's size
    taken = [(x - half, y - half, x + half, y + half) for x, y in points]
    written: list[tuple[str, str, float, float]] = []
    for (text, x, y, colour), (px, py) in zip(labels, points, strict=True):
        if any(w[:2] == (text, colour) and math.dist(w[2:], (px, py)) < 6.0 for w in written):
            continue
        written.append((text, colour, px, py))
        width, height = 3.7 * len(text), 6.0
        for far in (4.0, 9.0, 14.0, 20.0, 27.0, 35.0, 44.0):
            box = next(
                (b for b in _around(px, py, width, height, far)
                 if not any(_overlap(b, other) for other in taken)), None,
            )  # fmt: skip
            if box:
                break
        box = box or next(_around(px, py, width, height, 4.0))
        taken.append(box)
        offset = (box[0] - px, box[1] - py)
        line = {"arrowstyle": "-", "color": colour, "lw": 0.4, "shrinkA": 0.0, "shrinkB": 2.0}
        ax.annotate(
            text, (x, y), offset, textcoords="offset points", fontsize=6.0, color=colour,
            ha="left", va="bottom", gid="label", arrowprops=line if far > 4.0 else None, zorder=4,
            bbox={"boxstyle": "square,pad=0.02", "fc": "white", "ec": "none", "alpha": 0.8},
        )  # fmt: skip


Box = tuple[float, float, float, float]


def _around(x: float, y: float, width: float, height: float, far: float) -> Iterator[Box]:
    """Boxes of a size around a point, first above and below an interval that goes through it."""
    for turn in (2, -2, 1, -1, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 0, 8):
        angle = turn * math.pi / 8.0
        cx = x + math.cos(angle) * (far + width / 2.0)
        cy = y + math.sin(angle) * (far + height / 2.0)
        yield cx - width / 2.0, cy - height / 2.0, cx + width / 2.0, cy + height / 2.0


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def numbers(rows: Sequence[Row], name: str) -> np.ndarray:
    """A column; NaN where it is empty."""
    return np.array([math.nan if r[name] == "" else r[name] for r in rows], float)


def handle(name: str, means: list[Row]) -> Line2D:
    """A curve's line in the legend, with its stuck and diverged models counted."""
    colour, marker, dashes, filled = look(name)
    words = [name]
    for what in ("stuck", "diverged"):
        if n := sum(r[what] for r in means):
            words.append(f"{n} of {sum(r['models'] for r in means)} {what}")
    return Line2D(
        [], [], color=colour, ls=dashes, marker=marker, mfc=colour if filled else "white",
        mew=0.8, ms=4.0, label="\n".join(words),
    )  # fmt: skip


def marks(rows: Sequence[Row]) -> list[Line2D]:
    """What the other signs mean, of those that occur."""
    found = [("|", "95 % interval of the mean", 7.0), (".", "single pair", 2.6)]
    if any(r["stuck"] for r in rows):
        found.append(("x", "pair with a stuck model", 4.0))
    if any(r["pd"] == 0.0 for r in rows if r["pair"] == "mean"):
        found.append(("v", "exactly 0", 6.0))
    return [
        Line2D([], [], ls="", marker=m, color=GREY, mec="#777777", mfc="white", ms=ms, label=text)
        for m, text, ms in found
    ]


def around(set_limits: Callable[[float, float], Any], values: np.ndarray) -> None:
    """Limits of a logarithmic axis with room around the positive values, at least a decade."""
    values = values[np.isfinite(values) & (values > 0.0)]
    if not len(values):
        set_limits(1e-9, 1.0)
        return
    low, high = np.log10(values.min()), np.log10(values.max())
    room = max(0.06 * (high - low), 0.5 * (1.0 - (high - low)), 0.05)
    set_limits(10.0 ** (low - room), 10.0 ** (high + room))
