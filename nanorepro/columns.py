"""Tables as lines of text, the one way in which commands and comparisons print them."""

from collections.abc import Sequence


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
