"""python -m nanorepro.figure: run what a figure of the paper needs, draw it, compare.

Nothing that is slow to import is imported before the command line has been checked.
"""

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nanorepro.commands.run import check_folder, check_threads, fail
from nanorepro.config import Config, check_sequence
from nanorepro.errors import ConfigError

if TYPE_CHECKING:
    from nanorepro.paper import curves

NAME = "nanorepro.figure"
FIGURES = [str(k) for k in range(1, 11)]
SCALES = ("paper", "laptop", "smoke")
WITH_PARAMETERS = (3, 4, 7, 9)  # figures of which the parameters are plotted or measured


class Parser(argparse.ArgumentParser):
    """Every error is one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def parser() -> Parser:
    found = Parser(
        prog=NAME,
        usage="python -m nanorepro.figure {1..10,all} [option ...]",
        description="Run what a figure of the paper needs, draw it in the paper's arrangement, and"
        " print what the paper claims beside what was measured.  Finished runs are stored and"
        " reused: a second call only draws, an interrupted one goes on where it was.",
        epilog="Example: python -m nanorepro.figure 6 --scale laptop",
        allow_abbrev=False,
    )
    add = found.add_argument
    add("figure", metavar="{1..10,all}", help="figure of the paper, or all of them")
    add(
        "--scale",
        default="laptop",
        metavar="{" + ",".join(SCALES) + "}",
        help="sizes: the paper's, an evening's, or a few seconds' (default: laptop)",
    )
    add("--log2-examples", metavar="N", help="log2 of T instead of the scale's")
    add("--pairs", metavar="N", help="pairs of models instead of the scale's")
    add("--windows", metavar="LIST", help="log2 of the windows z, as in 0,10,20")
    add("--seed", default="0", metavar="N", help="seed of all streams (default: 0)")
    add(
        "--minutes",
        metavar="X",
        help="start no run that would end later; the shortest and longest windows come first",
    )
    add(
        "--plan",
        action="store_true",
        help="print what would run, how long and on how much disk; run nothing",
    )
    add(
        "--out",
        default="runs",
        metavar="FOLDER",
        help="folder of the stored runs and the pictures (default: runs)",
    )
    add(
        "--report",
        metavar="FILE",
        help="a page .md of all figures drawn for it; pictures go to the folder of its name",
    )
    add("--threads", default="all", metavar="N", help="threads (default: all cores)")
    add("--model", metavar="MODEL", help="figures 1 and 5: draw this model instead")
    add("--hidden", metavar="LIST", help="figures 1 and 5: its hidden layers, as in 64,32")
    add("--act", metavar="ACT", help="figures 1 and 5: its activation (default: relu)")
    return found  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What the command line asks for, checked."""

    sizes: "dict[int, curves.Size]"  # by figure
    scale: str
    words: str  # the options that change what is drawn
    models: tuple[Config, ...]  # for figures 1 and 5, in place of the paper's
    folder: Path
    report: Path | None
    threads: int
    minutes: float
    plan: bool

    def command(self, figure: int) -> str:
        """The command that makes a figure again."""
        return f"python -m {NAME} {figure}{self.words}"


def job(argv: Sequence[str]) -> Job:
    """Check everything that can be checked before anything runs; raises ConfigError."""
    o = parser().parse_args(argv)
    if o.figure not in (*FIGURES, "all"):
        raise ConfigError(f"figure: {o.figure!r} is not allowed; give 1 to 10, or all")
    if o.scale not in SCALES:
        raise ConfigError(f"--scale: {o.scale!r} is not allowed; give {' or '.join(SCALES)}")
    figures = [int(f) for f in FIGURES] if o.figure == "all" else [int(o.figure)]
    examples = whole("--log2-examples", o.log2_examples)
    pairs, seed = whole("--pairs", o.pairs), whole("--seed", o.seed)
    windows = None
    if o.windows is not None:
        windows = [whole("--windows", w) for w in o.windows.split(",")]
    threads = check_threads(o.threads) or os.cpu_count() or 1
    models = drawn_models(o, figures)
    report = None
    if o.report is not None:
        report = Path(o.report)
        if report.suffix != ".md":
            raise ConfigError(f"--report: {o.report!r} is not allowed; give a file name .md")
        try:
            check_folder(str(report.parent))
        except ConfigError as error:
            raise error.of("report") from None
    folder = check_folder(o.out)
    minutes = positive("--minutes", o.minutes)
    from nanorepro.paper import curves

    sizes = {f: curves.size(f, o.scale, examples, pairs, windows, seed or 0) for f in figures}
    for size in sizes.values():
        for curve in curves.curves(size).values():
            for window in size.windows:
                check_sequence(curve.at(window, 64 * "0"))
    words = "" if o.scale == "laptop" else f" --scale {o.scale}"
    for name in ("log2_examples", "pairs", "windows", "model", "hidden", "act"):
        if (value := getattr(o, name)) is not None:
            words += f" --{name.replace('_', '-')} {shlex.quote(value)}"
    words += f" --seed {seed}" if seed else ""
    return Job(sizes, o.scale, words, models, folder, report, threads, minutes, o.plan)


