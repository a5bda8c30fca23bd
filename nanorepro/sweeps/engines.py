"""What an engine is, and those of this machine: processes that make one run after another."""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Protocol

from nanorepro.sweeps.gpus import VISIBLE
from nanorepro.sweeps.journal import Entry
from nanorepro.sweeps.progress import SweepProgress
from nanorepro.sweeps.reading import environment
from nanorepro.sweeps.work import Settings, Task, make, words
from nanorepro.training.checkpoints import Say

TRIES = 3  # times that a run is begun whose workers die
AHEAD = 0.25  # seconds of work that a worker is given ahead
MOST_AHEAD = 32  # and runs, of a worker at a time
MEMORY = 1 << 30  # bytes after which a worker is replaced by a new one
PATIENCE = 15.0  # seconds in which workers must have ended


@dataclass(frozen=True)
class Began:
    """A run was begun."""

    id: str


@dataclass(frozen=True)
class At:
    """A run is at this many examples, each counted once for every model."""

    id: str
    done: int


@dataclass(frozen=True)
class Ended:
    """A run is finished and stored; `trained` is False if another sweep had stored it."""

    id: str
    entry: Entry
    trained: bool


@dataclass(frozen=True)
class Failed:
    """A run failed for good."""

    id: str
    reason: str
    tries: int


@dataclass(frozen=True)
class Fatal:
    """Nothing can go on, such as with a full disk."""

    reason: str


@dataclass(frozen=True)
class Told:
    """Something that the user should know."""

    text: str


Event = Began | At | Ended | Failed | Fatal | Told


class Engine(Protocol):
    """What makes runs; a context."""

    name: str
    slots: int

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *exception: object) -> None: ...

    def wants(self) -> bool:
        """Whether it can be given one more run."""

    def give(self, task: Task, threads: int) -> None:
        """Make a run, with as many threads."""

    def events(self, timeout: float) -> Sequence[Event]:
        """What happened since the last call; waits for something to happen."""


class ThisProcess:
    """The process of the sweep itself, which makes one run after another with all threads.

    Parameters
    ----------
    settings : Settings
        What holds for all runs.
    progress : SweepProgress
        Told of the run at work.
    say : callable
        Takes a line about a checkpoint.
    """

    def __init__(self, settings: Settings, progress: SweepProgress, say: Say):
        self.name, self.slots = "one process", 1
        self.settings, self.progress, self.say = settings, progress, say
        self.given: tuple[Task, int] | None = None

    def __enter__(self) -> "ThisProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def wants(self) -> bool:
        return self.given is None

    def give(self, task: Task, threads: int) -> None:
        self.given = task, threads

    def events(self, timeout: float) -> Sequence[Event]:
        if self.given is None:
            time.sleep(timeout)
            return []
        (task, threads), self.given = self.given, None
        self.progress.begin_run(task)

        def report(done: int, total: int) -> None:
            self.progress.report(task, done)

        try:
            entry, trained = make(task, self.settings, self.name, threads, report, self.say)
        except OSError as error:  # the disk is full, or the folder is gone: so for all runs
            return [Fatal(words(error))]
        except Exception as error:
            return [Failed(task.config.id, words(error), 1)]
        return [Ended(task.config.id, entry, trained)]


