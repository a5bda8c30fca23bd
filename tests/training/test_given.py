"""Runs on the caller's examples: which are seen when, what names them, and what is refused."""

import hashlib
import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from support.commands import call
from support.commands import refused as refused_line
from support.stopping import Stopped, after

from nanorepro import Config, attribute, fit, initial_parameters, load, predict, save, simulate
from nanorepro.backends import reference
from nanorepro.backends.protocols import Trained
from nanorepro.commands import attribute as attribute_command
from nanorepro.commands import diverge, run, sweep
from nanorepro.config import canonical
from nanorepro.data.content import content_of
from nanorepro.errors import ConfigError
from nanorepro.numerics.streams import permutation, stream_key
from nanorepro.sweeps import checking
from nanorepro.sweeps.folder import Folder
from nanorepro.training import checkpoints, example_stream, group, simulation
from nanorepro.training.examples import with_content
from nanorepro.training.sequences import sequence_of

RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (30, 5))
Y = (X[:, 0] + X[:, 1] + RNG.integers(0, 2, 30) > 1).astype(int)
X_EVAL, Y_EVAL = X[:6], np.array([0, 1, 1, 0, 1, 0])
SMALL = Config(model="double", pairs=2, epochs=3, batch=4, seed=5)
WORDS = [
    *("--model", "double", "--pairs", "2", "--epochs", "3", "--batch", "4", "--seed", "5"),
    *("--backend", "reference", "--threads", "1"),
]


def trained(config=SMALL, data=(X, Y), **options):
    return simulate(config, "reference", 1, data=data, **options)


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    return tmp_path / "a.npz"


def order(seed, stream, pair, model, block, n):
    return permutation(stream_key(seed, stream, pair, model), block, n).tolist()


def seen(config, pair, model, n, held_out):
    """Places of the examples in the order in which a model sees them, as the contract says it."""
    places = order(config.seed, "deal", 0, 0, 0, n)[held_out:]
    if config.pair_examples == "split":
        each = len(places) // config.pairs
        places = places[pair * each : (pair + 1) * each]
    sequence, index = [], config.first_example
    total = config.epochs * len(places) // config.batch * config.batch
    while len(sequence) < total:
        epoch, inside = divmod(index, len(places))
        sequence.append(places[order(config.seed, "examples", pair, 0, epoch, len(places))[inside]])
        index += 1
    window = config.batch << config.log2_window
    model = model if "shuffle" in config.roles else 0
    found = []
    for k in range(0, total, window):
        part = sequence[k : k + window]
        found += [
            part[i] for i in order(config.seed, "shuffle", pair, model, k // window, len(part))
        ]
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"log2_window": 2},  # windows of 16, the last shorter
        {"pair_examples": "split", "differ": "init,shuffle", "log2_window": 1},
        {"first_example": 31, "holdout": 0.4, "epochs": 5},
    ],
)
@pytest.mark.parametrize("x", [X, X - 0.3], ids=["binary", "real"])
def test_models_see_the_examples_in_the_order_of_the_contract(options, x):
    config = replace(SMALL, **options)
    result = trained(config, (x, Y))
    held_out = int(config.holdout * len(Y) + 0.5)
    for pair in range(config.pairs):
        for model in (0, 1):
            places = seen(config, pair, model, len(Y), held_out)
            assert len(places) % config.batch == 0
            start = initial_parameters(result.config, pair, model, 5)
            # `fit` trains pair 0, model 0, whose own streams do not matter in this arithmetic
            expected = fit(config, x[places], Y[places], start, "reference")
            for name, value in expected.items():
                assert np.array_equal(result.parameters[pair][model][name], value)


def test_held_out_examples_are_evaluated_and_not_trained_on():
    result = trained()
    places = order(5, "deal", 0, 0, 0, 30)
    assert result.config.evaluation_examples == 6
    assert not set(places[:6]) & set(seen(SMALL, 0, 0, 30, 6))
    assert np.array_equal(result.evaluation.labels, Y[places[:6]])
    z = predict(SMALL, X[places[:6]], result.parameters[1][0], "reference")
    assert np.array_equal(result.logits[1, 0, -1], z)


def test_examples_for_evaluation_may_be_given():
    result = trained(data=(X, Y, X_EVAL, Y_EVAL))
    assert np.array_equal(result.evaluation.labels, Y_EVAL)
    assert result.config.epoch == 30
    assert np.array_equal(
        result.logits[0, 1, -1], predict(SMALL, X_EVAL, result.parameters[0][1], "reference")
    )


def test_split_pairs_share_no_example():
    config = with_content(replace(SMALL, pairs=3, pair_examples="split"), (X, Y))[0]
    pools = [set(seen(config, k, 0, 30, 6)) for k in range(3)]
    assert [len(p) for p in pools] == [8, 8, 8]
    assert len(set.union(*pools)) == 24


