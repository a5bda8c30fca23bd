"""Ctrl-C and termination: at once while threads are at work, by an exception elsewhere."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143  # exit statuses: 128 and the signal's number
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


@contextlib.contextmanager
def termination_raises() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Terminated, so that files under a temporary name are removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    with _handled({n: end for n in _ending() if n != signal.SIGINT}):
        yield


@contextlib.contextmanager
def ends_at_once(name: str) -> Iterator[None]:
    """A signal to end does so here, without waiting for threads at work; nothing is stored."""
    ending = _ending()

    def end(number: int, frame: FrameType | None) -> None:
        status, word = ending[number]
        with contextlib.suppress(OSError):
            os.write(2, f"\n{name}: {word}\n".encode())
        os._exit(status)

    with _handled(dict.fromkeys(ending, end)):
        yield
