"""The script for the day a card is at hand, on the interpreter: every part of it runs."""

import importlib.util
import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from support.slow import slow_after

from bench import blocks, gpu, launches, sass
from nanorepro.backends.cuda import device as seam
from nanorepro.backends.cuda import ensemble
from nanorepro.backends.cuda.program import program_of
from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.paper import curves


def sass_is_there():
    try:
        return bool(sass.disassembler())
    except SystemExit:
        return False


def beside(name, models, examples):
    """In the place of JAX, which is not among the tests' packages: it fails with one model."""
    if name == "linear":
        raise RuntimeError("no memory")
    return {"microseconds a step": float(models)}


def test_all_parts_are_run_and_written(interpreter, monkeypatch, tmp_path, capsys):
    rows = [row for row in gpu.golden_rows() if row[0] in ("linear", "single")]
    monkeypatch.setattr(gpu, "golden_rows", lambda: rows)
    monkeypatch.setattr(gpu, "TOWERS", (2,))
    monkeypatch.setattr(gpu, "OTHERS", {"linear": (3,)})
    monkeypatch.setattr(gpu, "REPEATS", 1)
    monkeypatch.setattr(gpu, "EXAMPLES", {"tower": 64, "linear": 64})
    monkeypatch.setattr(gpu, "installed", lambda name: True)
    monkeypatch.setattr(gpu, "jax_time", beside)
    small = curves.Size(6, 4, 1, (0, 1))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(gpu, "plotted", lambda figure: ["ReLU tower"] if figure == 6 else [])
    out = tmp_path / "gpu.json"
    status = gpu.main(["--minutes", "5", "--out", str(out)])
    found = json.loads(out.read_text())
    assert status == 0
    assert found["fingerprints"] == {"linear": True, "single": True}
    assert set(found["steps"]) == {"2 tower", "3 linear"}
    assert all(value > 0 for value in found["steps"]["2 tower"].values())
    assert found["steps, JAX"]["2 tower"] == {"microseconds a step": 2.0}
    assert found["steps, JAX"]["3 linear"] == "RuntimeError: no memory"
    assert found["device"]["name"] == "NumPy"
    assert list(found["figure 6"]) == ["ReLU tower, log2 z = 0", "ReLU tower, log2 z = 1"]
    assert all(len(run["fingerprint"]) == 64 for run in found["figure 6"].values())
    assert "fingerprints differ" in capsys.readouterr().out


def test_what_fails_is_a_row_and_the_others_go_on(interpreter, monkeypatch, tmp_path, capsys):
    """Of every part the first row fails, as with an error of CUDA or no memory left."""

    def failing(call):
        calls = iter([True])

        def begun(*arguments, **named):
            if next(calls, False):
                raise RuntimeError("CUDA_ERROR\nno memory")
            return call(*arguments, **named)

        return begun

    rows = [row for row in gpu.golden_rows() if row[0] in ("linear", "single")]
    monkeypatch.setattr(gpu, "golden_rows", lambda: rows)
    monkeypatch.setattr(gpu, "TOWERS", ())
    monkeypatch.setattr(gpu, "OTHERS", {"linear": (2, 3)})
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    small = curves.Size(6, 4, 1, (0, 1))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(gpu, "plotted", lambda figure: ["ReLU tower"] if figure == 6 else [])
    monkeypatch.setattr(gpu, "same_fingerprint", failing(lambda row: True))
    monkeypatch.setattr(gpu, "step_time", failing(lambda *job: {"seconds": 1.0}))
    monkeypatch.setattr(gpu, "simulate", failing(gpu.simulate))
    out = tmp_path / "gpu.json"
    assert gpu.main(["--minutes", "5", "--out", str(out)]) == 1
    found = json.loads(out.read_text())
    for part in ("fingerprints", "steps", "figure 6"):
        first, second = found[part].values()
        assert first == "RuntimeError: CUDA_ERROR no memory"
        assert second != first
    text = capsys.readouterr().out
    assert "1 fingerprints checked, 0 fingerprints differ []; 3 rows failed" in text


@pytest.mark.slow
def test_deep_models_are_compared_before_they_are_timed(
    interpreter, launched, monkeypatch, tmp_path
):
    monkeypatch.setitem(gpu.TIMED, "deep", Config(hidden="128,16", seed=1))
    monkeypatch.setattr(ensemble, "BLOCK_WORK", 0)
    monkeypatch.setattr(gpu, "TOWERS", ())
    monkeypatch.setattr(gpu, "OTHERS", {"deep": (2, 3)})
    monkeypatch.setattr(gpu, "STEPS", 1)
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    kernels = []
    monkeypatch.setattr(gpu, "step_time", lambda *job: kernels.append(set(launched)))
    report = gpu.Report(tmp_path / "gpu.json", 5.0)
    gpu.steps(report)
    assert report.found["fingerprints"] == {"fit of deep": True}
    assert len(kernels) == 2
    assert "backward_descend" in {name for name, _ in kernels[0]}


