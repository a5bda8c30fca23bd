"""Trained parameters of pairs: their values, their differences, one model's against the other's."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nanorepro.paper.record import Row
from nanorepro.plots.style import BLUE, CYAN, GREEN, GREY, PURPLE, RED, YELLOW, heading
from nanorepro.results.metrics import cosine


def panels(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each run, in order."""
    keys = dict.fromkeys((r["curve"], r["log2_window"]) for r in rows)
    return [[r for r in rows if (r["curve"], r["log2_window"]) == key] for key in keys]


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    return np.array([r[name] for r in rows], float)


def weights(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Figure 3: trained parameters of both models against their index, a graph for each run."""
    of = panels(rows)
    figure = Figure(figsize=(7.0, 0.7 + 1.75 * max(len(of), 1)), layout="constrained")
    for ax, run in zip(figure.subplots(max(len(of), 1), 1, squeeze=False)[:, 0], of, strict=False):
        x = column(run, "index")
        for m, (colour, marker) in enumerate(((BLUE, "o"), (RED, "x")), 1):
            ax.plot(x, column(run, f"model_{m}"), ls="", marker=marker, color=colour, mfc="none",
                    mew=0.9, ms=4.5, gid=f"model {m}", label=f"model {m}")  # fmt: skip
        first = run[0]
        at = rf"$\log_2 z$ = {first['log2_window']}"
        ax.set_title(f"{first['curve']}, {at}, pair {first['pair']}")
        ax.set(ylabel="value")
        ax.axhline(0.0, color=GREY, lw=0.6, zorder=0)
        borders(ax, run)
    if of:
        figure.axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
        figure.axes[-1].set_xlabel("parameter index")
    heading(figure, title, note)
    return figure


def borders(ax: Axes, run: Sequence[Row]) -> None:
    """Lines between the layers' parameters, and their names above."""
    ax.margins(y=0.22)
    names = [r["parameter"] for r in run]
    starts = [k for k, n in enumerate(names) if k == 0 or n != names[k - 1]]
    for k, end in zip(starts, [*starts[1:], len(names)], strict=True):
        if k:
            ax.axvline(k - 0.5, color=GREY, lw=0.6, zorder=0)
        narrow = end - k < 3
        ax.text(
            k - 0.4 if narrow else (k + end - 1) / 2, 0.99, names[k], fontsize=6.0,
            transform=ax.get_xaxis_transform(), ha="left" if narrow else "center", va="top",
            color="#666666", rotation=90 if narrow else 0,
        )  # fmt: skip


def differences(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Figure 4: differences between corresponding parameters, the first pair in colour."""
    of = panels(rows)
    figure = Figure(figsize=(7.0, 0.7 + 2.4 * max(len(of), 1)), layout="constrained")
    for ax, run in zip(figure.subplots(max(len(of), 1), 1, squeeze=False)[:, 0], of, strict=False):
        first = run[0]["pair"]
        others = [r for r in run if r["pair"] != first]
        one = [r for r in run if r["pair"] == first]
        ax.plot(column(others, "index"), column(others, "difference"), ls="", marker=".", ms=3.0,
                color=GREY, gid="other pairs", label="other pairs")  # fmt: skip
        ax.plot(column(one, "index"), column(one, "difference"), ls="", marker="o", ms=4.0,
                color=BLUE, gid="difference", label=f"pair {first}")  # fmt: skip
        ax.axhline(0.0, color=GREY, lw=0.6, zorder=0)
        ax.set_title(rf"{one[0]['curve']}, $\log_2 z$ = {one[0]['log2_window']}")
        ax.set(ylabel="model 2 − model 1")
        borders(ax, one)
    if of:
        figure.axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
        figure.axes[-1].set_xlabel("parameter index")
    heading(figure, title, note)
    return figure


def cloud(ax: Axes, rows: Sequence[Row], groups: Sequence[tuple[str, str, str]]) -> None:
    """Parameters of one model against those of the other; groups are (label, colour, names)."""
    for label, colour, names in groups:
        some = [r for r in rows if r["parameter"] in names.split()]
        ax.plot(column(some, "model_1"), column(some, "model_2"), ls="", marker="o", ms=2.6,
                color=colour, alpha=0.7, mew=0, label=label, gid=label)  # fmt: skip
    both = np.array([ax.get_xlim(), ax.get_ylim()])
    limits = both.min(), both.max()
    ax.plot(limits, limits, color=GREY, lw=0.6, zorder=0)
    ax.set(xlim=limits, ylim=limits, aspect="equal", xlabel="model 1", ylabel="model 2")
    ax.legend(loc="upper left", handletextpad=0.2, borderaxespad=0.2)


def coefficient(rows: Sequence[Row], letters: str) -> float:
    """Pearson correlation between the two models' parameters whose names begin so."""
    some = [r for r in rows if r["parameter"][0] in letters]
    a, b = (column(some, f"model_{m}") for m in (1, 2))
    return cosine(a - a.mean(), b - b.mean()) if len(some) else math.nan


def correlations(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Figure 7: a colour for every layer."""
    figure = Figure(figsize=(6.4, 6.8), layout="constrained")
    ax = figure.subplots()
    if rows:
        colours = (BLUE, RED, GREEN, YELLOW, PURPLE, CYAN)
        depth = 1 + max(int(r["parameter"][1:]) for r in rows)
        cloud(ax, rows, [(f"layer {k}", colours[k % 6], f"w{k} b{k}") for k in range(depth)])
        first = rows[0]
        ax.set_title(
            rf"{first['curve']}, $\log_2 z$ = {first['log2_window']}, pair {first['pair']}:"
            f" correlation {coefficient(rows, 'wb'):.3f}"
        )
    heading(figure, title, note)
    return figure


def embedded_correlations(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Figure 9: a row for each pair; embeddings left, weights right."""
    pairs = list(dict.fromkeys(r["pair"] for r in rows))
    figure = Figure(figsize=(7.4, 0.8 + 3.5 * max(len(pairs), 1)), layout="constrained")
    for axes, pair in zip(
        figure.subplots(max(len(pairs), 1), 2, squeeze=False), pairs, strict=False
    ):
        of = [r for r in rows if r["pair"] == pair]
        cloud(axes[0], of, [("first set", GREEN, "e0"), ("second set", PURPLE, "e1")])
        cloud(axes[1], of, [("input edges", RED, "w0"), ("output edges", BLUE, "w1")])
        at = rf"$\log_2 z$ = {of[0]['log2_window']}, pair {pair}"
        axes[0].set_title(f"embeddings, {at}: correlation {coefficient(of, 'e'):.3f}")
        axes[1].set_title(f"weights, {at}: correlation {coefficient(of, 'w'):.3f}")
    heading(figure, title, note)
    return figure
