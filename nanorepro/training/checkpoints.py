"""Runs kept in the middle of their training, so that a kill costs some minutes and no bit.

A run's checkpoint is one file, `<id>.checkpoint` beside its result, replaced as a whole every so
many minutes and removed when the result is stored.  It holds every model that was begun, at a step
of its own: streams are counter-based, so that with its step, parameters and optimizer state a model
goes on to the bits that it would have had, with any backend and any number of threads.

A file that is damaged, or is not of this run, is moved aside and said; the training then begins
anew.  One that the system does not read is an error, as what is in it may be whole; one that cannot
be written is said, and the training goes on.
"""

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nanorepro.backends.protocols import Snapshot
from nanorepro.config import CHECKPOINT_MINUTES, MOST_CHECKPOINT_MINUTES, Config
from nanorepro.errors import ConfigError, wrong
from nanorepro.results.files import (
    NotWritten,
    checkpoint_of,
    is_refused,
    read_file,
    replace_file,
    set_aside,
)
from nanorepro.training.run_state import Models, RunState

PATIENCE = 30.0  # seconds for which a checkpoint waits for models in the middle of a long step

Say = Callable[[str], None]


def check_minutes(value: object) -> float:
    """Minutes between two checkpoints, 0 for none; raises ConfigError."""
    try:
        if isinstance(value, bool | str):
            raise TypeError
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = -1.0
    if not 0.0 <= found <= MOST_CHECKPOINT_MINUTES:
        right = f"a number from 0, for none, to {MOST_CHECKPOINT_MINUTES:,}"
        raise wrong("checkpoint_minutes", value, right)
    return found


def read(path: Path) -> RunState:
    """The run that a checkpoint holds; raises ConfigError or OSError."""
    from nanorepro.training import checkpoint_file

    return checkpoint_file.decode(read_file(path))


