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
from typing import Any

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


def seconds_of_training(changed: dict, given, examples: int) -> float:
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


def powers_of_two(first: int, last: int, step: int = 1) -> tuple[int, ...]:
    """2^first, ..., 2^last."""
    return tuple(1 << k for k in range(first, last + 1, step))


def hidden(widths: Sequence[int]) -> dict[str, str]:
    return {"hidden": ",".join(map(str, widths))}


def of_length(examples: int, given) -> float:
    return seconds_of_run({"pairs": 1, "log2_examples": examples.bit_length() - 1}, given)


def of_width(width: int, given) -> float:
    examples = max(1 << 8, (1 << 18) // width)
    return seconds_of_training(hidden((width, width)), given, examples) / examples


def of_depth(layers: int, given) -> float:
    return seconds_of_training(hidden([16] * layers), given, 1 << 13) / (1 << 13)


def of_compiling(layers: int, given) -> float:
    return seconds_of_compiling(hidden([16] * layers)["hidden"])


def of_batch(batch: int, given) -> float:
    return seconds_of_training({"batch": batch}, given, 1 << 13) / ((1 << 13) // batch)


def of_window(window: int, given) -> float:
    log2 = 14 if given.quick else 21
    changed = {"pairs": 1, "log2_examples": log2, "log2_window": window.bit_length() - 1}
    return seconds_of_run(changed, given)


def of_pairs(pairs: int, given) -> float:
    return seconds_of_run({"pairs": pairs, "log2_examples": 14 if given.quick else 19}, given)


@dataclass(frozen=True)
class Quantity:
    """What grows: its values, those with `--quick`, the seconds of each, its work in any unit."""

    axis: str
    values: tuple[int, ...]
    few: tuple[int, ...]
    seconds: Callable[[int, Any], float]
    work: Callable[[int], float]
    per: str = ""

    def measured(self, name: str, given) -> Series:
        values = list(self.few if given.quick else self.values)
        seconds = []
        for value in values:
            seconds.append(self.seconds(value, given))
            print(f"{name} {value}: {seconds[-1]:.4g} s", flush=True)
        return Series(name, self.axis, values, seconds, [float(self.work(v)) for v in values])


QUANTITIES = {
    "T": Quantity(
        "examples T (one pair)", powers_of_two(14, 23), powers_of_two(14, 17), of_length, float
    ),
    "width": Quantity(
        "width of two hidden layers", powers_of_two(2, 10), powers_of_two(2, 5), of_width,
        lambda w: weights((w, w)), " per example",
    ),
    "depth": Quantity(
        "hidden layers of 16", powers_of_two(0, 5), powers_of_two(0, 2), of_depth,
        lambda n: weights([16] * n), " per example",
    ),
    "compile": Quantity(
        "hidden layers of 16, compiled", (4, 8, 16, 64), (4, 8, 16), of_compiling, lambda n: 1.0
    ),
    "batch": Quantity(
        "mini-batch (seconds a step)", powers_of_two(0, 10), powers_of_two(4, 6), of_batch, float
    ),
    "window": Quantity(
        "window z (T = 2^21, quick: 2^14)", powers_of_two(0, 15, 3), powers_of_two(0, 3), of_window,
        lambda z: 1.0,
    ),
    "pairs": Quantity(
        "pairs (T = 2^19, quick: 2^14)", powers_of_two(0, 5), powers_of_two(0, 2), of_pairs, float
    ),
}  # fmt: skip


def picture(found: Sequence[Series], title: str):
    """A panel a quantity: the seconds, and the work scaled to the last point."""
    import matplotlib
    from matplotlib.figure import Figure

    from nanorepro.plots.style import BLUE, GREY, STYLE

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
            axes.set_ylabel("seconds" + QUANTITIES[one.name].per)
            low = min(min(one.seconds), min(work)) / 2
            axes.set_ylim(low, 3 * max(max(one.seconds), max(work)))
            axes.legend(loc="upper left")
        for axes in panels[len(found) :]:
            axes.set_axis_off()
        figure.suptitle(title, fontsize=8.0, x=0.01, ha="left")
    return figure


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.growth", __doc__, rounds=3, seconds=0.1)
    parser.names("--quantities", tuple(QUANTITIES), "what grows")
    given = parser.read(argv)
    head = harness.begin(given)
    print(head)
    found = [QUANTITIES[name].measured(name, given) for name in given.quantities]
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
