"""What a folder's runs gave, as one tidy table and as one labelled dataset.

Both are read from the journal, which is made whole first: a file that it does not know is opened
and checked, one that it knows by size and time of modification is not.
"""

import csv
import io
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanorepro.arguments import folder_or_file
from nanorepro.errors import ConfigError, shown
from nanorepro.results import store
from nanorepro.results.labelled import xarray_module
from nanorepro.results.metrics import EVERY_METRIC
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.journal import ABSENT, Entry

if TYPE_CHECKING:
    import xarray

SUMMARY = ("relative_pd", "excess_loss", "log_loss", "constant_loss")
MEANINGS = {
    "relative_pd": "relative PD, mean over the pairs",
    "excess_loss": "excess label loss, mean over the models, in nats",
    "log_loss": "log loss of the caller's examples, mean over the models, in nats",
    "constant_loss": "the same of the best constant, in nats",
    "seconds": "seconds of the training",
    **{name: metric.meaning for name, metric in EVERY_METRIC.items()},
}
SHOWN = 3  # files that are left out, by name
SPARSE = 4  # cells a run of a grid that is still shown as a grid


def entries(folder: Folder) -> list[Entry]:
    """The finished runs, in a fixed order; raises ConfigError if there are none."""
    folder.look()
    if not folder.entries:
        what = "; ".join(["no finished runs there", *left_out(folder)])
        raise ConfigError(f"{str(folder.path)!r}: {what}; give a folder of runs")
    return ordered(folder.entries.values())


def ordered(found: Iterable[Entry]) -> list[Entry]:
    """Entries by the values of their configurations, in the order of its fields."""
    return sorted(found, key=_order)


def left_out(folder: Folder) -> list[str]:
    """The files with the name of a run that are in no table, and why; the first few of them."""
    found = [*folder.damaged, *folder.others]
    lines = [f"left out: {one.path}: {one.reason}" for one in found[:SHOWN]]
    if found[SHOWN:]:
        lines.append(f"left out: {len(found) - SHOWN} more; nanorepro sweep status lists them")
    return lines


def _order(entry: Entry) -> tuple[Any, ...]:
    values = (value_of(entry, name) for name in ABSENT)
    return (*((isinstance(v, str), v) for v in values), entry.id)


def value_of(entry: Entry, name: str) -> Any:
    """A field of the run's configuration."""
    return entry.config.get(name, ABSENT[name])


def axes(found: Sequence[Entry]) -> dict[str, list[Any]]:
    """The fields of the configuration that vary, with their values in ascending order."""
    varying = {name for entry in found for name in entry.config if name in ABSENT}
    values = {name: {value_of(entry, name) for entry in found} for name in varying}
    return {n: sorted(values[n]) for n in ABSENT if n in values and len(values[n]) > 1}


def rows(found: Sequence[Entry]) -> tuple[list[str], list[list[Any]]]:
    """The tidy table: a row for each pair; its columns, and its rows."""
    varied = list(axes(found))
    names = sorted({name for entry in found for name in entry.measures}, key=_measure_order)
    by_model = {n for e in found for n, v in e.measures.items() if v and isinstance(v[0], list)}
    columns = ["id", *varied, "pair"]
    for name in names:
        columns += [f"{name}_0", f"{name}_1"] if name in by_model else [name]
    columns += ["fingerprint", "backend", "seconds", "command"]
    table = []
    for entry in found:
        config = [value_of(entry, name) for name in varied]
        end = [entry.fingerprint, entry.backend, entry.seconds, entry.provenance.get("command", "")]
        for pair in range(value_of(entry, "pairs")):
            cells: list[Any] = []
            for name in names:
                value = entry.measures[name][pair] if name in entry.measures else None
                if name in by_model:
                    cells += value if value is not None else [None, None]
                else:
                    cells.append(value)
            table.append([entry.id, *config, pair, *cells, *end])
    return columns, table


def as_csv(found: Sequence[Entry]) -> str:
    """The tidy table as CSV (RFC 4180 with line feeds); numbers are read back as they were."""
    columns, table = rows(found)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(table)
    return text.getvalue()


