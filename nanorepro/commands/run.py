"""python -m nanorepro.run: train pairs of models, measure, show and store them.

Nothing that is slow to import is imported before the command line has been checked.
"""

import json
import math
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import argparse_dataclass

from nanorepro.config import BACKENDS, PARTS, Config, check_sequence, command, with_paper_sizes
from nanorepro.errors import ConfigError, option
from nanorepro.training.progress import Progress

if TYPE_CHECKING:
    from nanorepro.model.layers import Parameters
    from nanorepro.results.result import Result

NAME = "nanorepro.run"
PAPER_SIZES = ("log2_examples", "log2_eval", "pairs")
GROUPS = {title: tuple(f.name for f in fields(part)) for title, part in PARTS.items()}
GROUPS["the pairs"] += ("paper",)
GROUPS["the running, which changes no bit of the result"] = ("backend", "threads", "out", "json")


def _opt(default: object, help: str, metavar: str | None = None) -> Any:
    metadata = {"help": help, "type": str} | ({"metavar": metavar} if metavar else {})
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options(Config):
    """The command line as it was given: text, which Config and `job` check."""

    warm_start: str = _opt(
        "", "file <id>.h5 of a run whose parameters this one starts from (default: none)", "FILE"
    )
    paper: bool = _opt(False, "the paper's sizes: T = 2^26, N = 2^16, 16 pairs")
    backend: str = _opt(
        "numba", "what computes it (default: numba)", "{" + ",".join(BACKENDS) + "}"
    )
    threads: str = _opt("all", "threads, from 1 to 1024 (default: all cores)", "N")
    out: str = _opt("runs", "folder of the stored run and its picture (default: runs)", "FOLDER")
    json: bool = _opt(False, "print one JSON object instead of the table")

    def __post_init__(self):
        pass


class Parser(argparse_dataclass.ArgumentParser):
    """Options in groups; every error is one line."""

    def __init__(self):
        self.groups: dict[str, Any] = {}
        super().__init__(
            Options,
            prog=NAME,
            usage="python -m nanorepro.run [option ...]",
            description="Train pairs of models that differ only in what is named, measure how far"
            " they are apart, show and store it.",
            epilog="Example: python -m nanorepro.run --model tower --act relu",
            allow_abbrev=False,
        )

    def add_argument(self, *names, **settings):
        name = names[-1].removeprefix("--").replace("-", "_")
        for title, members in GROUPS.items():
            if name in members:
                if title not in self.groups:
                    self.groups[title] = self.add_argument_group(title)
                return self.groups[title].add_argument(*names, **settings)
        return super().add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"argument (\S+): expected one argument", message, re.S):
            name = found[1].removeprefix("--").replace("-", "_")
            meaning = {f.name: f.metadata["help"] for f in fields(Options)}[name]
            raise ConfigError(f"{found[1]}: the value is missing; give the {meaning}")
        if found := re.fullmatch(r"argument (\S+): ignored explicit argument (.*)", message, re.S):
            raise ConfigError(f"{found[1]}: {found[2]} is not allowed; give no value")
        raise ConfigError(message)

    def read(self, argv: Sequence[str]) -> tuple[Options, set[str]]:
        """The options, and the names of those that were given."""
        options, unknown = self.parse_known_args(list(argv))
        for f in fields(Options):
            if isinstance(getattr(options, f.name), list):  # what argparse makes of `--lr=--`
                self.error(f"argument {option(f.name)}: expected one argument")
        if unknown:
            known = [option(f.name) for f in fields(Options)]
            near = get_close_matches(unknown[0].partition("=")[0], known, 1)
            right = f"did you mean {near[0]}?" if near else "--help lists them"
            raise ConfigError(f"{unknown[0]!r} is not an option; {right}")
        given = {word.partition("=")[0] for word in argv}
        return options, {f.name for f in fields(Options) if option(f.name) in given}


@dataclass(frozen=True)
class Job:
    """A run that may start: its configuration and everything that changes no bit."""

    config: Config
    start: "list[list[Parameters]] | None"
    backend: str
    threads: int | None
    folder: Path
    json: bool
    command: str


