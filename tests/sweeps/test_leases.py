"""Leases: one sweep has a run, and what a sweep that is gone had is free again."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.processors import environment

from nanorepro.sweeps import leases
from nanorepro.sweeps.leases import Leases, at_work

HOLD = """
import sys, time
from pathlib import Path
from nanorepro.sweeps.leases import Leases
with Leases(Path(sys.argv[1])) as mine:
    assert mine.take("0" * 16)
    print("taken", flush=True)
    time.sleep(60)
"""


def test_one_of_two_has_it(tmp_path):
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        assert first.take("a" * 16) and not second.take("a" * 16)
        assert second.take("b" * 16) and not first.take("b" * 16)
        assert at_work(tmp_path) == ["a" * 16, "b" * 16]
        first.release("a" * 16)
        assert second.take("a" * 16)
    assert not (tmp_path / leases.FOLDER).exists()


def test_one_of_many_threads_has_each(tmp_path):
    names = [f"{k:016x}" for k in range(40)]
    taken = []

    def take():
        with Leases(tmp_path) as mine:
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
        with Leases(tmp_path) as mine:
            assert not mine.take("0" * 16)
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert at_work(tmp_path) == []
            assert mine.take("0" * 16)


def test_another_machine_is_alive_as_long_as_it_gives_signs(tmp_path):
    with Leases(tmp_path) as mine:
        owner = "elsewhere.1234+77+5+abcdef01"
        sign = tmp_path / leases.FOLDER / f"{owner}.owner"
        (tmp_path / leases.FOLDER / ("c" * 16)).write_text(owner)
        sign.touch()
        assert not mine.take("c" * 16)
        old = sign.stat().st_mtime - leases.DEAD - 60
        os.utime(sign, (old, old))
        assert mine.take("c" * 16)
        mine.release("c" * 16)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"a/../b", b"+" * 300, b"\n"])
def test_a_claim_that_nobody_wrote_counts_until_it_is_old(content, tmp_path):
    with Leases(tmp_path) as mine:
        path = mine.folder / ("a" * 16)
        path.write_bytes(content)
        assert not mine.take("a" * 16) and at_work(tmp_path) == ["a" * 16]
        mine.release("a" * 16)
        assert path.exists()
        old = time.time() - leases.DEAD - 60
        os.utime(path, (old, old))
        assert at_work(tmp_path) == [] and mine.take("a" * 16)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_of_any_name_has_a_start(tmp_path):
    program = "import ctypes; ctypes.CDLL(None).prctl(15, b'\\xff)'); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as child:
        child.stdout.readline()
        started = leases._started(child.pid)
        child.communicate(b"\n")
    assert started > 1 and leases._started(child.pid) is None


def test_a_claim_of_somebody_else_is_not_released(tmp_path):
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        assert first.take("d" * 16)
        second.release("d" * 16)
        assert not second.take("d" * 16)


@pytest.mark.parametrize("links", [True, False])
def test_a_live_claim_that_was_taken_for_void_is_put_back(links, tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EOPNOTSUPP, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with Leases(tmp_path) as first, Leases(tmp_path) as second:
        assert first.take("e" * 16)
        second._remove(tmp_path / leases.FOLDER / ("e" * 16))
        assert not second.take("e" * 16)
        assert list((tmp_path / leases.FOLDER).glob("*.void")) == []
    assert not (tmp_path / leases.FOLDER).exists()


def test_what_a_sweep_was_killed_over_is_removed(tmp_path):
    folder = tmp_path / leases.FOLDER
    folder.mkdir()
    old = time.time() - leases.DEAD - 60
    for name in ("new.void", "old.void"):
        (folder / name).touch()
    os.utime(folder / "old.void", (old, old))
    with Leases(tmp_path):
        assert [path.name for path in folder.glob("*.void")] == ["new.void"]
