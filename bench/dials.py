"""python -m bench.dials: what the dials of the arithmetic cost, against the default.

A training kernel, plans and orders included, one dial moved at a time; all variants in turn, round
by round, in one process on one core.  The ratio is the median of the rounds' ratios.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from bench import harness
from bench.cases import CONFIGS, Case
from bench.harness import median, seconds_of

# a variant: what is changed, and how many times the default's time it may take
VARIANTS: dict[str, tuple[dict[str, object], float | None]] = {
    "default": ({}, None),
    "random leaf order": ({"leaf_order": "random"}, 1.5),
    "reversed leaf order": ({"leaf_order": "reversed"}, 1.5),
    "pairwise": ({"tree": "pairwise"}, 1.5),
    "lanes:8": ({"tree": "lanes:8"}, 1.5),
    "blocks:4": ({"tree": "blocks:4"}, 1.5),
    "random tree": ({"tree": "random"}, None),
    "fma off": ({"fma": "off"}, None),
    "kahan": ({"accumulator": "kahan"}, None),
    "wide": ({"accumulator": "wide"}, None),
    "exact": ({"accumulator": "exact"}, 10.0),
    "exact, units too": ({"accumulator": "exact", "unit_accumulator": "exact"}, None),
    "bits:8": ({"precision": "bits:8"}, 10.0),
    "bits:8 stochastic": ({"precision": "bits:8", "rounding": "stochastic"}, 10.0),
    "bits:8 toward zero": ({"precision": "bits:8", "rounding": "toward-zero"}, 10.0),
    "float64": ({"precision": "float64"}, None),
}


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.dials", __doc__, rounds=5, seconds=0.2)
    parser.names("--model", [k for k in CONFIGS if "-" not in k], "whose training")
    parser.set_defaults(model=("tower",))
    parser.count("--examples", 1 << 14, "examples of a measurement, a multiple of 32")
    given = parser.read(argv)
    if given.examples % 32:
        parser.error(f"--examples: {given.examples} is not allowed; give a multiple of 32")
    head = harness.begin(given)
    from nanorepro.specification import ModelSpec
    from nanorepro.training.simulation import load_backend

    print(head)
    backend, rows = load_backend("numba"), []
    for name in given.model:
        case = Case(CONFIGS[name], given.examples)
        x, y = case.packed
        x = x[:, None]
        models = {}
        for variant, (changed, _) in VARIANTS.items():
            spec = ModelSpec(replace(case.config, **changed), 32, 0, 0)
            models[variant] = backend.Model(spec, case.start(0))
            models[variant].train(x, y)
        times: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(given.rounds):
            for variant, model in models.items():
                seconds = seconds_of(partial(model.train, x, y), given.seconds)
                times[variant].append(1e9 * seconds / case.n)
        lines = [("dial", "ns/example", "× default", "goal", "reached")]
        for variant, ns in times.items():
            ratio = median([a / b for a, b in zip(ns, times["default"], strict=True)])
            goal = VARIANTS[variant][1] if name == "tower" else None
            lines.append(
                (
                    variant, f"{median(ns):.1f}", f"{ratio:.2f}", f"≤ {goal:g}" if goal else "-",
                    "-" if not goal else "yes" if ratio <= goal else "no",
                )
            )  # fmt: skip
            rows.append((name, variant, median(ns), ratio, goal or ""))
        print(f"\n{name}\n" + harness.table(lines))
    head = ("model", "dial", "ns", "ratio", "goal")
    harness.write_csv(given.out / "dials.csv", head, rows)
    return 0


if __name__ == "__main__":
    harness.main("bench.dials", run)
