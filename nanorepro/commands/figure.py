"""python -m nanorepro.figure: run what a figure of the paper needs, draw it, compare.

Nothing that is slow to import is imported before the command line has been checked.
"""

import argparse
import math
import shlex
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanorepro.commands.common import (
    DONE,
    FAILED,
    MINUTES_HELP,
    carry_out,
    check_checkpoint_minutes,
    check_file,
    check_folder,
    check_threads,
    positive,
    whole,
)
from nanorepro.commands.console import Console, describe
from nanorepro.commands.parser import Parser
from nanorepro.config import CHECKPOINT_MINUTES, Config, check_sequence
from nanorepro.errors import ConfigError, option, shown
from nanorepro.paper.curves import NUMBERS, SCALES
from nanorepro.training.signals import Terminated

if TYPE_CHECKING:
    from nanorepro.paper import curves
    from nanorepro.paper.making import Made
    from nanorepro.paper.observed import Key

NAME = "nanorepro.figure"
OUT = "runs"  # the folder, if none is given
MITIGATIONS = "mitigations"


def parser() -> Parser:
    found = Parser(
        quiet=True,
        prog=NAME,
        usage="python -m nanorepro.figure {1..10,all,mitigations} [option ...]",
        description="Run what a figure of the paper needs, draw it in the paper's arrangement, and"
        " print what the\npaper claims beside what was measured.  Finished runs are stored and"
        " reused: a second call only\ndraws, an interrupted one goes on where it was.\n"
        "mitigations, of towers: what smooth activations, smaller rates, a warm start, averages of"
        " weights,\nensembles, exact sums and float64 buy, in PD, for which loss and cost.",
        epilog="Examples: python -m nanorepro.figure 6 --scale laptop\n"
        "          python -m nanorepro.figure mitigations --windows 0,10",
    )
    add = found.add_argument
    add(
        "figure",
        metavar="{1..10,all,mitigations}",
        help="figure of the paper, all ten of them, or the table and picture of mitigations",
    )
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
        "--decide",
        action="store_true",
        help="where the pairs of a figure leave a claim open, also run what the claim names:"
        " more pairs, if need be of fewer examples",
    )
    add(
        "--from-records",
        metavar="FOLDER",
        help="run nothing: draw and judge from the tables (CSV) and records (JSON) in FOLDER",
    )
    add(
        "--with-records",
        metavar="FOLDER",
        help="run only what the tables (CSV) and records (JSON) in FOLDER do not have: a figure"
        " grows by windows, on any machine",
    )
    add(
        "--plan",
        action="store_true",
        help="print what would run, how long and on how much disk; run nothing",
    )
    add(
        "--out",
        default=OUT,
        metavar="FOLDER",
        help="folder of the stored runs and the pictures (default: runs)",
    )
    add(
        "--report",
        metavar="FILE",
        help="a page .md or .html of all figures drawn for it, all claims first; pictures go to the"
        " folder of its name, and into the page .html itself",
    )
    add(
        "--threads",
        default="all",
        metavar="N",
        help="threads (default: all CPUs that the process may use)",
    )
    add(
        "--checkpoint-minutes",
        metavar="X",
        default=f"{CHECKPOINT_MINUTES:g}",
        help=MINUTES_HELP,
    )
    add("--model", metavar="MODEL", help="figures 1 and 5: draw this model instead")
    add("--hidden", metavar="LIST", help="figures 1 and 5: its hidden layers, as in 64,32")
    add("--act", metavar="ACT", help="figures 1 and 5: its activation (default: relu)")
    return found  # fmt: skip


@dataclass(frozen=True)
class FigureRequest:
    """What the command line asks for, checked."""

    sizes: "dict[int, curves.Size]"  # by figure
    mitigations: "curves.Size | None"
    scale: str
    words: str  # the options that change what is drawn
    models: tuple[Config, ...]  # for figures 1 and 5, in place of the paper's
    folder: Path
    report: Path | None
    threads: int
    minutes: float
    checkpoint_minutes: float
    plan: bool
    decide: bool
    records: Path | None
    with_records: Path | None
    quiet: bool

    def command(self, figure: int | str) -> str:
        """The command that makes a figure again."""
        return f"python -m {NAME} {figure}{self.words}"

    def command_here(self, figure: int | str) -> str:
        """The same, in the folders that were given."""
        words = {
            "--out": None if self.folder == Path(OUT) else self.folder, "--report": self.report,
            "--from-records": self.records, "--with-records": self.with_records,
        }  # fmt: skip
        given = [f" {name} {shlex.quote(str(path))}" for name, path in words.items() if path]
        return self.command(figure) + "".join(given)


