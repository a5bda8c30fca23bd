"""Ctrl-C and termination: at once, by an exception, or as soon as a checkpoint is written."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143  # exit statuses: 128 and the signal's number
GRACE = 20.0  # seconds in which a checkpoint must be written; Slurm kills after 30
TOGETHER = 0.25  # seconds within which two signals are one: `timeout` sends it to the group, too
Handler = Callable[[int, FrameType | None], Any]


class Terminated(BaseException):
    """The process was asked to end (SIGTERM, or SIGHUP of a terminal that closed)."""


def _ending() -> dict[int, tuple[int, str]]:
    """The signals that end a command, with the exit status and the word for each."""
    found = {signal.SIGINT: (INTERRUPTED, "interrupted"),
             signal.SIGTERM: (TERMINATED, "terminated")}  # fmt: skip
    if hasattr(signal, "SIGHUP"):
        found[signal.SIGHUP] = (128 + signal.SIGHUP, "terminated")
    return {int(number): words for number, words in found.items()}


@contextlib.contextmanager
def _handled(handlers: dict[int, Handler]) -> Iterator[None]:
    """Handlers for signals; one that is ignored, as by nohup or in the background, stays so."""
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Apart:
    """Whether a signal is one of its own, and not that of just before sent once more."""

    def __init__(self) -> None:
        self.last = -math.inf

    def __call__(self) -> bool:
        now = time.monotonic()
        found = now - self.last >= TOGETHER
        self.last = now if found else self.last
        return found


@contextlib.contextmanager
def termination_raises() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated, so that files under a temporary name are removed."""

    apart = _Apart()

    def end(number: int, frame: FrameType | None) -> None:
        if apart():
            raise Terminated(number)

    with _handled({n: end for n in _ending() if n != signal.SIGINT}):
        yield


@contextlib.contextmanager
def ends_at_once(name: str, said: str = "") -> Iterator[None]:
    """A signal to end does so here, without waiting for threads at work; nothing is stored.

    `said`: what the user should know then.
    """

    def end(number: int, frame: FrameType | None) -> None:
        _exit(name, number, said)

    with _handled(dict.fromkeys(_ending(), end)):
        yield


@contextlib.contextmanager
def ends_when_kept(name: str, begun: Callable[[], bool]) -> Iterator[None]:
    """A signal to end raises KeyboardInterrupt or Terminated, so that a checkpoint is written.

    The process ends at once where `begun` says that there is nothing to write, at a second signal,
    and after `GRACE`.
    """
    timers: list[threading.Timer] = []
    apart = _Apart()

    def end(number: int, frame: FrameType | None) -> None:
        if not apart():
            return
        if timers or not begun():
            _exit(name, number)
        timers.append(threading.Timer(GRACE, _exit, (name, number)))
        timers[0].daemon = True
        timers[0].start()
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    with _handled(dict.fromkeys(_ending(), end)):
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()


def _exit(name: str, number: int, said: str = "") -> None:
    """End the process because of a signal, whatever its threads do."""
    status, word = _ending()[number]
    with contextlib.suppress(OSError):
        os.write(2, f"\n{name}: {word}{said and '; '}{said}\n".encode(errors="replace"))
    os._exit(status)
