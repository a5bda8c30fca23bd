"""A finished training is not lost because something after it fails."""

import json
import os
import shutil
import tempfile

import matplotlib
import pytest
from support.commands import TINY, call, refused

from nanorepro import Config
from nanorepro.commands import figure, reveal, run
from nanorepro.commands.common import keep
from nanorepro.paper import report
from nanorepro.plots import overview, style, summation_tree
from nanorepro.results import files, store
from nanorepro.sweeps.work import NotStored, Settings, Task, make
from nanorepro.training.examples import with_content


def fails(*_, **__):
    raise RuntimeError("no font\nand more")


def test_a_picture_that_fails_is_one_line_and_the_run_is_said_to_be_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(overview, "overview", fails)
    status, said, warned = call(run.main, *TINY, "-q", "--out", str(tmp_path))
    (path,) = tmp_path.glob("*.h5")
    assert status == 1
    said = " ".join(said.split())
    assert f"stored {path} " in said and "picture none " in said
    assert warned == (
        "nanorepro.run: error: the picture could not be drawn: RuntimeError: no font ...\n"
    )
    status, said, _ = call(run.main, *TINY, "--json", "--out", str(tmp_path))
    found = json.loads(said)
    assert (status, found["stored"], found["picture"]) == (1, str(path), None)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), store.Conflict("other"), MemoryError()]
)
def test_a_run_that_cannot_be_stored_is_still_shown(error, tmp_path, monkeypatch):
    def refuses(*_):
        raise error

    monkeypatch.setattr(store, "save", refuses)
    status, said, warned = call(run.main, *TINY, "-q", "--out", str(tmp_path))
    assert status == 1
    assert (
        "fingerprint" in said and "relative PD" in said and "stored none " in " ".join(said.split())
    )
    assert warned.count("\n") == 1 and "could not be stored" in warned
    status, said, _ = call(run.main, *TINY, "-q", "--json", "--out", str(tmp_path))
    found = json.loads(said)
    assert (status, found["stored"], found["picture"]) == (1, None, None)
    assert len(found["fingerprint"]) == 64
    assert os.listdir(tmp_path) == []


@pytest.fixture
def disks(tmp_path, monkeypatch):
    """A folder in which nothing can be written, and the system's temporary one."""
    full, free = tmp_path / "full", tmp_path / "free"
    free.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(free))

    def refusing(write):
        def refuses(path, data):
            if path.is_relative_to(full):
                raise files.NotWritten(path, OSError(28, "No space left on device"))
            write(path, data)

        return refuses

    for module, name in ((store, "write_new"), (files, "replace_file")):
        monkeypatch.setattr(module, name, refusing(getattr(module, name)))
    return full, free


def test_a_run_whose_folder_refuses_it_is_kept_in_the_temporary_one(disks):
    full, free = disks
    status, said, warned = call(run.main, *TINY, "-q", "--json", "--out", str(full))
    found = json.loads(said)
    (kept,) = free.glob("nanorepro-*/*.h5")
    assert (status, found["stored"], found["picture"]) == (1, str(kept), None)
    assert "no space is left on the disk" in warned
    assert warned.endswith(f"; it is kept as {str(kept)!r}\n")
    assert store.load(kept).fingerprint == found["fingerprint"]
    shutil.rmtree(kept.parent)

    task = Task(Config(**found["config"]))
    with pytest.raises(NotStored, match="could not be stored: .*; it is kept as .*; its finger"):
        make(task, Settings(str(full)), "numba", 1, lambda done, total: None)
    (kept,) = free.glob("nanorepro-*/*.h5")
    assert store.load(kept).fingerprint == found["fingerprint"]


def test_the_loss_of_a_run_that_is_not_stored_is_that_which_was_measured(disks, tmp_path):
    full, _ = disks
    path = tmp_path / "a.csv"
    rows = [f"{k % 2},{k % 3 % 2},{k % 2}" for k in range(60)]
    path.write_text("\n".join(["a,b,y", *rows]) + "\n")
    config, _ = with_content(Config(model="linear", data=f"file:{path}", pairs=1, batch=4))
    with pytest.raises(NotStored, match=r"its log loss 0\.\d+; again"):
        make(Task(config), Settings(str(full)), "reference", 1, lambda done, total: None)