def test_a_fit_that_differs_is_told(monkeypatch):
    def other(config, x, y, starts, backend):
        trained = [{name: v.astype(np.float32) for name, v in start.items()} for start in starts]
        if backend == "cupy":
            trained[1]["b0"][0] = -0.0
        return trained

    monkeypatch.setitem(gpu.TIMED, "deep", Config(hidden="3", seed=1))
    monkeypatch.setattr(gpu, "fit", other)
    assert gpu.same_fit("deep") == "b0 of model 1"


def test_what_is_run_was_compiled_before(interpreter, monkeypatch):
    """Every program that a row, a step or a run asks for is among those of `--compile`."""
    found, compiled = [], seam.cached_binary

    def noted(source, *rest):
        found.append(source)
        return compiled(source, *rest)

    monkeypatch.setattr(seam, "cached_binary", noted)
    rows = [row for row in gpu.golden_rows() if row[0] in ("given", "real")]
    monkeypatch.setattr(gpu, "golden_rows", lambda: rows)
    monkeypatch.setattr(gpu, "REPEATS", 1)
    small = curves.Size(6, 4, 1, (0,))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(gpu, "plotted", lambda figure: ["ReLU tower"] if figure == 6 else [])
    for _, row in rows:
        assert gpu.same_fingerprint(row) is True
    gpu.step_time("linear", 2, 64)
    gpu.simulate(next(gpu.whole_runs())[2], backend="cupy")
    assert len(set(found)) >= 8
    assert set(found) <= set(gpu.programs())


def test_all_programs_are_compiled_without_a_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    texts = [f'extern "C" __global__ void f(int* x) {{ *x = {k}; }}' for k in range(3)]
    monkeypatch.setattr(gpu, "programs", lambda: texts)
    assert gpu.main(["--compile", "sm_90"]) == 0
    assert "3 of 3 compiled" in capsys.readouterr().out
    kept = set(tmp_path.rglob("*.cubin"))
    assert kept == {seam.cached_binary(text, "90") for text in texts}


