"""What else a folder of runs may hold, and what its file system may refuse: nothing is lost."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.commands import call

from nanorepro import Config, open_results, simulate
from nanorepro.commands import sweep as command
from nanorepro.results import files, hdf5, store
from nanorepro.sweeps import journal
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.runner import sweep
from nanorepro.sweeps.work import Settings, Task

BASE = {"model": "linear", "log2_examples": 6, "log2_eval": 4, "pairs": 1}
CONFIGS = [Config(**BASE, seed=seed) for seed in range(3)]
FOREIGN = "0123456789abcdef"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for config in CONFIGS:
        Folder(folder).publish(simulate(config, "reference", 1))
    return folder


@pytest.fixture
def runs(made, tmp_path):
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def words(folder, seeds=3, **more):
    fixed = {**BASE, "seed": ",".join(map(str, range(seeds))), **more}
    grid = [f"--grid={k}={v}" for k, v in fixed.items()]
    return [*grid, "--backend", "reference", "--threads", "1", "--out", str(folder), "-q"]


def foreign(kind, folder):
    path = folder / f"{FOREIGN}.h5"
    if kind == "link":
        path.symlink_to("/nowhere")
    elif kind == "directory":
        path.mkdir()
        (path / "inside").write_text("a letter")
    elif kind == "text":
        path.write_text("a letter")
    elif kind == "renamed":
        path.write_bytes((folder / f"{CONFIGS[0].id}.h5").read_bytes())
    (folder / "notes.txt").write_text("a letter")
    return path


@pytest.mark.parametrize("kind", ["link", "directory", "text", "renamed"])
def test_what_is_no_run_hides_none_and_is_named(kind, runs, capsys):
    path = foreign(kind, runs)
    folder = Folder(runs)
    (damaged,) = folder.look()
    assert damaged.path == path and set(folder.entries) == {c.id for c in CONFIGS}
    status, out, err = call(command.main, "table", str(runs))
    assert status == 0 and out.count("\n") == len(CONFIGS) + 1
    assert err.count("\n") == 1 and f"left out: {path}: " in err
    with pytest.warns(UserWarning, match="left out"):
        assert open_results(runs).sizes["seed"] == len(CONFIGS)
    status, out, err = call(command.main, *words(runs))
    assert (status, err) == (0, "") and "3 of 3 runs are finished" in out and " 0 of them" in out
    assert os.path.lexists(path) and (runs / "notes.txt").exists()
    status, out, _ = call(command.main, "verify", str(runs), "-q")
    assert status == 1 and "3 files are sound, 1 bad, 0 lost" in out
    assert os.path.lexists(runs / "damaged" / path.name) and not os.path.lexists(path)


def test_a_file_in_the_place_of_a_run_is_kept_aside(runs):
    config = Config(**BASE, seed=3)
    (runs / f"{config.id}.h5").symlink_to("/nowhere")
    status, out, err = call(command.main, *words(runs, seeds=4))
    assert status == 0 and "4 of 4 runs are finished" in out and " 1 of them new" in out
    assert err.count("\n") == 1 and "its run is made again" in err
    assert os.path.lexists(runs / "damaged" / f"{config.id}.h5")
    assert store.load(runs / f"{config.id}.h5").config == config


def snapshot(folder):
    return {p: (p.read_bytes() if p.is_file() else None) for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("what", ["journal", "file", "a directory"])
def test_another_version_and_what_cannot_be_read_change_nothing(what, runs):
    if what == "journal":
        record = journal.sealed({"version": journal.VERSION + 1, "id": CONFIGS[0].id})
        journal.append(runs / journal.NAME, record)
    elif what == "file":
        import io

        import h5py

        path = runs / f"{CONFIGS[0].id}.h5"
        buffer = io.BytesIO(hdf5.unsealed(path.read_bytes()))
        with h5py.File(buffer, "r+") as f:
            f.attrs["format"] = "nanorepro result 2"
        path.chmod(0o644)
        path.write_bytes(hdf5.sealed(buffer.getvalue()))
        (runs / journal.NAME).unlink()
    else:
        (runs / journal.NAME).unlink()
        (runs / journal.NAME).mkdir()
    before = snapshot(runs)
    status, out, err = call(command.main, *words(runs, seeds=4))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert "version" in err or "journal.jsonl': Is a directory; move it away" in err
    if what != "file":
        assert snapshot(runs) == before
    else:  # the journal was gone, and may be made again
        assert {p: d for p, d in snapshot(runs).items() if p.suffix == ".h5"} == {
            p: d for p, d in before.items() if p.suffix == ".h5"
        }
        status, out, err = call(command.main, "table", str(runs))
        assert status == 0 and out.count("\n") == len(CONFIGS) and "another version" in err


@pytest.mark.parametrize("journalled", [False, True], ids=["read", "digested"])
@pytest.mark.parametrize("reason", ["EACCES", "EMFILE", "EIO"])
def test_a_file_that_the_system_does_not_read_stays_where_it_is(
    reason, journalled, runs, monkeypatch
):
    path = runs / f"{CONFIGS[0].id}.h5"
    if journalled:
        os.utime(path, ns=(0, 0))  # so that its digest is compared with the journal's
    else:
        (runs / journal.NAME).unlink()
    number = getattr(errno, reason)

    def refusing(read):
        def reads(where, *rest):
            if Path(where) == path:
                raise OSError(number, os.strerror(number))
            return read(where, *rest)

        return reads

    monkeypatch.setattr(store, "read_file", refusing(store.read_file))
    monkeypatch.setattr(journal, "open", refusing(open), raising=False)
    there = sorted(runs.glob("*.h5"))
    status, out, err = call(command.main, *words(runs, seeds=4))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert f"{str(path)!r}: {os.strerror(number)}" in err
    for name in ("status", "verify"):
        status, out, err = call(command.main, name, "-q", str(runs))
        assert f"left as it is: {path}: {os.strerror(number)}" in out, (out, err)
    assert sorted(runs.rglob("*.h5")) == there
    monkeypatch.undo()
    assert call(command.main, *words(runs))[0] == 0
    assert sorted(runs.rglob("*.h5")) == there


def test_what_cannot_be_moved_aside_is_told_and_the_rest_is_checked(runs, monkeypatch):
    path = runs / f"{CONFIGS[0].id}.h5"
    path.chmod(0o644)
    path.write_bytes(b"torn")

    def refusing(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files, "set_aside", refusing)
    status, out, err = call(command.main, "verify", "-q", str(runs))
    assert (status, err) == (1, "") and f"bad: {path}: " in out
    assert f"cannot be moved aside ({os.strerror(errno.EROFS)})\n" in out
    assert "2 files are sound, 1 bad, 0 lost" in out and path.exists()


@pytest.mark.parametrize("given", [["--out", "here"], ["--out=here"], []], ids=str)
def test_a_folder_that_was_moved_is_named_in_the_command_that_goes_on(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Path("here" if given else "runs")
    command = " ".join(["python -m nanorepro.sweep grid.toml", *given])
    Folder(first).remember(command, CONFIGS)
    assert [s["command"] for s in Folder(first).sweeps()] == [command]
    first.rename("a moved one")
    (moved,) = (s["command"] for s in Folder("a moved one").sweeps())
    assert moved == "python -m nanorepro.sweep grid.toml --out 'a moved one'"


@pytest.mark.parametrize("name", ["leases", "sweeps"])
def test_a_file_where_a_folder_should_be_is_one_line(name, runs):
    (runs / name).write_text("a letter")
    status, out, err = call(command.main, *words(runs, seeds=4))
    assert (status, out) == (1, "")
    assert err.splitlines()[0].endswith("3 of 4 runs are finished; the same command goes on")
    assert f"{str(runs / name)!r}: File exists" in err and err.count("\n") == 2
    assert (runs / name).read_text() == "a letter"


# --- a file system that refuses ----------------------------------------------


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small file system in memory, of so many KB; only root may."""
    places = []

    def mount(kilobytes):
        place = tmp_path / "disk"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("a file system can be mounted by root only")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_is_one_line_and_the_same_command_goes_on(mounted):
    disk = mounted(160)
    given = words(disk / "runs", seeds=12)
    status, out, err = call(command.main, *given)
    assert (status, out) == (1, "")
    first, second = err.splitlines()
    finished = {path.stem for path in (disk / "runs").glob("*.h5")}
    assert f"{len(finished)} of 12 runs are finished; the same command goes on" in first
    assert "no space is left on the disk" in second or "No space left" in second
    for path in (disk / "runs").glob("*.h5"):
        store.load(path)
    subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
    begun = [path.stem for path in (disk / "runs").glob("*.checkpoint")]
    status, out, err = call(command.main, *given)
    assert status == 0 and f"{12 - len(finished)} of them new" in out
    assert len(err.splitlines()) == len(begun)  # each goes on from where it was
    for name in begun:
        assert f"run {name}: goes on from " in err


