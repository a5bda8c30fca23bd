"""Results with made-up measures."""

from dataclasses import replace

from nanorepro import Config, simulate


def result_of(pds, losses=None, window=0):
    """A result with made-up measures."""
    c = Config(model="linear", log2_examples=5, log2_eval=0, pairs=len(pds))
    r = simulate(c, "reference", 1)
    losses = losses or [1.0] * len(pds)
    pairs = [p.changed(pd=x, loss=(y, y)) for p, x, y in zip(r.pairs, pds, losses, strict=True)]
    return replace(r.with_series([pairs]), config=replace(c, log2_window=window))