def job(options: Options, given: set[str]) -> Job:
    """Check everything that can be checked before the training; raises ConfigError."""
    if options.backend not in BACKENDS:
        right = " or ".join(BACKENDS)
        raise ConfigError(f"--backend: {options.backend!r} is not allowed; give {right}")
    threads = check_threads(options.threads)
    values = {f.name: getattr(options, f.name) for f in fields(Config)}
    config = Config(**{**values, "warm_start": ""})
    if options.paper:
        for name in PAPER_SIZES:
            if name in given:
                raise ConfigError(f"{option(name)}: --paper sets it; give one of the two")
        config = with_paper_sizes(config)
    check_sequence(config)
    start, words = None, ""
    if "warm_start" in given:
        config, start = warm_start(config, options.warm_start, given)
        words = f" --warm-start {shlex.quote(options.warm_start)}"
    folder = check_folder(options.out)
    if (folder / f"{config.id}.h5").exists():
        from nanorepro.results import store

        store.load(folder / f"{config.id}.h5")
    again = command(config) + words
    return Job(config, start, options.backend, threads, folder, options.json, again)


def check_threads(text: str) -> int | None:
    if text == "all":
        return None
    if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= 1024:
        return int(text)
    raise ConfigError(f"--threads: {text!r} is not allowed; give 1 to 1024, or all")


def check_folder(name: str) -> Path:
    """The folder, if a file can be written there or it can be made; raises ConfigError."""
    wrong = f"--out: {name!r} is not a folder to write in"
    right = "give one that is, or can be made"
    if not name or "\0" in name:
        raise ConfigError(f"{wrong}; {right}")
    try:
        if any(len(os.fsencode(part)) > 255 for part in Path(name).parts):
            raise ValueError("a name is too long")
        there = Path(name).absolute()
        while not there.exists():
            there = there.parent
        tempfile.TemporaryFile(dir=there).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{wrong} ({reason}); {right}") from None
    return Path(name)


def warm_start(
    config: Config, file: str, given: set[str]
) -> "tuple[Config, list[list[Parameters]]]":
    """The configuration that starts where a stored run ended, and that run's parameters.

    Unless --first-example is given, the run goes on with the examples after those of the stored
    one, which are new ones of the same world.
    """
    from nanorepro.results import store

    try:
        stored = store.load(file)
    except ConfigError as error:
        raise ConfigError(str(error), "warm_start") from None
    old = stored.config
    if config.model != old.model or config.widths != old.widths:
        widths = f" --hidden {old.hidden}" if old.hidden else ""
        raise ConfigError(
            f"--model: {config.model} with hidden layers {list(config.widths)} is not what is"
            f" stored in {file!r}; give --model {old.model}{widths}"
        )
    for name in ("data", "seed"):
        if name not in given and getattr(config, name) != getattr(old, name):
            raise ConfigError(
                f"{option(name)}: the run in {file!r} has {getattr(old, name)}; give that one, or"
                " another if another world is meant"
            )
    if stored.diverged:
        raise ConfigError(f"--warm-start: {file!r} has diverged models; give a run without")
    changes: dict[str, Any] = {"warm_start": stored.fingerprint}
    if "first_example" not in given:
        changes["first_example"] = old.first_example + old.examples
    return replace(config, **changes), stored.parameters


def train(job: Job) -> "Result":
    """Train and measure, showing the progress on standard error."""
    waiting = "compiling (only the first time) ..." if job.backend == "numba" else "starting ..."
    with Progress(sys.stderr, waiting, NAME) as progress:
        from nanorepro.training.simulation import simulate

        result = simulate(job.config, job.backend, job.threads, progress, job.start)
    return replace(result, provenance={**result.provenance, "command": job.command})


def keep(result: "Result", folder: Path) -> dict[str, str]:
    """Store the result, then its picture; the paths of both."""
    from nanorepro.plots import overview
    from nanorepro.results import store

    stored = store.save(result, folder)
    drawn = stored.with_suffix(".png")
    store.replace_file(drawn, overview.png(overview.overview(result)))
    return {"stored": str(stored), "picture": str(drawn)}


