"""Does it matter when one weight is nudged?  PD a fixed number of steps after, and at the end."""

import numpy as np
from matplotlib.figure import Figure
from showing import COLOURS, GREY, mean, options, ratio, run, save, shown, slope

from nanorepro import Config
from nanorepro.plots.style import settings

TOWER = {"hidden": "8,4", "log2_eval": 10, "beta": 0.5, "differ": "nudge"}
ACTS = ("identity", "smelu", "relu")
ULPS = {"1": 1, "2^16": 1 << 16}
ULPS_SHOWN = {"1": "1", "2^16": "$2^{16}$"}


def main() -> None:
    o = options(__doc__.splitlines()[0], 18, 32)
    steps = (1 << o.log2_examples) // 32
    every = steps // 128
    nudges = [0, *(every << k for k in range(7)), steps - (steps >> 2)]  # multiples of `every`
    after = steps >> 2
    pds = {}
    for act in ACTS:
        for name, ulps in ULPS.items():
            for at in nudges:
                r = run(
                    Config(**TOWER, act=act, nudge_at=at, nudge_ulps=ulps, pairs=o.pairs,
                           log2_examples=o.log2_examples, eval_every=str(every)), o,
                )  # fmt: skip
                fixed = r.measures["pd"][r.checkpoints.index(at + after)]
                pds.setdefault((act, name), []).append((fixed, r.measures["pd"][-1]))
            for where, what in enumerate((f"{after} steps later", "at the end")):
                rows = np.array([p[where] for p in pds[act, name]])
                first, late = mean(rows[0]), mean(rows[-1])
                found = slope(np.log(np.array(nudges[1:-1])), rows[1:-1])
                print(f"{act:9s} {name:4s} ulp, PD {what}: nudged before step 0 {shown(first)},"
                      f" before step {nudges[-1]} {shown(late)}, the first over the last"
                      f" {shown(ratio(rows[0], rows[-1]))}; PD ~ step^a, a = {shown(found)}",
                      flush=True)  # fmt: skip
    with settings():
        figure = Figure(figsize=(7.6, 3.0), layout="constrained")
        for ax, where in zip(figure.subplots(1, 2, sharey=True), (0, 1), strict=True):
            for (act, name), rows in pds.items():
                of = np.array([mean(p[where]) for p in rows])
                x = np.maximum(nudges, every / 2)
                line = "-" if name == "1" else ":"
                ax.plot(
                    x,
                    of[:, 0],
                    f"o{line}",
                    color=COLOURS[act],
                    label=f"{act}, {ULPS_SHOWN[name]} ulp",
                )
                ax.vlines(x, of[:, 1], of[:, 2], color=COLOURS[act], lw=0.8)
            ax.set(xscale="log", yscale="log", xlabel="step of the nudge (first point: 0)")
            ax.set_title(f"PD {after:,} steps after the nudge" if where == 0 else
                         f"PD at the end, step {steps:,}")  # fmt: skip
            ax.grid(True, color=GREY, alpha=0.35, lw=0.5)
        figure.axes[0].set_ylabel("relative PD")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    save(figure, o.out, "nudge_later")


if __name__ == "__main__":
    main()
