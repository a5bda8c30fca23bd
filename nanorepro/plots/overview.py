"""What a run looks like: results in, matplotlib Figure out, no training and no global state."""

import re

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nanorepro.plots.style import BLUE, GREEN, GREY, RED, YELLOW, YLORBR, file_of, settings
from nanorepro.results.metrics import Metric, average, probability
from nanorepro.results.result import Result

DENSITY = LinearSegmentedColormap.from_list("YlOrBr", YLORBR[1:])
CELLS = 64  # of the density, along each side
WIDE = 20.0  # largest over smallest value from which an axis is logarithmic
SERIES = ("pd", "loss", "churn")  # of which series over training are drawn
MARGIN = 0.035  # where on an axis that has no place for a value it is marked nevertheless


def overview(result: Result) -> Figure:
    """One run: predictions against each other, PD and excess loss by pair, series if there are."""
    rows = 2 if len(result.checkpoints) > 1 else 1
    with settings():
        figure = Figure(figsize=(10.0, 0.5 + 3.0 * rows), layout="constrained")
        axes = figure.subplots(rows, 3, squeeze=False, width_ratios=(1.15, 1.0, 1.0))
        predictions(axes[0, 0], result)
        pd_by_pair(axes[0, 1], result)
        loss_by_pair(axes[0, 2], result)
        if rows == 2:
            for ax, name in zip(axes[1], SERIES, strict=True):
                series(ax, result, result.metrics[name])
        figure.suptitle(title(result), fontsize=9.0, x=0.01, ha="left")
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    return file_of(figure)


def title(result: Result) -> str:
    """`Result.title` with the run's id, its powers of two as Matplotlib sets them."""
    return re.sub(r"2\^(\d+)", r"$2^{\1}$", f"{result.title}; run {result.config.id}")


