"""Models over real features: the same bits everywhere, and those of packed ones for 0 and 1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import assert_same_bits, assert_same_record, random_parameters
from support.slow import slow_after

from nanorepro import Config, fit, predict, simulate
from nanorepro.backends import reference
from nanorepro.backends.numba import model as numba_model
from nanorepro.backends.numba.context import make_context
from nanorepro.backends.numba.kernels.step import make_step
from nanorepro.backends.numba.traced_model import TracedModel
from nanorepro.dials import dials
from nanorepro.specification import ModelSpec, compile_key

RNG = np.random.default_rng(2)
OPTIONS = [
    {"hidden": "6,3", "batch": 16},
    {"model": "wide", "batch": 8},
    {"hidden": "130,70", "batch": 33},  # large layers, which find equal examples of bits
    {"model": "double", "batch": 32},  # narrow over bits
    {"hidden": "16,8", "batch": 32, "optimizer": "adam"},  # example by example over bits
    {"hidden": "5", "unit_tree": "lanes:3", "unit_order": "reversed", "unit_accumulator": "kahan"},
    {"hidden": "5", "tree": "pairwise", "accumulator": "exact", "precision": "bits:8"},
    {"hidden": "5", "rounding": "stochastic", "unit_accumulator": "wide", "fma": "off"},
    {"hidden": "3,70,3", "act": "swish"},  # kept between few over bits
    {"hidden": "130,128", "act": "swish"},  # of different examples over bits
    {"hidden": "5", "accumulator_at": "0:forward=kahan+0:batch=exact"},
]


def examples(n, d):
    x = RNG.normal(size=(n, d)).astype(np.float32)
    x[RNG.random((n, d)) < 0.2] = 0.0
    return x, RNG.integers(0, 2, n).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_execution_gives_the_same_bits(options):
    spec = ModelSpec(Config(**options), 10, 0, 0, real=True)
    x, y = examples(4 * spec.config.batch, 10)
    start = random_parameters(RNG, spec.config, 10)
    models = [
        reference.Model(spec, start),
        numba_model.Model(spec, start),
        numba_model.Model(spec, start, general_only=True),
    ]
    for model in models:
        model.train(x, y)
    for model in models[1:]:
        assert_same_record(models[0].parameters(), model.parameters(), str(options))
        assert_same_bits(models[0].logits(x[:5]), model.logits(x[:5]), "logits")


@pytest.mark.slow
def test_what_layers_compute_is_told_alike():
    spec = ModelSpec(Config(**OPTIONS[0]), 10, 0, 0, real=True)
    x, y = examples(48, 10)
    start = random_parameters(RNG, spec.config, 10)
    ours, theirs = TracedModel(spec, start), reference.TracedModel(spec, start)
    assert_same_bits(ours.trace(x, y), theirs.trace(x, y), "z")


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["5,3", "2", "9"]),
    st.sampled_from(["chain", "pairwise", "random"]),
    st.sampled_from(["plain", "wide", "exact"]),
    st.sampled_from(["float32", "float64", "bits:8"]),
    st.integers(0, 99),
)
def test_numbers_0_and_1_give_the_bits_of_packed_ones(hidden, tree, accumulator, precision, seed):
    """A product with 1 is exact, and one with 0 adds nothing."""
    accumulator = "plain" if precision == "float64" else accumulator
    config = Config(
        hidden=hidden, tree=tree, unit_tree=tree, accumulator=accumulator, batch=4, seed=seed,
        unit_accumulator=accumulator, precision=precision,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 2, (16, 7)), rng.integers(0, 2, 16)
    start = random_parameters(rng, config, 7)
    model = reference.Model(ModelSpec(config, 7, 0, 0, real=True), start)
    model.train(x.astype(np.float32), y)
    assert_same_record(fit(config, x, y, start, "reference"), model.parameters(), str(config))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_kernel_over_numbers_reads_bits(options):
    config = Config(**options)
    ctx = make_context(compile_key(config), dials(config, 0), 10, real=True)
    read = {name for pick in make_step(ctx).picks for name in pick.kernel.reads}
    assert not read & {"duplicate_of", "columns", "present_features"}
    first = [pick.kernel.name for pick in make_step(ctx).picks if pick.k == 0]
    assert {"real_input_forward", "real_input_gradients"} <= {*first}


def test_a_run_over_real_features_is_the_same_on_both_backends():
    x, y = examples(40, 10)[0], np.arange(40) % 3 % 2
    config = Config(hidden="6,3", batch=16, epochs=4, pairs=1, log2_window=1)
    one = simulate(config, "reference", 1, data=(x, y))
    assert one == simulate(config, "numba", 2, data=(x, y))
    assert one.config.given.is_real
    # -0 is +0, and what float32 cannot tell apart is equal
    other = np.where(x == 0.0, -0.0, x.astype(float) * (1 + 1e-12))
    assert simulate(config, "reference", 1, data=(other, y)) == one


@pytest.mark.parametrize("options", slow_after(1, OPTIONS[:3]), ids=str)
@pytest.mark.parametrize("count", [1, 16])
def test_fit_and_predict_take_real_features(options, count):
    """One model, and as many as are trained together over bits."""
    config = Config(**options)
    x, y = examples(2 * config.batch, 10)
    records = [random_parameters(RNG, config, 10) for _ in range(count)]
    model = reference.Model(ModelSpec(config, 10, 0, 0, real=True), records[0])
    model.train(x, y)
    for backend in ("reference", "numba"):
        found = fit(config, x.astype(float) * (1 + 1e-12), 2.0 * y - 1.0, records, backend)
        assert_same_record(found[0], model.parameters(), backend)
        logits = predict(config, x[:5], found, backend)
        assert_same_bits(logits[0], model.logits(x[:5]), backend)  # which draws as step 0 does
        assert logits.shape == (count, 5)
    for one, other in zip(found, fit(config, x, y, records, "reference"), strict=True):
        assert_same_record(one, other, str(config))
