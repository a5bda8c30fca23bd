"""The command line of sweeps: every mistake is one line, status 2, and nothing is written."""

import io
import re

import numpy as np
import pytest
from support.commands import refused

from nanorepro import ConfigError, open_results
from nanorepro.commands import sweep

FIXED = ["--grid", "model=linear", "--grid", "log2_examples=6", "--grid", "log2_eval=4",
         "--grid", "pairs=1"]  # fmt: skip


def command(capsys, *words):
    status = sweep.main(list(map(str, words)))
    return status, *capsys.readouterr()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "runs"
    words = [*FIXED, "--grid", "seed=0,1,2", "--backend", "reference", "--out", str(folder)]
    assert sweep.main([*words, "--threads", "1", "-q"]) == 0
    return folder


def test_a_sweep_says_what_it_made_and_goes_on(runs, capsys):
    words = [*FIXED, "--grid", "seed=0,1,2,0", "--backend", "reference", "--out", runs, "-q"]
    status, out, err = command(capsys, *words)
    assert (status, out) == (0, f"3 of 3 runs are finished in {runs}/, 0 of them new\n")
    assert "the same run twice, made once: seed=0 of --grid is seed=0 of --grid" in err


def test_a_plan_writes_nothing(runs, tmp_path, capsys):
    words = [*FIXED, "--grid", "seed=0,1,2,3,4", "--backend", "reference", "--plan"]
    status, out, _ = command(capsys, *words, "--out", tmp_path / "none")
    assert status == 0 and not (tmp_path / "none").exists()
    assert "5 runs, 0 finished, 5 to be made" in out and "10 models, 640 examples" in out
    assert re.search(
        r"about 0\.\d+ s on \d+ cores, the start of processes aside, 0\.\d+ MB in", out
    )
    before = sorted(runs.rglob("*"))
    status, out, _ = command(capsys, *words, "--out", runs)
    assert "5 runs, 3 finished, 2 to be made" in out and "MB in" in out
    assert sorted(runs.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no grid; give a file GRID.toml, or --grid FIELD=VALUE,VALUE"),
        (["none.toml"], "'none.toml': No such file or directory; give a grid file .toml"),
        (["--grid", "acct=relu"], "--grid: 'acct' is not a field of a run; did you mean act?"),
        (["--grid", "act=relu", "--threads", "0"], "--threads: '0' is not allowed"),
        (["--grid", "act=relu", "--backend", "numpy"], "--backend: 'numpy' is not allowed"),
        (["--grid", "act=relu", "--out", "/dev/null/x"], "--out: '/dev/null/x' is not a folder"),
        (["--grid", "seed=" + ",".join(map(str, range(400))), "--grid",
          "first_example=" + ",".join(map(str, range(400)))],
         "160,000 runs are more than 100,000; give --yes if they are meant"),
        (["--gird", "act=relu"], "did you mean --grid?"),
        (["status", "nowhere"], "'nowhere' is not a folder; give the folder of a sweep's runs"),
        (["replay", "abc", "--out", "."], "no run 'abc' in '.'; give its id"),
        (["table", ".", "--to", "x.xls"], "--to: 'x.xls' is not allowed; give a file name .csv"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("nanorepro.sweep: error: ") and line in err
    assert list(tmp_path.iterdir()) == []


def test_runs_that_start_where_stored_ones_ended(runs, tmp_path, capsys):
    from nanorepro import load
    from nanorepro.sweeps.folder import Folder

    first = {load(path).config.seed: path for path in runs.glob("*.h5")}
    folder = tmp_path / "next"
    fixed = [word for word in FIXED if "seed" not in word]
    words = [*fixed, "--grid", f"warm_start={first[0]}", "--grid", "lr=0.01,0.02", "--backend",
             "reference", "--threads", "1", "--out", folder, "-q"]  # fmt: skip
    status, out, err = command(capsys, *words)
    assert (status, err) == (0, "") and "2 of 2 runs are finished" in out
    for entry in Folder(folder).journal.read().values():
        assert entry.config["warm_start"] == load(first[0]).fingerprint
        assert entry.config["first_example"] == 64  # after those of the stored run
        assert entry.provenance["command"].endswith(f"--warm-start {first[0]}")
    # the same by its id, from the folder itself; the run can be replayed there
    words[words.index(f"warm_start={first[0]}")] = f"warm_start={first[0].stem[:8]}"
    words[words.index(folder)] = runs
    assert command(capsys, *words)[0] == 0
    ids = {entry.id for entry in Folder(folder).journal.read().values()}
    assert ids <= set(Folder(runs).journal.read())
    status, out, _ = command(capsys, "replay", min(ids), "--out", runs, "--backend", "reference",
                             "-q")  # fmt: skip
    assert status == 0 and "the same bits" in out
    for id in ids:  # as they were, for the tests that follow
        (runs / f"{id}.h5").unlink()
    (runs / "journal.jsonl").unlink()


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        (["warm_start=none.h5"], "warm_start: 'none.h5': No such file or directory"),
        (["warm_start=abc"], "warm_start: no run 'abc' in "),
        (["warm_start={file}", "hidden=4,4"], "model: tower with hidden layers [4] is not what is"),
        (["warm_start={file}", "model=linear", "seed=5", "init=ones"], "init: 'ones'"),
        (["warm_start={file}", "model=linear"], "seed: the run in "),
    ],
)
def test_a_warm_start_that_cannot_be_is_one_line(axes, line, runs, tmp_path, capsys):
    from nanorepro import load

    file = next(path for path in runs.glob("*.h5") if load(path).config.seed == 2)
    words = [word.replace("{file}", str(file)) for axis in axes for word in ("--grid", axis)]
    status, out, err = command(capsys, *words, "--out", tmp_path / "x")
    assert (status, out, err.count("\n")) == (2, "", 1) and line in err
    assert "run 1 of --grid" in err and not (tmp_path / "x").exists()


