"""python -m nanorepro.diverge: train pairs in step and say where, when and how fast they part.

Nothing that is slow to import is imported before the command line has been checked.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.commands.common import (
    DONE,
    FAILED,
    again,
    carry_out,
    check_folder,
    check_threads,
    keep,
    positive,
    whole,
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
    MOST_PER_OCTAVE,
    PARTS,
    Config,
    check_fields,
    check_sequence,
    unused_options,
)
from nanorepro.errors import ConfigError, option, shown, wrong
from nanorepro.results.plain import finite_or_null
from nanorepro.text import counted, in_columns
from nanorepro.training.progress import Progress
from nanorepro.training.signals import ends_at_once

if TYPE_CHECKING:
    from nanorepro.analysis.divergence import Divergence, PairDivergence

NAME = "nanorepro.diverge"
HIDDEN = ("warm_start", "eval_every")  # fields of Config that have no meaning here
PAIRS_SHOWN = 16
GROUPS = {
    title: tuple(f.name for f in fields(part) if f.name not in HIDDEN)
    for title, part in PARTS.items()
}
GROUPS["what is looked for"] = ("by", "threshold", "per_octave")
GROUPS["the running, which changes no bit of the result"] = (
    "backend", "threads", "out", "json", "quiet",
)  # fmt: skip


@dataclass(frozen=True)
class Options(Config):
    """The command line as it was given."""

    by: str = opt(
        "",
        "also compare: a field and the values it takes in turn, as in act=relu,smelu,swish"
        " (default: none)",
        "FIELD=VALUES",
    )
    threshold: str = opt(
        "0.0001", "relative PD above which a pair counts as parted (default: 0.0001)", "X"
    )
    per_octave: str = opt(
        "4", "steps at which pairs are measured, for each doubling, 1 to 64 (default: 4)", "N"
    )
    backend: str = opt("numba", "what computes it (default: numba)", "{numba,reference}")
    threads: str = threads_option()
    out: str = opt(
        "runs",
        "folder of the pairs, in which those that are finished are found again, of the numbers and"
        " of the picture (default: runs)",
        "FOLDER",
    )
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
        usage="python -m nanorepro.diverge [option ...]",
        description=(
            "Train the two models of each pair in step, and say where they part: the first step,"
            " weight and bit in\nwhich their parameters differ; the first mini-batch in which an"
            " activation takes another branch (the\nkinks of ReLU and SmeLU), and in which the"
            " training loss, rounded to float32, differs; distance, PD and\nloss over"
            " training, with the rate at which the distance grows; and how many pairs have not"
            " parted\nyet, PD above a threshold, at each step.  A nudge (--differ nudge"
            " --nudge-at STEP) plants a difference\nwhere and when it is wanted.  Each pair is"
            " stored as soon as it is finished, and the same\ncommand goes on where it was."
        ),
        epilog="Examples: python -m nanorepro.diverge --model tower --pairs 4\n"
        "          python -m nanorepro.diverge --differ nudge --nudge-at 1000 --by act=relu,swish",
    )


@dataclass(frozen=True)
class Request:
    """What may start: the configurations, and what changes no bit."""

    configs: tuple[Config, ...]
    axis: str
    values: tuple[str, ...]
    threshold: float
    per_octave: int
    backend: str
    threads: int | None
    folder: Path
    json: bool
    quiet: bool
    command: str


def checked(options: Options, given: Collection[str], words: Sequence[str]) -> Request:
    """Check everything that can be checked before the training; raises ConfigError."""
    if options.backend not in ("numba", "reference"):
        raise wrong("backend", options.backend, "numba or reference, which can be traced")
    threshold = positive("--threshold", options.threshold)
    per_octave = whole("--per-octave", options.per_octave, 1, MOST_PER_OCTAVE)
    threads = check_threads(options.threads)
    config = Config(**{f.name: getattr(options, f.name) for f in fields(Config)})
    axis, values = axis_of(options.by)
    if axis in given:
        raise ConfigError(f"{option(axis)}: --by sets it; give one of the two")
    configs = []
    for value in values or ("",):
        one = Config(**{**asdict(config), axis: value}) if axis else config
        check_fields(one, given)
        one = with_examples(one)
        check_sequence(one)
        configs.append(one)
    folder = check_folder(options.out)
    from nanorepro.backends import load_backend

    load_backend(options.backend)  # which refuses what it cannot run under
    return Request(
        tuple(configs), axis, values, threshold, per_octave, options.backend, threads, folder,
        options.json, options.quiet, again(NAME, words),
    )  # fmt: skip


def axis_of(text: str) -> tuple[str, tuple[str, ...]]:
    """The field of --by and its values; raises ConfigError."""
    if not text:
        return "", ()
    from nanorepro.commands.parser import nearest_of

    name, equals, listed = text.partition("=")
    name = name.strip().removeprefix("--").replace("-", "_")
    names = [f.name for f in fields(Config) if f.name not in HIDDEN]
    if not equals or not listed:
        raise ConfigError(f"--by: {shown(text)} is not allowed; give FIELD=VALUE,VALUE")
    if name not in names:
        near = nearest_of(name, names)
        right = f"did you mean {near}?" if near else "--help lists them"
        raise ConfigError(f"--by: {shown(name)} is not a field of a run; {right}")
    values = tuple(v.strip() for v in listed.split(";" if ";" in listed else ",") if v.strip())
    if len(set(values)) < 2 or len(set(values)) < len(values):
        raise ConfigError(
            f"--by: {shown(listed)} is not allowed; give two values or more, each once"
        )
    if len(values) > 7:
        raise ConfigError(f"--by: {len(values)} values are too many for a picture; give 7 at most")
    return name, values


def train(request: Request, say: Callable[[str], None]) -> "list[Divergence]":
    """Train and look, showing the progress on standard error; pairs that are kept are found."""
    kept = f"pairs that are finished are kept; to go on: {request.command}"
    shown_ = None if request.quiet else Progress(sys.stderr, "starting ...", NAME)
    with ends_at_once(NAME, kept), shown_ or nullcontext():
        from nanorepro.sweeps.diverging import diverge
        from nanorepro.training.compiling import says_when_compiling

        found: list[Divergence] = []

        def report(done: int, total: int) -> None:
            if shown_ is not None:
                shown_(len(found) * total + done, len(request.configs) * total)

        with says_when_compiling(shown_ if request.backend == "numba" else None):
            for config in request.configs:
                found.append(
                    diverge(
                        config,
                        request.backend,
                        request.threads,
                        report,
                        request.threshold,
                        request.per_octave,
                        folder=request.folder,
                        say=say,
                    )
                )
        return found


def as_json(request: Request, found: "Sequence[Divergence]") -> dict[str, Any]:
    """All of it; what is not a number is null."""
    from nanorepro.results.provenance import provenance

    return {
        "command": request.command,
        "axis": request.axis or None,
        "values": list(request.values),
        "divergences": [finite_or_null(d.as_record()) for d in found],
        "backend": request.backend,
        "provenance": provenance(request.configs[0]),
    }


def as_table(found: "Divergence", name: str) -> str:
    """What a reader wants to see of one configuration."""
    from nanorepro.results.result import title_of

    lines = [title_of(found.config) + (f"; {name}" if name else "")]
    header = ("pair", "part after", "weight", "ulp", "other branch in", "loss differs in",
              "PD above after", "last PD")  # fmt: skip
    rows = [header, *(row(found, pair) for pair in found.pairs[:PAIRS_SHOWN])]
    lines += in_columns(rows)
    if len(found.pairs) > PAIRS_SHOWN:
        lines.append(f"  ... and {len(found.pairs) - PAIRS_SHOWN} further pairs")
    if not found.comparable:
        lines.append(
            "  the two models see different mini-batches: branches and losses have no match"
        )
    rate, between = found.growth_rate
    power, powers = found.growth_power
    if math.isfinite(rate):
        doubling = f", doubled every {math.log(2) / rate:,.3g} steps" if rate > 0 else ""
        told = sum(map(math.isfinite, found.growth_rates))
        some = f" ({told} of {len(found.pairs)} pairs)" if told < len(found.pairs) else ""
        lines.append(
            f"  distance grows by exp({rate:.3g} t){ends(between)} over t steps{doubling};"
            f" as t^{power:.3g}{ends(powers)}{some}"
        )
    parted = sum(s is not None for s in found.parted_at)
    lines.append(
        f"  {parted} of {len(found.pairs)} pairs had a PD above {found.threshold:g}"
        f" within {counted(found.config.steps, 'mini-batch', 'mini-batches')}"
    )
    if found.diverged:
        named = ", ".join(map(str, found.diverged[:8])) + (", ..." if found.diverged[8:] else "")
        has = counted(len(found.diverged), "pair has", "pairs have")
        lines.append(f"  {has} a model that diverged, and no PD from there on: {named}")
    return "\n".join(lines)


def ends(interval: tuple[float, float]) -> str:
    """An interval, if there is one."""
    low, high = interval
    return f" [{low:.3g}, {high:.3g}]" if math.isfinite(low) else ""


def row(found: "Divergence", pair: "PairDivergence") -> tuple[str, ...]:
    """One pair in the table."""
    part = pair.parting
    weight = ulps = "-"
    if part is not None:
        first = part.first
        weight = f"{first.name}[{','.join(map(str, first.index))}]"
        weight += f" and {part.weights - 1}" if part.weights > 1 else ""
        ulps = "-" if first.ulps is None else str(first.ulps)
    branch = "-"
    if pair.branch is not None:
        branch = f"{pair.branch.step:,} (layer {pair.branch.layer}, unit {pair.branch.unit})"
    above = found.parted_at[pair.pair]
    return (
        str(pair.pair),
        "never" if part is None else f"{part.step:,}",
        weight,
        ulps,
        branch,
        "-" if pair.loss is None else f"{pair.loss.step:,}",
        "-" if above is None else f"{above:,}",
        f"{pair.pd[-1]:.3g}" if math.isfinite(pair.pd[-1]) else "diverged",
    )


def draw(found: "Sequence[Divergence]", names: Sequence[str]) -> Any:
    """The picture."""
    from nanorepro.plots.divergence import divergence

    return divergence(found, names)


def run(argv: Sequence[str], console: Console) -> int:
    """Train, look, store, show."""
    options, given = parser().read(argv)
    request = checked(options, given, argv)
    if unused := unused_options(request.configs, given):
        console.warn(unused)
    lost: list[str] = []
    found = train(request, lost.append)
    names = [f"{option(request.axis)[2:]} {v}" for v in request.values] or [""]
    record = as_json(request, found)
    ids = ",".join(d.config.id for d in found)
    digest = ids if len(found) == 1 else hashlib.sha256(ids.encode()).hexdigest()[:16]
    path = request.folder / f"diverge-{digest}.json"
    files, problems = keep(path, record, lambda: draw(found, names))
    if request.json:
        console.say(json.dumps({**record, **files}))
    else:
        tables = [as_table(d, name) for d, name in zip(found, names, strict=True)]
        lines = [f"  {name:<9}{path or 'none'}" for name, path in files.items()]
        console.say("\n".join([*tables, *lines, f"  {'again':<9}{request.command}"]))
    for problem in (problems := [*lost[:1], *problems]):
        console.fail(problem, FAILED)
    return FAILED if problems else DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
