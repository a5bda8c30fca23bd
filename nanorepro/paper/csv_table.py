"""Tables of numbers as CSV, after a comment line that says what made them."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nanorepro.text import in_one_line


def as_text(note: str, rows: Iterable[Sequence[Any]]) -> str:
    """A table, its titles in the first row.

    Examples
    --------
    >>> as_text("python -m nanorepro.figure 4", [("pair", "pd"), (0, 0.5)])
    '# python -m nanorepro.figure 4\\npair,pd\\n0,0.5\\n'
    """
    text = io.StringIO()
    text.write(f"# {in_one_line(note)}\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with the numbers of their lines, without comments.

    Examples
    --------
    >>> list(read("# made by hand\\npair,pd\\n0,0.5\\n"))
    [(2, ['pair', 'pd']), (3, ['0', '0.5'])]
    """
    lines = [(n, s) for n, s in enumerate(text.splitlines(), 1) if not s.startswith("#")]
    reader = csv.reader(line for _, line in lines)
    for row in reader:
        yield lines[reader.line_num - 1][0], row
