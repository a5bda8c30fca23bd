"""All models of a run through all its examples, which are drawn and shuffled on the GPU."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device
from nanorepro.backends.cuda.ensemble import Ensemble, pairs_of
from nanorepro.backends.cuda.program import LANES, program_of, streams
from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import Group, Report, Trained
from nanorepro.config import Config
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
        drawn = pairs_of([stream_key(seed, "examples", s.pair) for s in specs], np.uint32)
        shuffled = pairs_of([s.key("shuffle") for s in specs], np.uint32)
        self.drawn, self.shuffled = device.array(drawn), device.array(shuffled)
        self.columns = device.array(group.world.columns)
        self.odds = device.array(np.ravel(group.world.odds))
        self.rows: Any = None
        self.length = 0

    def fill(self, first: int) -> int:
        """Have the chunk that begins with example `first` of the run in rows; its length."""
        n = min(self.size, self.config.examples - first)
        if n != self.length:
            self.rows, self.length = self.device.empty((self.models, n), np.uint64), n
        self.streams.launch("draw", (-(-n // THREADS), self.models), THREADS, [
            self.drawn, np.uint64(self.config.first_example + first), self.columns, self.odds,
            self.rows, np.uint32(n),
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
    """Places of models that train together: those of equal dials, as many as memory takes."""
    by_dials: dict[Any, list[int]] = {}
    for k, spec in enumerate(group.models):
        by_dials.setdefault(spec.dials, []).append(k)
    for dials, places in by_dials.items():
        spec = group.models[places[0]]
        program = program_of(spec.config, dials, spec.features)
        numbers = (1 + len(program.formulas.starts)) * program.shape.parameters
        numbers += 3 * program.shape.all_units * spec.config.batch
        each = 8 * chunk_size(spec.config) + numbers * np.dtype(program.formulas.dtype).itemsize
        most = int(min(MOST_MODELS, max(1, SHARE * device.memory // each)))
        for first in range(0, len(places), most):
            yield places[first : first + most]


def train_group(device: Device, group: Group, report: Report) -> list[Trained]:
    """Train all models of a group from step 0 to the end of the run, in the group's order."""
    found: dict[int, Trained] = {}
    for places in parts(device, group):
        specs = [group.models[k] for k in places]
        ensemble = Ensemble(device, specs, [group.start[k] for k in places])
        trained = train(device, group, specs, ensemble, report)
        found.update(zip(places, trained, strict=True))
    return [found[k] for k in range(len(group.models))]


def train(
    device: Device, group: Group, specs: Sequence[ModelSpec], ensemble: Ensemble, report: Report
) -> list[Trained]:
    """Train an ensemble through the run's examples, with its logits at every checkpoint."""
    config, examples = specs[0].config, ExampleRows(device, group, specs)
    marks = {step * config.batch for step in config.checkpoints}
    nudge = config.nudge_at * config.batch
    piece = CHUNK if ensemble.small else PIECE
    piece = max(1, piece // config.batch) * config.batch
    logits = []
    for first in range(0, config.examples, examples.size):
        n = examples.fill(first)
        ends = {m - first for m in marks | {nudge} if first < m <= first + n}
        low = 0
        for high in sorted(ends | set(range(piece, n, piece)) | {n}):
            steps = (high - low) // config.batch
            if 0 < first + low == nudge and any(nudge_step(s) for s in specs):
                ensemble.set_parameters([
                    nudged(s, w) if nudge_step(s) else w
                    for s, w in zip(specs, ensemble.parameters(), strict=True)
                ])  # fmt: skip
            ensemble.train(examples.rows, 2 * n, low, 1, steps)
            if first + high in marks:
                logits.append(ensemble.logits(group.patterns[:, None]))
            device.synchronize()
            report((high - low) * len(specs))
            low = high
    records, by_model = ensemble.parameters(), np.stack(logits, axis=1)
    return [Trained(w, z) for w, z in zip(records, by_model, strict=True)]
