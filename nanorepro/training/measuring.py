"""A run's evaluation set, and what is measured of its trained pairs on it."""

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from nanorepro.backends.protocols import Backend, Trained
from nanorepro.config import Config
from nanorepro.data import sampling
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.results.metrics import PairComparison, metrics_of
from nanorepro.results.result import Evaluation
from nanorepro.training.sequences import evaluated

Examples = Callable[[World, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
Measures = dict[str, Any]
"""The values of one pair by metric: at every checkpoint a value, or one of the trained models."""


def evaluation_set(config: Config, world: World, draw: Examples = sampling.examples) -> Evaluation:
    """The N evaluation examples of a seed, the same for all pairs, as distinct patterns.

    `draw` is any backend's `examples`.
    """
    return _patterns_of(config.seed, config.log2_eval, world, draw)


@lru_cache(maxsize=1)  # the runs of a figure have one seed
def _patterns_of(seed: int, log2_eval: int, world: World, draw: Examples) -> Evaluation:
    """`evaluation_set`, its arrays read-only."""
    x, _ = draw(world, stream_key(seed, "evaluation"), 0, 1 << log2_eval)
    patterns, counts = np.unique(x, return_counts=True)
    log_odds = sampling.example_log_odds(world, patterns)
    for array in (patterns, counts, log_odds):
        array.setflags(write=False)
    return Evaluation(patterns, counts, log_odds)


class Measurer:
    """Measures the pairs of a run, all against the same truth.

    patterns: the evaluation examples as models take them
    """

    def __init__(self, config: Config, world: World | Given, backend: Backend):
        self.config, self.world, self.backend = config, world, backend
        self.metrics = metrics_of(config)
        if isinstance(world, Given):
            self.patterns, labels = evaluated(config, world, backend)
            places, counts = np.arange(len(labels), dtype=np.uint32), np.ones(len(labels), np.int64)
            self.evaluation = Evaluation(places, counts, None, labels)
        else:
            self.evaluation = evaluation_set(config, world, backend.examples)
            self.patterns = self.evaluation.x[:, None]

    @cached_property
    def truth(self) -> metrics.Prediction | None:
        log_odds = self.evaluation.log_odds
        return None if log_odds is None else self.prediction(log_odds)

    @cached_property
    def constant_loss(self) -> float:
        """Excess loss of the best constant; log loss where only labels are known."""
        counts, labels = self.evaluation.counts, self.evaluation.labels
        if self.truth is not None:
            return metrics.constant_loss(self.truth, counts)
        assert labels is not None
        return metrics.constant_log_loss(labels, counts, self.backend.fsum)

    def prediction(self, z: np.ndarray) -> metrics.Prediction:
        return metrics.Prediction(z, self.backend.exp, self.backend.log, self.backend.fsum)

    def comparison(self, models: Sequence[Trained], checkpoint: int) -> PairComparison:
        """What the metrics see of a pair at a checkpoint."""
        first, second = models
        last = checkpoint == len(first.logits) - 1
        estimates_theta = self.config.model == "linear" and self.config.data == "linear"

        def is_bad(m: Trained) -> bool:
            return not np.isfinite(m.logits[checkpoint]).all() or (m.diverged and last)

        return PairComparison(
            truth=self.truth,
            counts=self.evaluation.counts,
            models=(
                self.prediction(first.logits[checkpoint]),
                self.prediction(second.logits[checkpoint]),
            ),
            diverged=(is_bad(first), is_bad(second)),
            constant_loss=self.constant_loss,
            parameters=(first.parameters, second.parameters),
            theta=self.world.theta if estimates_theta and isinstance(self.world, World) else None,
            labels=self.evaluation.labels,
        )

    def measure(self, models: Sequence[Trained]) -> Measures:
        """All metrics of one pair."""
        with np.errstate(over="ignore", invalid="ignore"):  # of weights that are about to diverge
            found: Measures = {name: [] for name in self.metrics}
            for checkpoint in range(len(self.config.checkpoints)):
                comparison = self.comparison(models, checkpoint)
                for name, metric in self.metrics.items():
                    if metric.by_checkpoint:
                        found[name].append(metric.measure(comparison))
            for name, metric in self.metrics.items():
                if not metric.by_checkpoint:
                    found[name] = metric.measure(comparison)
            return found


def in_arrays(config: Config, pairs: Sequence[Measures]) -> dict[str, np.ndarray]:
    """The measures of all pairs as arrays with the metrics' dimensions."""
    found = {}
    for name, metric in metrics_of(config).items():
        values = np.array([pair[name] for pair in pairs], bool if metric.flag else np.float64)
        found[name] = values.swapaxes(0, 1) if metric.by_checkpoint else values
    return found
