"""The paper's claims, measured anew: slow, and only where NANOREPRO_CLAIMS is set.

NANOREPRO_CLAIMS is the options of `python -m nanorepro.figure`, such as `--scale paper`; what a
figure needs is stored in the folder NANOREPRO_RUNS and reused.  A claim that does not hold at
this size fails here unless docs/paper.md lists it as not holding.
"""

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from nanorepro.commands import figure
from nanorepro.paper import claims
from nanorepro.paper.figures import FIGURES

OPTIONS = shlex.split(os.environ.get("NANOREPRO_CLAIMS", "--scale laptop"))
RUNS = os.environ.get("NANOREPRO_RUNS", "runs")
PAGE = Path(__file__).parents[2] / "docs" / "paper.md"


def known_failures() -> set[str]:
    """The claims that docs/paper.md says do not hold."""
    if not PAGE.exists():
        return set()
    line = re.compile(r"\| \[\d+\]\(#.*?\) \| (.*) \| " + claims.FAILS + r" \|")
    return {m[1] for m in map(line.fullmatch, PAGE.read_text().splitlines()) if m}


@pytest.mark.parametrize("number", [n for n, f in FIGURES.items() if f.claims])
def test_claims_of_figure(number, tmp_path):
    page = tmp_path / "page.md"
    words = [str(number), *OPTIONS, "--out", RUNS, "--report", str(page)]
    assert figure.main(words) == 0
    record = json.loads((tmp_path / "page" / f"figure{number}.json").read_text())
    fail = {c["words"] for c in record["claims"] if c["verdict"] == claims.FAILS}
    assert fail <= known_failures()
