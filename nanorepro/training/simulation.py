"""Pairs of models, trained and measured: the loop that everything else serves (section 2)."""

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from weakref import WeakValueDictionary

import numpy as np

from nanorepro.config import BACKENDS, Config, check_sequence
from nanorepro.data import sampling, worlds
from nanorepro.errors import ConfigError, wrong
from nanorepro.model.layers import Parameters, initial_values, shapes
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.rounding import operations
from nanorepro.numerics.streams import bounded, stream_key, words
from nanorepro.results import metrics
from nanorepro.results.result import Evaluation, Pair, Result, fingerprint
from nanorepro.specification import ModelSpec
from nanorepro.training.example_stream import Chunks

PIECE = 1 << 16  # examples of one call of the training kernel, or one mini-batch
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Trained:
    """One model at the end: its parameters, and its logits (checkpoints, n) on the patterns."""

    parameters: Parameters
    logits: np.ndarray

    @property
    def diverged(self) -> bool:
        """Whether a parameter is NaN or infinite."""
        return not all(np.isfinite(v).all() for v in self.parameters.values())


def load_backend(name: str) -> ModuleType:
    """The backend `numba` or `reference`; raises ConfigError for another name."""
    if name == "numba":
        from nanorepro.backends.numba import backend

        return backend
    if name == "reference":
        from nanorepro.backends import reference

        return reference
    raise wrong("backend", name, " or ".join(BACKENDS))


def initial_parameters(config: Config, pair: int = 0, model: int = 0) -> Parameters:
    """The parameters of one model before training, in its precision, the nudge included."""
    spec = ModelSpec(config, sampling.FEATURES, pair, model)
    return _rounded(spec, initial_values(config, spec.net, pair, model))


def _rounded(spec: ModelSpec, values: Parameters) -> Parameters:
    """Values in the model's precision; of the second model of a pair, nudged if they differ so."""
    d = spec.dials
    ops = operations(numpy_arrays, d.precision, "nearest", d.fma)
    found = {k: np.asarray(ops.const(v), ops.dtype) for k, v in values.items()}
    if spec.model == 1 and "nudge" in spec.config.roles:
        _nudge(found, d.precision, stream_key(spec.config.seed, "nudge", spec.pair))
    return found


def _nudge(parameters: Parameters, precision: str, key: np.ndarray) -> None:
    """Move one weight, drawn from all, one unit in the last place towards +infinity, in place."""
    names = [name for name in parameters if not name.startswith("b")]
    sizes = [parameters[name].size for name in names]
    high, low = words(key, np.arange(1))[:2]
    at = int(bounded(high[0], low[0], np.uint64(sum(sizes))))
    for name, size in zip(names, sizes, strict=True):
        if at < size:
            value = parameters[name].reshape(-1)[at : at + 1]
            if precision.startswith("bits:"):
                unit = 1 << (24 - int(precision[5:]))
                bits = value.view(np.int32)
                # the pattern of a float grows with its magnitude; the next after -0 is the least
                bits += -unit if value[0] < 0 else unit
            else:
                value[:] = np.nextafter(value, np.array(np.inf, value.dtype))
            return
        at -= size


def evaluation_set(config: Config, world: worlds.World, draw=sampling.examples) -> Evaluation:
    """The N evaluation examples of a seed, the same for all pairs, as distinct patterns.

    `draw` is any backend's `examples`.
    """
    x, _ = draw(world, stream_key(config.seed, "evaluation"), 0, 1 << config.log2_eval)
    patterns, counts = np.unique(x, return_counts=True)
    return Evaluation(patterns, counts, sampling.example_log_odds(world, patterns))


class Interrupted(Exception):
    """Raised in the workers when the run is to end early."""


