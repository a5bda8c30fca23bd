"""A folder of runs as one HTML page: what was run, what it gave, what is missing and why.

The page is made of the journal and the records beside it; no run's file is opened that the journal
knows.  The same folder gives the same bytes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from nanorepro.config import Config, command, options_of
from nanorepro.errors import ConfigError
from nanorepro.pages import page
from nanorepro.pages.page import printable
from nanorepro.results.metrics import average, metrics_of_all
from nanorepro.settings import setting_of
from nanorepro.sweeps.folder import Damaged, Failure, Folder
from nanorepro.sweeps.journal import ABSENT, Entry
from nanorepro.sweeps.leases import at_work
from nanorepro.sweeps.pooled import Axes, pairs_of, shown
from nanorepro.sweeps.table import axes, ordered, value_of
from nanorepro.training.progress import clock

MEANINGS = {f.name: setting_of(f).meaning.partition(";")[0] for f in fields(Config)}
LISTED = 300  # runs that are missing, named one by one
CHOSEN = 30  # values of an axis among which one may choose
ENVIRONMENT = ("nanorepro", "source", "python", "system", "cpu", "gpu")
INTERVALS = {
    "pd": ("relative_pd_interval",), "loss": ("log_loss_interval", "excess_loss_interval"),
}  # fmt: skip
NAME = "report.html"


@dataclass(frozen=True)
class Column:
    """A column of the table of runs: its name, what it says, whether it is a number."""

    name: str
    meaning: str
    numeric: bool = True


@dataclass(frozen=True)
class Value:
    """A cell of the table of runs: its text, what it is sorted by, its interval."""

    text: str
    sort: str | None = None
    ends: str = ""


@dataclass(frozen=True)
class Row:
    """A run in the table: its cells, and all that is known of it as pairs of name and value."""

    id: str
    cells: Sequence[Value]
    odd: bool  # whether a model is stuck or diverged
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Missing:
    """A run that was asked for and is not there, and why."""

    id: str
    options: str
    reason: str


@dataclass(frozen=True)
class Axis:
    """A field that varies."""

    name: str
    meaning: str
    values: Sequence[str]
    column: int  # of the table of runs; -1 where there are too many values to choose from


def report(folder: Folder) -> bytes:
    """The page of a folder.

    Parameters
    ----------
    folder : Folder
        A folder of runs; it is looked through first.

    Returns
    -------
    bytes
        HTML, one file, of which nothing is loaded from elsewhere.

    Raises
    ------
    ConfigError
        If there is nothing to report, a newer version wrote the folder, or Jinja2 is missing.
    """
    page.check()
    damaged = folder.look()
    found = ordered(folder.entries.values())
    sweeps = list(folder.sweeps())
    failures = folder.failures()
    if not (found or sweeps or failures):
        raise ConfigError(f"{str(folder.path)!r}: no runs there; give a folder of runs")
    varied = axes(found)
    missing = _missing(folder, sweeps, failures, damaged)
    return page.render("sweep.html", **_context(folder, found, varied, sweeps, missing))


def _context(
    folder: Folder, found: list[Entry], varied: Axes, sweeps: list[Any], missing: list[Missing]
) -> dict[str, Any]:
    from nanorepro.sweeps.charts import charts

    columns, rows = table_of_runs(folder, found, varied)
    drawn = charts([pairs_of(entry) for entry in found], varied)
    same = [(n, shown(value_of(found[0], n)), MEANINGS[n]) for n in ABSENT
            if n not in varied and value_of(found[0], n) != ""] if found else []  # fmt: skip
    return {
        "name": folder.path.resolve().name or "/",
        "found": found,
        "models": sum(2 * value_of(entry, "pairs") for entry in found),
        "time": clock(sum(entry.seconds for entry in found)),
        "odd": sum(row.odd for row in rows),
        "missing": missing,
        "listed": LISTED,
        "reasons": Counter(one.reason for one in missing).most_common(20),
        "sweeps": [_sweep(record, folder) for record in sweeps],
        "commands": [] if sweeps else list(dict.fromkeys(map(command_of, found))),
        "axes": [_axis(n, values, k) for k, (n, values) in enumerate(varied.items(), 1)],
        "same": same,
        "charts": [(chart, page.markup(chart.svg)) for chart in drawn],
        "columns": columns,
        "rows": rows,
        "environment": environment(found),
        "metrics": [
            m
            for m in metrics_of_all(e.is_given for e in found).values()
            if any(m.name in e.measures for e in found)
        ],
    }


def table_of_runs(
    folder: Folder, found: Sequence[Entry], varied: Axes
) -> tuple[list[Column], list[Row]]:
    """The columns of the table of runs after the id, and its rows."""
    metrics = metrics_of_all(entry.is_given for entry in found)
    names = [
        name for name, metric in metrics.items()
        if not metric.flag and any(_flat(e.measures.get(name)) for e in found)
    ]  # fmt: skip
    flags = [m for m in metrics.values() if m.flag]
    columns = [Column(n, MEANINGS[n], _numeric(values)) for n, values in varied.items()]
    columns += [Column(metrics[n].label, f"{metrics[n].meaning}; mean over pairs") for n in names]
    columns += [Column(m.words, f"models: {m.meaning}") for m in flags]
    columns += [Column("seconds", "of the training, on the machine that did it")]
    rows = []
    for entry in found:
        cells = [
            _value(value_of(entry, n), c.numeric) for n, c in zip(varied, columns, strict=False)
        ]
        cells += [_mean(entry, name) for name in names]
        counts = [sum(map(bool, _flat(entry.measures.get(m.name)))) for m in flags]
        cells += [Value(str(n), str(n)) for n in counts]
        cells.append(Value(f"{entry.seconds:.3g}", f"{entry.seconds:.6g}"))
        rows.append(Row(entry.id, cells, any(counts), facts(folder, entry)))
    return columns, rows


def facts(folder: Folder, entry: Entry) -> list[tuple[str, str]]:
    """All that is known of a run beside its measures."""
    first = [
        ("command", command_of(entry)),
        ("fingerprint", entry.fingerprint),
        ("file", f"{entry.id}.h5, {entry.size:,} bytes, SHA-256 {entry.sha256}"),
        ("backend", entry.backend),
        ("settings", printable(options_of(entry.config))),
    ]
    rest = {name: value for name, value in entry.provenance.items() if name != "command"}
    return [*first, *((str(name), shown(value)) for name, value in rest.items())]


def command_of(entry: Entry) -> str:
    """The command that makes a run again."""
    return str(entry.provenance.get("command", "") or command(entry.of))


def environment(found: Sequence[Entry]) -> list[tuple[str, list[tuple[str, int]]]]:
    """What made the runs: for each item of the provenance its values, and of how many runs."""
    items = []
    for name in ENVIRONMENT:
        counts = Counter(shown(e.provenance[name]) for e in found if name in e.provenance)
        if counts:
            items.append((name, counts.most_common()))
    return [*items, ("backend", Counter(e.backend for e in found).most_common())] if items else []


def _missing(
    folder: Folder,
    sweeps: Iterable[dict[str, Any]],
    failures: dict[str, Failure],
    damaged: Iterable[Damaged],
) -> list[Missing]:
    """What was asked for and is not there: failed, damaged, being made, or not begun."""
    asked = {str(run["id"]): run["config"] for record in sweeps for run in record["runs"]}
    asked |= {id: failure.config for id, failure in failures.items()}
    broken = {one.path.stem: one for one in [*damaged, *folder.others]}
    working = set(at_work(folder.path))
    found = []
    for id in [*asked, *(id for id in broken if id not in asked)]:
        if id in folder.entries:
            continue
        if id in working:
            reason = "being made now"
        elif id in broken:
            reason = f"its file cannot be used: {broken[id].reason}"
        elif id in failures:
            tries = failures[id].tries
            times = "" if tries == 1 else f", tried {tries} times"
            reason = f"failed{times}: {failures[id].reason}"
        else:
            reason = "not run yet"
        found.append(Missing(id, printable(options_of(asked[id])) if id in asked else "", reason))
    return found


def _sweep(record: dict[str, Any], folder: Folder) -> dict[str, Any]:
    """What was asked for by one command."""
    ids = {run["id"] for run in record["runs"]}
    done = len(ids & set(folder.entries))
    return {"command": record["command"], "first": record["first"], "asked": len(ids), "done": done}


def _axis(name: str, values: Sequence[Any], column: int) -> Axis:
    texts = [shown(value) for value in values]
    return Axis(name, MEANINGS[name], texts, column if len(texts) <= CHOSEN else -1)


def _numeric(values: Iterable[Any]) -> bool:
    return all(isinstance(v, int | float) for v in values)


def _value(value: Any, numeric: bool) -> Value:
    return Value(shown(value), f"{value:.9g}" if numeric else None)


def _mean(entry: Entry, name: str) -> Value:
    """The mean of a metric over the finite pairs, with its interval where that is stored."""
    pairs = zip(entry.measures.get(name, []), entry.measures["diverged"], strict=False)
    mean = average(_flat([value for value, diverged in pairs if not any(diverged)]))
    if not math.isfinite(mean):
        return Value("–", "")
    known = [entry.summary[n] for n in INTERVALS.get(name, ()) if n in entry.summary]
    low, high = known[0] if known else (None, None)
    ends = f"{low:.3g} to {high:.3g}" if low is not None and high is not None else ""
    return Value(f"{mean:.4g}", f"{mean:.9g}", ends)


def _flat(values: Any) -> list[Any]:
    """The values of a measure that there are, by pair, or by pair and model, in one list."""
    found = [v for one in values or [] for v in (one if isinstance(one, list) else [one])]
    return [v for v in found if v is not None]
