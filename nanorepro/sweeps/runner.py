"""The runs of a sweep that are not finished, made by an engine: what is lost by nothing.

The folder holds all state.  A run is leased, made, stored under its name as a whole, and written
into the journal; whatever is killed at whatever moment, the same call goes on with what is left.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TextIO

from nanorepro.config import Config
from nanorepro.results.files import NotWritten
from nanorepro.sweeps.engines import At, Began, Ended, Engine, Event, Fatal, Local, Told
from nanorepro.sweeps.folder import Damaged, Failure, Folder
from nanorepro.sweeps.gpus import visible
from nanorepro.sweeps.journal import Entry
from nanorepro.sweeps.leases import Leases
from nanorepro.sweeps.progress import SweepProgress
from nanorepro.sweeps.work import Settings, Task
from nanorepro.training.calibration import shortest
from nanorepro.training.checkpoints import found_in
from nanorepro.training.threads import usable_cpus

LOOK = 0.5  # seconds between two looks at the runs of other sweeps
WAIT = 0.1  # seconds for which nothing need happen
Say = Callable[[str], None]


class Limit(Protocol):
    """What ends a sweep before all its runs are made."""

    def allows(self, task: Task) -> bool:
        """Whether a run may begin now."""

    def over(self) -> bool:
        """Whether nothing is waited for any more."""


class Broken(RuntimeError):
    """A sweep cannot go on, such as with a full disk; what is finished is kept."""


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep.

    Parameters
    ----------
    finished : int
        Runs that are there now.
    trained : int
        Those that this call made.
    failed : list of Failure
        Those that failed, with the reason.
    damaged : list of Damaged
        Files that were found damaged and moved aside; their runs were made again.
    left_out : list of Task
        Those that a limit did not allow.
    """

    finished: int
    trained: int
    failed: list[Failure]
    damaged: list[Damaged]
    left_out: list[Task]


def sweep(
    tasks: Sequence[Task],
    folder: Folder,
    settings: Settings,
    threads: int | None = None,
    stream: TextIO | None = None,
    say: Say = lambda text: None,
    engine: Engine | None = None,
    name: str = "nanorepro.sweep",
) -> Outcome:
    """Make all runs that are not finished.

    Parameters
    ----------
    tasks : sequence of Task
        The runs, each once.
    folder : Folder
        Where they are stored.
    settings : Settings
        What holds for all of them.
    threads : int, optional
        CPUs to use, all if None; they change no bit.
    stream : TextIO, optional
        Where the progress is shown.
    say : callable, optional
        Takes a line that the user should see.
    engine : Engine, optional
        What makes them; processes of this machine if None.
    name : str
        What stands before the progress.

    Raises
    ------
    Broken
        If the disk is full, the folder cannot be written, or no worker can be had.
    ConfigError
        If the folder was written by a newer version, or no GPU of this machine can be used for the
        backend that needs one; nothing was changed.
    """
    return Runner(tasks, folder, settings, say).run(threads or usable_cpus(), stream, engine, name)


