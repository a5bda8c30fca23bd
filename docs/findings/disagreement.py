"""Is disagreement equal to test error (Jiang et al., 2022) where the labels' noise is known?

Pairs with other initial values and another order of the examples.  Churn: the share of examples on
which the two models decide differently.  Test error, of labels drawn as those of training are, is
known exactly: p_θ says what share of labels a decision misses; so is the least, that of deciding by
p_θ itself.
"""

import numpy as np
from matplotlib.figure import Figure
from showing import GREY, mean, options, ratio, save, shown

from nanorepro import Config, simulate
from nanorepro.plots.style import BLACK, BLUE, GREEN, RED, settings

RUNS = {
    "linear model, linear world": {"model": "linear"},
    "ReLU tower, linear world": {"hidden": "8,4"},
    "ReLU [64, 32], quadratic world": {"hidden": "64,32", "data": "quadratic"},
}


def errors(r) -> tuple[np.ndarray, np.ndarray, float]:
    """Test error, share of decisions other than p_θ's (checkpoint, pair), and the least error."""
    share = r.evaluation.counts / r.evaluation.counts.sum()
    p = 1.0 / (1.0 + np.exp(-r.evaluation.log_odds))
    ones = np.moveaxis(r.logits, 2, 0) > 0.0  # (checkpoint, pair, model, pattern)
    error = (np.where(ones, 1.0 - p, p) @ share).mean(axis=-1)
    wrong = ((ones != (p > 0.5)) @ share).mean(axis=-1)
    return error, wrong, float(np.minimum(p, 1.0 - p) @ share)


def main() -> None:
    o = options(__doc__.splitlines()[0], 17, 32)
    with settings():
        figure = Figure(figsize=(7.6, 2.8), layout="constrained")
        axes = figure.subplots(1, len(RUNS), sharey=True)
        for ax, (name, fields) in zip(axes, RUNS.items(), strict=True):
            r = simulate(
                Config(**fields, differ="init,shuffle", log2_window=8, log2_eval=14,
                       log2_examples=o.log2_examples, eval_every="log", pairs=o.pairs),
                o.backend, threads=o.threads,
            )  # fmt: skip
            one(ax, name, r)
        axes[0].set(ylabel="share of examples", ylim=(1e-4, 1.0))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    save(figure, o.out, "disagreement")


def one(ax, name, r) -> None:
    """A world and a model: what is said of it, and its graph."""
    error, wrong, least = errors(r)
    churn, t = r.measures["churn"], np.array(r.checkpoints) * r.config.batch
    print(f"{name}: least error {least:.4f}")
    for c in range(len(t) - 1, 0, -4):
        above = error[c] - least
        ratios = {"error": error[c], "above the least": above, "other decisions": wrong[c]}
        print(f"  T = 2^{int(np.log2(t[c]))}: churn {shown(mean(churn[c]))}, error"
              f" {shown(mean(error[c]))}, above the least {shown(mean(above))}, decisions other"
              f" than p_θ's {shown(mean(wrong[c]))}")  # fmt: skip
        for what, of in ratios.items():
            print(f"      churn over {what}: {shown(ratio(churn[c], of))}", flush=True)
    for values, colour, words in (
        (error, BLACK, "test error"), (churn, RED, "churn"),
        (error - least, BLUE, "error above the least"),
        (wrong, GREEN, r"decisions other than $p_\theta$'s"),
    ):  # fmt: skip
        of = np.array([mean(row) for row in values])
        ax.plot(t, of[:, 0], color=colour, label=words)
        ax.fill_between(t, of[:, 1], of[:, 2], color=colour, alpha=0.15, lw=0)
    ax.axhline(least, color=GREY, lw=0.8, ls="--")
    ax.set(xscale="log", yscale="log", xlabel="T", title=name)
    ax.grid(True, color=GREY, alpha=0.35, lw=0.5)


if __name__ == "__main__":
    main()
