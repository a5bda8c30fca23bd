"""What is made of trained runs: ensembles of their models, and averages of their weights."""

import hashlib
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.analysis.averaging import averaged_steps, ensemble_logits, tail_averages
from nanorepro.backends.protocols import Backend, Trained
from nanorepro.config import Config
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.paper.curves import Size
from nanorepro.paper.mitigations import AVERAGED, BASE, ENSEMBLES, member
from nanorepro.paper.observed import Key
from nanorepro.paper.runner import NAME, Deadline, StoredRuns
from nanorepro.results import files, store
from nanorepro.results.metrics import METRICS
from nanorepro.results.plain import finite_or_null
from nanorepro.results.result import Result, fingerprint
from nanorepro.specification import ModelSpec
from nanorepro.sweeps.work import Task
from nanorepro.training.measuring import Measurer
from nanorepro.training.progress import Progress
from nanorepro.training.signals import ends_at_once
from nanorepro.training.threads import ThreadedWork

PREDICTIONS = [name for name, metric in METRICS.items() if metric.by_checkpoint]


def measured(r: Result, pairs: Sequence[Sequence[Trained]], measurer: Measurer) -> Result:
    """A run with the measures of other predictions in place of its models'."""
    with np.errstate(over="ignore", invalid="ignore"):
        seen = [measurer.comparison(models, 0) for models in pairs]
        found = {n: [METRICS[n].measure(comparison) for comparison in seen] for n in PREDICTIONS}
    return with_measures(r, found)


def with_measures(r: Result, of: Mapping[str, Sequence[Any]]) -> Result:
    """A run with other measures of its predictions after the last step, by pair."""
    kinds = {n: bool if METRICS[n].flag else np.float64 for n in of}
    arrays = {n: np.array([values], kinds[n]) for n, values in of.items()}
    return replace(r, measures={**r.measures, **arrays})


def ensemble(runs: Sequence[Result], measurer: Measurer) -> Result:
    """The pairs of ensembles whose members are the models of the runs' pairs, side by side.

    One of whose members is stuck counts as stuck.  Its fingerprint is the SHA-256 of its members'.
    """
    first = runs[0]

    def one(pair: int, model: int) -> Trained:
        members = [measurer.prediction(r.logits[pair, model, -1]) for r in runs]
        with np.errstate(divide="ignore", invalid="ignore"):
            return Trained({}, ensemble_logits(members)[None])

    pairs = [[one(k, m) for m in (0, 1)] for k in range(first.config.pairs)]
    digest = hashlib.sha256("".join(r.fingerprint for r in runs).encode()).hexdigest()
    found = replace(first, fingerprint=digest, seconds=sum(r.seconds for r in runs))
    found = measured(found, pairs, measurer)
    stuck = np.any([r.measures["stuck"] for r in runs], axis=0)
    return replace(found, measures={**found.measures, "stuck": stuck})


def ensembles(size: Size, stored: StoredRuns, backend: Backend) -> dict[Key, Result]:
    """Every ensemble whose members are stored, from their logits."""
    found: dict[Key, Result] = {}
    for window in size.windows:
        runs: list[Result] = []
        for k in range(max(ENSEMBLES)):
            config = stored.config((member(k), window))
            one = store.find(stored.folder, config) if config else None
            if one is None:
                break
            runs.append(replace(one, parameters=[]))
        if not runs:
            continue
        measurer = measurer_of(runs[0], backend)
        for k in ENSEMBLES:
            if k <= len(runs):
                found[f"ensemble of {k}", window] = ensemble(runs[:k], measurer)
    return found


def measurer_of(r: Result, backend: Backend) -> Measurer:
    """What measures predictions as those of a run were."""
    return Measurer(r.config, make_world(r.config.seed, r.config.data, backend.exp), backend)


def averages(
    size: Size, stored: StoredRuns, backend: Backend, threads: int, deadline: float, shown: bool
) -> tuple[dict[Key, Result], list[Key]]:
    """The averages of weights, stored ones or made anew, and those left out for want of time."""
    found: dict[Key, Result] = {}
    missing: list[tuple[Key, Result]] = []
    for window in size.windows:
        r = stored.find((BASE, window))
        if r is None:
            continue
        known = read(stored.folder, r)
        if known is None:
            missing.append(((AVERAGED, window), r))
        else:
            found[AVERAGED, window] = known
    if not missing:
        return found, []
    left_out: list[Key] = []
    time_left = Deadline(deadline, threads)
    total = sum(2 * r.config.pairs * r.config.examples for _, r in missing)
    with (
        Progress(
            sys.stderr if shown else io.StringIO(), "averaging weights ...", f"{NAME} mitigations"
        ) as progress,
        ends_at_once(NAME),
    ):
        work = ThreadedWork(total, progress)
        for key, r in missing:
            if time_left.allows(Task(r.config)):
                begin = time.perf_counter()
                found[key] = averaged(r, backend, threads, work)
                write(stored.folder, found[key], time.perf_counter() - begin)
            else:
                left_out.append(key)
    return found, left_out


class NotTheSame(RuntimeError):
    """A repeated training whose bits are not those that are stored."""


def averaged(r: Result, backend: Backend, threads: int, work: ThreadedWork) -> Result:
    """The pairs of a run with the averages of their weights in place of the last weights."""
    measurer = measurer_of(r, backend)
    patterns = measurer.evaluation.x[:, None]

    def pair(k: int) -> tuple[list[Trained], list[Any]]:
        means, last = tail_averages(r.config, k, measurer.world, backend, work.report)
        models = [
            backend.Model(ModelSpec(r.config, FEATURES, k, m), mean) for m, mean in enumerate(means)
        ]
        logits = [model.logits(patterns)[None] for model in models]
        return [Trained(mean, z) for mean, z in zip(means, logits, strict=True)], last

    made = work.run(pair, range(r.config.pairs), threads)
    again = fingerprint([last for _, last in made])
    if again != r.fingerprint:
        raise NotTheSame(
            f"run {r.config.id} was trained again for averages, and its fingerprint is {again}"
            f" in place of {r.fingerprint}: a finding; python -m nanorepro.sweep replay shows where"
        )
    of = fingerprint([[m.parameters for m in models] for models, _ in made])
    return measured(replace(r, fingerprint=of), [models for models, _ in made], measurer)


def path_of(folder: Path, config: Config) -> Path:
    """Where the measures of a run's averages are."""
    return folder / f"{config.id}-averaged.json"


def write(folder: Path, r: Result, seconds: float) -> None:
    """Keep the measures of averages; `r` is what `averaged` gives."""
    record = {
        "id": r.config.id, "averaged_steps": averaged_steps(r.config.steps),
        "fingerprint": r.fingerprint, "seconds": seconds,
        "measures": finite_or_null({n: r.measures[n][-1].tolist() for n in PREDICTIONS}),
    }  # fmt: skip
    files.replace_file(path_of(folder, r.config), json.dumps(record).encode())


def read(folder: Path, r: Result) -> Result | None:
    """The averages of a run that are kept; None if there are none, or not in this form."""
    try:
        record = json.loads(path_of(folder, r.config).read_text(encoding="utf-8"))
        same = (record["id"], record["averaged_steps"]) == (
            r.config.id, [*averaged_steps(r.config.steps)]
        )  # fmt: skip
        measures = dict[str, Any](record["measures"])
        found = with_measures(replace(r, fingerprint=str(record["fingerprint"])), measures)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    known = set(measures) == {*PREDICTIONS}
    fits = all(found.measures[n].shape == r.measures[n].shape for n in PREDICTIONS)
    return found if same and known and fits else None
