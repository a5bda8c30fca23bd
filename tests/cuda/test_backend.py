"""The GPU's backend gives the CPU's bits: the caller's arrays, any shape, whole runs, few bytes."""

import numpy as np
import pytest
from support.ptx.device import Loaded
from support.records import arrays_of, assert_same_bits, assert_same_record, random_parameters
from support.slow import slow_after, slow_unless
from support.stopping import Stopped, after

from nanorepro import Config, fit, predict, simulate
from nanorepro.backends.cuda import backend, examples
from nanorepro.backends.cuda import device as seam
from nanorepro.backends.cuda import ensemble as ensembles
from nanorepro.backends.cuda import group as groups
from nanorepro.backends.cuda.program import program_of
from nanorepro.dials import dials
from nanorepro.numerics.single_sums import KINDS
from nanorepro.numerics.streams import permutation, stream_key

SMALL = {"log2_examples": 8, "log2_eval": 5, "pairs": 2, "hidden": "4", "batch": 8}


def assert_same_fit(config, d, steps=4):
    rng = np.random.default_rng(d)
    x, y = arrays_of(rng, steps * config.batch, d)
    starts = [random_parameters(rng, config, d) for _ in range(2)]
    ours = fit(config, x, y, starts, backend="cupy")
    theirs = fit(config, x, y, starts, backend="reference")
    for a, b in zip(ours, theirs, strict=True):
        assert_same_record(a, b, str(config))
    z = [predict(config, x, theirs, backend=b) for b in ("cupy", "reference")]
    assert_same_bits(*z, "logits")


@pytest.mark.parametrize(
    ("options", "d"),
    slow_after(4, [
        ({"hidden": "5", "batch": 3}, 1),
        ({"hidden": "16,8,4,2", "batch": 20, "act": "swish"}, 24),
        ({"hidden": "3,31", "batch": 31, "optimizer": "sgd", "lr": 0.05}, 31),
        # more features than a word has, more examples and more units than a warp
        ({"hidden": "5", "batch": 4}, 50),
        ({"model": "linear", "batch": 7}, 70),
        ({"hidden": "3", "batch": 40, "tree": "blocks:7", "unit_tree": "pairwise"}, 32),
        ({"hidden": "40,3", "batch": 5, "act": "smelu"}, 9),
        ({"model": "wide", "batch": 4}, 50),
        ({"hidden": "7", "batch": 9, "tree": "random", "unit_tree": "random",
          "leaf_order": "random", "unit_order": "random", "accumulator": "kahan"}, 5),
        ({"hidden": "3", "batch": 6, "accumulator": "exact", "precision": "float64",
          "unit_accumulator": "exact", "fma": "off"}, 40),
    ]),
)  # fmt: skip
def test_fit_and_predict(interpreter, options, d):
    assert_same_fit(Config(**{"lr": 0.3, "seed": 5, **options}), d)


@pytest.mark.parametrize(
    "options",
    [
        # two layers whose sums backward have plans of their own, with an activation that is not 0
        {"unit_tree": "random"},
        {"unit_order": "random"},
        # as the sums over the mini-batch are, but not the others over units
        {"accumulator": "kahan", "accumulator_at": "1:forward=kahan"},
    ],
)
def test_sums_of_two_layers(interpreter, options):
    assert_same_fit(Config(hidden="5,9", batch=4, act="swish", lr=0.3, seed=5, **options), 5)


