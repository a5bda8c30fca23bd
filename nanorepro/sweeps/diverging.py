"""Where the models of pairs part, of pairs found in a folder and of those measured now.

A folder keeps what was measured of each pair as a line of `diverge/<id>-<per_octave>.jsonl`, sealed
as those of the journal are: <id> is that of the configuration with one pair, so that a call for
more pairs finds those that are there.
"""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.analysis.divergence import (
    PER_OCTAVE,
    THRESHOLD,
    Divergence,
    PairDivergence,
    measured_pairs,
    steps_measured,
)
from nanorepro.analysis.parting import Branch, LossParting, Parting, Weight, comparable
from nanorepro.arguments import (
    folder_or_file,
    function_or_none,
    number_between,
    whole_within,
)
from nanorepro.backends import load_backend
from nanorepro.backends.protocols import Traces
from nanorepro.config import MOST_PER_OCTAVE, Config, check_sequence
from nanorepro.errors import ConfigError, wrong
from nanorepro.results.files import NotWritten
from nanorepro.results.provenance import provenance
from nanorepro.sweeps import journal
from nanorepro.training.examples import with_content
from nanorepro.training.threads import Progress, number_of_threads

PAIRS, VERSION = "diverge", 1


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


def diverge(
    config: Config,
    backend: str = "numba",
    threads: int | str | None = None,
    progress: Progress | None = None,
    threshold: float = THRESHOLD,
    per_octave: int = PER_OCTAVE,
    data: object = None,
    folder: str | Path | None = None,
    say: Callable[[str], None] = _warn,
) -> Divergence:
    """Train every pair in step, and say where, when and how fast its two models part.

    Parameters
    ----------
    config : Config
        What is trained.  `differ="nudge"` with `nudge_at`, `nudge_ulps` and `nudge_weights` plants
        a difference where and when it is wanted.
    backend : {"numba", "reference"}
        What computes it.
    threads : int or "all", optional
        Pairs that are trained at a time.
    progress : callable, optional
        Called as progress(done, total) with examples trained on; looking for the branch and the
        loss may end before all are.
    threshold : float
        The relative PD above which a pair counts as parted.
    per_octave : int
        Steps at which the pairs are measured, for each doubling.
    data : tuple of array_like, optional
        Your own examples, as for `simulate`.
    folder : str or Path, optional
        Where each pair is kept as soon as it has been measured; those that are there are not
        trained again.  None: nothing is kept.
    say : callable, optional
        Takes a line that the user should see: that a pair could not be kept.

    Returns
    -------
    Divergence
        The first step, weight and bit in which each pair differs; the first mini-batch in which an
        activation takes another branch, and in which the rounded training loss differs; distance,
        PD and excess loss over training; growth rate; survival of pairs that have not parted.

    Raises
    ------
    ConfigError
        For a configuration or an argument that cannot be run, and for a folder that holds a pair
        twice with other numbers.

    Examples
    --------
    >>> from nanorepro import Config, diverge
    >>> config = Config(model="double", log2_examples=10, log2_eval=6, pairs=1, differ="nudge",
    ...                 nudge_at=5)
    >>> found = diverge(config, backend="reference").pairs[0].parting
    >>> found.step, found.weights, found.first.ulps
    (5, 1, 1)
    """
    config, given = with_content(config, data)
    check_sequence(config)
    if config.warm_start:
        raise ConfigError("no warm start here", "warm_start", "none")
    threshold = number_between("threshold", threshold, 0.0, math.inf, "a number above 0")
    per_octave = whole_within("per_octave", per_octave, 1, MOST_PER_OCTAVE)
    function_or_none("progress", progress, "a function of examples done and in all")
    function_or_none("say", say, "a function of a line of text")
    if folder is not None:
        folder = folder_or_file("folder", folder, "the path of a folder")
    engine = load_backend(backend)
    if not isinstance(engine, Traces):
        raise wrong("backend", backend, "numba or reference, which can be traced")
    steps = steps_measured(config.steps, per_octave)
    kept = None if folder is None else KeptPairs(folder, config, per_octave)

    def keep(pair: PairDivergence) -> None:
        try:
            if kept is not None:
                kept.append(pair, backend)
        except NotWritten as error:
            say(f"pair {pair.pair} could not be kept: {error}")

    pairs = measured_pairs(
        config, engine, given, steps, number_of_threads(threads), progress,
        kept.read(steps) if kept is not None else {}, keep,
    )  # fmt: skip
    return Divergence(config, steps, threshold, pairs, comparable(config), per_octave)


class KeptPairs:
    """The pairs of a configuration that a folder holds."""

    def __init__(self, folder: str | Path, config: Config, per_octave: int):
        alone = config if config.pair_examples == "split" else replace(config, pairs=1)
        self.config, self.per_octave, self.id = config, per_octave, alone.id
        self.path = Path(folder) / PAIRS / f"{self.id}-{per_octave}.jsonl"

    def read(self, steps: tuple[int, ...]) -> dict[int, PairDivergence]:
        """Those of the configuration, by number; lines that are torn or changed are passed over.

        Raises ConfigError if the file cannot be read, or has other numbers of the same pair.
        """
        records: dict[int, Any] = {}
        try:
            for line in journal.records(self.path):
                what = (line.get("version"), line.get("id"), line.get("per_octave"))
                if what != (VERSION, self.id, self.per_octave):
                    continue
                record = line["measured"]
                if records.setdefault(record["pair"], record) != record:
                    problem = f"it has pair {record['pair']} twice, with other numbers"
                    raise ConfigError(problem, repr(str(self.path)), "a folder of its own")
        except OSError as error:
            reason = error.strerror or "it cannot be read"
            raise ConfigError(reason, repr(str(self.path)), "a folder of runs") from None
        found = {k: pair_of(r) for k, r in records.items() if k < self.config.pairs}
        return {k: pair for k, pair in found.items() if len(pair.pd) == len(steps)}

    def append(self, pair: PairDivergence, backend: str) -> None:
        """Keep a pair; raises NotWritten."""
        line = {
            "version": VERSION,
            "id": self.id,
            "per_octave": self.per_octave,
            "config": journal.record_of(self.config),
            "measured": record_of(pair),
            "backend": backend,
            "provenance": provenance(self.config),
        }
        try:
            os.makedirs(self.path.parent, exist_ok=True)
            journal.append(self.path, journal.sealed(line))
        except OSError as error:
            raise NotWritten(self.path, error) from None


def record_of(pair: PairDivergence) -> dict[str, Any]:
    """A pair as plain values, numbers that are not finite as text."""
    found: dict[str, Any] = _plain(asdict(pair))
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def pair_of(record: dict[str, Any]) -> PairDivergence:
    """The pair of `record_of`."""
    arrays = {n: np.array(record[n], np.float64) for n in ("distance", "pd", "excess_loss")}
    part, branch, loss = (record[name] for name in ("parting", "branch", "loss"))
    if part is not None:
        first = {**part["first"], "index": tuple(part["first"]["index"])}
        part = Parting(**{**part, "first": Weight(**_values(first))})
    return PairDivergence(
        record["pair"],
        part,
        None if branch is None else Branch(**_values(branch)),
        None if loss is None else LossParting(**_values(loss)),
        **arrays,
    )


def _values(record: dict[str, Any]) -> dict[str, Any]:
    first, second = record["values"]
    return {**record, "values": (float(first), float(second))}
