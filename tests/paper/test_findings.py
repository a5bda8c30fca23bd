"""The scripts of docs/findings.md run, at the smallest sizes, and draw their pictures."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "docs" / "findings"
SIZES = {"roundoff": 11, "parting": 11, "nudge_later": 12, "disagreement": 13}
FEW = {"roundoff": ["--bits", "11,24", "--backend", "reference"]}  # else 80 kinds are compiled


def test_every_finding_names_a_script_that_there_is():
    page = SCRIPTS.with_suffix(".md").read_text(encoding="utf-8")
    for name in SIZES:
        assert f"python docs/findings/{name}.py" in page and f"findings/{name}.png" in page
        assert (SCRIPTS / f"{name}.png").exists()
    assert {p.stem for p in SCRIPTS.glob("*.py")} == {*SIZES, "showing"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_finding_is_made(name, tmp_path):
    words = ["--log2-examples", str(SIZES[name]), "--pairs", "3", "--out", str(tmp_path)]
    words += ["--runs", str(tmp_path / "runs"), *FEW.get(name, [])]
    made = subprocess.run(
        [sys.executable, str(SCRIPTS / f"{name}.py"), *words], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "PD" in made.stdout or "churn" in made.stdout
