"""The script for the day a card is at hand, on the interpreter: every part of it runs."""

import json

import pytest

from bench import gpu
from nanorepro.paper import curves


def test_all_parts_are_run_and_written(interpreter, monkeypatch, tmp_path, capsys):
    rows = [row for row in gpu.golden_rows() if row[0] in ("linear", "single")]
    monkeypatch.setattr(gpu, "golden_rows", lambda: rows)
    monkeypatch.setattr(gpu, "TOWERS", (2,))
    monkeypatch.setattr(gpu, "OTHERS", {"linear": (3,)})
    monkeypatch.setattr(gpu, "REPEATS", 1)
    monkeypatch.setattr(gpu, "EXAMPLES", {"tower": 64, "linear": 64})
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    small = curves.Size(6, 4, 1, (0, 1))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(curves, "DRAWN", {6: (("ReLU tower", curves.ALL),), 8: (), 10: ()})
    out = tmp_path / "gpu.json"
    status = gpu.main(["--minutes", "5", "--out", str(out)])
    found = json.loads(out.read_text())
    assert status == 0
    assert found["fingerprints"] == {"linear": True, "single": True}
    assert set(found["steps"]) == {"2 tower", "3 linear"}
    assert all(value > 0 for value in found["steps"]["2 tower"].values())
    assert found["device"]["name"] == "NumPy"
    assert list(found["figure 6"]) == ["ReLU tower, log2 z = 0", "ReLU tower, log2 z = 1"]
    assert all(len(run["fingerprint"]) == 64 for run in found["figure 6"].values())
    assert "fingerprints differ" in capsys.readouterr().out


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


def test_what_does_not_fit_is_told_and_ends(interpreter, monkeypatch, tmp_path):
    small = curves.Size(6, 4, 1, (0,))
    monkeypatch.setattr(curves, "size", lambda figure, scale: small)
    monkeypatch.setattr(curves, "DRAWN", {6: (("ReLU tower", curves.ALL),), 8: (), 10: ()})
    report = gpu.Report(tmp_path / "gpu.json", 0.0)
    gpu.figures(report)
    assert "does not fit" in report.found["figure 6"]["ReLU tower, log2 z = 0"]
