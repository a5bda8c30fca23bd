"""What a sweep would do, how long it would take and on how much disk: measured, not guessed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from nanorepro.backends import load_backend
from nanorepro.config import Config
from nanorepro.data import worlds
from nanorepro.results.hdf5 import encode
from nanorepro.results.result import Result
from nanorepro.sweeps.work import Task, parameters_of
from nanorepro.training.simulation import evaluation_set, simulate

BUDGET = 60.0  # seconds that the calibration may take
LEAST = 0.2  # seconds that a measurement must take


@dataclass(frozen=True)
class Speed:
    """How fast runs of one kind are.

    Parameters
    ----------
    each : float
        Seconds an example and model, on one core.
    fixed : float
        Seconds a run whatever its length: the evaluation, the storing.
    first : float
        Seconds that the first run of the kind takes longer, most of it compiling.
    overhead : int
        Bytes of a run's file beside its arrays.
    """

    each: float
    fixed: float
    first: float
    overhead: int


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


def kind(config: Config) -> tuple[object, ...]:
    """What decides which code a run needs."""
    return astuple(_small(config, 5, seed=0, lr=0.1, differ="none"))


def plan(
    todo: Sequence[Task],
    backend: str,
    cores: int,
    say: Callable[[str], None],
    budget: float = BUDGET,
) -> Plan:
    """Time a short run of every kind, as many kinds as the budget allows, and add up."""
    by_kind: dict[tuple[object, ...], list[Config]] = {}
    for task in todo:
        by_kind.setdefault(kind(task.config), []).append(task.config)
    speeds: dict[tuple[object, ...], Speed] = {}
    begin = time.perf_counter()
    longest_first = sorted(by_kind, key=lambda k: -sum(_work(c) for c in by_kind[k]))
    for one in longest_first:
        if speeds and time.perf_counter() - begin > budget:
            break
        speeds[one] = calibrate(max(by_kind[one], key=_work), backend)
        say(f"timed {len(speeds)} of {len(by_kind)} kinds of run")
    by_parameter = np.mean(
        [s.each / (70 + parameters_of(by_kind[k][0])) for k, s in speeds.items()] or [0.0]
    )
    fixed = np.mean([s.fixed for s in speeds.values()] or [0.0])
    first = np.mean([s.first for s in speeds.values()] or [0.0])
    overhead = int(np.mean([s.overhead for s in speeds.values()] or [0]))
    patterns: dict[tuple[object, ...], int] = {}
    seconds = size = 0.0
    for one, configs in by_kind.items():
        each = float(by_parameter) * (70 + parameters_of(configs[0]))
        speed = speeds.get(one) or Speed(each, float(fixed), float(first), overhead)
        seconds += speed.first
        for config in configs:
            seconds += speed.fixed + speed.each * 2 * config.pairs * config.examples
            key = (
                config.data,
                config.content,
                config.log2_eval,
                config.seed if len(todo) < 100 else 0,
            )
            if key not in patterns:
                patterns[key] = _patterns(config, backend)
            size += speed.overhead + _arrays(config, patterns[key])
    models = [2 * task.config.pairs for task in todo]
    examples = sum(m * t.config.examples for m, t in zip(models, todo, strict=True))
    return Plan(len(todo), sum(models), examples, seconds / min(cores, max(len(todo), 1)),
                size, len(speeds), len(by_kind))  # fmt: skip


def calibrate(config: Config, backend: str) -> Speed:
    """Time short runs of the same kind on one core."""

    def timed(log2: int) -> tuple[float, Result, bytes]:
        begin = time.perf_counter()
        small = _small(config, log2, log2_eval=config.log2_eval)
        result = simulate(small, backend, 1)
        data = encode(result)
        return time.perf_counter() - begin, result, data

    compiling, result, data = timed(5)
    fixed, log2 = timed(5)[0], 7
    while True:
        passed = timed(log2)[0] - fixed
        if passed > LEAST or _small(config, log2 + 2).examples > config.examples:
            break
        log2 += 2
    longer, least = (_small(config, n).examples for n in (log2, 5))
    each = max(passed, 1e-6) / (2 * max(longer - least, 1))
    overhead = len(data) - _arrays(result.config, len(result.evaluation.x))
    return Speed(each, fixed, max(compiling - fixed, 0.0), max(overhead, 0))


def _small(config: Config, log2: int, **changes: object) -> Config:
    """A short run of one pair that needs the same code."""
    settings: dict[str, object] = {
        "log2_examples": log2 + max((config.batch - 1).bit_length() - 5, 0), "log2_window": 0,
        "log2_eval": 0, "first_example": 0, "pairs": 1, "eval_every": "", "warm_start": "",
    }  # fmt: skip
    if config.is_given:
        whole = max(1, config.batch // max(config.epoch, 1) + 1)  # epochs of at least a mini-batch
        settings["epochs"] = whole << (log2 - 5)
    return replace(config, **{**settings, **changes})  # type: ignore[arg-type]


def _patterns(config: Config, backend: str) -> int:
    """Distinct patterns of a run's evaluation set; all of the caller's examples."""
    if config.is_given:
        return config.evaluation_examples
    engine = load_backend(backend)
    world = worlds.make_world(config.seed, config.data, engine.exp)
    return len(evaluation_set(config, world, engine.examples).x)


def _arrays(config: Config, patterns: int) -> int:
    """Bytes of the arrays of a run's file."""
    real = 8 if "float64" in config.precision else 4
    return real * 2 * config.pairs * (parameters_of(config) + patterns) + 28 * patterns


def _work(config: Config) -> int:
    return (70 + parameters_of(config)) * config.pairs * config.examples