@pytest.mark.parametrize(
    ("options", "kernel"),
    [
        ({"hidden": "5", "batch": 3, "optimizer": "adam"}, "train_small"),
        ({"hidden": "40", "batch": 4, "leaf_order": "random"}, "train_block"),
        ({"hidden": "3", "batch": 4, "tree": "random", "unit_tree": "random",
          "unit_order": "random"}, "descend"),
    ],
)  # fmt: skip
def test_a_long_fit_is_of_many_launches(interpreter, monkeypatch, options, kernel):
    """In parts of the steps, of the examples and of the models, to the same bits."""
    steps, waits, launched = 7, [], []
    launch, wait = Loaded.launch, interpreter.synchronize
    monkeypatch.setattr(Loaded, "launch", lambda *a: launched.append(a[1]) or launch(*a))
    monkeypatch.setattr(seam.current(), "synchronize", lambda: waits.append(0) or wait())
    config = Config(**{"lr": 0.3, "seed": 5, **options})
    assert_same_fit(config, 9, steps)
    whole = launched.count(kernel)
    assert whole == (steps if kernel == "descend" else 1) and len(waits) == 1
    monkeypatch.setattr(ensembles, "CHUNK", 2 * config.batch)
    monkeypatch.setattr(ensembles, "PIECE", 2 * config.batch + 1)
    assert_same_fit(config, 9, steps)
    assert launched.count(kernel) - whole == (steps if kernel == "descend" else 4)
    assert len(waits) == 1 + 4
    del launched[:], waits[:]
    monkeypatch.setattr(backend, "ROWS", 3 * 2 * config.batch)
    monkeypatch.setattr(groups, "MOST_MODELS", 1)
    assert_same_fit(config, 9, steps)
    assert launched.count(kernel) == 2 * (steps if kernel == "descend" else 2 + 2 + 1)
    assert len(waits) == 2 * (2 + 2 + 1)


def test_a_fit_that_is_interrupted_ends_before_the_next_launch(interpreter, monkeypatch):
    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(ensembles, "CHUNK", 8)
    monkeypatch.setattr(seam.current(), "synchronize", stop)
    before = interpreter.launches
    with pytest.raises(KeyboardInterrupt):
        assert_same_fit(Config(hidden="3", batch=4), 9, steps=8)
    assert interpreter.launches == before + 1


def test_fit_and_predict_with_real_features(interpreter):
    rng, config = np.random.default_rng(3), Config(hidden="4", batch=4, precision="bits:11")
    x, y = rng.normal(0.0, 3.0, (12, 3)), rng.integers(0, 2, 12)
    starts = [random_parameters(rng, config, 3) for _ in range(2)]
    ours, theirs = (fit(config, x, y, starts, backend=b) for b in ("cupy", "reference"))
    for a, b in zip(ours, theirs, strict=True):
        assert_same_record(a, b, str(config))
    z = [predict(config, x, theirs, backend=b) for b in ("cupy", "reference")]
    assert_same_bits(*z, "logits")


def assert_same_run(config, **more):
    ours = simulate(config, backend="cupy", **more)
    given = {k: more[k] for k in more if k in ("start", "data")}
    theirs = simulate(config, backend="reference", threads=1, **given)
    assert ours.fingerprint == theirs.fingerprint
    assert_same_bits(ours.logits, theirs.logits, "logits")
    assert [p.pd for p in ours.pairs] == [p.pd for p in theirs.pairs]
    return ours


def test_the_series_and_the_progress(interpreter):
    seen = []
    config = Config(**SMALL, eval_every="log", log2_window=2)
    result = assert_same_run(config, progress=lambda done, total: seen.append((done, total)))
    assert result.logits.shape[2] == len(config.checkpoints) == 6
    assert seen[-1] == (4 * config.examples, 4 * config.examples)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_warm_start_and_examples_of_any_index(interpreter):
    first = simulate(Config(**SMALL), backend="reference", threads=1)
    config = Config(**SMALL, warm_start=first.fingerprint, first_example=2**40 + 256)
    assert_same_run(config, start=first.parameters)


@pytest.mark.parametrize(
    "options",
    slow_after(
        1,
        [
            {"log2_window": 4, "differ": "init,shuffle"},
            {"hidden": "33", "data": "quadratic"},
        ],
    ),
)
def test_windows_longer_than_a_warp_and_several_chunks(options, interpreter, monkeypatch):
    monkeypatch.setattr(examples, "CHUNK", 64)
    monkeypatch.setattr(groups, "PIECE", 16)
    assert_same_run(Config(**{**SMALL, **options}))


