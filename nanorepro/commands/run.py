"""python -m nanorepro.run: train pairs of models, measure, show and store them.

Nothing that is slow to import is imported before the command line has been checked.
"""

import io
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.commands.common import (
    DONE,
    FAILED,
    MINUTES_HELP,
    carry_out,
    check_checkpoint_minutes,
    check_folder,
    check_threads,
    with_examples,
)
from nanorepro.commands.console import Console, describe
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
    Config,
    check_fields,
    check_sequence,
    command,
    unused_options,
    with_paper_sizes,
)
from nanorepro.errors import ConfigError, option, wrong
from nanorepro.results.plain import finite_or_null
from nanorepro.text import named_values
from nanorepro.training.progress import Progress
from nanorepro.training.signals import Terminated, ends_when_kept

if TYPE_CHECKING:
    from nanorepro.model.layers import Parameters
    from nanorepro.results.result import Result

NAME = "nanorepro.run"
PAPER_SIZES = ("log2_examples", "log2_eval", "pairs")
GROUPS = {title: tuple(f.name for f in fields(part)) for title, part in PARTS.items()}
GROUPS["the pairs"] += ("paper",)
GROUPS["the running, which changes no bit of the result"] = (
    "backend", "threads", "out", "checkpoint_minutes", "json", "quiet",
)  # fmt: skip


@dataclass(frozen=True)
class Options(Config):
    """The command line as it was given: text, which Config and `checked` check."""

    warm_start: str = opt(
        "",
        "file <id>.h5 of a run whose parameters this one starts from; the optimizer starts anew,"
        " the examples are those that follow (default: none)",
        "FILE",
    )
    paper: bool = opt(False, "the paper's sizes: T = 2^26, N = 2^16, 16 pairs")
    backend: str = opt("numba", "what computes it (default: numba)", "{" + ",".join(BACKENDS) + "}")
    threads: str = threads_option()
    out: str = opt("runs", "folder of the stored run and its picture (default: runs)", "FOLDER")
    checkpoint_minutes: str = opt(f"{CHECKPOINT_MINUTES:g}", MINUTES_HELP, "X")
    json: bool = json_option()
    quiet: bool = quiet_option()

    def __post_init__(self) -> None:
        pass


def parser() -> RecordParser:
    """The command line of a run, its options in groups."""
    return RecordParser(
        Options,
        GROUPS,
        prog=NAME,
        usage="python -m nanorepro.run [option ...]",
        description="Train pairs of models that differ only in what is named, measure how far"
        " they are apart,\nshow and store it.",
        epilog="Example: python -m nanorepro.run --model tower --act relu",
    )


@dataclass(frozen=True)
class RunRequest:
    """A run that may start: its configuration and everything that changes no bit."""

    config: Config
    start: "list[list[Parameters]] | None"
    backend: str
    threads: int | None
    folder: Path
    checkpoint_minutes: float
    json: bool
    quiet: bool
    command: str


def checked(options: Options, given: set[str]) -> RunRequest:
    """Check everything that can be checked before the training; raises ConfigError."""
    if options.backend not in BACKENDS:
        raise wrong("backend", options.backend, " or ".join(BACKENDS))
    threads = check_threads(options.threads)
    minutes = check_checkpoint_minutes(options.checkpoint_minutes)
    values = {f.name: getattr(options, f.name) for f in fields(Config)}
    config = Config(**{**values, "warm_start": ""})
    check_fields(config, given)
    config = with_examples(config)
    if options.paper:
        for name in PAPER_SIZES:
            if name in given:
                raise ConfigError(f"{option(name)}: --paper sets it; give one of the two")
        config = with_paper_sizes(config)
    check_sequence(config)
    start, words = None, ""
    if "warm_start" in given:
        if not options.warm_start:
            raise wrong("warm_start", "", "a file <id>.h5 of a run")
        config, start = warm_start(config, options.warm_start, given)
        words = f" --warm-start {shlex.quote(options.warm_start)}"
    folder = check_folder(options.out)
    if os.path.lexists(path := folder / f"{config.id}.h5"):
        from nanorepro.results import store

        store.check(path, config)
    from nanorepro.backends import load_backend

    load_backend(options.backend)  # which refuses what it cannot run under
    again = command(config) + words
    return RunRequest(
        config, start, options.backend, threads, folder, minutes, options.json, options.quiet, again
    )


def warm_start(
    config: Config, file: str, given: set[str]
) -> "tuple[Config, list[list[Parameters]]]":
    """The configuration that starts where a stored run ended, and that run's parameters."""
    from nanorepro.results import store
    from nanorepro.training.continuing import continued

    try:
        stored = store.load(file)
    except ConfigError as error:
        raise ConfigError(str(error), "warm_start") from None
    return continued(config, stored, file, given), stored.parameters