def test_a_folder_that_can_only_be_read_is_read(mounted, made):
    disk = mounted(1024)
    shutil.copytree(made, disk / "runs")
    (disk / "runs" / journal.NAME).unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for name in ("status", "table"):
        status, out, err = call(command.main, name, str(disk / "runs"))
        assert (status, err) == (0, "") and out
    assert open_results(disk / "runs").sizes["seed"] == len(CONFIGS)
    status, out, err = call(command.main, *words(disk / "runs", seeds=4))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "is not a folder to write in (Read-only file system)" in err


ORIGIN = {"command", "nanorepro", "python", "numpy", "numba", "h5py", "system", "cpu", "host",
          "threads", "engine", "source", "started", "ended"}  # fmt: skip


def test_every_result_says_where_it_comes_from(tmp_path):
    plain = simulate(CONFIGS[0], "reference", 1)
    assert set(plain.provenance) >= ORIGIN and plain.provenance["engine"] == "one process"
    settings = Settings(str(tmp_path), "reference", "python -m nanorepro.sweep grid.toml")
    sweep([Task(CONFIGS[0])], Folder(tmp_path), settings, 1)
    stored = store.load(tmp_path / f"{CONFIGS[0].id}.h5")
    assert set(stored.provenance) >= ORIGIN | {"sweep"}
    assert stored.provenance["engine"] == "local, 1 process"
    assert stored.provenance["sweep"] == settings.sweep
    assert stored == plain


@pytest.mark.parametrize("full", [False, True])
def test_files_of_another_time_are_digested_once(full, runs, monkeypatch):
    for path in runs.glob("*.h5"):
        os.utime(path, ns=(1, 1))
    assert Folder(runs).look(full=full) == []
    monkeypatch.setattr(journal, "digest", lambda path: pytest.fail(f"{path} is read again"))
    folder = Folder(runs)
    assert folder.look() == [] and folder.entries.keys() == {c.id for c in CONFIGS}
    assert {entry.modified for entry in folder.entries.values()} == {1}
