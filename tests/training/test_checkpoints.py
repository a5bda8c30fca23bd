"""Runs that are stopped in the middle, anywhere and by anything, go on to the same bits."""

import errno
import io
import json
import os
import threading
import time

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.records import assert_same_bits, assert_same_record
from support.slow import slow_after

from nanorepro import Config, ConfigError, save, simulate
from nanorepro.backends import load_backend
from nanorepro.backends.protocols import Snapshot
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.results import files, hdf5
from nanorepro.training import checkpoint_file, checkpoints, group
from nanorepro.training.checkpoints import Checkpoint
from nanorepro.training.run_state import RunState

SMALL = Config(hidden="3,2", log2_examples=9, log2_eval=6, pairs=3, eval_every="3", act="swish")
REFERENCE = {"backend": "reference", "threads": 1}


class Stop(Exception):
    """Raised in the middle of a run."""


def stopping(at):
    """A progress that ends the run at so many examples."""

    def progress(done, total):
        if done >= at:
            raise Stop

    return progress


def stopped(config, folder, at, backend="reference", threads=1, **given):
    """Train a run until so many examples are done; what was said."""
    said = []
    with pytest.raises(Stop):
        simulate(config, backend, threads, stopping(at), checkpoint_folder=folder,
                 say=said.append, **given)  # fmt: skip
    return said


def resumed(config, folder, backend="reference", threads=1, **given):
    """The result of a run that goes on, and what was said."""
    said = []
    result = simulate(config, backend, threads, checkpoint_folder=folder, say=said.append, **given)
    return result, said


def assert_same_result(one, other):
    """All that a result holds, but who made it and when."""
    assert one == other
    assert one.fingerprint == other.fingerprint
    assert_same_bits(one.logits, other.logits, "logits")
    for name, values in one.measures.items():
        np.testing.assert_array_equal(values, other.measures[name], err_msg=name)
    assert one.series == other.series or np.isnan(one.measures["loss"]).any()
    for k, pair in enumerate(one.parameters):
        for m, record in enumerate(pair):
            assert_same_record(record, other.parameters[k][m], f"{k}.{m}")


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    """A report after every step, so that a run can be stopped at any."""
    monkeypatch.setattr(group, "PIECE", 1)