def test_numbers_that_their_folder_refuses_are_kept_in_the_temporary_one(disks):
    full, free = disks
    found, problems = keep(full / "a.json", {"pd": 0.5}, lambda: None)
    (kept,) = free.glob("nanorepro-*/a.json")
    assert found == {"stored": str(kept), "picture": None}
    assert json.loads(kept.read_text()) == {"pd": 0.5}
    assert problems[0].endswith(f"; they are kept as {str(kept)!r}")
    assert "the picture could not be drawn" in problems[1]


def test_an_interruption_while_drawing_says_what_is_stored(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(overview, "overview", interrupted)
    status, _, warned = call(run.main, *TINY, "-q", "--out", str(tmp_path))
    (path,) = tmp_path.glob("*.h5")
    assert status == 130
    assert f"the run is stored as {path}" in warned


def test_a_figure_whose_picture_fails_has_its_numbers_and_its_page(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "file_of", fails)
    page = tmp_path / "p.md"
    words = ["4", "--scale", "smoke", "-q", "--out", str(tmp_path), "--report", str(page)]
    status, said, warned = call(figure.main, *words)
    assert status == 1
    assert sorted(os.listdir(tmp_path / "p")) == [
        "figure4-T10-2pairs.csv", "figure4.csv", "figure4.json",
    ]  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert "## Figure 4" in text and "The picture could not be drawn." in text
    assert ".png" not in text
    assert "weight differences" in said
    assert warned.count("\n") == 1 and "the picture could not be drawn" in warned
    # of its files none is named where none is written
    monkeypatch.undo()
    monkeypatch.setattr(report, "write", fails)
    status, said, warned = call(figure.main, *words[:-2])
    assert status == 1 and "not written" in said and ".csv" not in said
    assert warned.count("\n") == 1 and "figure 4 could not be written" in warned


def test_a_figure_whose_run_cannot_be_stored_says_what_was_measured(tmp_path, monkeypatch):
    def refuses(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(store, "save", refuses)
    status, _, warned = call(
        figure.main, "4", "--scale", "smoke", "-q", "--out", str(tmp_path), "--threads", "1"
    )
    assert (status, warned.count("\n")) == (1, 1)
    for word in ("Read-only file system", "fingerprint", "relative PD", "again: python -m"):
        assert word in warned


def test_reveal_whose_picture_fails_prints_the_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(summation_tree, "summation_tree", fails)
    words = ["numpy:sum", "--terms", "4", "--picture", str(tmp_path / "a.png")]
    status, said, warned = call(reveal.main, *words)
    assert status == 1
    assert "(((0 + 1) + 2) + 3)" in said
    assert warned.count("\n") == 1 and "the picture could not be drawn" in warned
    assert os.listdir(tmp_path) == []


def test_the_users_matplotlib_settings_change_no_picture(tmp_path, monkeypatch):
    words = [*TINY, "-q", "--out"]
    assert call(run.main, *words, str(tmp_path / "a"))[0] == 0
    theirs = {"text.usetex": True, "savefig.bbox": "tight", "lines.color": "red", "figure.dpi": 7,
              "font.family": ["No Such Font"], "axes.facecolor": "red", "savefig.transparent": True,
              "path.sketch": (1.0, 2.0, 3.0), "mathtext.default": "tt"}  # fmt: skip
    with matplotlib.rc_context(theirs):
        before = dict(matplotlib.rcParams)
        assert call(run.main, *words, str(tmp_path / "b"))[0] == 0
        assert dict(matplotlib.rcParams) == before
    (one,), (other,) = (list((tmp_path / k).glob("*.png")) for k in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_a_run_under_another_runs_name_is_refused_before_training(tmp_path, monkeypatch):
    assert call(run.main, *TINY, "-q", "--out", str(tmp_path))[0] == 0
    (first,) = tmp_path.glob("*.h5")
    assert call(run.main, *TINY, "--seed", "1", "-q", "--out", str(tmp_path))[0] == 0
    (second,) = set(tmp_path.glob("*.h5")) - {first}
    first.unlink()
    shutil.copy(second, first)
    monkeypatch.setattr(run, "train", fails)
    line = refused(run.main, *TINY, "--out", str(tmp_path), folder=tmp_path)
    assert first.stem in line and second.stem in line


def test_a_figures_run_under_another_runs_name_is_refused(tmp_path):
    words = ["4", "--scale", "smoke", "-q", "--out", str(tmp_path)]
    assert call(figure.main, *words)[0] == 0
    first, second = sorted(tmp_path.glob("*.h5"))[:2]
    first.unlink()
    shutil.copy(second, first)
    line = refused(figure.main, *words, folder=tmp_path)
    assert first.stem in line and second.stem in line