@pytest.mark.parametrize("batch", [4, 7])
def test_long_windows_and_wide_examples_are_taken_piece_by_piece(batch, monkeypatch):
    """To the same bits, for any size of mini-batch."""
    config = replace(SMALL, batch=batch, log2_window=1, epochs=5)
    plain = trained(config)
    for chunk, piece in ((1 << 17, 10), (16, 1 << 16), (16, 10)):
        monkeypatch.setattr(group, "CHUNK", chunk)
        monkeypatch.setattr(example_stream, "CHUNK", chunk)
        monkeypatch.setattr(group, "PIECE", piece)
        assert trained(config) == plain
    monkeypatch.setattr(group, "CHUNK", 1)
    assert simulate(config, "reference", 2, data=(X, Y)) == plain


def test_both_backends_give_the_same_bits():
    config = replace(SMALL, log2_window=1, eval_every="log", differ="init,shuffle,order",
                     leaf_order="random")  # fmt: skip
    one, other = trained(config), simulate(config, "numba", 1, data=(X, Y))
    assert one == other
    assert trained(config, threads := (X, Y)) == simulate(config, "numba", 3, data=threads)


# What names the examples


def test_files_and_arrays_of_the_same_examples_are_one_run(file, tmp_path):
    plain = trained()
    table = tmp_path / "b.csv"
    rows = [
        ",".join(map(str, [*x, 2 * y - 1])) for x, y in zip(X.tolist(), Y.tolist(), strict=True)
    ]
    table.write_text("\n".join(["a,b,c,d,e,y", *rows]))
    for data in (f"file:{file}", f"file:{table}"):
        found = simulate(replace(SMALL, data=data), "reference", 1)
        assert found == plain and found.config.id == plain.config.id
        assert found.config.data == data
    import pandas
    import scipy.sparse

    for x in (pandas.DataFrame(X), scipy.sparse.csr_matrix(X), X.tolist(), X.astype(bool)):
        assert trained(data=(x, Y)).fingerprint == plain.fingerprint
    assert str(file) not in canonical(plain.config)


@pytest.mark.parametrize("change", ["feature", "label", "order", "eval"])
def test_other_examples_are_another_run(change):
    x, y, more = X.copy(), Y.copy(), ()
    if change == "feature":
        x[3, 2] ^= 1
    elif change == "label":
        y[3] ^= 1
    elif change == "order":
        x, y = x[::-1], y[::-1]
    else:
        more = (X_EVAL, Y_EVAL)
    ids = {with_content(SMALL, data)[0].id for data in ((X, Y), (x, y, *more))}
    assert len(ids) == 2


def test_a_digest_stays():
    """Runs on these examples may be stored somewhere."""
    content = with_content(SMALL, ([[0, 1], [1, 0], [1, 1]], [0, 1, 1], [[0, 0], [1, 0]], [1, 0]))[
        0
    ]
    text = b"".join([
        b"x 3x2\n", struct.pack("<6f", 0, 1, 1, 0, 1, 1), b"y 3\n", bytes([0, 1, 1]),
        b"x_eval 2x2\n", struct.pack("<4f", 0, 0, 1, 0), b"y_eval 2\n", bytes([1, 0]),
    ])  # fmt: skip
    assert content.content == f"binary:3+2x2:{hashlib.sha256(text).hexdigest()}"
    assert str(content_of(content.content)) == content.content


def test_a_result_is_stored_and_loaded_and_its_measures_are_those_of_labels(tmp_path):
    result = trained(replace(SMALL, eval_every="2"))
    again = load(save(result, tmp_path))
    assert again == result
    assert list(again.measures) == list(result.metrics)
    assert {"auc", "loss", "pd"} < set(result.metrics) and np.isnan(result.excess_loss)
    data = result.to_xarray()
    assert data["label"].dims == ("pattern",) and "log_odds" not in data
    assert data["loss"].attrs["long_name"] == "mean of -log p(y), y the label"


# What has changed


def change(file):
    x = X.copy()
    x[0, 0] ^= 1
    np.savez(file, x=x, y=Y)
    os.utime(file, ns=(1, 1))


def test_a_file_that_has_changed_is_refused(file):
    config = with_content(replace(SMALL, data=f"file:{file}"))[0]
    assert simulate(config, "reference", 1) == trained()
    change(file)
    with pytest.raises(ConfigError, match=r"content: the examples of file:.*have changed: as many"):
        simulate(config, "reference", 1)
    with pytest.raises(ConfigError, match="have changed"):
        simulate(config, "reference", 1, data=(X[:20], Y[:20]))


