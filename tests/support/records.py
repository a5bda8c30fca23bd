"""Records of parameters and examples for tests of `fit`: made at random, and compared."""

import numpy as np

from nanorepro.model import initial_values as drawing
from nanorepro.specification import ModelSpec


def initial_values(config, d, pair=0):
    """Initial values of the first model of a pair over d features, float64."""
    spec = ModelSpec(config, d, pair, 0)
    return drawing.initial_values(spec.net, config.init, spec.key("init"))


def assert_same_record(a, b, where):
    assert list(a) == list(b)
    for name in a:
        assert_same_bits(a[name], b[name], f"{where}, {name}")


def assert_same_bits(a, b, where):
    """Equal types, shapes and bits, with any NaN equal to any NaN."""
    assert a.dtype == b.dtype and a.shape == b.shape, where
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    differ = (a.view(word) != b.view(word)) & ~(np.isnan(a) & np.isnan(b))
    assert not differ.any(), f"{where}: {a[differ][:3]} is not {b[differ][:3]}"


def arrays_of(rng, n, d):
    """Random features, some rare and one never present, and labels."""
    rate = rng.choice([0.0, 0.05, 0.5, 0.9], d)
    return (rng.random((n, d)) < rate).astype(np.uint8), rng.integers(0, 2, n)


def random_parameters(rng, config, d):
    """Random values of all parameters, the biases too."""
    values = initial_values(config, d)
    return {name: rng.normal(0.0, 0.7, value.shape) for name, value in values.items()}
