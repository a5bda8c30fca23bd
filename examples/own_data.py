"""Your own examples as a world: how far apart do pairs end on two real data sets, and why?

Both ship with scikit-learn: breast cancer (569 tumours, 30 measurements, scaled), and digits (1797
pictures of 8 by 8 pixels, black or white; odd or even?).  Pairs of towers differ in one source at a
time.  Draws runs/own_data.png, the picture of docs/data.md, or in another folder if one is named.

    python examples/own_data.py [FOLDER]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer, load_digits

from nanorepro import Config, Result, simulate
from nanorepro.plots.style import BLUE, GREEN, RED, file_of, settings

BASE = Config(hidden="16,8", lr=0.05, batch=8, epochs=20, pairs=8, holdout=0.25)
SOURCES = {
    "order of the sums": {"differ": "order", "leaf_order": "random"},
    "order of the examples": {"differ": "shuffle", "log2_window": 4},
    "initial values": {"differ": "init"},
    "all of these": {
        "differ": "init,order,shuffle", "leaf_order": "random", "log2_window": 4,
    },
}  # fmt: skip
ACTIVATIONS = {"relu": RED, "smelu": GREEN, "swish": BLUE}


def breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Real features, each scaled to mean 0 and standard deviation 1."""
    data = load_breast_cancer()
    return (data.data - data.data.mean(axis=0)) / data.data.std(axis=0), data.target


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Binary features: the pixels that are darker than half, without those that never vary."""
    data = load_digits()
    x = (data.data > 8).astype(int)
    return x[:, x.min(axis=0) < x.max(axis=0)], data.target % 2


SETS = {"breast cancer, real features": breast_cancer, "digits, binary features": digits}


def runs(x: np.ndarray, y: np.ndarray) -> dict[tuple[str, str], Result]:
    """Every source with every activation."""
    return {
        (source, act): simulate(replace(BASE, act=act, **options), data=(x, y))
        for source, options in SOURCES.items()
        for act in ACTIVATIONS
    }


def picture(found: dict[str, dict[tuple[str, str], Result]]) -> Figure:
    """Relative PD by source: each pair a dot, the mean over pairs a bar with its interval."""
    with settings():
        figure = Figure(figsize=(9.0, 3.6), layout="constrained")
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for ax, (name, results) in zip(axes, found.items(), strict=True):
            ax.set(yscale="log", title=name, xlim=(-0.6, len(SOURCES) - 0.4))
            ax.set_xticks(
                range(len(SOURCES)), [s.replace(" of the ", " of\nthe ") for s in SOURCES]
            )
            for (source, act), result in results.items():
                place = list(ACTIVATIONS).index(act) - 1
                at = list(SOURCES).index(source) + 0.22 * place
                pd = np.array([pair.pd for pair in result.pairs])
                low, high = result.relative_pd_interval
                colour = ACTIVATIONS[act]
                beside = at + 0.1 * (np.arange(len(pd)) / (len(pd) - 1) - 0.5)
                ax.plot(beside, pd, ls="", marker="o", ms=2.5, color=colour, alpha=0.5)
                ax.vlines(at, low, high, color=colour, lw=3.0, alpha=0.5)
                label = act if source == next(iter(SOURCES)) else None
                ax.plot(at, result.relative_pd, marker="_", ms=11, mew=2, color=colour, ls="",
                        label=label)  # fmt: skip
        axes[0].set_ylabel(r"relative PD $\Delta_r$")
        axes[0].legend(loc="lower right")
    return figure


def main(folder: str = "runs") -> None:
    Path(folder).mkdir(exist_ok=True)
    found = {}
    for name, load in SETS.items():
        found[name] = runs(*load())
        print(name)
        for (source, act), result in found[name].items():
            low, high = result.relative_pd_interval
            print(
                f"  {source:22s} {act:6s} relative PD {result.relative_pd:.2e}"
                f" ({low:.1e} to {high:.1e}), churn {result.mean('churn'):.2%},"
                f" log loss {result.mean('loss'):.3f} nats, AUC {result.mean('auc'):.3f}"
            )
    path = Path(folder) / "own_data.png"
    path.write_bytes(file_of(picture(found)))
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
