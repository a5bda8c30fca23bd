"""The journal: lines that were torn or changed are passed over, whole ones read as they were."""

import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanorepro import Config, simulate
from nanorepro.errors import ConfigError
from nanorepro.results import store
from nanorepro.sweeps import journal

CONFIG = Config(model="linear", log2_examples=6, log2_eval=4, pairs=2)


@pytest.fixture(scope="module")
def entry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    result = simulate(CONFIG, "reference", 1)
    return journal.entry(result, store.save(result, folder))


def test_a_line_says_what_the_run_gave(entry, tmp_path):
    journal.append(tmp_path / journal.NAME, journal.line(entry))
    found = journal.read(tmp_path)
    assert found == {CONFIG.id: entry}
    assert found[CONFIG.id].of == CONFIG
    assert set(entry.measures) >= {"pd", "loss", "churn", "stuck", "weight_distance"}
    assert len(entry.measures["pd"]) == 2 and len(entry.measures["loss"][0]) == 2
    text = (tmp_path / journal.NAME).read_text()
    assert text.count("\n") == 1 and json.loads(text)["sha256"] == entry.sha256


@given(st.data())
def test_a_line_that_was_cut_or_changed_is_no_line(entry, data):
    text = journal.line(entry)
    assert journal.unsealed(text) is not None
    cut = data.draw(st.integers(0, len(text) - 1))
    assert journal.unsealed(text[:cut]) is None
    other = data.draw(st.sampled_from('01x"}{, '))
    changed = text[:cut] + other + text[cut + 1 :]
    assert journal.unsealed(changed) is None or changed == text


def test_a_torn_line_harms_no_other(entry, tmp_path):
    path, text = tmp_path / journal.NAME, journal.line(entry)
    journal.append(path, text)
    os.truncate(path, path.stat().st_size - 30)
    assert journal.read(tmp_path) == {}
    journal.append(path, text)
    with open(path, "ab") as f:
        f.write(b"\xff\x00 not text")
    assert journal.read(tmp_path) == {CONFIG.id: entry}


def test_what_is_not_finite_is_null():
    text = journal.sealed({"a": [math.nan, 1.0], "b": {"c": math.inf}})
    assert json.loads(text)["a"] == [None, 1.0]
    assert journal.unsealed(text) is not None


def test_a_journal_of_a_newer_version_is_not_read(entry, tmp_path):
    journal.append(tmp_path / journal.NAME, journal.line(entry))
    journal.append(tmp_path / journal.NAME, journal.sealed({"version": 2, "id": "x"}))
    looked = journal.Journal(tmp_path)
    for _ in range(2):  # however often it is asked
        with pytest.raises(ConfigError, match="another version"):
            looked.read()


def test_a_whole_line_without_what_it_should_say_is_no_line(entry, tmp_path):
    journal.append(tmp_path / journal.NAME, journal.sealed({"version": 1, "id": "x"}))
    journal.append(tmp_path / journal.NAME, journal.line(entry))
    assert journal.read(tmp_path) == {CONFIG.id: entry}


def test_a_pipe_is_no_journal(tmp_path):
    os.mkfifo(tmp_path / journal.NAME)
    with pytest.raises(ConfigError, match="not a file; move it away"):
        journal.read(tmp_path)
