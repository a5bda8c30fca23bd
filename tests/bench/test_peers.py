"""A program that ends in the middle is left out, and what was measured of the others stays."""

from argparse import Namespace

import pytest

from bench import __main__ as bench


class Worker:
    """Answers that are known; ends when it is asked for the n-th time."""

    def __init__(self, engine, n=100):
        self.engines, self.left = [engine], n

    def ask(self, **request):
        self.left -= 1
        if self.left < 0:
            raise bench.Failed("ended")
        return {"losses": [0.1], "before": [0.5], "ns": 2.0}


GIVEN = Namespace(only=(), rounds=2, seconds=0.1)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_a_program_that_ends_is_left_out(n, capsys):
    found = bench.compare(GIVEN, "tower", [Worker(bench.OURS), Worker("other", n)])
    assert [f.engine for f in found] == [bench.OURS]
    assert "tower: other left out: ended" in capsys.readouterr().err


def test_without_ours_there_is_nothing_to_compare():
    with pytest.raises(bench.Failed, match="ours failed"):
        bench.compare(GIVEN, "tower", [Worker(bench.OURS, 3), Worker("other")])


def test_a_process_that_has_ended_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.sys, "executable", "/bin/true")
    given = Namespace(core=0, clock="cpu")
    with pytest.raises(bench.Failed, match="nanorepro ended; see "):
        bench.Worker("nanorepro", given, tmp_path / "log")