def whole(name: str, text: str | None) -> Any:
    """A whole number, or None where none was given; raises ConfigError."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise ConfigError(f"{name}: {text!r} is not allowed; give whole numbers")
    return int(text)


def positive(name: str, text: str | None) -> float:
    """A number above 0, infinity where none was given; raises ConfigError."""
    if text is None:
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0.0:
        raise ConfigError(f"{name}: {text!r} is not allowed; give a number above 0")
    return value


def drawn_models(o: argparse.Namespace, figures: list[int]) -> tuple[Config, ...]:
    """The configured model of figures 1 and 5, if one is named."""
    given = [n for n in ("model", "hidden", "act") if getattr(o, n) is not None]
    if not given:
        return ()
    if set(figures) - {1, 5}:
        raise ConfigError(f"--{given[0]}: goes with figures 1 and 5 only; leave it out")
    fields = {n: getattr(o, n) for n in given}
    return (Config(**fields),)


def architectures(figure: int) -> tuple[Config, ...]:
    """The models that figures 1 and 5 of the paper show."""
    names = {1: ("linear", "single", "double"), 5: ("tower", "wide")}
    return tuple(Config(model=m) for m in names.get(figure, ()))


def make(job: Job, figure: int, deadline: float) -> dict[str, Any]:
    """One figure: its runs, its picture and numbers, and its record, which is returned."""
    from nanorepro.paper import claims, curves, figures, report, runner

    size = job.sizes[figure]
    shelf = runner.Shelf(job.folder, size, figure in WITH_PARAMETERS)
    again = job.command(figure)
    late = runner.train(figure, shelf, job.threads, deadline, again)
    keys = claims.needed(figure, size)
    runs = shelf.found(keys)
    rows = figures.numbers(figure, size, runs)
    words = report.note(size) if keys else ""
    if late:
        words += f"; {len(late)} of {len(keys)} runs not made"
    drawn = figures.draw(figure, rows, words, job.models or architectures(figure))
    record: dict[str, Any] = {
        "figure": figure, "title": curves.TITLES[figure], "scale": job.scale, "command": again,
        "size": words, "missing": [list(k) for k in late],
        "runs": [report.run_record(key, runs[key]) for key in sorted(runs)],
        "claims": [report.claim_record(c, size, runs) for c in claims.CLAIMS if c.figure == figure],
    }  # fmt: skip
    record["seconds"] = sum({r["id"]: r["seconds"] for r in record["runs"]}.values())
    target, name = job.folder, f"figure{figure}-{job.scale}"
    if job.report:
        target, name = job.report.with_suffix(""), f"figure{figure}"
    report.write(target, name, figure, drawn, figures.as_csv(rows, f"{again}; {words}"), record)
    report.show(record, target / f"{name}.png")
    if job.report:
        report.write_report(job.report)
    return record


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    try:
        todo = job(sys.argv[1:] if argv is None else list(argv))
        if todo.plan:
            from nanorepro.paper import runner

            runner.plan(todo.sizes, todo.folder, todo.threads)
            return 0
        deadline = time.perf_counter() + 60.0 * todo.minutes
        for figure in todo.sizes:
            make(todo, figure, deadline)
    except ConfigError as error:
        return fail(error, 2, NAME)
    except KeyboardInterrupt:
        print(f"\n{NAME}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return fail(f"{type(error).__name__}: {error}", 1, NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