def test_what_cannot_be_compiled_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "programs", lambda: ["no program"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert gpu.main(["--compile", "90"]) == 2
    assert "bench.gpu: error: NVRTC: status" in capsys.readouterr().err
    (tmp_path / "nanorepro").touch()  # a file where the folder would be
    monkeypatch.setattr(gpu, "programs", lambda: [""])
    assert gpu.main(["--compile", "90"]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["nine", "sm_75", ""])
def test_architectures_that_there_are_not(architecture, capsys):
    with pytest.raises(SystemExit) as end:
        gpu.main(["--compile", architecture])
    assert end.value.code == 2
    assert "give sm_80 or later" in capsys.readouterr().err


def test_nothing_checked_is_no_success(interpreter, tmp_path, capsys):
    assert gpu.main(["--minutes", "0", "--out", str(tmp_path / "gpu.json")]) == 1
    assert "0 fingerprints checked" in capsys.readouterr().out


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("name", ["linear", "tower-sgd"])
def test_jax_trains_the_same_models(name, monkeypatch):
    monkeypatch.setattr(gpu, "REPEATS", 1)
    found = gpu.jax_time(name, 3, 64)
    assert set(found) == {"device", "float32", "by default"}
    assert all(value > 0 for way in ("float32", "by default") for value in found[way].values())


def test_another_fingerprint_is_told(interpreter, monkeypatch, tmp_path):
    rows = [(n, {**row, "fingerprint": "0"}) for n, row in gpu.golden_rows() if n == "linear"]
    monkeypatch.setattr(gpu, "golden_rows", lambda: rows)
    monkeypatch.setattr(gpu, "steps", lambda report: None)
    monkeypatch.setattr(gpu, "figures", lambda report: None)
    out = tmp_path / "gpu.json"
    assert gpu.main(["--minutes", "1", "--out", str(out)]) == 1
    assert len(json.loads(out.read_text())["fingerprints"]["linear"]) == 64


def test_without_a_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    gpu.current.cache_clear()
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert "CuPy is not installed" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.parametrize("name", gpu.FIRST)
def test_the_first_rows_are_in_the_table(name):
    assert name in dict(gpu.golden_rows())


def test_the_first_rows_reach_every_kernel_that_rows_reach():
    def kernels(names):
        found, rows = set(), gpu.golden().read()["rows"]
        for name in names:
            config = gpu.golden().run_of(rows[name]["options"])[0]
            for model in (0, 1):
                program = program_of(config, dials(config, model), config.features, config.real)
                found.add(program.kernel or bool(program.tiled))
        return found

    assert kernels(gpu.FIRST) == kernels(gpu.golden().read()["rows"])


def test_what_does_not_fit_is_told_and_ends(interpreter, monkeypatch, tmp_path):
    small = curves.Size(6, 4, 1, (0,))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(gpu, "plotted", lambda figure: ["ReLU tower"] if figure == 6 else [])
    report = gpu.Report(tmp_path / "gpu.json", 0.0)
    gpu.figures(report)
    assert "does not fit" in report.found["figure 6"]["ReLU tower, log2 z = 0"]


@pytest.mark.parametrize(("left", "fits"), [(30.0, True), (5.0, False)])
def test_the_pace_is_told_without_what_comes_before_the_training(left, fits, monkeypatch, tmp_path):
    """Of a run of 512 reports, 64 a second: 8 s, after 60 s of compiling."""
    now = [1000.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    report = gpu.Report(tmp_path / "gpu.json", (60 + left) / 60)
    pace = gpu.Pace(report)
    now[0] += 60
    told = 0
    with nullcontext() if fits else pytest.raises(TimeoutError, match=r"the pace of 3.0 s"):
        for told in range(1, 513):
            now[0] += 1 / 64
            pace(told, 512)
    assert told == (512 if fits else 193)


@pytest.mark.skipif(not sass_is_there(), reason="nvidia-cuda-nvdisasm is not installed")
@pytest.mark.parametrize("architecture", slow_after(1, ["90", "80", "100"]))
def test_the_machine_code_of_a_step_has_its_operations(architecture, capsys):
    """Every product of the tower is counted, so the walk has gone through all its loops."""
    assert sass.main(["--architecture", architecture]) == 0
    text = capsys.readouterr().out
    assert text.startswith("modelled, not measured")
    # products: units forward and backward, and a lane's share of the sums over 32 examples
    units = 16 * 8 + 8 * 4 + 4 * 2 + 2
    lanes = 32 * (4 + 1 + 1 + 1)
    assert int(re.search(r"(\d+) FFMA", text)[1]) >= 2 * units + lanes
    # terms: 12 features of 16 units forward; gradients of 4 units of a feature, in two rounds
    assert int(re.search(r"(\d+) FADD", text)[1]) >= 12 * 16 + 2 * 4 * 32 + 32


@pytest.mark.slow
@pytest.mark.skipif(not sass_is_there(), reason="nvidia-cuda-nvdisasm is not installed")
def test_a_step_of_many_units_has_its_operations(capsys):
    assert sass.main(["--model", "wide", "--models", "132"]) == 0
    text = capsys.readouterr().out
    # lane = example: sums of four inputs, the output's, those of the inputs' deltas; lane = unit:
    # five gradients of products over 32 examples
    products = 1000 * (4 + 1 + 4) + 32 * 5 * -(-1000 // 32)
    found = int(re.search(r"(\d+) FFMA", text)[1])
    assert products <= found < 1.3 * products


@pytest.mark.slow
@pytest.mark.skipif(not sass_is_there(), reason="nvidia-cuda-nvdisasm is not installed")
def test_the_launches_of_a_deep_step(capsys):
    assert launches.main(["--models", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("modelled, not measured")
    kernels = [line.split()[0] for line in lines if "moving" in line]
    assert kernels == [
        "forward", "forward_large", "forward_narrow", "output", "backward", "backward_descend",
        "descend",
    ]  # fmt: skip
    assert float(re.search(r"a step: ([\d.]+)", lines[-1])[1]) > 0


@pytest.mark.slow
@pytest.mark.skipif(not sass_is_there(), reason="nvidia-cuda-nvdisasm is not installed")
def test_the_parts_of_a_step_that_a_block_takes(capsys):
    assert blocks.main(["--models", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("modelled, not measured")
    found = [line.strip().split(": ") for line in lines[1:-1]]
    assert [name for name, _ in found] == [
        "forward 0", "forward_middle 1", "forward 2", "output 2", "backward 2", "descend 2",
        "backward_middle 1", "batch_middle 1", "descend 0",
    ]  # fmt: skip
    cycles = {name: float(number.replace(",", "")) for name, number in found}
    least = 64 * 32 * 32 / 128  # of an equation between 64 and 32 units: 128 products a cycle
    for name in ("forward_middle 1", "backward_middle 1", "batch_middle 1"):
        assert least <= cycles[name] < 20 * least


def test_blocks_refuse_what_other_kernels_train(capsys):
    for hidden in ("5", "2000,1000"):
        assert blocks.main(["--hidden", hidden]) == 2
        assert "no block trains" in capsys.readouterr().err


def test_sass_refuses_what_takes_several_launches(capsys):
    assert sass.main(["--model", "deep"]) == 2
    assert "no kernel trains" in capsys.readouterr().err
