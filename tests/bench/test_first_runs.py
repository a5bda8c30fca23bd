"""The time of a first run is a new process's own, with a cache as it was given."""

import pytest

from bench import first_runs
from nanorepro.errors import ConfigError


def test_a_run_leaves_parts_that_another_links(tmp_path):
    alone = first_runs.seconds_of({"model": "linear"}, tmp_path)
    parts = {*tmp_path.glob("*/parts-*/*")}
    assert alone > 0.0
    assert parts
    first_runs.seconds_of({"model": "linear", "batch": 16}, tmp_path)
    assert parts <= {*tmp_path.glob("*/parts-*/*")}


def test_a_wrong_number_of_rounds_is_refused():
    with pytest.raises(ConfigError, match="--rounds: 0 is not allowed; give a whole number from 1"):
        first_runs.run(["--rounds", "0"])
