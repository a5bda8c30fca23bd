"""How pairs part: distance, PD and loss over training, and the pairs that have not parted."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanorepro.analysis.divergence import Divergence
from nanorepro.plots.style import BLACK, BLUE, CYAN, GREEN, GREY, PURPLE, RED, YELLOW, settings
from nanorepro.results.metrics import METRICS, metrics_of
from nanorepro.results.result import title_of

COLOURS = (BLUE, RED, GREEN, YELLOW, PURPLE, CYAN, BLACK)


def divergence(found: Sequence[Divergence], names: Sequence[str]) -> Figure:
    """Four panels of one or more configurations, each in a colour of its own.

    Parameters
    ----------
    found : sequence of Divergence
        The configurations.
    names : sequence of str
        What each is called in the legend; "" where there is one only.
    """
    with settings():
        figure = Figure(figsize=(10.0, 6.6), layout="constrained")
        axes = figure.subplots(2, 2)
        over_training(axes[0, 0], found, names, "distance", "distance of the parameters")
        over_training(axes[0, 1], found, names, "pd", METRICS["pd"].words)
        loss(axes[1, 0], found)
        survival(axes[1, 1], found)
        branches(axes[0, 0], found)
        for ax in axes.flat:
            ax.set(xscale="log", xlabel="step: mini-batches trained on")
            ax.set_xlim(0.8, 1.25 * max(d.steps[-1] for d in found))
        if any(names):
            handles, labels = axes[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right upper", fontsize=8.0)
        title = re.sub(r"2\^(\d+)", r"$2^{\1}$", title_of(found[0].config))
        more = f"; {names[0]}, beside it {', '.join(names[1:])}" if len(found) > 1 else ""
        lines = "thin: each pair; bold: the median of those that are apart"
        figure.suptitle(f"{title}{more}\n{lines}", fontsize=9.0, x=0.01, ha="left")
    return figure


def over_training(
    ax: Axes, found: Sequence[Divergence], names: Sequence[str], field: str, words: str
) -> None:
    """A thin line for each pair and the median of those that are not 0, on log axes."""
    ax.set_title(f"{words[0].upper()}{words[1:]}")
    ax.set_ylabel(words)
    none: list[str] = []
    for d, name, colour in zip(found, names, COLOURS, strict=False):
        values = np.array([getattr(pair, field) for pair in d.pairs], np.float64)
        nowhere = "exactly 0" if (values == 0.0).all() else "0 or diverged"
        values[~((values > 0.0) & np.isfinite(values))] = np.nan
        if not np.isfinite(values).any():
            ax.plot([], [], color=colour, lw=1.8, label=f"{name}: {nowhere}" if name else None)
            none.append(nowhere)
            continue
        thin = max(0.15, min(0.5, 6.0 / len(values)))
        curves(ax, d.steps, values.T, color=colour, lw=0.6, alpha=thin, gid="each")
        known = np.isfinite(values).any(axis=0)
        median = np.full(len(d.steps), np.nan)
        median[known] = np.nanmedian(values[:, known], axis=0)
        curves(ax, d.steps, median, color=colour, lw=1.8, label=name or "median", gid="median")
        if field == "pd":
            ax.axhline(d.threshold, color=GREY, lw=0.8, ls="--", zorder=0, gid="threshold")
    if len(none) < len(found):
        ax.set_yscale("log")
    else:
        ax.set_yticks([])
        words = f"{none[0]} throughout" if len({*none}) == 1 else "nowhere above 0"
        ax.text(0.5, 0.5, words, ha="center", transform=ax.transAxes)


def curves(ax: Axes, x: Sequence[float], y: np.ndarray, **style: Any) -> None:
    """Lines, and as points the values without a neighbour, of which a line shows nothing."""
    ax.plot(x, y, **style)
    there = np.isfinite(y)
    before, after = np.roll(there, 1, axis=0), np.roll(there, -1, axis=0)
    before[0], after[-1] = False, False
    if (alone := there & ~before & ~after).any():
        points = {**style, "ls": "", "marker": "o", "ms": 3.0, "gid": "alone", "label": None}
        ax.plot(x, np.where(alone, y, np.nan), **points)


def branches(ax: Axes, found: Sequence[Divergence]) -> None:
    """Mark on the curve of each pair the first mini-batch with another branch."""
    labelled = False
    for d, colour in zip(found, COLOURS, strict=False):
        for pair in d.pairs:
            if pair.branch is None or not (pair.distance > 0.0).any():
                continue
            step = max(pair.branch.step, 1)
            known = pair.distance > 0.0
            at = np.interp(
                np.log(step), np.log(np.array(d.steps)[known]), np.log(pair.distance[known])
            )
            ax.plot(
                [step], [np.exp(at)], ls="", marker="o", ms=4.0, mfc="white", mec=colour, mew=1.0,
                zorder=4, gid="branch",
            )  # fmt: skip
            labelled = True
    if labelled:
        ax.text(
            0.02, 0.96, "circles: an activation takes another branch for the first time",
            fontsize=7.0, va="top", transform=ax.transAxes,
        )  # fmt: skip


def loss(ax: Axes, found: Sequence[Divergence]) -> None:
    """Median loss over all models, with each model as a thin line."""
    metric = metrics_of(found[0].config)["loss"]
    ax.set_title(f"{metric.words[0].upper()}{metric.words[1:]}")
    ax.set_ylabel(f"{metric.words} [{metric.unit}]")
    for d, colour in zip(found, COLOURS, strict=False):
        values = np.array([pair.excess_loss for pair in d.pairs])  # (pairs, steps, 2)
        lines = np.moveaxis(values, 1, 0).reshape(len(d.steps), -1)
        lines = np.where((lines > 0.0) & np.isfinite(lines), lines, np.nan)
        thin = max(0.15, min(0.5, 6.0 / lines.shape[1]))
        curves(ax, d.steps, lines, color=colour, lw=0.6, alpha=thin, gid="each")
        if np.isfinite(lines).any(axis=1).all():
            median = np.nanmedian(lines, axis=1)
            curves(ax, d.steps, median, color=colour, lw=1.8, gid="median")
    ax.set_yscale("log")


def survival(ax: Axes, found: Sequence[Divergence]) -> None:
    """The share of pairs whose PD has not been above the threshold, with its 95 % interval."""
    ax.set_title(f"Pairs whose {METRICS['pd'].words} has stayed below {found[0].threshold:g}")
    ax.set(ylabel="share of pairs", ylim=(-0.03, 1.05))
    for d, colour in zip(found, COLOURS, strict=False):
        curve = d.survival()
        step = np.concatenate([np.maximum(curve["step"], 0.5), [d.steps[-1]]])
        bounds = {k: np.concatenate([v, v[-1:]]) for k, v in curve.items() if k != "step"}
        ax.step(step, bounds["share"], where="post", color=colour, lw=1.8, gid="survival")
        # stairs, as where the share is 0 there is no interval
        low, high = (np.repeat(bounds[end], 2)[:-1] for end in ("low", "high"))
        ax.fill_between(
            np.repeat(step, 2)[1:], low, high, color=colour, alpha=0.15, lw=0, gid="interval"
        )
