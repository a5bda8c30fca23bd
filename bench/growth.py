"""python -m bench.growth: how the time of a run grows, with a fitted exponent for each quantity.

T, the window and the pairs: whole runs of the tower, which do in addition what a run does once (the
world, the evaluation).  Width, depth and mini-batch: training alone.  Compile: a process's own
seconds until the first step of a network is done, without any code on disk.  The exponent p of
seconds ∝ quantity^p is the slope of the upper half of the points on logarithmic axes, beside the
exponent of the work itself: weights times examples, counted.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bench import harness
from bench.cases import CONFIGS, Case
from bench.harness import median, seconds_of

SLACK = 0.1  # by which an exponent may be above that of the work: caches, noise


@dataclass(frozen=True)
class Series:
    """A quantity's values, the seconds of each, and the work of each in any unit."""

    name: str
    axis: str
    values: list[int]
    seconds: list[float]
    work: list[float]

    @property
    def exponent(self) -> float:
        return slope(self.values, self.seconds)

    @property
    def of_the_work(self) -> float:
        return slope(self.values, self.work)


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the upper half of the points, at least three, on logarithmic axes."""
    n = max(3, -(-len(x) // 2))
    return float(np.polyfit(np.log(x[-n:]), np.log(y[-n:]), 1)[0])


def seconds_of_run(changed: dict, given) -> float:
    """Seconds of a whole run of the tower on one thread."""
    from nanorepro import simulate

    config = replace(CONFIGS["tower"], **changed)
    simulate(replace(config, log2_examples=config.log2_window + 5, pairs=1), threads=1)
    call = partial(simulate, config, threads=1)
    return median([seconds_of(call, given.seconds) for _ in range(given.rounds)])


def seconds_of_training(changed: dict, given, examples: int = 1 << 13) -> float:
    """Seconds of one model's training."""
    from nanorepro.specification import ModelSpec
    from nanorepro.training.simulation import load_backend

    config = replace(CONFIGS["tower"], **changed)
    case = Case(config, examples)
    x, y = case.packed
    x = x[:, None]
    model = load_backend("numba").Model(ModelSpec(config, 32, 0, 0), case.start(0))
    model.train(x, y)
    call = partial(model.train, x, y)
    return median([seconds_of(call, given.seconds) for _ in range(given.rounds)])


COMPILE = """
import sys, time
from bench.cases import CONFIGS, Case, replace
from nanorepro.backends.numba.model import Model
from nanorepro.specification import ModelSpec
config = replace(CONFIGS["tower"], hidden=sys.argv[1])
case = Case(config, config.batch)
x, y = case.packed
start = case.start(0)
begin = time.process_time()
Model(ModelSpec(config, 32, 0, 0), start).train(x[:, None], y)
print(time.process_time() - begin)
"""