def test_models_train_in_parts_where_memory_is_short(interpreter, monkeypatch):
    one = assert_same_run(Config(**SMALL, optimizer="sgd"))
    launches = interpreter.launches
    monkeypatch.setattr(seam.current(), "free", lambda: 1)
    again = simulate(one.config, backend="cupy")
    assert again.fingerprint == one.fingerprint
    assert interpreter.launches - launches > launches


def test_an_interrupted_run_ends_at_the_next_report(interpreter):
    class Enough(Exception):
        pass

    def stop(done, total):
        raise Enough

    with pytest.raises(Enough):
        simulate(Config(**SMALL), backend="cupy", progress=stop)


def callers(kind, d, n=52):
    """Some examples for training and some for evaluation; of real features many are 0."""
    rng = np.random.default_rng(d)
    x, y = rng.integers(0, 2, (n, d)), rng.integers(0, 2, n)
    if kind == "real":
        x = x * rng.normal(0.0, 3.0, (n, d)).astype(np.float32)
    return x[:-9], y[:-9], x[-9:], np.resize([0, 1], 9)


@pytest.mark.parametrize(
    ("kind", "d", "options", "kernel"),
    slow_unless(lambda kind, d, options, kernel: kernel, [
        # windows longer than a warp, so is the last one, which is shorter
        ("binary", 5, {"log2_window": 4, "eval_every": "log", "pairs": 2, "batch": 5, "epochs": 3},
         "train_small"),
        # many epochs, and a pair with a part of the examples each
        ("binary", 40, {"pairs": 3, "pair_examples": "split", "epochs": 9, "batch": 2}, ""),
        # the last window is not longer than a warp
        ("real", 7, {"hidden": "6,3", "first_example": 31, "leaf_order": "random",
                     "unit_tree": "lanes:3", "unit_order": "reversed", "batch": 7, "log2_window": 3,
                     "accumulator_at": "0:forward=wide+0:batch=kahan"}, "train_small"),
        ("real", 6, {"model": "wide", "hidden": "", "differ": "init", "tree": "pairwise",
                     "batch": 16, "epochs": 1}, ""),
        # an epoch longer than a chunk
        ("real", 34, {"batch": 5, "precision": "bits:8", "epochs": 1,
                      "rounding": "stochastic", "accumulator_at": "0:batch=exact"}, ""),
    ]),
)  # fmt: skip
def test_the_callers_examples(kind, d, options, kernel, interpreter, monkeypatch):
    monkeypatch.setattr(examples, "CHUNK", 256 if "log2_window" in options else 32)
    monkeypatch.setattr(examples, "NUMBERS", 64)
    config = Config(**{"hidden": "3", "batch": 4, "epochs": 2, "pairs": 1, **options})
    result = assert_same_run(config, data=callers(kind, d))
    found = result.config
    assert found.steps >= 2
    assert program_of(found, dials(found, 0), d, kind == "real").kernel == kernel


def test_a_run_on_the_callers_examples_goes_on_where_it_stopped(interpreter, monkeypatch, tmp_path):
    monkeypatch.setattr(examples, "CHUNK", 16)
    config, data = Config(hidden="3", batch=4, epochs=3, pairs=1), callers("real", 3)

    kept = {"checkpoint_folder": tmp_path, "say": lambda text: None, "data": data}
    with pytest.raises(Stopped):
        simulate(config, "cupy", 1, after(1 / 2), **kept)
    result = simulate(config, "cupy", 1, **kept)
    assert "resumed" in result.provenance
    assert result.fingerprint == simulate(config, "reference", 1, data=data).fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [("numba", "cupy"), ("cupy", "cupy"), ("cupy", "numba")],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    first, second, interpreter, monkeypatch, tmp_path
):
    """Also where the models are at different steps, which then train in parts."""
    monkeypatch.setattr(examples, "CHUNK", 64)
    monkeypatch.setattr("nanorepro.training.group.PIECE", 64)
    config = Config(**SMALL, eval_every="log", optimizer="adam")

    kept = {"checkpoint_folder": tmp_path, "say": lambda text: None}
    with pytest.raises(Stopped):
        simulate(config, first, 1, after(1 / 3), **kept)
    result = simulate(config, second, 1, **kept)
    whole = simulate(config, backend="numba", threads=1)
    assert result == whole and np.array_equal(result.logits, whole.logits)
    assert f"by {second}" in result.provenance["resumed"]


