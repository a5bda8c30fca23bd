"""One run of a sweep, from its configuration to its line in the journal: what every engine does."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nanorepro.config import CHECKPOINT_MINUTES, Config
from nanorepro.errors import ConfigError
from nanorepro.results import hdf5, store
from nanorepro.results.files import keep_aside
from nanorepro.results.result import Result
from nanorepro.specification import example_cost
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.journal import Entry
from nanorepro.training.checkpoints import Say
from nanorepro.training.simulation import simulate

Report = Callable[[int, int], None]


TEXTS = ("start", "command", "firsts")  # what a Task has besides its configuration


class NotStored(OSError):
    """A finished run that could not be stored; the message says what was measured."""


@dataclass(frozen=True)
class Task:
    """A run to be made.

    Parameters
    ----------
    config : Config
        What it is.
    start : str
        File of the run whose parameters it starts from; empty: from initial values.
    command : str
        What makes it again, where nanorepro.run with the configuration's options does not.
    firsts : str
        Id of a run with the same first models: they are taken from it if it is in the folder by
        then, and trained if not.
    """

    config: Config
    start: str = ""
    command: str = ""
    firsts: str = ""

    def record(self) -> dict[str, Any]:
        """The task as plain values, for another process."""
        return {"config": asdict(self.config), **{k: getattr(self, k) for k in TEXTS}}

    @staticmethod
    def of(record: dict[str, Any]) -> "Task":
        """The task of a record."""
        return Task(Config.from_record(record["config"]), *(record[k] for k in TEXTS))

    @property
    def cost(self) -> int:
        """About how long it takes; only the ratios matter."""
        return example_cost(self.config) * 2 * self.config.pairs * self.config.examples


@dataclass(frozen=True)
class Settings:
    """What holds for all runs of a sweep.

    Parameters
    ----------
    folder : str
        Where the runs are stored.
    backend : str
        What computes them.
    sweep : str
        The sweep's command.
    checkpoint_minutes : float
        Minutes between two checkpoints inside a run, 0 for none.
    """

    folder: str
    backend: str = "numba"
    sweep: str = ""
    checkpoint_minutes: float = CHECKPOINT_MINUTES


def train(
    task: Task,
    settings: Settings,
    engine: str,
    threads: int,
    report: Report,
    start: bytes | None = None,
    say: Say | None = None,
) -> Result:
    """Train and measure a run; its provenance says by which engine and sweep.

    `start`: the bytes of the file that `task.start` names, where that cannot be read.
    """
    source = hdf5.decode(start) if start else store.load(task.start) if task.start else None
    parameters = source.parameters if source else None
    result = simulate(
        task.config, settings.backend, threads, report, parameters, settings.checkpoint_minutes,
        settings.folder, say, firsts=_firsts(task, settings),
    )  # fmt: skip
    origin = {**result.provenance, "engine": engine}
    if settings.sweep:
        origin["sweep"] = settings.sweep
    if task.command:
        origin["command"] = task.command
    return replace(result, provenance=origin)


def _firsts(task: Task, settings: Settings) -> Result | None:
    """The run whose first models a task takes, if it is there and whole."""
    path = Path(settings.folder) / f"{task.firsts}.h5"
    if not task.firsts or task.firsts == task.config.id or not path.exists():
        return None
    try:
        return store.load(path)
    except ConfigError:  # damaged, or of another version: its own task says so
        return None


def make(
    task: Task,
    settings: Settings,
    engine: str,
    threads: int,
    report: Report,
    say: Say | None = None,
) -> tuple[Entry, bool]:
    """A finished run, and whether it was trained: another sweep may have made it meanwhile.

    Raises NotStored where the system refuses to store it.
    """
    folder = Folder(Path(settings.folder))
    there = folder.find(task.config.id)
    if there:
        return there, False
    result = train(task, settings, engine, threads, report, say=say)
    try:
        return folder.publish(result), True
    except OSError as error:
        here = folder.file(task.config.id).exists()  # and only its line is not
        aside = None if here else keep_aside(lambda other: store.save(result, other))
        loss = f"{result.metrics['loss'].words} {result.mean('loss'):.4g}"
        raise NotStored(
            f"run {task.config.id} could not be stored: {error}; "
            + (f"it is kept as {str(aside)!r}; " if aside else "")
            + f"its fingerprint is {result.fingerprint}, its relative PD {result.relative_pd:.4g},"
            f" its {loss}; again: {result.provenance['command']}"
        ) from error


def words(error: BaseException) -> str:
    """Why a run failed, in a line."""
    text = " ".join(str(error).split())
    known = isinstance(error, ConfigError | OSError) and text
    return text if known else f"{type(error).__name__}: {text}".rstrip(": ")
