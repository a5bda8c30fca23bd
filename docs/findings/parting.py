"""Time to parting by activation, and how many steps the training loss hides that models differ.

Reads what `python -m nanorepro.diverge` finds of pairs that differ in rounding alone, and of pairs
of which one weight is moved by one unit in the last place before training.
"""

import math

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binom
from showing import COLOURS, GREY, options, save, shown

from nanorepro import Config, diverge
from nanorepro.plots.style import settings
from nanorepro.results.statistics import proportion

TOWER = {"hidden": "8,4", "log2_eval": 10, "beta": 0.5}
ACTS = ("identity", "smelu", "swish", "relu")
# log2 of how much shorter than T: the loss shows a nudge long before the end
HOW = {"shuffle": ("order of the examples in a mini-batch", 0), "nudge": ("a weight by an ulp", 2)}


def median(values: list[float]) -> str:
    """The median with its 95 % interval from order statistics; infinite: not yet."""
    x, n = np.sort(np.array(values)), len(values)
    k = int(binom.ppf(0.025, n, 0.5))
    low, high = x[max(k - 1, 0)], x[min(n - k, n - 1)]
    middle = x[(n - 1) // 2]
    words = [f"{v:,.0f}" if math.isfinite(v) else "never" for v in (middle, low, high)]
    return f"{words[0]} [{words[1]}, {words[2]}]"


def main() -> None:
    o = options(__doc__.splitlines()[0], 20, 32)
    found = {}
    for differ, (words, shorter) in HOW.items():
        print(words)
        for act in ACTS:
            d = diverge(
                Config(**TOWER, act=act, differ=differ, pairs=o.pairs,
                       log2_examples=o.log2_examples - shorter), o.backend, threads=o.threads,
            )  # fmt: skip
            found[differ, act] = d
            apart = [p.parting.step if p.parting else math.inf for p in d.pairs]
            seen = [p.loss.step if p.loss else math.inf for p in d.pairs]
            hidden = [b - a if math.isfinite(a) else math.inf
                      for a, b in zip(apart, seen, strict=True)]  # fmt: skip
            branch = [p.branch.step if p.branch else math.inf for p in d.pairs]
            late = sum(s is not None for s in d.parted_at)
            never = sum(not math.isfinite(s) for s in hidden)
            print(f"  {act:9s} bits part after {median(apart)}; the loss differs {median(hidden)}"
                  f" steps later, in {never} pairs never; another branch in {median(branch)};"
                  f" PD above {d.threshold:g} in {late} of {o.pairs} pairs, not in"
                  f" {shown(proportion(o.pairs - late, o.pairs))}", flush=True)  # fmt: skip
    with settings():
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        axes = figure.subplots(1, 2)
        for act in ACTS:
            curve, last = found["shuffle", act].survival(), found["shuffle", act].steps[-1]
            step, share = np.maximum(curve["step"], 1.0), curve["share"]
            low, high = (np.nan_to_num(curve[k], nan=f) for k, f in (("low", 0.0), ("high", 1.0)))
            step, share, low, high = (np.append(v, end) for v, end in (
                (step, last), (share, share[-1]), (low, low[-1]), (high, high[-1])))  # fmt: skip
            axes[0].step(step, share, where="post", color=COLOURS[act], label=act)
            axes[0].fill_between(step, low, high, step="post", color=COLOURS[act], alpha=0.12, lw=0)
            for differ, line in (("shuffle", "-"), ("nudge", ":")):
                d = found[differ, act]
                wait = np.sort([p.loss.step - p.parting.step if p.loss and p.parting else math.inf
                                for p in d.pairs])  # fmt: skip
                share = 1.0 - np.arange(1, len(wait) + 1) / len(wait)
                known = np.isfinite(wait)
                axes[1].step(np.append([0.5], np.maximum(wait[known], 0.5)),
                             np.append([1.0], share[known]), line, where="post",
                             color=COLOURS[act], label=f"{act}, {differ}")  # fmt: skip
        axes[0].set_title(f"PD not above {found['shuffle', 'relu'].threshold:g} yet")
        axes[1].set_title("Pairs whose float32 loss does not differ yet")
        axes[0].set_xlabel("step")
        axes[1].set_xlabel("steps since the bits part")
        for ax in axes:
            ax.set(xscale="log", ylabel="share of pairs", ylim=(-0.03, 1.05))
            ax.grid(True, color=GREY, alpha=0.35, lw=0.5)
            ax.legend(fontsize=6.0)
    save(figure, o.out, "parting")


if __name__ == "__main__":
    main()
