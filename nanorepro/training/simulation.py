"""Pairs of models, trained and measured: the loop that everything else serves (section 2)."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import numpy as np

from nanorepro.backends import load_backend
from nanorepro.backends.protocols import Backend, Group, Interrupted, Trained, TrainsGroups
from nanorepro.config import Config, check_sequence
from nanorepro.data import sampling, worlds
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters
from nanorepro.results.provenance import provenance
from nanorepro.results.result import Result, fingerprint
from nanorepro.specification import ModelSpec
from nanorepro.training.example_stream import ExampleStream
from nanorepro.training.group import train_group
from nanorepro.training.measuring import Measurer, Measures, evaluation_set, in_arrays
from nanorepro.training.parameters import (
    check_parameters,
    initial_parameters,
    starting_record,
)
from nanorepro.training.threads import check_threads

__all__ = ["Progress", "evaluation_set", "initial_parameters", "load_backend", "simulate"]

Progress = Callable[[int, int], None]
Start = Sequence[Sequence[Parameters]]


@dataclass(frozen=True)
class Job:
    """What one thread trains at a time: models of the run, as (pair, model)."""

    models: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        pairs = sorted({pair for pair, _ in self.models})
        return f"pair {pairs[0]}" if len(pairs) == 1 else f"pairs {pairs[0]} to {pairs[-1]}"


def jobs_of(pairs: int, threads: int, together: bool) -> list[Job]:
    """Work for the threads: whole pairs, and single models where pairs do not fill all threads.

    `together`: all models of the run at once, for a backend that trains groups.
    """
    if together:
        return [Job(tuple((k, m) for k in range(pairs) for m in (0, 1)))]
    whole = pairs - pairs % threads
    jobs = [Job(((k, 0), (k, 1))) for k in range(whole)]
    return jobs + [Job(((k, m),)) for k in range(whole, pairs) for m in (0, 1)]


class Simulation:
    """What the threads of a run share: its world, its example streams, how far it is."""

    def __init__(
        self, config: Config, backend: Backend, start: Start | None, progress: Progress | None
    ):
        self.config, self.backend, self.start, self.progress = config, backend, start, progress
        self.world = worlds.make_world(config.seed, config.data, backend.exp)
        self.measurer = Measurer(config, self.world, backend)
        self.streams: WeakValueDictionary[int, ExampleStream] = WeakValueDictionary()
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.done = 0

    def report(self, examples: int) -> None:
        """Count examples that were trained on; ends the thread's work if the run is to end."""
        if self.stop.is_set():
            raise Interrupted
        with self.lock:
            self.done += examples
            if self.progress:
                self.progress(self.done, 2 * self.config.pairs * self.config.examples)

    def starting(self, spec: ModelSpec) -> Parameters:
        """What a model starts from: its initial parameters, or those of the warm start."""
        if self.start is None:
            return initial_parameters(self.config, spec.pair, spec.model)
        records = self.start[spec.pair % len(self.start)]
        record = records[spec.model if "init" in self.config.roles else 0]
        return starting_record(spec, record)

    def stream(self, pair: int) -> ExampleStream:
        """The examples of a pair, for as long as one of its models is being trained."""
        with self.lock:
            found = self.streams.get(pair)
            if found is None:
                found = ExampleStream(self.config, pair, self.world, self.backend)
                self.streams[pair] = found
            return found

    def train(self, job: Job) -> list[Trained]:
        """Train the models of a job, in its order."""
        specs = [ModelSpec(self.config, sampling.FEATURES, k, m) for k, m in job.models]
        starts = [self.starting(spec) for spec in specs]
        group = Group(specs, starts, self.world, self.measurer.evaluation.x)
        try:
            if isinstance(self.backend, TrainsGroups):
                return self.backend.train_group(group, self.report)
            return train_group(self.backend, group, self.stream(specs[0].pair), self.report)
        except (Interrupted, ConfigError):
            raise
        except BaseException as error:
            error.add_note(f"while training {job}")
            raise


