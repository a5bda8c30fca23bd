"""What a run in the middle of its training is."""

from collections.abc import Mapping
from dataclasses import dataclass

from nanorepro.backends.protocols import Snapshot
from nanorepro.config import Config

Models = Mapping[tuple[int, int], Snapshot]
"""Models by (pair, model)."""


@dataclass(frozen=True)
class RunState:
    """A run in the middle of its training.

    Parameters
    ----------
    config : Config
        The run.
    models : mapping
        The models that were begun, by (pair, model); those at the last step are finished.
    seconds : float
        Wall time of the training so far.
    started, written : str
        When it began, and when this was the state, in ISO 8601.
    resumed : str
        When and how it went on from a checkpoint, for its provenance; empty if never.
    """

    config: Config
    models: Models
    seconds: float
    started: str
    written: str
    resumed: str = ""

    @property
    def share(self) -> float:
        """The share of the run's steps that is done."""
        done = sum(one.step for one in self.models.values())
        return done / (2 * self.config.pairs * self.config.steps)
