"""Large layers behind a ReLU: what is 0 is passed over, and the bits are those of all terms."""

import numpy as np
import pytest
from support.records import arrays_of, assert_same_bits, assert_same_record, random_parameters

from nanorepro import Config
from nanorepro.backends import reference
from nanorepro.backends.numba import backend as numba_backend
from nanorepro.data.arrays import examples_of
from nanorepro.specification import ModelSpec

D = 32
HIDDEN = "64,128,160"
BIG = [np.inf, -np.inf, np.nan, 1e38, -1e20]


def assert_same_training(config, parameters, d=D, steps=3):
    """Both executions train to the same bits, and give the same logits; the trained record."""
    rng = np.random.default_rng(d)
    x, y = arrays_of(rng, config.batch * steps, d)
    x[rng.random(len(x)) < 0.4] = x[0]  # equal examples
    packed, _, _ = examples_of("x", x, reference.pack)
    models = [b.Model(ModelSpec(config, d, 0, 0), parameters) for b in (reference, numba_backend)]
    with np.errstate(all="ignore"):
        for model in models:
            model.train(packed, y.astype(np.uint8))
        logits = [model.logits(packed[: config.batch + 1]) for model in models]
    assert_same_bits(*logits, "logits")
    one, other = (model.parameters() for model in models)
    assert_same_record(one, other, str(config))
    return one


def start(config, d=D, seed=0):
    return random_parameters(np.random.default_rng(seed), config, d)


@pytest.mark.slow  # each is compiled
@pytest.mark.parametrize(
    ("options", "d"),
    [
        ({"hidden": "48,128", "batch": 20}, 77),
        ({"hidden": "33,256", "batch": 64, "optimizer": "sgd"}, 32),
        ({"hidden": "100,64", "batch": 40, "precision": "float64"}, 33),
        ({"hidden": "48,128", "tree": "pairwise", "leaf_order": "random"}, 32),
    ],
)
def test_of_any_shape(options, d):
    config = Config(act="relu", **options)
    assert_same_training(config, start(config, d), d)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
@pytest.mark.parametrize("name", ["w0", "w1", "w2", "w3", "b0", "b1"])
def test_of_numbers_that_are_infinite_or_huge(name, optimizer):
    config = Config(act="relu", hidden=HIDDEN, optimizer=optimizer)
    for value in BIG:
        parameters = start(config)
        flat = parameters[name].ravel()
        flat[len(flat) // 3] = value
        assert_same_training(config, parameters)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
@pytest.mark.parametrize("value", [None, *BIG])
def test_of_inputs_that_are_zero_for_all_examples(value, optimizer):
    config = Config(act="relu", hidden=HIDDEN, optimizer=optimizer)
    for dead in (slice(3, 40), slice(0, 64)):
        parameters = start(config)
        parameters["b0"][dead] = -1e3
        if value is not None:
            parameters["w1"][dead, 5] = value
        trained = assert_same_training(config, parameters)
        if value is None and optimizer == "adagrad":
            before = parameters["w1"][dead].astype(np.float32)
            assert_same_bits(trained["w1"][dead], before, "weights of inputs that are 0")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["w1", "w2", "w3"])
def test_of_sums_that_underflow_and_overflow(name):
    config = Config(act="relu", hidden=HIDDEN)
    for factor in (1e-38, 1e-25, 1e15, 1e25, 1e37):
        parameters = start(config)
        parameters[name] *= factor
        assert_same_training(config, parameters)


@pytest.mark.slow
def test_a_unit_whose_deltas_are_zero_is_passed_over_only_if_its_weights_are_finite():
    config = Config(act="relu", hidden=HIDDEN)
    for value in BIG:
        parameters = start(config)
        parameters["b1"][5] = -3e38
        parameters["w1"][:, 5] = 0.0
        parameters["w1"][7, 5] = value
        assert_same_training(config, parameters)
