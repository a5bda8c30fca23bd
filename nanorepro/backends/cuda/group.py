"""All models of a run through all its examples, which are drawn or dealt out on the GPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device
from nanorepro.backends.cuda.ensemble import PIECE, Ensemble
from nanorepro.backends.cuda.examples import bytes_of, examples_of
from nanorepro.backends.cuda.program import program_of
from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import Group, Report, Snapshot, Trained
from nanorepro.specification import ModelSpec, compile_key

MOST_MODELS = 1 << 15  # in a launch
SHARE = 0.7  # of the memory that is free, for what grows with the models


def models_together(device: Device, spec: ModelSpec, examples: int = 0) -> int:
    """How many models of a kind a launch takes, and memory beside their examples' bytes."""
    program = program_of(compile_key(spec.config), spec.dials, spec.features, spec.real)
    numbers = (1 + len(program.formulas.starts)) * program.shape.parameters
    numbers += 3 * program.shape.all_units * spec.config.batch
    each = numbers * np.dtype(program.formulas.dtype).itemsize + examples
    return int(min(MOST_MODELS, max(1, SHARE * device.free() // each)))


def parts(device: Device, group: Group) -> Iterator[list[int]]:
    """Places of models that train together: of equal dials and steps, as many as memory takes."""
    alike: dict[Any, list[int]] = {}
    for k, (spec, start) in enumerate(zip(group.models, group.start, strict=True)):
        alike.setdefault((spec.dials, start.step), []).append(k)
    for places in alike.values():
        spec = group.models[places[0]]
        width = 1 + (spec.features if spec.real else -(-spec.features // 32))
        most = models_together(device, spec, bytes_of(spec.config, width))
        for first in range(0, len(places), most):
            yield places[first : first + most]


def train_group(device: Device, group: Group, report: Report) -> list[Trained]:
    """Train all models of a group to the end of the run, in the group's order."""
    now = list(group.start)
    for places in parts(device, group):
        train(device, group, places, now, report)
    return [Trained(one.parameters, one.logits) for one in now]


def train(
    device: Device, group: Group, places: Sequence[int], now: list[Snapshot], report: Report
) -> None:
    """Train those of a group's models that are at these places from where they are to the end.

    now: snapshots of all models of the group; those of these places are their last ones afterwards.
    """
    specs, starts = [group.models[k] for k in places], [now[k] for k in places]
    ensemble = Ensemble(device, specs, [start.parameters for start in starts])
    if starts[0].step:
        ensemble.restore(starts[0].step, [(start.parameters, start.state) for start in starts])
    config, examples = specs[0].config, examples_of(device, group, specs, ensemble)
    marks = {step * config.batch for step in config.checkpoints}
    nudge = config.nudge_at * config.batch
    piece = examples.longest if ensemble.small else min(PIECE, examples.longest)
    piece = max(1, piece // config.batch) * config.batch
    logits = [np.stack([start.logits for start in starts])]

    def snapshots() -> list[Snapshot]:
        by_model = np.concatenate(logits, axis=1)
        for k, (w, state), z in zip(places, ensemble.records(), by_model, strict=True):
            now[k] = Snapshot(ensemble.step, w, state, z)
        return list(now)

    begin = starts[0].step * config.batch
    for first in range(begin - begin % examples.size, config.examples, examples.size):
        n = examples.fill(first)
        ends = {m - first for m in marks | {nudge} if first < m <= first + n}
        low = max(0, begin - first)
        for high in sorted(h for h in ends | set(range(piece, n, piece)) | {n} if h > low):
            steps = (high - low) // config.batch
            if 0 < first + low == nudge and any(nudge_step(s) for s in specs):
                ensemble.set_parameters([
                    nudged(s, w) if nudge_step(s) else w
                    for s, w in zip(specs, ensemble.parameters(), strict=True)
                ])  # fmt: skip
            ensemble.train(*examples.piece(low, high), steps)
            if first + high in marks:
                logits.append(ensemble.logits(group.patterns)[:, None])
            device.synchronize()
            report((high - low) * len(specs), snapshots)
            low = high
    snapshots()