class _Run:
    """What the workers of a run share."""

    def __init__(self, config: Config, backend: ModuleType, start, progress: Progress | None):
        self.config, self.backend, self.start, self.progress = config, backend, start, progress
        self.world = worlds.make_world(config.seed, config.data, backend.exp)
        self.evaluation = evaluation_set(config, self.world, backend.examples)
        self.pairs: WeakValueDictionary[int, Chunks] = WeakValueDictionary()
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.done = 0

    @cached_property
    def truth(self) -> metrics.Prediction:
        return self.prediction(self.evaluation.log_odds)

    @cached_property
    def constant_loss(self) -> float:
        return metrics.constant_loss(self.truth, self.evaluation.counts)

    def prediction(self, z: np.ndarray) -> metrics.Prediction:
        return metrics.Prediction(z, self.backend.exp, self.backend.log, self.backend.fsum)

    def report(self, examples: int) -> None:
        if self.stop.is_set():
            raise Interrupted
        with self.lock:
            self.done += examples
            if self.progress:
                self.progress(self.done, 2 * self.config.pairs * self.config.examples)

    def initial(self, pair: int, model: int) -> Parameters:
        if self.start is None:
            return initial_parameters(self.config, pair, model)
        records = self.start[pair % len(self.start)]
        record = records[model if "init" in self.config.roles else 0]
        spec = ModelSpec(self.config, sampling.FEATURES, pair, model)
        return _rounded(spec, record)

    def chunks(self, pair: int) -> Chunks:
        """The examples of a pair, for as long as one of its models is being trained."""
        with self.lock:
            found = self.pairs.get(pair)
            if found is None:
                found = self.pairs[pair] = Chunks(self.config, pair, self.world, self.backend)
            return found

    def train(self, pair: int, models: Sequence[int]) -> list[Trained]:
        """Train models of one pair side by side on the pair's examples."""
        c = self.config
        specs = [ModelSpec(c, sampling.FEATURES, pair, m) for m in models]
        running = [self.backend.Model(r, self.initial(pair, r.model)) for r in specs]
        logits: list[list[np.ndarray]] = [[] for _ in models]
        shuffles = [r.key("shuffle") for r in specs]
        chunks = self.chunks(pair)
        joined, piece = np.empty(chunks.size, np.uint64), max(PIECE, c.batch)
        x, y = np.empty(piece, np.uint32), np.empty(piece, np.uint8)
        for k in range(chunks.count):
            first, n = k * chunks.size, chunks.length(k)
            segments = _segments(c, first, n)
            for at, model in enumerate(running):
                chunks.take(models[at], k, joined[:n])
                rows = joined[:n].reshape(-1, c.window)
                self.backend.shuffle(rows, shuffles[at], first // c.window)
                for low, high, evaluate in segments:
                    xs, ys = x[: high - low], y[: high - low]
                    self.backend.split(joined[low:high], xs, ys)
                    model.train(xs[:, None], ys)
                    if evaluate:
                        logits[at].append(model.logits(self.evaluation.x[:, None]))
                    self.report(high - low)
        return [
            Trained(model.parameters(), np.array(z))
            for model, z in zip(running, logits, strict=True)
        ]

    def measure(self, models: list[Trained]) -> tuple[list[Pair], float, float, float]:
        """Of one pair: its measures at each checkpoint, and how its weights lie at the end."""
        first, second = (m.parameters for m in models)
        comparable = self.config.model == "linear" and self.config.data == "linear"
        return (
            [_pair(self, models, c) for c in range(len(self.config.checkpoints))],
            metrics.weight_distance(first, second, self.backend.fsum),
            metrics.weight_correlation(first, second, self.backend.fsum),
            metrics.deviation_cosine(first, second, self.world.theta) if comparable else math.nan,
        )


def _segments(config: Config, first: int, n: int) -> list[tuple[int, int, bool]]:
    """Parts (low, high, whether a checkpoint follows) of a chunk of n examples from `first` on."""
    marks = {s * config.batch - first for s in config.checkpoints}
    inside = {m for m in marks if 0 < m <= n}
    piece = max(PIECE, config.batch)
    ends = sorted(inside | {n} | set(range(piece, n, piece)))
    return [(a, b, b in inside) for a, b in zip([0, *ends], ends, strict=False)]


def _jobs(pairs: int, threads: int) -> list[tuple[int, tuple[int, ...]]]:
    """Work for the threads: whole pairs, and single models where pairs do not fill all threads."""
    whole = pairs - pairs % threads
    jobs: list[tuple[int, tuple[int, ...]]] = [(k, (0, 1)) for k in range(whole)]
    return jobs + [(k, (m,)) for k in range(whole, pairs) for m in (0, 1)]


def simulate(
    config: Config,
    backend: str = "numba",
    threads: int | None = None,
    progress: Progress | None = None,
    start: Sequence[Sequence[Parameters]] | None = None,
) -> Result:
    """Train and measure all pairs of a run: a pure function of the configuration.

    `threads` (all cores if None) and `backend` change no bit.  `start` holds the parameters
    [pair][model] to start from, whose fingerprint config.warm_start names: pair k starts from
    pair k mod len(start), both models from its first unless they differ in init.
    Raises ConfigError for a configuration that cannot be run.
    """
    check_sequence(config)
    threads = _check_threads(threads)
    engine = load_backend(backend)
    _check_start(config, start)
    begin = time.perf_counter()
    run = _Run(config, engine, start, progress)
    jobs = _jobs(config.pairs, threads)
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run.train, *job) for job in jobs]
        try:
            trained: list[list[Trained]] = [[] for _ in range(config.pairs)]
            measured = []
            for (pair, _), future in zip(jobs, futures, strict=True):
                trained[pair] += future.result()
                if len(trained[pair]) == 2:  # while the next pairs are being trained
                    measured.append(run.measure(trained[pair]))
        except BaseException:
            run.stop.set()
            for future in futures:
                future.cancel()
            raise
    series, distance, correlation, cosine = zip(*measured, strict=True)
    parameters = [[m.parameters for m in models] for models in trained]
    return Result(
        config=config,
        backend=backend,
        parameters=parameters,
        evaluation=run.evaluation,
        logits=np.array([[m.logits for m in models] for models in trained]),
        checkpoints=config.checkpoints,
        series=[list(at) for at in zip(*series, strict=True)],
        weight_distance=list(distance),
        weight_correlation=list(correlation),
        deviation_cosine=list(cosine),
        constant_loss=run.constant_loss,
        fingerprint=fingerprint(parameters),
        seconds=time.perf_counter() - begin,
    )