@pytest.mark.parametrize(("n", "windows"), [(1, 3), (2, 3), (31, 2), (32, 2), (33, 2), (100, 2)])
def test_permutations(interpreter, n, windows):
    """Windows of any length come in the order of the contract's permutations, from any block on."""
    from nanorepro.backends.cuda.program import streams

    device, first = seam.current(), 2**33 + 5
    program = device.compile(streams())
    keys = [stream_key(3, "shuffle", pair) for pair in (0, 1)]
    rows = np.arange(2 * windows * n, dtype=np.uint64).reshape(2, windows, n)
    there = device.array(rows)
    name, grid, block = (
        ("shuffle_short", (1, 2), 128) if n <= 32 else ("shuffle_long", (windows, 2), 32)
    )
    program.launch(name, grid, block, [
        device.array(np.array(keys, np.uint32)), np.uint64(first), there, np.uint64(windows * n),
        np.uint64(0), np.uint32(n), np.uint32(windows),
    ])  # fmt: skip
    got = device.get(there)
    for model, key in enumerate(keys):
        for k in range(windows):
            order = permutation(key, first + k, n)
            np.testing.assert_array_equal(got[model, k], rows[model, k][order])


@pytest.mark.slow
def test_a_long_permutation(interpreter):
    test_permutations(interpreter, 5000, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "kernels"),
    [
        ({"hidden": "3,200,2", "batch": 5, "accumulator": "kahan", "unit_accumulator": "wide"},
         {"forward_narrow", "backward_narrow"}),
        # weights that are read once: two blocks and few outputs; three parts, from the last on
        ({"hidden": "128,48", "batch": 32, "unit_order": "reversed", "leaf_order": "reversed",
          "act": "swish", "optimizer": "sgd", "lr": 0.05, "fma": "off"}, {"backward_descend"}),
        ({"hidden": "256,16", "batch": 32, "accumulator": "kahan", "optimizer": "adam",
          "accumulator_at": "1:backward=wide"}, {"backward_descend"}),
        ({"hidden": "140,36", "batch": 32, "unit_order": "reversed", "leaf_order": "reversed",
          "act": "swish", "optimizer": "sgd", "lr": 0.05, "fma": "off"},
         {"forward_large", "backward_large", "descend_large"}),
        ({"hidden": "140,70,1", "batch": 33}, {"forward_large", "backward_large", "descend_large"}),
        ({"model": "wide", "batch": 30, "act": "smelu"}, {"forward_narrow", "backward_narrow"}),
        ({"hidden": "32,32", "batch": 32, "accumulator_at": "1:forward=exact+1:batch=wide"},
         {"backward_large", "descend_large"}),
        ({"hidden": "40,130", "batch": 17, "precision": "bits:8", "tree": "pairwise"},
         {"forward_large"}),
    ],
)  # fmt: skip
def test_large_layers_by_tiles(either, launched, monkeypatch, options, kernels):
    monkeypatch.setattr(ensembles, "BLOCK_WORK", 0)
    monkeypatch.setattr(seam.current(), "shared", 0)
    assert_same_fit(Config(**{"lr": 0.3, "seed": 5, **options}), 12, steps=2)
    assert kernels <= {name for name, _ in launched}


