"""Runs that are known by a figure's files alone, and so need not be made again.

What claims and pictures need of a run are its rows in a few small tables.  A figure can so grow by
windows over many calls and machines, none of which keeps the runs of the others.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.errors import ConfigError
from nanorepro.paper import curves, evidence
from nanorepro.paper.observed import Key, Observed
from nanorepro.paper.record import Figure, Row

if TYPE_CHECKING:
    from nanorepro.paper.runner import StoredRuns

TEXTS = ("command", "cpu", "source")  # what a run's record says of it, beside its name
NUMBERS = ("relative_pd", "excess_loss")  # null where there is none
COUNTS = ("stuck", "diverged", "seconds")
DIGITS = {"id": 16, "fingerprint": 64}


@dataclass(frozen=True)
class Recorded:
    """The runs of a figure's files, by their ids.

    Attributes
    ----------
    runs : dict of str to dict
        What the figure's record says of each.
    numbers : dict of str to Observed
        What claims know of each.
    rows : dict of str to list of dict
        The rows of each in the table of what is plotted.
    """

    runs: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    numbers: Mapping[str, Observed] = field(default_factory=dict)
    rows: Mapping[str, list[Row]] = field(default_factory=dict)

    def known(
        self, figure: Figure, keys: Sequence[Key], stored: "StoredRuns", drawn: bool
    ) -> dict[Key, str]:
        """The ids of those runs that are not stored and of which all is recorded that is needed.

        Parameters
        ----------
        figure : Figure
            Whose claims are judged.
        keys : sequence of (curve, window)
            The runs it needs of one size.
        stored : StoredRuns
            Those that are stored.
        drawn : bool
            Whether runs of this size are plotted.

        Returns
        -------
        dict of (curve, window) to str
        """
        wanted = figure.wanted(stored.size)
        plotted = set(curves.run_keys(figure.plotted, stored.size)) if drawn else set()
        found = {}
        for key in keys:
            id = self.id_of(key, stored)
            quantities, series = wanted.get(key, (frozenset(), False))
            numbers = self.numbers.get(id)
            judged = not quantities and not series or (
                numbers is not None
                and {q.name for q in quantities} <= numbers.values.keys()
                and (bool(numbers.series) or not series)
            )  # fmt: skip
            shown = key not in plotted or id in self.rows
            if id in self.runs and judged and shown and stored.find(key) is None:
                found[key] = id
        for name, _ in [key for key in keys if key not in found]:  # what a run starts from is made
            found.pop((stored.curves[name].source, stored.size.windows[0]), None)
        return found

    def id_of(self, key: Key, stored: "StoredRuns") -> str:
        """The id of a run; empty where the run that it starts from is not known."""
        config, curve = stored.config(key), stored.curves[key[0]]
        if config is None:
            source = stored.curves[curve.source].at(stored.size.windows[0])
            if source.id not in self.runs:
                return ""
            config = curve.at(key[1], self.runs[source.id]["fingerprint"])
        return config.id


def read(folder: Path, figure: int, scale: str) -> Recorded:
    """The runs of a figure's files in a folder.

    Raises
    ------
    ConfigError
        If a file is missing or is not what this program writes.
    """
    name = evidence.name_of(folder, figure, scale)
    record, rows, found = evidence.read(folder, name)
    runs = [*record["runs"], *(r for of in record["more"] for r in of["runs"])]
    for run in runs:
        if not _is_run(run):
            raise ConfigError(f"{str(folder / name)!r}.json: {run.get('id')!r} is not a run")
    by_id: dict[str, list[Row]] = {}
    for row in rows:
        by_id.setdefault(str(row.get("id")), []).append(row)
    numbers = [r for of in (found.runs, *found.more.values()) for r in of.values()]
    return Recorded({r["id"]: r for r in runs}, {r.id: r for r in numbers}, by_id)


def _is_run(run: Mapping[str, Any]) -> bool:
    """Whether something is what a figure's record says of a run."""
    hashes = all(
        isinstance(run.get(k), str) and re.fullmatch(f"[0-9a-f]{{{n}}}", run[k])
        for k, n in DIGITS.items()
    )
    texts = all(isinstance(run.get(k), str) for k in TEXTS)
    numbers = all(isinstance(run.get(k), int | float) for k in COUNTS)
    return hashes and texts and numbers and all(
        run.get(k, "") is None or isinstance(run.get(k), int | float) for k in NUMBERS
    )  # fmt: skip


def joined(
    order: Sequence[Key], made: Sequence[Row], others: Mapping[Key, Sequence[Row]]
) -> list[Row]:
    """Plotted rows of runs that were made and of others, by the order of their runs."""
    by_key: dict[Key, list[Row]] = {key: list(rows) for key, rows in others.items()}
    for row in made:
        by_key.setdefault((row["curve"], row["log2_window"]), []).append(row)
    return [row for key in dict.fromkeys(order) for row in by_key.get(key, [])]