def test_a_run_in_the_middle_goes_on_and_refuses_a_file_that_has_changed(file, tmp_path):
    config = replace(SMALL, data=f"file:{file}")

    options = {"checkpoint_folder": tmp_path, "say": lambda text: None}
    with pytest.raises(Stopped):
        simulate(config, "reference", 1, after(1 / 2), **options)
    whole = file.read_bytes()
    change(file)
    with pytest.raises(ConfigError, match="data: the examples of file:.* have changed since"):
        simulate(config, "reference", 1, **options)
    file.write_bytes(whole)
    said = []
    again = simulate(config, "reference", 1, **{**options, "say": said.append})
    assert "goes on from" in said[0] and again == trained()
    assert len(checkpoints.found_in(tmp_path)) == 1  # until it is stored
    save(again, tmp_path)
    assert not checkpoints.found_in(tmp_path)


def test_replay_finds_the_file_and_refuses_one_that_has_changed(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--grid", "data=file:a.npz", "--grid", "seed=1,2", "--grid", "epochs=2", "--out", "r"]
    words += ["--grid", "model=double", "--grid", "pairs=1", "--backend", "reference", "-q"]
    assert call(sweep.main, *words)[0] == 0
    ids = sorted(Folder(tmp_path / "r").files())
    assert len(ids) == 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    replay = ["replay", ids[0], "--out", "../r", "--backend", "reference", "-q"]
    assert "the same bits" in call(sweep.main, *replay)[1]
    change(file)
    status, _, warned = call(sweep.main, *replay)
    assert status == 2 and "have changed" in warned
    monkeypatch.chdir(tmp_path)
    assert "since this sweep was begun" in call(sweep.main, *words)[2]
    file.unlink()
    replay[2 : replay.index("--backend")] = ["--out", "r"]
    status, _, warned = call(sweep.main, *replay)
    assert (status, warned.count("\n")) == (2, 1) and "no such file" in warned
    assert checking.found(load(tmp_path / "r" / f"{ids[0]}.h5")).data == "file:a.npz"


def test_a_warm_start_goes_on_in_the_sequence_and_refuses_a_file_that_has_changed(file, tmp_path):
    words = [*WORDS, "--data", f"file:{file}", "--out", str(tmp_path / "r"), "--json"]
    first = json.loads(call(run.main, *words)[1])
    warm = [*words, "--warm-start", first["stored"]]
    second = json.loads(call(run.main, *warm)[1])
    assert second["config"]["first_example"] == 72
    change(file)
    assert "--data: its examples have changed since" in refused_line(run.main, *warm)
    np.savez(tmp_path / "b.npz", x=X[:, :4], y=Y)
    warm[warm.index(f"file:{file}")] = f"file:{tmp_path / 'b.npz'}"
    assert "4 features, where the run in" in refused_line(run.main, *warm)


# Commands


def test_the_command_says_what_it_is_and_makes_it_again(file, tmp_path):
    words = ["--data", f"file:{file}", "--out", str(tmp_path / "r"), "--json"]
    found = json.loads(call(run.main, *WORDS, *words)[1])
    result = trained()
    assert found["fingerprint"] == result.fingerprint and found["id"] == result.config.id
    assert (found["excess_loss"], found["log_loss"]) == (None, result.mean("loss"))
    assert found["auc"] == result.mean("auc")
    assert found["examples"] == str(file)
    assert f"--content {result.config.content}" in found["command"]
    assert set(found["pairs"][0]) == set(result.metrics)
    again = found["command"].split()[3:]
    words = [*again, "--backend", "reference", "--out", str(tmp_path / "r"), "--json"]
    assert json.loads(call(run.main, *words)[1])["fingerprint"] == result.fingerprint
    change(file)
    assert "--content: the examples of" in refused_line(run.main, *words)


def test_pairs_are_followed_to_where_they_part(file, tmp_path):
    words = [*WORDS, "--data", f"file:{file}", "--differ", "nudge", "--nudge-at", "3", "--json"]
    status, said, _ = call(diverge.main, *words, "--out", str(tmp_path / "r"))
    found = json.loads(said)
    assert status == 0
    assert str(found).count("'step': 3") >= 1
    assert "'log_loss'" in str(found) and "'excess_loss'" not in str(found)


def test_sources_are_told_apart_on_the_callers_examples(file, tmp_path):
    config = replace(SMALL, differ="init,shuffle", epochs=1)
    found = attribute(config, backend="reference", data=(X, Y))
    assert [e.source.name for e in found.effects] == ["init", "shuffle"]
    words = [*WORDS, "--data", f"file:{file}", "--differ", "init,shuffle", "--out", str(tmp_path)]
    words[words.index("--epochs") + 1] = "1"
    status, said, warned = call(attribute_command.main, *words, "--json")
    assert status == 0, warned
    assert repr(found.whole.value) in said
    with pytest.raises(ConfigError, match="data: runs of a folder read a file"):
        attribute(config, tmp_path, data=(X, Y))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--data file:absent.npz",
            "--data: 'absent.npz': no such file; give a file .npz, .h5",
        ),
        ("--data file:", "--data: 'file:' is not allowed; give linear or quadratic or file:NAME"),
        ("--data arrays", "--data: the examples were arrays in Python"),
        ("--data file:{} --log2-examples 10", "--log2-examples: it is for worlds"),
        ("--data file:{} --paper", "--paper: it is for worlds"),
        ("--data file:{} --batch 64 --epochs 2", "--batch: 64 is not allowed; give at most 48"),
        ("--data file:{} --holdout 0.99", "--holdout: 0.99 is not allowed; give a part of 30"),
        ("--data file:{} --pairs 25 --pair-examples split", "--pairs: 25 is not allowed"),
        ("--data file:{} --log2-window 6", "--log2-window: 6 is not allowed; give at most 4"),
        ("--data file:{} --model wide", "5 features are not two equal sets"),
        ("--content binary:1+1x1", "--content: 'binary:1+1x1' is not allowed; give none with"),
    ],
)
def test_what_is_refused_on_the_command_line(words, said, file, tmp_path):
    given = words.format(file).split()
    plain = [w for k in range(0, len(WORDS), 2) if WORDS[k] not in given for w in WORDS[k : k + 2]]
    line = refused_line(run.main, *plain, *given, "--out", str(tmp_path / "r"), folder=tmp_path)
    assert said in line, line


