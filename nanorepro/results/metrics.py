"""How good the models are and how far apart: pure functions of arrays (section 2, eqs. 2 and 3).

An evaluation set is given as its distinct patterns with their counts; the average over the set is
the weighted one over the patterns.  Sums are exactly rounded, so they have one value, whichever
backend's `fsum` adds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.config import Config
from nanorepro.model.layers import Parameters
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.array_namespace import Function
from nanorepro.numerics.exact_sum import fsum
from nanorepro.numerics.exp_log import exp64, log64
from nanorepro.results.studentized import Interval

exp, log = exp64(numpy_arrays), log64(numpy_arrays)
Sum = Callable[[np.ndarray], float]

STUCK = 0.99  # a model is stuck whose excess loss is not below this part of a constant's


def softplus(z: np.ndarray) -> np.ndarray:
    """log(1 + exp(z)), float64."""
    return Prediction(z).softplus


def probability(z: np.ndarray) -> np.ndarray:
    """σ(z) of logits, float64."""
    return Prediction(z).p


class Prediction:
    """What the measures need of logits z, or of true log-odds (n,), each computed once.

    The measures take such records and plain arrays; a run's truth serves all its pairs.
    exp, log and fsum are any backend's; the sums are those of the truth.
    """

    def __init__(self, z: np.ndarray, exp: Function = exp, log: Function = log, fsum: Sum = fsum):
        self.z = np.asarray(z, np.float64)
        self.exp, self.log, self.fsum = exp, log, fsum

    @cached_property
    def p(self) -> np.ndarray:
        """σ(z)."""
        found: np.ndarray = 1.0 / (1.0 + self.exp(-self.z))
        return found

    @cached_property
    def log1p_exp(self) -> np.ndarray:
        """log(1 + exp(-|z|)): by what log(1 + exp(z)) is above max(z, 0), the same for z and -z."""
        found: np.ndarray = self.log(1.0 + self.exp(-np.abs(self.z)))
        return found

    @property
    def softplus(self) -> np.ndarray:
        """log(1 + exp(z))."""
        found: np.ndarray = np.maximum(self.z, 0.0) + self.log1p_exp
        return found

    @property
    def softplus_minus(self) -> np.ndarray:
        """log(1 + exp(-z))."""
        found: np.ndarray = np.maximum(-self.z, 0.0) + self.log1p_exp
        return found


Logits = np.ndarray | Prediction


def predicted(logits: Logits) -> Prediction:
    return logits if isinstance(logits, Prediction) else Prediction(logits)


def mean(values: np.ndarray, counts: np.ndarray, fsum: Sum = fsum) -> float:
    """Average of the patterns' values over the evaluation set."""
    return fsum(values * counts) / float(counts.sum())


def excess_loss(log_odds: Logits, logits: Logits, counts: np.ndarray) -> float:
    """L, eq. 2: average over examples of Σ_y p_θ(y)·log(p_θ(y)/p̂(y)), in nats; all (n,)."""
    truth, model = predicted(log_odds), predicted(logits)
    positive = model.softplus_minus - truth.softplus_minus
    negative = model.softplus - truth.softplus
    return mean(truth.p * positive + (1.0 - truth.p) * negative, counts, truth.fsum)


def relative_pd(log_odds: Logits, logits1: Logits, logits2: Logits, counts: np.ndarray) -> float:
    """One pair's term of Δ_r, eq. 3: average of |p̂_1(1) - p̂_2(1)|/p_θ(1); all (n,)."""
    truth = predicted(log_odds)
    return mean(_distance(logits1, logits2) / truth.p, counts, truth.fsum)


def disagreement(logits1: Logits, logits2: Logits, counts: np.ndarray) -> float:
    """Average of |p̂_1(1) - p̂_2(1)|."""
    first = predicted(logits1)
    return mean(_distance(first, logits2), counts, first.fsum)


def _distance(logits1: Logits, logits2: Logits) -> np.ndarray:
    found: np.ndarray = np.abs(predicted(logits1).p - predicted(logits2).p)
    return found


