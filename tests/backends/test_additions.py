"""An addition is one record in one place: checks, both backends and ids follow."""

from dataclasses import replace

import pytest
from support.runs import assert_same_run, small
from support.slow import slow_after

from nanorepro import ConfigError, simulate
from nanorepro.data.distributions import DISTRIBUTIONS, Distribution
from nanorepro.model.activations import ACTIVATIONS, Activation
from nanorepro.model.architectures import ARCHITECTURES, Architecture
from nanorepro.model.initializers import INITIALIZERS, Initializer
from nanorepro.model.optimizers import OPTIMIZERS, Optimizer
from nanorepro.model.optimizers.shared import RateSetting
from nanorepro.numerics import trees
from nanorepro.numerics.accumulators import ACCUMULATORS, Accumulator, kahan
from nanorepro.numerics.trees import LEAF_ORDERS, LeafOrder, Tree

# Another tree is one function and its name.


def evens_first(n):
    """A chain over the even terms, another over the odd ones, and their sum."""
    return [(i % 2, i) for i in [*range(0, n, 2), *range(1, n, 2)]] + [(0, ~1)] * (n > 1)


def first_alone(n, k):
    """The k-th term by itself, a chain over the others."""
    return [(i != k % n, i) for i in range(n)] + [(0, ~1)] * (n > 1)


@pytest.mark.slow
@pytest.mark.parametrize("tree", ["evens-first", "first-alone:3"])
@pytest.mark.parametrize("options", [{}, {"precision": "bits:8"}, {"accumulator": "kahan"}])
def test_a_tree_is_added_in_one_place(tree, options, monkeypatch):
    with pytest.raises(ConfigError, match="tree"):
        small(tree=tree)
    monkeypatch.setitem(trees.TREES, "evens-first", Tree("evens-first", "", evens_first))
    monkeypatch.setitem(trees.TREES, "first-alone:k", Tree("first-alone:k", "", first_alone))
    config = small(hidden="9,3", batch=16, tree=tree, unit_tree=tree, **options)
    found = assert_same_run(config)
    chain = replace(config, tree="chain", unit_tree="chain")
    assert found.fingerprint != simulate(chain, "reference").fingerprint


def leaky(xp, ops, beta):
    """A(z) = z, a quarter of it below 0."""
    where, mul, zero, quarter = xp.where, ops.mul, ops.const(0.0), ops.const(0.25)

    @xp.function
    def value(z, t):
        return where(z < zero, mul(quarter, z, t), z)

    @xp.function
    def backward(d, z, t):
        return where(z < zero, mul(quarter, d, t), d)

    return value, backward


def three_states(xp, ops, setting):
    """w ← w - η·(c + d + e), three fading sums of gradients."""
    add, sub, mul, fma, half = ops.add, ops.sub, ops.mul, ops.fma, ops.const(0.5)

    @xp.function
    def update(w, state, g, rate, t):
        c = fma(half, state[0], g, t)
        d = fma(half, state[1], c, t)
        e = fma(half, state[2], d, t)
        return sub(w, mul(rate, add(add(c, d, t), e, t), t), t), (c, d, e)

    return update


@pytest.mark.parametrize("options", slow_after(1, [{}, {"precision": "bits:8"}, {"hidden": "33"}]))
def test_an_activation_and_an_optimizer_are_added_in_one_place(options, monkeypatch):
    """By their records alone: the checks, both backends and the id follow."""
    for name in ("act", "optimizer"):
        with pytest.raises(ConfigError, match=name):
            small(**{name: "added"})
    monkeypatch.setitem(ACTIVATIONS, "added", Activation("added", "", leaky))
    added = Optimizer(
        name="added", summary="", settings=RateSetting, make_update=three_states, operations=5,
        state={"c": 0.0, "d": 0.5, "e": "lr"}, rate_settings=(),
        schedule=lambda setting, step: setting.lr / (1 + step),
    )  # fmt: skip
    monkeypatch.setitem(OPTIMIZERS, "added", added)
    config = small(**{"hidden": "5,3", "act": "added", "optimizer": "added", "lr": 0.01, **options})
    assert_same_run(config)
    assert config.id != replace(config, optimizer="sgd").id
    assert config.id == replace(config, momentum=0.5, epsilon=0.5).id


ADDED = [
    (INITIALIZERS, "init", Initializer("added", "", lambda rows, columns: 0.5 / rows)),
    (
        DISTRIBUTIONS,
        "data",
        Distribution("added", "", lambda j: 1.0 / (j + 1), set_size=8, interactions=True),
    ),
    (ARCHITECTURES, "model", Architecture("added", "", (3, 5), embeddings=4)),
    (ACCUMULATORS, "accumulator", Accumulator("added", "", kahan)),
    (LEAF_ORDERS, "leaf_order", LeafOrder("added", "", lambda n: [*range(1, n), 0])),
    (LEAF_ORDERS, "unit_order", LeafOrder("added", "", lambda n: [*range(1, n), 0])),
]


@pytest.mark.parametrize(
    ("records", "field", "record"), slow_after(2, ADDED), ids=[field for _, field, _ in ADDED]
)
def test_any_choice_is_added_in_one_place(records, field, record, monkeypatch):
    with pytest.raises(ConfigError, match=field):
        small(**{field: "added"})
    monkeypatch.setitem(records, "added", record)
    config = small(**{"model": "double", "batch": 16, field: "added"})
    found = assert_same_run(config)
    assert found.fingerprint != simulate(small(model="double", batch=16), "reference").fingerprint
