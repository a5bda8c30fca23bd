"""The training of a few models of one pair on a CPU, chunk by chunk."""

import time
from collections.abc import Iterator

import numpy as np

from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import (
    Backend,
    Group,
    ModelInTraining,
    Report,
    Snapshot,
    Trained,
)
from nanorepro.config import Config
from nanorepro.training.example_stream import CHUNK, ExampleStream
from nanorepro.training.sequences import shuffle_windows

PIECE = 1 << 16  # examples of one call of the training kernel at most, or one mini-batch
SECONDS = 0.5  # about the longest call: so long a signal waits, and a checkpoint that is due


def train_group(
    backend: Backend, group: Group, stream: ExampleStream, report: Report
) -> list[Trained]:
    """Train models of one pair side by side on the pair's examples, from where each is to the end.

    The stream is shared with whatever other thread trains the other model of the pair.
    """
    config = group.models[0].config
    models = [started(backend, group, k) for k in range(len(group.models))]
    shuffles = [spec.key("shuffle") for spec in group.models]
    logits: list[list[np.ndarray]] = [[*start.logits] for start in group.start]
    pace = Pace(config.batch, stream.sequence.width)
    # the features and labels of a chunk, or where that is a long window or wide, of a part of it
    sequence = stream.sequence
    whole = stream.size * sequence.width <= CHUNK
    own, size = np.empty(stream.size, np.uint64), stream.size if whole else pace.longest
    x, y = sequence.room(size)

    def snapshots() -> list[Snapshot]:
        return [
            Snapshot(
                model.step, model.parameters(), model.state(), np.array(z) if z else start.logits
            )
            for model, z, start in zip(models, logits, group.start, strict=True)
        ]

    for k in range(min(model.step for model in models) * config.batch // stream.size, stream.count):
        first, n = k * stream.size, stream.length(k)
        for at, model in enumerate(models):
            begin = max(0, model.step * config.batch - first)
            if begin >= n:
                continue
            joined = stream.take(group.models[at].model, k, own)
            if whole:
                sequence.shuffle_and_split(shuffles[at], first, joined, x[:n], y[:n])
            else:
                if joined.base is not own:  # it is the other model's, too
                    own[:n] = joined
                    joined = own[:n]
                shuffle_windows(backend, config, shuffles[at], first, joined)
            stream.done(group.models[at].model, k)
            for low, high, evaluate in segments(config, first, begin, n, pace):
                part = slice(low, high) if whole else slice(0, high - low)
                spec, xs, ys = group.models[at], x[part], y[part]
                if 0 < first + low == (nudge_step(spec) or 0) * config.batch:
                    model.set_parameters(nudged(spec, model.parameters()))
                if not whole:
                    sequence.split(joined[low:high], xs, ys)
                since = time.perf_counter()
                model.train(xs, ys)
                pace.took(high - low, time.perf_counter() - since)
                if evaluate:
                    logits[at].append(model.logits(group.patterns))
                report(high - low, snapshots)
    return [
        Trained(model.parameters(), np.array(z)) for model, z in zip(models, logits, strict=True)
    ]


def started(backend: Backend, group: Group, k: int) -> ModelInTraining:
    """Model k of a group where its training starts."""
    start = group.start[k]
    model = backend.Model(group.models[k], start.parameters)
    if start.step:
        model.restore(start.step, start.parameters, start.state)
    return model


def longest_piece(batch: int, width: int) -> int:
    """Examples of one call of the training kernel at most, so that features take a few MB."""
    return max(min(PIECE, 16 * PIECE // width) // batch, 1) * batch


class Pace:
    """How many examples one call of the training kernel takes: few enough for `SECONDS`."""

    def __init__(self, batch: int, width: int = 1):
        self.batch, self.longest = batch, longest_piece(batch, width)
        self.piece = min(64 * batch, self.longest)

    def took(self, examples: int, seconds: float) -> None:
        """Learn from a call; the first ones also compile."""
        wanted = examples * SECONDS / max(seconds, 1e-9)
        piece = int(min(wanted, 16 * self.piece, self.longest))
        self.piece = max(piece // self.batch, 1) * self.batch


def segments(
    config: Config, first: int, low: int, n: int, pace: Pace
) -> Iterator[tuple[int, int, bool]]:
    """Parts (low, high, whether an evaluation follows) of a chunk from `low` to its end n.

    first: the chunk's first example.  No part has the step of a nudge inside.
    """
    marks = {s * config.batch - first for s in config.checkpoints}
    ends = {*marks, config.nudge_at * config.batch - first, n}
    for end in sorted(m for m in ends if low < m <= n):
        while low < end:
            high = min(low + pace.piece, end)
            yield low, high, high in marks
            low = high
