"""Files that several processes read are found to be the same as by one, whatever becomes of it."""

import io
from dataclasses import replace

import h5py
import pytest

from nanorepro import Config, simulate
from nanorepro.results import hdf5
from nanorepro.sweeps import journal, reading
from nanorepro.sweeps.folder import Folder

CONFIG = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)


@pytest.fixture(scope="module")
def content():
    """Files of a folder by name: eight sound ones, and one of each kind that is not."""
    result, found = simulate(CONFIG, "reference", 1), {}
    for seed in range(8):
        of = replace(result, config=replace(CONFIG, seed=seed))
        found[f"{of.config.id}.h5"] = hdf5.encode(of)
    first, second, *_ = found.values()
    found["0123456789abcdef.h5"] = first
    found["fedcba9876543210.h5"] = second[:-3]
    buffer = io.BytesIO(hdf5.unsealed(first))
    with h5py.File(buffer, "r+") as f:
        f.attrs["format"] = "nanorepro result 2"
    found["00000000aaaaaaaa.h5"] = hdf5.sealed(buffer.getvalue())
    return found


def looked(folder, content, full=False):
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(data)
    found = Folder(folder)
    damaged = found.look(full=full)
    entries = {id: replace(entry, modified=0) for id, entry in found.entries.items()}
    bad = {one.path.name: one.reason for one in damaged}
    return entries, bad, {one.path.name: one.reason for one in found.others}


@pytest.fixture
def many(monkeypatch):
    """Three processes read, which are counted."""
    started = []
    monkeypatch.setattr(reading, "MANY", 2)
    monkeypatch.setattr(reading, "usable_cpus", lambda: 3)
    popen = reading.subprocess.Popen

    def start(*words, **options):
        started.append(popen(*words, **options))
        return started[-1]

    monkeypatch.setattr(reading.subprocess, "Popen", start)
    return started


def test_several_processes_find_what_one_finds(content, many, tmp_path, monkeypatch):
    several = looked(tmp_path / "several", content)
    assert len(many) == 3 and all(process.poll() is not None for process in many)
    assert journal.read(tmp_path / "several").keys() == several[0].keys()
    monkeypatch.setattr(reading, "MANY", 10**6)
    assert looked(tmp_path / "one", content) == several and len(many) == 3
    entries, bad, others = several
    assert (len(entries), len(bad), len(others)) == (8, 2, 1)
    # with a journal only what it does not know is read, unless all is to be
    monkeypatch.setattr(reading, "MANY", 2)
    assert looked(tmp_path / "several", content, full=True) == several and len(many) == 6


@pytest.mark.parametrize("words", ["raise SystemExit", "print('no line of a journal')"])
def test_a_process_that_ends_or_says_something_else_costs_nothing(
    words, content, many, tmp_path, monkeypatch
):
    start = reading.subprocess.Popen
    monkeypatch.setattr(
        reading.subprocess, "Popen", lambda of, **more: start([of[0], "-c", words], **more)
    )
    several = looked(tmp_path / "several", content)
    monkeypatch.undo()
    assert several == looked(tmp_path / "one", content) and len(several[0]) == 8