CONFIGS = st.builds(
    lambda arithmetic, **values: Config(
        log2_examples=7, log2_eval=4, pairs=2, batch=16,
        precision=arithmetic[0], rounding=arithmetic[1], **values,
    ),
    arithmetic=st.sampled_from([
        ("float32", "nearest"), ("float64", "nearest"), ("bits:8", "stochastic"),
        ("float32,bits:6", "nearest"), ("bits:12", "toward-zero"),
    ]),
    hidden=st.sampled_from(["3", "4,2"]),
    act=st.sampled_from(list(ACTIVATIONS)),
    optimizer=st.sampled_from(list(OPTIMIZERS)),
    lr=st.sampled_from([0.05, 30.0]),
    log2_window=st.integers(0, 2),
    differ=st.sampled_from(["shuffle", "init,order,rounding", "none", "nudge,shuffle"]),
    nudge_at=st.sampled_from([0, 3]),
    leaf_order=st.sampled_from(["given", "reversed", "random", "random,given"]),
    tree=st.sampled_from(["chain", "pairwise", "lanes:4", "blocks:3", "random"]),
    unit_order=st.sampled_from(["given", "random"]),
    unit_tree=st.sampled_from(["chain", "random"]),
    accumulator=st.sampled_from(["plain", "kahan", "exact"]),
    eval_every=st.sampled_from(["", "log", "3"]),
    data=st.sampled_from(["linear", "quadratic"]),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=CONFIGS, share=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=3),
       threads=st.integers(1, 3))  # fmt: skip
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(config, share, threads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with np.errstate(all="ignore"):
        whole = simulate(config, **REFERENCE)
        for some in sorted(share):
            path = folder / f"{config.id}.checkpoint"
            if path.exists() and checkpoints.read(path).share == 1.0:
                break  # all is trained, and nothing is left that could be stopped
            at = max(1, int(some * 2 * config.pairs * config.examples))
            stopped(config, folder, at, threads=threads)
        result, said = resumed(config, folder)
    assert_same_result(result, whole)
    assert "goes on from" in said[0] and result.provenance["resumed"].count("done until") >= 1
    save(result, folder)
    assert files_of(folder) == [f"{config.id}.h5"]


KINDS = [
    {"model": "tower", "eval_every": "log", "log2_window": 1},
    {"model": "linear", "precision": "bits:8", "rounding": "stochastic", "leaf_order": "random"},
    {"model": "wide", "optimizer": "sgd", "lr": 0.1, "log2_examples": 7},
    {"hidden": "70,40", "batch": 16, "data": "quadratic", "log2_examples": 7},
    {
        "hidden": "5",
        "optimizer": "adam",
        "tree": "random",
        "unit_tree": "random",
        "accumulator": "kahan",
    },
]


@pytest.mark.parametrize("backends", [("reference", "numba"), ("numba", "reference")])
@pytest.mark.parametrize("kind", slow_after(1, KINDS), ids=str)
def test_another_backend_goes_on_to_the_same_bits(kind, backends, tmp_path):
    config = Config(**{"log2_examples": 9, "log2_eval": 5, "pairs": 2, **kind})
    first, second = backends
    stopped(config, tmp_path, 3 * config.examples - 100, first, 2)
    result, _ = resumed(config, tmp_path, second, 1)
    assert_same_result(result, simulate(config, second, 1))
    assert second in result.provenance["resumed"]


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_model_gives_and_takes_all_its_state(backend, optimizer):
    from nanorepro.specification import ModelSpec
    from nanorepro.training.parameters import initial_parameters

    config = Config(model="linear", optimizer=optimizer, log2_examples=9)
    engine = load_backend(backend)
    spec, rng = ModelSpec(config, 32, 0, 0), np.random.default_rng(0)
    x = rng.integers(0, 2**32, (256, 1), np.uint32)
    y = rng.integers(0, 2, 256).astype(np.uint8)
    one = engine.Model(spec, initial_parameters(config))
    one.train(x[:96], y[:96])
    kept = one.step, one.parameters(), one.state()
    assert kept[0] == 3 and list(kept[2]) == list(OPTIMIZERS[optimizer].state)
    one.train(x[96:], y[96:])
    other = engine.Model(spec, initial_parameters(config, 0))
    other.train(x[:32], y[:32])
    other.restore(*kept)
    other.train(x[96:], y[96:])
    assert one.step == other.step == 8
    assert_same_record(one.parameters(), other.parameters(), "parameters")
    for name, record in one.state().items():
        assert_same_record(record, other.state()[name], name)
        assert all(record[k].shape == v.shape for k, v in one.parameters().items())


def test_windows_that_span_many_reports_and_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("nanorepro.training.example_stream.CHUNK", 64)
    config = Config(hidden="3", log2_examples=10, log2_eval=4, pairs=2, log2_window=3)
    whole = simulate(config, **REFERENCE)
    for at in (300, 1100, 2500, 3900):
        stopped(config, tmp_path, at, threads=3)
    assert_same_result(resumed(config, tmp_path)[0], whole)


def test_a_warm_start_goes_on_too(tmp_path):
    first = simulate(SMALL, **REFERENCE)
    config = Config(**{**vars(SMALL), "warm_start": first.fingerprint, "first_example": 512})
    stopped(config, tmp_path, 1500, start=first.parameters)
    result, _ = resumed(config, tmp_path, start=first.parameters)
    assert_same_result(result, simulate(config, **REFERENCE, start=first.parameters))


# What is written, and when.


def test_a_short_run_writes_none(tmp_path):
    result, said = resumed(SMALL, tmp_path)
    assert files_of(tmp_path) == [] and said == [] and "resumed" not in result.provenance


@pytest.mark.parametrize("given", [{"checkpoint_minutes": 0}, {"checkpoint_folder": None}])
def test_none_is_written_or_read_where_none_is_wanted(given, tmp_path):
    stopped(SMALL, tmp_path, 700)
    before = (tmp_path / f"{SMALL.id}.checkpoint").read_bytes()
    with pytest.raises(Stop):
        simulate(SMALL, **REFERENCE, progress=stopping(900),
                 **{"checkpoint_folder": tmp_path, **given})  # fmt: skip
    assert (tmp_path / f"{SMALL.id}.checkpoint").read_bytes() == before


@pytest.mark.parametrize("wrong", [-1, np.nan, np.inf, "10", None, 1e7, True])
def test_what_is_no_number_of_minutes_is_refused(wrong):
    with pytest.raises(
        ConfigError, match=r"^checkpoint_minutes: .* give a number from 0, for none"
    ):
        simulate(SMALL, **REFERENCE, checkpoint_minutes=wrong)


def test_it_is_written_at_intervals_and_every_one_goes_on(tmp_path, monkeypatch):
    written = []
    replace = checkpoints.replace_file
    monkeypatch.setattr(
        checkpoints, "replace_file", lambda p, data: (replace(p, data), written.append(bytes(data)))
    )
    result, _ = resumed(
        SMALL, tmp_path, threads=2, checkpoint_minutes=1e-4,
        progress=lambda done, total: time.sleep(0.005),
    )  # fmt: skip
    assert len(written) >= 3
    shares = [checkpoint_file.decode(data).share for data in written]
    assert shares == sorted(shares) and shares[0] < shares[-1]
    for data in written[:: max(1, len(written) // 4)]:
        (tmp_path / f"{SMALL.id}.checkpoint").write_bytes(data)
        assert_same_result(resumed(SMALL, tmp_path)[0], result)


def test_finished_pairs_are_kept_where_another_fails(tmp_path, monkeypatch):
    train = group.train_group
    trained = []

    def failing(backend, given, stream, report):
        if given.models[0].pair == 2:
            raise MemoryError("none left")
        trained.append([(s.pair, s.model) for s in given.models])
        return train(backend, given, stream, report)

    with monkeypatch.context() as patch:
        patch.setattr("nanorepro.training.simulation.train_group", failing)
        said = []
        with pytest.raises(MemoryError):
            simulate(SMALL, **REFERENCE, checkpoint_folder=tmp_path, say=said.append)
    assert trained == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    assert said == [f"67% of the run is kept in {str(tmp_path / SMALL.id)!r}"[:-1] + ".checkpoint'"]
    seen = []
    result, _ = resumed(SMALL, tmp_path, progress=lambda done, total: seen.append(done))
    assert seen[0] == 4 * SMALL.examples + SMALL.batch
    assert_same_result(result, simulate(SMALL, **REFERENCE))


def test_a_run_of_which_all_models_are_finished_is_only_measured(tmp_path, monkeypatch):
    def broken(*_):
        raise ArithmeticError("no measure")

    with monkeypatch.context() as patch:
        patch.setattr("nanorepro.training.measuring.metrics.weight_distance", broken)
        with pytest.raises(ArithmeticError):
            simulate(SMALL, **REFERENCE, checkpoint_folder=tmp_path, say=print)
    monkeypatch.setattr("nanorepro.training.simulation.train_group", None)
    kept = checkpoints.read(tmp_path / f"{SMALL.id}.checkpoint")
    if kept.share == 1.0:
        resumed(SMALL, tmp_path)
    else:  # the failure ended the other pairs
        assert kept.share > 0.3


def test_the_times_of_a_resumed_run_are_those_of_the_whole(tmp_path):
    stopped(SMALL, tmp_path, 1500)
    kept = checkpoints.read(tmp_path / f"{SMALL.id}.checkpoint")
    assert 0.0 < kept.seconds < 60.0 and kept.resumed == ""
    stopped(SMALL, tmp_path, 2500)
    result, _ = resumed(SMALL, tmp_path)
    assert result.seconds > kept.seconds
    assert result.provenance["started"] == kept.started
    assert result.provenance["resumed"].count("by reference") == 2


def test_without_a_function_it_is_a_warning(tmp_path):
    with pytest.raises(Stop), pytest.warns(UserWarning, match="of the run is kept in"):
        simulate(SMALL, **REFERENCE, progress=stopping(700), checkpoint_folder=tmp_path)


def test_two_processes_that_write_one_file_leave_one_that_is_whole(tmp_path):
    one, other = (Checkpoint(SMALL, tmp_path, 1, say=print) for _ in range(2))
    for given_by in (one, other):
        given_by.models = dict(checkpoints_of(SMALL, tmp_path).models)
    ended = threading.Event()

    def write(keeper):
        while not ended.is_set():
            assert keeper.write()

    threads = [threading.Thread(target=write, args=(keeper,)) for keeper in (one, other)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        assert checkpoints.read(one.path).share > 0.0
    ended.set()
    for thread in threads:
        thread.join()
    assert files_of(tmp_path) == [f"{SMALL.id}.checkpoint"]


# Damage.


def checkpoints_of(config, folder, at=1500):
    stopped(config, folder, at)
    return checkpoints.read(folder / f"{config.id}.checkpoint")


def taken(config, folder, patterns):
    """What a run would take from its checkpoint, and what is said."""
    said = []
    return Checkpoint(config, folder, 1.0, say=said.append).resume(patterns), said


def patterns_of(state):
    return next(iter(state.models.values())).logits.shape[1]


@pytest.mark.parametrize("kind", ["truncated", "flipped", "extended"])
def test_a_damaged_file_is_never_used_and_is_kept_aside(kind, tmp_path):
    state = checkpoints_of(SMALL, tmp_path)
    path, patterns = tmp_path / f"{SMALL.id}.checkpoint", patterns_of(state)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    places = sorted({0, 1, 7, 8, len(whole) - 1, *rng.integers(0, len(whole), 60).tolist()})
    for count, at in enumerate(places):
        bad = {
            "truncated": whole[:at],
            "flipped": whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :],
            "extended": whole[:at] + b"\0" + whole[at:],
        }[kind]
        path.write_bytes(bad)
        models, said = taken(SMALL, tmp_path, patterns)
        assert models == {} and len(said) == 1, at
        assert "the training begins anew" in said[0] and "kept as" in said[0]
        assert not path.exists() and len(files_of(tmp_path / "damaged")) == count + 1
    path.write_bytes(whole[:-200])
    result, said = resumed(SMALL, tmp_path)
    assert len(said) == 1 and "resumed" not in result.provenance
    assert_same_result(result, simulate(SMALL, **REFERENCE))


def test_too_little_memory_leaves_the_file_where_it_is(tmp_path, monkeypatch):
    def models(*given):
        raise MemoryError

    state = checkpoints_of(SMALL, tmp_path)
    monkeypatch.setattr(checkpoint_file, "_models", models)
    with pytest.raises(MemoryError):
        taken(SMALL, tmp_path, patterns_of(state))
    assert files_of(tmp_path) == [f"{SMALL.id}.checkpoint"]


def changed(data, change):
    """The file with something else in it, and a seal that fits."""
    buffer = io.BytesIO(hdf5.unsealed(data))
    with h5py.File(buffer, "r+") as f:
        change(f)
    return hdf5.sealed(buffer.getvalue())


def replaced(name, make):
    def change(f):
        values = f[name][...]
        del f[name]
        f[name] = make(values)

    return change


def attribute(name, value):
    return lambda f: f.attrs.__setitem__(name, value)


FOREIGN = {
    "another format": attribute("format", "nanorepro checkpoint 2"),
    "a result": attribute("format", "nanorepro result 1"),
    "another contract": attribute("contract", 99),
    "another id": attribute("id", "0" * 16),
    "a newer field": lambda f: f.attrs.__setitem__(
        "config", json.dumps({**json.loads(f.attrs["config"]), "temperature": 1})
    ),
    "no time": attribute("seconds", -1.0),
    "NaN seconds": attribute("seconds", np.nan),
    "a time that is a number": attribute("written", 3),
    "steps past the end": replaced("0/step", lambda v: v * 0 + 17),
    "step 0": replaced("0/step", lambda v: v * 0),
    "a step that is not its own": replaced("0/step", lambda v: v - (v > 3)),
    "pairs twice": replaced("0/pair", lambda v: v * 0),
    "a pair that is not there": replaced("1/pair", lambda v: v + 7),
    "other shapes": replaced("0/parameters/w0", lambda v: v[:, :-1]),
    "other types": replaced("0/state/a/w0", lambda v: v.astype("f8")),
    "no state": lambda f: f.__delitem__("0/state"),
    "no logits": lambda f: f.__delitem__("0/logits"),
    "fewer patterns": replaced("0/logits", lambda v: v[:, :-1]),
    "a missing model": lambda f: f.__delitem__("1"),
    "a link": lambda f: (
        f.__delitem__("0/pair"), f.__setitem__("0/pair", h5py.SoftLink("/1/pair"))
    ),
    "an external link": lambda f: (
        f.__delitem__("0/pair"), f.__setitem__("0/pair", h5py.ExternalLink("/etc/passwd", "/x"))
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint's bytes, and how many patterns it has the logits of."""
    folder = tmp_path_factory.mktemp("runs")
    state = checkpoints_of(SMALL, folder, 1600)
    return (folder / f"{SMALL.id}.checkpoint").read_bytes(), patterns_of(state)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_never_used_and_is_kept_aside(name, written, tmp_path):
    data, patterns = written
    (tmp_path / f"{SMALL.id}.checkpoint").write_bytes(changed(data, FOREIGN[name]))
    models, said = taken(SMALL, tmp_path, patterns)
    assert models == {} and len(said) == 1 and files_of(tmp_path) == ["damaged"]


def test_the_checkpoint_of_another_run_is_not_used(tmp_path):
    other = Config(**{**vars(SMALL), "seed": 1})
    state = checkpoints_of(other, tmp_path)
    os.rename(tmp_path / f"{other.id}.checkpoint", tmp_path / f"{SMALL.id}.checkpoint")
    models, said = taken(SMALL, tmp_path, patterns_of(state))
    assert models == {} and f"holds the run {other.id}" in said[0]


def test_what_is_said_ends_no_training_and_hides_no_other_error(tmp_path, monkeypatch, capsys):
    def refusing(text):
        raise ValueError(text)

    def full(path, data):
        raise files.NotWritten(path, OSError(errno.ENOSPC, "no space"))

    def interrupted(folder):
        def progress(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            simulate(SMALL, **REFERENCE, progress=progress, checkpoint_folder=folder, say=refusing)
        return capsys.readouterr().err

    assert "of the run is kept in" in interrupted(tmp_path)
    result = simulate(SMALL, **REFERENCE, checkpoint_folder=tmp_path, say=refusing)
    assert_same_result(result, simulate(SMALL, **REFERENCE))
    assert "goes on from" in capsys.readouterr().err
    monkeypatch.setattr(checkpoints, "replace_file", full)
    assert "no checkpoint: " in interrupted(tmp_path / "full")


@pytest.mark.parametrize("reason", ["EACCES", "EMFILE", "EIO"])
def test_a_file_that_the_system_does_not_read_stays_where_it_is(reason, tmp_path, monkeypatch):
    state = checkpoints_of(SMALL, tmp_path)
    number = getattr(errno, reason)

    def refusing(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(checkpoints, "read_file", refusing)
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match=os.strerror(number) + "; give a checkpoint that can"):
        taken(SMALL, tmp_path, patterns_of(state))
    assert files_of(tmp_path) == before
    monkeypatch.undo()
    assert taken(SMALL, tmp_path, patterns_of(state))[0]


def test_a_file_that_cannot_be_read_or_moved_is_said(tmp_path):
    path = tmp_path / f"{SMALL.id}.checkpoint"
    path.mkdir()
    (tmp_path / "damaged").write_bytes(b"a file")
    result, said = resumed(SMALL, tmp_path)
    assert len(said) == 1 and "not a file" in said[0] and "cannot be moved aside" in said[0]
    assert result.fingerprint == simulate(SMALL, **REFERENCE).fingerprint


@pytest.mark.parametrize(
    "number", slow_after(1, [errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EDQUOT])
)
def test_a_disk_that_refuses_is_one_line_and_the_training_goes_on(number, tmp_path, monkeypatch):
    tried = []

    def refuse(path, data):
        tried.append(path)
        raise files.NotWritten(path, OSError(number, os.strerror(number)))

    monkeypatch.setattr(checkpoints, "replace_file", refuse)
    result, said = resumed(
        SMALL, tmp_path, checkpoint_minutes=1e-5, progress=lambda done, total: time.sleep(0.002)
    )
    assert len(tried) >= 2 and len(said) == 1
    assert said[0].startswith("no checkpoint: ") and said[0].endswith("; the training goes on")
    assert_same_result(result, simulate(SMALL, **REFERENCE))
    assert files_of(tmp_path) == []


def test_what_is_encoded_is_decoded(tmp_path):
    state = checkpoints_of(SMALL, tmp_path)
    again = checkpoint_file.decode(bytes(checkpoint_file.encode(state)))
    assert isinstance(again, RunState) and again.models.keys() == state.models.keys()
    for key, one in state.models.items():
        other = again.models[key]
        assert isinstance(other, Snapshot) and one.step == other.step
        assert_same_record(one.parameters, other.parameters, key)
        assert_same_bits(one.logits, other.logits, key)
        assert one.state.keys() == other.state.keys()
    empty = RunState(SMALL, {}, 0.0, "", "")
    assert checkpoint_file.decode(bytes(checkpoint_file.encode(empty))) == empty