def test_a_run_that_starts_from_an_unfinished_one_of_its_grid_is_one_line(tmp_path, capsys):
    from nanorepro import Config

    first = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)
    grid, base = tmp_path / "grid.toml", 'model = "linear"\nlog2_examples = 6\nlog2_eval = 4\n'
    for word in (first.id, f"runs/{first.id}.h5"):
        grid.write_text(f'{base}pairs = 1\n[[run]]\nseed = 0\n[[run]]\nwarm_start = "{word}"\n')
        words = [grid, "--backend", "reference", "--threads", "1", "--out", tmp_path / "runs", "-q"]
        status, out, err = command(capsys, *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and not (tmp_path / "runs").exists()
        assert "run 1 of grid.toml [[run]] 2" in err
        assert f"warm_start: {first.id} is a run of this grid that is not finished" in err
    alone = tmp_path / "first.toml"
    alone.write_text(f"{base}pairs = 1\n")
    assert command(capsys, alone, *words[1:])[0] == 0
    grid.write_text(grid.read_text().replace("runs/", f"{tmp_path}/runs/"))
    status, out, _ = command(capsys, *words)
    assert status == 0 and "2 of 2 runs are finished" in out and " 1 of them new" in out


def test_status_verify_table_and_replay(runs, tmp_path, capsys):
    status, out, _ = command(capsys, "status", runs)
    assert status == 0 and "3 runs finished, 6 models" in out and "3 of 3 finished: python" in out
    status, out, _ = command(capsys, "verify", runs, "-q")
    assert (status, out) == (0, "3 files are sound, 0 bad, 0 lost\n")
    status, out, _ = command(capsys, "table", runs)
    assert status == 0 and out.startswith("id,seed,pair,pd,loss_0,loss_1") and out.count("\n") == 4
    status, csv, _ = command(capsys, "table", runs, "--to", tmp_path / "t.csv")
    assert status == 0 and (tmp_path / "t.csv").read_text() == out
    id = next(iter(runs.glob("*.h5"))).stem
    status, out, _ = command(capsys, "replay", id[:8], "--out", runs, "--backend", "reference",
                             "-q")  # fmt: skip
    assert status == 0 and out.startswith(f"{id}: the same bits, fingerprint ")


def test_verify_and_replay_tell_what_is_not_so(tmp_path, capsys):
    from dataclasses import replace

    from nanorepro import Config, simulate
    from nanorepro.results import store

    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)
    result = simulate(config, "reference", 1)
    changed = {**result.measures, "weight_distance": result.measures["weight_distance"] + 1.0}
    other = replace(result, measures=changed)
    path = store.save(other, tmp_path)
    status, out, _ = command(capsys, "replay", config.id, "--out", tmp_path, "--backend",
                             "reference", "-q")  # fmt: skip
    assert status == 1 and out == f"{config.id}: other bits than stored in weight_distance\n"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-5])
    status, out, _ = command(capsys, "verify", tmp_path, "-q")
    assert status == 1 and "0 files are sound, 1 bad, 0 lost" in out and not path.exists()


@pytest.mark.parametrize("damage", ["cut", "another run's", "a directory", "newer"])
def test_verify_checks_the_runs_in_the_middle(damage, tmp_path, capsys):
    import h5py

    from nanorepro import Config, initial_parameters
    from nanorepro.backends.protocols import Snapshot
    from nanorepro.model.optimizers import OPTIMIZERS
    from nanorepro.results import hdf5
    from nanorepro.training.checkpoints import Checkpoint

    configs = [Config(model="linear", log2_examples=6, pairs=1, seed=seed) for seed in (0, 1)]
    for config in configs:
        kept, start = Checkpoint(config, tmp_path), initial_parameters(config)
        kept.models[0, 0] = Snapshot(
            1, start, dict.fromkeys(OPTIMIZERS["adagrad"].state, start), np.zeros((0, 4), "f4")
        )
        assert kept.write()
    status, out, _ = command(capsys, "verify", tmp_path, "-q")
    assert status == 0 and out.endswith("\n2 checkpoints of runs in the middle are sound\n")
    path, other = (tmp_path / f"{config.id}.checkpoint" for config in configs)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    elif damage == "another run's":
        path.write_bytes(other.read_bytes())
    elif damage == "a directory":
        path.unlink()
        path.mkdir()
    else:
        buffer = io.BytesIO(hdf5.unsealed(path.read_bytes()))
        with h5py.File(buffer, "r+") as f:
            f.attrs["format"] = "nanorepro checkpoint 2"
        path.write_bytes(hdf5.sealed(buffer.getvalue()))
    status, out, _ = command(capsys, "verify", tmp_path, "-q")
    bad = damage != "newer"
    assert status == bad and f"{path}: " in out and path.exists() != bad and other.exists()
    assert out.endswith("\n1 checkpoint of a run in the middle is sound\n")
    assert (tmp_path / "damaged" / path.name).exists() == bad


def test_a_command_on_a_folder_that_is_misspelled_is_named(tmp_path):
    line = refused(sweep.main, "statu", "runs", folder=tmp_path)
    assert "'statu' is no file; did you mean status?" in line


def test_what_is_no_folder_of_runs_is_said_to_be_none(tmp_path):
    (tmp_path / "file.py").write_text("")
    with pytest.raises(ConfigError, match="folder: .*file.py' is no folder; give the folder"):
        open_results(tmp_path / "file.py")
