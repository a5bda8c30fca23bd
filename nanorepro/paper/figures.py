"""The paper's figures drawn: numbers in, matplotlib Figure out, no training and no global state.

The numbers of a figure are a list of flat records, the rows of its CSV file; `numbers` takes them
from results, and the functions that draw see nothing else.
"""

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nanorepro.config import Config
from nanorepro.data.sampling import FEATURES
from nanorepro.paper import curves, estimates
from nanorepro.plots.overview import GREY, STYLE
from nanorepro.results.metrics import average, cosine
from nanorepro.results.result import Result
from nanorepro.specification import layers

Row = dict[str, Any]
Runs = dict[tuple[str, int], Result]

# Paul Tol's bright scheme (personal.sron.nl/~pault)
BLUE, CYAN, GREEN, YELLOW, RED, PURPLE = (
    "#4477AA", "#66CCEE", "#228833", "#CCBB44", "#EE6677", "#AA3377",
)  # fmt: skip
BLACK = "#000000"
COLOURS = {"linear": BLACK, "Identity": BLUE, "ReLU": RED, "SmeLU": GREEN, "Swish": PURPLE}
MARKERS = ("o", "s", "^", "D")
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
SHOWN = 7  # units of a layer that are drawn before the rest is left out


def numbers(figure: int, size: curves.Size, runs: Runs) -> list[Row]:
    """What a figure plots, from the runs there are; no rows for figures 1 and 5."""
    if figure in (3, 4):
        return weight_numbers(figure, size, runs)
    if figure in (7, 9):
        return correlation_numbers(figure, size, runs)
    return curve_numbers(figure, size, runs)


def draw(figure: int, rows: Sequence[Row], note: str, models: Sequence[Config] = ()) -> Figure:
    """The figure of the paper from its numbers; `note` says in a line what was run.

    `models` are the architectures of figures 1 and 5.
    """
    with matplotlib.rc_context(STYLE):
        title = curves.TITLES[figure]
        if figure in (1, 5):
            return architectures(models, title)
        if figure == 3:
            return weights(rows, title, note)
        if figure == 4:
            return differences(rows, title, note)
        if figure == 7:
            return correlations(rows, title, note)
        if figure == 9:
            return embedded_correlations(rows, title, note)
        return curve_panels(rows, title, note)


def as_csv(rows: Sequence[Row], note: str) -> str:
    """The plotted numbers, after a comment line that says where they come from."""
    text = io.StringIO()
    text.write(f"# {note}\n")
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


# Figures 2, 6, 8, 10


