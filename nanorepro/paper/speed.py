"""How long runs take, from short ones that are measured."""

import time
from dataclasses import dataclass, replace

from nanorepro.config import Config
from nanorepro.training.signals import ends_at_once
from nanorepro.training.simulation import simulate

NAME = "nanorepro.figure"
ENOUGH = 0.1  # seconds above the shortest run's from which a run's time is taken to be its own
LONGEST = 26  # log2 of the examples of the longest run that is measured


@dataclass(frozen=True)
class Speed:
    """What a kind of run takes: `fixed` seconds, and `each` seconds an example and model."""

    fixed: float
    each: float

    def seconds(self, config: Config) -> float:
        """How long a run of that kind takes."""
        return self.fixed + self.each * 2 * config.pairs * config.examples


def calibrate(config: Config, threads: int) -> Speed:
    """The speed of a kind of run, from runs that grow until they take a time that can be told.

    They may be longer than the run itself, of which the training may take no time that can.
    """
    small = replace(config, warm_start="", first_example=0, eval_every="", pairs=threads)

    def seconds(log2: int) -> float:
        window = min(config.log2_window, log2 - 5)
        trial = replace(small, log2_examples=log2, log2_window=window)
        with ends_at_once(NAME):
            begin = time.perf_counter()
            simulate(trial, "numba", threads)
            return time.perf_counter() - begin

    seconds(5)  # compiles
    fixed = min(seconds(5), seconds(5))
    log2 = 7
    while (passed := seconds(log2) - fixed) < ENOUGH and log2 < LONGEST:
        log2 += 1 if passed > ENOUGH / 4 else 2
    passed = min(passed, seconds(log2) - fixed) if passed > ENOUGH else passed
    return Speed(fixed, max(passed, 0.0) / (2 * small.pairs * ((1 << log2) - 32)))
