"""How far a run is, on standard error: a bar on a terminal, a line now and then in a log."""

import contextlib
import shutil
import threading
import time
from typing import TextIO

LOG_SECONDS = 10.0
BAR_SECONDS = 0.2
WIDTH = 24


class Progress:
    """The progress of one run: `with Progress(...) as report: simulate(..., progress=report)`.

    A thread of its own draws it, so that something is seen also before the first report.
    """

    def __init__(self, stream: TextIO, waiting: str, name: str = "nanorepro"):
        self.stream, self.waiting, self.name = stream, waiting, name
        self.terminal = stream.isatty()
        self.done = self.total = 0
        self.first: tuple[float, int] | None = None  # when the first report came, and with what
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self._draw, daemon=True)

    def __call__(self, done: int, total: int) -> None:
        if self.first is None:
            self.first = time.perf_counter(), done
        self.done, self.total = done, total

    def __enter__(self) -> "Progress":
        self.begin = time.perf_counter()
        self._show()
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.finished.set()
        self.thread.join()
        self._show(last=True)

    def text(self) -> str:
        """What there is to say: `45 %, 0:12 left`."""
        passed = time.perf_counter() - self.begin
        if self.first is None:
            return f"{self.waiting} {clock(passed)}"
        begin, before = self.first
        share = self.done / self.total
        if self.done == self.total:
            return f"100 %, {self.total:,} examples in {clock(passed)}"
        if self.done == before:
            return f"{share:4.0%}"
        left = (time.perf_counter() - begin) * (self.total - self.done) / (self.done - before)
        return f"{share:4.0%}, {clock(left)} left"

    def say(self, line: str) -> None:
        """Show a line that stays."""
        begin = "\r\x1b[K" if self.terminal else ""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(f"{begin}{self.name}: {line}\n")
            self.stream.flush()

    def _show(self, last: bool = False) -> None:
        line = f"{self.name}: {self.text()}"
        if self.terminal:
            if self.first is not None:
                filled = WIDTH * self.done // self.total
                line = f"{self.name}: [{'#' * filled:<{WIDTH}}] {self.text()}"
            line = "\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1]
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            self.stream.write(line + ("\n" if last or not self.terminal else ""))
            self.stream.flush()

    def _draw(self) -> None:
        while not self.finished.wait(BAR_SECONDS if self.terminal else LOG_SECONDS):
            self._show()


def clock(seconds: float) -> str:
    """Seconds as 0:07, 12:34 or 1:02:03."""
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def duration(seconds: float) -> str:
    """Seconds as 0.21 s, or as 1:02:03 from about ten on."""
    return f"{seconds:.2g} s" if seconds < 9.5 else clock(seconds)
