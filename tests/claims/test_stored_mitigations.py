"""The table of docs/mitigations.md, recomputed from the numbers that are stored beside it."""

import json
import math
from pathlib import Path

import pandas
import pytest

from nanorepro.commands import figure

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "mitigations"
STORED = json.loads((FOLDER / "mitigations-laptop.json").read_text(encoding="utf-8"))


def test_program_says_the_same_of_the_stored_numbers(tmp_path, capsys):
    words = ["mitigations", "--from-records", str(FOLDER), "--out", str(tmp_path)]
    assert figure.main(words) == 0
    capsys.readouterr()
    again = json.loads((tmp_path / "mitigations-laptop.json").read_text(encoding="utf-8"))
    assert again == STORED


@pytest.mark.parametrize("row", STORED["table"], ids=lambda r: f"{r['name']}-{r['log2_window']}")
def test_ratios_by_pandas(row):
    """Of the pairs that learned in both, the mean over the baseline's."""
    rows = pandas.read_csv(FOLDER / "mitigations-laptop.csv", comment="#")
    rows = rows[(rows.log2_window == row["log2_window"]) & (rows.pair != "mean")]
    own, base = (rows[rows.curve == n].set_index("pair") for n in (row["name"], "ReLU"))
    learned = [(r.stuck == 0) & (r.diverged == 0) for r in (own, base)]
    both = learned[0] & learned[1]
    assert both.sum() == row["pairs"] and own.stuck.sum() == row["stuck"]
    for name in ("pd", "loss"):
        ratio = own[name][both].mean() / base[name][both].mean()
        assert row[f"{name}_ratio"] == pytest.approx(ratio, rel=1e-9)
        low, high = row[f"{name}_ratio_low"], row[f"{name}_ratio_high"]
        assert low <= ratio * (1 + 1e-12) and ratio <= high * (1 + 1e-12)
    if row["bought"] is not None:
        assert row["bought"] == pytest.approx(-math.log2(row["pd_ratio"]), abs=1e-12)