def as_parquet(found: Sequence[Entry]) -> bytes:
    """The tidy table as a Parquet file; raises ConfigError without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed; give a file .csv, or"
            " pip install 'nanorepro[table]'"
        ) from None
    columns, table = rows(found)
    arrays = [pyarrow.array(list(values)) for values in zip(*table, strict=True)]
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(arrays, names=columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def open_results(folder: str | Path) -> "xarray.Dataset":
    """All finished runs of a folder as one dataset.

    Parameters
    ----------
    folder : str or Path
        A folder of runs, of a sweep or of any other command.

    Returns
    -------
    xarray.Dataset
        One dimension for every field of the configuration that varies, in the order of Config, then
        ``pair`` and ``model``; what was not run is NaN, and ``finished`` says where a run is.  Runs
        that are no grid (fewer than one cell in four would be filled) lie along a dimension ``run``
        instead, with the fields that vary as its coordinates.  Fields that do not vary are the
        dataset's attributes.

        The measures are those after the last step.  If a run was evaluated during its training
        (``eval_every``), each measure of the predictions is there as a series, too:
        ``pd_series`` and so on, along ``step``, the mini-batches trained on; NaN where a run was
        not evaluated.

    Raises
    ------
    ConfigError
        If there are no finished runs, a newer version wrote the folder, or xarray is not installed.

    Notes
    -----
    What is read of files that the folder's journal does not have is added to it, so that the next
    time they need not be opened.

    Examples
    --------
    >>> import tempfile
    >>> from nanorepro import Config, open_results, save, simulate
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (0, 1):
    ...         config = Config(model="linear", log2_examples=6, log2_eval=6, pairs=1, seed=seed)
    ...         _ = save(simulate(config, backend="reference"), folder)
    ...     open_results(folder).relative_pd.dims
    ('seed',)
    """
    library = xarray_module()
    folder = folder_or_file("folder", folder, "the path of a folder of runs")
    if not folder.is_dir():
        raise ConfigError(f"{shown(str(folder))} is no folder", "folder", "the folder of the runs")
    place = Folder(folder)
    found = entries(place)
    for text in left_out(place):
        warnings.warn(text, stacklevel=2)
    cells = _cells(found)
    pairs = max(value_of(entry, "pairs") for entry in found)
    variables = _variables(found, cells, pairs)
    coordinates = cells.coordinates | {
        "pair": np.arange(pairs), "model": np.arange(2), "end": ["low", "high"],
    }  # fmt: skip
    if any(value_of(entry, "eval_every") for entry in found):
        steps, series = _series(place, found, cells.index, cells.shape, pairs)
        coordinates["step"] = ("step", steps, {"long_name": "mini-batches trained on"})
        variables |= {n: ((*cells.dims, "step", *own), *rest) for n, (own, *rest) in series.items()}
    same = {n: value_of(found[0], n) for n in ABSENT if n not in cells.coordinates}
    dataset: xarray.Dataset = library.Dataset(variables, coordinates, same)
    return dataset


@dataclass(frozen=True)
class Cells:
    """Where each run lies in a dataset.

    Attributes
    ----------
    dims : tuple of str
        The fields that vary, or ``run``.
    shape : tuple of int
        How long they are.
    index : list of tuple of int
        The cell of each run.
    coordinates : dict
        The values of every field that varies.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    index: list[tuple[int, ...]]
    coordinates: dict[str, Any]


def _cells(found: Sequence[Entry]) -> Cells:
    """A grid of the fields that vary, or one line if too little of it would be filled."""
    varied = axes(found)
    values = [tuple(value_of(entry, name) for name in varied) for entry in found]
    shape = tuple(map(len, varied.values()))
    if math.prod(shape) > SPARSE * len(found) or len(set(values)) < len(found):
        columns = zip(varied, zip(*values, strict=True), strict=True)
        line = {name: ("run", list(column)) for name, column in columns}
        return Cells(("run",), (len(found),), [(k,) for k in range(len(found))], line)
    position = [{v: k for k, v in enumerate(axis)} for axis in varied.values()]
    index = [tuple(at[v] for at, v in zip(position, of, strict=True)) for of in values]
    return Cells(tuple(varied), shape, index, {n: (n, v) for n, v in varied.items()})


def _variables(found: Sequence[Entry], cells: Cells, pairs: int) -> dict[str, Any]:
    """What there is of every run, and where there is one; NaN or empty elsewhere."""
    dims, shape = cells.dims, cells.shape
    variables: dict[str, Any] = {"finished": (dims, np.zeros(shape, bool))}
    for name in (*SUMMARY, "seconds"):
        variables[name] = (dims, np.full(shape, np.nan), {"long_name": MEANINGS[name]})
    for name in ("relative_pd_interval", "excess_loss_interval", "log_loss_interval"):
        variables[name] = ((*dims, "end"), np.full((*shape, 2), np.nan))
    for name in ("id", "fingerprint", "backend", "command"):
        variables[name] = (dims, np.full(shape, "", object))
    for entry, at in zip(found, cells.index, strict=True):
        variables["finished"][1][at] = True
        variables["seconds"][1][at] = entry.seconds
        for name, value in entry.summary.items():
            variables[name][1][at] = value if value is not None else np.nan
        for name in ("id", "fingerprint", "backend"):
            variables[name][1][at] = getattr(entry, name)
        variables["command"][1][at] = entry.provenance.get("command", "")
        for name, values in entry.measures.items():
            array = np.array(values, float)
            own = ("pair", "model")[: array.ndim]
            if name not in variables:
                full = np.full((*shape, pairs, 2)[: len(shape) + array.ndim], np.nan)
                variables[name] = ((*dims, *own), full, {"long_name": MEANINGS[name]})
            variables[name][1][at][: len(array)] = array
    return variables


def _series(
    place: Folder,
    found: Sequence[Entry],
    index: Sequence[tuple[int, ...]],
    shape: tuple[int, ...],
    pairs: int,
) -> tuple[list[int], dict[str, Any]]:
    """The steps at which runs were evaluated; the series of each measure, its dimensions, array."""
    steps = sorted({step for entry in found for step in entry.of.checkpoints})
    position = {step: number for number, step in enumerate(steps)}
    series: dict[str, Any] = {}
    for name, metric in EVERY_METRIC.items():
        if metric.by_checkpoint:
            own = ("pair", "model") if metric.by_model else ("pair",)
            array = np.full((*shape, len(steps), pairs, 2)[: len(shape) + 1 + len(own)], np.nan)
            series[f"{name}_series"] = own, array, {"long_name": f"{metric.meaning}, over training"}
    for entry, at in zip(found, index, strict=True):
        config = entry.of
        rows = [position[step] for step in config.checkpoints]
        stored = store.check(place.file(entry.id), config).measures if config.eval_every else {}
        for name, (_, array, _) in series.items():
            plain = name.removesuffix("_series")
            last = entry.measures.get(plain)
            values = stored.get(plain, [last] if last is not None else None)
            if values is not None:
                array[at][rows, : config.pairs] = np.array(values, float)
    return steps, series


def _measure_order(name: str) -> tuple[int, str]:
    known = list(EVERY_METRIC)
    return (known.index(name) if name in known else len(known), name)
