"""What the two models of a pair differ in: streams, and nudges of single weights."""

from dataclasses import replace

import numpy as np
import pytest
from support.records import assert_same_record
from support.runs import BASE, small
from support.slow import slow_after

from nanorepro import ConfigError, initial_parameters, simulate
from nanorepro.backends.nudge import moved, nudged_weights
from nanorepro.backends.reference import Model as Reference
from nanorepro.data.sampling import FEATURES, examples
from nanorepro.data.worlds import make_world
from nanorepro.numerics.streams import permutation, stream_key
from nanorepro.results.result import fingerprint
from nanorepro.specification import ModelSpec


@pytest.mark.parametrize(
    "differ", ["init", "shuffle", "order", "nudge", "init,shuffle,order,nudge"]
)
def test_the_first_model_does_not_depend_on_what_differs(differ):
    config = replace(BASE, leaf_order="random", unit_order="random", pairs=2, log2_window=1)
    same = simulate(config, backend="reference").parameters
    other = simulate(replace(config, differ=differ), backend="reference").parameters
    for pair in range(2):
        assert_same_record(same[pair][0], other[pair][0], differ)
        assert fingerprint([[same[pair][1]]]) != fingerprint([[other[pair][1]]])
        assert fingerprint([[same[pair][0]]]) == fingerprint([[same[pair][1]]])


@pytest.mark.parametrize("precision", ["float32", "float64", "bits:8"])
def test_the_nudge_moves_one_weight_by_one_unit_in_the_last_place(precision):
    config = replace(BASE, differ="nudge", precision=precision, hidden="5,3", pairs=8)
    p = {"float32": 24, "float64": 53, "bits:8": 8}[precision]
    places = set()
    for pair in range(8):
        first, second = (initial_parameters(config, pair, m) for m in (0, 1))
        moved = [(n, i) for n in first for i in np.flatnonzero(first[n] != second[n])]
        assert len(moved) == 1
        name, at = moved[0]
        places.add((name, int(at)))
        old, new = float(first[name].flat[at]), float(second[name].flat[at])
        unit = 2.0 ** (np.frexp(max(abs(old), abs(new)))[1] - p)
        assert name.startswith("w") and new - old in (unit, unit / 2)
    assert len(places) > 4


@pytest.mark.parametrize("precision", slow_after(1, ["float32", "float64", "bits:8"]))
def test_a_nudge_within_a_run_moves_so_many_weights_before_its_step(precision):
    """The second model, rebuilt: five steps, eleven weights three numbers up, three steps."""
    config = replace(
        BASE, differ="nudge", precision=precision, act="swish", pairs=3, log2_examples=7,
        nudge_at=5, nudge_ulps=3, nudge_weights=11,
    )  # fmt: skip
    results = [simulate(config, backend=backend) for backend in ("reference", "numba")]
    assert results[0].fingerprint == results[1].fingerprint
    world = make_world(config.seed, config.data)
    for pair in range(3):
        spec = ModelSpec(config, FEATURES, pair, 1)
        x, y = examples(world, stream_key(config.seed, "examples", pair), 0, config.examples)
        windows = np.arange(len(y)).reshape(-1, config.window)
        order = [w[permutation(spec.key("shuffle"), k, len(w))] for k, w in enumerate(windows)]
        x, y, at = x[np.concatenate(order), None], y[np.concatenate(order)], 5 * config.batch
        model = Reference(spec, initial_parameters(config, pair, 1))
        model.train(x[:at], y[:at])
        places = nudged_weights(spec)
        assert len(set(places)) == 11
        numbers = 3 << 16 if precision == "bits:8" else 3
        nudged = np.array([model.w[name].flat[place] for name, place in places])
        for _ in range(numbers):
            np.nextafter(nudged, nudged.dtype.type(np.inf), out=nudged)
        for (name, place), value in zip(places, nudged, strict=True):
            model.w[name].flat[place] = value
        model.train(x[at:], y[at:])
        assert_same_record(model.parameters(), results[0].parameters[pair][1], f"pair {pair}")


@pytest.mark.slow
def test_a_nudge_at_a_step_leaves_the_run_before_as_it_was():
    """Checkpoints up to the nudge are those of an equal pair, those after it are not."""
    config = small(
        hidden="4", log2_examples=10, differ="nudge", eval_every=4, nudge_at=12, nudge_ulps=1 << 16,
        nudge_weights=100,
    )  # fmt: skip
    for backend in ("reference", "numba"):
        result = simulate(config, backend=backend)
        equal = [np.array_equal(a, b) for a, b in zip(*result.logits[0], strict=True)]
        assert equal == [step <= 12 for step in config.checkpoints]


@pytest.mark.parametrize(
    ("value", "units", "expected"),
    [(1.0, 1, 1 + 2**-23), (-1.0, 1, -1 + 2**-24), (2**-149, 2, 3 * 2**-149), (0.0, 5, 5 * 2**-149),
     (-(2**-149), 1, -0.0), (-(2**-149), 3, 2**-148), (3e38, 2**31, np.inf)],
)  # fmt: skip
def test_a_float_moves_through_all_numbers_of_its_format(value, units, expected):
    found = moved(np.float32(value), units)
    assert found == np.float32(expected) and np.signbit(found) == np.signbit(np.float32(expected))


def test_more_weights_than_there_are_cannot_be_nudged():
    with pytest.raises(ConfigError, match=r"nudge_weights: 34 is not allowed; give at most 32"):
        simulate(small(model="linear", differ="nudge", nudge_weights=34), "reference")
    with pytest.raises(ConfigError, match=r"nudge_at: 8 is not allowed; give a step of the run"):
        simulate(small(differ="nudge", nudge_at=8), "reference")