class Checkpoint:
    """The checkpoint of one run: what threads at work give, written now and then by its own thread.

    A context in which it is written; without a folder or with 0 minutes it does nothing.

    Parameters
    ----------
    config : Config
        The run.
    folder : str, Path or None
        Where its result is to be stored.
    minutes : float
        Between two times that it is written.
    backend : str
        What trains, for the provenance.
    say : callable, optional
        Takes a line that the user should see, also from another thread; `warnings.warn` if None.
        Where it raises, as under a filter that makes warnings errors, the line goes to the standard
        error, and the training goes on.
    """

    def __init__(
        self,
        config: Config,
        folder: str | Path | None,
        minutes: float = CHECKPOINT_MINUTES,
        backend: str = "",
        say: Say | None = None,
    ):
        self.config, self.backend = config, backend
        self.interval = 60.0 * check_minutes(minutes)
        self.path = checkpoint_of(config.id, folder) if folder and self.interval else None
        self.say = harmless(say or (lambda text: warnings.warn(text, stacklevel=5)))
        self.begin, self.before = time.perf_counter(), 0.0
        self.started, self.resumed = now(), ""
        self.models: dict[tuple[int, int], Snapshot] = {}
        self.changed = False  # whether it holds more than the file
        self.refused = ""  # why it was not written the last time
        self.lock, self.writing = threading.Condition(), threading.Lock()
        self.round = 0  # how often the models at work were asked where they are
        self.answered: dict[Hashable, int] = {}  # by job at work: the last round that it answered
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._write_now_and_then, daemon=True)

    @property
    def seconds(self) -> float:
        """Wall time of the training, that before it was resumed included."""
        return self.before + time.perf_counter() - self.begin

    def resume(self, patterns: int) -> Models:
        """The models of the file by (pair, model), none if there is no file that can be used.

        Parameters
        ----------
        patterns : int
            Evaluation patterns of the run.
        """
        if self.path is None:
            return {}
        if self.config.is_given:
            self._refuse_others()
        if not os.path.lexists(self.path):
            return {}
        try:
            state = read(self.path)
            if state.config.id != self.config.id:
                raise ConfigError(f"holds the run {state.config.id} under another name")
            if any(one.logits.shape[1] != patterns for one in state.models.values()):
                raise ConfigError("the number of evaluation patterns is wrong")
        except (ConfigError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if is_refused(error):
                right = "a checkpoint that can be read, or move it away to begin anew"
                raise ConfigError(reason, repr(str(self.path)), right) from None
            self._give_up(reason)
            return {}
        self.models = dict(state.models)
        self.before, self.started = state.seconds, state.started
        how = f"{now()} by {self.backend}, {state.share:.1%} done until {state.written}"
        self.resumed = "; ".join(filter(None, [state.resumed, how]))
        self.say(f"goes on from {str(self.path)!r}, {state.share:.0%} done until {state.written}")
        return dict(self.models)

    def _refuse_others(self) -> None:
        """Raise ConfigError if the same run was begun on other examples of the same file."""
        assert self.path is not None
        from nanorepro.training import checkpoint_file

        for path in found_in(self.path.parent):
            try:
                other = checkpoint_file.config_of(read_file(path))
            except (ConfigError, OSError):
                continue  # of another run or version, or damaged
            begun_before = other.content != self.config.content and other.data == self.config.data
            if begun_before and replace(other, content=self.config.content) == self.config:
                raise ConfigError(
                    f"the examples of {self.config.data} have changed since {str(path)!r} was"
                    " written",
                    "data",
                    "the file as it was, or remove the checkpoint to begin anew",
                )

    def _give_up(self, reason: str) -> None:
        """Move a file that cannot be used aside, where it is kept."""
        assert self.path is not None
        try:
            kept = f"kept as {str(set_aside(self.path))!r}"
        except OSError as error:
            kept = f"and cannot be moved aside ({error.strerror})"
        self.say(f"{str(self.path)!r}: {reason}; {kept}, the training begins anew")

    def due(self, job: Hashable) -> bool:
        """Whether a job at work should say where its models are."""
        if self.path is None:
            return False
        with self.lock:
            return self.answered.setdefault(job, self.round) < self.round

    def keep(self, job: Hashable, models: Models) -> None:
        """Hold where a job's models are; those before their first step need nothing."""
        with self.lock:
            self.models.update({key: one for key, one in models.items() if one.step})
            self.answered[job], self.changed = self.round, True
            self.lock.notify_all()

    def end_job(self, job: Hashable) -> None:
        """A job is not at work any more."""
        with self.lock:
            self.answered.pop(job, None)
            self.lock.notify_all()

    def __enter__(self) -> "Checkpoint":
        if self.path is not None:
            self.thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End; what was trained before an exception is written."""
        self.ended.set()
        with self.lock:
            self.lock.notify_all()
        if self.path is None:
            return
        self.thread.join()
        if error is not None and self.changed and self.models and self.write():
            self.say(f"{self.state().share:.0%} of the run is kept in {str(self.path)!r}")

    def write(self) -> bool:
        """Write the file; whether it could be, and why not is said once."""
        from nanorepro.training import checkpoint_file

        assert self.path is not None
        with self.writing:
            self.changed = False
            try:
                replace_file(self.path, checkpoint_file.encode(self.state()))
            except Exception as error:  # whatever it is, the training is worth more
                self.changed = True
                text = str(error) if isinstance(error, NotWritten) else repr(error)
                if text != self.refused:
                    what = "" if self.ended.is_set() else "; the training goes on"
                    self.say(f"no checkpoint: {text}{what}")
                self.refused = text
                return False
            self.refused = ""
            return True

    def state(self) -> RunState:
        """What it holds now."""
        with self.lock:
            models = dict(self.models)
        return RunState(self.config, models, self.seconds, self.started, now(), self.resumed)

    def _write_now_and_then(self) -> None:
        while not self.ended.wait(self.interval):
            with self.lock:
                self.round += 1
                self.lock.wait_for(self._all_answered, PATIENCE)
                wanted = self.changed
            if wanted and not self.ended.is_set():
                self.write()

    def _all_answered(self) -> bool:
        return self.ended.is_set() or all(r >= self.round for r in self.answered.values())


def harmless(say: Say) -> Say:
    """Say a line; what goes wrong with that ends no training and hides no other error."""

    def said(text: str) -> None:
        try:
            say(text)
        except Exception:
            with contextlib.suppress(OSError, AttributeError):  # closed, or there is none
                print(text, file=sys.stderr)

    return said


def now() -> str:
    """The time in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def found_in(folder: Path) -> Sequence[Path]:
    """The checkpoints in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if e.name.endswith(".checkpoint"))
    return []
