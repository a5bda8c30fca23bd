"""Models trained side by side have the bits of each trained alone, and of the reference."""

import subprocess
import sys

import numpy as np
import pytest
from support.processors import environment, targets
from support.records import arrays_of, assert_same_record, random_parameters
from support.slow import slow_after

from nanorepro import Config, ConfigError, fit, predict
from nanorepro import config as names
from nanorepro.backends.numba.ensemble import make_ensemble
from nanorepro.specification import ModelSpec


def records_of(config, d, models):
    rng = np.random.default_rng(models)
    return [random_parameters(rng, config, d) for _ in range(models)]


def examples_of(config, d, steps=4):
    return arrays_of(np.random.default_rng(config.seed), steps * config.batch, d)


def side_by_side(config, d, records):
    """How many models the first ensemble takes; 0 where each is trained alone."""
    ensemble = make_ensemble(ModelSpec(config, d, 0, 0), records)
    return ensemble.count if ensemble else 0


@pytest.mark.parametrize(
    ("options", "d", "models"),
    slow_after(
        2,
        [
            # one word of features, full, nearly empty, and with room to spare; several words
            ({"model": "linear"}, 32, 16),
            ({"model": "linear", "optimizer": "sgd", "batch": 7, "leaf_order": "random"}, 1, 16),
            ({"model": "double", "act": "smelu", "batch": 40}, 31, 13),
            ({"model": "linear", "batch": 1}, 70, 12),
            # as many units as a tile of sums, fewer, more
            ({"model": "tower", "act": "relu"}, 32, 16),
            ({"hidden": "5,3", "act": "swish", "beta": 2.0, "batch": 33}, 33, 16),
            ({"hidden": "5", "act": "swish", "optimizer": "adam", "batch": 6}, 20, 16),
            ({"hidden": "17,1,6", "act": "identity", "optimizer": "sgd", "batch": 6}, 20, 16),
            ({"hidden": "4", "epsilon_place": "inside", "leaf_order": "reversed"}, 16, 16),
            ({"model": "single", "act": "relu", "batch": 65}, 64, 16),
            ({"hidden": "3", "precision": "float64", "act": "relu"}, 32, 8),
            # layers that repeat themselves
            ({"hidden": ",".join(["3"] * 12), "act": "relu", "batch": 6}, 32, 16),
            ({"hidden": "9,5," * 5 + "4", "act": "swish", "optimizer": "sgd"}, 32, 16),
        ],
    ),
    ids=str,
)
def test_each_is_trained_as_it_is_alone(options, d, models):
    config = Config(**{"seed": 3, "epsilon_place": "none", **options})
    records, (x, y) = records_of(config, d, models), examples_of(config, d)
    assert side_by_side(config, d, records) == models
    together = fit(config, x, y, records)
    assert len(together) == models
    for k in (0, models // 2 + 1, models - 1):
        alone = fit(config, x, y, records[k], "reference")
        assert_same_record(alone, together[k], f"{names.command(config)}, model {k}")


def test_some_side_by_side_and_some_alone():
    config = Config(model="linear", seed=4)
    records, (x, y) = records_of(config, 32, 35), examples_of(config, 32)
    together = fit(config, x, y, tuple(records))
    for record, trained in zip(records, together, strict=True):
        assert_same_record(fit(config, x, y, record), trained, "linear")


@pytest.mark.parametrize(
    "options",
    [
        {"tree": "pairwise"},
        {"unit_tree": "lanes:4"},
        {"accumulator": "kahan"},
        {"unit_accumulator": "exact"},
        {"precision": "bits:8"},
        {"fma": "off"},
        {"unit_order": "random"},
        {"hidden": "64,64"},
        {"model": "wide"},
    ],
    ids=str,
)
def test_what_is_not_taken_side_by_side(options):
    config = Config(**({"hidden": "3"} if "model" not in options else {}) | options)
    assert side_by_side(config, 32, records_of(config, 32, 16)) == 0


def test_few_models_are_trained_alone():
    config = Config(hidden="3")
    assert side_by_side(config, 32, records_of(config, 32, 11)) == 0
    assert side_by_side(config, 32, records_of(config, 32, 12)) == 12


TRAINED = """
import numpy as np
from nanorepro import Config, fit, initial_parameters
from nanorepro.results.result import fingerprint
config = Config(hidden="3", act="relu", batch=8, pairs=16, differ="init")
x = np.random.default_rng(1).random((160, 32)) < 0.1
records = fit(config, x, x[:, 0], [initial_parameters(config, pair) for pair in range(16)])
print(fingerprint([records]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("target", [t for t in targets() if t])
def test_other_processors_give_the_same_bits(target, tmp_path, capsys):
    settings = {
        "NUMBA_CPU_NAME": target,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    child, command = environment(**settings), [sys.executable, "-c", TRAINED]
    found = subprocess.run(command, env=child, capture_output=True, text=True, check=True)
    exec(TRAINED, {})
    assert found.stdout == capsys.readouterr().out != ""


@pytest.mark.slow
def test_a_model_that_diverges_leaves_the_others_alone():
    config = Config(model="double", act="relu", optimizer="sgd", lr=0.5)
    records, (x, y) = records_of(config, 32, 16), examples_of(config, 32, 30)
    records[5] = {name: value * 1e38 for name, value in records[5].items()}
    together = fit(config, x, y, records)
    assert not all(np.isfinite(value).all() for value in together[5].values())
    for k in (4, 5, 6):
        assert_same_record(fit(config, x, y, records[k]), together[k], f"model {k}")


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_lists_of_records(backend):
    config = Config(hidden="3", act="relu", batch=4)
    records, (x, y) = records_of(config, 10, 3), examples_of(config, 10)
    together = fit(config, x, y, records, backend)
    z = predict(config, x, together, backend)
    assert z.shape == (3, len(x))
    for k, record in enumerate(records):
        assert_same_record(fit(config, x, y, record, backend), together[k], f"model {k}")
        assert np.array_equal(predict(config, x, together[k], backend), z[k])
    assert fit(config, x, y, records[:1], backend)[0].keys() == records[0].keys()


def test_wrong_records_are_named():
    config = Config(hidden="3")
    records, (x, y) = records_of(config, 10, 2), examples_of(config, 10)
    with pytest.raises(ConfigError, match="parameters: an empty list is not allowed; give"):
        fit(config, x, y, [])
    records[1]["b0"] = np.zeros(4)
    with pytest.raises(ConfigError, match=r"parameters\[1\]: b0 is float64 \(4,\); give floats"):
        fit(config, x, y, records)
    with pytest.raises(ConfigError, match=r"parameters\[0\]: not a record .*; give a dict of w0"):
        predict(config, x, [3.0])