def as_json(result: "Result", files: dict[str, str]) -> dict[str, Any]:
    """The result as one JSON object; what is not a number is null."""
    pairs = [
        {
            "pd": pair.pd,
            "loss": pair.loss,
            "churn": pair.churn,
            "disagreement": pair.disagreement,
            "weight_distance": result.weight_distance[k],
            "weight_correlation": result.weight_correlation[k],
            "deviation_cosine": result.deviation_cosine[k],
            "stuck": pair.stuck,
            "diverged": pair.diverged,
        }
        for k, pair in enumerate(result.pairs)
    ]
    series = [
        {"step": step, **{name: [getattr(p, name) for p in at] for name in ("pd", "loss", "churn")}}
        for step, at in zip(result.checkpoints, result.series, strict=True)
    ]
    report = {
        "id": result.config.id,
        "config": asdict(result.config),
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
    return _numbers(report)


def _numbers(value: Any) -> Any:
    """The same with null in place of NaN and infinity."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_table(result: "Result", files: dict[str, str]) -> str:
    """What a reader wants to see of a run."""
    config, finite = result.config, result.finite()

    def interval(ends: tuple[float, float]) -> str:
        if len(finite) < 2:
            return ""
        return f"95 % interval {ends[0]:.3g} to {ends[1]:.3g}"

    def mean(values: list[float]) -> str:
        return f"{sum(values) / len(values):.4g}" if values else "-"

    def of(name: str) -> list[float]:
        return [getattr(p, name) for p in finite]

    def models(which: list[tuple[int, int]]) -> str:
        if not which:
            return "none"
        shown = ", ".join(f"{k}.{m}" for k, m in which[:32]) + (", ..." if which[32:] else "")
        return f"{len(which)} of {2 * config.pairs} models: {shown} (pair.model)"

    kept = [k for k, p in enumerate(result.pairs) if not any(p.diverged)]
    rows = [
        ("relative PD", f"{result.relative_pd:<10.4g}", interval(result.relative_pd_interval)),
        ("excess loss", f"{result.excess_loss:<10.4g}", interval(result.excess_loss_interval)),
        ("churn", mean(of("churn"))),
        ("disagreement", mean(of("disagreement"))),
        ("weight distance", mean([result.weight_distance[k] for k in kept])),
        ("stuck", models(result.stuck)),
        ("diverged", models(result.diverged)),
    ]
    if len(finite) < config.pairs:
        rows.append(("averages", f"over the {len(finite)} pairs of {config.pairs} that are finite"))
    rows += [
        ("fingerprint", result.fingerprint),
        ("id", config.id),
        ("seconds", f"{result.seconds:.1f} ({result.examples_per_second:,.0f} examples/s)"),
        *files.items(),
        ("again", result.provenance["command"]),
    ]
    widths = ",".join(map(str, config.widths))
    title = (
        f"{config.pairs} pairs of {config.model}{f' [{widths}]' if widths else ''}"
        f"{'' if config.model == 'linear' else ' ' + config.act}, {config.data} data,"
        f" 2^{config.log2_examples} examples, differing in {config.differ}"
    )
    return "\n".join([title, *(f"  {r[0]:<16}" + "  ".join(r[1:]).rstrip() for r in rows)])


@contextmanager
def ends_at_once(name: str = NAME) -> Iterator[None]:
    """Ctrl-C ends the process with status 130 here, without waiting for threads at work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number, frame):
        os.write(2, f"\n{name}: interrupted\n".encode())
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def fail(message: object, status: int, name: str = NAME) -> int:
    """Say in one line what is wrong."""
    text = message.on_command_line() if isinstance(message, ConfigError) else str(message)
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    print(f"{name}: error: {line}", file=sys.stderr)
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    try:
        with ends_at_once():
            todo = job(*Parser().read(sys.argv[1:] if argv is None else argv))
            result = train(todo)
        files, problem = {}, None
        try:
            files = keep(result, todo.folder)
        except Exception as error:
            problem = error
        if todo.json:
            print(json.dumps(as_json(result, files)), flush=True)
        else:
            print(as_table(result, files), flush=True)
        if problem:
            return fail(f"{type(problem).__name__}: {problem}", 1)
    except ConfigError as error:
        return fail(error, 2)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return fail(f"{type(error).__name__}: {error}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
