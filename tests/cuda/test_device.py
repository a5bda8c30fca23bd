"""CuPy's side of the seam: what is said where it cannot be used, and the cache of programs."""

import configparser
import errno
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.processors import environment
from support.ptx import cupy as stand_in
from support.ptx.device import Device

from nanorepro import Config, simulate
from nanorepro.backends.cuda import device as seam
from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.program import MOST, program_of
from nanorepro.commands import run
from nanorepro.dials import dials
from nanorepro.errors import ConfigError

RUN = ["--model", "linear", "--log2-examples", "6", "--log2-eval", "4", "--pairs", "1"]


@pytest.fixture(autouse=True)
def anew():
    """Each test with a GPU of its own."""
    seam.current.cache_clear()
    yield
    seam.current.cache_clear()


def fails(error):
    def call(*arguments):
        raise error

    return call


CUDA = stand_in.CUDARuntimeError
OLD = CUDA("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
NONE = CUDA("cudaErrorNoDevice: no CUDA-capable device is detected")
BUSY = CUDA("cudaErrorDevicesUnavailable: busy")
NEWER = stand_in.CUDADriverError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
MISSING = {
    "driver": ({"driverGetVersion": lambda: 0}, "no NVIDIA driver"),
    "old driver": ({"getDeviceCount": fails(OLD)}, "driver is missing or too old"),
    "device": ({"getDeviceCount": fails(NONE)}, "there is no GPU"),
    "devices": ({"getDeviceCount": lambda: 0}, "there is no GPU"),
    "old card": ({"capability": "75"}, "compute capability 7.5"),
    "other": ({"memGetInfo": fails(BUSY)}, "busy"),
    "load": ({"load": fails(NEWER)}, "driver does not load"),
    "memory": ({"free": 5000}, "bytes of memory left"),
}


@pytest.mark.parametrize("what", MISSING)
def test_one_line_and_status_2(what, monkeypatch, tmp_path, capsys):
    other, message = MISSING[what]
    stand_in.install(monkeypatch, tmp_path / "cache", Device(), **other)
    assert run.main([*RUN, "--backend", "cupy", "--out", str(tmp_path / "out")]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1 and message in error[0]
    assert "--backend: cupy: " in error[0] and "give numba, or " in error[0]
    assert not (tmp_path / "out").exists()


def test_without_cupy(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert run.main([*RUN, "--backend", "cupy", "--out", str(tmp_path / "out")]) == 2
    assert "CuPy is not installed; give numba, or first pip install" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="backend: cupy"):
        simulate(Config(), backend="cupy")


FAILURES = {
    "raise RuntimeError('CuPy failed to load libnvrtc.so.12')": "CuPy: CuPy failed to load",
    "raise ImportError('=====\\nFailed.\\n\\nOriginal error:\\n  OSError: no libcudart\\n====')": (
        "CuPy: OSError: no libcudart; give numba"
    ),
    "raise OSError": "CuPy: OSError; give numba",
}


@pytest.mark.parametrize("code", FAILURES)
def test_a_cupy_that_cannot_be_imported(code, monkeypatch, tmp_path, capsys):
    (tmp_path / "cupy.py").write_text(code)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert run.main([*RUN, "--backend", "cupy", "--out", str(tmp_path / "out")]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(error) == 1 and FAILURES[code] in error[0] and "; give numba, or " in error[0]


def test_without_a_compiler(monkeypatch, tmp_path):
    stand_in.install(monkeypatch, tmp_path)
    monkeypatch.setattr(nvrtc, "library", fails(nvrtc.NoCompiler("NVRTC is not found")))
    with pytest.raises(ConfigError, match="pip install nvidia-cuda-nvrtc"):
        seam.current()


class Library:
    """An NVRTC of some version."""

    def __init__(self, major, minor):
        self.numbers = major, minor

    def nvrtcVersion(self, *found):
        for at, number in zip(found, self.numbers, strict=True):
            at._obj.value = number


@pytest.mark.parametrize(
    ("here", "driver", "expected"),
    [
        ([(13, 5), (12, 9)], 12080, (12, 9)),
        ([(13, 5), (12, 9)], 13000, (13, 5)),
        ([(12, 4), (13, 0), (12, 9)], 14000, (13, 0)),
        ([(13, 5), (12, 4), (12, 9)], 12000, (12, 9)),
        ([(13, 5)], 12080, "of CUDA 13.5, the driver of CUDA 12; .*nvidia-cuda-nvrtc-cu12$"),
        ([], 12080, "is not found; .*nvidia-cuda-nvrtc-cu12$"),
        ([], 13000, "is not found; .*nvidia-cuda-nvrtc$"),
    ],
)
def test_the_newest_compiler_that_the_driver_knows(here, driver, expected, monkeypatch, tmp_path):
    known = {f"libnvrtc.so.{major}.{minor}": Library(major, minor) for major, minor in here}
    stand_in.install(monkeypatch, tmp_path, driverGetVersion=lambda: driver)
    monkeypatch.setattr(nvrtc, "_candidates", lambda: list(known))
    monkeypatch.setattr(nvrtc.ctypes, "CDLL", known.__getitem__)
    nvrtc.library.cache_clear()
    try:
        if isinstance(expected, tuple):
            assert nvrtc.version(seam.current().cuda) == expected
        else:
            with pytest.raises(ConfigError, match=expected):
                seam.current()
    finally:
        nvrtc.library.cache_clear()


def test_the_extras_bring_the_compiler():
    text = configparser.ConfigParser()
    text.read(Path(__file__).parents[2] / "setup.cfg")
    for extra, driver in (("gpu", 12), ("gpu13", 13)):
        names = re.findall(r"^[\w-]+", text["options.extras_require"][extra], re.M)
        assert nvrtc.wheel(driver) in names and f"cupy-cuda{driver}x" in names


def test_nvrtc_is_sought_and_not_found(monkeypatch):
    monkeypatch.setattr(nvrtc, "_candidates", lambda: ["/nowhere/libnvrtc.so.13"])
    nvrtc.library.cache_clear()
    with pytest.raises(nvrtc.NoCompiler):
        nvrtc.library()
    nvrtc.library.cache_clear()


def test_a_compiler_that_does_not_know_the_gpu(monkeypatch, tmp_path):
    stand_in.install(monkeypatch, tmp_path, capability="999")
    with pytest.raises(ConfigError, match="does not know GPUs of sm_999"):
        simulate(Config(model="linear", log2_examples=5, pairs=1), backend="cupy")


def test_the_command(interpreter, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run.main([*RUN, "--backend", "cupy", "--out", out, "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert run.main([*RUN, "--backend", "numba", "--out", out, "--json"]) == 0
    assert ours["fingerprint"] == json.loads(capsys.readouterr().out)["fingerprint"]
    assert ours["backend"] == "cupy"


def test_programs_are_kept_on_disk(interpreter, monkeypatch, tmp_path):
    compilations = []
    compiled = nvrtc.compiled
    monkeypatch.setattr(
        nvrtc, "compiled", lambda *a, **k: compilations.append(a) or compiled(*a, **k)
    )
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)
    one = simulate(config, backend="cupy")
    kept = sorted((tmp_path / "nanorepro" / "cuda").iterdir())
    assert len(kept) == len(compilations) == 3
    assert all(path.suffix == ".cubin" for path in kept)
    seam.current.cache_clear()
    assert simulate(config, backend="cupy").fingerprint == one.fingerprint
    assert len(compilations) == 3
    monkeypatch.setattr(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, "--dopt=on"))
    assert seam.cached_binary("// another", "90") not in kept


def test_a_program_is_kept_by_all_that_determines_it(monkeypatch, tmp_path):
    """Source, architecture, both numbers of the compiler's version, each option."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(nvrtc, "compiled", lambda *a, **more: repr(a).encode())
    monkeypatch.setattr(nvrtc, "version", lambda most: (12, 9))
    first = seam.cached_binary("// one", "90")
    found = [first, seam.cached_binary("// another", "90"), seam.cached_binary("// one", "100")]
    for changed in ((13, 9), (12, 8)):
        monkeypatch.setattr(nvrtc, "version", lambda most, numbers=changed: numbers)
        found.append(seam.cached_binary("// one", "90"))
    monkeypatch.setattr(nvrtc, "version", lambda most: (12, 9))
    options = nvrtc.OPTIONS
    for changed in (options[1:], options[:-1], (*options, "--dopt=on")):
        monkeypatch.setattr(nvrtc, "OPTIONS", changed)
        found.append(seam.cached_binary("// one", "90"))
    monkeypatch.setattr(nvrtc, "OPTIONS", options)
    assert len(set(found)) == len(found)
    assert seam.cached_binary("// one", "90") == first


def test_so_many_programs_stay_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(seam, "PROGRAMS", 2)
    stand_in.install(monkeypatch, tmp_path)
    device, source = seam.current(), 'extern "C" __global__ void k%d() {}'
    first = device.compile(source % 0)
    assert device.compile(source % 0) is first
    device.compile(source % 1)
    assert device.compile(source % 0) is first  # used last: the other one goes
    device.compile(source % 2)
    assert device.compile(source % 0) is first
    assert device.programs.cache_info().currsize == 2
    assert sys.modules["cupy"].cuda.function.Module.number == 2


def test_a_program_stays_loaded_while_it_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(seam, "PROGRAMS", 1)
    stand_in.install(monkeypatch, tmp_path)
    device, module = seam.current(), sys.modules["cupy"].cuda.function.Module
    source = 'extern "C" __global__ void k%d() {}'
    one = device.compile(source % 0)
    for n in (1, 2):
        device.compile(source % n)
    assert module.number == 2
    one.launch("k0", (1, 1), 32, [])
    del one
    assert module.number == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_damaged_program_is_compiled_once_more(kept, monkeypatch, tmp_path):
    """Also where what is damaged cannot be replaced."""
    stand_in.install(monkeypatch, tmp_path)
    source = 'extern "C" __global__ void k() {}'
    path = seam.cached_binary(source, seam.current().architecture)
    whole = path.read_bytes()
    path.write_bytes(b"\xff" + whole[1 : len(whole) // 2])
    if not kept:
        replace = os.replace
        monkeypatch.setattr(
            os, "replace", lambda a, b: fails(OSError(errno.EROFS, "read-only"))()
            if Path(b) == path else replace(a, b)
        )  # fmt: skip
    seam.current().compile(source).launch("k", (1, 1), 32, [])
    assert (path.read_bytes() == whole) == kept


def test_without_a_home_programs_are_kept_for_the_process(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fails(RuntimeError("Could not determine home directory.")))
    source = 'extern "C" __global__ void without_a_home() {}'
    path = seam.cached_binary(source, "90")
    assert path.read_bytes().startswith(b"\x7fELF") and path.parent == seam.temporary_folder()
    assert seam.cached_binary(source, "90") == path


def test_a_program_that_cannot_be_kept_is_used(monkeypatch, tmp_path):
    (tmp_path / "nanorepro").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = seam.cached_binary('extern "C" __global__ void k() {}', "90")
    assert path.read_bytes().startswith(b"\x7fELF")
    assert path.parent == seam.temporary_folder()


def test_a_program_is_used_where_the_cache_is_full_and_no_part_of_it_is_left(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    replace = os.replace

    def full(source, target):
        if Path(target).is_relative_to(tmp_path):
            raise OSError(errno.ENOSPC, "no space left")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    path = seam.cached_binary('extern "C" __global__ void k() {}', "90")
    assert path.read_bytes().startswith(b"\x7fELF")
    assert list((tmp_path / "nanorepro" / "cuda").iterdir()) == []
    monkeypatch.setattr(os, "replace", fails(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):  # nowhere at all
        seam.cached_binary('extern "C" __global__ void other() {}', "90")
    assert [file.name for file in path.parent.glob("*.part")] == []


def test_the_folder_of_programs_that_cannot_be_kept_ends_with_its_process(tmp_path):
    (tmp_path / "nanorepro").write_text("a file where the folder should be")
    code = "from nanorepro.backends.cuda import device as d; print(d.cached_binary('', '90'))"
    known = environment(XDG_CACHE_HOME=str(tmp_path))
    command = [sys.executable, "-c", code]
    path = Path(
        subprocess.run(command, env=known, stdout=subprocess.PIPE, text=True).stdout.strip()
    )
    assert path.suffix == ".cubin" and not path.parent.exists()


def test_a_model_of_too_many_parameters():
    config = Config(hidden="65536,65536")
    with pytest.raises(ConfigError, match=f"up to {MOST - 1:,} parameters"):
        program_of(config, dials(config, 0), 32)


@pytest.mark.parametrize("elsewhere", ["here", "in a thread"])
def test_all_is_done_on_the_gpu_that_was_chosen(elsewhere, interpreter):
    """Also where another one is current meanwhile, which it stays."""
    gpus = sys.modules["cupy"].thread.gpus
    gpus[-1] = 1
    device = seam.current()
    gpus[-1] = 0
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1)
    result = []

    def work():
        assert device.free() > 0
        device.get(device.array(np.ones(3)))
        device.empty((2,), np.float32)
        device.synchronize()
        result.append(simulate(config, backend="cupy"))
        assert sys.modules["cupy"].thread.gpus == [0]

    if elsewhere == "here":
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert result[0].fingerprint == simulate(config, backend="reference").fingerprint


def test_arrays(interpreter):
    device = seam.current()
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(device.get(device.array(a)), a)
    assert device.empty((2, 3), np.uint64).shape == (2, 3)
    device.synchronize()