def checked(argv: Sequence[str]) -> FigureRequest:
    """Check everything that can be checked before anything runs; raises ConfigError."""
    o, given = parser().read(argv)
    numbers = [str(number) for number in NUMBERS]
    if o.figure not in (*numbers, "all", MITIGATIONS):
        right = f"1 to 10, all, or {MITIGATIONS}"
        raise ConfigError(f"figure: {shown(o.figure)} is not allowed; give {right}")
    if o.figure == MITIGATIONS:
        for name in ("decide", "report", "with_records"):
            if name in given:
                problem = "goes with the figures of the paper only; leave it out"
                raise ConfigError(f"{option(name)}: {problem}")
    if o.scale not in SCALES:
        raise ConfigError(f"--scale: {shown(o.scale)} is not allowed; give {' or '.join(SCALES)}")
    figures = [int(f) for f in numbers if o.figure in (f, "all")]
    examples = (
        whole("--log2-examples", o.log2_examples, 5, 40) if "log2_examples" in given else None
    )
    pairs = whole("--pairs", o.pairs, 1, 65536) if "pairs" in given else None
    seed = whole("--seed", o.seed, 0, 2**64 - 1)
    windows = None
    if "windows" in given:
        windows = [whole("--windows", w, 0, 40) for w in o.windows.split(",")]
    threads = check_threads(o.threads)
    models = drawn_models(o, figures)
    report = checked_report(o.report) if "report" in given else None
    folder = check_folder(o.out)
    minutes = positive("--minutes", o.minutes) if "minutes" in given else math.inf
    from nanorepro.paper import curves
    from nanorepro.training.threads import usable_cpus

    threads = threads or usable_cpus()
    sizes = {f: curves.size(f, o.scale, examples, pairs, windows, seed) for f in figures}
    mitigated = None
    checks = [(size, curves.curves(size)) for size in sizes.values()]
    if o.figure == MITIGATIONS:
        from nanorepro.paper import mitigations

        whole_size = mitigations.SIZES[o.scale]
        mitigated = curves.resized(whole_size, examples, pairs, windows, seed)
        checks.append((mitigated, mitigations.curves(mitigated)))
    for size, by_name in checks:
        for curve in by_name.values():
            for window in size.windows:
                check_sequence(curve.at(window, 64 * "0"))
    words = "" if o.scale == "laptop" else f" --scale {o.scale}"
    for name in ("log2_examples", "pairs", "windows", "model", "hidden", "act"):
        if (value := getattr(o, name)) is not None:
            words += f" {option(name)} {shlex.quote(value)}"
    words += f" --seed {seed}" if seed else ""
    words += " --decide" if o.decide else ""
    return FigureRequest(
        sizes, mitigated, o.scale, words, models, folder, report, threads, minutes,
        check_checkpoint_minutes(o.checkpoint_minutes), o.plan, o.decide,
        checked_records(o, given), checked_known(o, given), o.quiet,
    )  # fmt: skip


def checked_records(o: argparse.Namespace, given: Collection[str]) -> Path | None:
    """The folder of `--from-records`, if one is given, and nothing that it decides."""
    if "from_records" not in given:
        return None
    for name in ("log2_examples", "pairs", "windows", "seed", "minutes", "plan", "decide"):
        if name in given:
            raise ConfigError(f"{option(name)}: does not go with --from-records; leave it out")
    return checked_folder("--from-records", o.from_records)


def checked_known(o: argparse.Namespace, given: Collection[str]) -> Path | None:
    """The folder of `--with-records`, if one is given, and nothing that it does not go with."""
    if "with_records" not in given:
        return None
    for name in ("from_records", "plan"):
        if name in given:
            raise ConfigError(f"{option(name)}: does not go with --with-records; leave it out")
    return checked_folder("--with-records", o.with_records)


def checked_folder(spelled: str, name: str) -> Path:
    """A folder of records that is there."""
    if not Path(name).is_dir():
        right = "give one with a figure's files .csv and .json"
        raise ConfigError(f"{spelled}: {shown(name)} is no folder; {right}")
    return Path(name)


