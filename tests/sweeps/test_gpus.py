"""A sweep on GPUs: refused without one before anything is written; a run at a time on each."""

import os
import time
from pathlib import Path

import pytest
from support.commands import refused

from nanorepro import Config
from nanorepro.commands import sweep as command
from nanorepro.errors import ConfigError
from nanorepro.sweeps import gpus, runner
from nanorepro.sweeps.engines import Local
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.work import Settings, Task

MISSING = "raise ModuleNotFoundError('No module named cupy', name='cupy')\n"
# as much of CuPy as is asked for its GPUs
THREE = """
from types import SimpleNamespace as Names
class CUDARuntimeError(RuntimeError):
    pass
kinds = ["90", "75", "80"]
runtime = Names(
    CUDARuntimeError=CUDARuntimeError, driverGetVersion=lambda: 13000, getDeviceCount=lambda: 3,
    memGetInfo=lambda: (1, 1), getDeviceProperties=lambda k: {"name": b"a GPU"},
)
def Device(k=0):
    return Names(id=k, compute_capability=kinds[k], attributes={"MaxSharedMemoryPerBlockOptin": 1})
cuda = Names(runtime=runtime, Device=Device)
"""
BASE = {"model": "linear", "log2_examples": 6, "log2_eval": 4, "pairs": 1}
TASKS = [Task(Config(**BASE, seed=seed)) for seed in range(4)]


@pytest.fixture
def cupy(tmp_path_factory, monkeypatch):
    """Puts a module in CuPy's place, for processes that are started."""

    def put(text):
        folder = tmp_path_factory.mktemp("cupy")
        (folder / "cupy.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.delenv(gpus.VISIBLE, raising=False)

    return put


def test_without_cupy_a_sweep_is_one_line_and_nothing_is_written(cupy, tmp_path, monkeypatch):
    cupy(MISSING)
    monkeypatch.chdir(tmp_path)
    words = ["--grid", "act=relu,smelu", "--grid", "log2_examples=6", "--backend", "cupy", "-q"]
    line = refused(command.main, *words, folder=tmp_path)
    assert "--backend: cupy: CuPy is not installed; give numba, or first pip install" in line


@pytest.mark.parametrize(
    ("given", "found"),
    [("", ["0", "2"]), ("5, GPU-ab,7", ["5", "7"])],
)
def test_the_gpus_that_are_there_and_new_enough(given, found, cupy, monkeypatch):
    cupy(THREE)
    if given:
        monkeypatch.setenv(gpus.VISIBLE, given)
    assert gpus.visible() == found


def test_a_look_at_the_gpus_that_ends_is_told(cupy):
    cupy("raise SystemExit('no bus')")
    with pytest.raises(ConfigError, match=r"cupy: it ends with status 1 \(no bus\)"):
        gpus.visible()


@pytest.mark.parametrize(
    ("backend", "there", "slots", "names"),
    [("cupy", ["0"], 1, ["0"]), ("cupy", ["3", "5"], 2, ["3", "5"]), ("numba", ["0"], 3, [])],
)
def test_as_many_processes_as_gpus(backend, there, slots, names, tmp_path, monkeypatch):
    seen = []

    def local(settings, slots, gpus):
        seen.append((slots, gpus))
        raise OSError("enough")

    monkeypatch.setattr(runner, "visible", lambda: there)
    monkeypatch.setattr(runner, "Local", local)
    with pytest.raises(runner.Broken, match="enough"):
        runner.sweep(TASKS, Folder(tmp_path), Settings(str(tmp_path), backend), threads=3)
    assert seen == [(slots, names)]


def gpu_of(worker):
    """The GPU that a process sees."""
    text = Path(f"/proc/{worker.process.pid}/environ").read_bytes().decode()
    return dict(line.partition("=")[::2] for line in text.split("\0"))[gpus.VISIBLE]


@pytest.mark.skipif(not os.path.exists("/proc/self/environ"), reason="no /proc")
def test_each_process_has_a_gpu_of_its_own_also_one_that_takes_anothers_place(tmp_path):
    with Local(Settings(str(tmp_path), "reference"), 2, gpus=["3", "5"]) as engine:
        first, second = engine.workers
        assert [gpu_of(first), gpu_of(second)] == ["3", "5"]
        first.process.kill()
        end = time.monotonic() + 60
        while first in engine.workers and time.monotonic() < end:
            engine.events(0.1)
        assert [gpu_of(worker) for worker in engine.workers] == ["5", "3"]
