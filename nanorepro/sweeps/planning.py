"""What a sweep would do, how long it would take and on how much disk: measured, not guessed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nanorepro.config import Config
from nanorepro.specification import example_cost
from nanorepro.sweeps.work import Task
from nanorepro.training.calibration import Calibration, Speed

BUDGET = 60.0  # seconds that the calibration may take


@dataclass(frozen=True)
class Plan:
    """What is left of a sweep.

    Parameters
    ----------
    runs, models, examples : int
        To be made; examples counted once for every model.
    seconds : float
        How long it takes with the given number of cores.
    size : float
        Bytes of the files.
    measured, kinds : int
        Kinds of run that were timed, and that there are; the others are taken for as fast, by
        parameter, as the average of those.
    """

    runs: int
    models: int
    examples: int
    seconds: float
    size: float
    measured: int
    kinds: int


def plan(
    todo: Sequence[Task],
    backend: str,
    cores: int,
    budget: float = BUDGET,
) -> Plan:
    """Time short runs of every kind, as many kinds as the budget allows, and add up.

    What was timed is compiled from then on, so that its compiling does not count.
    """
    by_kind: dict[Config, list[Task]] = {}
    for task in todo:
        by_kind.setdefault(Calibration.kind(task.config), []).append(task)
    calibration = Calibration(backend, 1)
    begin = time.perf_counter()
    seconds = size = 0.0
    average: Speed | None = None  # whose `each` is by parameter
    for some in sorted(by_kind.values(), key=lambda some: -sum(task.cost for task in some)):
        for config in [task.config for task in some]:
            if config in calibration or not average:
                speed = calibration.speed(config)
                if not average and time.perf_counter() - begin > budget:
                    average = _average(calibration)
            else:
                speed = replace(average, each=average.each * example_cost(config))
            seconds += speed.seconds(config)
            size += speed.size(config)
        if average and some[0].config not in calibration:
            seconds += average.first
    measured = len(calibration.kinds)
    models = [2 * task.config.pairs for task in todo]
    examples = sum(m * t.config.examples for m, t in zip(models, todo, strict=True))
    # a run alone has all cores, of which each of its models uses one
    used = min(cores, max(len(todo), sum(models) if len(todo) < cores else 0))
    return Plan(
        len(todo), sum(models), examples, seconds / max(used, 1), size, measured, len(by_kind)
    )


def _average(calibration: Calibration) -> Speed:
    """The average of what was measured."""
    found = [replace(speed, each=speed.each / example_cost(kind))
             for (kind, _), speed in calibration.speeds.items()]  # fmt: skip

    def mean(name: str) -> float:
        return float(np.mean([getattr(one, name) for one in found]))

    return Speed(
        each=mean("each"),
        pair=mean("pair"),
        fixed=mean("fixed"),
        first=mean("first"),
        threads=found[0].threads,
        patterns=int(mean("patterns")),
        overhead=int(mean("overhead")),
    )
