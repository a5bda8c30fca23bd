"""The engine of a cluster: the runs of a sweep as tasks of dask.distributed.

The cluster holds no state that counts.  The sweep leases runs, a worker makes them (`remote`), and
what it made is read and checked here before it is finished.  Whatever dies, the same command goes
on with what is left.
"""

import asyncio
import contextlib
import json
import logging
import math
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nanorepro.config import CONTRACT
from nanorepro.errors import ConfigError
from nanorepro.results import files, hdf5, store
from nanorepro.sweeps import journal, leases, remote
from nanorepro.sweeps.engines import (
    AHEAD,
    MOST_AHEAD,
    TRIES,
    At,
    Began,
    Ended,
    Event,
    Failed,
    Fatal,
    Told,
)
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.work import Settings, Task, words
from nanorepro.text import first_line
from nanorepro.version import __version__

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 7.0  # seconds in which a scheduler must answer and a worker be there
LOOK = 2.0  # seconds between two looks at which workers there are
PULSE = 0.5  # and at whether the scheduler is there
ALONE = 10.0  # seconds without a worker after which the user is told
LOST = 600.0  # and after which the sweep ends
CLOSING = 5.0  # seconds in which the futures must be cancelled
DAY = 86400.0
T = TypeVar("T")


@dataclass
class Submitted:
    """A run that was given to the cluster."""

    task: Task
    threads: int
    number: int = 0  # times that it was submitted
    begun: int = 0  # times that a worker began it
    lost: int = 0  # times that Dask gave it up
    worker: str = ""  # who did so last
    send: bool = False  # whether the bytes are wanted also of a worker that sees the folder
    start: bool = False  # whether the file that it starts from is sent with it
    only: frozenset[str] = frozenset()  # the workers that may make it; empty: all
    future: "Future[bytes] | None" = field(default=None, repr=False)


