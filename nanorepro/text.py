"""Text for people: one line of anything, counts, tables."""

from collections.abc import Sequence


def in_one_line(text: str) -> str:
    """The text with what is no part of a line written as in Python.

    Examples
    --------
    >>> in_one_line("two\\nlines")
    'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: BaseException, most: int = 120) -> str:
    """What an exception of another library says, in a line; its type where it says nothing.

    Examples
    --------
    >>> first_line(ValueError("no header\\nof an array")), first_line(EOFError())
    ('no header', 'EOFError')
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:most] if lines else type(error).__name__


def counted(n: int, noun: str, plural: str = "") -> str:
    """So many of something; `plural` is the noun's where that is not with an s.

    Examples
    --------
    >>> counted(1, "pair"), counted(1200, "pair"), counted(0, "is open", "are open")
    ('1 pair', '1,200 pairs', '0 are open')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def in_columns(rows: Sequence[Sequence[str]], left: int | None = None) -> list[str]:
    """The lines of a table.

    Parameters
    ----------
    rows : sequence of sequences of str
        Its cells; the first row has the titles.
    left : int, optional
        How many columns begin at their left edges; the others end at their right ones. Default:
        all.

    Returns
    -------
    list of str
        A line for each row.

    Examples
    --------
    >>> in_columns([("pair", "PD"), ("0", "0.5")])
    ['  pair  PD', '  0     0.5']
    >>> in_columns([("pair", "PD"), ("0", "0.5")], left=1)
    ['  pair   PD', '  0     0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(widths) if left is None else left
    lines = [
        "  ".join(f"{c:<{w}}" if k < left else f"{c:>{w}}"
                  for k, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]  # fmt: skip
    return [f"  {line}".rstrip() for line in lines]


def named_values(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Lines of a name, a value and a note on it each; a long value moves no other's note.

    Examples
    --------
    >>> named_values([("relative PD", "0.5", "95 % interval 0.4 to 0.6"), ("seconds", "2", "")])
    ['  relative PD         0.5           95 % interval 0.4 to 0.6', '  seconds             2']
    """
    return [f"  {name:<20}{value:<12}  {note}".rstrip() for name, value, note in rows]
