"""Results with made-up measures."""

from dataclasses import replace

import numpy as np

from nanorepro import Config, simulate


def with_series(result, series):
    """A result with other measures of its predictions, by checkpoint and pair."""
    changed = {
        name: np.array([[pair.measures[name] for pair in at] for at in series])
        for name, metric in result.metrics.items()
        if metric.by_checkpoint
    }
    return replace(result, measures={**result.measures, **changed})


def result_of(pds, losses=None, window=0):
    """A result with made-up measures."""
    c = Config(model="linear", log2_examples=5, log2_eval=0, pairs=len(pds))
    r = simulate(c, "reference", 1)
    losses = losses or [1.0] * len(pds)
    pairs = [p.changed(pd=x, loss=(y, y)) for p, x, y in zip(r.pairs, pds, losses, strict=True)]
    return replace(with_series(r, [pairs]), config=replace(c, log2_window=window))
