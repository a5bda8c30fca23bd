"""Claims: one sweep has a run, and what a sweep that is gone had is free again."""

import os
import signal
import subprocess
import sys
import threading

from support.processors import environment

from nanorepro.sweeps import claims
from nanorepro.sweeps.claims import Claims, at_work

HOLD = """
import sys, time
from pathlib import Path
from nanorepro.sweeps.claims import Claims
with Claims(Path(sys.argv[1])) as mine:
    assert mine.take("0" * 16)
    print("taken", flush=True)
    time.sleep(60)
"""


def test_one_of_two_has_it(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("a" * 16) and not second.take("a" * 16)
        assert second.take("b" * 16) and not first.take("b" * 16)
        assert at_work(tmp_path) == ["a" * 16, "b" * 16]
        first.release("a" * 16)
        assert second.take("a" * 16)
    assert not (tmp_path / claims.FOLDER).exists()


def test_one_of_many_threads_has_each(tmp_path):
    names = [f"{k:016x}" for k in range(40)]
    taken = []

    def take():
        with Claims(tmp_path) as mine:
            taken.extend(name for name in names if mine.take(name))
            barrier.wait()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == names


def test_what_a_killed_sweep_had_is_free(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, env=environment()
    )
    with child.stdout:
        assert child.stdout.readline() == b"taken\n"
        with Claims(tmp_path) as mine:
            assert not mine.take("0" * 16)
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert at_work(tmp_path) == []
            assert mine.take("0" * 16)


def test_another_machine_is_alive_as_long_as_it_gives_signs(tmp_path):
    with Claims(tmp_path) as mine:
        owner = "elsewhere.1234+77+5+abcdef01"
        sign = tmp_path / claims.FOLDER / f"{owner}.owner"
        (tmp_path / claims.FOLDER / ("c" * 16)).write_text(owner)
        sign.touch()
        assert not mine.take("c" * 16)
        old = sign.stat().st_mtime - claims.DEAD - 60
        os.utime(sign, (old, old))
        assert mine.take("c" * 16)
        mine.release("c" * 16)


def test_a_claim_of_somebody_else_is_not_released(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("d" * 16)
        second.release("d" * 16)
        assert not second.take("d" * 16)
