"""python -m bench: our kernels and whole runs beside Keras, TensorFlow, JAX and PyTorch.

Every framework runs in a process of its own, all of them on one core, one at a time.  All train the
same models from the same initial values on the same examples, ready in memory: mini-batches of 32,
float32, AdaGrad at 0.1 or SGD with momentum 0.9 at 0.01, ReLU.  First their losses on the
evaluation set are compared, then they are timed in turn, round by round.  Programs of 32 models
train all on the same examples, each from initial values of its own; times are per example and
model.  A framework that is not installed is left out.
"""

import contextlib
import json
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from bench import harness
from bench.cases import CONFIGS, GOALS, SIZES
from bench.harness import median
from nanorepro.errors import ConfigError

OURS, OF_32, WHOLE = "nanorepro", "nanorepro, 32 models", "nanorepro run"
FRAMEWORKS = {  # name → file in bench/peers, package
    "nanorepro": ("ours", "nanorepro"),
    "keras": ("keras_fit", "keras"),
    "tensorflow": ("tensorflow_loop", "tensorflow"),
    "jax": ("jax_scan", "jax"),
    "torch": ("pytorch", "torch"),
}
TOLERANCE = 1e-5  # nats by which two excess losses may differ, from rounding alone


class Failed(Exception):
    """A worker could not do what it was asked."""


class Worker:
    """A framework's process, asked one thing at a time; its code is that of a folder, if given."""

    def __init__(self, framework: str, given: Namespace, log: Path, folder: Path | None = None):
        file = FRAMEWORKS[framework][0]
        command = [sys.executable, "-m", "bench.worker", file, str(given.core), given.clock]
        self.framework, self.log = framework, log
        environment = {**os.environ, **({"PYTHONPATH": str(folder)} if folder else {})}
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        try:
            self.engines: list[str] = self.answer()["engines"]
        except Failed:
            self.close()
            raise

    def ask(self, **request) -> dict:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self._ended() from None
        return self.answer()

    def _ended(self) -> Failed:
        return Failed(f"{self.framework} ended; see {self.log}")

    def answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def close(self) -> None:
        if self.process.stdin:
            with contextlib.suppress(OSError):  # of a process that has ended
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@dataclass(frozen=True)
class Found:
    """What one engine gave for one case: ns an example and model by round; its excess losses."""

    case: str
    engine: str
    ns: list[float]
    losses: list[float]

    @property
    def median(self) -> float:
        return median(self.ns)


def check(case: str, losses: dict[str, list[float]], before: float) -> None:
    """Raise Failed unless all engines learned the same thing: of each end the same loss."""
    ends: dict[int, tuple[str, float]] = {0: (OURS, losses[OURS][0])}
    for engine, found in losses.items():
        for k, loss in enumerate(found):
            name, expected = ends.setdefault(k, (engine, loss))
            if abs(loss - expected) > TOLERANCE:
                raise Failed(
                    f"{case}: {engine} came to the excess loss {loss:.7f}, {name} to {expected:.7f}"
                )
    if abs(losses[OURS][0] - before) < 100 * TOLERANCE:
        raise Failed(f"{case}: the loss {before:.7f} did not change: nothing was learned")


def compare(given: Namespace, case: str, workers: list[Worker]) -> list[Found]:
    """Check and time one case: every engine of every worker."""
    sizes = SIZES[case]
    losses: dict[str, list[float]] = {}
    before = None
    engines: list[tuple[Worker, str]] = []
    for worker in workers:
        for engine in worker.engines:
            if given.only and engine not in given.only:
                continue
            n = sizes.ensemble if "32" in engine else sizes.single
            n = sizes.run if engine == WHOLE else n
            try:
                answer = worker.ask(do="prepare", engine=engine, case=case, examples=sizes.checked)
                if answer["losses"] is None:
                    continue
                losses[engine] = answer["losses"]
                if engine == OURS:
                    before = answer["before"][0]
                if n != sizes.checked:
                    worker.ask(do="prepare", engine=engine, case=case, examples=n)
                engines.append((worker, engine))
            except Failed as failed:
                print(f"{case}: {engine} left out: {failed}", file=sys.stderr)
                losses.pop(engine, None)
    if before is None:
        raise Failed(f"{case}: ours failed")
    check(case, losses, before)
    spread = max(abs(found[0] - losses[OURS][0]) for found in losses.values())
    print(
        f"{case}: excess loss {before:.4f} → {losses[OURS][0]:.6f},"
        f" all {len(losses)} engines within {spread:.1e}",
        file=sys.stderr,
    )
    times: dict[str, list[float]] = {engine: [] for _, engine in engines}
    for _ in range(given.rounds):
        for worker, engine in engines:
            if engine not in times:
                continue
            try:
                asked = worker.ask(do="time", engine=engine, case=case, seconds=given.seconds)
                times[engine].append(asked["ns"])
            except Failed as failed:
                print(f"{case}: {engine} left out: {failed}", file=sys.stderr)
                del times[engine]
    for worker in workers:
        with contextlib.suppress(Failed):  # said above
            worker.ask(do="forget")
    if OURS not in times:
        raise Failed(f"{case}: ours failed")
    return [Found(case, engine, ns, losses[engine]) for engine, ns in times.items()]


def ratio(one: Found, ours: Found) -> float:
    """Median over the rounds of the ratio within a round."""
    return median([a / b for a, b in zip(one.ns, ours.ns, strict=True)])


def by_case(found: Sequence[Found]) -> dict[str, list[Found]]:
    cases: dict[str, list[Found]] = {}
    for one in found:
        cases.setdefault(one.case, []).append(one)
    return cases


def number(ns: float) -> str:
    return f"{ns:.1f}" if ns < 100 else f"{ns:,.0f}"