def churn(logits1: Logits, logits2: Logits, counts: np.ndarray) -> float:
    """Share of examples that the two models put on different sides of p̂ = 1/2."""
    apart = (predicted(logits1).z > 0) != (predicted(logits2).z > 0)
    return int(counts[apart].sum()) / int(counts.sum())


def relative_pd_of_mean(logits1: Logits, logits2: Logits, counts: np.ndarray) -> float:
    """Average of |p̂_1(1) - p̂_2(1)| over the mean of both; 0 where both are 0.

    What stands for eq. 3 where the true probability is not known.
    """
    first, second = predicted(logits1), predicted(logits2)
    middle = 0.5 * (first.p + second.p)
    apart = _distance(first, second)
    ratio = np.divide(apart, middle, out=np.zeros_like(apart), where=middle != 0.0)
    return mean(ratio, counts, first.fsum)


def log_loss(logits: Logits, labels: np.ndarray, counts: np.ndarray) -> float:
    """Average of -log p̂(y) over examples, in nats; labels (n,) of 0 and 1."""
    model = predicted(logits)
    return mean(np.where(labels == 1, model.softplus_minus, model.softplus), counts, model.fsum)


def auc(logits: Logits, labels: np.ndarray, counts: np.ndarray) -> float:
    """Area under the ROC curve: the part of pairs (y = 1, y = 0) that the logits put in order.

    Equal logits count one half (Mann and Whitney).  Counted in integers.
    """
    _, at = np.unique(predicted(logits).z, return_inverse=True)
    positive = np.bincount(at, np.where(labels == 1, counts, 0)).astype(np.int64)
    negative = np.bincount(at, np.where(labels == 1, 0, counts)).astype(np.int64)
    below = np.cumsum(negative) - negative
    twice = int((positive * (2 * below + negative)).sum())
    return twice / (2 * int(positive.sum()) * int(negative.sum()))


def flat(parameters: Parameters) -> np.ndarray:
    """All parameters of a model, float64."""
    return np.concatenate([v.ravel().astype(np.float64) for v in parameters.values()])


def norm(v: np.ndarray, fsum: Sum = fsum) -> float:
    return math.sqrt(fsum(v * v))


def cosine(a: np.ndarray, b: np.ndarray, fsum: Sum = fsum) -> float:
    """Cosine of the angle between two vectors; NaN where one is zero."""
    scale = norm(a, fsum) * norm(b, fsum)
    return fsum(a * b) / scale if scale > 0 else math.nan


def weight_distance(first: Parameters, second: Parameters, fsum: Sum = fsum) -> float:
    """Euclidean distance between the parameters of two models."""
    return norm(flat(first) - flat(second), fsum)


def weight_correlation(first: Parameters, second: Parameters, fsum: Sum = fsum) -> float:
    """Pearson correlation between the parameters of two models (figures 7 and 9)."""
    a, b = flat(first), flat(second)
    return cosine(a - fsum(a) / len(a), b - fsum(b) / len(b), fsum)


def deviation_cosine(first: Parameters, second: Parameters, theta: np.ndarray) -> float:
    """Cosine between w_1 - θ and w_2 - θ (section 3), of linear models in the linear world."""
    a, b = (np.asarray(p["w0"], np.float64)[:, 0] - theta for p in (first, second))
    return cosine(a, b)


def constant_loss(log_odds: Logits, counts: np.ndarray) -> float:
    """Excess loss of the best constant prediction, the mean of p_θ."""
    truth = predicted(log_odds)
    p = mean(truth.p, counts, truth.fsum)
    return excess_loss(truth, truth.log(np.array([p / (1.0 - p)])), counts)


def constant_log_loss(labels: np.ndarray, counts: np.ndarray, fsum: Sum = fsum) -> float:
    """Log loss of the best constant prediction, the share of the labels that are 1."""
    p = mean(labels.astype(np.float64), counts, fsum)
    return log_loss(np.full(len(labels), log(np.array([p / (1.0 - p)]))[0]), labels, counts)


def is_stuck(loss: float, constant: float) -> bool:
    """A model that learned no more than a constant: a loss not below 99 % of the constant's."""
    return not loss < STUCK * constant