def run_jobs(
    simulation: Simulation, jobs: Sequence[Job], threads: int
) -> tuple[list[list[Trained]], list[Measures]]:
    """Train all jobs and measure every pair as soon as it is trained; both by pair.

    The first failure ends the run: threads at work stop at their next report.
    """
    pairs = simulation.config.pairs
    trained: dict[tuple[int, int], Trained] = {}
    measured: dict[int, Measures] = {}
    with ThreadPoolExecutor(threads) as pool:
        futures = {pool.submit(simulation.train, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                models = futures[future].models
                trained.update(zip(models, future.result(), strict=True))
                for pair in sorted({pair for pair, _ in models}):
                    if (pair, 0) in trained and (pair, 1) in trained:
                        both = [trained[pair, 0], trained[pair, 1]]
                        measured[pair] = simulation.measurer.measure(both)
        except BaseException:
            simulation.stop.set()
            for future in futures:
                future.cancel()
            raise
    ordered = range(pairs)
    return [[trained[k, 0], trained[k, 1]] for k in ordered], [measured[k] for k in ordered]


def simulate(
    config: Config,
    backend: str = "numba",
    threads: int | str | None = None,
    progress: Progress | None = None,
    start: Start | None = None,
) -> Result:
    """Train and measure all pairs of a run: a pure function of the configuration.

    Parameters
    ----------
    config : Config
        The run; nothing else changes a bit of its parameters, logits and measures.
    backend : {"numba", "reference", "cupy"}
        What computes it.
    threads : int or "all", optional
        Threads, from 1 to 1024; None and "all" mean all CPUs that this process may use.
    progress : callable, optional
        Called as progress(done, total) with the examples trained on so far and in the whole run,
        each counted once for every model.  The calls come from the threads at work, one at a time;
        an exception raised in one ends the run and comes out of `simulate`.
    start : sequence of sequences of records, optional
        The parameters [pair][model] to start from instead of initial ones: those of the run whose
        fingerprint config.warm_start names.  Pair k starts from pair k mod len(start), both models
        from its first unless they differ in `init`.  The optimizer starts anew: a run is not the
        continuation of another that ended there.

    Returns
    -------
    Result
        Parameters, logits, measures of every pair and checkpoint, fingerprint and provenance.

    Raises
    ------
    ConfigError
        For a configuration or an argument that cannot be run; nothing was trained.

    Notes
    -----
    Excess loss is eq. 2 and relative PD eq. 3 of the paper,
    Δ_r = mean over examples of |p̂_1(1) - p̂_2(1)| / p_θ(1), averaged over the pairs.
    Ctrl-C and any other failure end the threads at work before the exception leaves.

    Examples
    --------
    >>> from nanorepro import Config, simulate
    >>> config = Config(model="linear", log2_examples=8, log2_eval=8, pairs=2)
    >>> result = simulate(config, backend="reference")
    >>> len(result.fingerprint), len(result.pairs), result.relative_pd < 1e-6
    (64, 2, True)
    """
    check_sequence(config)
    threads = check_threads(threads)
    engine = load_backend(backend)
    _check_start(config, start)
    began, begin = datetime.now(UTC), time.perf_counter()
    simulation = Simulation(config, engine, start, progress)
    jobs = jobs_of(config.pairs, threads, isinstance(engine, TrainsGroups))
    trained, measured = run_jobs(simulation, jobs, threads)
    parameters = [[m.parameters for m in models] for models in trained]
    seconds = time.perf_counter() - begin
    origin = {
        **provenance(config),
        "threads": str(threads),
        "started": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if isinstance(engine, TrainsGroups):
        origin["device"] = engine.device()
    return Result(
        config=config,
        backend=backend,
        parameters=parameters,
        evaluation=simulation.measurer.evaluation,
        logits=np.array([[m.logits for m in models] for models in trained]),
        checkpoints=config.checkpoints,
        measures=in_arrays(measured),
        constant_loss=simulation.measurer.constant_loss,
        fingerprint=fingerprint(parameters),
        seconds=seconds,
        provenance=origin,
    )


def _check_start(config: Config, start: Start | None) -> None:
    if (start is None) == bool(config.warm_start):
        raise ConfigError(
            "the fingerprint in Config and the parameters to start from go together",
            "warm_start",
            "both or neither",
        )
    if start is None:
        return
    if not _is_sequence(start) or not all(_is_sequence(p) and len(p) == 2 for p in start):
        raise ConfigError(
            "not the parameters of a run", "start", "records [pair][model], two models a pair"
        )
    for k, pair in enumerate(start):
        for m, record in enumerate(pair):
            spec = ModelSpec(config, sampling.FEATURES, k % config.pairs, m)
            check_parameters(spec, record, f"start[{k}][{m}]")
    if fingerprint(start) != config.warm_start:
        raise ConfigError("the parameters are not those of the fingerprint", "warm_start")


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0
