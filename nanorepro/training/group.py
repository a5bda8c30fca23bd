"""The training of a few models of one pair on a CPU, chunk by chunk."""

from collections.abc import Iterator

import numpy as np

from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.backends.protocols import Backend, Group, Report, Trained
from nanorepro.config import Config
from nanorepro.training.example_stream import ExampleStream

PIECE = 1 << 16  # examples of one call of the training kernel, or one mini-batch


def train_group(
    backend: Backend, group: Group, stream: ExampleStream, report: Report
) -> list[Trained]:
    """Train models of one pair side by side on the pair's examples.

    The stream is shared with whatever other thread trains the other model of the pair.
    """
    config = group.models[0].config
    models = [
        backend.Model(spec, start) for spec, start in zip(group.models, group.start, strict=True)
    ]
    shuffles = [spec.key("shuffle") for spec in group.models]
    logits: list[list[np.ndarray]] = [[] for _ in models]
    patterns = group.patterns[:, None]
    joined, piece = np.empty(stream.size, np.uint64), max(PIECE, config.batch)
    x, y = np.empty(piece, np.uint32), np.empty(piece, np.uint8)
    for k in range(stream.count):
        first, n = k * stream.size, stream.length(k)
        for at, model in enumerate(models):
            stream.take(group.models[at].model, k, joined[:n])
            windows = joined[:n].reshape(-1, config.window)
            backend.shuffle(windows, shuffles[at], first // config.window)
            for low, high, evaluate in segments(config, first, n):
                spec, xs, ys = group.models[at], x[: high - low], y[: high - low]
                if 0 < first + low == (nudge_step(spec) or 0) * config.batch:
                    model.set_parameters(nudged(spec, model.parameters()))
                backend.split(joined[low:high], xs, ys)
                model.train(xs[:, None], ys)
                if evaluate:
                    logits[at].append(model.logits(patterns))
                report(high - low)
    return [
        Trained(model.parameters(), np.array(z)) for model, z in zip(models, logits, strict=True)
    ]


def segments(config: Config, first: int, n: int) -> Iterator[tuple[int, int, bool]]:
    """Parts (low, high, whether a checkpoint follows) of a chunk of n examples from `first` on.

    No part has the step of a nudge inside.
    """
    evaluated = {s * config.batch - first for s in config.checkpoints}
    ends = {*evaluated, config.nudge_at * config.batch - first, n}
    piece = max(PIECE, config.batch)
    low = 0
    for high in sorted({m for m in ends if 0 < m <= n} | set(range(piece, n, piece))):
        yield low, high, high in evaluated
        low = high
