"""What a sweep would do, beyond the time that may be spent on measuring it."""

import pytest

from nanorepro import Config
from nanorepro.sweeps.planning import plan
from nanorepro.sweeps.work import Task

SMALL = {"log2_examples": 7, "log2_eval": 4, "pairs": 2}
TASKS = [Task(Config(**SMALL, act=act, seed=seed)) for act in ("relu", "smelu") for seed in (0, 1)]


def test_kinds_that_are_not_timed_are_taken_for_as_fast():
    all_timed, one_timed = (plan(TASKS, "reference", 1, budget) for budget in (60.0, 0.0))
    assert (all_timed.measured, one_timed.measured, one_timed.kinds) == (2, 1, 2)
    for found in (all_timed, one_timed):
        assert (found.runs, found.models, found.examples) == (4, 16, 2048)
    assert one_timed.size == pytest.approx(all_timed.size, rel=0.05)
    assert one_timed.seconds > 0.0


def test_a_run_alone_has_all_cores():
    seconds = [plan(TASKS[:1], "reference", cores).seconds for cores in (1, 4)]
    assert seconds[1] < 0.5 * seconds[0]
