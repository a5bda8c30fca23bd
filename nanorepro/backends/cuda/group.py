"""All models of a run through all its examples, which are drawn and shuffled on the GPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device
from nanorepro.backends.cuda.ensemble import Ensemble, pairs_of
from nanorepro.backends.cuda.program import LANES, program_of, streams
from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import Group, Report, Snapshot, Trained
from nanorepro.config import Config
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.specification import ModelSpec

CHUNK = 1 << 17  # examples of each model that are drawn at a time, or one window
PIECE = 1 << 13  # examples between two reports where every step takes several launches
MOST_MODELS = 1 << 15  # in a launch
SHARE = 0.7  # of the memory that is free, for what grows with the models
THREADS = 128


class ExampleRows:
    """The examples of each model, chunk by chunk in the order in which it sees them.

    rows: (models, size) uint64 on the device, x + y·2^32.
    """

    def __init__(self, device: Device, group: Group, specs: Sequence[ModelSpec]):
        self.config, self.device = specs[0].config, device
        self.models, self.size = len(specs), chunk_size(self.config)
        self.streams = device.compile(streams())
        seed = self.config.seed
        of_pair: dict[int, list[int]] = {}
        for k, spec in enumerate(specs):
            of_pair.setdefault(spec.pair, []).append(k)
        models = [(k, *rest) if rest else (k, k) for k, *rest in of_pair.values()]
        drawn = pairs_of([stream_key(seed, "examples", pair) for pair in of_pair], np.uint32)
        shuffled = pairs_of([s.key("shuffle") for s in specs], np.uint32)
        self.drawn, self.shuffled = device.array(drawn), device.array(shuffled)
        assert isinstance(group.world, World)
        self.pairs, self.of_pair = len(models), device.array(np.array(models, np.uint32))
        self.columns = device.array(group.world.columns)
        self.odds = device.array(np.ravel(group.world.odds))
        self.rows: Any = None
        self.length = 0

    def fill(self, first: int) -> int:
        """Have the chunk that begins with example `first` of the run in rows; its length."""
        n = min(self.size, self.config.examples - first)
        if n != self.length:
            self.rows, self.length = self.device.empty((self.models, n), np.uint64), n
        self.streams.launch("draw", (-(-n // THREADS), self.pairs), THREADS, [
            self.drawn, self.of_pair, np.uint64(self.config.first_example + first), self.columns,
            self.odds, self.rows, np.uint32(n),
        ])  # fmt: skip
        window = self.config.window
        count = n // window
        arguments = [
            self.shuffled, np.uint64(first // window), self.rows, np.uint32(window),
            np.uint32(count),
        ]  # fmt: skip
        if window > LANES:
            self.streams.launch("shuffle_long", (count, self.models), LANES, arguments)
        elif window > 1:
            blocks = -(-count * LANES // THREADS)
            self.streams.launch("shuffle_short", (blocks, self.models), THREADS, arguments)
        return n


def chunk_size(config: Config) -> int:
    """Examples of a chunk: whole windows."""
    window = config.window
    return max(window, min(config.examples, CHUNK // window * window))


def parts(device: Device, group: Group) -> Iterator[list[int]]:
    """Places of models that train together: of equal dials and steps, as many as memory takes."""
    alike: dict[Any, list[int]] = {}
    for k, (spec, start) in enumerate(zip(group.models, group.start, strict=True)):
        alike.setdefault((spec.dials, start.step), []).append(k)
    for (dials, _), places in alike.items():
        spec = group.models[places[0]]
        program = program_of(spec.config, dials, spec.features)
        numbers = (1 + len(program.formulas.starts)) * program.shape.parameters
        numbers += 3 * program.shape.all_units * spec.config.batch
        each = 8 * chunk_size(spec.config) + numbers * np.dtype(program.formulas.dtype).itemsize
        most = int(min(MOST_MODELS, max(1, SHARE * device.memory // each)))
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
    config, examples = specs[0].config, ExampleRows(device, group, specs)
    marks = {step * config.batch for step in config.checkpoints}
    nudge = config.nudge_at * config.batch
    piece = CHUNK if ensemble.small else PIECE
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
            ensemble.train(examples.rows, 2 * n, low, 1, steps)
            if first + high in marks:
                logits.append(ensemble.logits(group.patterns)[:, None])
            device.synchronize()
            report((high - low) * len(specs), snapshots)
            low = high
    snapshots()
