"""Two executions, one contract: reference and numba give the same bits, in any way they are run."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from functools import cache
from itertools import product

import golden
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import arrays_of, assert_same_bits, assert_same_record, random_parameters
from support.runs import BASE, assert_same_run, small
from support.slow import slow_after, slow_unless

from nanorepro import Config, fit, initial_parameters, predict, simulate
from nanorepro import config as names
from nanorepro.data.sampling import FEATURES, examples
from nanorepro.data.worlds import make_world
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.architectures import ARCHITECTURES
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.model.optimizers.adagrad import EPSILON_PLACES
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.formats import ROUNDINGS
from nanorepro.numerics.single_sums import sites, text_of
from nanorepro.numerics.streams import permutation, stream_key
from nanorepro.numerics.trees import LEAF_ORDERS
from nanorepro.results.result import fingerprint
from nanorepro.settings import setting_of

EVERY = int(os.environ.get("NANOREPRO_EXAMPLES", "5"))  # random configurations; each is compiled


TABLE = [
    small(model="linear"),
    small(model="linear", optimizer="sgd", data="quadratic", fma="off", precision="float64"),
    small(model="single", act="relu", epsilon_place="inside", epsilon=1e-3),
    small(model="double", act="smelu", beta=0.5, epsilon_place="none", log2_window=2),
    small(model="tower", act="relu", pairs=2, log2_examples=9, log2_window=1),
    # above what the default run takes: the large models are there by their golden rows
    small(hidden="5,3", act="identity", tree="pairwise", unit_tree="pairwise", fma="off"),
    small(model="tower", act="swish", beta=2.0, optimizer="sgd", precision="float64"),
    small(model="wide", act="smelu", precision="float64", log2_examples=6),
    small(model="wide", act="relu", unit_tree="pairwise", tree="blocks:5", log2_examples=6),
    small(model="deep", act="relu", data="quadratic", log2_examples=6),
    small(hidden="4", tree="lanes:3", unit_tree="lanes:3", accumulator="kahan", init="uniform"),
    small(hidden="9", tree="blocks:5", unit_tree="blocks:5", unit_accumulator="kahan"),
    small(
        hidden="7",
        tree="random",
        unit_tree="random",
        leaf_order="random",
        unit_order="random",
        accumulator="wide",
        unit_accumulator="wide",
    ),
    small(
        hidden="7",
        tree="random",
        unit_tree="random",
        accumulator="kahan",
        unit_accumulator="kahan",
        precision="float64",
        fma="off",
    ),
    small(hidden="6", leaf_order="reversed", unit_order="reversed", unit_accumulator="wide"),
    small(
        hidden="3", leaf_order="random", tree="lanes:3", accumulator="wide", unit_tree="blocks:5"
    ),
    small(hidden="3", act="swish", precision="bits:8", unit_tree="lanes:3", fma="off"),
    small(hidden="3", act="smelu", precision="bits:11", tree="pairwise", unit_accumulator="kahan"),
    small(hidden="3", act="swish", precision="bits:8", rounding="toward-zero", accumulator="wide"),
    small(hidden="3", rounding="toward-zero", optimizer="sgd", accumulator="kahan"),
    small(hidden="3", tree="chain,pairwise", precision="float32,bits:11", fma="on,off"),
    small(hidden="3", accumulator="exact", unit_accumulator="exact", leaf_order="random"),
    small(
        hidden="5,3",
        tree="lanes:3",
        accumulator_at="0:batch=kahan+1:forward=exact,1:backward=wide+2:batch=exact",
    ),
    small(hidden="3", precision="bits:8", rounding="stochastic", differ="rounding"),
    small(hidden="5,3", act="swish", optimizer="adam", lr=0.01, epsilon=1e-3, tree="lanes:3"),
    small(hidden="3", init="zero", optimizer="sgd", differ="nudge", momentum=0.0, decay=0.0),
]


def label(config):
    """The options that are not `small`'s, as a test's name."""
    return names.command(config).partition("--")[2].replace(" ", "=").replace("--", " ")


# models, activations and optimizers by default; the rows of the dials take longer
@pytest.mark.parametrize("config", slow_after(5, TABLE), ids=label)
def test_numba_equals_the_reference(config):
    result = assert_same_run(config)
    start = [[initial_parameters(config, p, m) for m in (0, 1)] for p in range(config.pairs)]
    assert result.fingerprint != fingerprint(start), "nothing was trained"
    assert not result.diverged


def test_the_table_covers_every_choice():
    """The table above; what only the caller's examples have is in the golden rows."""
    seen = {field: set() for field in TABLE[0].__dataclass_fields__}
    for config in TABLE:
        for field, values in seen.items():
            values.update(str(getattr(config, field)).split(","))
    rows = [golden.run_of(options)[0] for options in golden.cases().values()]
    seen["pair_examples"] |= {row.pair_examples for row in rows if row.content}
    choices = {f.name: setting_of(f).choices for f in fields(Config)} | {
        "leaf_order": LEAF_ORDERS,
        "unit_order": LEAF_ORDERS,
        "tree": ("chain", "pairwise", "lanes:3", "blocks:5", "random"),
        "unit_tree": ("chain", "pairwise", "lanes:3", "blocks:5", "random"),
        "accumulator": ACCUMULATORS,
        "unit_accumulator": ACCUMULATORS,
        "precision": ("float32", "float64", "bits:8", "bits:11"),
        "rounding": ROUNDINGS,
        "fma": ("on", "off"),
    }
    for field, values in choices.items():
        assert not set(values) - seen[field], field


