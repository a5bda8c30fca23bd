"""What claims are about: numbers of every pair of a run, each a record with a name of its own.

A quantity is measured of a result once; from then on claims know its numbers only, in memory as in
a figure's stored numbers (`paper.observed`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nanorepro.results.metrics import cosine

if TYPE_CHECKING:
    from nanorepro.results.result import Result


@dataclass(frozen=True)
class Quantity:
    """A number of every pair of a run.

    Attributes
    ----------
    name : str
        A column of a figure's stored numbers.
    measure : callable
        The values (pair,) of a result; NaN where a pair has none.
    parameters : bool
        Whether it is measured of the trained parameters.
    """

    name: str
    measure: Callable[["Result"], np.ndarray]
    parameters: bool = False


def losses(r: "Result") -> np.ndarray:
    """Excess loss of both models of every pair (pair, 2), eq. 2."""
    return np.array([p.loss for p in r.pairs], float)


def of_learned(values: np.ndarray, r: "Result") -> np.ndarray:
    """The values (pair,) of the pairs of which no model is stuck; NaN of the others."""
    return np.where([any(p.stuck) for p in r.pairs], np.nan, values)


def log_loss(r: "Result") -> np.ndarray:
    """Mean over a pair's models of log L.

    Not log of the mean: that is larger for two models that differ, whatever their losses.
    """
    with np.errstate(divide="ignore"):
        return np.log(losses(r)).mean(axis=1)


def log_loss_learned(r: "Result") -> np.ndarray:
    """Mean of log L over those of a pair's models that are not stuck; NaN if both are."""
    learned = ~np.array([p.stuck for p in r.pairs], bool)
    with np.errstate(all="ignore"):
        logs = np.where(learned, np.log(losses(r)), 0.0)
        return logs.sum(axis=1) / learned.sum(axis=1)


def joined(parameters: dict[str, np.ndarray], names: str) -> np.ndarray:
    """The parameters whose names begin with one of the letters, in one row, float64."""
    chosen = [v.ravel() for k, v in parameters.items() if k[0] in names]
    return np.concatenate(chosen).astype(np.float64)


def first_layer_cosine(r: "Result") -> np.ndarray:
    """Cosine between the first-layer weights of the two models of every pair."""
    rows = [[m["w0"].ravel().astype(float) for m in pair] for pair in r.parameters]
    return np.array([cosine(first, second) for first, second in rows])


def largest_weight_difference(r: "Result") -> np.ndarray:
    """Largest difference between corresponding weights of every pair."""
    return np.array([np.abs(joined(a, "w") - joined(b, "w")).max() for a, b in r.parameters])


def correlation_of(r: "Result", names: str) -> np.ndarray:
    """Pearson correlation of the parameters whose names begin so, of every pair."""
    both = [[joined(m, names) for m in p] for p in r.parameters]
    return np.array([cosine(a - a.mean(), b - b.mean()) for a, b in both])


PD = Quantity("pd", lambda r: np.array([p.pd for p in r.pairs], float))
LOSS = Quantity("loss", lambda r: losses(r).mean(axis=1))
LOG_LOSS = Quantity("log_loss", log_loss)
LOG_LOSS_LEARNED = Quantity("log_loss_learned", log_loss_learned)
STUCK = Quantity("stuck", lambda r: np.array([float(any(p.stuck)) for p in r.pairs]))
DEVIATION = Quantity("deviation_cosine", lambda r: np.array(r.deviation_cosine, float))
PD_LEARNED = Quantity("pd_learned", lambda r: of_learned(PD.measure(r), r))
LOSS_LEARNED = Quantity("loss_learned", lambda r: of_learned(LOSS.measure(r), r))
CORRELATION_LEARNED = Quantity(
    "weight_correlation_learned", lambda r: of_learned(np.array(r.weight_correlation, float), r)
)
FIRST_LAYER = Quantity("first_layer_cosine", first_layer_cosine, parameters=True)
LARGEST_DIFFERENCE = Quantity("largest_difference", largest_weight_difference, parameters=True)
EMBEDDINGS = Quantity(
    "embedding_correlation", lambda r: correlation_of(r, "e"), parameters=True
)  # fmt: skip
WEIGHTS = Quantity("hidden_correlation", lambda r: correlation_of(r, "w"), parameters=True)

DOUBLINGS = 4  # of the training examples, over which a slope in T is taken


def checkpoints(r: "Result") -> list[int]:
    """The last checkpoints of a run's series, a doubling apart, for a slope in T."""
    return [r.checkpoints.index(r.config.steps >> k) for k in range(DOUBLINGS, -1, -1)
            if r.config.steps >> k in r.checkpoints]  # fmt: skip


def pd_series(r: "Result") -> dict[int, np.ndarray]:
    """PD of every pair by the steps of those checkpoints, the last being the run's end."""
    return {r.checkpoints[c]: np.array([p.pd for p in r.series[c]], float) for c in checkpoints(r)}
