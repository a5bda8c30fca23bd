"""What a run gives: trained parameters, measures of every pair, and the fingerprint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanorepro.config import Config
from nanorepro.model.layers import Parameters
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics


@dataclass(frozen=True)
class Evaluation:
    """The evaluation set: its distinct patterns x (n,) uint32, their counts and true log-odds."""

    x: np.ndarray
    counts: np.ndarray
    log_odds: np.ndarray


@dataclass(frozen=True)
class Pair:
    """What one pair gave at one checkpoint; the measures of eqs. 2 and 3 and beside them."""

    pd: float
    loss: tuple[float, float]
    stuck: tuple[bool, bool]
    diverged: tuple[bool, bool]
    churn: float
    disagreement: float


@dataclass(frozen=True)
class Result:
    """A finished run.

    parameters[pair][model] are the trained records; pairs[k] the measures of pair k at the end and
    series[c][k] at checkpoint c.  Pairs with a diverged model count in no average.
    """

    config: Config
    backend: str
    parameters: list[list[Parameters]]
    evaluation: Evaluation
    logits: np.ndarray  # (pair, model, checkpoint, pattern)
    checkpoints: tuple[int, ...]
    series: list[list[Pair]]
    weight_distance: list[float]
    weight_correlation: list[float]
    deviation_cosine: list[float]
    constant_loss: float
    fingerprint: str
    seconds: float
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def pairs(self) -> list[Pair]:
        return self.series[-1]

    @property
    def examples_per_second(self) -> float:
        """Training examples a second, each counted once for every model."""
        return 2 * self.config.pairs * self.config.examples / self.seconds

    @property
    def relative_pd(self) -> float:
        """Δ_r, eq. 3."""
        return metrics.average([p.pd for p in self.finite()])

    @property
    def excess_loss(self) -> float:
        """L of eq. 2, averaged over the models."""
        return metrics.average([loss for p in self.finite() for loss in p.loss])

    @property
    def relative_pd_interval(self) -> tuple[float, float]:
        return self.interval([p.pd for p in self.finite()])

    @property
    def excess_loss_interval(self) -> tuple[float, float]:
        return self.interval([sum(p.loss) / 2 for p in self.finite()])

    @property
    def stuck(self) -> list[tuple[int, int]]:
        """(pair, model) of the models that learned no more than a constant."""
        return self._named("stuck")

    @property
    def diverged(self) -> list[tuple[int, int]]:
        """(pair, model) of the models with a parameter that is NaN or infinite."""
        return self._named("diverged")

    def finite(self, checkpoint: int = -1) -> list[Pair]:
        """The pairs of which neither model diverged."""
        return [p for p in self.series[checkpoint] if not any(p.diverged)]

    def interval(self, values: Sequence[float]) -> tuple[float, float]:
        """95 % bootstrap interval of a mean over pairs."""
        return metrics.bootstrap_interval(values, stream_key(self.config.seed, "bootstrap"))

    def _named(self, what: str) -> list[tuple[int, int]]:
        return [(k, m) for k, p in enumerate(self.pairs) for m in (0, 1) if getattr(p, what)[m]]


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
