"""A run's evaluation set, and what is measured of its trained pairs on it."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.backends.protocols import Backend, Trained
from nanorepro.config import Config
from nanorepro.data import sampling
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.results.metrics import METRICS, Comparison
from nanorepro.results.result import Evaluation

Examples = Callable[[World, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
Measures = dict[str, Any]
"""The values of one pair by metric: at every checkpoint a value, or one of the trained models."""


def evaluation_set(config: Config, world: World, draw: Examples = sampling.examples) -> Evaluation:
    """The N evaluation examples of a seed, the same for all pairs, as distinct patterns.

    `draw` is any backend's `examples`.
    """
    x, _ = draw(world, stream_key(config.seed, "evaluation"), 0, 1 << config.log2_eval)
    patterns, counts = np.unique(x, return_counts=True)
    return Evaluation(patterns, counts, sampling.example_log_odds(world, patterns))


class Measurer:
    """Measures the pairs of a run, all against the same truth."""

    def __init__(self, config: Config, world: World, backend: Backend):
        self.config, self.world, self.backend = config, world, backend
        self.evaluation = evaluation_set(config, world, backend.examples)

    @cached_property
    def truth(self) -> metrics.Prediction:
        return self.prediction(self.evaluation.log_odds)

    @cached_property
    def constant_loss(self) -> float:
        """Excess loss of the best constant."""
        return metrics.constant_loss(self.truth, self.evaluation.counts)

    def prediction(self, z: np.ndarray) -> metrics.Prediction:
        return metrics.Prediction(z, self.backend.exp, self.backend.log, self.backend.fsum)

    def comparison(self, models: Sequence[Trained], checkpoint: int) -> Comparison:
        """What the metrics see of a pair at a checkpoint."""
        first, second = models
        last = checkpoint == len(first.logits) - 1
        estimates_theta = self.config.model == "linear" and self.config.data == "linear"

        def is_bad(m: Trained) -> bool:
            return not np.isfinite(m.logits[checkpoint]).all() or (m.diverged and last)

        return Comparison(
            truth=self.truth,
            counts=self.evaluation.counts,
            models=(
                self.prediction(first.logits[checkpoint]),
                self.prediction(second.logits[checkpoint]),
            ),
            diverged=(is_bad(first), is_bad(second)),
            constant_loss=self.constant_loss,
            parameters=(first.parameters, second.parameters),
            theta=self.world.theta if estimates_theta else None,
        )

    def measure(self, models: Sequence[Trained]) -> Measures:
        """All metrics of one pair."""
        with np.errstate(over="ignore", invalid="ignore"):  # of weights that are about to diverge
            found: Measures = {name: [] for name in METRICS}
            for checkpoint in range(len(self.config.checkpoints)):
                comparison = self.comparison(models, checkpoint)
                for name, metric in METRICS.items():
                    if metric.by_checkpoint:
                        found[name].append(metric.measure(comparison))
            for name, metric in METRICS.items():
                if not metric.by_checkpoint:
                    found[name] = metric.measure(comparison)
            return found


def in_arrays(pairs: Sequence[Measures]) -> dict[str, np.ndarray]:
    """The measures of all pairs as arrays with the metrics' dimensions."""
    found = {}
    for name, metric in METRICS.items():
        values = np.array([pair[name] for pair in pairs], bool if metric.flag else np.float64)
        found[name] = values.swapaxes(0, 1) if metric.by_checkpoint else values
    return found