class Cluster:
    """Workers of a Dask cluster.

    Parameters
    ----------
    settings : Settings
        What holds for all runs.
    address : str
        Of the scheduler.
    resources : mapping of str to float, optional
        What each run takes of its worker, such as ``{"GPU": 1}``.
    patience : float
        Seconds in which the scheduler must answer and a worker be there.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        resources: Mapping[str, float] | None = None,
        patience: float = PATIENCE,
    ):
        self.settings = replace(settings, folder=str(Path(settings.folder).absolute()))
        self.address, self.patience = address, patience
        self.resources = dict(resources or {})
        self.folder = Folder(self.settings.folder)
        self.sweep = f"nanorepro-{secrets.token_hex(8)}"
        self.token = self.folder.path / leases.FOLDER / f"{self.sweep}.token"
        self.name = f"cluster {address}"
        self.slots = 0
        self.given: dict[str, Submitted] = {}
        self.arrived: queue.SimpleQueue[Event | tuple[str, Any]] = queue.SimpleQueue()
        self.pace: deque[float] = deque(maxlen=9)  # seconds of the last runs
        self.fit: set[str] = set()  # addresses of the workers that were found good
        self.unfit: dict[str, str] = {}  # of those that were not, and why
        self.levels: dict[str, int] = {}
        self.loop: asyncio.AbstractEventLoop
        self.thread: threading.Thread | None = None
        self.followed: set[asyncio.Task[None]] = set()
        self.client: Client

    # --- on the sweep's thread

    def connect(self) -> None:
        """Find the scheduler and the workers.

        Raises
        ------
        ConfigError
            If none answers, no worker fits, or a worker is one of another version or contract.
        """
        try:
            import distributed  # noqa: F401
        except ImportError:
            raise ConfigError(
                "--cluster needs dask.distributed, which is not installed;"
                " pip install 'nanorepro[cluster]'"
            ) from None
        self._hush()
        self.loop = asyncio.new_event_loop()
        # futures of Dask's that nobody asked complain when they are freed, at whatever time
        self.loop.set_exception_handler(lambda loop, context: None)
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        try:
            self._call(self._connect())
        except BaseException:
            self.close(cancel=True)
            raise

    def __enter__(self) -> "Cluster":
        if self.thread is None:
            self.connect()
        try:
            files.replace_file(self.token, self.sweep.encode())
        except BaseException:
            self.close(cancel=True)
            raise
        for path in self.token.parent.glob("*.token"):  # of sweeps that were killed
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > DAY:
                    path.unlink()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(cancel=any(exception))
        self.token.unlink(missing_ok=True)

    def wants(self) -> bool:
        ahead = 2
        if self.pace:
            ahead = 1 + math.ceil(AHEAD / max(sorted(self.pace)[len(self.pace) // 2], 1e-3))
        return len(self.given) < self.slots * min(max(ahead, 2), MOST_AHEAD)

    def give(self, task: Task, threads: int) -> None:
        self.given[task.config.id] = Submitted(task, threads)
        self._submit(task.config.id)

    def events(self, timeout: float) -> Sequence[Event]:
        found: list[Event] = []
        try:
            found += self._event(self.arrived.get(timeout=timeout))
            while True:
                found += self._event(self.arrived.get_nowait())
        except queue.Empty:
            return found

    def _event(self, arrived: Event | tuple[str, Any]) -> list[Event]:
        if not isinstance(arrived, tuple):
            return [arrived]
        what, content = arrived
        if what == "message":
            return self._message(content)
        id, number, data = content
        given = self.given.get(id)
        if given is None or given.number != number:
            return []
        if what == "answer":
            return self._answer(id, given, data)
        given.lost += 1
        if max(given.begun, given.lost) >= TRIES:
            return self._fail(id, f"its worker was lost {TRIES} times ({data})", TRIES)
        return self._again(id)

    def _message(self, message: Any) -> list[Event]:
        """What a worker says of the run that it is at; others may write to its topic, too."""
        if not isinstance(message, Mapping):
            return []
        id, done = str(message.get("id")), message.get("done")
        given = self.given.get(id)
        if given is None:
            return []
        if "begun" not in message:
            return [At(id, done)] if isinstance(done, int) else []
        if given.begun == TRIES:
            last = f"its worker was lost {TRIES} times (the last was {given.worker})"
            return self._fail(id, last, TRIES)
        given.begun, given.worker = given.begun + 1, str(message["begun"])
        return [Began(id)]

    def _answer(self, id: str, given: Submitted, data: bytes) -> list[Event]:
        """Take in what a worker answered: nothing of it is believed that is not checked."""
        line, _, content = data.partition(b"\n")
        try:
            answer = json.loads(line)
            if answer["sweep"] != self.sweep:  # of another sweep with the same run
                return self._again(id)
            if "refused" in answer:
                return self._refuse(id, answer["worker"], answer["refused"])
            if "needs" in answer and not given.start:
                given.start = True
                return self._again(id)
            if "failed" in answer:
                return self._fail(id, str(answer["failed"]), max(given.begun, 1))
            entry = self._store(given, content) if content else self._find(given)
            if entry is None:  # the file system does not show it yet
                given.send = True
                return self._again(id)
            trained, seconds = bool(answer["trained"]), float(answer["seconds"])
        except OSError as error:
            return [Fatal(words(error))]
        except (ConfigError, store.Conflict) as error:
            return self._fail(id, words(error), max(given.begun, 1))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return self._fail(id, f"its worker's answer is none ({words(error)})", given.begun)
        if trained:
            self.pace.append(seconds)
        self._drop(id)
        return [Ended(id, entry, trained)]

    def _store(self, given: Submitted, content: bytes) -> journal.Entry:
        """Store a run whose file a worker sent."""
        result = hdf5.decode(content)
        if result.config.id != given.task.config.id:
            raise ConfigError(f"its worker sent the run {result.config.id}")
        return self.folder.publish(result)

    def _find(self, given: Submitted) -> journal.Entry | None:
        """The entry of a run that a worker has stored; None if it cannot be seen here."""
        path = self.folder.file(given.task.config.id)
        if not path.exists():
            return None
        made = journal.entry(store.check(path, given.task.config), path)
        self.folder.append(made)
        return made

    def _refuse(self, id: str, worker: str, reason: str) -> list[Event]:
        """Give a run to others than a worker that came later and is none of ours."""
        new = worker not in self.unfit
        self.unfit[worker] = reason
        told = [Told(f"worker {worker} is not used: it {reason}")] if new else []
        return [*told, *self._again(id)]

    def _again(self, id: str) -> list[Event]:
        self._submit(id)
        return []

    def _fail(self, id: str, reason: str, tries: int) -> list[Event]:
        self._drop(id, cancel=True)
        return [Failed(id, reason, tries)]

    def _drop(self, id: str, cancel: bool = False) -> None:
        given = self.given.pop(id)
        if given.future is not None:
            self.loop.call_soon_threadsafe(self._release, given.future, cancel)

    def _submit(self, id: str) -> None:
        given = self.given[id]
        task = given.task
        start = Path(task.start).read_bytes() if task.start and given.start else b""
        task = replace(task, start=str(Path(task.start).absolute()) if task.start else "")
        request = {
            "version": __version__, "contract": CONTRACT, "sweep": self.sweep, "id": id,
            "task": task.record(), "settings": asdict(self.settings), "engine": self.name,
            "threads": given.threads, "token": self.sweep, "send": given.send,
        }  # fmt: skip
        self.loop.call_soon_threadsafe(self._begin, id, given, json.dumps(request), start)

    def _call(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self, cancel: bool = False) -> None:
        """End the connection, and the runs that were given if they are to be cancelled."""
        if self.thread is None or self.loop.is_closed():
            return
        with contextlib.suppress(Exception):  # a scheduler that is gone need not be told
            self._call(self._end(cancel), CLOSING)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(CLOSING)
        if not self.thread.is_alive():
            self.loop.close()
        for name, level in self.levels.items():
            logging.getLogger(name).setLevel(level)

    def _hush(self) -> None:
        """Let Dask not log what is said here in a line."""
        names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "distributed"]
        for name in [*names, "tornado", "asyncio"]:
            logger = logging.getLogger(name)
            self.levels[name] = logger.level
            logger.setLevel(logging.CRITICAL + 1)

    # --- on the thread of the connection

    async def _connect(self) -> None:
        from distributed import Client

        deadline = time.monotonic() + self.patience
        try:
            self.client = Client(
                self.address, asynchronous=True, set_as_default=False, name="nanorepro",
                timeout=self.patience, deserializers=["dask", "msgpack"],
            )  # fmt: skip
            await asyncio.wait_for(self.client, self.patience + 1.0)
        except (Exception, asyncio.CancelledError) as error:
            raise ConfigError(
                f"--cluster: no scheduler answers at {self.address} ({first_line(error)}); give the"
                " address that `dask scheduler` shows"
            ) from None
        while True:
            there = await self._workers()
            if await self._examine(there) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        if self.unfit:
            names = {address: worker.get("name") for address, worker in there.items()}
            which = "; ".join(
                f"{_named(a, names[a])} {why}" for a, why in sorted(self.unfit.items())
            )
            raise ConfigError(
                f"--cluster: workers that are not used: {which}; this is nanorepro {__version__},"
                f" contract {CONTRACT}; start them with the same"
            )
        if not self.slots:
            needs = ",".join(f"{name}={value:g}" for name, value in self.resources.items())
            start = f"dask worker {self.address}" + (f" --resources {needs}" if needs else "")
            found = f"none of its {len(there)} workers has {needs}" if there else "it has no worker"
            raise ConfigError(f"--cluster: {found} ({self.address}); start one: {start}")
        self.client.subscribe_topic(self.sweep, self._hear)
        self._keep(self._watch())

    async def _workers(self) -> dict[str, dict[str, Any]]:
        """The workers of the scheduler by address."""
        found = await self.client.scheduler.identity(n_workers=-1)
        return dict(found["workers"])

    def _room(self, worker: Mapping[str, Any]) -> int:
        """Runs that a worker can make at a time, by its threads and what it has of the rest."""
        has = worker.get("resources") or {}
        rooms = [int(has.get(name, 0.0) / need) for name, need in self.resources.items()]
        return max(0, min([int(worker["nthreads"]), *rooms]))

    async def _examine(self, there: Mapping[str, Mapping[str, Any]]) -> int:
        """Ask workers that are new what they are; the runs that the good ones make at a time."""
        able = [address for address, worker in there.items() if self._room(worker)]
        new = [address for address in able if address not in self.fit and address not in self.unfit]
        if new:
            answers = await asyncio.gather(*map(self._ask, new))
            for address, answer in zip(new, answers, strict=True):
                wrong = self._wrong(answer)
                if wrong:
                    self.unfit[address] = wrong
                else:
                    self.fit.add(address)
        self.slots = sum(self._room(there[address]) for address in able if address in self.fit)
        return self.slots + len(self.unfit)

    async def _ask(self, address: str) -> Any:
        """What a worker says that it is, or what went wrong; None if it does not answer in time."""
        run = self.client.run(remote.describe, workers=[address], on_error="return")
        try:
            return (await asyncio.wait_for(run, self.patience)).get(address)
        except TimeoutError:
            return None

    def _wrong(self, answer: Any) -> str:
        """Why a worker cannot be used; empty if it can."""
        if answer is None:
            return f"does not answer within {self.patience:g} s"
        if not isinstance(answer, Mapping):
            return f"cannot run nanorepro ({words(answer)})"
        found = answer.get("version"), answer.get("contract")
        if found != (__version__, CONTRACT):
            return "has nanorepro {}, contract {}".format(*found)
        return ""

    def _begin(self, id: str, given: Submitted, request: str, start: bytes) -> None:
        """Submit a run: its key is its id, unless it was submitted before."""
        if given.future is not None:
            self._release(given.future, cancel=False)
        key = f"{id}-{secrets.token_hex(4)}" if given.number else id
        given.number += 1
        given.only = frozenset(self.fit) if self.unfit else frozenset()
        given.future = self.client.submit(
            remote.perform, request, start, key=key, pure=False, workers=sorted(given.only) or None,
            resources=self.resources or None, fifo_timeout="0 ms",
        )  # fmt: skip
        self._keep(self._follow(id, given.number, given.future))

    async def _follow(self, id: str, number: int, future: "Future[bytes]") -> None:
        """Wait for the answer of a run."""
        from distributed import CancelledError

        try:
            answer = await future
            if not isinstance(answer, bytes):
                raise TypeError("its answer is no bytes")
        except (Exception, CancelledError) as error:
            if self.client.status == "running":
                self.arrived.put(("lost", (id, number, first_line(error))))
        else:
            self.arrived.put(("answer", (id, number, answer)))

    def _release(self, future: "Future[bytes]", cancel: bool) -> None:
        if cancel:
            self._keep(self._cancel(future))
        else:
            future.release()

    async def _cancel(self, future: "Future[bytes]") -> None:
        await self.client.cancel([future])

    def _hear(self, event: tuple[float, Any]) -> None:
        self.arrived.put(("message", event[1]))

    async def _watch(self) -> None:
        """Notice that the scheduler is gone, and which workers come and go."""
        looked = alone = time.monotonic()
        told = False
        while True:
            await asyncio.sleep(PULSE)
            if self.client.status != "running":
                self.arrived.put(Fatal(f"the scheduler at {self.address} is gone"))
                return
            now = time.monotonic()
            if now - looked < LOOK:
                continue
            looked = now
            try:
                there = await self._workers()
                before = set(self.unfit)
                await self._examine(there)
            except Exception:
                continue  # a scheduler that is going; the next look tells
            for address in sorted(set(self.unfit) - before):
                name = _named(address, there.get(address, {}).get("name"))
                self.arrived.put(Told(f"worker {name} is not used: it {self.unfit[address]}"))
            self.fit &= set(there)
            if self.slots:
                alone, told = now, False
            elif now - alone > LOST:
                self.arrived.put(Fatal(f"no worker has been at {self.address} for {LOST:.0f} s"))
                return
            elif now - alone > ALONE and not told:
                told = True
                self.arrived.put(Told(f"no worker is left at {self.address}; waiting for one"))
            self._move(set(there))

    def _move(self, there: set[str]) -> None:
        """Give runs anew that only workers may make which are gone."""
        for id, given in list(self.given.items()):
            if given.only and self.fit and not given.only & there:
                self.arrived.put(("lost", (id, given.number, "it is gone")))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.followed.add(task)
        task.add_done_callback(self.followed.discard)

    async def _end(self, cancel: bool) -> None:
        """Cancel what is left, and close the connection."""
        tasks = list(self.followed)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not hasattr(self, "client"):
            return
        futures = [g.future for g in self.given.values() if g.future is not None]
        if cancel and futures and self.client.status == "running":
            await self.client.cancel(futures)
        with contextlib.suppress(Exception):
            await self.client.close(timeout=CLOSING / 2)


def _named(address: str, name: object) -> str:
    """A worker by its address, and by its name if that is another."""
    return address if name in (None, address) else f"{address} (name {name})"
