"""How good the models are and how far apart: pure functions of arrays (section 2, eqs. 2 and 3).

An evaluation set is given as its distinct patterns with their counts; the average over the set is
the weighted one over the patterns.  Sums are exactly rounded, so they have one value, whichever
backend's `fsum` adds.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from nanorepro.model.layers import Parameters
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.array_namespace import Function
from nanorepro.numerics.exact_sum import fsum
from nanorepro.numerics.exp_log import exp64, log64
from nanorepro.numerics.streams import bounded, words

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
        return 1.0 / (1.0 + self.exp(-self.z))

    @cached_property
    def beyond(self) -> np.ndarray:
        """By what log(1 + exp(z)) is above max(z, 0), the same for z and -z."""
        return self.log(1.0 + self.exp(-np.abs(self.z)))

    @property
    def softplus(self) -> np.ndarray:
        """log(1 + exp(z))."""
        return np.maximum(self.z, 0.0) + self.beyond

    @property
    def softplus_minus(self) -> np.ndarray:
        """log(1 + exp(-z))."""
        return np.maximum(-self.z, 0.0) + self.beyond


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
    return np.abs(predicted(logits1).p - predicted(logits2).p)


def churn(logits1: Logits, logits2: Logits, counts: np.ndarray) -> float:
    """Share of examples that the two models put on different sides of p̂ = 1/2."""
    apart = (predicted(logits1).z > 0) != (predicted(logits2).z > 0)
    return int(counts[apart].sum()) / int(counts.sum())


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
    return excess_loss(truth, np.array([math.log(p / (1.0 - p))]), counts)


def is_stuck(loss: float, constant: float) -> bool:
    """A model that learned no more than a constant: a loss not below 99 % of the constant's."""
    return not loss < STUCK * constant


def average(values: Sequence[float]) -> float:
    """Mean over pairs; NaN of none."""
    return math.fsum(values) / len(values) if len(values) else math.nan


def bootstrap_interval(
    values: Sequence[float], key: np.ndarray, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over pairs, drawn from the `bootstrap` stream."""
    n = len(values)
    if n == 0:
        return math.nan, math.nan
    high, low = words(key, np.arange(draws * n))[:2]
    picked = np.asarray(values, np.float64)[bounded(high, low, np.uint64(n)).astype(np.int64)]
    means = np.sort(picked.reshape(draws, n).mean(axis=1))
    tail = (1.0 - level) / 2.0
    return float(means[round(tail * (draws - 1))]), float(means[round((1 - tail) * (draws - 1))])