def curve_numbers(figure: int, size: curves.Size, runs: Runs) -> list[Row]:
    """For every run its mean over pairs (`pair` is "mean") and every single pair."""
    found = []
    for name, window in curves.run_keys(curves.DRAWN[figure], size):
        if (name, window) not in runs:
            continue
        r = runs[name, window]
        where = {"curve": name, "log2_window": window, "log2_examples": r.config.log2_examples}
        origin = {"id": r.config.id, "fingerprint": r.fingerprint, "seconds": r.seconds}
        stuck, diverged = ([sum(getattr(p, w)) for p in r.pairs] for w in ("stuck", "diverged"))
        found.append({
            **where, "pair": "mean", "pd": r.relative_pd, "pd_low": r.relative_pd_interval[0],
            "pd_high": r.relative_pd_interval[1], "loss": r.excess_loss,
            "loss_low": r.excess_loss_interval[0], "loss_high": r.excess_loss_interval[1],
            "stuck": sum(stuck), "diverged": sum(diverged), "models": 2 * r.config.pairs, **origin,
        })  # fmt: skip
        for k, p in enumerate(r.pairs):
            found.append({
                **where, "pair": k, "pd": p.pd, "pd_low": "", "pd_high": "",
                "loss": average(p.loss), "loss_low": "", "loss_high": "",
                "stuck": stuck[k], "diverged": diverged[k], "models": 2, **origin,
            })  # fmt: skip
    return found


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
    """Δ_r against log2 z above; Δ_r against L with log2 z at the points below."""
    figure = Figure(figsize=(7.6, 8.6), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    names = list(dict.fromkeys(r["curve"] for r in rows))
    means = [r for r in rows if r["pair"] == "mean"]
    pds = np.array([r["pd"] for r in rows], float)
    top.set(xlabel=r"$\log_2 z$", ylabel=r"relative PD $\Delta_r$")
    bottom.set(xlabel="excess loss $L$ [nats]", ylabel=r"relative PD $\Delta_r$")
    bottom.set_xscale("log")
    for ax in (top, bottom):
        ax.set_yscale("log")
        ax.grid(True, which="major", color=GREY, alpha=0.35, lw=0.5)
        around(ax.set_ylim, pds)
    ends = [r[c] for r in means for c in ("loss", "loss_low", "loss_high")]
    around(bottom.set_xlim, np.array(ends, float))
    windows = sorted({r["log2_window"] for r in means})
    top.set_xticks(windows)
    width = 0.012 * (windows[-1] - windows[0]) if windows else 0.0
    floor = top.get_ylim()[0] * (top.get_ylim()[1] / top.get_ylim()[0]) ** 0.015
    handles = []
    for k, name in enumerate(names):
        of = [r for r in means if r["curve"] == name]
        single = [r for r in rows if r["curve"] == name and r["pair"] != "mean"]
        aside = width * (k / max(len(names) - 1, 1) - 0.5)
        one_curve(top, bottom, name, of, single, aside, floor)
        handles.append(handle(name, of))
    handles += marks(rows)
    figure.legend(handles=handles, loc="outside right upper", handlelength=3.0)
    heading(figure, title, note)
    return figure


def one_curve(
    top: Axes, bottom: Axes, name: str, means: list[Row], single: list[Row], aside: float,
    floor: float,
) -> None:  # fmt: skip
    """A curve in both graphs; what is exactly 0 stands at the floor of the logarithmic axis."""
    colour, marker, dashes, filled = look(name)
    face = colour if filled else "white"
    x = np.array([r["log2_window"] for r in means]) + aside
    pd, low, high = (np.array([r[c] for r in means], float) for c in ("pd", "pd_low", "pd_high"))
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
    loss = np.array([r["loss"] for r in means], float)
    ends = np.array([[r["loss_low"], r["loss_high"]] for r in means], float).T
    across = np.array([loss - ends[0], ends[1] - loss]).clip(0.0)
    bottom.plot(loss, y, zorder=3, gid=f"loss {name}", **line)
    bottom.errorbar(
        loss, y, xerr=np.nan_to_num(across), fmt="none", ecolor=colour, elinewidth=0.6, zorder=2
    )
    for r, at, height in zip(means, loss, y, strict=True):
        if math.isfinite(at) and math.isfinite(height):
            bottom.annotate(
                f"{r['log2_window']}", (at, height), (3, 2), textcoords="offset points",
                fontsize=5.5, color=colour,
            )  # fmt: skip


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


def around(set_limits, values: np.ndarray) -> None:
    """Limits of a logarithmic axis with room around the positive values, at least a decade."""
    values = values[np.isfinite(values) & (values > 0.0)]
    if not len(values):
        set_limits(1e-9, 1.0)
        return
    low, high = np.log10(values.min()), np.log10(values.max())
    room = max(0.06 * (high - low), 0.5 * (1.0 - (high - low)), 0.05)
    set_limits(10.0 ** (low - room), 10.0 ** (high + room))


def heading(figure: Figure, title: str, note: str) -> None:
    text = "\n".join([title, *textwrap.wrap(note, int(13.5 * figure.get_figwidth()))])
    figure.suptitle(text, fontsize=8.0, x=0.01, ha="left")


# Figures 3, 4, 7, 9


def flat(parameters: dict[str, np.ndarray]) -> list[tuple[str, float]]:
    """(name, value) of every parameter, the weights unit by unit."""
    return [(k, float(v)) for k, values in parameters.items() for v in values.T.ravel()]


def parameter_rows(r: Result, name: str, pair: int) -> list[Row]:
    """Both models' parameters of one pair."""
    first, second = (flat(m) for m in r.parameters[pair])
    return [
        {
            "curve": name, "log2_window": r.config.log2_window, "pair": pair, "index": k,
            "parameter": parameter, "model_1": a, "model_2": b, "difference": b - a,
            "id": r.config.id, "fingerprint": r.fingerprint,
        }
        for k, ((parameter, a), (_, b)) in enumerate(zip(first, second, strict=True))
    ]  # fmt: skip


def sound(r: Result) -> list[int]:
    """The pairs of which no model diverged or is stuck, or all if there are none."""
    found = [k for k, p in enumerate(r.pairs) if not any(p.diverged) and not any(p.stuck)]
    return found or list(range(r.config.pairs))


def weight_numbers(figure: int, size: curves.Size, runs: Runs) -> list[Row]:
    """Figure 3: one pair a curve, with opposite weights if there is one.  Figure 4: all pairs."""
    found = []
    for name, window in curves.run_keys(curves.DRAWN[figure], size):
        if (name, window) not in runs:
            continue
        r = runs[name, window]
        chosen = sound(r)
        if figure == 3:
            reverse = [k for k in chosen if estimates.opposite(r)[k]] if name[-4:] == "diff" else []
            chosen = (reverse or chosen)[:1]
        for pair in chosen:
            found += parameter_rows(r, name, pair)
    return found


def correlation_numbers(figure: int, size: curves.Size, runs: Runs) -> list[Row]:
    """Figure 7: one pair.  Figure 9: the pairs whose embeddings are most and least correlated."""
    found = []
    for name, window in curves.run_keys(curves.DRAWN[figure], size):
        if (name, window) not in runs:
            continue
        r = runs[name, window]
        chosen = sound(r)
        if figure == 9:
            by = estimates.centred(r, "e")
            chosen = sorted(chosen, key=lambda k: -by[k])
            chosen = [chosen[0], chosen[-1]]
        for pair in dict.fromkeys(chosen[: 2 if figure == 9 else 1]):
            found += parameter_rows(r, name, pair)
    return found


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
    ax.margins(y=0.16)
    names = [r["parameter"] for r in run]
    starts = [k for k, n in enumerate(names) if k == 0 or n != names[k - 1]]
    for k, end in zip(starts, [*starts[1:], len(names)], strict=True):
        if k:
            ax.axvline(k - 0.5, color=GREY, lw=0.6, zorder=0)
        ax.text(
            (k + end - 1) / 2, 0.99, names[k], transform=ax.get_xaxis_transform(), ha="center",
            va="top", fontsize=6.0, color="#666666", rotation=90 if end - k < 3 else 0,
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
    figure = Figure(figsize=(5.4, 5.8), layout="constrained")
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
        cloud(axes[0], of, [("first set", BLUE, "e0"), ("second set", RED, "e1")])
        cloud(axes[1], of, [("input edges", RED, "w0"), ("output edges", BLUE, "w1")])
        at = rf"$\log_2 z$ = {of[0]['log2_window']}, pair {pair}"
        axes[0].set_title(f"embeddings, {at}: correlation {coefficient(of, 'e'):.3f}")
        axes[1].set_title(f"weights, {at}: correlation {coefficient(of, 'w'):.3f}")
    heading(figure, title, note)
    return figure


# Figures 1 and 5


def architectures(models: Sequence[Config], title: str) -> Figure:
    """Drawings of models side by side, inputs at the bottom."""
    figure = Figure(figsize=(3.4 * len(models), 4.6), layout="constrained")
    for ax, config in zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True):
        architecture(ax, config)
    heading(figure, title, "")
    return figure


def architecture(ax: Axes, config: Config) -> None:
    """One model: a dot for every input, a link for every weight, a triangle for σ and A."""
    net = layers(config, FEATURES)
    units = [spots(FEATURES, 0.0)]
    for level, layer in enumerate(net, 1):
        below, above = units[-1], spots(layer.fan_out, float(level))
        units.append(above)
        part = layer.fan_out // layer.sets
        for j, x0, y0 in below:
            for i, x1, y1 in above:
                if layer.sets == 1 or j // (layer.fan_in // layer.sets) == i // part:
                    ax.plot([x0, x1], [y0, y1], color=BLUE, lw=0.35, alpha=0.6, zorder=1)
        last = level == len(net)
        large = min(1.0, 10.0 / len(above))
        for _, x, y in above:
            triangle = layer.active or last
            ax.plot(x, y, marker="^" if triangle else "o", ms=13 * large if triangle else 6,
                    color="white", mec=RED if last else GREEN if layer.active else YELLOW,
                    zorder=2)  # fmt: skip
            if triangle:
                ax.annotate("σ" if last else "A", (x, y), (0, -1.5 * large), fontsize=6 * large,
                            textcoords="offset points", ha="center", va="center")  # fmt: skip
        if len(above) < layer.fan_out:
            ax.text(0.0, level, "...", ha="center", va="center", backgroundcolor="white", zorder=3)
        n = layer.fan_out
        what = "prediction" if last else "embedding"
        if layer.active:
            what = f"{n} unit{'s' if n > 1 else ''}"
        names = ", ".join(f"${n[0]}^{n[1:]}$" for n in layer.names)
        ax.text(1.12, level, f"{what}\n{names}", fontsize=6.5, va="center")
    for _, x, y in units[0]:
        ax.plot(x, y, marker="o", ms=3.5, color=BLACK, zorder=2)
    ax.text(1.12, 0.0, f"{FEATURES} inputs", fontsize=6.5, va="center")
    act = "" if config.model == "linear" else f", A = {config.act}"
    widths = f" [{', '.join(map(str, config.widths))}]" if config.widths else ""
    ax.set_title(f"{config.model}{widths}{act}")
    ax.set(xlim=(-1.15, 1.75), ylim=(-0.25, max(len(net), 2) + 0.35))
    ax.axis("off")


def spots(n: int, level: float) -> list[tuple[int, float, float]]:
    """(unit, x, y) of the units of a layer that are drawn: all of 32, else the ends of a row."""
    if n <= FEATURES:
        step = min(0.42, 2.0 / max(n - 1, 1))
        return [(k, (k - (n - 1) / 2) * step, level) for k in range(n)]
    half = SHOWN // 2 + 1
    left = [(k, -1.0 + 0.2 * k, level) for k in range(half)]
    return left + [(n - 1 - k, 1.0 - 0.2 * k, level) for k in range(half)]
