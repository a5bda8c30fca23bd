"""A run's evaluation set, and what is measured of its trained pairs on it."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np

from nanorepro.backends.protocols import Backend, Trained
from nanorepro.config import Config
from nanorepro.data import sampling
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.results.result import Evaluation, Pair

Examples = Callable[[World, np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]


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
        return metrics.constant_loss(self.truth, self.evaluation.counts)

    def prediction(self, z: np.ndarray) -> metrics.Prediction:
        return metrics.Prediction(z, self.backend.exp, self.backend.log, self.backend.fsum)

    def measure(self, models: list[Trained]) -> tuple[list[Pair], float, float, float]:
        """Of one pair: its measures at each checkpoint, and how its weights lie at the end."""
        first, second = (m.parameters for m in models)
        comparable = self.config.model == "linear" and self.config.data == "linear"
        with np.errstate(over="ignore", invalid="ignore"):  # of weights that are about to diverge
            return (
                [self.pair(models, c) for c in range(len(self.config.checkpoints))],
                metrics.weight_distance(first, second, self.backend.fsum),
                metrics.weight_correlation(first, second, self.backend.fsum),
                metrics.deviation_cosine(first, second, self.world.theta)
                if comparable
                else math.nan,
            )

    def pair(self, models: list[Trained], c: int) -> Pair:
        """The measures of one pair at checkpoint c."""
        truth, counts = self.truth, self.evaluation.counts

        def is_bad(m: Trained) -> bool:
            return not np.isfinite(m.logits[c]).all() or (m.diverged and c == len(m.logits) - 1)

        bad = (is_bad(models[0]), is_bad(models[1]))
        if any(bad):
            nan = float("nan")
            return Pair(nan, (nan, nan), (False, False), bad, nan, nan)
        z1, z2 = (self.prediction(m.logits[c]) for m in models)
        loss = (metrics.excess_loss(truth, z1, counts), metrics.excess_loss(truth, z2, counts))
        constant = self.constant_loss
        return Pair(
            pd=metrics.relative_pd(truth, z1, z2, counts),
            loss=loss,
            stuck=(metrics.is_stuck(loss[0], constant), metrics.is_stuck(loss[1], constant)),
            diverged=(False, False),
            churn=metrics.churn(z1, z2, counts),
            disagreement=metrics.disagreement(z1, z2, counts),
        )
