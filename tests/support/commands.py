"""Commands called in this process: their status, and what they print."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

TINY = [
    *("--hidden", "4,4", "--log2-examples", "6", "--log2-eval", "4", "--pairs", "1"),
    *("--backend", "reference", "--threads", "1"),
]


def call(main: Callable, *words: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command."""
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()) as warned,
    ):
        status = main(list(words))
    return status, said.getvalue(), warned.getvalue()


def refused(main: Callable, *words: str, folder: Path | None = None) -> str:
    """The one line that refuses these words; nothing was printed, and nothing written."""
    before = sorted(folder.iterdir()) if folder else []
    status, said, warned = call(main, *words)
    assert (status, said) == (2, ""), (words, said, warned)
    assert warned.count("\n") == 1 and warned.endswith("\n"), warned
    assert "error: " in warned
    assert before == (sorted(folder.iterdir()) if folder else [])
    return warned
