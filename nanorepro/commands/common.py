"""What all commands share: how they start and end, and the checks of options they have in common.

A command is a function of its words and a console that returns its exit status, and is carried
out by `carry_out`: 0, all went well; 1, something failed while running, or what was asked is not
so; 2, a wrong option, value or file; 130 and 143, interrupted and terminated.
"""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nanorepro.commands.console import Console, OutputLost, describe, writable_streams
from nanorepro.config import CHECKPOINT_MINUTES, MOST_CHECKPOINT_MINUTES, MOST_THREADS, Config
from nanorepro.errors import ConfigError, shown, wrong
from nanorepro.parsing import real_number, whole_number
from nanorepro.training.signals import INTERRUPTED, Terminated, termination_raises

DONE, FAILED, WRONG = 0, 1, 2
MINUTES_HELP = (
    "minutes between two checkpoints, <id>.checkpoint in the folder, from which the same command"
    f" goes on after a kill, to the same bits; 0 for none (default: {CHECKPOINT_MINUTES:g})"
)
QUIET = ("-q", "--quiet", "--json")  # options that change nothing of what is made
LONGEST_NAME = 255  # bytes of a file's name, on nearly every file system
Command = Callable[[Sequence[str], Console], int]


def carry_out(name: str, command: Command, argv: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Parameters
    ----------
    name : str
        What stands before its messages, such as ``nanorepro.run``.
    command : callable
        Takes the words and the console, returns the exit status.
    argv : sequence of str, optional
        The words after the command's name; those of the process if not given.

    Returns
    -------
    int
        The exit status.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    console = Console(name)
    with writable_streams(), termination_raises():
        try:
            status = command(words, console)
        except ConfigError as error:
            status = console.fail(error.on_command_line(), WRONG)
        except SystemExit as end:  # --help and --version
            status = end.code if isinstance(end.code, int) else DONE
        except OutputLost as lost:
            console.lost(lost.reason)
            status = DONE
        except KeyboardInterrupt:
            console.warn("interrupted")
            status = INTERRUPTED
        except Terminated as end:
            console.warn("terminated")
            status = 128 + int(end.args[0])
        except Exception as error:
            status = console.fail(describe(error), FAILED)
        return console.close(status)


def with_examples(config: Config) -> Config:
    """The configuration with what the examples of its file are; raises ConfigError."""
    if not config.is_given:
        return config
    from nanorepro.training.examples import with_content

    return with_content(config)[0]


def whole(option: str, text: str, low: int = 0, high: int | None = None) -> int:
    """The value of an option that takes whole numbers; raises ConfigError.

    Examples
    --------
    >>> whole("--terms", "40", 2, 2048)
    40
    """
    ends = f"a whole number from {low}" + ("" if high is None else f" to {high}")
    try:
        value = whole_number(text)
    except ValueError:
        value = low - 1
    if value < low or (high is not None and value > high):
        raise ConfigError(f"{option}: {shown(text)} is not allowed; give {ends}")
    return value


def positive(option: str, text: str) -> float:
    """The value of an option that takes numbers above 0; raises ConfigError."""
    try:
        value = real_number(text)
    except ValueError:
        value = 0.0
    if not value > 0.0:
        raise ConfigError(f"{option}: {shown(text)} is not allowed; give a number above 0")
    return value


def check_threads(text: str) -> int | None:
    """The number of threads, None for all CPUs; raises ConfigError."""
    if text == "all":
        return None
    try:
        return whole("--threads", text, 1, MOST_THREADS)
    except ConfigError:
        raise wrong("threads", text, f"1 to {MOST_THREADS}, or all") from None


def check_checkpoint_minutes(text: str) -> float:
    """Minutes between two checkpoints, 0 for none; raises ConfigError."""
    try:
        value = real_number(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= MOST_CHECKPOINT_MINUTES:
        right = f"a number from 0, for none, to {MOST_CHECKPOINT_MINUTES:,}"
        raise wrong("checkpoint_minutes", text, right)
    return value


def check_folder(name: str, option: str = "--out") -> Path:
    """The folder, if a file can be written there or it can be made; raises ConfigError."""
    wrong = f"{option}: {shown(name)} is not a folder to write in"
    right = "give one that is, or can be made"
    if not name or "\0" in name:
        raise ConfigError(f"{wrong}; {right}")
    try:
        _check_lengths(name)
        there = Path(name).absolute()
        while not there.exists():
            if there.is_symlink():
                raise ValueError(f"{str(there)!r} is a link to nothing")
            there = there.parent
        tempfile.TemporaryFile(dir=there).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{wrong} ({reason}); {right}") from None
    return Path(name)


def _check_lengths(name: str) -> None:
    """Raise ValueError for a path with a name in it that no file can have."""
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(name).parts):
        raise ValueError("a name is too long")


def check_file(name: str, option: str, suffixes: Sequence[str]) -> Path:
    """The name of a file that can be written, of one of some kinds; raises ConfigError."""
    path = Path(name)
    try:
        _check_lengths(name)
    except ValueError as error:
        raise ConfigError(f"{option}: {shown(name)} is no file name ({error}); give one") from None
    if path.suffix.lower() not in suffixes or "\0" in name:
        kinds = " or ".join(suffixes)
        raise ConfigError(f"{option}: {shown(name)} is not allowed; give a file name {kinds}")
    if path.is_dir():
        raise ConfigError(f"{option}: {shown(name)} is a folder; give a file name")
    check_folder(str(path.parent), option)
    return path


def again(name: str, words: Sequence[str]) -> str:
    """The command that makes the same again."""
    return shlex.join(["python", "-m", name, *(w for w in words if w not in QUIET)])


def keep(
    path: Path, record: dict[str, Any], draw: Callable[[], Any]
) -> tuple[dict[str, str | None], list[str]]:
    """Write numbers as JSON, then their picture beside them; neither stops the other.

    Numbers that the folder refuses are kept in the system's temporary one.  Returns the paths, None
    for what could not be written, and a line for each that failed.
    """
    from nanorepro.results.files import keep_aside, replace_file

    def write(folder: Path) -> Path:
        os.makedirs(folder, exist_ok=True)
        replace_file(folder / path.name, json.dumps(record).encode())
        return folder / path.name

    files: dict[str, str | None] = {"stored": None, "picture": None}
    problems = []
    try:
        files["stored"] = str(write(path.parent))
    except Exception as error:
        problem = f"the numbers could not be stored: {describe(error)}"
        if aside := keep_aside(write):
            files["stored"] = str(aside)
            problem += f"; they are kept as {files['stored']!r}"
        problems.append(problem)
    try:
        from nanorepro.plots.style import file_of

        drawn = path.with_suffix(".png")
        replace_file(drawn, file_of(draw()))
        files["picture"] = str(drawn)
    except Exception as error:
        problems.append(f"the picture could not be drawn: {describe(error)}")
    return files, problems
