"""PD against the unit roundoff, by activation and number of examples: rounding alone.

The two models of a pair see the examples of a mini-batch in another order and differ in nothing
else.  PD is measured during one training, so that T varies at no cost.
"""

import numpy as np
from matplotlib.figure import Figure
from showing import BLACK, COLOURS, GREY, mean, options, run, save, shown, slope

from nanorepro import Config
from nanorepro.plots.style import settings

TOWER = {"hidden": "8,4", "log2_eval": 12, "eval_every": "log", "beta": 0.5}
FLOATS = {24: "float32", 53: "float64"}
ACTS = ("identity", "smelu", "swish", "relu")


def main() -> None:
    o = options(__doc__.splitlines()[0], 20, 16, bits=[*range(6, 25), 53])
    u = np.array([2.0**-p for p in o.bits])
    shown_t = [o.log2_examples - k for k in (6, 3, 0)]
    pds = {}
    for act in ACTS:
        for p in o.bits:
            precision = FLOATS.get(p, f"bits:{p}")
            r = run(
                Config(**TOWER, act=act, precision=precision, log2_examples=o.log2_examples,
                       pairs=o.pairs), o,
            )  # fmt: skip
            for t in shown_t:
                at = r.checkpoints.index((1 << t) // r.config.batch)
                pds.setdefault((act, t), []).append(r.measures["pd"][at])
            medians = [np.median(pds[act, t][-1]) * 2.0**p for t in shown_t]
            print(f"{act} {precision} {shown(mean(r.measures['pd'][-1]))}, medians over u at T ="
                  f" {', '.join(f'2^{t}' for t in shown_t)}:"
                  f" {', '.join(f'{m:.3g}' for m in medians)}", flush=True)  # fmt: skip
    with settings():
        figure = Figure(figsize=(9.6, 3.2), layout="constrained")
        for ax, act in zip(figure.subplots(1, len(ACTS), sharey=True), ACTS, strict=True):
            for t, alpha in zip(shown_t, (0.35, 0.6, 1.0), strict=True):
                rows = np.array(pds[act, t])
                of = np.array([mean(row) for row in rows])
                fine = [k for k, p in enumerate(o.bits) if 11 <= p <= 24]
                found = slope(np.log(u[fine]), rows[fine])
                print(f"{act}, T = 2^{t}: PD ~ u^a, 11 to 24 bits: a = {shown(found)}")
                ax.plot(
                    u, of[:, 0] / u, "o-", ms=2.5, lw=0.8, color=COLOURS[act], alpha=alpha,
                    label=rf"T = $2^{{{t}}}$",
                )  # fmt: skip
                ax.vlines(u, of[:, 1] / u, of[:, 2] / u, color=COLOURS[act], alpha=alpha, lw=0.8)
            ax.axhline(1.0, ls=":", color=BLACK, lw=0.8)
            ax.set(xscale="log", yscale="log", ylim=(0.1, 1e6), xlabel="unit roundoff u", title=act)
            ax.grid(True, color=GREY, alpha=0.35, lw=0.5)
            ax.legend()
        figure.axes[0].set_ylabel("relative PD over u")
    save(figure, o.out, "roundoff")


if __name__ == "__main__":
    main()
