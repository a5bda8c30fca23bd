"""A Dask cluster on this machine, by Dask's own commands."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


class Dask:
    """A scheduler and workers on loopback, each a process of its own whose output is in a file.

    Parameters
    ----------
    folder : Path
        Of the outputs, and where the processes are.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.schedule()

    def schedule(self) -> None:
        """Start the scheduler."""
        self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))
        self.wait("scheduler", "Scheduler at")

    def work(self, name: str, *words: str, nanny: bool = False, **environ: str) -> None:
        """Start a worker of one thread and wait until the scheduler knows it."""
        fixed = ["--nthreads", "1", "--name", name, "--nanny" if nanny else "--no-nanny"]
        scratch = ["--local-directory", str(self.folder / "scratch")]
        self.start("worker", self.address, *fixed, *scratch, *words, name=name, **environ)
        self.wait(name, "Registered to")

    def start(self, kind: str, *words: str, name: str = "", **environ: str) -> None:
        """Start a process by one of Dask's commands."""
        name = name or kind
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "wb") as log:
            self.children[name] = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, *words, "--no-dashboard"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environ}, start_new_session=True,
            )  # fmt: skip

    def wait(self, name: str, words: str) -> None:
        """Wait until a process has said something."""
        until(lambda: words in self.log(name) or self.children[name].poll() is not None)
        assert words in self.log(name), self.log(name)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """SIGKILL a process, and those that it has started."""
        child = self.children.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()

    def close(self) -> None:
        """End all processes."""
        for name in list(self.children):
            self.kill(name)