@dataclass(eq=False)
class Process:
    """A worker: its process, the runs it was given, which of them it is at, and its GPU."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    given: deque[tuple[Task, int]] = field(default_factory=deque)
    at: str = ""
    ready: bool = False
    retired: bool = False
    gpu: str = ""

    def send(self, message: dict[str, Any]) -> None:
        """Send a line; that the worker is gone is noticed elsewhere."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def hang_up(self) -> None:
        """Let the worker know that nothing more comes."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def last_words(self) -> str:
        """How it ended, and the last line that it printed."""
        code = self.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        self.errors.seek(0)
        lines = self.errors.read()[-4096:].decode(errors="replace").split("\n")
        last = next((text.strip() for text in reversed(lines) if text.strip()), "")
        return f"{how}: {last}" if last else how


class Local:
    """Processes of this machine.

    Parameters
    ----------
    settings : Settings
        What holds for all runs.
    slots : int
        Processes side by side.
    memory : int
        Bytes that a process may hold; one that holds more is replaced when its run has ended.
    gpus : sequence of str
        A GPU for each of the processes, as CUDA_VISIBLE_DEVICES names them; nothing without.
    """

    def __init__(
        self, settings: Settings, slots: int, memory: int = MEMORY, gpus: Sequence[str] = ()
    ):
        self.gpus = tuple(gpus)
        self.name = f"local, {slots} {'process' if slots == 1 else 'processes'}"
        self.settings, self.slots, self.memory = settings, slots, memory
        self.workers: list[Process] = []
        self.waiting: deque[tuple[Task, int]] = deque()  # given back by workers that ended
        self.tries: dict[str, int] = {}
        self.arrived: queue.SimpleQueue[tuple[Process, dict[str, Any] | None]]
        self.arrived = queue.SimpleQueue()
        self.pace: deque[float] = deque(maxlen=9)  # seconds by cost of the last runs
        self.stillborn = 0  # workers one after another that ended before they were ready

    def __enter__(self) -> "Local":
        try:
            for _ in range(self.slots):
                self._start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self.workers:
            if any(exception):
                worker.send({"stop": True})
            worker.hang_up()
        deadline = time.monotonic() + PATIENCE
        try:
            for worker in self.workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(deadline - time.monotonic(), 0.0))
        finally:
            for worker in self.workers:
                worker.process.kill()
                worker.process.wait()
                worker.errors.close()

    def wants(self) -> bool:
        return not self.waiting and any(self._room(w) for w in self.workers)

    def give(self, task: Task, threads: int) -> None:
        rooms = [w for w in self.workers if self._room(w)]
        if not rooms:
            self.waiting.append((task, threads))
            return
        worker = min(rooms, key=self._ahead)
        worker.given.append((task, threads))
        worker.send({"id": task.config.id, "task": task.record(), "threads": threads})

    def events(self, timeout: float) -> Sequence[Event]:
        found: list[Event] = []
        with contextlib.suppress(queue.Empty):
            found += self._event(*self.arrived.get(timeout=timeout))
            while True:
                found += self._event(*self.arrived.get_nowait())
        while self.waiting and any(self._room(w) for w in self.workers):
            self.give(*self.waiting.popleft())
        return found

    def _room(self, worker: Process) -> bool:
        """Whether a worker has too little to do."""
        if not worker.given:
            return not worker.retired
        if worker.retired or not self.pace or len(worker.given) >= MOST_AHEAD:
            return False
        return self._ahead(worker) < AHEAD

    def _ahead(self, worker: Process) -> float:
        """Seconds of work that a worker was given."""
        pace = sorted(self.pace)[len(self.pace) // 2] if self.pace else 0.0
        return sum(task.cost * pace for task, _ in worker.given)

    def _start(self) -> None:
        held = {worker.gpu for worker in self.workers}
        gpu = next((gpu for gpu in self.gpus if gpu not in held), "")
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        process = subprocess.Popen(
            [sys.executable, "-m", "nanorepro.sweeps.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment() | ({VISIBLE: gpu} if gpu else {}),
            start_new_session=True,  # Ctrl-C is for the sweep, which tells its workers
        )
        worker = Process(process, errors, gpu=gpu)
        self.workers.append(worker)
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        settings = asdict(self.settings)
        worker.send({"settings": settings, "memory": self.memory, "engine": self.name})

    def _read(self, worker: Process) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for text in lines:
                with contextlib.suppress(ValueError):  # a line that was torn by its end
                    self.arrived.put((worker, json.loads(text)))
        self.arrived.put((worker, None))

    def _event(self, worker: Process, message: dict[str, Any] | None) -> list[Event]:
        if message is None:
            return self._ended(worker)
        if "ready" in message:
            worker.ready, self.stillborn = True, 0
        elif "begin" in message:
            worker.at = message["begin"]
            return [Began(worker.at)]
        elif "at" in message:
            return [At(message["at"], message["done"])]
        elif "note" in message:
            return [Told(f"run {message['note']}: {message['text']}")]
        elif "retired" in message:
            worker.retired = True
        elif "fatal" in message:
            return [Fatal(message["fatal"])]
        elif "failed" in message:
            self._done(worker)
            return [Failed(message["failed"], message["reason"], self._tried(message["failed"]))]
        elif "end" in message:
            task = self._done(worker)
            if message["trained"]:
                self.pace.append(message["seconds"] / task.cost)
            return [Ended(message["end"], Entry(**message["entry"]), message["trained"])]
        return []

    def _done(self, worker: Process) -> Task:
        worker.at = ""
        return worker.given.popleft()[0]

    def _tried(self, id: str) -> int:
        return self.tries.get(id, 0) + 1

    def _ended(self, worker: Process) -> list[Event]:
        """Replace a worker that ended; its runs are given to others, the one at work again."""
        self.workers.remove(worker)
        worker.hang_up()
        reason = worker.last_words()
        worker.errors.close()
        events: list[Event] = []
        if not worker.ready:
            self.stillborn += 1
            if self.stillborn >= TRIES:
                return [Fatal(f"workers do not start ({reason})")]
        elif worker.given and not worker.retired:  # in the middle of a run, or as it began one
            id = worker.at or worker.given[0][0].config.id
            self.tries[id] = self._tried(id)
            if self.tries[id] >= TRIES:
                worker.given.popleft()
                words = f"its process ended {TRIES} times ({reason})"
                events.append(Failed(id, words, TRIES))
        self.waiting.extendleft(reversed(worker.given))
        self._start()
        return events
