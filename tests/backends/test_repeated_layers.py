"""Networks of many equal layers: each kernel is compiled once, and no bit depends on it."""

from collections import Counter

import numba.core.event
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import arrays_of, assert_same_record, random_parameters

from nanorepro import Config
from nanorepro.backends import reference
from nanorepro.backends.numba import model as numba_model
from nanorepro.backends.numba.context import make_context
from nanorepro.backends.numba.kernels.step import make_step
from nanorepro.backends.numba.kernels.table_layers import sum_groups
from nanorepro.backends.numba.repeated import REPEATED, PlacedKernel, runs_of
from nanorepro.data.packing import pack
from nanorepro.dials import dials
from nanorepro.specification import ModelSpec, compile_key


def equal(width, depth):
    return ",".join([str(width)] * depth)


def kernels_of(config, general_only=False):
    """The runs of kernels of a step: of its layers, and of the sums that they share."""
    ctx = make_context(compile_key(config), dials(config, 0), 32)
    step = make_step(ctx, general_only)
    sequences = [
        [pick.placed(ctx, step.layout) for pick in picks] for picks in (step.forward, step.backward)
    ]
    if "shared_gradients" in {pick.kernel.name for pick in step.picks}:
        sequences.append(sum_groups(ctx, step.layout))
    return [run for kernels in sequences for run in runs_of(kernels)]


def compiled(config, general_only=False):
    """How many kernels are compiled."""
    return sum(len(run.kernels) for run in kernels_of(config, general_only))


# Kernels and runs


@st.composite
def sequences(draw):
    """Kernels of a few kinds, some of them again and again at equal distances."""
    kernels, at = [], 0
    for _ in range(draw(st.integers(0, 5))):
        kinds = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3))
        for _ in range(draw(st.integers(1, 5))):
            for kind in kinds:
                kernels.append(
                    PlacedKernel(kind, {"w": (at, at + 7), "z": (3 * at,)}, lambda: None)
                )
                at += draw(st.sampled_from([10, 10, 10, 11]))
    return kernels


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(kernels=sequences())
def test_runs_are_the_parts_in_their_order(kernels):
    found = []
    for run in runs_of(kernels):
        assert run.times == len(run.kernels) == 1 or run.times >= REPEATED
        for n in range(run.times):
            for kernel, steps in zip(run.kernels, run.steps or [{}], strict=True):
                by = {name: n * steps.get(name, 0) for name in kernel.places}
                places = {
                    name: tuple(p + by[name] for p in at) for name, at in kernel.places.items()
                }
                found.append((kernel.code, places))
    assert found == [(kernel.code, dict(kernel.places)) for kernel in kernels]


@pytest.mark.parametrize(
    ("kinds", "distances", "fewest"),
    [
        ("aaaaa", [8] * 5, 1),
        ("aa", [8] * 2, 2),
        ("abababab", [8, 3] * 4, 2),
        ("abababab", [8, 3, 8, 3, 8, 4, 8, 3], 4),
        ("caaaacaaaac", [8] * 11, 5),
        ("aaab" * 4, [8] * 16, 4),
        ("aaaaabaaaaabaaaaab", [8] * 18, 6),
    ],
)
def test_the_fewest_kernels_are_compiled(kinds, distances, fewest):
    at = np.cumsum([0, *distances])
    kernels = [
        PlacedKernel(kind, {"w": (k,)}, lambda: None) for kind, k in zip(kinds, at, strict=False)
    ]
    assert sum(len(run.kernels) for run in runs_of(kernels)) == fewest


def test_kernels_of_other_distances_between_their_places_are_not_one():
    kernels = [PlacedKernel("a", {"z": (10 * k, 10 * k + k)}, lambda: None) for k in range(6)]
    assert len(runs_of(kernels)) == 6


# What is compiled

WIDTHS = (1, 2, 5, 16, 17, 40, 64, 130)
DIALS = (
    {"act": "relu"},
    {"act": "swish", "optimizer": "adam"},
    {"act": "identity", "batch": 48, "tree": "random", "unit_tree": "random"},
    {"act": "smelu", "precision": "bits:8", "rounding": "stochastic"},
    {"act": "relu", "accumulator": "exact", "unit_accumulator": "exact"},
)


@pytest.mark.parametrize("options", DIALS, ids=str)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_deeper_network_needs_no_more_kernels(width, options):
    few, many = (compiled(Config(hidden=equal(width, depth), **options)) for depth in (8, 64))
    assert many <= few + 2  # groups of sums may end otherwise


@pytest.mark.parametrize("width", WIDTHS)
def test_nor_do_the_general_kernels(width):
    few, many = (compiled(Config(hidden=equal(width, depth)), True) for depth in (8, 64))
    assert many == few


@pytest.mark.parametrize(
    "period", ["4,100", "40,20,17", "5,3", "20,20,30", "8,8,8,5"], ids=lambda p: f"({p})"
)
def test_nor_does_one_of_the_same_layers_again_and_again(period):
    few, many = (
        compiled(Config(hidden=",".join([period] * often), act="relu")) for often in (6, 24)
    )
    assert many <= few + 2


