"""Pairs of models, trained and measured: the loop that everything else serves (section 2)."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np

from nanorepro.arguments import folder_or_file, function_or_none
from nanorepro.backends import load_backend
from nanorepro.backends.protocols import (
    Backend,
    Group,
    Interrupted,
    Snapshot,
    Trained,
    TrainsGroups,
)
from nanorepro.config import CHECKPOINT_MINUTES, Config, check_sequence
from nanorepro.data.given import Given
from nanorepro.data.options import FILE
from nanorepro.errors import ConfigError, wrong
from nanorepro.model.layers import Parameters
from nanorepro.results.provenance import provenance
from nanorepro.results.result import Result, check_fingerprint, fingerprint
from nanorepro.specification import ModelSpec, of_first_models, spec_of
from nanorepro.training.checkpoints import Checkpoint, Say, now
from nanorepro.training.example_stream import ExampleStream
from nanorepro.training.examples import source_of, with_content
from nanorepro.training.group import train_group
from nanorepro.training.measuring import Measurer, Measures, evaluation_set, in_arrays
from nanorepro.training.parameters import (
    check_parameters,
    initial_parameters,
    initial_record,
    starting_record,
)
from nanorepro.training.sequences import pools
from nanorepro.training.threads import Progress, ThreadedWork, number_of_threads

__all__ = ["Progress", "evaluation_set", "initial_parameters", "load_backend", "simulate"]

Start = Sequence[Sequence[Parameters]]


@dataclass(frozen=True)
class Job:
    """What one thread trains at a time: models of the run, as (pair, model)."""

    models: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        pairs = sorted({pair for pair, _ in self.models})
        return f"pair {pairs[0]}" if len(pairs) == 1 else f"pairs {pairs[0]} to {pairs[-1]}"


def jobs_of(models: Sequence[tuple[int, int]], threads: int, together: bool) -> list[Job]:
    """Work for the threads: whole pairs, and single models where pairs do not fill all threads.

    models: those to be trained, as (pair, model) in order; `together`: all of them at once, for a
    backend that trains groups.
    """
    if together:
        return [Job(tuple(models))] if models else []
    left = set(models)
    pairs = [pair for pair, model in models if model == 0 and (pair, 1) in left]
    whole = dict.fromkeys(pairs[: len(pairs) - len(pairs) % threads])
    jobs = [Job(((pair, 0), (pair, 1))) for pair in whole]
    return jobs + [Job((one,)) for one in models if one[0] not in whole]


class Simulation:
    """What the threads of a run share: its world, its example streams, how far it is."""

    def __init__(
        self,
        config: Config,
        backend: Backend,
        start: Start | None,
        progress: Progress | None,
        checkpoint: Checkpoint,
        given: Given | None = None,
        known: Mapping[tuple[int, int], Snapshot] | None = None,
    ):
        self.config, self.backend, self.start = config, backend, start
        self.checkpoint = checkpoint
        self.world = source_of(config, given, backend)
        self.measurer = Measurer(config, self.world, backend)
        self.pools = pools(config, backend) if given else {}
        self.streams: WeakValueDictionary[int, ExampleStream] = WeakValueDictionary()
        self.lock = threading.Lock()
        resumed = checkpoint.resume(len(self.measurer.evaluation.x))
        self.before = {**resumed, **(known or {})}
        done = sum(one.step for one in self.before.values()) * config.batch
        self.work = ThreadedWork(2 * config.pairs * config.examples, progress, done)

    @property
    def models(self) -> list[tuple[int, int]]:
        """The models that are still to be trained, in order."""
        every, last = [(k, m) for k in range(self.config.pairs) for m in (0, 1)], self.config.steps
        return [one for one in every if self._step(one) < last]

    def finished(self) -> dict[tuple[int, int], Trained]:
        """The models whose training had ended before."""
        last = self.config.steps
        return {
            key: Trained(one.parameters, one.logits)
            for key, one in self.before.items()
            if one.step == last
        }

    def _step(self, model: tuple[int, int]) -> int:
        """The step at which the training of a model begins."""
        return self.before[model].step if model in self.before else 0

    def starting(self, spec: ModelSpec) -> Snapshot:
        """Where the training of a model begins: before its first step, or where it was left."""
        if (spec.pair, spec.model) in self.before:
            return self.before[spec.pair, spec.model]
        return Snapshot.before(self._first(spec), len(self.measurer.evaluation.x))

    def _first(self, spec: ModelSpec) -> Parameters:
        """What a model starts from: its initial parameters, or those of the warm start."""
        if self.start is None:
            return initial_record(spec, self.backend.uniform)
        records = self.start[spec.pair % len(self.start)]
        record = records[spec.model if "init" in self.config.roles else 0]
        return starting_record(spec, record)

    def stream(self, pair: int) -> ExampleStream:
        """The examples of a pair, for as long as one of its models is being trained."""
        with self.lock:
            found = self.streams.get(pair)
            if found is None:
                steps = self._step((pair, 0)), self._step((pair, 1))
                found = ExampleStream(self.config, pair, self.world, self.backend, steps)
                self.streams[pair] = found
            return found

    def train(self, job: Job) -> list[Trained]:
        """Train the models of a job, in its order."""
        specs = [spec_of(self.config, k, m) for k, m in job.models]
        starts = [self.starting(spec) for spec in specs]
        group = Group(specs, starts, self.world, self.measurer.patterns, self.pools)

        def report(examples: int, snapshots: Callable[[], Sequence[Snapshot]]) -> None:
            try:
                self.work.report(examples)
            except BaseException:
                self._keep(job, snapshots)
                raise
            if self.checkpoint.due(job):
                self._keep(job, snapshots)

        try:
            if isinstance(self.backend, TrainsGroups):
                trained = self.backend.train_group(group, report)
            else:
                trained = train_group(self.backend, group, self.stream(specs[0].pair), report)
            last = self.config.steps
            self._keep(job, lambda: [Snapshot(last, m.parameters, {}, m.logits) for m in trained])
            return trained
        except (Interrupted, ConfigError):
            raise
        except BaseException as error:
            error.add_note(f"while training {job}")
            raise
        finally:
            self.checkpoint.end_job(job)

    def _keep(self, job: Job, snapshots: Callable[[], Sequence[Snapshot]]) -> None:
        """Have the checkpoint, if there is one, hold where the models of a job are."""
        if self.checkpoint.path is not None:
            self.checkpoint.keep(job, dict(zip(job.models, snapshots(), strict=True)))


def run_jobs(
    simulation: Simulation, jobs: Sequence[Job], threads: int
) -> tuple[list[list[Trained]], list[Measures]]:
    """Train all jobs and measure every pair as soon as it is trained; both by pair."""
    trained = simulation.finished()
    measured: dict[int, Measures] = {}

    def measure(pairs: Iterable[int]) -> None:
        for pair in sorted(pairs):
            if (pair, 0) in trained and (pair, 1) in trained:
                both = [trained[pair, 0], trained[pair, 1]]
                measured[pair] = simulation.measurer.measure(both)

    def ended(job: Job, models: Sequence[Trained]) -> None:
        trained.update(zip(job.models, models, strict=True))
        measure({pair for pair, _ in job.models})

    measure({pair for pair, _ in trained})
    simulation.work.run(simulation.train, jobs, threads, ended)
    ordered = range(simulation.config.pairs)
    return [[trained[k, 0], trained[k, 1]] for k in ordered], [measured[k] for k in ordered]


def simulate(
    config: Config,
    backend: str = "numba",
    threads: int | str | None = None,
    progress: Progress | None = None,
    start: Start | None = None,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    checkpoint_folder: str | Path | None = None,
    say: Say | None = None,
    data: object = None,
    firsts: Result | None = None,
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
    checkpoint_minutes : float, optional
        Minutes between two checkpoints, 0 for none.
    checkpoint_folder : str or Path, optional
        Where the run is kept in the middle as ``<id>.checkpoint``: the folder in which its result
        is to be stored.  The same call goes on from there after a kill, an interruption or a
        failure, to the same bits, and `save` removes the file.  None: nowhere.
    say : callable, optional
        Called with a line about the checkpoint: that the run goes on from it, that it is damaged,
        or could not be written, neither of which ends the run.  `warnings.warn` if None.
    data : tuple of array_like, optional
        Your own examples in place of a world's, (x, y) or (x, y, x_eval, y_eval): features (n, d),
        labels (n,) of 0 and 1 or -1 and +1, as arrays, nested lists, data frames or SciPy's sparse
        arrays.  Without evaluation examples config.holdout of them are held out.  The result's
        configuration has their digest, which is part of its id.  `config.data` may name a file of
        examples instead, as `file:NAME`.
    firsts : Result, optional
        A run with the same first models of all pairs, such as one that differs in other roles: they
        are taken from it and not trained again, which changes no bit.

    Returns
    -------
    Result
        Parameters, logits, measures of every pair and checkpoint, fingerprint and provenance.

    Raises
    ------
    ConfigError
        For a configuration or an argument that cannot be run, before anything is trained; of a GPU
        also where its memory is short.

    Notes
    -----
    Excess loss is eq. 2 and relative PD eq. 3 of the paper,
    Δ_r = mean over examples of |p̂_1(1) - p̂_2(1)| / p_θ(1), averaged over the pairs.  Of your own
    examples no p_θ is known: Δ_r is then relative to the mean of both predictions, and the loss the
    log loss of the labels.
    Ctrl-C and any other failure end the threads at work, and write the checkpoint, before the
    exception leaves.

    Examples
    --------
    >>> from nanorepro import Config, simulate
    >>> config = Config(model="linear", log2_examples=8, log2_eval=8, pairs=2)
    >>> result = simulate(config, backend="reference")
    >>> len(result.fingerprint), len(result.pairs), result.relative_pd < 1e-6
    (64, 2, True)
    """
    config, given = with_content(config, data)
    check_sequence(config)
    function_or_none("progress", progress, "a function of examples done and in all")
    function_or_none("say", say, "a function of a line of text")
    if firsts is not None and not isinstance(firsts, Result):
        raise wrong("firsts", firsts, "a Result, as `simulate` returns it")
    if checkpoint_folder is not None:
        right = "the path of a folder"
        checkpoint_folder = folder_or_file("checkpoint_folder", checkpoint_folder, right)
    threads = number_of_threads(threads)
    engine = load_backend(backend)
    _check_start(config, start)
    checkpoint = Checkpoint(config, checkpoint_folder, checkpoint_minutes, backend, say)
    known = first_models(config, firsts) if firsts is not None else {}
    simulation = Simulation(config, engine, start, progress, checkpoint, given, known)
    jobs = jobs_of(simulation.models, threads, isinstance(engine, TrainsGroups))
    with checkpoint:
        trained, measured = run_jobs(simulation, jobs, threads)
    parameters = [[m.parameters for m in models] for models in trained]
    seconds = checkpoint.seconds
    origin = {
        **provenance(config),
        "threads": str(threads),
        "started": checkpoint.started,
        "ended": now(),
    }
    if config.data.startswith(FILE):
        origin["examples"] = str(Path(config.data.removeprefix(FILE)).absolute())
    if checkpoint.resumed:
        origin["resumed"] = checkpoint.resumed
    if firsts is not None:
        origin["first_models"] = f"those of run {firsts.config.id}"
    if isinstance(engine, TrainsGroups):
        origin["device"] = engine.device()
    return Result(
        config=config,
        backend=backend,
        parameters=parameters,
        evaluation=simulation.measurer.evaluation,
        logits=np.array([[m.logits for m in models] for models in trained]),
        checkpoints=config.checkpoints,
        measures=in_arrays(config, measured),
        constant_loss=simulation.measurer.constant_loss,
        fingerprint=fingerprint(parameters),
        seconds=seconds,
        provenance=origin,
    )


