"""Kernels and the table that picks them: each special one equals the general ones, bit for bit."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import arrays_of, assert_same_record, random_parameters
from support.slow import slow_unless

from nanorepro import Config
from nanorepro.backends import reference
from nanorepro.backends.numba import model as numba_model
from nanorepro.backends.numba.context import make_context
from nanorepro.backends.numba.kernels.step import (
    GENERAL,
    SPECIAL,
    carried_out,
    equations,
    make_step,
    select,
)
from nanorepro.backends.numba.layout import Memory
from nanorepro.data.packing import pack
from nanorepro.dials import dials
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.specification import ModelSpec, compile_key

NAMES = {f.name for f in fields(Config)}
# One configuration for each example of a special kernel, with the kernels that name it.
EXAMPLES: dict[tuple, list[str]] = {}
for _kernel in SPECIAL:
    for _example in _kernel.examples:
        EXAMPLES.setdefault(tuple(_example.items()), []).append(_kernel.name)


def spec_of(options):
    """The specification of an example: options of a configuration, and the number of features."""
    given_options = dict(options)
    features = given_options.pop("features", 32)
    return ModelSpec(Config(**given_options), features, 0, 0)


def context_of(spec):
    return make_context(compile_key(spec.config), dials(spec.config, 0), spec.features)


def test_every_kernel_has_a_name_a_condition_and_special_ones_an_example():
    kernels = [*SPECIAL, *GENERAL]
    assert len({kernel.name for kernel in kernels}) == len(kernels)
    assert all(kernel.condition for kernel in kernels)
    assert all(kernel.examples for kernel in SPECIAL)
    assert all(kernel.general for kernel in GENERAL)
    assert not any(kernel.general for kernel in SPECIAL)


def test_kernels_read_and_write_buffers_of_the_memory():
    for kernel in (*SPECIAL, *GENERAL):
        assert {*kernel.reads, *kernel.writes} <= {*Memory._fields}, kernel.name


@pytest.mark.parametrize("kernel", SPECIAL, ids=lambda kernel: kernel.name)
def test_a_special_kernel_is_picked_for_its_examples(kernel):
    for example in kernel.examples:
        picks = select(context_of(spec_of(example.items())))
        assert kernel in [pick.kernel for pick in picks], example


@pytest.mark.parametrize(
    ("options", "names"),
    slow_unless(lambda options, names: options == (("hidden", "6,3"),), EXAMPLES.items()),
    ids=str,
)
def test_special_kernels_equal_the_general_ones_and_the_reference(options, names):
    spec = spec_of(options)
    rng = np.random.default_rng(len(options))
    x, y = arrays_of(rng, 4 * spec.config.batch, spec.features)
    packed, labels = pack(x), y.astype(np.uint8)
    start = random_parameters(rng, spec.config, spec.features)
    special = numba_model.Model(spec, start)
    general = numba_model.Model(spec, start, general_only=True)
    plain = reference.Model(spec, start)
    used = {pick.kernel for pick in general.compiled.step.picks}
    assert not used & {*SPECIAL}
    for model in (special, general, plain):
        model.train(packed, labels)
    assert_same_record(special.parameters(), general.parameters(), f"{names}, general")
    assert_same_record(special.parameters(), plain.parameters(), f"{names}, reference")
    logits = [model.logits(packed[:5]) for model in (special, general, plain)]
    assert np.array_equal(logits[0], logits[1], equal_nan=True)
    assert np.array_equal(logits[0], logits[2], equal_nan=True)


@st.composite
def specifications(draw):
    """Any network, mini-batch, features and dials."""
    widths = draw(st.lists(st.integers(1, 130), max_size=5)) * draw(st.sampled_from([1, 1, 4]))
    tree = st.sampled_from(["chain", "pairwise", "lanes:3", "blocks:5", "random"])
    accumulator = st.sampled_from(["plain", "kahan", "wide", "exact"])
    options = {
        "hidden": ",".join(map(str, widths)),
        "model": "tower" if widths else draw(st.sampled_from(["linear", "wide", "deep"])),
        "act": draw(st.sampled_from(list(ACTIVATIONS))),
        "optimizer": draw(st.sampled_from(list(OPTIMIZERS))),
        "batch": draw(st.integers(1, 100)),
        "tree": draw(tree),
        "unit_tree": draw(tree),
        "accumulator": draw(accumulator),
        "unit_accumulator": draw(accumulator),
        "precision": draw(st.sampled_from(["float32", "bits:8"])),
    }
    return ModelSpec(Config(**options), 2 * draw(st.integers(1, 40)), 0, 0)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(spec=specifications(), general_only=st.booleans())
def test_every_equation_is_carried_out_once(spec, general_only):
    ctx = context_of(spec)
    special = [p for p in select(ctx, general_only) if not p.kernel.general]
    carried = [e for p in special for e in carried_out(ctx, p.kernel, p.k)]
    assert len(set(carried)) == len(carried)
    general = [p for p in select(ctx, general_only) if p.kernel.general]
    everything = {e for p in [*special, *general] for e in carried_out(ctx, p.kernel, p.k)}
    assert equations(ctx) <= everything


def intervals(layout, batch):
    """What is written of the parameters, and of z, h and δ: (begin, end, what)."""
    parameters, activations = [], []
    for k, place in enumerate(layout.layers):
        # of the first layer with its row of zeros, behind 32 rows
        zeros = 33 * place.by_input if k == 0 and not place.inputs_contiguous else 0
        parameters.append((place.w, place.w + max(place.weights, zeros), f"w{k}"))
        if place.layer.bias:
            n = place.layer.fan_out if place.in_table else place.width
            parameters.append((place.b, place.b + n, f"b{k}"))
        if place.recomputed:
            continue
        if place.examples_contiguous:
            n = place.layer.fan_out * layout.examples
        else:  # and a row of zeros, behind 32
            n = max(batch, 33) * place.by_example
        activations.append((place.z, place.z + n, f"z{k}"))
    return parameters, activations


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(spec=specifications(), general_only=st.booleans())
def test_nothing_in_the_layout_overlaps(spec, general_only):
    layout = make_step(context_of(spec), general_only).layout
    parameters, activations = intervals(layout, spec.config.batch)
    for places, size in ((parameters, layout.parameters), (activations, layout.activations)):
        ordered = sorted(places)
        assert ordered[0][0] >= 0 and max(end for _, end, _ in ordered) <= size
        for (_, end, one), (begin, _, other) in zip(ordered, ordered[1:], strict=False):
            assert end <= begin, (one, other, spec.config.hidden, spec.config.batch)


def test_buffers_lie_apart_and_begin_with_a_cache_line():
    spec = spec_of({"hidden": "16,8,4"}.items())
    memory = numba_model.Model(spec, reference_start(spec)).memory
    spans = sorted(
        (array.ctypes.data, array.ctypes.data + array.nbytes, name)
        for name, array in memory._asdict().items()
        if array.size and name not in ("biases", "bias_gradients")
    )
    assert memory.biases is memory.w and memory.bias_gradients is memory.g
    assert all(begin % 64 == 0 for begin, _, _ in spans)
    for (_, end, one), (begin, _, other) in zip(spans, spans[1:], strict=False):
        assert end <= begin, (one, other)


def reference_start(spec):
    return random_parameters(np.random.default_rng(0), spec.config, spec.features)
