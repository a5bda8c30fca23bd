"""What a run gives: trained parameters, measures of every pair, and the fingerprint."""

import hashlib
import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanorepro.config import Config
from nanorepro.data.options import ARRAYS, FILE
from nanorepro.errors import ConfigError, wrong
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.layers import Parameters
from nanorepro.numerics.streams import stream_key
from nanorepro.results import labelled, metrics
from nanorepro.results.content import EqualByContent, same
from nanorepro.results.metrics import EVERY_METRIC, Metric, metrics_of
from nanorepro.results.studentized import mean_of
from nanorepro.text import counted, named_values

if TYPE_CHECKING:
    import xarray

SHOWN_MODELS = 32
QUICK = 1024  # pairs whose intervals nobody waits for


@dataclass(frozen=True, eq=False)
class Evaluation(EqualByContent):
    """The evaluation set: its distinct patterns x (n,) uint32, their counts and true log-odds.

    Of the caller's examples x are their places, each counts once, and instead of log-odds there are
    labels (n,) of 0 and 1.
    """

    x: np.ndarray
    counts: np.ndarray
    log_odds: np.ndarray | None
    labels: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Pair(EqualByContent):
    """What one pair gave at one checkpoint: the metrics of predictions, an attribute each.

    `pair.pd` is a number, `pair.loss` a tuple of two, one for each model; `pair.stuck` and
    `pair.diverged` say yes or no of both.  See `nanorepro.results.metrics.metrics_of`.
    """

    measures: Mapping[str, Any]

    if TYPE_CHECKING:
        pd: float = field(init=False)
        loss: tuple[float, float] = field(init=False)
        auc: tuple[float, float] = field(init=False)  # of the caller's examples
        churn: float = field(init=False)
        disagreement: float = field(init=False)
        stuck: tuple[bool, bool] = field(init=False)
        diverged: tuple[bool, bool] = field(init=False)
    else:

        def __getattr__(self, name):
            known = vars(self).get("measures", {})
            if name in known:
                return known[name]
            raise AttributeError(f"a pair has no {name!r}; it has {', '.join(known)}")

    def changed(self, **measures: Any) -> "Pair":
        """The same with other values of some metrics."""
        return Pair({**self.measures, **measures})


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A finished run.

    Attributes
    ----------
    config : Config
        The run.
    backend : str
        What computed it.
    parameters : list of lists of records
        parameters[pair][model] is the trained record of a model: {"w0": (fan_in, fan_out),
        "b0": (fan_out,), "w1": ...}, in the model's precision.
    evaluation : Evaluation
        The evaluation set as distinct patterns, with counts and true log-odds.
    logits : ndarray (pair, model, checkpoint, pattern)
        Logits on the evaluation patterns; of a stored run those of the last checkpoint only.
    checkpoints : tuple of int
        The steps after which the models were evaluated, the last step included.
    measures : dict of str to ndarray
        The value of every metric by its name, with the metric's dimensions.
    constant_loss : float
        Excess loss of the best constant prediction, in nats; log loss of the caller's examples.
    fingerprint : str
        SHA-256 over all trained parameters.
    seconds : float
        Wall time of training and measuring.
    provenance : dict
        The command that makes it again, versions, CPU, threads, source digest, start and end.
    absent : frozenset of str
        Metrics that are newer than the file that the result was stored in; NaN in `measures`.

    Notes
    -----
    Two results are equal if they are the same run by its id and have the same parameters, measures,
    evaluation set and last logits, bit for bit (all NaN count as one); who computed them, when and
    how fast does not matter, nor do metrics that are absent of one.  A result is hashed by its
    fingerprint.  Pairs with a diverged model count in no average.

    Examples
    --------
    >>> from nanorepro import Config, simulate
    >>> config = Config(model="linear", log2_examples=8, log2_eval=8, pairs=2, eval_every="log")
    >>> result = simulate(config, backend="reference")
    >>> result.parameters[1][0]["w0"].shape, result.measures["pd"].shape
    ((32, 1), (4, 2))
    >>> result.pairs[1].pd == result.series[-1][1].pd == float(result.measures["pd"][-1, 1])
    True
    >>> result == simulate(config, backend="reference", threads=1)
    True
    """

    config: Config
    backend: str
    parameters: list[list[Parameters]]
    evaluation: Evaluation
    logits: np.ndarray
    checkpoints: tuple[int, ...]
    measures: dict[str, np.ndarray]
    constant_loss: float
    fingerprint: str
    seconds: float
    provenance: dict[str, Any] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for array in self._arrays():
            array.setflags(write=False)  # it is compared, hashed and stored by what it holds

    def _arrays(self) -> Iterator[np.ndarray]:
        """Every array."""
        yield self.logits
        yield from self.measures.values()
        for models in self.parameters:
            for record in models:
                yield from record.values()
        for value in vars(self.evaluation).values():
            if value is not None:
                yield value

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is measured of such a run, by name."""
        return metrics_of(self.config)

    @cached_property
    def series(self) -> list[list[Pair]]:
        """series[c][k] holds the measures of pair k at checkpoint c."""
        names = [name for name, metric in self.metrics.items() if metric.by_checkpoint]
        values = {name: self.measures[name].tolist() for name in names}

        def pair(c: int, k: int) -> Pair:
            of = {name: values[name][c][k] for name in names}
            return Pair({n: tuple(v) if EVERY_METRIC[n].by_model else v for n, v in of.items()})

        checkpoints, pairs = self.measures["pd"].shape
        return [[pair(c, k) for k in range(pairs)] for c in range(checkpoints)]

    @property
    def pairs(self) -> list[Pair]:
        """The measures of every pair after the last step."""
        return self.series[-1]

    @property
    def weight_distance(self) -> list[float]:
        """Euclidean distance between the parameters of the two models of every pair."""
        return self._once("weight_distance")

    @property
    def weight_correlation(self) -> list[float]:
        """Pearson correlation between the parameters of the two models of every pair."""
        return self._once("weight_correlation")

    @property
    def deviation_cosine(self) -> list[float]:
        """Cosine between w_1 - θ and w_2 - θ of every pair; NaN but for linear models."""
        return self._once("deviation_cosine")

    def _once(self, name: str) -> list[float]:
        found: list[float] = self.measures[name].tolist()
        return found

    @property
    def examples_per_second(self) -> float:
        """Training examples a second, each counted once for every model that was trained."""
        models = self.config.pairs * (1 if "first_models" in self.provenance else 2)
        return models * self.config.examples / self.seconds if self.seconds else math.inf

    @property
    def relative_pd(self) -> float:
        """Δ_r, eq. 3: the mean over pairs of the mean of |p̂_1(1) - p̂_2(1)| / p_θ(1).

        Of the caller's examples relative to the mean of both predictions in place of p_θ.
        """
        return self.mean("pd")

    @property
    def excess_loss(self) -> float:
        """L of eq. 2 in nats, averaged over the models; NaN of the caller's examples."""
        return math.nan if self.config.is_given else self.mean("loss")

    @property
    def relative_pd_interval(self) -> tuple[float, float]:
        """95 % interval of the relative PD, over pairs; NaN of a single one."""
        return self.interval_of("pd")

    @property
    def excess_loss_interval(self) -> tuple[float, float]:
        """95 % interval of the excess loss, over pairs; NaN where that is, and of a single one."""
        return (math.nan, math.nan) if self.config.is_given else self.interval_of("loss")

    def mean(self, name: str) -> float:
        """The mean of a metric over the finite pairs, and models, after the last step.

        Raises ConfigError for a name that is none of `metrics`.
        """
        if name not in self.metrics:
            raise wrong("name", name, " or ".join(self.metrics))
        return metrics.average(self._finite_values(name).ravel().tolist())

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the means of all metrics, over pairs (`results.studentized`)."""
        names = [name for name, metric in self.metrics.items() if not metric.flag]
        return {name: self.interval_of(name) for name in names}

    def interval_of(self, name: str) -> tuple[float, float]:
        """95 % interval of the mean of a metric over pairs, computed once; NaN of a single pair."""
        known: dict[str, tuple[float, float]] = vars(self).setdefault("_intervals", {})
        if name not in known:
            values = self._finite_values(name)
            of_pairs = (values[:, 0] + values[:, 1]) / 2 if values.ndim == 2 else values
            found = mean_of(of_pairs, stream_key(self.config.seed, "bootstrap"))
            known[name] = self.metrics[name].within(found)[1:]
            if len(of_pairs) < 2:
                known[name] = (math.nan, math.nan)
        return known[name]

    def _finite_values(self, name: str) -> np.ndarray:
        """The values (pair, [model]) of a metric after the last step, of the finite pairs."""
        values = self.measures[name]
        last = values[-1] if EVERY_METRIC[name].by_checkpoint else values
        found: np.ndarray = last[~self.measures["diverged"][-1].astype(bool).any(axis=1)]
        return found

    @property
    def stuck(self) -> list[tuple[int, int]]:
        """(pair, model) of the models that learned no more than a constant."""
        return self._flagged("stuck")

    @property
    def diverged(self) -> list[tuple[int, int]]:
        """(pair, model) of the models with a parameter that is NaN or infinite."""
        return self._flagged("diverged")

    def _flagged(self, name: str) -> list[tuple[int, int]]:
        return [(int(k), int(m)) for k, m in np.argwhere(self.measures[name][-1])]

    def finite(self, checkpoint: int = -1) -> list[Pair]:
        """The pairs of which neither model diverged."""
        return [p for p in self.series[checkpoint] if not any(p.diverged)]

    def to_xarray(self) -> "xarray.Dataset":
        """The result as labelled arrays: what `xarray.open_dataset` reads from its stored file.

        Returns
        -------
        xarray.Dataset
            The metrics by (checkpoint, pair, model), the parameters by (pair, model, feature,
            unit_0, ...), logits, counts and log-odds by pattern; units and `long_name` of each;
            id, configuration, fingerprint, means and provenance as attributes.
        """
        return labelled.to_xarray(self)

    @property
    def title(self) -> str:
        """What was run, in a line."""
        return title_of(self.config)

    def rows(self, intervals: bool = True) -> list[tuple[str, str, str]]:
        """Means of the metrics with their intervals, and who is stuck or diverged, as text."""
        found = []
        finite = int((~self.measures["diverged"][-1].astype(bool).any(axis=1)).sum())
        for name, metric in self.metrics.items():
            if metric.flag:
                found.append((metric.words, self._named(self._flagged(name)), ""))
                continue
            value, ends = self.mean(name), ""
            if not np.isfinite(self.measures[name]).any() and (finite or not metric.by_checkpoint):
                continue  # it is none of this model's, or of no model
            if intervals and finite > 1:
                ends = "95 % interval {:.3g} to {:.3g}".format(*self.intervals[name])
            unit = "" if metric.unit == "1" else f" {metric.unit}"
            found.append((metric.words, f"{value:.4g}{unit}" if finite else "-", ends))
        if finite < self.config.pairs:
            over = f"over {finite} of {counted(self.config.pairs, 'pair')}: no model diverged there"
            found.append(("averages", over, ""))
        return found

    def _named(self, models: Sequence[tuple[int, int]]) -> str:
        """(pair, model) as `3.1`, the first of them."""
        if not models:
            return "none"
        shown = ", ".join(f"{k}.{m}" for k, m in models[:SHOWN_MODELS])
        shown += ", ..." if models[SHOWN_MODELS:] else ""
        return f"{len(models)} of {2 * self.config.pairs} models: {shown} (pair.model)"

    def _summary(self) -> list[tuple[str, str, str]]:
        quick = self.config.pairs <= QUICK or "intervals" in vars(self)
        return [
            *self.rows(intervals=quick),
            ("fingerprint", self.fingerprint, ""),
            ("id", self.config.id, ""),
            ("computed by", f"{self.backend} in {self.seconds:.1f} s", ""),
        ]

    def __repr__(self) -> str:
        return "\n".join([f"Result: {self.title}", *named_values(self._summary())])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td>"
            f"<td style='text-align:left'>{html.escape(ends)}</td></tr>"
            for name, value, ends in self._summary()
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{cells}</table>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        absent = self.absent | other.absent
        return self is other or (
            self.fingerprint == other.fingerprint
            and self.config.id == other.config.id
            and same(self._content(absent), other._content(absent))
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _content(self, absent: frozenset[str]) -> dict[str, np.ndarray]:
        """The arrays that are compared, without some metrics."""
        given = {k: v for k, v in vars(self.evaluation).items() if v is not None}
        evaluation = {f"evaluation.{k}": v for k, v in given.items()}
        trained = {
            f"{k}.{m}.{name}": value
            for k, models in enumerate(self.parameters)
            for m, record in enumerate(models)
            for name, value in record.items()
        }
        measures = {name: v for name, v in self.measures.items() if name not in absent}
        return {**evaluation, **trained, **measures, "logits": self.logits[:, :, -1:]}


def title_of(c: Config) -> str:
    """What a configuration runs, in a line."""
    network = c.model
    if c.widths:
        network += f" [{', '.join(map(str, c.widths))}] {c.act}"
        network += f" β = {c.beta:g}" if ACTIVATIONS[c.act].uses_beta else ""
    pairs = "1 pair" if c.pairs == 1 else f"{c.pairs} pairs"
    differ = "nothing" if c.differ == "none" else c.differ.replace(",", ", ")
    examples, length = f"{c.data} data", f"T = 2^{c.log2_examples}"
    if c.given:
        name = Path(c.data.removeprefix(FILE)).name if c.data != ARRAYS else "arrays"
        examples = f"{c.epoch:,} examples of {c.features} {c.given.kind} features of {name}"
        length = "1 epoch" if c.epochs == 1 else f"{c.epochs:,} epochs"
    return (
        f"{pairs} of {network}, {examples}, {c.optimizer} {c.lr:g}, {length},"
        f" z = 2^{c.log2_window}, differing in {differ}"
    )


def check_fingerprint(result: Result) -> None:
    """Raise ConfigError unless a result's parameters are those of its fingerprint."""
    if fingerprint(result.parameters) != result.fingerprint:
        problem = f"the parameters of run {result.config.id} are not those of its fingerprint"
        raise ConfigError(problem, "", "a result as `simulate` or `load` gave it")


def fingerprint(parameters: Sequence[Sequence[Parameters]]) -> str:
    """SHA-256 over all parameters, little-endian, by pair, model, layer, weights before biases.

    All NaN count as one.
    """
    digest = hashlib.sha256()
    for pair in parameters:
        for model in pair:
            for value in model.values():
                plain = np.where(np.isnan(value), np.array(np.nan, value.dtype), value)
                digest.update(np.ascontiguousarray(plain, value.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()
