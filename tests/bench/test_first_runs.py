"""The time of a first run is a new process's own, with a cache as it was given."""

import pytest

from bench import first_runs
from nanorepro.errors import ConfigError


@pytest.mark.slow
def test_a_run_leaves_parts_that_another_links(tmp_path):
    def parts(folder):
        return {path.name for path in folder.glob("*/parts-*/*")}

    assert first_runs.seconds_of({"model": "linear"}, tmp_path / "both") > 0.0
    before = parts(tmp_path / "both")
    for folder in ("both", "alone"):
        first_runs.seconds_of({"model": "linear", "batch": 16}, tmp_path / folder)
    assert before and len(parts(tmp_path / "both") - before) < len(parts(tmp_path / "alone")) / 2


def test_a_wrong_number_of_rounds_is_refused():
    with pytest.raises(ConfigError, match="--rounds: 0 is not allowed; give a whole number from 1"):
        first_runs.run(["--rounds", "0"])
