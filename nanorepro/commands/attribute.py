"""python -m nanorepro.attribute: say which source makes the models of a pair differ, and how much.

Nothing that is slow to import is imported before the command line has been checked.
"""

import json
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.commands.common import (
    DONE,
    FAILED,
    MINUTES_HELP,
    again,
    carry_out,
    check_checkpoint_minutes,
    check_folder,
    check_threads,
    keep,
    with_examples,
)
from nanorepro.commands.console import Console
from nanorepro.commands.options import (
    RecordParser,
    json_option,
    opt,
    quiet_option,
    threads_option,
)
from nanorepro.config import (
    BACKENDS,
    CHECKPOINT_MINUTES,
    PARTS,
    ROLES,
    Config,
    check_fields,
    check_sequence,
    unused_options,
)
from nanorepro.errors import ConfigError, shown, wrong
from nanorepro.parsing import real_number
from nanorepro.results.plain import finite_or_null
from nanorepro.settings import setting
from nanorepro.text import counted, in_columns
from nanorepro.training.signals import Terminated

if TYPE_CHECKING:
    from nanorepro.analysis.attribution import Attribution
    from nanorepro.results.studentized import Interval

NAME = "nanorepro.attribute"
HIDDEN = ("warm_start", "eval_every")  # fields of Config that have no meaning here
GROUPS = {
    title: tuple(f.name for f in fields(part) if f.name not in HIDDEN)
    for title, part in PARTS.items()
}
GROUPS["what is told"] = ("floor", "sums")
GROUPS["the running, which changes no bit of the result"] = (
    "backend", "threads", "out", "checkpoint_minutes", "json", "quiet",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options(Config):
    """The command line as it was given."""

    differ: str = setting(
        ",".join(ROLES),
        "streams in which the two models of a pair may differ, each a source: a list out of "
        + ",".join(ROLES)
        + ", or none; a dial with two values a,b, such as --tree chain,lanes:8, is a source, too",
        paper="shuffle, or init,shuffle",
    )
    floor: str = opt(
        "",
        "PD below which the logarithm tells no differences, as log(1 + PD/floor)"
        " (default: the unit roundoff of the precision, 2^-24 for float32)",
        "X",
    )
    sums: bool = opt(
        False,
        "also say which single sum is responsible, a layer's forward, backward or mini-batch sum:"
        " one more run with all sums exact, and one for each sum with all others exact",
    )
    backend: str = opt(
        BACKENDS[0], f"what computes it (default: {BACKENDS[0]})", "{" + ",".join(BACKENDS) + "}"
    )
    threads: str = threads_option()
    out: str = opt(
        "runs",
        "folder of the runs, in which those that are finished are found again, of the numbers and"
        " of the picture (default: runs)",
        "FOLDER",
    )
    checkpoint_minutes: str = opt(f"{CHECKPOINT_MINUTES:g}", MINUTES_HELP, "X")
    json: bool = json_option()
    quiet: bool = quiet_option()

    def __post_init__(self) -> None:
        pass


def parser() -> RecordParser:
    """The command line."""
    return RecordParser(
        Options,
        GROUPS,
        HIDDEN,
        prog=NAME,
        usage="python -m nanorepro.attribute [option ...]",
        description=(
            "Say which of the sources in which the two models of a pair may differ makes how much"
            " of their prediction\ndifference (PD).  The sources are the streams of --differ, and"
            " every dial with two values a,b: where it is\nabsent, both models have the first."
            "  All subsets of k sources are trained, 2^k runs, as a sweep: stored,\nresumed by the"
            " same command, and not made twice.  Told are PD with each source alone and with all"
            " but it;\nits Shapley value, the mean of what it adds over all orders in which sources"
            " can be added, as a share of\nthe whole, of log PD and of PD; and pairs of sources"
            " whose joint effect is not the sum of both.\nIntervals are 95 % studentized bootstrap"
            " intervals over pairs."
        ),
        epilog="Examples: python -m nanorepro.attribute --model tower\n"
        "          python -m nanorepro.attribute --differ init,shuffle,order --leaf-order random"
        " --tree chain,lanes:8",
    )


@dataclass(frozen=True)
class Request:
    """What may start: the configuration, and what changes no bit."""

    config: Config
    floor: float | None
    sums: bool
    backend: str
    threads: int | None
    folder: Path
    checkpoint_minutes: float
    json: bool
    quiet: bool
    command: str


def checked(options: Options, given: Collection[str], words: Sequence[str]) -> Request:
    """Check everything that can be checked before the training; raises ConfigError."""
    if options.backend not in BACKENDS:
        raise wrong("backend", options.backend, " or ".join(BACKENDS))
    floor = check_floor(options.floor)
    threads = check_threads(options.threads)
    minutes = check_checkpoint_minutes(options.checkpoint_minutes)
    config = Config(**{f.name: getattr(options, f.name) for f in fields(Config)})
    check_fields(config, given)
    config = with_examples(config)
    check_sequence(config)
    folder = check_folder(options.out)
    from nanorepro.analysis.attribution import wanted
    from nanorepro.backends import load_backend

    for run in wanted(config, options.sums):
        check_sequence(run)
    load_backend(options.backend)  # which refuses what it cannot run under
    return Request(
        config, floor, options.sums, options.backend, threads, folder, minutes, options.json,
        options.quiet, again(NAME, words),
    )  # fmt: skip


def check_floor(text: str) -> float | None:
    """The floor, None where none is given; raises ConfigError."""
    if not text:
        return None
    try:
        value = real_number(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1.0:
        right = "a number above 0 and below 1"
        raise ConfigError(f"--floor: {shown(text)} is not allowed; give {right}")
    return value


def interval(value: "Interval") -> str:
    """A mean with its interval; a dash for what cannot be told."""
    if math.isnan(value.value):
        return "-"
    if value.value == 0.0:
        return "0, exactly"
    ends = "" if math.isnan(value.low) else f" [{value.low:.3g}, {value.high:.3g}]"
    return f"{value.value:.3g}{ends}"


def as_table(found: "Attribution") -> str:
    """What a reader wants to see."""
    from nanorepro.analysis.attribution import percent, wanted
    from nanorepro.results.result import title_of

    distinct = len(wanted(found.config, found.sums is not None))
    lines = [f"{title_of(found.config)}; {distinct} runs"]
    rows = [("source", "PD, it alone", "PD, all but it", "share of log PD", "share of PD")]
    for e in sorted(found.effects, key=lambda e: -e.log_value.value):
        shares = ("changes no bit", "") if e.idle else (percent(e.log_share), percent(e.share))
        rows.append((e.source.name, interval(e.alone), interval(e.without), *shares))
    rows.append(("all", interval(found.whole), interval(found.nothing), "", ""))
    lines += in_columns(rows)
    decades = found.decades
    told = "" if math.isnan(decades) else f", {decades:.2g} decades with all sources"
    lines.append(f"  log PD: log10(1 + PD/{found.floor:.3g}){told}")
    if left_out := int((~found.known).sum()):
        words = counted(left_out, "pair diverged and is", "pairs diverged and are")
        lines.append(f"  {words} left out, of {len(found.known)}")
    return "\n".join([*lines, *(f"  {text}" for text in found.findings())])


def draw(found: "Attribution") -> Any:
    """The picture."""
    from nanorepro.plots.attribution import attribution

    return attribution(found)


def run(argv: Sequence[str], console: Console) -> int:
    """Make the runs that are missing, attribute, store, show."""
    options, given = parser().read(argv)
    request = checked(options, given, argv)
    if unused := unused_options([request.config], given):
        console.warn(unused)
    from nanorepro.results.provenance import provenance
    from nanorepro.sweeps.attributing import Broken, attribute

    try:
        found = attribute(
            request.config, request.folder, backend=request.backend, threads=request.threads,
            floor=request.floor, sums=request.sums, say=console.warn,
            stream=None if request.quiet else sys.stderr, command=request.command,
            checkpoint_minutes=request.checkpoint_minutes,
        )  # fmt: skip
    except Broken as error:
        console.warn(f"what is finished is kept; to go on: {request.command}")
        return console.fail(error, FAILED)
    except (KeyboardInterrupt, Terminated):
        console.warn(f"what is finished is kept; to go on: {request.command}")
        raise
    record = {
        **finite_or_null(found.as_record()),
        "command": request.command,
        "backend": request.backend,
        "provenance": provenance(request.config),
    }
    path = request.folder / f"attribute-{found.config.id}.json"
    files, problems = keep(path, record, lambda: draw(found))
    if request.json:
        console.say(json.dumps({**record, **files}))
    else:
        lines = [f"  {name:<9}{path or 'none'}" for name, path in files.items()]
        console.say("\n".join([as_table(found), *lines, f"  {'again':<9}{request.command}"]))
    for problem in problems:
        console.fail(problem, FAILED)
    return FAILED if problems else DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