def first_models(config: Config, other: Result) -> dict[tuple[int, int], Snapshot]:
    """The first model of every pair, trained, from another run that has the same.

    Raises ConfigError where it has others, or not all that is to be measured of them, and where its
    parameters are not those of its fingerprint.
    """
    own, theirs = of_first_models(config), of_first_models(other.config)
    if own.id != theirs.id or config.checkpoints != config.checkpoints[-1:]:
        right = "a run that differs in the second models only, without a series"
        raise ConfigError(f"run {other.config.id} has other first models", "firsts", right)
    check_fingerprint(other)
    found = {}
    for k, (first, _) in enumerate(other.parameters):
        logits = other.logits[k, 0, -1:].astype(next(iter(first.values())).dtype)
        found[k, 0] = Snapshot(config.steps, first, {}, logits)
    return found


def _check_start(config: Config, start: Start | None) -> None:
    if (start is None) == bool(config.warm_start):
        raise ConfigError(
            "the fingerprint in Config(warm_start=) and the parameters to start from go together",
            "start" if config.warm_start == "" else "warm_start",
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
            spec = spec_of(config, k % config.pairs, m)
            check_parameters(spec, record, f"start[{k}][{m}]")
    if fingerprint(start) != config.warm_start:
        raise ConfigError("the parameters are not those of the fingerprint", "warm_start")


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0
