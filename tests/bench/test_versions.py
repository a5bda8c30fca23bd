"""Checkouts take turns, each with its own code; a folder that is none is one line."""

from argparse import Namespace

import pytest

from bench import versions
from nanorepro.errors import ConfigError


class Worker:
    """Answers that are known: 0 to 3 ns."""

    def __init__(self, ns, asked):
        self.ns, self.asked = ns, asked

    def ask(self, **request):
        self.asked.append((self.ns, request["do"]))
        return {"ns": self.ns}


def test_the_ratios_are_those_to_the_first():
    asked = []
    rows = versions.compare(
        Namespace(rounds=2, seconds=0.1), [Worker(2.0, asked), Worker(3.0, asked)], "tower", "e"
    )
    assert [row[3:] for row in rows] == [["2", "1.000"], ["3", "1.500"]]
    prepared, timed = asked[:2], asked[2:]
    assert [do for _, do in prepared] == ["prepare"] * 2
    assert [ns for ns, _ in timed] == [3.0, 2.0, 2.0, 3.0]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a checkout of this repository; give one"):
        versions.run([str(tmp_path), "--out", str(tmp_path / "out")])
