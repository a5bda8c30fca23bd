"""What rounding alone does: pairs that differ in the order of their sums and in nothing else.

Both models of a pair start from the same values and see the same examples in the same mini-batches;
only the order in which a gradient is summed over a mini-batch differs.  First in float32, for every
tree with every accumulator; `exact` once, because its sums have the same bits in any tree.  Then by
precision, from 6 significand bits to float64's 53, for a tower without kinks (identity) and one
with kinks (ReLU).  Draws runs/rounding_alone.png.  With an empty cache nearly all of its time is
compilation, of 25 kernels; left out for it are widths like the paper's tower's.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from nanorepro import Config

TOWER = {
    "hidden": "8,4", "lr": 1.0, "log2_examples": 17, "log2_eval": 12, "pairs": 8,
    "differ": "order", "leaf_order": "random",
}  # fmt: skip
TREES = ("chain", "pairwise", "lanes:8", "blocks:4", "random")
ACCUMULATORS = {"plain": "#4477AA", "kahan": "#EE6677", "wide": "#228833"}
BITS = {6: "bits:6", 11: "bits:11", 16: "bits:16",
        24: "float32", 53: "float64"}  # fmt: skip
ACTS = ("identity", "relu")


def crossed() -> dict[tuple[str, str], dict[str, str]]:
    """The options of every tree with every accumulator."""
    found = {(t, a): {"tree": t, "accumulator": a} for t in TREES for a in ACCUMULATORS}
    return found | {("any", "exact"): {"accumulator": "exact"}}


def by_bits(act: str) -> list[dict[str, str]]:
    """The options of every precision."""
    return [{"act": act, "precision": precision} for precision in BITS.values()]


def run(options: dict[str, str]) -> tuple[float, list[float]]:
    """Δ_r and the PD of each pair."""
    from nanorepro import simulate

    result = simulate(Config(**TOWER, **options), threads=1)
    return result.relative_pd, [pair.pd for pair in result.pairs]


def draw(crossing: dict[tuple[str, str], list[float]], curves: dict[str, list[list[float]]]):
    """Left the dials, right the precision; a point a pair, a bar or line the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1.0))
    colors, floor = ACCUMULATORS | {"exact": "#222222"}, 1e-9
    places = dict(zip(crossing, (k + k // 3 for k in range(len(crossing))), strict=True))
    for (tree, accumulator), pd in crossing.items():
        at, color = places[tree, accumulator], colors[accumulator]
        mean, label = sum(pd) / len(pd), accumulator if tree in ("chain", "any") else None
        left.plot([at] * len(pd), [max(v, floor) for v in pd], "o", color=color, label=label,
                  alpha=0.6, markersize=4, markeredgewidth=0, clip_on=False)  # fmt: skip
        left.plot([at - 0.4, at + 0.4], [max(mean, floor)] * 2, color="#222222", linewidth=1.5)
    left.set_yscale("log")
    left.set_ylim(floor, 1.0)
    left.set_yticks([floor, *(10.0**k for k in range(-8, 1, 2))])
    left.set_yticklabels(["0", *(f"$10^{{{k}}}$" for k in range(-8, 1, 2))])
    left.set_xticks([places[tree, "kahan"] for tree in TREES] + [places["any", "exact"]],
                    [*TREES, "any tree"])  # fmt: skip
    left.legend(frameon=False, ncols=4, loc="upper center", handletextpad=0.1, columnspacing=1.0)
    left.set_title("ReLU, float32: by tree and accumulator (bar: mean of the pairs)", fontsize=10)
    left.set_ylabel("relative PD")
    unit = [2.0**-p for p in BITS]
    colors = {"identity": "#4477AA", "relu": "#EE6677"}
    for act, pairs in curves.items():
        right.plot(unit, [sum(v) / len(v) for v in pairs], "-", color=colors[act], label=act)
        for u, values in zip(unit, pairs, strict=True):
            right.plot([u] * len(values), values, "o", color=colors[act], alpha=0.6,
                       markersize=5, markeredgewidth=0)  # fmt: skip
    right.plot(unit, unit, ":", color="#888888", label="u")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xlabel("unit roundoff u")
    right.set_title("by precision (line: mean of the pairs)", fontsize=10)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    # the longest compilation first
    wanted = [*by_bits("identity"), *by_bits("relu"), *crossed().values()]
    wanted.sort(key=lambda o: "exact" not in o.values() and "bits" not in o.get("precision", ""))
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = dict(zip(map(str, wanted), pool.map(run, wanted), strict=True))
    crossing = {dials: found[str(options)] for dials, options in crossed().items()}
    exact, _ = crossing["any", "exact"]
    print("ReLU tower, float32, same start, z = 1, another order of the sums: relative PD")
    print(" " * 10, *(f"{a:>9s}" for a in (*ACCUMULATORS, "exact")))
    for tree in TREES:
        row = [crossing[tree, a][0] for a in ACCUMULATORS]
        print(f"  {tree:8s}", *(f"{pd:9.2e}" for pd in [*row, exact]))
    assert exact == 0.0
    print("by precision: bits, u, identity, relu")
    curves = {act: [found[str(options)] for options in by_bits(act)] for act in ACTS}
    for k, p in enumerate(BITS):
        identity, relu = curves["identity"][k][0], curves["relu"][k][0]
        print(f"  {p:2d}  {2.0**-p:8.1e}  {identity:9.2e}  {relu:9.2e}")
    picture = Path("runs/rounding_alone.png")
    picture.parent.mkdir(exist_ok=True)
    draw(
        {dials: pairs for dials, (_, pairs) in crossing.items()},
        {act: [pairs for _, pairs in row] for act, row in curves.items()},
    ).savefig(picture, dpi=150)
    print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
