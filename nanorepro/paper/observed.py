"""Runs as claims see them: numbers of every pair, the same in memory and as a table on the disk.

Values are kept to nine digits, so that what is told of a run and of its stored numbers is the same.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from nanorepro.errors import ConfigError
from nanorepro.paper import csv_table
from nanorepro.paper.quantities import Quantity, pd_series

if TYPE_CHECKING:
    from nanorepro.results.result import Result

Key = tuple[str, int]  # curve, log2 of the window
SERIES = "pd@"  # a column of PD after so many steps
SEPARATOR = "|"


@dataclass(frozen=True)
class Observed:
    """One run.

    Attributes
    ----------
    curve, log2_window, log2_examples, pairs : str, int, int, int
        Which one.
    id : str
        Of its configuration.
    seed : int
        Of its streams.
    values : dict of str to ndarray (pair,)
        Quantities by name.
    series : dict of int to ndarray (pair,)
        PD after so many steps, where a claim is about its course.
    """

    curve: str
    log2_window: int
    log2_examples: int
    pairs: int
    id: str
    seed: int
    values: dict[str, np.ndarray]
    series: dict[int, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, quantity: Quantity) -> np.ndarray:
        return self.values[quantity.name]


Runs = dict[Key, Observed]


def nine_digits(values: np.ndarray) -> np.ndarray:
    """Values as they are stored."""
    return np.array([float(f"{x:.9g}") for x in values])


def observe(
    key: Key, r: "Result", quantities: Iterable[Quantity], series: bool = False
) -> Observed:
    """What claims need of a result."""
    return Observed(
        *key, r.config.log2_examples, r.config.pairs, r.config.id, r.config.seed,
        {q.name: nine_digits(q.measure(r)) for q in quantities},
        {s: nine_digits(x) for s, x in pd_series(r).items()} if series else {},
    )  # fmt: skip


def as_csv(runs: Sequence[Observed], note: str) -> str:
    """The numbers of runs of as many pairs: a row for every pair, a column for every number.

    A column is named `curve|log2 z|quantity`; `pd@512` is PD after 512 steps.  A comment line
    stands above.
    """
    columns: dict[str, np.ndarray] = {}
    for r in runs:
        named = dict(sorted(r.values.items()))
        named |= {f"{SERIES}{s}": x for s, x in sorted(r.series.items())}
        columns |= {SEPARATOR.join((r.curve, str(r.log2_window), n)): x for n, x in named.items()}
    rows = [
        [k, *("" if np.isnan(x) else f"{x:.9g}" for x in row)]
        for k, row in enumerate(zip(*columns.values(), strict=True))
    ]
    return csv_table.as_text(note, [["pair", *columns], *rows])


def from_csv(text: str, name: str, known: Sequence[Observed]) -> list[Observed]:
    """Runs with the numbers of such a table; raises ConfigError, which names file and line.

    `known` are the runs without their numbers.
    """
    (_, titles), *rows = [*csv_table.read(text)] or [(0, [])]
    if titles[:1] != ["pair"]:
        raise ConfigError(f"{name}: not the numbers of a figure's pairs; its columns differ")
    table: list[list[float]] = []
    for number, row in rows:
        try:
            if len(row) != len(titles) or int(row[0]) != len(table):
                raise ValueError(f"not the values of pair {len(table)}")
            table.append([float(v) if v else math.nan for v in row[1:]])
        except ValueError as error:
            raise ConfigError(f"{name}, line {number}: {error}") from None
    columns = dict(zip(titles[1:], np.array(table).T, strict=False))
    found = []
    for r in known:
        start = SEPARATOR.join((r.curve, str(r.log2_window), ""))
        named = {c.removeprefix(start): x for c, x in columns.items() if c.startswith(start)}
        if named and len(table) != r.pairs:
            raise ConfigError(f"{name}: {len(table)} pairs, not {r.pairs}")
        values = {n: x for n, x in named.items() if not n.startswith(SERIES)}
        steps = {n.removeprefix(SERIES): x for n, x in named.items() if n.startswith(SERIES)}
        if not all(n.isdecimal() for n in steps):
            raise ConfigError(f"{name}: steps are not whole numbers in {', '.join(steps)}")
        found.append(replace(r, values=values, series={int(n): x for n, x in steps.items()}))
    return found