class Runner:
    """The state of one sweep.

    Parameters
    ----------
    tasks, folder, settings, say
        As of `sweep`.
    in_order : bool
        Make the runs in the order given; otherwise those that need the same compiled code follow
        each other.
    limit : Limit, optional
        What may leave runs out; none if None.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        folder: Folder,
        settings: Settings,
        say: Say,
        in_order: bool = False,
        limit: Limit | None = None,
    ):
        self.tasks = {task.config.id: task for task in tasks}
        self.folder, self.settings, self.say, self.limit = folder, settings, say, limit
        self.damaged = folder.look(self.tasks)
        todo = [task for id, task in self.tasks.items() if id not in folder.entries]
        kinds: dict[Config, int] = {}
        order = [0 if in_order else kinds.setdefault(shortest(t.config), len(kinds)) for t in todo]
        self.pending = deque(task for _, task in sorted(zip(order, todo, strict=True), key=_first))
        self.working: dict[str, Task] = {}
        self.elsewhere: deque[Task] = deque()
        self.trained, self.failed, self.left_out = 0, list[Failure](), list[Task]()

    def run(
        self,
        threads: int,
        stream: TextIO | None,
        engine: Engine | None,
        name: str,
        progress: SweepProgress | None = None,
    ) -> Outcome:
        """Make what is left; a progress that is given counts these runs among others.

        On GPUs it is one run at a time on each: a run takes most of the memory that is free.
        """
        for path in found_in(self.folder.path):  # of runs that were stored, and then killed
            if path.stem in self.folder.entries:
                with contextlib.suppress(OSError):
                    path.unlink()
        if not self.pending:
            return self._outcome()
        on_gpus = engine is None and self.settings.backend == "cupy"
        gpus = visible() if on_gpus else []  # before anything is written
        try:
            self._prepare()
            with contextlib.ExitStack() as stack:
                self.leases = stack.enter_context(Leases(self.folder.path))
                slots = min(len(gpus) or threads, len(self.pending))
                made: Engine = engine or Local(self.settings, slots, gpus=gpus)
                stack.enter_context(made)
                if progress is None:
                    total = sum(task.cost for task in self.pending)
                    done = len(self.tasks) - len(self.pending)
                    shown = stream or stack.enter_context(open(os.devnull, "w"))
                    progress = SweepProgress(shown, name, len(self.tasks), done, total)
                    stack.enter_context(progress)
                self.progress = progress
                self._loop(made, threads)
        except NotWritten as error:  # which says what and why
            raise Broken(str(error)) from error
        except OSError as error:
            where = error.filename or str(self.folder.path)
            raise Broken(f"{where!r}: {error.strerror or error}") from error
        return self._outcome()

    def _prepare(self) -> None:
        """Make the folder, move what is damaged aside, and keep what was asked for."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        for at, damaged in enumerate(self.damaged):
            moved = self.damaged[at] = self.folder.set_aside(damaged)
            self.say(f"{moved.path}: {moved.reason}; kept as {moved.moved}, its run is made again")
        self.folder.remember(self.settings.sweep, [task.config for task in self.tasks.values()])

    def _loop(self, engine: Engine, threads: int) -> None:
        looked = 0.0
        while self.pending or self.working or self.elsewhere:
            while self.pending and engine.wants():
                self._give(engine, threads)
            for event in engine.events(WAIT if self.working or self.pending else 0.0):
                self._handle(event)
            if self.elsewhere and time.monotonic() - looked > LOOK:
                self._look_elsewhere()
                looked = time.monotonic()
            if not self.working and not self.pending:
                time.sleep(WAIT)

    def _give(self, engine: Engine, threads: int) -> None:
        """Give the engine the next run that nobody else has."""
        task = self.pending.popleft()
        id = task.config.id
        if not self.leases.take(id):
            self.elsewhere.append(task)
            self.progress.elsewhere = len(self.elsewhere)
            return
        if self._there(task):
            return
        if self.limit and not self.limit.allows(task):
            self._leave_out(task)
            return
        at_work = min(engine.slots, len(self.working) + len(self.pending) + 1)
        self.working[id] = task
        engine.give(task, max(1, threads // at_work))

    def _leave_out(self, task: Task) -> None:
        """Do not make a run."""
        self.leases.release(task.config.id)
        self.left_out.append(task)
        self.progress.leave_out(task)

    def _there(self, task: Task) -> bool:
        """Whether another sweep has finished a run meanwhile."""
        if not self.folder.find(task.config.id):
            return False
        self.leases.release(task.config.id)
        self.progress.end_run(task, trained=False)
        return True

    def _handle(self, event: Event) -> None:
        if isinstance(event, Fatal):
            raise Broken(event.reason)
        if isinstance(event, Told):
            self.say(event.text)
            return
        task = self.working.get(event.id)
        if task is None:
            return
        if isinstance(event, Began):
            self.progress.begin_run(task)
        elif isinstance(event, At):
            self.progress.report(task, event.done)
        elif isinstance(event, Ended):
            self._ended(task, event.entry, event.trained)
        else:
            del self.working[event.id]
            self.leases.release(event.id)
            failure = self.folder.fail(task.config, event.reason, event.tries)
            self.failed.append(failure)
            self.say(f"run {event.id} failed: {event.reason}")
            self.progress.end_run(task, failed=True)

    def _ended(self, task: Task, entry: Entry, trained: bool) -> None:
        del self.working[entry.id]
        self.folder.entries[entry.id] = entry
        self.leases.release(entry.id)
        self.trained += trained
        self.progress.end_run(task, trained)

    def _look_elsewhere(self) -> None:
        """See which runs of other sweeps are finished, and take over those that were given up."""
        for _ in range(len(self.elsewhere)):
            task = self.elsewhere.popleft()
            if self.folder.file(task.config.id).exists():
                self._there(task)
            elif self.leases.take(task.config.id):
                if not self._there(task):
                    self.pending.append(task)
            elif self.limit and self.limit.over():
                self._leave_out(task)
            else:
                self.elsewhere.append(task)
        self.progress.elsewhere = len(self.elsewhere)

    def _outcome(self) -> Outcome:
        finished = sum(id in self.folder.entries for id in self.tasks)
        return Outcome(finished, self.trained, self.failed, self.damaged, self.left_out)


def _first(pair: tuple[int, Task]) -> int:
    return pair[0]
