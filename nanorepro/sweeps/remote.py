"""What runs on a worker of a Dask cluster: one run, asked for in JSON and answered in bytes.

A worker trusts what it is asked as little as it is trusted: the configuration is checked as one
from any other file.  A worker that sees the folder, which a token in it tells, stores the run there
itself; another one sends the bytes of the run's file.
"""

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO, Any

from nanorepro.config import CONTRACT
from nanorepro.errors import ConfigError
from nanorepro.results import hdf5, store
from nanorepro.results.files import read_file
from nanorepro.sweeps import leases
from nanorepro.sweeps.work import Settings, Task, train, words
from nanorepro.version import __version__

REPORT = 1.0  # seconds between two reports of a run
CACHES = 1024  # workers of one machine that keep compiled code
CLOSING = ("closing", "closed", "failed")
LOCK = threading.Lock()


class Stopped(Exception):
    """Raised in the middle of a run that nobody waits for any more."""


def describe() -> dict[str, Any]:
    """Which program a worker runs."""
    return {"version": __version__, "contract": CONTRACT}


def perform(request: str, start: bytes) -> bytes:
    """Make a run.

    Parameters
    ----------
    request : str
        JSON: ``task``, ``settings``, ``threads``, ``token``, ``send``, and the ``version`` and
        ``contract`` of the sweep, whose name is ``sweep``.
    start : bytes
        The file of the run whose parameters the run starts from; empty if it starts from initial
        values, or the worker is to look whether it sees that file itself.

    Returns
    -------
    bytes
        A line of JSON, and after it the run's file unless it was stored.  The line has ``stored``,
        ``trained`` and ``seconds``; or why not: ``failed``, ``refused``, ``needs``, the last if it
        has to be asked with `start`.
    """
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    asked = json.loads(request)
    common = {"sweep": asked["sweep"], "worker": worker.address}

    def answer(data: bytes = b"", **found: Any) -> bytes:
        return json.dumps({**common, **found}).encode() + b"\n" + data

    if (asked["version"], asked["contract"]) != (__version__, CONTRACT):
        return answer(refused=f"has nanorepro {__version__}, contract {CONTRACT}")
    begin = last = time.monotonic()
    id = asked["id"]

    def report(done: int, total: int) -> None:
        nonlocal last
        if worker.status.name in CLOSING:
            raise distributed.Reschedule
        state = worker.state.tasks.get(key)
        if state is None or state.state in ("cancelled", "released"):
            raise Stopped
        now = time.monotonic()
        if now - last > REPORT and done < total:
            last = now
            worker.log_event(asked["sweep"], {"id": id, "done": done})

    try:
        task = Task.of(asked["task"])
        if task.config.id != id:
            raise ConfigError(f"the configuration is that of run {task.config.id}")
        settings = Settings(**asked["settings"])
        shares = sees(Path(settings.folder), asked["token"])
        path = store.path_of(task.config, settings.folder)
        if shares and path.exists():
            if not asked["send"]:
                return answer(stored=True, trained=False, seconds=0.0)
            return answer(path.read_bytes(), stored=False, trained=False, seconds=0.0)
        if task.start and not start:
            start = start_of(task)
            if not start:
                return answer(needs="start")
        worker.log_event(asked["sweep"], {"id": id, "begun": str(worker.name)})
        with LOCK:
            own_cache(worker.local_directory)
        if not shares:  # a checkpoint that nobody else finds is of no use
            settings = replace(settings, checkpoint_minutes=0.0)
        threads = max(1, min(asked["threads"], worker.state.nthreads))
        engine = f"{asked['engine']}, worker {worker.name}"
        result = train(task, settings, engine, threads, report, start or None)
        seconds = time.monotonic() - begin
        if shares and not asked["send"]:
            with contextlib.suppress(OSError):  # the sweep itself may, or says why it cannot
                store.save(result, settings.folder)
                return answer(stored=True, trained=True, seconds=seconds)
        return answer(hdf5.encode(result), stored=False, trained=True, seconds=seconds)
    except (distributed.Reschedule, Stopped):
        raise
    except Exception as error:
        return answer(failed=words(error))


def sees(folder: Path, token: str) -> bool:
    """Whether a worker sees the folder of the sweep, and not another one of the same name."""
    try:
        return (folder / leases.FOLDER / f"{token}.token").read_text() == token
    except (OSError, ValueError):
        return False


def start_of(task: Task) -> bytes:
    """The file of the run that a run starts from; empty if this process does not see that file."""
    try:
        data = read_file(Path(task.start))
        right = hdf5.decode(data).fingerprint == task.config.warm_start
    except (OSError, ValueError):
        return b""
    return data if right else b""


@cache
def own_cache(scratch: str) -> IO[bytes] | None:
    """Give this process a folder of its own for compiled code, before Numba is imported.

    Numba's cache is not made for processes that share it.  The folder, below NUMBA_CACHE_DIR or
    beside the worker's scratch folder, is the first that no other process holds, so that a worker
    finds what one before it has compiled.

    Returns
    -------
    file or None
        Open, and locked, for as long as the process lives; None where there is no place for it.
    """
    import fcntl

    above = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(scratch).parent)
    host = re.sub(r"\W", "_", socket.gethostname())
    for number in range(CACHES):
        folder = above / f"nanorepro-{host}-{number}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = open(folder / "lock", "ab")  # noqa: SIM115 (held until the process ends)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
        if "numba" in sys.modules:
            sys.modules["numba"].config.CACHE_DIR = str(folder)
        return lock
    return None