def seconds_of_compiling(hidden: str) -> float:
    """Seconds of a process of its own until a network's first step is done, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        child = os.environ | {"NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", COMPILE, hidden]
        found = subprocess.run(command, env=child, stdout=subprocess.PIPE, text=True, check=True)
    return float(found.stdout)


def weights(hidden: Sequence[int]) -> float:
    widths = [32, *hidden, 1]
    return float(sum(a * b + b for a, b in zip(widths[:-1], widths[1:], strict=True)))


def series(given) -> list[Series]:
    """All measurements."""
    few = given.quick
    found = []

    def add(name: str, axis: str, values: Sequence[int], measure: Callable, work: Callable):
        seconds = []
        for value in values:
            seconds.append(measure(value))
            print(f"{name} {value}: {seconds[-1]:.4g} s", flush=True)
        found.append(Series(name, axis, list(values), seconds, [float(work(v)) for v in values]))

    def hidden(widths) -> dict:
        return {"hidden": ",".join(map(str, widths))}

    wanted = given.quantities
    if "T" in wanted:
        sizes = [1 << k for k in (range(14, 18) if few else range(14, 24))]

        def of_length(t):
            return seconds_of_run({"pairs": 1, "log2_examples": t.bit_length() - 1}, given)

        add("T", "examples T (one pair)", sizes, of_length, lambda t: t)
    if "width" in wanted:
        sizes = [1 << k for k in (range(2, 6) if few else range(2, 11))]

        def of_width(w):
            return seconds_of_training(hidden((w, w)), given, max(1 << 8, (1 << 18) // w))

        def per_example(w):
            return of_width(w) / max(1 << 8, (1 << 18) // w)

        add("width", "width of two hidden layers", sizes, per_example, lambda w: weights((w, w)))
    if "depth" in wanted:
        sizes = [1, 2, 4] if few else [1, 2, 4, 8, 16, 32]

        def of_depth(n):
            return seconds_of_training(hidden([16] * n), given) / (1 << 13)

        add("depth", "hidden layers of 16", sizes, of_depth, lambda n: weights([16] * n))
    if "compile" in wanted:
        sizes = [4, 8, 16] if few else [4, 8, 16, 64]

        def of_layers(n):
            return seconds_of_compiling(hidden([16] * n)["hidden"])

        add("compile", "hidden layers of 16, compiled", sizes, of_layers, lambda n: 1)
    if "batch" in wanted:
        sizes = [16, 32, 64] if few else [1 << k for k in range(0, 11)]

        def of_batch(s):
            return seconds_of_training({"batch": s}, given) / ((1 << 13) // s)

        add("batch", "mini-batch (seconds a step)", sizes, of_batch, lambda s: s)
    if "window" in wanted:
        sizes = [1 << k for k in (range(0, 4) if few else range(0, 16, 3))]
        log2 = 14 if few else 21

        def of_window(z):
            changed = {"pairs": 1, "log2_examples": log2, "log2_window": z.bit_length() - 1}
            return seconds_of_run(changed, given)

        add("window", f"window z (T = 2^{log2})", sizes, of_window, lambda z: 1)
    if "pairs" in wanted:
        sizes = [1, 2, 4] if few else [1, 2, 4, 8, 16, 32]
        log2 = 14 if few else 19

        def of_pairs(n):
            return seconds_of_run({"pairs": n, "log2_examples": log2}, given)

        add("pairs", f"pairs (T = 2^{log2})", sizes, of_pairs, lambda n: n)
    return found


def picture(found: Sequence[Series], title: str):
    """A panel a quantity: the seconds, and the work scaled to the last point."""
    import matplotlib
    from matplotlib.figure import Figure

    from nanorepro.plots.style import BLUE, GREY, STYLE

    units = {"width": "seconds per example", "depth": "seconds per example"}
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * columns, 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, one in zip(panels, found, strict=False):
            work = np.array(one.work) * one.seconds[-1] / one.work[-1]
            labels = f"work: exponent {one.of_the_work:.2f}", f"time: {one.exponent:.2f}"
            axes.loglog(one.values, work, color=GREY, label=labels[0])
            axes.loglog(one.values, one.seconds, "o-", color=BLUE, label=labels[1])
            axes.set_xscale("log", base=2)
            axes.set_xlabel(one.axis)
            axes.set_ylabel(units.get(one.name, "seconds"))
            low = min(min(one.seconds), min(work)) / 2
            axes.set_ylim(low, 3 * max(max(one.seconds), max(work)))
            axes.legend(loc="upper left")
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        figure.suptitle(title, fontsize=8.0, x=0.01, ha="left")
    return figure


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.growth", __doc__, rounds=3, seconds=0.1)
    names = ("T", "width", "depth", "compile", "batch", "window", "pairs")
    parser.names("--quantities", names, "what grows")
    given = parser.read(argv)
    head = harness.begin(given)
    print(head)
    found = series(given)
    lines = [("quantity", "from", "to", "exponent", "of the work", "no worse")]
    for s in found:
        fine = s.exponent <= s.of_the_work + SLACK
        lines.append(
            (
                s.name, str(s.values[0]), str(s.values[-1]), f"{s.exponent:.2f}",
                f"{s.of_the_work:.2f}", "yes" if fine else "no",
            )
        )  # fmt: skip
    print("\n" + harness.table(lines))
    rows = []
    for s in found:
        rows += [(s.name, *row) for row in zip(s.values, s.seconds, s.work, strict=True)]
    harness.write_csv(given.out / "growth.csv", ("quantity", "value", "seconds", "work"), rows)
    picture(found, head).savefig(given.out / "growth.png", dpi=160)
    print(f"\n{given.out / 'growth.csv'}, {given.out / 'growth.png'}")
    return 0


if __name__ == "__main__":
    harness.main("bench.growth", run)
