"""Pairs that `diverge` measured are kept, found again, and never taken for others."""

import errno
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.commands import call
from support.slow import slow_after

from nanorepro import Config, ConfigError, diverge
from nanorepro.analysis import divergence
from nanorepro.analysis.divergence import PairDivergence
from nanorepro.analysis.parting import Branch, LossParting, Parting, Weight
from nanorepro.commands import diverge as command
from nanorepro.sweeps import journal
from nanorepro.sweeps.diverging import KeptPairs, pair_of, record_of

SMALL = Config(hidden="4", log2_examples=9, log2_eval=5, pairs=3, batch=16, act="relu",
               differ="nudge", nudge_at=3)  # fmt: skip


@pytest.fixture
def trained(monkeypatch):
    """The pairs that are trained, in their order; those of `stops` fail."""
    pair = divergence._Work.pair

    def counted(work, k):
        if k in found.stops:
            raise RuntimeError("killed")
        found.append(k)
        return pair(work, k)

    class Trained(list):
        stops = ()

    found = Trained()
    monkeypatch.setattr(divergence._Work, "pair", counted)
    return found


def look(folder, config=SMALL, **options):
    return diverge(config, "reference", 1, folder=folder, **options)


def same(one, other):
    return repr(one.as_record()) == repr(other.as_record())


def test_the_command_names_what_is_not_at_its_default():
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)
    found = diverge(config, backend="reference", per_octave=1, threshold=0.5)
    assert found.command.endswith("--threshold 0.5 --per-octave 1")
    assert found.per_octave == 1 and "--per-octave" not in replace(found, per_octave=4).command
    given = diverge(Config(model="linear", epochs=4, batch=4, pairs=1), backend="reference",
                    data=(np.eye(8, dtype=int), [0, 1] * 4))  # fmt: skip
    assert given.command.startswith("diverge(Config(") and "data=...)" in given.command


def test_a_second_call_trains_nothing_and_says_the_same(tmp_path, trained):
    first, plain = look(tmp_path), diverge(SMALL, "reference", 1)
    assert trained == [0, 1, 2, 0, 1, 2]
    seen = []
    assert same(look(tmp_path, progress=lambda *n: seen.append(n)), first) and same(first, plain)
    assert look(tmp_path, threshold=0.5).threshold == 0.5  # of what was measured already
    assert len(trained) == 6 and not seen


def test_what_was_interrupted_goes_on(tmp_path, trained):
    trained.stops = {2}
    with pytest.raises(RuntimeError):
        look(tmp_path)
    trained.stops = ()
    seen = []
    found = look(tmp_path, progress=lambda *n: seen.append(n))
    assert trained == [0, 1, 2] and same(found, diverge(SMALL, "reference", 1))
    assert 2 / 3 < seen[0][0] / seen[0][1] < 1.0 and {total for _, total in seen} == {seen[0][1]}


def test_more_pairs_and_fewer_use_those_that_are_there(tmp_path, trained):
    look(tmp_path, replace(SMALL, pairs=2))
    look(tmp_path, SMALL)
    assert trained == [0, 1, 2]
    assert len(look(tmp_path, replace(SMALL, pairs=1)).pairs) == 1 and len(trained) == 3


def test_of_examples_that_pairs_divide_the_number_of_pairs_matters(tmp_path, trained):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 2, (60, 4)), rng.integers(0, 2, 60)
    config = Config(hidden="3", pairs=2, batch=4, epochs=2, pair_examples="split")
    look(tmp_path, config, data=data)
    look(tmp_path, replace(config, pairs=3), data=data)
    assert trained == [0, 1, 0, 1, 2]
    look(tmp_path, config, data=(data[0], 1 - data[1]))  # others of the same size
    assert len(trained) == 7


@pytest.mark.parametrize(
    "change", slow_after(1, [{"per_octave": 2}, {"config": replace(SMALL, nudge_at=4)}])
)
def test_another_question_is_another_measurement(change, tmp_path, trained):
    look(tmp_path)
    look(tmp_path, **change)
    assert trained == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("damage", ["torn", "changed"])
def test_a_line_that_is_not_whole_is_measured_again(damage, tmp_path, trained):
    first = look(tmp_path)
    [file] = (tmp_path / "diverge").iterdir()
    lines = file.read_text().splitlines(keepends=True)
    lines[1] = (
        lines[1][:-40] + "\n" if damage == "torn" else lines[1].replace('"pd": [0', '"pd": [1')
    )
    file.write_text("".join(lines))
    assert same(look(tmp_path), first)
    assert trained == [0, 1, 2, 1]


def test_the_same_pair_with_other_numbers_is_a_finding(tmp_path):
    found = look(tmp_path)
    kept = KeptPairs(tmp_path, SMALL, 4)
    kept.append(found.pairs[1], "numba")  # twice the same
    assert len(kept.read(found.steps)) == 3
    kept.append(replace(found.pairs[1], pd=found.pairs[0].pd + 1.0), "numba")
    with pytest.raises(ConfigError, match="it has pair 1 twice, with other numbers"):
        look(tmp_path)


def test_numbers_that_are_not_finite_come_back():
    pair = PairDivergence(
        3,
        Parting(7, 2, {"w0": 2}, Weight("w0", (1, 2), (math.inf, 1.5), 4, None)),
        Branch(8, 99, 0, 1, (-0.0, math.nan), 5),
        LossParting(9, (math.nan, 0.25)),
        np.array([0.0, math.inf]),
        np.array([math.nan, 1e-300]),
        np.array([[0.1, math.nan], [-math.inf, 0.3]]),
    )
    line = json.loads(journal.sealed({"measured": record_of(pair)}), parse_constant=pytest.fail)
    assert repr(pair_of(line["measured"])) == repr(pair)


def test_a_folder_that_cannot_be_read_is_refused_before_training(tmp_path, trained):
    (tmp_path / "diverge").write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="jsonl': Not a directory; give a folder of runs"):
        look(tmp_path)
    assert not trained


def test_what_cannot_be_kept_is_said_and_not_lost(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal, "append", full)
    said = []
    found = look(tmp_path, say=said.append)
    assert len(found.pairs) == 3 and len(said) == 3
    assert (
        said[0].startswith("pair 0 could not be kept: ")
        and "no space is left on the disk" in said[0]
    )
    with pytest.warns(UserWarning, match="could not be kept"):
        look(tmp_path)
    words = ["--log2-examples", "7", "--log2-eval", "4", "--pairs", "2", "--hidden", "3", "-q"]
    status, out, err = call(command.main, *words, "--backend", "reference", "--out", str(tmp_path))
    assert status == 1 and "part after" in out and err.count("could not be kept") == 1


def test_the_command_goes_on(tmp_path, trained):
    words = ["--log2-examples", "7", "--log2-eval", "4", "--hidden", "3", "-q", "--json"]
    words += ["--backend", "reference", "--out", str(tmp_path), "--by", "act=relu,swish"]
    one = json.loads(call(command.main, *words, "--pairs", "1")[1])
    two = json.loads(call(command.main, *words, "--pairs", "2")[1])
    assert trained == [0, 0, 1, 1]
    again = json.loads(call(command.main, *words, "--pairs", "2")[1])
    assert again["divergences"] == two["divergences"] and len(trained) == 4
    assert one["divergences"][0]["pairs"] == two["divergences"][0]["pairs"][:1]
