"""An accumulator for a single sum: it is that sum, no other, and all of them are all sums."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import arrays_of, assert_same_record, random_parameters
from support.runs import small
from support.slow import slow_after

from nanorepro import Config, ConfigError, fit, simulate
from nanorepro.backends import reference
from nanorepro.backends.numba import model as numba_model
from nanorepro.backends.numba.context import make_context
from nanorepro.backends.numba.kernels.step import SPECIAL, select
from nanorepro.data.packing import pack
from nanorepro.dials import dials
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.single_sums import accumulators_at, sites, text_of
from nanorepro.specification import ModelSpec, compile_key

HIDDEN = "6,5,3"  # four layers
SITES = sites(4)


def traced(accumulator_at):
    """z of each layer, and the gradients, of one mini-batch."""
    config = Config(hidden=HIDDEN, act="swish", accumulator_at=accumulator_at, seed=3)
    rng = np.random.default_rng(0)
    x, y = arrays_of(rng, config.batch, 32)
    start = random_parameters(rng, config, 32)
    model = reference.Model(ModelSpec(config, 32, 0, 0), start)
    bits = x.astype(bool)
    return model.forward(bits)[0], model.gradients(bits, y)


@pytest.mark.parametrize("site", SITES, ids=str)
def test_it_changes_that_sum_and_what_follows_from_it(site):
    (layer, kind), (z, g) = site, traced("")
    other_z, other_g = traced(text_of({site: "exact"}))
    moved = [k for k in range(4) if not np.array_equal(z[k], other_z[k])]
    of = {name: int(name[1:]) for name in g}
    changed = {of[name] for name in g if not np.array_equal(g[name], other_g[name])}
    if kind == "forward":
        assert moved and min(moved) == layer
    elif kind == "backward":
        # the output layer has one unit: a sum of one term is exact
        assert not moved and max(changed, default=None) == (layer - 1 if layer < 3 else None)
    else:
        assert not moved and changed == {layer}


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(SITES), st.sampled_from(list(ACCUMULATORS)), max_size=len(SITES)
    )
)
def test_the_text_says_what_is_meant(accumulators):
    assert accumulators_at(text_of(accumulators)) == accumulators
    d = dials(Config(hidden=HIDDEN, accumulator_at=text_of(accumulators)), 1)
    assert {s: d.accumulator_of(*s) for s in SITES} == {
        s: accumulators.get(s, "plain") for s in SITES
    }


EVERYWHERE = text_of(dict.fromkeys(sites(3), "exact"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_exact_at_every_sum_is_exact_and_makes_a_pd_of_0(backend):
    config = {"hidden": "4,3", "log2_examples": 10, "differ": "shuffle,order",
              "leaf_order": "random", "unit_order": "random"}  # fmt: skip
    single = simulate(small(**config, accumulator_at=EVERYWHERE), backend)
    kinds = simulate(small(**config, accumulator="exact", unit_accumulator="exact"), backend)
    assert single.relative_pd == 0.0 and not any(single.weight_distance)
    assert single.fingerprint == kinds.fingerprint


@pytest.mark.parametrize("kind", slow_after(1, ["0:batch", "1:forward", "1:backward"]))
def test_one_sum_that_is_not_exact_parts_the_models(kind):
    [planted] = accumulators_at(f"{kind}=exact")
    others = text_of({site: "exact" for site in sites(3) if site != planted})
    config = small(hidden="4,3", log2_examples=10, differ="order", leaf_order="random",
                   unit_order="random", accumulator_at=others)  # fmt: skip
    assert simulate(config, "reference").relative_pd > 0.0


@pytest.mark.slow  # each is compiled
@settings(
    max_examples=12, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    accumulators=st.dictionaries(
        st.sampled_from(sites(7)), st.sampled_from(list(ACCUMULATORS)), min_size=1, max_size=6
    ),
    act=st.sampled_from(["relu", "swish"]),
)
def test_numba_equals_the_reference_in_a_network_of_equal_layers(accumulators, act):
    """Kernels that are compiled once for several layers are not those of layers that differ."""
    config = Config(hidden="6,6,6,6,6,6", act=act, batch=8, accumulator_at=text_of(accumulators))
    assert_same_training(config)


@pytest.mark.slow  # twenty seconds to compile
def test_equal_layers_of_which_one_sum_is_another():
    at = "2:forward=exact+3:backward=wide+4:batch=exact"
    assert_same_training(Config(hidden="6,6,6,6,6,6", batch=8, accumulator_at=at))


def assert_same_training(config):
    rng = np.random.default_rng(1)
    x, y = arrays_of(rng, 5 * config.batch, 32)
    start = random_parameters(rng, config, 32)
    spec = ModelSpec(config, 32, 0, 0)
    models = numba_model.Model(spec, start), reference.Model(spec, start)
    for model in models:
        model.train(pack(x), y.astype(np.uint8))
    assert_same_record(models[0].parameters(), models[1].parameters(), config.accumulator_at)


def test_special_kernels_carry_out_steps_whose_sums_are_alike():
    for at, alike in (("", True), ("0:batch=plain", True), ("0:batch=exact", False)):
        config = Config(accumulator_at=at)
        ctx = make_context(compile_key(config), dials(config, 0), 32)
        used = {pick.kernel for pick in select(ctx)} & {*SPECIAL}
        assert bool(used) == alike == ctx.alike


@pytest.mark.slow
def test_many_small_models_are_trained_as_each_alone():
    config = Config(model="double", batch=8, accumulator_at="0:batch=exact+1:forward=kahan")
    rng = np.random.default_rng(2)
    x, y = arrays_of(rng, 40, 7)
    records = [random_parameters(rng, config, 7) for _ in range(16)]
    for got, record in zip(fit(config, x, y, records), records, strict=True):
        assert_same_record(got, fit(config, x, y, record, backend="reference"), "in a list")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch=exact", "give LAYER:SUM=ACCUMULATOR"),
        ("1:batch", "give LAYER:SUM=ACCUMULATOR"),
        ("1:batch=neumaier", "give LAYER:SUM=ACCUMULATOR"),
        ("1:sideways=exact", "SUM is forward or backward or batch"),
        ("1:batch=exact+", "give LAYER:SUM=ACCUMULATOR"),
        ("-1:batch=exact", "give LAYER:SUM=ACCUMULATOR"),
        ("1:batch=exact+1:batch=kahan", "each sum once"),
        ("4:batch=exact", "layers from 0 to 3, and backward from 1 on"),
        ("0:backward=exact", "layers from 0 to 3, and backward from 1 on"),
        ("1:batch=exact,1:batch=kahan,1:batch=wide", "one value, or two"),
    ],
)
def test_what_names_no_sum_is_refused(text, said):
    with pytest.raises(ConfigError, match=f"accumulator_at: .*{re.escape(said)}"):
        Config(hidden=HIDDEN, accumulator_at=text)


def test_float64_has_no_accumulator_that_is_wider():
    with pytest.raises(ConfigError, match="accumulator_at"):
        Config(hidden=HIDDEN, precision="float64", accumulator_at="1:batch=wide")