def train(request: RunRequest, console: Console) -> "Result":
    """Train and measure, showing the progress on standard error; goes on from a checkpoint."""
    shown = Progress(io.StringIO() if request.quiet else sys.stderr, "starting ...", NAME)
    kept = request.checkpoint_minutes > 0.0
    with ends_when_kept(NAME, lambda: kept and shown.first is not None), shown:
        from nanorepro.training.compiling import says_when_compiling
        from nanorepro.training.simulation import simulate

        with says_when_compiling(shown if request.backend != "reference" else None):
            result = simulate(
                request.config, request.backend, request.threads, shown, request.start,
                request.checkpoint_minutes, request.folder,
                console.warn if request.quiet else shown.say,
            )  # fmt: skip
    return replace(result, provenance={**result.provenance, "command": request.command})


def keep(
    result: "Result", folder: Path, console: Console
) -> tuple[dict[str, str | None], list[str]]:
    """Store the result, aside if its folder cannot be written, then draw its picture.

    Returns
    -------
    files : dict
        The paths ``stored`` and ``picture``, None for what could not be written.
    problems : list of str
        Why not, a line for each.
    """
    files: dict[str, str | None] = {"stored": None, "picture": None}
    try:
        from nanorepro.results import store
        from nanorepro.results.files import keep_aside

        stored = store.save(result, folder)
    except Exception as error:
        problem = f"the run could not be stored: {describe(error)}"
        if aside := keep_aside(lambda folder: store.save(result, folder)):
            files["stored"] = str(aside)
            problem += f"; it is kept as {files['stored']!r}"
        return files, [problem]
    files["stored"] = str(stored)
    drawn = stored.with_suffix(".png")
    try:
        from nanorepro.plots import overview
        from nanorepro.results.files import replace_file

        replace_file(drawn, overview.png(overview.overview(result)))
    except Exception as error:
        return files, [f"the picture could not be drawn: {describe(error)}"]
    except (KeyboardInterrupt, Terminated):
        console.warn(f"the run is stored as {stored}")
        raise
    files["picture"] = str(drawn)
    return files, []


def as_json(result: "Result", files: dict[str, str | None]) -> dict[str, Any]:
    """The result as one JSON object; what is not a number is null."""
    config, metrics = result.config, result.metrics
    measures = {name: result.measures[name].tolist() for name in metrics}
    last = {n: v[-1] if metrics[n].by_checkpoint else v for n, v in measures.items()}
    pairs = [{name: v[k] for name, v in last.items()} for k in range(config.pairs)]
    by_step = [name for name, metric in metrics.items() if metric.by_checkpoint]
    series = [
        {"step": step, **{name: measures[name][c] for name in by_step}}
        for c, step in enumerate(result.checkpoints)
    ]
    report = {
        "id": config.id,
        "config": asdict(config),
        "relative_pd": result.relative_pd,
        "relative_pd_interval": result.relative_pd_interval,
        "excess_loss": result.excess_loss,
        "excess_loss_interval": result.excess_loss_interval,
        "constant_loss": result.constant_loss,
        "stuck": result.stuck,
        "diverged": result.diverged,
        "pairs": pairs,
        "series": series,
        "fingerprint": result.fingerprint,
        "seconds": result.seconds,
        "examples_per_second": result.examples_per_second,
        "backend": result.backend,
        **result.provenance,
        **files,
    }
    if config.is_given:
        report |= {
            "log_loss": result.mean("loss"),
            "log_loss_interval": result.intervals["loss"],
            "auc": result.mean("auc"),
            "auc_interval": result.intervals["auc"],
        }
    return finite_or_null(report)


def as_table(result: "Result", files: dict[str, str | None]) -> str:
    """What a reader wants to see of a run."""
    rows = [
        *result.rows(),
        ("fingerprint", result.fingerprint, ""),
        ("id", result.config.id, ""),
        ("seconds", f"{result.seconds:.1f} ({result.examples_per_second:,.0f} examples/s)", ""),
        *((name, path or "none", "") for name, path in files.items()),
        ("again", result.provenance["command"], ""),
    ]
    return "\n".join([result.title, *named_values(rows)])


def run(argv: Sequence[str], console: Console) -> int:
    """Train, store, show; what fails after the training loses nothing of what is finished."""
    options, given = parser().read(argv)
    request = checked(options, given)
    if unused := unused_options([request.config], given):
        console.warn(unused)
    try:
        result = train(request, console)
    except (KeyboardInterrupt, Terminated):
        console.warn(f"to go on: {shlex.join(['python', '-m', NAME, *argv])}")
        raise
    files, problems = keep(result, request.folder, console)
    if request.json:
        console.say(json.dumps(as_json(result, files)))
    else:
        console.say(as_table(result, files))
    for problem in problems:
        console.fail(problem, FAILED)
    return FAILED if problems else DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
