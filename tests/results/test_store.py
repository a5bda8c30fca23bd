"""The store: what is written is read back, and nothing else is believed."""

import contextlib
import fcntl
import json
import os
import stat
import time
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanorepro import Config, ConfigError, simulate
from nanorepro.config import without_effect
from nanorepro.results import hdf5, labelled, store
from nanorepro.results.provenance import provenance, source_digest

CONFIGS = {
    "tower": Config(log2_examples=8, log2_eval=8, pairs=2, eval_every="log"),
    "linear": Config(model="linear", log2_examples=8, log2_eval=8, precision="float64,float32"),
    "wide": Config(model="wide", log2_examples=6, log2_eval=6, pairs=1),
    "same widths": Config(hidden="8,8", log2_examples=6, log2_eval=6, pairs=1, differ="none"),
    "diverged": Config(
        hidden="4,4", act="identity", optimizer="sgd", lr=1e12, log2_examples=8, log2_eval=8,
        pairs=2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return {name: simulate(config, "reference", threads=1) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def stored(results, tmp_path_factory):
    return store.save(results["tower"], tmp_path_factory.mktemp("runs"))


def seal(path: Path) -> None:
    """Give a file that was changed a seal that fits."""
    path.write_bytes(hdf5.sealed(path.read_bytes()))


def same(a, b) -> bool:
    """Whether two results hold the same numbers."""
    one, two = labelled.contents(a), labelled.contents(b)
    return a.config == b.config and all(
        np.array_equal(one[name], two[name], equal_nan=True) for name in one
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_result_comes_back_as_it_was(name, results, tmp_path):
    result = results[name]
    path = store.save(result, tmp_path / "new" / "folder")
    back = store.load(path)
    assert path.name == f"{result.config.id}.h5"
    assert os.listdir(path.parent) == [path.name]
    assert same(result, back)
    assert back.fingerprint == result.fingerprint
    assert (back.seconds, back.backend) == (result.seconds, "reference")
    assert back.constant_loss == result.constant_loss
    assert back.stuck == result.stuck
    assert back.diverged == result.diverged
    np.testing.assert_equal(back.relative_pd_interval, result.relative_pd_interval)
    for pair, other in zip(result.parameters, back.parameters, strict=True):
        for model, record in zip(pair, other, strict=True):
            assert {k: v.dtype for k, v in model.items()} == {k: v.dtype for k, v in record.items()}


def test_the_diverged_configuration_diverges(results):
    assert results["diverged"].diverged


def test_provenance(stored):
    back = store.load(stored)
    assert back.provenance["command"].startswith("python -m nanorepro.run --log2-examples 8")
    assert back.provenance["source"] == source_digest()
    assert {"numpy", "numba", "h5py", "python", "cpu"} <= set(back.provenance)


def test_the_same_result_twice_keeps_the_first_file(results, tmp_path):
    path = store.save(results["linear"], tmp_path)
    before = path.read_bytes()
    later = replace(results["linear"], seconds=99.0)
    assert store.save(later, tmp_path) == path
    assert path.read_bytes() == before


SPELLINGS = {
    "differ": ({"differ": "init,shuffle"}, {"differ": "shuffle,init"}),
    "hidden": ({"hidden": ""}, {"hidden": "16,8,4,2"}),
    "beta": ({"act": "relu"}, {"act": "relu", "beta": 0.5}),
    "act": ({"model": "linear", "hidden": ""}, {"model": "linear", "hidden": "", "act": "swish"}),
    "momentum": ({}, {"momentum": 0.5, "beta1": 0.5}),
    "epsilon": ({"epsilon_place": "none"}, {"epsilon_place": "none", "epsilon": 0.1}),
    "nudge": ({}, {"nudge_at": 3, "nudge_ulps": 2}),
    "epochs": ({}, {"epochs": 3, "holdout": 0.5, "pair_examples": "split"}),
    "dials": ({}, {"accumulator": "plain,plain", "tree": "chain,chain"}),
    "sums": ({}, {"accumulator_at": "1:batch=plain"}),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_one_run_in_two_spellings_is_one_result_and_one_file(what, tmp_path):
    one, other = (
        simulate(Config(**{"hidden": "2", "log2_examples": 6, "log2_eval": 4, "pairs": 1, **given}),
                 "reference", 1)
        for given in SPELLINGS[what]
    )  # fmt: skip
    assert one.config != other.config and one.config.id == other.config.id
    assert one == other and store.save(one, tmp_path) == store.save(other, tmp_path)
    assert store.load(store.path_of(other.config, tmp_path)).config == one.config


def test_other_bits_under_the_same_id_are_an_error(results, tmp_path):
    result = results["linear"]
    path = store.save(result, tmp_path)
    before = path.read_bytes()
    changed = {**result.measures, "weight_distance": result.measures["weight_distance"] + 1.0}
    other = replace(result, measures=changed)
    with pytest.raises(store.Conflict, match="the same parameters .* with other measures"):
        store.save(other, tmp_path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_what_a_result_holds_cannot_be_changed(results, tmp_path):
    for result in (results["tower"], store.load(store.save(results["tower"], tmp_path))):
        arrays = [result.logits, *result.measures.values(), result.evaluation.counts]
        arrays += [a for pair in result.parameters for record in pair for a in record.values()]
        for array in arrays:
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0


def test_parameters_that_are_not_those_of_the_fingerprint_are_not_stored(results, tmp_path):
    result = results["linear"]
    halved = [[{n: a * 0.5 for n, a in m.items()} for m in pair] for pair in result.parameters]
    with pytest.raises(ConfigError, match="not those of its fingerprint; give a result as"):
        store.save(replace(result, parameters=halved), tmp_path)
    assert os.listdir(tmp_path) == []
    store.save(result, tmp_path)


def test_the_provenance_is_that_of_the_result(results, tmp_path):
    elsewhere = replace(results["linear"], provenance={"host": "elsewhere"})
    assert store.load(store.save(elsewhere, tmp_path)).provenance == {"host": "elsewhere"}


def test_a_file_that_appears_meanwhile_is_not_replaced(results, tmp_path, monkeypatch):
    path = store.save(results["linear"], tmp_path)
    before = path.stat().st_ino
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # when it was looked for
    assert store.save(results["linear"], tmp_path) == path
    assert path.stat().st_ino == before


def test_all_may_read_the_file_and_nobody_may_write_it(stored):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(stored.stat().st_mode) == 0o444 & ~mask


def test_no_locks_are_needed(results, tmp_path):
    """What is written and read in a folder whose files another program has locked."""
    path = store.save(results["linear"], tmp_path)
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert same(store.load(path), results["linear"])
        assert store.save(results["linear"], tmp_path) == path
        assert same(store.find(tmp_path, results["linear"].config), results["linear"])


def test_a_file_under_another_runs_name_is_named_for_what_it_is(results, tmp_path):
    one, other = results["linear"], results["tower"]
    path = store.save(one, tmp_path)
    wrong = path.rename(store.path_of(other.config, tmp_path))
    assert same(store.load(wrong), one)
    assert store.find(tmp_path, one.config) is None
    assert same(store.check(wrong, one.config), one)
    for call in (
        lambda: store.find(tmp_path, other.config),
        lambda: store.check(wrong, other.config),
        lambda: store.save(other, tmp_path),
    ):
        with pytest.raises(ConfigError) as caught:
            call()
        assert f"holds run {one.config.id} (python -m nanorepro.run" in str(caught.value)
    assert same(store.load(wrong), one)


def test_a_broken_link_of_a_runs_name_is_said_to_be_one(results, tmp_path):
    path = store.path_of(results["linear"].config, tmp_path)
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="No such file or directory, a link"):
        store.save(results["linear"], tmp_path)
    assert os.listdir(tmp_path) == [path.name]


def with_config(stored, path, change):
    """A copy of the stored file whose configuration was changed."""
    path.write_bytes(stored.read_bytes()[: -hdf5.SEAL_BYTES])
    with h5py.File(path, "r+") as f:
        record = json.loads(f.attrs["config"])
        change(record)
        f.attrs["config"] = json.dumps(record)
    seal(path)


def test_a_file_of_fewer_fields_opens(stored, results, tmp_path):
    for name in ("unit_tree", "first_example", "epsilon_place", "warm_start"):
        with_config(stored, tmp_path / "older.h5", lambda record, name=name: record.pop(name))
        assert same(store.load(tmp_path / "older.h5"), results["tower"])


def test_a_file_of_unknown_fields_is_a_newer_versions(stored, tmp_path):
    with_config(stored, tmp_path / "newer.h5", lambda record: record.update(workers=4))
    with pytest.raises(ConfigError, match=r"workers are unknown: made by a newer version"):
        store.load(tmp_path / "newer.h5")


@pytest.mark.parametrize("name", CONFIGS)
def test_xarray_opens_it(name, results, tmp_path):
    result = results[name]
    path = store.save(result, tmp_path)
    with xarray.open_dataset(path, engine="h5netcdf") as found:
        assert found.attrs["fingerprint"] == result.fingerprint
        assert found["logits"].dims == ("pair", "model", "pattern")
        assert found["loss"].dims == ("checkpoint", "pair", "model")
        assert found["checkpoint"].values.tolist() == list(result.checkpoints)
        np.testing.assert_array_equal(found["pattern"], result.evaluation.x)
        mean = float(found["pd"].isel(checkpoint=-1).mean(skipna=False))
        if not result.diverged:
            assert mean == pytest.approx(result.relative_pd)
        for key, value in result.parameters[0][1].items():
            np.testing.assert_array_equal(found[key][0, 1], value)
    with xarray.open_dataset(path) as found:  # the engine xarray itself chooses
        assert "w0" in found


def test_truncated_files_are_refused(stored, tmp_path):
    whole = stored.read_bytes()
    path = tmp_path / "part.h5"
    for size in {0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 73, len(whole) - 1}:
        path.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"part\.h5"):
            store.load(path)


def test_too_little_memory_is_no_damage(stored, monkeypatch):
    def read(f):
        raise MemoryError

    monkeypatch.setattr(hdf5, "_read", read)
    with pytest.raises(MemoryError):
        store.load(stored)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bits_are_refused(stored, tmp_path, data):
    whole = bytearray(stored.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "flipped.h5"
    path.write_bytes(whole)
    with pytest.raises(ConfigError):
        store.load(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bits_under_a_fitting_seal_do_no_harm(stored, results, tmp_path, data):
    """Whoever repairs the seal gets an error or, where the bit means nothing here, a result."""
    whole = bytearray(stored.read_bytes()[: -hdf5.SEAL_BYTES])
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "forged.h5"
    path.write_bytes(whole)
    seal(path)
    with contextlib.suppress(ConfigError):
        assert_same_run(store.load(path), results["tower"])


def assert_same_run(found, expected):
    """The bits, and every field but those without effect, which no digest of the run is made of."""
    inert = without_effect(expected.config)
    for f in fields(Config):
        if f.name not in inert:
            assert getattr(found.config, f.name) == getattr(expected.config, f.name), f.name
    assert found.config.id == expected.config.id and found.fingerprint == expected.fingerprint


def test_a_field_without_effect_under_a_fitting_seal_is_the_same_run(stored, results, tmp_path):
    """Adam's beta2 of a run by AdaGrad: the digit of a forged file that names no other run."""
    whole = stored.read_bytes()[: -hdf5.SEAL_BYTES]
    assert whole.count(b'"beta2": 0.999') == 1
    path = tmp_path / "forged.h5"
    path.write_bytes(hdf5.sealed(whole.replace(b'"beta2": 0.999', b'"beta2": 0.998')))
    back = store.load(path)
    assert back.config != results["tower"].config
    assert_same_run(back, results["tower"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.__delitem__("w0"), "w0 is missing"),
        (lambda f: f["w0"].__setitem__((0, 0, 0, 0), 7.0), "not those of the fingerprint"),
        (lambda f: f["w0"].__setitem__((0, 0, 0, 0), np.nan), "model 0 of pair 0 has NaN"),
        (lambda f: f["logits"].__setitem__((1, 1, 0), np.inf), "model 1 of pair 1 has NaN"),
        (lambda f: f["pd"].__setitem__((0, 0), np.nan), "pd has NaN"),
        (lambda f: f["loss"].__setitem__((0, 0, 1), np.nan), "loss has NaN"),
        (lambda f: f["count"].__setitem__(0, -1), "counts"),
        (lambda f: f["stuck"].__setitem__((0, 0, 0), 2), "stuck is not 0 or 1"),
        (lambda f: f["log_odds"].__setitem__(0, np.nan), "log_odds has NaN"),
        (lambda f: f.attrs.__setitem__("format", "other"), "not a stored run"),
        (lambda f: f.attrs.__setitem__("contract", 0), "contract 0"),
        (lambda f: f.attrs.__setitem__("id", "0" * 16), "id is not"),
        (lambda f: f.attrs.__setitem__("config", "[]"), "config is not a record"),
        (lambda f: f.attrs.__setitem__("config", "{"), "JSONDecodeError"),
        (lambda f: f.attrs.__setitem__("config", '{"model": "x"}'), "model: 'x'"),
        (lambda f: f.attrs.__setitem__("config", '{"no": 1}'), "newer version"),
        (lambda f: f.attrs.__delitem__("fingerprint"), "not a stored run"),
    ],
)
def test_inconsistent_files_are_refused(stored, tmp_path, change, message):
    path = tmp_path / "changed.h5"
    path.write_bytes(stored.read_bytes()[: -hdf5.SEAL_BYTES])
    with h5py.File(path, "r+") as f:
        change(f)
    seal(path)
    with pytest.raises(ConfigError, match=message):
        store.load(path)


def replace_dataset(path: Path, name: str, **settings) -> None:
    with h5py.File(path, "r+") as f:
        del f[name]
        f.create_dataset(name, **settings)
    seal(path)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("w0", {"data": np.zeros((2, 2, 32, 15), "f4")}, "shape"),
        ("w0", {"data": np.zeros((2, 2, 32, 16), "f8")}, "type"),
        ("w0", {"data": np.zeros((2, 2, 32, 16), ">f4")}, "type"),
        ("w0", {"data": "text"}, "type"),
        ("w0", {"shape": (2, 2, 32, 16), "dtype": "f4", "chunks": True}, "not in the file"),
        ("w0", {"shape": (2, 2, 32, 16), "dtype": "f4", "external": "/etc/passwd"}, "w0"),
        ("pattern", {"shape": (1 << 40,), "dtype": "u4", "chunks": (1024,)}, "patterns"),
        ("pattern", {"shape": (), "dtype": "u4"}, "patterns"),
    ],
)
def test_datasets_that_are_not_what_they_must_be(stored, tmp_path, name, settings, message):
    path = tmp_path / "other.h5"
    path.write_bytes(stored.read_bytes()[: -hdf5.SEAL_BYTES])
    replace_dataset(path, name, **settings)
    with pytest.raises(ConfigError, match=message):
        store.load(path)


def test_links_out_of_the_file_are_not_followed(stored, tmp_path):
    path = tmp_path / "link.h5"
    path.write_bytes(stored.read_bytes()[: -hdf5.SEAL_BYTES])
    with h5py.File(path, "r+") as f:
        del f["w0"]
        f["w0"] = h5py.ExternalLink(str(stored), "w0")
    seal(path)
    with pytest.raises(ConfigError, match="w0 is missing"):
        store.load(path)


@pytest.mark.parametrize("name", ["absent.h5", ".", "a\0b", "x" * 5000, "/dev/zero", "pipe"])
def test_paths_that_are_no_files(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError) as caught:
        store.load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_library_that_is_not_there_is_said_to_be(monkeypatch):
    monkeypatch.setattr("nanorepro.results.provenance.LIBRARIES", ("numpy", "no-such-library"))
    found = provenance(Config())
    assert found["numpy"] == np.__version__ and found["no-such-library"] == "not installed"


def test_a_file_does_not_hold_when_it_was_written(stored):
    result = store.load(stored)
    first = hdf5.encode(result)
    time.sleep(1.1)  # HDF5's times are whole seconds
    assert hdf5.encode(result) == first
