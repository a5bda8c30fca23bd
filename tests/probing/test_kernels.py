"""Our own sums, seen from outside: each is the one that was asked for."""

from contextlib import suppress
from itertools import product

import pytest
from support.slow import slow_after, slow_unless

from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.model.architectures import ARCHITECTURES, Architecture
from nanorepro.numerics.plans import fixed_plan
from nanorepro.probing import kernels
from nanorepro.probing.trees import NoTree, tree_of_plan


def names(config):
    return [name for layer in kernels.net_of(config) for name in layer.names]


def check_all(config, backend, step=1):
    """Every sum of a model is the one that was asked for."""
    seen = 0
    for at in names(config):
        for which in ("batch", "forward", "backward"):
            first_or_bias = at in kernels.net_of(config)[0].names or at.startswith("b")
            if which == "backward" and first_or_bias or which == "forward" and at.startswith("b"):
                continue
            if kernels.number_of_terms(config, which, at) in (1, 1000):
                continue
            number = step if which == "batch" else 0
            tree = kernels.probe(config, which, at, number, backend)
            assert tree == kernels.asked(config, which, at, number), (config, which, at)
            seen += 1
    return seen


DIALS = {
    "chain": {"leaf_order": "random", "unit_order": "random", "batch": 5},
    "pairwise": {"leaf_order": "given", "unit_order": "reversed", "batch": 13},
    "lanes:3": {"leaf_order": "reversed", "unit_order": "given", "batch": 8},
    "blocks:4": {"leaf_order": "random", "unit_order": "given", "batch": 7},
    "random": {"leaf_order": "random", "unit_order": "random", "batch": 12},
}


@pytest.mark.parametrize(
    ("tree", "backend"),
    slow_unless(
        lambda tree, backend: backend == "reference" and tree in ("chain", "lanes:3"),
        product(DIALS, ("numba", "reference")),
    ),
)
def test_every_sum_of_a_tower(tree, backend):
    config = Config(hidden="4,3", tree=tree, unit_tree=tree, act="swish", **DIALS[tree])
    assert check_all(config, backend) == 6 + 3 + 1


@pytest.mark.parametrize(
    ("model", "backend"),
    slow_unless(
        lambda model, backend: model == "linear",
        product(("linear", "single", "wide"), ("numba", "reference")),
    ),
)
def test_every_sum_of_a_model(model, backend, monkeypatch):
    if backend == "reference":  # its loops over a thousand units take long
        narrow = Architecture("wide", "", (24,), embeddings=2)
        monkeypatch.setitem(ARCHITECTURES, "wide", narrow)
    config = Config(model=model, tree="blocks:3", leaf_order="reversed", unit_tree="lanes:5",
                    act="smelu", beta=0.5, batch=7)  # fmt: skip
    assert check_all(config, backend) >= 3


@pytest.mark.parametrize(
    "settings",
    slow_after(
        3,
        [
            {"precision": "float64"},
            {"precision": "bits:8", "act": "identity"},
            {"accumulator": "wide", "unit_accumulator": "wide", "act": "relu"},
            {"accumulator": "exact", "unit_accumulator": "exact"},
            {"fma": "off"},
            {
                "accumulator": "kahan",
                "unit_accumulator": "kahan",
                "tree": "chain",
                "unit_tree": "chain",
            },
            # in which few terms can be counted at a time
            {"precision": "bits:2"},
            {"rounding": "toward-zero"},
        ],
    ),
    ids=str,
)
def test_every_sum_in_other_arithmetic(settings):
    plain = {"hidden": "3", "act": "smelu", "tree": "lanes:3", "unit_tree": "pairwise", "batch": 6}
    check_all(Config(**{**plain, **settings}), "reference")


@pytest.mark.parametrize("batch", [2, 3, 5, 7, 16, 32, 33])
def test_with_kahan_a_tree_is_the_one_asked_for_or_hidden(batch):
    seen = {}
    for tree in ("chain", "pairwise", "lanes:2", "lanes:8", "blocks:4", "random"):
        config = Config(
            model="linear", batch=batch, tree=tree, leaf_order="random", accumulator="kahan"
        )
        with suppress(NoTree):
            seen[tree] = kernels.probe(config, backend="reference")
            assert seen[tree] == kernels.asked(config, "batch", "w0")
    assert "chain" in seen
    assert batch < 7 or not {"pairwise", "lanes:8", "blocks:4"} & seen.keys()


def test_kahan_over_units():
    dials = {"hidden": "8", "unit_accumulator": "kahan", "batch": 4}
    chain = Config(unit_order="random", **dials)
    assert kernels.probe(chain, "forward", "w1", 0, "reference") == kernels.asked(
        chain, "forward", "w1"
    )
    with pytest.raises(NoTree, match="kahan"):
        kernels.probe(Config(unit_tree="pairwise", **dials), "forward", "w1", 0, "reference")
    # the other sums have another accumulator
    assert kernels.probe(Config(tree="pairwise", **dials), backend="reference") == ((0, 1), (2, 3))


def test_stochastic():
    config = Config(hidden="3", tree="lanes:3", batch=8, rounding="stochastic", precision="bits:8")
    assert kernels.probe(config, at="w1", backend="reference") == kernels.asked(
        config, "batch", "w1"
    )


def test_a_large_batch():
    config = Config(model="linear", batch=100, tree="blocks:7")
    assert kernels.probe(config) == kernels.asked(config, "batch", "w0")


def test_the_two_models_dials_are_told_apart():
    config = Config(model="linear", tree="chain,pairwise", batch=6)
    assert dials(config, 0).tree == "chain"
    assert kernels.probe(config, backend="reference") == tree_of_plan(fixed_plan("chain", 6))