def predictions(ax: Axes, result: Result) -> None:
    """Density of (p̂_1, p̂_2) over the evaluation examples of all pairs in which none diverged."""
    ax.set_title("Predictions of the two models")
    ax.set(xlabel=r"$\hat{p}_1(1)$", ylabel=r"$\hat{p}_2(1)$", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")
    _legend(ax)
    ax.plot([0, 1], [0, 1], color=GREY, lw=0.6, zorder=3, gid="diagonal")
    finite = [k for k, pair in enumerate(result.pairs) if not any(pair.diverged)]
    if not finite:
        ax.text(0.5, 0.4, "all pairs diverged", ha="center", transform=ax.transAxes)
        return
    edges = np.linspace(0.0, 1.0, CELLS + 1)
    density = np.zeros((CELLS, CELLS))
    largest = 0.0
    for k in finite:
        p1, p2 = probability(result.logits[k, :, -1])
        density += np.histogram2d(p1, p2, (edges, edges), weights=result.evaluation.counts)[0]
        largest = max(largest, float(np.abs(p1 - p2).max()))
    shown = np.ma.masked_equal(density.T, 0.0)
    norm = LogNorm(1.0, max(density.max(), 10.0))
    mesh = ax.pcolormesh(
        edges, edges, shown, norm=norm, cmap=DENSITY, rasterized=True, gid="density"
    )
    ax.text(
        0.0, 1.025, rf"$\max\,|\hat{{p}}_1 - \hat{{p}}_2| = {_tex(largest)}$",
        fontsize=7.0, gid="largest",
    )  # fmt: skip
    ax.figure.colorbar(mesh, ax=ax, label="evaluation examples", pad=0.02, aspect=30)


def pd_by_pair(ax: Axes, result: Result) -> None:
    """Relative PD of every pair, its mean and interval; stuck, diverged and zero ones marked."""
    ax.set_title(f"{capital(result.metrics['pd'].words)} by pair")
    ax.set(xlabel="pair", ylabel=result.metrics["pd"].short_label)
    number = np.arange(result.config.pairs)
    pd = np.array([pair.pd for pair in result.pairs])
    stuck = np.array([any(pair.stuck) for pair in result.pairs])
    diverged = np.array([any(pair.diverged) for pair in result.pairs])
    positive, zero = pd > 0.0, pd == 0.0
    if positive.any():
        ax.set_yscale("log")
        _around(ax, pd[positive])
        _points(ax, number[positive & ~stuck], pd[positive & ~stuck], "pd", "pair")
        _points(ax, number[positive & stuck], pd[positive & stuck], "pd-stuck", "stuck", stuck=True)
        if result.relative_pd > 0.0:
            _mean(ax, result)
    else:
        ax.set_ylim(0.0, 1.0)
        ax.set_yticks([])
    _aside(ax, number[zero & ~stuck], MARGIN, "pd-zero", "exactly 0")
    _aside(ax, number[zero & stuck], MARGIN, "pd-zero-stuck", "exactly 0, stuck", RED)
    _aside(ax, number[diverged], 1.0 - MARGIN, "pd-diverged", "diverged")
    if zero.all():
        ax.text(0.5, 0.5, "exactly 0 for every pair", ha="center", transform=ax.transAxes)
    _pairs_axis(ax, len(number))
    _legend(ax)


def loss_by_pair(ax: Axes, result: Result) -> None:
    """Loss of both models of every pair, joined by a line."""
    metric = result.metrics["loss"]
    ax.set_title(f"{capital(metric.words)} by pair")
    ax.set(xlabel="pair", ylabel=metric.short_label)
    number = np.arange(result.config.pairs)
    loss = np.array([pair.loss for pair in result.pairs])
    finite = np.isfinite(loss).all(axis=1)
    if finite.any():
        low, high = loss[finite].min(), loss[finite].max()
        if low > 0.0 and high > WIDE * low:
            ax.set_yscale("log")
            _around(ax, loss[finite])
        elif high - low < 1e-3 * high:
            ax.set_ylim(0.95 * low, 1.05 * high)
        beside = number[finite] + np.array([[-0.17], [0.17]])
        ax.plot(beside, loss[finite].T, color=GREY, lw=0.8, zorder=1)
        for m, face in enumerate((BLUE, "white")):
            ax.plot(
                beside[m], loss[finite, m], color=BLUE, ls="", marker="o", mew=0.8, mfc=face,
                ms=3.8, gid=f"loss-{m + 1}", label=f"model {m + 1}",
            )  # fmt: skip
        if any(any(pair.stuck) for pair in result.pairs):
            ax.axhline(
                result.constant_loss, color=RED, lw=0.8, ls="--", gid="constant",
                label="best constant",
            )  # fmt: skip
            _with(ax, result.constant_loss)
    else:
        ax.set_yticks([])
    _aside(ax, number[~finite], 1.0 - MARGIN, "loss-diverged", "diverged")
    _pairs_axis(ax, len(number))
    _legend(ax)


def series(ax: Axes, result: Result, metric: Metric) -> None:
    """A metric over training: a thin line for every pair or model, and the mean over pairs."""
    ax.set(xlabel="training examples", ylabel=metric.label)
    ax.set_title(f"{capital(metric.words)} over training")
    examples = result.config.batch * np.array(result.checkpoints)
    values = result.measures[metric.name]  # (checkpoint, pair) or (checkpoint, pair, model)
    lines = values.reshape(len(examples), -1)
    finite = (result.measures["diverged"] == 0).all(axis=-1)
    mean = [average(v[known].ravel().tolist()) for v, known in zip(values, finite, strict=True)]
    if result.config.eval_every == "log":
        ax.set_xscale("log", base=2)
        ax.set_xlim(examples[0] / 1.4, examples[-1] * 1.4)
    else:
        ax.set_xlim(0, 1.03 * examples[-1])
    zero, diverged = (lines == 0.0).any(axis=1), np.isnan(lines).any(axis=1)
    some = lines[lines > 0.0]
    if len(some) and some.max() > WIDE * some.min():
        ax.set_yscale("log")
        lines = np.where(lines > 0.0, lines, np.nan)
        _aside(ax, examples[zero], MARGIN, "each-zero", "some exactly 0")
    elif not len(some):
        ax.set_ylim(-0.05, 1.0)
        ax.set_yticks([0.0])
        if zero.all() and not diverged.any():
            ax.text(0.5, 0.5, "exactly 0 throughout", ha="center", transform=ax.transAxes)
    _aside(ax, examples[diverged], 1.0 - MARGIN, "each-diverged", "some diverged")
    thin = max(0.15, min(0.6, 8.0 / lines.shape[1]))
    ax.plot(examples, lines, color=BLUE, alpha=thin, lw=0.7, gid="each")
    shown = np.where(np.array(mean) > 0.0, mean, np.nan) if ax.get_yscale() == "log" else mean
    ax.plot(examples, shown, color=BLUE, lw=1.8, marker="o", ms=2.5, gid="mean", label="mean")
    _legend(ax)


def capital(words: str) -> str:
    """The words as a title begins."""
    return words[0].upper() + words[1:]


def _points(
    ax: Axes, x: np.ndarray, y: np.ndarray, gid: str, label: str, stuck: bool = False
) -> None:
    if len(x):
        ax.plot(
            x, y, ls="", marker="X" if stuck else "o", color=RED if stuck else BLUE, ms=5.5,
            mec="white", mew=0.4, gid=gid, label=label, zorder=3,
        )  # fmt: skip


def _aside(ax: Axes, x: np.ndarray, height: float, gid: str, label: str, colour: str = "") -> None:
    """Mark pairs at the rim of an axis that has no place for their value."""
    if len(x):
        marker = "v" if height < 0.5 else "^"
        colour = colour or (GREEN if height < 0.5 else RED)
        ax.plot(
            x, np.full(len(x), height), ls="", marker=marker, color=colour, mfc="white", mew=0.9,
            transform=ax.get_xaxis_transform(), gid=gid, label=label, clip_on=False, zorder=4,
        )  # fmt: skip


def _mean(ax: Axes, result: Result) -> None:
    """The mean over pairs as a line and its interval as a band, to the rim where it is infinite."""
    low, high = result.relative_pd_interval
    if len(result.finite()) > 1:
        label = "mean, 95 % interval"
        bottom, top = ax.get_ylim()
        ends = max(low, bottom), min(high, top)
        ax.axhspan(*ends, color=YELLOW, alpha=0.3, lw=0, gid="interval", zorder=0)
        ax.axhline(result.relative_pd, color=YELLOW, lw=1.4, gid="mean", label=label, zorder=1)


def _with(ax: Axes, value: float) -> None:
    """Let an axis hold a value, too."""
    low, high = ax.get_ylim()
    if ax.get_yscale() == "log":
        room = (high / low) ** MARGIN
        ends = min(low, value / room) if value > 0.0 else low, max(high, value * room)
    else:
        room = MARGIN * (max(high, value) - min(low, value))
        ends = low if low < value else value - room, high if value < high else value + room
    ax.set_ylim(*ends)


def _around(ax: Axes, values: np.ndarray) -> None:
    """Limits of a logarithmic axis with room around the values, at least a decade."""
    low, high = np.log10(values.min()), np.log10(values.max())
    room = max(0.12 * (high - low), 0.5 * (1.0 - (high - low)), 0.12)
    ax.set_ylim(10.0 ** (low - room), 10.0 ** (high + room))


def _tex(value: float) -> str:
    """A number for mathtext: 0.71, or 8.2×10^-8."""
    if value == 0.0 or 1e-3 <= value < 1e4:
        return f"{value:.2g}"
    digits, power = f"{value:.1e}".split("e")
    return rf"{digits} \times 10^{{{int(power)}}}"


def _pairs_axis(ax: Axes, pairs: int) -> None:
    ax.set_xlim(-0.7, pairs - 0.3)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def _legend(ax: Axes) -> None:
    """The legend between title and axes, and the axis's factor out of its way."""
    ax.set_title(ax.get_title(loc="left"), pad=17.0)
    ax.yaxis.get_offset_text().set_horizontalalignment("right")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(
            loc="lower left", bbox_to_anchor=(-0.03, 0.99), ncols=4, borderaxespad=0.0,
            handletextpad=0.3, columnspacing=0.9, handlelength=1.5,
        )  # fmt: skip