def average(values: Sequence[float]) -> float:
    """Mean over pairs, exactly rounded sum; NaN of none."""
    try:
        return math.fsum(values) / len(values) if len(values) else math.nan
    except OverflowError:  # of losses of models that are about to diverge
        return math.inf


class PairComparison:
    """What the metrics see of one pair: its models' predictions or parameters, and the truth.

    truth: p_θ of the evaluation patterns; None where only labels (n,) are known
    counts: evaluation examples of each pattern
    models: the predictions of the two models at one checkpoint
    diverged: which of the two has logits or parameters that are NaN or infinite
    constant_loss: excess loss of the best constant
    parameters: the two trained records; theta: θ where the models' weights estimate it, else None
    """

    def __init__(
        self,
        truth: Prediction | None,
        counts: np.ndarray,
        models: tuple[Prediction, Prediction],
        diverged: tuple[bool, bool],
        constant_loss: float,
        parameters: tuple[Parameters, Parameters],
        theta: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ):
        self.truth, self.counts, self.models, self.diverged = truth, counts, models, diverged
        self.constant_loss, self.parameters, self.theta = constant_loss, parameters, theta
        self.labels = labels

    @cached_property
    def losses(self) -> tuple[float, float]:
        """Excess loss of both models; log loss where only labels are known."""
        first, second = (self._loss(z) for z in self.models)
        return first, second

    def _loss(self, z: Prediction) -> float:
        if self.truth is not None:
            return excess_loss(self.truth, z, self.counts)
        assert self.labels is not None
        return log_loss(z, self.labels, self.counts)

    @property
    def aucs(self) -> tuple[float, float]:
        """AUC of both models."""
        assert self.labels is not None
        first, second = (auc(z, self.labels, self.counts) for z in self.models)
        return first, second

    @property
    def relative_pd(self) -> float:
        """The pair's PD relative to p_θ, or to its mean prediction where only labels are known."""
        if self.truth is not None:
            return relative_pd(self.truth, *self.models, self.counts)
        return relative_pd_of_mean(*self.models, self.counts)

    @property
    def fsum(self) -> Sum:
        return self.models[0].fsum


@dataclass(frozen=True)
class Metric:
    """All there is to know of a metric; store, JSON, tables, plots and claims are derived from it.

    Attributes
    ----------
    name : str
        Its name in the store, in JSON and as an attribute of `Pair`.
    words : str
        How it is called where people read it.
    meaning : str
        What it is, in a line: the variable's `long_name`.
    dims : tuple of str
        Its dimensions: pair always; model if each of the two has a value of its own; checkpoint if
        it is measured at each, of the predictions, and not once, of the trained parameters.
    value : callable
        The value of one pair, or a tuple of two, from a `PairComparison`.
    unit : str
        "1" where it has none.
    symbol : str
        How plots label it, in Matplotlib's mathtext.
    flag : bool
        Whether it says yes or no.
    of_diverged : bool
        Whether it has a value where a model diverged; else that is NaN, or no.
    least, most : float
        Between which it lies, so that an interval of its mean does, too.
    """

    name: str
    words: str
    meaning: str
    dims: tuple[str, ...]
    value: Callable[[PairComparison], Any]
    unit: str = "1"
    symbol: str = ""
    flag: bool = False
    of_diverged: bool = False
    least: float = 0.0
    most: float = math.inf

    @property
    def by_checkpoint(self) -> bool:
        return "checkpoint" in self.dims

    @property
    def by_model(self) -> bool:
        return "model" in self.dims

    @property
    def dtype(self) -> str:
        """The type of its array in the store."""
        return "u1" if self.flag else "f8"

    @property
    def label(self) -> str:
        """Words with the unit, as on an axis."""
        return self._with_unit(self.words)

    @property
    def short_label(self) -> str:
        """The symbol with the unit: for an axis whose title has the words."""
        return self._with_unit(self.symbol or self.words)

    @property
    def full_label(self) -> str:
        """Words, symbol and unit: for an axis without a title."""
        return self._with_unit(f"{self.words} {self.symbol}".strip())

    def _with_unit(self, text: str) -> str:
        return text if self.unit == "1" else f"{text} [{self.unit}]"

    @property
    def absent(self) -> Any:
        """What stands for a value that there is not."""
        nothing = False if self.flag else math.nan
        return (nothing, nothing) if self.by_model else nothing

    def within(self, interval: Interval) -> Interval:
        """An interval of its mean, without what cannot be."""
        return interval._replace(
            low=max(interval.low, self.least), high=min(interval.high, self.most)
        )

    def measure(self, comparison: PairComparison) -> Any:
        """The value of a pair, NaN or no where a model diverged and there is none."""
        if any(comparison.diverged) and not self.of_diverged:
            return self.absent
        return self.value(comparison)