def checked_report(name: str) -> Path:
    """The file of the page, if such a page can be made; raises ConfigError."""
    found = check_file(name, "--report", [".md", ".html"])
    if found.suffix.lower() == ".html":
        from nanorepro.pages import page

        page.check()
    return found


def drawn_models(o: argparse.Namespace, figures: list[int]) -> tuple[Config, ...]:
    """The configured model of figures 1 and 5, if one is named."""
    given = [n for n in ("model", "hidden", "act") if getattr(o, n) is not None]
    if not given:
        return ()
    if not figures or set(figures) - {1, 5}:
        raise ConfigError(f"--{given[0]}: goes with figures 1 and 5 only; leave it out")
    fields = {n: getattr(o, n) for n in given}
    return (Config(**fields),)


def made_of(request: FigureRequest, figure: int, deadline: float, console: Console) -> "Made":
    """A figure from its records alone, or from its runs, of which those missing are made."""
    from nanorepro.paper import making, recorded, runner
    from nanorepro.paper.figures import FIGURES

    of, again = FIGURES[figure], request.command(figure)
    if request.records:
        try:
            return making.from_records(of, request.records, request.scale)
        except ConfigError as error:
            right = f"a folder that holds the files of figure {figure}"
            raise ConfigError(str(error), "--from-records", right) from None

    def train(stored: runner.StoredRuns, keys: "Sequence[Key]") -> "list[Key]":
        return runner.train(
            figure, keys, stored, request.threads, deadline, again, not request.quiet,
            request.checkpoint_minutes, console.warn if request.quiet else None,
        )  # fmt: skip

    known = recorded.Recorded()
    if request.with_records:
        known = recorded.read(request.with_records, figure, request.scale)
    size, decide = request.sizes[figure], request.decide
    made = making.from_runs(of, size, request.folder, known, train, decide, request.scale, again)
    if request.with_records:
        console.say(f"figure {figure}: {made.taken} runs are from {request.with_records}")
    return made


def make(request: FigureRequest, figure: int, deadline: float, console: Console) -> bool:
    """One figure: its files, then what is said of it; whether nothing of it failed."""
    from nanorepro.paper import report, rows
    from nanorepro.paper.figures import FIGURES

    made = made_of(request, figure, deadline, console)
    record, again, note = made.record, made.record["command"], made.record["size"]
    pictures, problems = {}, []
    try:
        picture = FIGURES[figure].picture(made.rows, note, request.models)
        svg = request.report is not None and request.report.suffix.lower() == ".html"
        pictures = report.pictures(picture, again, svg)
    except Exception as error:
        problems.append(f"figure {figure}: the picture could not be drawn: {describe(error)}")
    target, name = request.folder, f"figure{figure}-{record['scale']}"
    if request.report:
        target, name = request.report.with_suffix(""), f"figure{figure}"
    kinds = [*pictures, "csv", "json"]
    try:
        tables = {name: rows.as_csv(made.rows, f"{again}; {note}")}
        tables |= made.evidence.tables(name, again)
        report.write(target, name, tables, record, pictures)
        if request.report:
            report.write_report(request.report)
    except Exception as error:
        problems.append(f"figure {figure} could not be written: {describe(error)}")
        kinds = []
    files = f"{target / name}." + ", .".join(kinds) if kinds else "not written"
    console.say(report.shown(record, files, request.command_here(figure)))
    for problem in problems:
        console.fail(problem, FAILED)
    return not problems


def run(argv: Sequence[str], console: Console) -> int:
    """Plan or make the figures that the command line names; the exit status."""
    request = checked(argv)
    if not request.records:
        from nanorepro.backends import load_backend

        load_backend("numba")  # which refuses what it cannot run under
    if request.plan:
        from nanorepro.paper import planning

        jobs = planning.jobs_of(request.sizes, request.decide)
        if request.mitigations:
            jobs = [planning.mitigations(request.mitigations)]
        for line in planning.plan(jobs, request.folder, request.threads):
            console.say(line)
            if console.gone:
                break
        return DONE
    deadline = time.perf_counter() + 60.0 * request.minutes
    try:
        if request.mitigations:
            from nanorepro.commands.mitigations import make as make_mitigations

            drawn = [make_mitigations(request, request.mitigations, deadline, console)]
        else:
            drawn = [make(request, figure, deadline, console) for figure in request.sizes]
    except (KeyboardInterrupt, Terminated):
        console.warn(f"to go on: {shlex.join(['python', '-m', NAME, *argv])}")
        raise
    return DONE if all(drawn) else FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
