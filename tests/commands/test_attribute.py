"""python -m nanorepro.attribute, as people type it."""

import json
from pathlib import Path

import pytest
from support.commands import call, refused

from nanorepro.commands import attribute
from nanorepro.sweeps import attributing
from nanorepro.sweeps.folder import Failure
from nanorepro.sweeps.runner import Outcome

SMALL = ("--hidden", "4,4", "--log2-examples", "6", "--log2-eval", "4", "--pairs", "2", "-q")
REFERENCE = ("--backend", "reference", "--threads", "1")


def test_a_table_the_numbers_a_picture_and_runs_that_are_there_are_not_made_again(tmp_path):
    words = (*SMALL, *REFERENCE, "--out", str(tmp_path))
    status, out, err = call(attribute.main, *words, "--differ", "init,order")
    assert (status, err) == (0, "")
    assert "share of log PD" in out and "changes no bit" in out
    assert "again    python -m nanorepro.attribute" in out
    [numbers] = tmp_path.glob("*.json")
    [picture] = tmp_path.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    record = json.loads(numbers.read_text(), parse_constant=pytest.fail)
    assert [e["source"] for e in record["effects"]] == record["sources"] == ["init", "order"]
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")}
    assert len(runs) == 2  # init or not; order changes no bit
    status, out, _ = call(attribute.main, *words, "--differ", "init,shuffle", "--json")
    record = json.loads(out, parse_constant=pytest.fail)
    assert status == 0 and record["sources"] == ["init", "shuffle"] and record["sums"] is None
    assert json.loads(Path(record["stored"]).read_text()) == {
        k: v for k, v in record.items() if k not in ("stored", "picture")
    }
    assert len([*tmp_path.glob("*.h5")]) == 4
    assert runs.items() <= {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.h5")}.items()


def test_a_run_that_fails_ends_it_with_its_reason_and_how_to_go_on(tmp_path, monkeypatch):
    def fails(tasks, *rest, **words):
        task = tasks[0]
        return Outcome(0, 0, [Failure(task.config.id, {}, "out of memory", 3, "now")], [], [])

    monkeypatch.setattr(attributing, "sweep", fails)
    status, out, err = call(attribute.main, *SMALL, "--differ", "init", "--out", str(tmp_path))
    assert (status, out) == (1, "")
    assert "to go on: python -m nanorepro.attribute" in err
    assert "error: 1 of 2 runs failed" in err and "out of memory" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--floor", "0"], "--floor: '0' is not allowed; give a number above 0 and below 1"),
        (["--differ", "none"], "--differ: the models of a pair differ in nothing"),
        (["--differ", "int"], "--differ: 'int' is not allowed"),
        (["--backend", "gpu"], "--backend: 'gpu' is not allowed"),
        (["--differ", "nudge", "--nudge-at", "99"], "--nudge-at: 99 is not allowed"),
        (["--tree", "chain,pairwise,lanes:8"], "--tree: 'chain,pairwise,lanes:8' is not allowed"),
        (["--accumulator-at", "9:batch=exact"], "--accumulator-at: '9:batch=exact' is not allowed"),
        (["--warm-start", "x"], "'--warm-start' is not an option"),
        (["--log2-window", "30"], "--log2-window: 30 is not allowed"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_nothing_is_written(words, said, tmp_path):
    words = [*words, "--out", str(tmp_path / "out")]
    assert said in refused(attribute.main, *SMALL, *words, folder=tmp_path)


def test_help_says_what_a_source_is():
    status, out, _ = call(attribute.main, "--help")
    assert status == 0
    for words in ("--floor", "--sums", "--differ", "Shapley value", "two values a,b", "default"):
        assert words in out