@pytest.mark.parametrize(
    ("options", "tiled"),
    slow_after(1, [
        # three layers of which one has all its sums by tiles; tiles that are not full, of 2 x 2
        ({"hidden": "40,36", "batch": 20, "unit_order": "reversed", "leaf_order": "reversed",
          "act": "swish", "optimizer": "sgd", "fma": "off"}, KINDS),
        ({"hidden": "64,32", "optimizer": "adam"}, KINDS),
        ({"hidden": "33,45", "batch": 13, "accumulator": "kahan", "unit_accumulator": "wide"},
         {"forward", "batch"}),
        ({"hidden": "36,34,33", "batch": 40, "tree": "pairwise", "precision": "bits:8",
          "rounding": "stochastic"}, {"forward", "backward"}),
        ({"hidden": "36,34", "batch": 32, "unit_tree": "lanes:3", "precision": "float64"},
         {"batch"}),
        ({"hidden": "40,36", "batch": 32,
          "accumulator_at": "1:forward=exact+1:batch=wide+2:backward=kahan"},
         {"backward", "batch"}),
    ]),
)  # fmt: skip
def test_large_sums_of_a_block_go_by_tiles(either, launched, options, tiled):
    config = Config(**{"lr": 0.1, "seed": 5, **options})
    found = program_of(config, dials(config, 0), 12).tiled
    assert {kind for _, kind in found} == set(tiled)
    assert_same_fit(config, 12, steps=3)
    assert ("train_block", ensembles.THREADS) in launched


@pytest.mark.parametrize(
    ("options", "d"),
    slow_after(1, [
        ({"hidden": "3,136", "batch": 32, "unit_order": "reversed", "leaf_order": "random",
          "tree": "lanes:3", "accumulator": "kahan", "optimizer": "adam", "act": "swish"}, 7),
        ({"model": "wide", "batch": 5, "act": "smelu"}, 32),
        ({"hidden": "5,40", "batch": 6, "tree": "pairwise", "unit_accumulator": "wide",
          "optimizer": "sgd", "precision": "bits:8", "rounding": "stochastic"}, 32),
    ]),
)  # fmt: skip
def test_a_layer_of_many_units(either, launched, options, d):
    config = Config(**{"lr": 0.1, "seed": 5, **options})
    program = program_of(config, dials(config, 0), d)
    assert program.kernel == "train_wide"
    assert_same_fit(config, d, steps=3)
    fits = program.shared <= seam.current().shared
    assert (program.kernel in {name for name, _ in launched}) == fits


@pytest.mark.parametrize(
    ("options", "kernel"),
    slow_after(1, [
        # biases of equal accumulators side by side, and of others
        ({"hidden": "6,3,2", "batch": 8, "tree": "lanes:3", "act": "swish", "accumulator_at":
          "0:forward=kahan+1:batch=wide+2:backward=wide+2:batch=wide+3:forward=wide"},
         "train_small"),
        # partial sums of several kinds in the same room
        ({"hidden": "34,2", "batch": 5, "tree": "lanes:2", "unit_tree": "pairwise",
          "accumulator_at": "0:batch=wide+1:batch=kahan+1:backward=exact+2:forward=kahan"}, ""),
        ({"hidden": "3", "batch": 6, "accumulator": "exact", "unit_accumulator": "exact",
          "leaf_order": "random", "accumulator_at": "1:batch=plain"}, ""),
    ]),
)  # fmt: skip
def test_single_sums(interpreter, options, kernel):
    config = Config(**{"lr": 0.3, "seed": 5, **options})
    assert program_of(config, dials(config, 0), 9).kernel == kernel
    assert_same_fit(config, 9, steps=2)


@pytest.mark.parametrize(
    "options",
    slow_after(
        1,
        [
            {"hidden": "3", "batch": 36, "tree": "random", "accumulator": "exact"},
            {"hidden": "33", "batch": 4, "tree": "lanes:2", "accumulator_at": "0:batch=wide"},
            {"hidden": "36", "batch": 4, "leaf_order": "random", "unit_order": "reversed"},
            {"hidden": "33,3", "batch": 8, "act": "swish", "unit_tree": "lanes:3",
             "optimizer": "adam"},
        ],
    ),
)  # fmt: skip
def test_a_block_and_launches_give_the_same_bits(interpreter, monkeypatch, options):
    """Models of middling size train in one launch or in one for each equation: by the same code."""
    config = Config(**{"lr": 0.1, "seed": 5, **options})
    launches = []
    for work in (ensembles.BLOCK_WORK, 0):
        monkeypatch.setattr(ensembles, "BLOCK_WORK", work)
        before = interpreter.launches
        assert_same_fit(config, 12, steps=3)
        launches.append(interpreter.launches - before)
    assert 2 * launches[0] < launches[1]
