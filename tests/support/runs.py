"""Runs of a few mini-batches, and that both backends give the same bits of one."""

import numpy as np
from support.records import assert_same_bits, assert_same_record

from nanorepro import Config, simulate

SMALL = {"log2_examples": 8, "log2_eval": 5, "pairs": 1, "differ": "init,shuffle,order"}


def small(**options):
    """A run of a few mini-batches."""
    return Config(**{**SMALL, **options})


BASE = small(hidden="5", batch=16, differ="none", seed=2)


def assert_same_run(config, **options):
    """Both backends give the same bits; the reference's result."""
    one, other = simulate(config, backend="reference"), simulate(config, threads=1, **options)
    for pair, (first, second) in enumerate(zip(one.parameters, other.parameters, strict=True)):
        for model, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_same_record(a, b, f"pair {pair}, model {model}")
    assert_same_bits(one.logits, other.logits, "logits")
    assert one.fingerprint == other.fingerprint
    assert np.array_equal(
        [(p.pd, *p.loss) for p in one.pairs], [(p.pd, *p.loss) for p in other.pairs], equal_nan=True
    )
    return one