def _pair(run: _Run, models: list[Trained], c: int) -> Pair:
    """The measures of one pair at checkpoint c."""
    truth, counts = run.truth, run.evaluation.counts

    def is_bad(m: Trained) -> bool:
        return not np.isfinite(m.logits[c]).all() or (m.diverged and c == len(m.logits) - 1)

    bad = (is_bad(models[0]), is_bad(models[1]))
    if any(bad):
        nan = float("nan")
        return Pair(nan, (nan, nan), (False, False), bad, nan, nan)
    z1, z2 = (run.prediction(m.logits[c]) for m in models)
    loss = (metrics.excess_loss(truth, z1, counts), metrics.excess_loss(truth, z2, counts))
    constant = run.constant_loss
    return Pair(
        pd=metrics.relative_pd(truth, z1, z2, counts),
        loss=loss,
        stuck=(metrics.is_stuck(loss[0], constant), metrics.is_stuck(loss[1], constant)),
        diverged=(False, False),
        churn=metrics.churn(z1, z2, counts),
        disagreement=metrics.disagreement(z1, z2, counts),
    )


def _check_threads(threads: int | None) -> int:
    if threads is None:
        return os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise wrong("threads", threads, "1 to 1024")
    return threads


def _check_start(config: Config, start) -> None:
    if (start is None) == bool(config.warm_start):
        raise ConfigError("a fingerprint goes with parameters", "warm_start", "both or neither")
    if start is None:
        return
    if fingerprint(start) != config.warm_start:
        raise ConfigError("the parameters are not those of the fingerprint", "warm_start")
    for pair in start:
        for record in pair:
            check_parameters(config, sampling.FEATURES, record)


def check_parameters(
    config: Config, features: int, parameters: object, name: str = "parameters"
) -> Parameters:
    """A record of parameters with the names and shapes of the model; raises ConfigError."""
    expected = shapes(ModelSpec(config, features, 0, 0).net)
    if not isinstance(parameters, dict) or set(parameters) != set(expected):
        raise ConfigError(f"{name}: give a dict of {', '.join(expected)}")
    found = {}
    for key, shape in expected.items():
        value = np.asarray(parameters[key])
        if value.shape != shape or value.dtype.kind != "f":
            raise ConfigError(
                f"{name}: {key} is {value.dtype} {value.shape}; give floats of shape {shape}"
            )
        if not np.isfinite(value).all():
            raise ConfigError(f"{name}: {key} has NaN or infinity; give finite numbers")
        found[key] = value + 0.0  # -0 becomes +0, as everywhere in the contract
    return found
