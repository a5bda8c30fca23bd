"""What a folder's runs gave at each value of an axis: means over pairs with intervals."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanorepro.numerics.streams import stream_key
from nanorepro.pages.page import printable
from nanorepro.results.metrics import average, metrics_of
from nanorepro.results.studentized import mean_of
from nanorepro.sweeps.journal import Entry
from nanorepro.sweeps.table import value_of

REPLICATES = ("seed", "first_example")  # axes whose values are draws of the same thing
SERIES = 8  # values of an axis that are told apart by colour
CELLS = 160  # of a graph: values of its axis times values told apart by colour
Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Pairs:
    """The pairs of a run after the last step.

    Attributes
    ----------
    pd, loss : ndarray (pairs,)
        Relative PD, and the loss of the two models averaged; NaN of a pair that diverged.
    stuck : ndarray (pairs,) of bool
        Whether a model of the pair is stuck.
    """

    entry: Entry
    pd: np.ndarray
    loss: np.ndarray
    stuck: np.ndarray

    @property
    def loss_name(self) -> str:
        """What the loss is called in the entry's summary."""
        return "log_loss" if self.entry.is_given else "excess_loss"

    @property
    def finite(self) -> np.ndarray:
        """Which pairs have a PD and a loss."""
        found: np.ndarray = np.isfinite(self.pd) & np.isfinite(self.loss)
        return found


def pairs_of(entry: Entry) -> Pairs:
    """The pairs of a finished run."""
    pd, loss, stuck = (np.array(entry.measures[n], float) for n in ("pd", "loss", "stuck"))
    return Pairs(entry, pd, loss.mean(axis=1), stuck.max(axis=1) > 0)


@dataclass(frozen=True)
class Cell:
    """All pairs of the runs that agree in one or two axes.

    Attributes
    ----------
    value, of : Any
        Along the graph's axis, and along the axis told apart by colour (None without).
    runs : tuple of Pairs
        The runs that were pooled.
    pd : ndarray
        Of all finite pairs.
    stuck : ndarray of bool
        Of the same pairs.
    mean, low, high : float
        Mean of the PD over these pairs and its 95 % interval; NaN of none.
    """

    value: Any
    of: Any
    runs: tuple[Pairs, ...]
    pd: np.ndarray
    stuck: np.ndarray
    mean: float
    low: float
    high: float


RESAMPLES = 500  # of each of the many groups that a graph shows


def shown(value: Any) -> str:
    """A value of a field or of the provenance as people read it; `none` where it is empty."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return printable(str(value)) if value != "" else "none"


def cells(runs: Sequence[Pairs], axis: str, by: str | None) -> list[Cell]:
    """The pairs of runs pooled by their value along an axis, and along a second one.

    The interval of a single run is its own; that of several is over all their pairs.
    """
    groups: dict[tuple[Any, Any], list[Pairs]] = defaultdict(list)
    for run in runs:
        of = value_of(run.entry, by) if by else None
        groups[value_of(run.entry, axis), of].append(run)
    values = {k: np.concatenate([r.pd[r.finite] for r in g]) for k, g in groups.items()}
    stuck = {k: np.concatenate([r.stuck[r.finite] for r in g]) for k, g in groups.items()}
    return [
        Cell(*k, tuple(g), values[k], stuck[k], average(values[k].tolist()), *_ends(g, values[k]))
        for k, g in groups.items()
    ]


def _ends(runs: Sequence[Pairs], values: np.ndarray) -> tuple[float, float]:
    """The interval of the mean PD of runs, whose pairs' values are given."""
    if len(runs) == 1:
        return interval_of(runs[0].entry, "relative_pd")
    found = mean_of(values, stream_key(0, "bootstrap"), RESAMPLES)
    return metrics_of(runs[0].entry.of)["pd"].within(found)[1:]


def interval_of(entry: Entry, name: str) -> tuple[float, float]:
    """The interval of a run's mean as it is stored, NaN where there is none."""
    low, high = entry.summary[f"{name}_interval"]
    return (math.nan if low is None else low), (math.nan if high is None else high)


def told_apart(runs: Sequence[Pairs], axis: str | None, axes: Axes) -> str | None:
    """The axis that is told apart by colour in a graph against another one, or None.

    It is the one that, beside the graph's own, explains most of log PD: the sum of squares around
    the means of its cells is the least.  Axes that only draw anew are pooled.
    """
    most = CELLS // len(axes[axis]) if axis else CELLS
    others = [
        name for name, values in axes.items()
        if name != axis and name not in REPLICATES and len(values) <= min(SERIES, most)
    ]  # fmt: skip
    logs = _log_pds(runs)

    def left(name: str) -> float:
        return _around_means(logs, [_place(run, name, axis) for run in runs])

    return min(others, key=left, default=None)


def _place(run: Pairs, *names: str | None) -> tuple[Any, ...]:
    return tuple(value_of(run.entry, name) for name in names if name)


def _log_pds(runs: Iterable[Pairs]) -> np.ndarray:
    """log of each run's mean PD; a PD of 0 counts as the least that is not, NaN as that, too."""
    means = np.array([average(run.pd[run.finite].tolist()) for run in runs])
    positive = means[means > 0.0]
    least = positive.min() if len(positive) else 1.0
    found: np.ndarray = np.log(np.where(means > 0.0, means, least))
    return found


def _around_means(values: np.ndarray, places: Sequence[tuple[Any, ...]]) -> float:
    """The sum of squares of values around the means of those at the same place."""
    number: dict[tuple[Any, ...], int] = {}
    index = np.array([number.setdefault(place, len(number)) for place in places], int)
    count = np.bincount(index)
    means = np.bincount(index, values) / count
    return float(((values - means[index]) ** 2).sum())
