"""Records of parameters: those before training, and the caller's."""

from dataclasses import replace

import numpy as np
import pytest

from nanorepro import Config, ConfigError, fit, initial_parameters, predict, simulate
from nanorepro.analysis.lockstep import PairExamples
from nanorepro.backends import reference
from nanorepro.config import ROLES
from nanorepro.data.worlds import make_world
from nanorepro.specification import ModelSpec
from tests.support.records import assert_same_record

TINY = Config(model="double", pairs=2, batch=2)


@pytest.mark.parametrize("model", ["linear", "single", "double", "tower", "wide", "deep"])
@pytest.mark.parametrize("features", [1, 6, 33, np.int32(8)])
def test_a_starting_record_fits_any_number_of_features(model, features):
    config = Config(model=model, batch=2, pairs=1)
    if model == "wide" and features % 2:
        with pytest.raises(ConfigError, match=f"{features} features are not two equal sets"):
            initial_parameters(config, features=features)
        return
    start = initial_parameters(config, features=features)
    x = np.zeros((2, features), np.uint8)
    trained = fit(config, x, [0, 1], start, backend="reference")
    assert {k: v.shape for k, v in trained.items()} == {k: v.shape for k, v in start.items()}


def test_the_worlds_32_features_are_the_default():
    assert_same_record(initial_parameters(TINY), initial_parameters(TINY, features=32), "default")


@pytest.mark.parametrize("differ", ["shuffle", "init"])
def test_the_streams_of_other_pairs(differ):
    """Pair k of first_stream = N starts as pair N + k does, and sees its own examples."""
    later = replace(TINY, differ=differ, first_stream=3, log2_examples=4, log2_eval=2)
    every = replace(later, first_stream=0, pairs=5)
    for k in (0, 1):
        for m in (0, 1):
            record, same = initial_parameters(later, k, m), initial_parameters(every, 3 + k, m)
            assert_same_record(record, same, f"pair {k}")
            ours, theirs = ModelSpec(later, 32, k, m), ModelSpec(every, 32, 3 + k, m)
            for role in ROLES:
                assert np.array_equal(ours.key(role), theirs.key(role))
    found, plain = (
        simulate(c, backend="reference") for c in (later, replace(later, first_stream=0))
    )
    assert found.fingerprint != plain.fingerprint


@pytest.mark.parametrize("pair", [0, 1])
def test_the_examples_stay_whatever_the_streams(pair):
    config = replace(TINY, log2_examples=5, differ="none")
    world = make_world(config.seed, config.data)
    seen = []
    for c in (config, replace(config, first_stream=9)):
        examples = PairExamples(c, pair, world, reference)
        (piece,) = examples.pieces(ModelSpec(c, 32, pair, 0), 0, c.steps)
        seen.append(piece)
    (x, y), (x2, y2) = seen
    # each window in another order: of both there is the same multitude
    for low in range(0, len(y), config.window):
        a, b = (sorted(zip(v[low : low + config.window, 0].tolist(),
                           w[low : low + config.window].tolist(), strict=True))
                for v, w in ((x, y), (x2, y2)))  # fmt: skip
        assert a == b
    assert not np.array_equal(x, x2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pair": -1}, "pair: -1 is not allowed; give a whole number from 0 to 1"),
        ({"pair": 99}, "pair: 99 is not allowed; give a whole number from 0 to 1"),
        ({"pair": 2}, "pair: 2 is not allowed"),
        ({"pair": 0.0}, "pair: 0.0 is not allowed"),
        ({"model": 2}, "model: 2 is not allowed; give a whole number from 0 to 1"),
        ({"model": -1}, "model: -1"),
        ({"model": True}, "model: True"),
        ({"features": 0}, "features: 0 is not allowed; give a whole number from 1"),
        ({"features": "32"}, "features: '32'"),
        ({"features": None}, "features: None"),
    ],
)
def test_pairs_and_models_that_are_not_there_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        initial_parameters(TINY, **arguments)


def test_the_only_pair_of_a_run_is_named():
    with pytest.raises(ConfigError, match="pair: 1 is not allowed; give 0"):
        initial_parameters(Config(pairs=1), pair=1)


X, Y = [[0, 1], [1, 0]], [0, 1]


def changed(**values):
    return {**initial_parameters(TINY, features=2), **values}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (changed(b0=np.array([1e300, 0.0])), r"b0 has 1e\+300, which is infinite in .* float32"),
        (changed(b0=np.array([-1e39, 0.0])), r"b0 has -1e\+39, which is infinite in .* float32"),
        (changed(b0=np.array([np.nan, 0.0])), "b0 has NaN or infinity"),
        (changed(b0=np.ma.array([1.0, 2.0], mask=[0, 1])), "b0 has masked entries"),
        (changed(b0=np.zeros(3)), r"b0 is float64 \(3,\); give floats of shape \(2,\)"),
        (changed(b0=np.zeros(2, int)), "b0 is int64"),
        (changed(b9=np.zeros(2)), "give a dict of w0, b0, w1, b1, as initial_parameters returns"),
        (None, "give a dict of w0"),
        ([], "an empty list"),
        ([changed(), changed(b0=np.zeros(1))], r"parameters\[1\]: b0 is"),
    ],
)
def test_records_that_do_not_fit_are_refused(parameters, message):
    for call in (
        lambda: fit(TINY, X, Y, parameters, "reference"),
        lambda: predict(TINY, X, parameters, "reference"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


@pytest.mark.parametrize("precision", ["float32", "bits:8", "bits:2"])
def test_the_largest_numbers_of_a_precision_are_taken(precision):
    config = Config(model="double", batch=2, precision=precision)
    p = 24 if precision == "float32" else int(precision[5:])
    largest = (2.0 - 2.0 ** (1 - p)) * 2.0**127
    record = changed(b0=np.array([largest, -largest]))
    assert np.isfinite(predict(config, X, record, "reference")).all() or p < 24
    with pytest.raises(ConfigError, match="infinite in the precision"):
        predict(config, X, changed(b0=np.array([largest * (1 + 2.0**-p), 0.0])), "reference")


def test_the_optimizer_starts_anew_with_every_fit():
    start = initial_parameters(TINY, features=2)
    twice = fit(TINY, X, Y, fit(TINY, X, Y, start, "reference"), "reference")
    at_once = fit(TINY, X * 2, Y * 2, start, "reference")
    assert not np.array_equal(twice["w0"], at_once["w0"])
