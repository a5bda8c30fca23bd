"""A figure from its runs, those that are stored, recorded or made now, or from its files alone."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.paper import curves, evidence, recorded, report
from nanorepro.paper.curves import Size
from nanorepro.paper.evidence import Evidence
from nanorepro.paper.observed import Key, Observed
from nanorepro.paper.quantities import Quantity
from nanorepro.paper.record import Figure, Row
from nanorepro.paper.recorded import Recorded

if TYPE_CHECKING:
    from nanorepro.paper.runner import StoredRuns

Train = Callable[["StoredRuns", Sequence[Key]], list[Key]]
"""Makes and stores the runs that are not there; returns those that were left out."""


@dataclass(frozen=True)
class Made:
    """What is known of a figure.

    Attributes
    ----------
    record : dict
        For its JSON file and the page.
    rows : list of dict
        What is plotted.
    evidence : Evidence
        The numbers of its pairs.
    taken : int
        Runs that were recorded and are not stored.
    """

    record: dict[str, Any]
    rows: list[Row]
    evidence: Evidence
    taken: int = 0


@dataclass
class FromRuns:
    """The runs of a figure, a size at a time.

    Attributes
    ----------
    figure : Figure
        Which one.
    folder : Path
        Of the stored runs.
    before : Recorded
        The runs that are recorded.
    train : callable
        Makes the others.
    records : dict of Size to dict of (curve, window) to dict
        What the figure's record says of the runs so far.
    late : list of (curve, window)
        Those that were left out.
    wanted, taken : int
        How many were asked for; how many of them are only recorded.
    """

    figure: Figure
    folder: Path
    before: Recorded
    train: Train
    records: dict[Size, dict[Key, dict[str, Any]]] = field(default_factory=dict)
    late: list[Key] = field(default_factory=list)
    wanted: int = 0
    taken: int = 0

    def of(
        self, size: Size, keys: Sequence[Key], plotted: bool
    ) -> tuple[dict[Key, Observed], list[Row]]:
        """What claims know of the runs of a size, and their rows if they are plotted."""
        from nanorepro.paper.runner import StoredRuns

        stored = StoredRuns(self.folder, size, self.figure.parameters)
        ids = self.before.known(self.figure, keys, stored, plotted)
        self.late += self.train(stored, [key for key in keys if key not in ids])
        results = stored.found([key for key in keys if key not in ids])
        known = {key: self.before.runs[id] for key, id in ids.items()}
        self.records[size] = {k: report.run_record(k, r) for k, r in results.items()} | {
            (curve, w): {**run, "curve": curve, "log2_window": w}
            for (curve, w), run in known.items()
        }
        self.wanted, self.taken = self.wanted + len(keys), self.taken + len(ids)
        wanted = self.figure.wanted(size)
        seen = evidence.observe(self.figure, size, results) | {
            key: restricted(self.before.numbers[id], key, *wanted[key])
            for key, id in ids.items()
            if key in wanted
        }
        if not plotted:
            return seen, []
        drawn = {key: [{**row, "curve": key[0]} for row in self.before.rows.get(id, [])]
                 for key, id in ids.items()}  # fmt: skip
        rows = self.figure.rows(self.figure.plotted, size, results)
        order = curves.run_keys(self.figure.plotted, size)
        return seen, recorded.joined(order, rows, drawn)


def restricted(run: Observed, key: Key, quantities: Collection[Quantity], series: bool) -> Observed:
    """A recorded run by the name of its curve here, with those of its numbers that are wanted."""
    values = {name: run.values[name] for name in sorted(q.name for q in quantities)}
    course = run.series if series else {}
    return replace(run, curve=key[0], log2_window=key[1], values=values, series=course)


def from_runs(
    figure: Figure,
    size: Size,
    folder: Path,
    before: Recorded,
    train: Train,
    decide: bool,
    scale: str,
    again: str,
) -> Made:
    """A figure of its runs.

    Parameters
    ----------
    figure, size : Figure, Size
        What is made.
    folder : Path
        Of the stored runs.
    before : Recorded
        Runs that need not be made where all of them is recorded that is needed.
    train : callable
        Makes and stores runs, returns those left out.
    decide : bool
        Whether claims that stay open are decided by more pairs.
    scale, again : str
        Its scale, and the command that makes the figure again.

    Returns
    -------
    Made
    """
    runs = FromRuns(figure, folder, before, train)
    keys = figure.needed(size)
    seen, rows = runs.of(size, keys, True)
    found = Evidence(size, seen)
    if decide:
        for other, needed in figure.needed_more(found.open(figure.claims)).items():
            found.more[other], _ = runs.of(other, needed, False)
    drawn = tuple(sorted({window for _, window in curves.run_keys(figure.plotted, size)}))
    note = report.note(replace(size, windows=drawn)) if keys else ""
    if runs.late:
        note += f"; {len(runs.late)} of {runs.wanted} runs not made"
    record = report.record(figure, found, runs.records, scale, again, note, runs.late)
    return Made(record, rows, found, runs.taken)


def from_records(figure: Figure, folder: Path, scale: str) -> Made:
    """A figure of what was written of it, judged anew.

    Raises
    ------
    ConfigError
        If a file is missing or is not what this program writes.
    """
    name = evidence.name_of(folder, figure.number, scale)
    record, plotted, found = evidence.read(folder, name)
    return Made(report.judged_again(figure, found, record), plotted, found)
