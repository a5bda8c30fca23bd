"""Standard output and error of a command: text that cannot be encoded degrades, nobody need read.

Results are stored before they are printed, so output that cannot be written loses nothing.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from nanorepro.errors import ConfigError
from nanorepro.text import in_one_line

LONGEST = 1000  # characters of an error's line


class OutputLost(Exception):
    """Standard output could not be written."""

    def __init__(self, reason: OSError):
        super().__init__(reason)
        self.reason = reason


class Console:
    """Where a command prints; `name` stands before its messages."""

    def __init__(self, name: str):
        self.name = name
        self.problem: OSError | None = None  # why standard output could not be written
        self.gone = False  # whether its reader has gone away

    def say(self, text: str = "") -> None:
        """Print on standard output; a reader that has gone away is no error."""
        try:
            print(text, flush=True)
        except OSError as error:
            self.lost(error)

    def lost(self, reason: OSError) -> None:
        """Go on without standard output; that its reader has gone away is no problem."""
        if isinstance(reason, BrokenPipeError):
            self.gone = True
        else:
            self.problem = self.problem or reason
        _discard(sys.stdout)

    def warn(self, message: object) -> None:
        """Print one line on standard error, if it can be written."""
        line = in_one_line(str(message))
        if len(line) > LONGEST:
            line = line[:LONGEST] + " ..."
        try:
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)
        except OSError:
            _discard(sys.stderr)

    def fail(self, message: object, status: int) -> int:
        """Say in one line what is wrong; returns the status."""
        self.warn(f"error: {message}")
        return status

    def close(self, status: int) -> int:
        """Write what is buffered; returns the status, or 1 if standard output was lost."""
        try:
            sys.stdout.flush()
        except OSError as error:
            self.lost(error)
        if self.problem is not None:
            reason = self.problem.strerror or self.problem
            status = self.fail(f"standard output cannot be written ({reason})", status or 1)
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            _discard(sys.stderr)
        return status


def describe(error: BaseException) -> str:
    """An unexpected error in a line: its type and the first line of its message."""
    if isinstance(error, ConfigError):
        return error.on_command_line()
    if type(error).__module__.startswith("nanorepro."):  # whose message is a line of its own
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        named = f" {os.fspath(error.filename)!r}" if isinstance(error.filename, str | bytes) else ""
        return f"{type(error).__name__}: {error.strerror}{named}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    rest = " ..." if len(lines) > 1 else ""
    return f"{type(error).__name__}: {lines[0]}{rest}" if lines else type(error).__name__


@contextlib.contextmanager
def writable_streams() -> Iterator[None]:
    """Standard streams that are there and take any text, restored afterwards.

    A closed descriptor is opened on the null device, lest a result's file get its number.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    before = sys.stdout, sys.stderr
    changed: list[tuple[io.TextIOWrapper, str | None]] = []
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", errors="backslashreplace"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            changed.append((stream, stream.errors))
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in changed:
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors=errors)
        for stream, old in zip((sys.stdout, sys.stderr), before, strict=True):
            if old is None:
                stream.close()
        sys.stdout, sys.stderr = before


def _discard(stream: TextIO) -> None:
    """Send what is still buffered, and all that follows, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()