PREDICTIONS, MODELS = ("checkpoint", "pair"), ("checkpoint", "pair", "model")


def _deviation(c: PairComparison) -> float:
    return math.nan if c.theta is None else deviation_cosine(*c.parameters, c.theta)


# Where the true probabilities are known: in the worlds.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "pd", "relative PD", "relative PD, eq. 3", PREDICTIONS,
            lambda c: c.relative_pd, symbol=r"$\Delta_r$",
        ),
        Metric(
            "loss", "excess loss", "excess label loss, eq. 2", MODELS,
            lambda c: c.losses, unit="nats", symbol="$L$",
        ),
        Metric(
            "churn", "churn", "share of examples classified otherwise", PREDICTIONS,
            lambda c: churn(*c.models, c.counts), most=1.0,
        ),
        Metric(
            "disagreement", "disagreement", "mean |p1 - p2|", PREDICTIONS,
            lambda c: disagreement(*c.models, c.counts), most=1.0,
        ),
        Metric(
            "weight_distance", "weight distance", "distance of the two models' parameters",
            ("pair",), lambda c: weight_distance(*c.parameters, c.fsum), of_diverged=True,
        ),
        Metric(
            "weight_correlation", "weight correlation", "correlation of the parameters",
            ("pair",), lambda c: weight_correlation(*c.parameters, c.fsum), of_diverged=True,
            least=-1.0, most=1.0,
        ),
        Metric(
            "deviation_cosine", "deviation cosine", "cosine between w1 - theta and w2 - theta",
            ("pair",), _deviation, of_diverged=True, least=-1.0, most=1.0,
        ),
        Metric(
            "stuck", "stuck", "learned no more than a constant", MODELS,
            lambda c: tuple(is_stuck(loss, c.constant_loss) for loss in c.losses), flag=True,
        ),
        Metric(
            "diverged", "diverged", "NaN or infinite", MODELS,
            lambda c: c.diverged, flag=True, of_diverged=True,
        ),
    )
}  # fmt: skip

# Where only labels are known: of the caller's examples.
LABEL_METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        replace(METRICS["pd"], meaning="PD relative to the pair's mean prediction", most=2.0),
        replace(METRICS["loss"], words="log loss", meaning="mean of -log p(y), y the label"),
        Metric(
            "auc", "AUC", "area under the ROC curve", MODELS,
            lambda c: c.aucs, most=1.0,
        ),
        *(METRICS[name] for name in (
            "churn", "disagreement", "weight_distance", "weight_correlation", "stuck", "diverged",
        )),
    )
}  # fmt: skip
EVERY_METRIC = {**LABEL_METRICS, **METRICS}


def metrics_of(config: Config) -> dict[str, Metric]:
    """The metrics of a run: those of a world, or those of the caller's examples."""
    return LABEL_METRICS if config.is_given else METRICS


def metrics_of_all(given: Iterable[bool]) -> dict[str, Metric]:
    """The metrics of several runs, of which is said whether their examples are the caller's.

    Where both kinds are there, in words that hold for both.
    """
    kinds = set(given)
    if kinds != {False, True}:
        return LABEL_METRICS if kinds == {True} else METRICS
    loss = replace(METRICS["loss"], words="loss", meaning="excess loss, or log loss of labels")
    return {**EVERY_METRIC, "loss": loss}
