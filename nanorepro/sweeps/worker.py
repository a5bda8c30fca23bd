"""A process of the local engine: runs come in as lines of JSON, and what became of them goes out.

In:  {"settings": {...}} once, {"id": id, "task": {...}, "threads": 1} for each run, {"stop": true}
Out: {"ready": ...}, {"begin": id}, {"at": id, "done": examples}, {"end": id, "entry": {...}, ...},
     {"note": id, "text": ...}, {"failed": id, "reason": ...}, {"fatal": ...}, {"retired": ...}

When the input ends, the process that asked is gone or has no more runs: the worker ends; one in
the middle of a run writes its checkpoint first.
"""

import contextlib
import json
import os
import queue
import resource
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

REPORT = 0.2  # seconds between two reports of a run
GRACE = 10.0  # seconds in which a run that is to end early must have ended


class Stopped(Exception):
    """Raised in the middle of a run that is to end early."""


class Worker:
    """What comes in, what goes out, and whether it is to end."""

    def __init__(self) -> None:
        # what libraries print must not come between the lines
        self.out = os.dup(1)
        os.dup2(2, 1)
        self.tasks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.stop = threading.Event()
        self.busy = False
        self.lock = threading.Lock()

    def say(self, **message: Any) -> None:
        """Send a line; a reader that is gone ends the worker."""
        data = json.dumps(message).encode() + b"\n"
        try:
            with self.lock:
                while data:
                    data = data[os.write(self.out, data) :]
        except OSError:
            os._exit(1)

    def listen(self) -> None:
        """Take in lines until the input ends."""
        rest = b""
        with contextlib.suppress(OSError):
            while data := os.read(0, 1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for text in lines:
                    message = json.loads(text)
                    if "stop" in message:
                        self.end()
                    else:
                        self.tasks.put(message)
        if self.busy:
            self.end()
        self.tasks.put(None)

    def end(self, *_: object) -> None:
        """End the run at work soon, and the process with it."""
        self.stop.set()
        self.tasks.put(None)

        def kill() -> None:
            time.sleep(GRACE)
            os._exit(1)

        threading.Thread(target=kill, daemon=True).start()

    def work(self) -> None:
        """Make run after run until there are no more."""
        from nanorepro.sweeps.work import Settings

        first = self.tasks.get()
        if first is None:
            return
        settings, most = Settings(**first["settings"]), first["memory"]
        engine = first["engine"]
        self.say(ready=os.getpid())
        while not self.stop.is_set() and (message := self.tasks.get()) is not None:
            self.busy = True
            self.say(begin=message["id"])
            self.make(message, settings, engine)
            self.busy = False
            if resident() > most:
                self.say(retired=resident())
                return

    def make(self, message: dict[str, Any], settings: Any, engine: str) -> None:
        """Make the run of a message and say what became of it."""
        from nanorepro.sweeps.work import Task, make, words

        id, last = message["id"], time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if self.stop.is_set():
                raise Stopped
            now = time.monotonic()
            if now - last > REPORT and done < total:
                last = now
                self.say(at=id, done=done)

        def note(text: str) -> None:
            if not self.stop.is_set():
                self.say(note=id, text=text)

        begin = time.monotonic()
        try:
            task = Task.of(message["task"])
            if task.config.id != id:
                raise ValueError(f"it is run {task.config.id} here: the package was changed")
            entry, trained = make(task, settings, engine, message["threads"], report, note)
        except Stopped:
            return
        except OSError as error:  # the disk is full, or the folder is gone: so for all runs
            self.say(fatal=words(error), id=id)
        except Exception as error:
            self.say(failed=id, reason=words(error))
        else:
            seconds = time.monotonic() - begin
            self.say(end=id, entry=asdict(entry), trained=trained, seconds=seconds)


def resident() -> int:
    """Bytes of memory that the process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return pages * resource.getpagesize()


def main() -> None:
    worker = Worker()
    signal.signal(signal.SIGTERM, worker.end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