def tables(found: Sequence[Found]) -> str:
    """All engines, and below in one line a case how far the best peer is behind.

    It may train one model or 32 at once; so may ours.
    """
    rows = [("model", "program", "ns", "least", "most", "× ours")]
    short = [
        ("model", "ours", "32 models", "whole run", "best peer", "", "ratio", "goal", "reached")
    ]
    for case, here in by_case(found).items():
        ours = next(f for f in here if f.engine == OURS)
        for f in here:
            rows.append(
                (
                    case, f.engine, number(f.median), number(min(f.ns)), number(max(f.ns)),
                    f"{ratio(f, ours):.3g}",
                )
            )  # fmt: skip
        whole, of_32 = ([f for f in here if f.engine == name] for name in (WHOLE, OF_32))
        peers = [f for f in here if not f.engine.startswith(OURS)]
        best = min(peers, key=lambda f: f.median) if peers else None
        goal = GOALS.get(case)
        reached = ratio(best, min([ours, *of_32], key=lambda f: f.median)) if best else None
        short.append(
            (
                case,
                number(ours.median),
                number(of_32[0].median) if of_32 else "-",
                number(whole[0].median) if whole else "-",
                number(best.median) if best else "-",
                best.engine if best else "-",
                f"{reached:.2f}" if reached else "-",
                f"{goal:g}" if goal else "-",
                "-" if not (goal and reached) else "yes" if reached >= goal else "no",
            )
        )
    for case in ("tower", "deep"):
        ours = {f.case: f for f in found if f.engine == OURS}
        if {case, f"{case}-sgd"} <= set(ours):
            reached = ours[f"{case}-sgd"].median / ours[case].median
            word = "yes" if reached <= 1.3 else "no"
            short.append((f"{case}: SGD/AdaGrad", *[""] * 5, f"{reached:.2f}", "≤ 1.3", word))
    return harness.table(rows) + "\n\n" + harness.table(short)


def picture(found: Sequence[Found], title: str):
    """A panel a case, a line a program: the rounds as points, the median as a bar's end."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    from nanorepro.plots.style import BLUE, GREY, RED, STYLE

    cases = by_case(found)
    columns = min(2, len(cases))
    rows = -(-len(cases) // columns)
    most = max(len(here) for here in cases.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4 * columns, rows * (0.7 + 0.19 * most)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (case, here) in zip(panels, cases.items(), strict=False):
            ours = next(f for f in here if f.engine == OURS)
            order = sorted(here, key=lambda f: -f.median)
            left = min(min(f.ns) for f in here) / 2.0
            for y, f in enumerate(order):
                colour = BLUE if f.engine.startswith(OURS) else GREY
                axes.barh(y, f.median - left, left=left, height=0.66, color=colour)
                axes.plot(f.ns, [y] * len(f.ns), "|", color=RED, markersize=4, zorder=3)
                label = f" {number(f.median)}"
                label += "" if f is ours else f"  ({ratio(f, ours):.3g}×)"
                axes.text(max(f.ns), y, label, va="center", fontsize=6.5)
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(left, max(max(f.ns) for f in here) * 6.0)
            axes.set_yticks(range(len(order)), [f.engine for f in order], fontsize=6.5)
            axes.set_title(case)
            axes.set_xlabel("ns per example and model")
        for axes in panels[len(cases) :]:
            axes.set_axis_off()
        figure.suptitle(title.replace("; ", "\n"), fontsize=7.0, x=0.01, ha="left")
    return figure


def packages() -> str:
    """The versions that were compared."""
    found = []
    for name in ("numba", "keras", "tensorflow-cpu", "tensorflow", "jax", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench", __doc__, rounds=5, seconds=0.4)
    parser.names("--models", list(CONFIGS), "what is trained")
    parser.names("--frameworks", list(FRAMEWORKS), "what trains it, ours always")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(";")),
        default=(),
        metavar="LIST",
        help="programs by name, separated by semicolons (default: all of the frameworks')",
    )
    given = parser.read(argv)
    wanted = ["nanorepro", *(f for f in given.frameworks if f != "nanorepro")]
    head = f"{harness.machine(given)}; {packages()}"
    print(head, file=sys.stderr)
    workers: list[Worker] = []
    found: list[Found] = []
    status = 0
    try:
        for framework in wanted:
            if find_spec(FRAMEWORKS[framework][1]) is None:
                print(f"{framework} is not installed: pip install -e '.[bench]'", file=sys.stderr)
                continue
            try:
                workers.append(Worker(framework, given, given.out / f"{framework}.log"))
            except Failed as failed:
                if framework == OURS:
                    raise
                print(f"{framework} left out: {failed}", file=sys.stderr)
        known = [engine for worker in workers for engine in worker.engines]
        for name in given.only:
            if name not in known:
                raise ConfigError(f"--only: {name!r} is not allowed; give {'; '.join(known)}")
        if given.only:
            given.only = {OURS, *given.only}
        for case in given.models:
            found += compare(given, case, workers)
    except Failed as failed:  # what was measured before is written
        print(f"bench: {failed}", file=sys.stderr)
        status = 1
    finally:
        for worker in workers:
            worker.close()
    if not found:
        return status
    rows = [(f.case, f.engine, k, ns) for f in found for k, ns in enumerate(f.ns)]
    harness.write_csv(given.out / "peers.csv", ("model", "program", "round", "ns"), rows)
    picture(found, head).savefig(given.out / "peers.png", dpi=160)
    print(head + "\n\n" + tables(found))
    print(f"\n{given.out / 'peers.csv'}, {given.out / 'peers.png'}", file=sys.stderr)
    return status


if __name__ == "__main__":
    harness.main("bench", run)
