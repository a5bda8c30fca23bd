"""Where pairs part: planted differences are found exactly, and what is found equals brute force."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records import assert_same_record
from support.slow import slow_after, slow_unless

from nanorepro import Config, ConfigError, diverge, simulate
from nanorepro.analysis.divergence import (
    Divergence,
    PairDivergence,
    growth_rate,
    steps_measured,
)
from nanorepro.analysis.lockstep import Lockstep, PairExamples
from nanorepro.analysis.parting import bisect, difference, mean_loss
from nanorepro.backends import load_backend, reference
from nanorepro.backends.nudge import nudged_weights
from nanorepro.commands.diverge import as_table
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.numerics.streams import stream_key
from nanorepro.plots import divergence as plots
from nanorepro.specification import ModelSpec
from nanorepro.training import group
from nanorepro.training.parameters import initial_parameters
from nanorepro.training.sequences import GivenSequence

SMALL = Config(hidden="4,3", log2_examples=9, log2_eval=5, pairs=1, batch=16, seed=3)


def make_pair(config, backend, model="Model"):
    """The two models of pair 0 in step."""
    engine = load_backend(backend)
    specs = [ModelSpec(config, FEATURES, 0, m) for m in (0, 1)]
    start = [initial_parameters(config, 0, m) for m in (0, 1)]
    world = make_world(config.seed, config.data)
    examples = PairExamples(config, 0, world, engine)
    return Lockstep(getattr(engine, model), specs, start, examples)


def by_steps(config):
    """Both models of pair 0 step by step: the parameters that each step starts from."""
    pair = make_pair(config, "reference")
    yield pair.parameters()
    for step in range(1, config.steps + 1):
        pair.go_on(step)
        yield pair.parameters()


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 15), st.integers(0, 1000), st.sampled_from(["relu", "swish"]),
    st.sampled_from(["adagrad", "sgd", "adam"]), st.sampled_from(["float32", "float64", "bits:11"]),
)  # fmt: skip
def test_a_planted_weight_is_found_at_its_step(step, seed, act, optimizer, precision):
    config = replace(
        SMALL, differ="nudge", nudge_at=step, seed=seed, act=act, optimizer=optimizer,
        precision=precision, log2_examples=8,
    )  # fmt: skip
    found = diverge(config, backend="reference", per_octave=1).pairs[0].parting
    [(name, at)] = nudged_weights(ModelSpec(config, FEATURES, 0, 1))
    assert found is not None
    assert (found.step, found.weights, found.layers) == (step, 1, {name: 1})
    assert found.first.name == name
    shape = initial_parameters(config)[name].shape
    assert np.ravel_multi_index(found.first.index, shape) == at
    assert found.first.ulps == (1 << 13 if precision == "bits:11" else 1)


def test_wide_examples_are_taken_in_short_pieces_to_the_same_numbers(monkeypatch):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 40)).astype(np.float32)
    data = x, x[:, 0] + x[:, 1] > 0
    config = replace(SMALL, data="arrays", hidden="3", lr=0.5, epochs=2, log2_window=2)
    whole = diverge(config, "reference", per_octave=1, data=data).as_record()
    sizes = []
    room = GivenSequence.room

    def counted(sequence, n):
        sizes.append(n)
        return room(sequence, n)

    monkeypatch.setattr(GivenSequence, "room", counted)
    monkeypatch.setattr(group, "PIECE", 80)  # of 40 features two mini-batches
    found = diverge(config, "reference", per_octave=1, data=data).as_record()
    assert repr(found) == repr(whole)
    assert max(sizes) == 2 * config.batch


@pytest.mark.parametrize("backend", slow_after(1, ["reference", "numba"]))
def test_several_planted_weights_are_all_counted(backend):
    config = replace(SMALL, differ="nudge", nudge_at=13, nudge_weights=9, nudge_ulps=5)
    found = diverge(config, backend=backend).pairs[0].parting
    places = nudged_weights(ModelSpec(config, FEATURES, 0, 1))
    assert (found.step, found.weights, found.first.ulps) == (13, 9, 5)
    assert found.layers == {n: sum(m == n for m, _ in places) for n, _ in sorted(places)}
    order = list(initial_parameters(config))
    assert found.first.name == min((n for n, _ in places), key=order.index)


SOURCES = [
    {"differ": "shuffle"},
    {"differ": "order", "leaf_order": "random", "seed": 5},
    {"differ": "none", "tree": "chain,lanes:4", "act": "swish"},
    {"differ": "none", "unit_tree": "chain,pairwise"},
    {"differ": "rounding", "precision": "bits:8", "rounding": "stochastic"},
    {"differ": "init"},
    {"differ": "nudge", "nudge_at": 7, "act": "smelu", "beta": 0.1},
    {"differ": "none", "precision": "float32,bits:20", "init": "zero"},
]


@pytest.mark.parametrize("options", SOURCES, ids=str)
def test_the_first_step_is_that_of_a_search_step_by_step(options):
    config = replace(SMALL, log2_examples=8, **options)
    first = next((k for k, (a, b) in enumerate(by_steps(config)) if difference(a, b)), None)
    found = diverge(config, backend="reference", per_octave=1).pairs[0].parting
    assert (None if found is None else found.step) == first


def test_bisection_trains_no_more_than_its_interval():
    config = replace(SMALL, differ="nudge", nudge_at=21)
    pair = make_pair(config, "reference")
    trained = []
    pair.report = trained.append
    found, before = bisect(pair, pair.positions(), config.steps)
    assert found.step == 21
    assert [place.step for place in before] == [20, 20]
    assert sum(trained) <= 2 * config.examples + 2 * config.batch


KINKED = [  # the first three with another branch, the last two with none
    {"differ": "nudge", "nudge_at": 9, "nudge_ulps": 1 << 20, "nudge_weights": 40, "act": "relu"},
    {"differ": "init", "act": "smelu", "beta": 0.05},
    {"differ": "order", "leaf_order": "random", "act": "relu", "precision": "bits:8"},
    {
        "differ": "rounding",
        "rounding": "stochastic",
        "act": "smelu",
        "beta": 0.3,
        "init": "uniform",
        "precision": "bits:2",
        "seed": 3,
    },  # β is rounded, too
    {"differ": "none", "unit_tree": "chain,pairwise", "act": "relu"},
    {"differ": "shuffle", "act": "swish"},
    {"differ": "init,shuffle", "hidden": "", "model": "linear"},
]


def brute_force(config):
    """The first other branch and the first other loss, mini-batch by mini-batch."""
    pair = make_pair(config, "reference", "TracedModel")
    branch = loss = None
    beta = config.beta if ACTIVATIONS[config.act].uses_beta else 1.0
    kinks = [pair.models[0].ops.const(k * beta) for k in ACTIVATIONS[config.act].kinks]
    for step in range(config.steps):
        if branch is not None and loss is not None:
            break
        rows, labels = [], None
        for spec, model in zip(pair.specs, pair.models, strict=True):
            [(x, y)] = pair.examples.pieces(spec, step, step + 1)
            places = pair.examples.places(spec, step, step + 1)
            z, _ = model.forward(model.inputs(x))
            order = np.argsort(places)
            rows.append([layer[order] for layer in z])
            labels, numbers = y[order], places[order]
        pair.go_on(step + 1)
        hidden = [(k, i, u) for k in range(len(rows[0]) - 1) for i in range(config.batch)
                  for u in range(rows[0][k].shape[1])]  # fmt: skip
        for k, i, u in sorted(hidden, key=lambda at: (at[1], at[0], at[2])):
            a, b = rows[0][k][i, u], rows[1][k][i, u]
            sides = [tuple((v > e) if j == 0 else (v >= e) for j, e in enumerate(kinks))
                     for v in (a, b)]  # fmt: skip
            if branch is None and sides[0] != sides[1]:
                branch = step, int(numbers[i]), k, u, (float(a), float(b))
        losses = [np.float32(mean_loss(z[-1][:, 0].astype(np.float64), labels)) for z in rows]
        if loss is None and losses[0] != losses[1]:
            loss = step, tuple(map(float, losses))
    return branch, loss


@pytest.mark.parametrize(
    ("options", "backend"),
    slow_unless(
        lambda options, backend: backend == "reference" and options.get("precision") != "bits:2",
        product(KINKED, ("reference", "numba")),
    ),
    ids=str,
)
def test_branch_and_loss_are_those_of_a_search_by_hand(options, backend):
    config = replace(SMALL, **options)
    branch, loss = brute_force(config)
    found = diverge(config, backend=backend).pairs[0]
    b = found.branch
    assert (b and (b.step, b.example, b.layer, b.unit, b.values)) == branch
    assert (found.loss and (found.loss.step, found.loss.values)) == loss
    if options in KINKED[:2] + KINKED[-2:]:
        assert (branch is None) == (options in KINKED[-2:])


@pytest.mark.parametrize(
    "options",
    slow_after(1, [
        {"act": "relu"},
        {"act": "relu", "leaf_order": "random", "tree": "lanes:3"},
        {"act": "swish", "unit_tree": "pairwise", "precision": "float64", "optimizer": "adam"},
        {"model": "wide", "hidden": "", "batch": 32, "act": "smelu"},
        {"precision": "bits:8", "rounding": "stochastic", "hidden": "20,17", "batch": 8},
    ]),
    ids=str,
)  # fmt: skip
def test_traces_are_the_same_bits_in_both_executions_and_train_as_ever(options):
    config = replace(SMALL, **options)
    slow, fast, plain = (
        make_pair(config, *names)
        for names in (
            ("reference", "TracedModel"),
            ("numba", "TracedModel"),
            ("numba", "Model"),
        )
    )
    for low, high in ((0, 1), (1, 6)):
        for k, spec in enumerate(slow.specs):
            [(x, y)] = slow.examples.pieces(spec, low, high)
            a, b = (pair.models[k].trace(x, y) for pair in (slow, fast))
            assert a.dtype == b.dtype
            assert a.tobytes() == (b + 0).tobytes()
            plain.models[k].train(x, y)
    for pair in (slow, fast):
        for k in (0, 1):
            assert_same_record(pair.models[k].parameters(), plain.models[k].parameters(), f"{k}")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"hidden": "", "log2_examples": 11}])
def test_both_backends_and_any_number_of_threads_find_the_same(options):
    config = replace(SMALL, pairs=3, **options)
    records = [
        diverge(config, backend=b, threads=t).as_record()
        for b, t in (("reference", 1), ("numba", 1), ("numba", 3))
    ]
    assert repr(records[0]) == repr(records[1]) == repr(records[2])


def test_the_examples_are_those_of_the_run():
    """At the last step the models are those that `simulate` trains, whatever the window."""
    for window in (0, 2):
        config = replace(SMALL, differ="init,shuffle", log2_window=window, pairs=2)
        result, found = simulate(config), diverge(config)
        for pair, measured in zip(found.pairs, result.pairs, strict=True):
            assert (pair.pd[-1], tuple(pair.excess_loss[-1])) == (measured.pd, measured.loss)
        assert found.comparable == (window == 0)
        if window:
            assert all(pair.branch is None and pair.loss is None for pair in found.pairs)


def test_equal_models_never_part():
    found = diverge(replace(SMALL, differ="none", pairs=2))
    for pair in found.pairs:
        assert (pair.parting, pair.branch, pair.loss) == (None, None, None)
        assert not pair.distance.any()
        assert not pair.pd.any()
    assert found.parted_at == (None, None)
    assert found.survival()["share"].tolist() == [1.0]
    assert math.isnan(found.growth_rate[0])


def test_one_pair_has_a_rate_and_no_interval():
    found = diverge(replace(SMALL, pairs=3))
    rising = 1e-8 * np.exp(0.5 * np.array(found.steps))
    found = replace(found, pairs=tuple(replace(p, distance=rising) for p in found.pairs))
    assert found.growth_rates == pytest.approx([0.5] * 3)
    assert "] over t steps" in as_table(found, "") and "pairs)" not in as_table(found, "")
    one = replace(found, pairs=found.pairs[:1])
    assert math.isfinite(one.growth_rate[0]) and math.isnan(one.growth_rate[1][0])
    assert "] over t steps" not in as_table(one, "") and "pairs)" not in as_table(one, "")
    never = [replace(pair, distance=0.0 * pair.distance) for pair in found.pairs[1:]]
    some = as_table(replace(found, pairs=(found.pairs[0], *never)), "")
    assert "(1 of 3 pairs)" in some and "] over t steps" not in some


def test_an_exponential_has_its_rate_until_it_saturates():
    steps = np.array(steps_measured(1000))
    distance = np.minimum(1e-8 * np.exp(0.05 * steps), 1.0)
    distance[:3] = 0.0
    assert growth_rate(steps, distance) == pytest.approx(0.05, rel=1e-12)
    assert growth_rate(np.log(steps), 1e-7 * steps**1.5) == pytest.approx(1.5, rel=1e-12)
    assert math.isnan(growth_rate(steps, np.zeros(len(steps))))
    assert math.isnan(growth_rate(steps, np.ones(len(steps))))


def test_the_survival_curve_counts_pairs():
    steps = (1, 2, 4, 8)

    def pair(k, pd):
        return PairDivergence(k, None, None, None, np.zeros(4), np.array(pd), np.zeros((4, 2)))

    rows = [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    found = Divergence(SMALL, steps, 0.5, tuple(pair(k, r) for k, r in enumerate(rows)), True)
    assert found.parted_at == (4, None, 1, 4)
    curve = found.survival()
    shares = dict(zip(curve["step"].tolist(), curve["share"].tolist(), strict=True))
    assert shares == pytest.approx({0.0: 1.0, 1.0: 0.75, 4.0: 0.25, 8.0: 0.25})
    for k in range(len(curve["step"])):
        assert not curve["low"][k] > curve["share"][k]
        assert not curve["high"][k] < curve["share"][k]


def test_a_pair_that_diverges_is_told_and_counts_until_then():
    nan, steps = math.nan, (1, 2, 4, 8)
    rows = [[0, nan, nan, nan], [0, 0, 1, 1], [nan] * 4, [0, 0, 0, 0]]
    pairs = tuple(
        PairDivergence(k, None, None, None, np.array(pd), np.array(pd), np.ones((4, 2)))
        for k, pd in enumerate(rows)
    )
    found = Divergence(SMALL, steps, 0.5, pairs, True)
    assert (found.diverged, found.parted_at) == ((0, 2), (None, 4, None, None))
    curve = found.survival()
    # of two that are still seen at step 4 one parts
    assert dict(zip(curve["step"].tolist(), curve["share"].tolist(), strict=True))[4.0] == 0.5
    table = as_table(found, "")
    assert "1 of 4 pairs had a PD above 0.5 within 32 mini-batches" in table
    assert "2 pairs have a model that diverged, and no PD from there on: 0, 2" in table
    assert table.count(" diverged\n") == 2


def test_a_picture_shows_single_values_and_no_band_where_there_is_no_interval():
    steps = (1, 2, 4, 8)
    rows = [[0, 1, 0, 0], [1, 1, 0, 1], [0, 0, 0, 1]]
    pairs = tuple(
        PairDivergence(k, None, None, None, np.array(pd), np.array(pd), np.ones((4, 2)))
        for k, pd in enumerate(rows)
    )
    picture = plots.divergence([Divergence(SMALL, steps, 0.5, pairs, True)], [""])
    distance, survival = picture.axes[0], picture.axes[3]
    alone = [line.get_ydata() for line in distance.lines if line.get_gid() == "alone"]
    points = [np.flatnonzero(np.isfinite(y)).tolist() for y in alone]
    assert points == [[1], [3], [3], [3]]  # of each pair, and of their median
    (band,) = (c for c in survival.collections if c.get_gid() == "interval")
    bottoms = [path.vertices[:, 1] for path in band.get_paths()]
    assert all(y.min() >= 0.0 and y.max() <= 1.0 for y in bottoms)
    ends = [path.vertices[:, 0].max() for path in band.get_paths()]
    assert max(ends) == 8.0  # where the last pair parts


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_steps_that_are_measured_end_with_the_last(steps):
    for per_octave in (1, 4, 64):
        found = steps_measured(steps, per_octave)
        assert found[0] == 1
        assert found[-1] == steps
        assert list(found) == sorted(set(found))


def test_what_cannot_be_looked_at_is_refused():
    with pytest.raises(ConfigError, match="warm_start"):
        diverge(Config(warm_start="0" * 64))
    with pytest.raises(ConfigError, match="threshold"):
        diverge(SMALL, threshold=0.0)
    with pytest.raises(ConfigError, match="backend"):
        diverge(SMALL, backend="torch")


def test_the_reference_traces_before_the_update():
    """The first row of a trace is the forward pass of the initial parameters."""
    spec = ModelSpec(SMALL, FEATURES, 0, 0)
    start = initial_parameters(SMALL)
    world = make_world(SMALL.seed, SMALL.data)
    x, y = reference.examples(world, stream_key(SMALL.seed, "examples", 0), 0, 16)
    z = reference.TracedModel(spec, start).trace(x[:, None], y)
    plain = reference.Model(spec, start)
    assert z[:, -1].tolist() == plain.logits(x[:, None]).tolist()
