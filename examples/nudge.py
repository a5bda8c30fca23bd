"""One weight, moved by one unit in its last place, against every other source of difference.

Summers & Dinneen (2021) found that a change of the least significant bit of one weight spreads
over a training as the usual sources do.  Here each source is switched on by itself, and the PD of
its pairs is followed through the training.  Draws runs/nudge.png.
"""

from pathlib import Path

import numpy as np

from nanorepro import Config, simulate

TOWER = {
    "hidden": "8,4", "lr": 1.0, "log2_examples": 20, "log2_eval": 12, "pairs": 16,
    "eval_every": "log",
}  # fmt: skip
SOURCES = {
    "initial values": {"differ": "init"},
    "shuffle, z = 256": {"differ": "shuffle", "log2_window": 8},
    "shuffle, z = 1": {"differ": "shuffle"},
    "order of the sums": {"differ": "order", "leaf_order": "random"},
    "one weight by one ulp": {"differ": "nudge"},
    "nothing": {"differ": "none"},
}
COLORS = ("#CCBB44", "#228833", "#66CCEE", "#4477AA", "#EE6677", "#888888")
FLOOR = 1e-9


def draw(steps: tuple[int, ...], curves: dict[str, np.ndarray]):
    """A panel for each activation: mean over the pairs; the nudge also pair by pair."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    for axes, (act, by_source) in zip(
        figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True
    ):
        for (source, pd), color in zip(by_source.items(), COLORS, strict=True):
            strong = source == "one weight by one ulp"
            if strong:
                axes.plot(steps, np.maximum(pd, FLOOR), color=color, alpha=0.35, linewidth=0.7)
            mean = np.maximum(pd.mean(axis=1), FLOOR)
            axes.plot(steps, mean, color=color, linewidth=2.5 if strong else 1.5, label=source)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_ylim(FLOOR, 2.0)
        axes.set_xlabel("mini-batches")
        axes.set_title(act, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"relative PD (0 is drawn at {FLOOR:.0e})")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center",
                  frameon=False)  # fmt: skip
    return figure


def main() -> None:
    curves: dict[str, dict[str, np.ndarray]] = {}
    for act in ("identity", "relu"):
        curves[act] = {}
        for source, settings in SOURCES.items():
            result = simulate(Config(**TOWER, act=act, **settings))
            pd = np.array([[pair.pd for pair in pairs] for pairs in result.series])
            curves[act][source] = pd
            print(f"{act:9s} {source:22s} relative PD {result.relative_pd:.2e}"
                  f"   pairs from {pd[-1].min():.1e} to {pd[-1].max():.1e}")  # fmt: skip
    picture = Path("runs/nudge.png")
    picture.parent.mkdir(exist_ok=True)
    draw(result.checkpoints, curves).savefig(picture, dpi=150)
    print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