NOT_EXAMPLES = [
    (X, "data: 'ndarray' is not allowed; give (x, y) or (x, y, x_eval, y_eval)"),
    ((X, Y, X), "data: 3 arrays are not allowed"),
    ((X, Y, X, None), "data: x_eval and y_eval go together"),
    ((X, Y[:-1]), "data: x has 30 rows, y 29 labels"),
    ((X[0], Y), "x: shape (5,) is wrong"),
    ((X * np.nan, Y), "data: x: feature '0', row 0 is missing (NaN)"),
    ((X * 1j, Y), "data: x: type complex128 (row 0, column 0) is not allowed; give real numbers"),
    ((X.astype(str), Y), "data: x: '1' in row 0, column 0 is text; give numbers"),
    ((X.astype(object), [None, *Y[1:]]), "data: y: the value in row 0 is missing (None"),
    ((X | 1, Y), "data: feature '0' is 1 in all training examples"),
    ((X, Y * 0), "data: y has one class only, 0"),
    ((X, Y + 1), "data: y, row 0 is"),
    ((X, Y, X_EVAL[:, :3], Y_EVAL), "data: x_eval has 3 columns, x has 5"),
    ((X, Y, X_EVAL, Y_EVAL * 0 + 1), "data: y_eval has one class only, 1"),
    ((np.ma.masked_equal(X, 1), Y), "x: the value in row"),
]


@pytest.mark.parametrize(("data", "message"), NOT_EXAMPLES, ids=[m for _, m in NOT_EXAMPLES])
def test_what_is_refused_in_python(data, message):
    with pytest.raises(ConfigError) as caught:
        trained(data=data)
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_go_together():
    with pytest.raises(ConfigError, match="data: the configuration has the quadratic world"):
        trained(replace(SMALL, data="quadratic"))
    with pytest.raises(ConfigError, match="holdout: 1 held-out example is of one class"):
        trained(replace(SMALL, holdout=0.02))
    with pytest.raises(ConfigError, match="content: the examples of file:a have not been read"):
        _ = Config(data="file:a").id


@pytest.mark.parametrize("how", ["share", "split"])
def test_a_backend_that_trains_groups_is_told_which_examples_a_pair_has(how, monkeypatch):
    groups = []

    class Grouping:
        def __getattr__(self, name):
            return getattr(reference, name)

        def device(self):
            return "none"

        def train_group(self, group, report):
            groups.append(group)
            logits = np.zeros((1, len(group.patterns)))
            return [Trained(one.parameters, logits) for one in group.start]

    monkeypatch.setattr(simulation, "load_backend", lambda name: Grouping())
    config = replace(SMALL, pairs=2, pair_examples=how)
    result = simulate(config, "cupy", data=(X, Y))
    (group,) = groups
    for pair in (0, 1):
        sequence = sequence_of(result.config, pair, group.world, reference)
        np.testing.assert_array_equal(group.pools[pair], sequence.pool)
    both = {*group.pools[0]} & {*group.pools[1]}
    assert both == ({*group.pools[0]} if how == "share" else set())


@pytest.mark.parametrize("data", [(X, None), (None, Y), (None, None, X_EVAL, Y_EVAL)])
def test_examples_without_features_or_labels_are_refused(data):
    with pytest.raises(ConfigError, match="data: (x|y) is None"):
        simulate(Config(epochs=1), data=data)