# Random configurations, through `fit` on random arrays: any batch, any number of features.

TREES = st.sampled_from(["chain", "pairwise", "lanes:2", "lanes:7", "blocks:3", "random"])
ORDERS = st.sampled_from(sorted(LEAF_ORDERS))
SUMS = st.sampled_from(["plain", "kahan", "wide"])


@st.composite
def single_sums(draw, layers, accumulators):
    """Accumulators of some single sums, or of none."""
    named = st.lists(st.sampled_from(sites(layers)), max_size=4, unique=True)
    return text_of({site: draw(accumulators) for site in draw(named)})


@st.composite
def configurations(draw):
    precision = draw(st.sampled_from(["float32", "float64", "bits:5", "bits:8", "bits:24"]))
    sums = st.sampled_from(["plain", "kahan"]) if precision == "float64" else SUMS
    nearest = precision == "float64" or draw(st.booleans())
    hidden = draw(st.sampled_from(["1", "2", "3,2", "9", "17", "3,64", "16,12,4", "40,16,33"]))
    return Config(
        hidden=hidden,
        act=draw(st.sampled_from(sorted(ACTIVATIONS))),
        beta=draw(st.sampled_from([0.25, 1.0, 3.0])),
        batch=draw(st.sampled_from([1, 3, 8, 13, 33])),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        epsilon_place=draw(st.sampled_from(EPSILON_PLACES)),
        lr=draw(st.sampled_from([0.01, 0.3, 10.0])),
        leaf_order=draw(ORDERS),
        tree=draw(TREES),
        accumulator=draw(sums),
        unit_order=draw(ORDERS),
        unit_tree=draw(TREES),
        unit_accumulator=draw(sums),
        accumulator_at=draw(single_sums(hidden.count(",") + 2, sums)),
        precision=precision,
        rounding="nearest" if nearest else "toward-zero",
        fma=draw(st.sampled_from(["on", "off"])),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


def assert_same_fit(config, d, steps=5):
    rng = np.random.default_rng(config.seed)
    x, y = arrays_of(rng, steps * config.batch, d)
    start = random_parameters(rng, config, d)
    slow = fit(config, x, y, start, backend="reference")
    fast = fit(config, x, y, start)
    assert_same_record(slow, fast, names.command(config))
    if all(np.isfinite(value).all() for value in slow.values()):  # no others are accepted
        z = [predict(config, x, slow, backend=b) for b in ("reference", "numba")]
        assert_same_bits(*z, "logits")
    return slow, fast


@pytest.mark.slow  # each random configuration is compiled
@settings(
    max_examples=EVERY,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(config=configurations(), d=st.sampled_from([1, 2, 16, 31, 33, 50]))
def test_any_configuration(config, d):
    assert_same_fit(config, d)


@pytest.mark.parametrize(
    ("options", "batch", "d"),
    slow_after(
        2,
        [
            ({"model": "linear"}, 7, 70),
            ({"hidden": "3", "tree": "blocks:5"}, 3, 64),  # more blocks than terms
            ({"hidden": "3", "tree": "pairwise", "unit_tree": "lanes:3"}, 1, 1),
            ({"model": "wide"}, 40, 50),  # two sets of 25, the second over two words
            ({"hidden": "20,5", "optimizer": "sgd"}, 100, 33),
            # few, many, few units: by blocks that do and do not fill whole vectors
            ({"hidden": "4,3,33", "optimizer": "sgd", "act": "relu"}, 64, 32),
            ({"hidden": "3,100", "act": "smelu"}, 33, 40),
            # many units below few, and few below many
            ({"hidden": "33,70,2", "act": "relu"}, 5, 32),
            ({"hidden": "12,400", "act": "swish"}, 20, 32),
            # the same, of an odd number of vectors of examples
            ({"hidden": "24,4,100", "act": "relu"}, 16, 32),
            ({"hidden": "17,2,64,2", "act": "relu", "optimizer": "sgd"}, 48, 20),
            # first layers taken example by example, with fewer examples, features or units than fit
            ({"hidden": "16,8,4,2", "act": "relu"}, 20, 24),
            ({"hidden": "9,12,3", "act": "relu", "optimizer": "sgd"}, 32, 5),
            ({"hidden": "24,13,7", "act": "smelu", "tree": "lanes:3"}, 31, 28),
            ({"hidden": "16,15,15,15", "tree": "pairwise"}, 7, 30),
            # layers of one unit or two, over one and over two words of features
            ({"hidden": "1", "optimizer": "sgd"}, 40, 24),
            ({"hidden": "2,2,1", "act": "relu", "tree": "blocks:4"}, 3, 33),
        ],
    ),
)
def test_batches_and_features_of_any_number(options, batch, d):
    assert_same_fit(Config(batch=batch, seed=batch, **options), d)


# The dials do something: else two backends that both ignore one would agree.


@cache
def print_of(config):
    return simulate(config, backend="reference").fingerprint


@pytest.mark.parametrize(
    "options",
    slow_unless(lambda options: "exact" not in str(options), [
        {"act": "identity"},
        {"act": "smelu"},
        {"act": "swish"},
        {"act": "swish", "beta": 2.0},
        {"data": "quadratic"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.5},
        {"optimizer": "sgd", "decay": 0.5},
        {"lr": 0.2},
        {"initial_accumulator": 0.2},
        {"epsilon": 1e-3},
        {"epsilon": 1e-3, "epsilon_place": "inside"},
        {"epsilon_place": "none"},
        {"init": "uniform"},
        {"init": "zero"},
        {"leaf_order": "reversed"},
        {"leaf_order": "random"},
        {"tree": "pairwise"},
        {"tree": "lanes:3"},
        {"tree": "blocks:5"},
        {"tree": "random"},
        {"accumulator": "kahan"},
        {"accumulator": "wide"},
        {"unit_order": "reversed"},
        {"unit_order": "random"},
        {"unit_tree": "pairwise"},
        {"unit_tree": "lanes:3"},
        {"unit_tree": "blocks:5"},
        {"unit_tree": "random"},
        {"unit_accumulator": "kahan"},
        {"unit_accumulator": "wide"},
        {"precision": "float64"},
        {"precision": "bits:8"},
        {"precision": "bits:23"},
        {"rounding": "toward-zero"},
        {"rounding": "stochastic"},
        {"accumulator": "exact"},
        {"unit_accumulator": "exact"},
        {"accumulator_at": "0:forward=exact"},
        {"accumulator_at": "0:batch=exact"},
        {"accumulator_at": "1:forward=exact"},
        {"accumulator_at": "1:batch=kahan,"},
        {"accumulator_at": "1:batch=exact"},
        {"fma": "off"},
        {"seed": 1},
        {"first_example": 1},
        {"log2_window": 2},
        {"hidden": "6"},
        {"batch": 32},
    ]),
    ids=str,
)  # fmt: skip
def test_every_option_moves_the_bits(options):
    """In few steps or, where only some sums are rounded otherwise, in more."""
    runs = [replace(BASE, log2_examples=log2) for log2 in (8, 10)]
    assert any(print_of(replace(run, **options)) != print_of(run) for run in runs)


def test_what_has_no_effect_moves_no_bit():
    for options in ({"momentum": 0.5, "decay": 1.0}, {"precision": "bits:24"}, {"log2_eval": 4}):
        assert print_of(replace(BASE, **options)) == print_of(BASE)


# However it is run.

RUN = Config(log2_examples=9, log2_eval=5, log2_window=1, pairs=3, differ="init,shuffle")


def test_any_number_of_threads_gives_the_same_bits():
    results = [simulate(RUN, threads=n) for n in (1, 2, 3, 5)]
    assert len({r.fingerprint for r in results}) == 1
    for other in results[1:]:
        assert_same_bits(results[0].logits, other.logits, "logits")
        assert results[0].pairs == other.pairs


CALL = """
from nanorepro import Config, simulate
print(simulate({!r}, threads=2).fingerprint)
"""


def test_a_fresh_process_gives_the_same_bits():
    """Other processors have their turn in test_golden.py."""
    done = subprocess.run(
        [sys.executable, "-c", CALL.format(RUN)],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [simulate(RUN, threads=1).fingerprint]


def test_more_pairs_and_more_checkpoints_leave_the_first_as_they_were():
    short = simulate(RUN, backend="reference")
    longer = simulate(replace(RUN, pairs=4, eval_every="log"), backend="reference")
    assert fingerprint(longer.parameters[:3]) == short.fingerprint
    assert longer.checkpoints == (1, 2, 4, 8, 16)
    assert_same_bits(longer.logits[:3, :, -1], short.logits[:, :, -1], "logits")
    assert longer.pairs[:3] == short.pairs


def test_many_segments_leave_the_bits_as_they_were(monkeypatch):
    """Drawing and training chunk by chunk is a matter of memory, not of bits."""
    config = small(model="linear", log2_examples=9, log2_window=1, eval_every="3")
    whole = simulate(config, backend="reference")
    for chunk, piece in ((64, 64), (128, 32), (64, 256)):
        monkeypatch.setattr("nanorepro.training.example_stream.CHUNK", chunk)
        monkeypatch.setattr("nanorepro.training.group.PIECE", piece)
        parts = simulate(config, backend="reference")
        assert parts.fingerprint == whole.fingerprint
        assert_same_bits(parts.logits, whole.logits, "logits")


def test_a_batch_longer_than_a_chunk(monkeypatch):
    monkeypatch.setattr("nanorepro.training.example_stream.CHUNK", 64)
    monkeypatch.setattr("nanorepro.training.group.PIECE", 64)
    config = Config(model="linear", batch=256, log2_examples=9, log2_eval=4, pairs=1)
    result = assert_same_run(config)
    key, world = stream_key(0, "examples", 0), make_world(0, "linear")
    x, y = examples(world, key, 0, 1 << 9)
    order = [k * 256 + permutation(stream_key(0, "shuffle"), k, 256) for k in (0, 1)]
    order = np.concatenate(order)
    bits = x[order, None] >> np.arange(32, dtype=np.uint32) & 1
    once = fit(config, bits, y[order], initial_parameters(config))
    assert_same_record(once, result.parameters[0][0], "one fit")


# Pairs.


@pytest.mark.parametrize(
    "model", slow_unless(lambda model: model not in ("wide", "deep"), ARCHITECTURES)
)
def test_without_a_difference_the_pd_is_zero(model):
    configs = {c.model: c for c in reversed(TABLE)}
    configs["wide"] = Config(**golden.cases()["wide-sgd"])  # its kernel is compiled for that, too
    config = replace(configs[model], differ="none")
    result = simulate(config, threads=2)
    assert result.relative_pd == 0.0 and not any(result.weight_distance)
    assert fingerprint([[result.parameters[0][0]]]) == fingerprint([[result.parameters[0][1]]])
    different = simulate(replace(config, differ="init,shuffle"), threads=2)
    assert different.relative_pd > 0.0


@pytest.mark.parametrize("act", ["identity", "relu"])
def test_with_exact_sums_the_order_inside_a_mini_batch_is_nothing(act):
    config = small(hidden="4,3", act=act, differ="shuffle,order")
    config = replace(config, leaf_order="random", accumulator="exact")
    assert simulate(config, backend="reference").relative_pd == 0.0
    assert simulate(replace(config, accumulator="plain"), backend="reference").relative_pd > 0.0
    assert simulate(replace(config, log2_window=1), backend="reference").relative_pd > 0.0


def test_a_run_is_a_fit_on_the_pairs_examples_in_their_shuffled_order():
    """The loop of windows, rebuilt: window k takes permutation k of the shuffle stream."""
    config = small(hidden="4", log2_examples=9, log2_window=2, first_example=77, pairs=2)
    config = replace(config, differ="shuffle", seed=3)
    result = simulate(config, backend="reference")
    world = make_world(3, "linear")
    for pair, model in product((0, 1), (0, 1)):
        x, y = examples(world, stream_key(3, "examples", pair), 77, 512)
        shuffle = stream_key(3, "shuffle", pair, model)
        order = np.concatenate([128 * k + permutation(shuffle, k, 128) for k in range(4)])
        assert sorted(order) == list(range(512))
        bits = x[order, None] >> np.arange(32, dtype=np.uint32) & 1
        start = initial_parameters(config, pair, model)
        trained = fit(config, bits, y[order], start, backend="reference")
        assert_same_record(trained, result.parameters[pair][model], f"{pair}, {model}")


# Where numbers end.


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adagrad"])
def test_divergence_gives_the_same_bits_and_is_named(optimizer):
    config = small(hidden="5,3,4,3", optimizer=optimizer, lr=1e12, act="relu", log2_examples=9)
    if optimizer == "adagrad":
        config = replace(config, act="identity", initial_accumulator=1e-12)
    result = assert_same_run(config)
    assert (0, 0) in result.diverged
    assert any(np.isnan(v).any() for v in result.parameters[0][0].values())
    assert np.isnan(result.relative_pd) and result.finite() == []


def test_subnormal_numbers_are_kept():
    """Updates of 2^-149, the least float32, and weights of that size."""
    config = Config(model="linear", optimizer="sgd", batch=1, lr=1e-12)
    x, y = np.zeros((20, FEATURES), np.uint8), np.zeros(20, np.uint8)
    x[:, 0] = 1
    start = {"w0": np.zeros((FEATURES, 1)), "b0": np.full(1, -75.0)}  # σ(-75) is 2.7e-33
    slow, fast = (fit(config, x, y, start, backend) for backend in ("reference", "numba"))
    assert_same_record(slow, fast, "trained")
    assert -1e-40 < fast["w0"][0, 0] < -(2.0**-146)
    tiny = {"w0": np.full((FEATURES, 1), 2.0**-140), "b0": np.full(1, -3 * 2.0**-149)}
    z = [predict(config, x[:1], tiny, backend) for backend in ("reference", "numba")]
    assert_same_bits(*z, "logits")
    assert z[0][0] == np.float32(2.0**-140 - 3 * 2.0**-149) != 0