@pytest.mark.parametrize(
    "options",
    [
        *({"model": model} for model in ("linear", "single", "double", "tower", "wide", "deep")),
        {"hidden": "16,16,16"},
        {"hidden": "100,100,100"},
        {"hidden": "64,32,16,8,4,2"},
    ],
    ids=str,
)
@pytest.mark.parametrize("act", ["relu", "swish"])
def test_networks_of_few_equal_layers_are_compiled_layer_by_layer(options, act):
    assert all(run.times == 1 for run in kernels_of(Config(act=act, **options)))


def functions_compiled(config):
    """How many functions Numba compiles for a step of a new configuration."""
    count = Counter()

    class Listener(numba.core.event.Listener):
        def on_start(self, event):
            count["functions"] += 1

        def on_end(self, event):
            pass

    spec, rng = ModelSpec(config, 32, 0, 0), np.random.default_rng(0)
    model = numba_model.Model(spec, random_parameters(rng, config, 32))
    x, y = arrays_of(rng, config.batch, 32)
    with numba.core.event.install_listener("numba:compile", Listener()):
        model.train(pack(x), y.astype(np.uint8))
    return count["functions"]


@pytest.mark.slow
def test_a_deeper_network_needs_no_more_functions():
    few, many = (
        functions_compiled(Config(hidden=equal(20, depth), beta=0.9, act="relu"))
        for depth in (10, 40)
    )
    assert 0 < many <= few + 20


@pytest.mark.slow
@pytest.mark.parametrize("width", [2, 20])
def test_a_network_needs_fewer_functions_than_it_has_layers(width):
    """How many sums are left over beside the loops depends on the depth, for narrow layers."""
    config = Config(hidden=equal(width, 320), beta=0.9, act="relu")
    assert 0 < functions_compiled(config) < 320


# Every bit as it is

STACKS = (
    {"hidden": equal(16, 6), "act": "relu"},
    {"hidden": equal(2, 40), "act": "identity", "batch": 48},
    {"hidden": "33," + equal(5, 5) + ",20," + equal(17, 4) + ",3", "act": "smelu", "batch": 16},
    {"hidden": equal(130, 5), "act": "relu"},
    {"hidden": equal(5, 12), "act": "relu", "tree": "pairwise", "leaf_order": "random"},
    {"hidden": equal(17, 6), "act": "swish", "optimizer": "adam", "batch": 16},
    {"hidden": equal(40, 6), "act": "smelu", "optimizer": "sgd", "batch": 48},
    {"hidden": equal(64, 5), "act": "swish", "unit_tree": "lanes:3", "tree": "blocks:5"},
    {"hidden": equal(130, 5), "act": "swish", "optimizer": "sgd", "batch": 16},
    {"hidden": equal(130, 5), "act": "relu", "optimizer": "adam", "batch": 48},
    {"hidden": equal(16, 5) + ",9," + equal(16, 5), "act": "relu", "precision": "float64"},
    {"hidden": ",".join(["4,100"] * 4) + ",4", "act": "relu"},
    {"hidden": ",".join(["40,20,17"] * 4), "act": "smelu"},
    {
        "hidden": equal(5, 6),
        "act": "relu",
        "precision": "bits:8",
        "rounding": "stochastic",
        "unit_accumulator": "kahan",
    },
    {"hidden": equal(5, 6), "act": "relu", "accumulator": "exact", "unit_accumulator": "exact"},
    {
        "hidden": equal(20, 6),
        "act": "relu",
        "tree": "random",
        "unit_tree": "random",
        "unit_order": "random",
        "accumulator": "wide",
        "unit_accumulator": "wide",
    },
    {"hidden": equal(1, 12), "act": "identity", "tree": "lanes:3", "fma": "off"},
)


@pytest.mark.slow
@pytest.mark.parametrize("general_only", [False, True])
@pytest.mark.parametrize("options", STACKS, ids=str)
def test_stacks_of_equal_layers_equal_the_reference(options, general_only):
    """With the special kernels, and with the general ones alone, which are loops as well."""
    spec = ModelSpec(Config(seed=3, **options), 32, 0, 0)
    rng = np.random.default_rng(len(options["hidden"]))
    x, y = arrays_of(rng, 4 * spec.config.batch, spec.features)
    packed, labels = pack(x), y.astype(np.uint8)
    start = random_parameters(rng, spec.config, spec.features)
    compiled_model = numba_model.Model(spec, start, general_only=general_only)
    plain = reference.Model(spec, start)
    assert any(run.times > 1 for run in kernels_of(spec.config))
    for model in (compiled_model, plain):
        model.train(packed, labels)
    assert_same_record(compiled_model.parameters(), plain.parameters(), "reference")
    assert np.array_equal(compiled_model.logits(packed), plain.logits(packed), equal_nan=True)
