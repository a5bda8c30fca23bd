"""How long runs take and how large their files are, from short runs of their kind."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nanorepro.backends import load_backend
from nanorepro.backends.protocols import TrainsGroups
from nanorepro.config import Config
from nanorepro.results.hdf5 import encode
from nanorepro.results.metrics import metrics_of
from nanorepro.results.result import Result
from nanorepro.specification import parameters_of
from nanorepro.training.example_stream import CHUNK
from nanorepro.training.simulation import simulate

BUDGET = 1.0  # seconds that the last two of the short runs may take, about
ENOUGH = 0.1  # seconds of training from which a run's time is taken to be its own
SHORTEST, LONGEST = 5, 26  # log2 of the examples of the short runs, of mini-batches of 32


@dataclass(frozen=True)
class Speed:
    """What runs of one kind take.

    Parameters
    ----------
    each : float
        Seconds of one core for an example and model.
    pair : float
        Seconds of one core for a pair and checkpoint: the evaluation, the measures.
    fixed : float
        Seconds a run besides.
    first : float
        Seconds that the first run took longer, most of it compiling.
    threads : int
        Cores that were at work; of a backend that trains all models of a run at once, 1.
    patterns : int
        Evaluation patterns.
    overhead : int
        Bytes of a file beside the models' arrays and measures.
    """

    each: float
    pair: float
    fixed: float
    first: float
    threads: int
    patterns: int
    overhead: int

    def seconds(self, config: Config) -> float:
        """How long a run takes with these threads."""
        one = self.each * config.examples + self.pair / 2 * len(config.checkpoints)
        return self.fixed + one * 2 * config.pairs / min(self.threads, 2 * config.pairs)

    def size(self, config: Config) -> int:
        """Bytes of its file."""
        return self.overhead + model_bytes(config, self.patterns)


class Calibration:
    """The speeds of the kinds of run that were asked for, each measured once.

    Parameters
    ----------
    backend : {"numba", "reference", "cupy"}
        What computes the runs.
    threads : int
        Threads that a run has.
    clock : callable, optional
        The time in seconds.  If None, that of the processor in all threads, as others that use the
        cores now may not later; of a backend that trains on a device, that of the wall.
    """

    def __init__(self, backend: str, threads: int, clock: Callable[[], float] | None = None):
        self.backend = backend
        self.together = isinstance(load_backend(backend), TrainsGroups)
        self.clock = clock or (time.perf_counter if self.together else time.process_time)
        self.threads = 1 if self.together else threads
        self.speeds: dict[tuple[Config, int], Speed] = {}  # by kind and window
        self.reached: dict[Config, int] = {}  # examples of the longest run of a kind

    @staticmethod
    def kind(config: Config) -> Config:
        """What the speed depends on, but for the window: the code, the evaluation set."""
        return shortest(config, log2_eval=config.log2_eval)

    @property
    def kinds(self) -> set[Config]:
        """The kinds that were measured."""
        return set(self.reached)

    def __contains__(self, config: Config) -> bool:
        return self._key(config) in self.speeds

    def speed(self, config: Config) -> Speed:
        """The speed of runs such as this one."""
        if config not in self:
            speed = self._measure(config)
            self.speeds[self._key(config)] = speed
        return self.speeds[self._key(config)]

    def _key(self, config: Config) -> tuple[Config, int]:
        """The kind of a run, and its window where another would show in the time.

        Those up to a chunk of examples cost the same, and so do those beyond what was measured.
        """
        kind = self.kind(config)
        if self.together:
            kind = replace(kind, pairs=config.pairs)
        return kind, max(CHUNK, min(config.window, self.reached.get(kind, config.window)))

    def _measure(self, config: Config) -> Speed:
        """Solve seconds = fixed + pairs·(pair + 2·examples·each) from runs of several lengths.

        The two longest give `each`, a short one of more pairs `pair`, the short one the rest.  Runs
        are made four times as long until their training takes long enough to be told, and as long
        as the run in question is, if that is within LONGEST.
        """
        pairs = config.pairs if self.together else self.threads

        def timed(log2: int, pairs: int = pairs) -> tuple[float, Result]:
            window = min(config.log2_window, log2 - SHORTEST)
            short = shortest(config, log2, log2_window=window, log2_eval=config.log2_eval,
                             pairs=pairs)  # fmt: skip
            begin = self.clock()
            result = simulate(short, self.backend, self.threads, checkpoint_minutes=0)
            return self.clock() - begin, result

        def least(log2: int, pairs: int = pairs) -> tuple[float, Result]:
            """The least of two times: the first run of some length may compile, or be disturbed."""
            return min((timed(log2, pairs) for _ in range(2)), key=lambda one: one[0])

        seconds_compiling, _ = timed(SHORTEST)
        seconds_short, short = least(SHORTEST)
        seconds_more_pairs, _ = least(SHORTEST, 4 * pairs)
        examples_short, log2 = short.config.examples, SHORTEST
        seconds, examples, long_enough = seconds_short, examples_short, False
        while not long_enough:
            seconds_before, examples_before = seconds, examples
            log2 += 2
            seconds, long = least(log2)
            examples, training = long.config.examples, seconds - seconds_short
            at_the_end = log2 >= LONGEST - 1
            told = training > ENOUGH or at_the_end
            as_long = at_the_end or 2 * examples > config.examples
            long_enough = 8 * training > BUDGET or (told and as_long)
        kind = self._key(config)[0]
        self.reached[kind] = max(examples, self.reached.get(kind, 0))
        each = max(seconds - seconds_before, 0.0) / (2 * pairs * (examples - examples_before))
        of_a_pair = max(seconds_more_pairs - seconds_short, 0.0) / (3 * pairs)
        pair = max(of_a_pair - 2 * examples_short * each, 0.0)
        patterns = len(short.evaluation.x)
        return Speed(
            each=each,
            pair=pair,
            fixed=max(seconds_short - pairs * (pair + 2 * examples_short * each), 0.0),
            first=max(seconds_compiling - seconds_short, 0.0),
            threads=self.threads,
            patterns=patterns,
            overhead=len(encode(short)) - model_bytes(short.config, patterns),
        )


def shortest(config: Config, log2: int = SHORTEST, **changes: object) -> Config:
    """A short run that needs the same code: by default one pair, on a mini-batch or an epoch.

    log2: of its examples, for mini-batches of up to 32; larger ones take as many
    """
    settings: dict[str, object] = {
        "log2_examples": log2 + max((config.batch - 1).bit_length() - SHORTEST, 0),
        "log2_window": 0, "log2_eval": 0, "first_example": 0, "first_stream": 0, "pairs": 1,
        "seed": 0, "lr": 0.1, "differ": "none", "eval_every": "", "warm_start": "",
    }  # fmt: skip
    if config.is_given:
        whole = max(1, config.batch // max(config.epoch, 1) + 1)  # epochs of at least a mini-batch
        settings |= {"epochs": whole << (log2 - SHORTEST), "pair_examples": "share"}
    return replace(config, **{**settings, **changes})  # type: ignore[arg-type]


def model_bytes(config: Config, patterns: int) -> int:
    """Bytes of the arrays of a run's file that its models and checkpoints make longer."""
    sizes = {"pair": config.pairs, "model": 2, "checkpoint": len(config.checkpoints)}
    found = (8 if "float64" in config.precision else 4) * 2 * config.pairs
    found *= parameters_of(config) + patterns
    for metric in metrics_of(config).values():
        found += math.prod(sizes[d] for d in metric.dims) * np.dtype(metric.dtype).itemsize
    return found
