"""What rounding alone does: pairs that differ in the order of their sums and in nothing else.

Both models of a pair start from the same values and see the same examples in the same mini-batches;
only the order in which a gradient is summed over a mini-batch differs.  First in float32, by tree
and by accumulator; then by precision, from 6 significand bits to float64's 53, for a tower without
kinks (identity) and one with kinks (ReLU).  Draws runs/rounding_alone.png.
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
ACCUMULATORS = ("kahan", "wide", "exact")
BITS = {6: "bits:6", 11: "bits:11", 16: "bits:16",
        24: "float32", 53: "float64"}  # fmt: skip
ACTS = ("identity", "relu")


def settings() -> list[dict[str, str]]:
    """What is run, the longest compilation first."""
    found = [{"act": act, "precision": p} for p in BITS.values() for act in ACTS]
    found = [{"accumulator": a} for a in ACCUMULATORS[::-1]] + found
    return found + [{"tree": tree} for tree in TREES[1:]]


def run(options: dict[str, str]) -> tuple[float, list[float]]:
    """Δ_r and the PD of each pair."""
    from nanorepro import simulate

    result = simulate(Config(**TOWER, **options), threads=1)
    return result.relative_pd, [pair.pd for pair in result.pairs]


def draw(dials: dict[str, list[float]], by_bits: dict[str, list[list[float]]]):
    """Left the dials, right the precision; a point a pair, a bar or line the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1.0))
    floor = 1e-9
    for at, values in enumerate(dials.values()):
        exactly = max(values) == 0.0
        mean = sum(values) / len(values)
        left.plot([at] * len(values), [max(v, floor) for v in values], "o", color="#4477AA",
                  alpha=0.6, markersize=5, markeredgewidth=0, clip_on=False)  # fmt: skip
        left.plot([at - 0.3, at + 0.3], [max(mean, floor)] * 2, color="#222222", linewidth=2)
        if exactly:
            left.annotate("= 0", (at, floor), (0, 8), textcoords="offset points", ha="center")
    left.set_yscale("log")
    left.set_ylim(floor, 1.0)
    left.set_xticks(range(len(dials)), dials, rotation=35, ha="right")
    left.axvline(len(TREES) - 0.5, color="#BBBBBB", linewidth=0.8)
    left.set_title("ReLU, float32: tree | accumulator", fontsize=10)
    left.set_ylabel("relative PD")
    unit = [2.0**-p for p in BITS]
    colors = {"identity": "#4477AA", "relu": "#EE6677"}
    for act, pairs in by_bits.items():
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
    wanted = settings()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = dict(zip(map(str, wanted), pool.map(run, wanted), strict=True))
    chain = found[str({"act": "relu", "precision": "float32"})]
    dials = {"chain": chain} | {t: found[str({"tree": t})] for t in TREES[1:]}
    dials |= {a: found[str({"accumulator": a})] for a in ACCUMULATORS}
    print("ReLU tower, float32, same start, z = 1, another order of the sums: relative PD")
    for name, (pd, pairs) in dials.items():
        print(f"  {name:10s} {pd:9.2e}   pairs from {min(pairs):.1e} to {max(pairs):.1e}")
    assert dials["exact"][0] == 0.0
    print("by precision: bits, u, identity, relu")
    by_bits = {
        act: [found[str({"act": act, "precision": p})] for p in BITS.values()] for act in ACTS
    }
    for k, p in enumerate(BITS):
        identity, relu = by_bits["identity"][k][0], by_bits["relu"][k][0]
        print(f"  {p:2d}  {2.0**-p:8.1e}  {identity:9.2e}  {relu:9.2e}")
    picture = Path("runs/rounding_alone.png")
    picture.parent.mkdir(exist_ok=True)
    draw(
        {name: pairs for name, (_, pairs) in dials.items()},
        {act: [pairs for _, pairs in row] for act, row in by_bits.items()},
    ).savefig(picture, dpi=150)
    print(f"drawn: {picture}")


if __name__ == "__main__":
    main()
