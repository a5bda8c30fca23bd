"""Every verdict of docs/paper.md, recomputed from the numbers that are stored beside it.

Nothing is trained.  Twice: by the program (`figure --from-records`), and by the few lines below,
which share nothing with it but the names of the tests: SciPy's bootstrap, t tests and intervals on
tables that pandas reads.
"""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy import stats
from support.slow import slow_unless

from nanorepro.commands import figure
from nanorepro.paper import claims
from nanorepro.paper.figures import FIGURES
from nanorepro.paper.report import write_report

PAGE = Path(__file__).parents[2] / "docs" / "paper.md"
FOLDER = PAGE.with_suffix("")
STORED = [
    n for n in FIGURES
    if "design" in json.loads((FOLDER / f"figure{n}.json").read_text(encoding="utf-8"))
]  # fmt: skip
CLAIMED = [n for n in STORED if FIGURES[n].claims]


def record_of(number):
    return json.loads((FOLDER / f"figure{number}.json").read_text(encoding="utf-8"))


def table_of(number, design):
    name = f"figure{number}-T{design['log2_examples']}-{design['pairs']}pairs.csv"
    return pandas.read_csv(FOLDER / name, comment="#", index_col="pair")


def test_most_figures_are_stored():
    assert {2, 3, 4, 6, 7} <= set(CLAIMED)


# those with a thousand pairs or more take longer
@pytest.mark.parametrize("number", slow_unless(lambda number: number not in (2, 6, 8), STORED))
def test_program_says_the_same_of_the_stored_numbers(number, tmp_path, capsys):
    words = [str(number), "--from-records", str(FOLDER), "--report", str(tmp_path / "page.md")]
    assert figure.main(words) == 0
    capsys.readouterr()
    again = json.loads((tmp_path / "page" / f"figure{number}.json").read_text(encoding="utf-8"))
    before = record_of(number)
    assert again["runs"] == before["runs"] and len(again["claims"]) == len(before["claims"])
    for ours, theirs in zip(again["claims"], before["claims"], strict=True):
        assert (ours["words"], ours["verdict"]) == (theirs["words"], theirs["verdict"])
        for part, stored in zip(ours["parts"], theirs["parts"], strict=True):
            assert part["verdict"] == stored["verdict"], part["what"]
            for end in ("measured", "low", "high"):
                assert part[end] == pytest.approx(stored[end], rel=1e-6, abs=1e-12)


def test_page_is_made_of_the_records_and_notes(tmp_path):
    (tmp_path / "paper").symlink_to(FOLDER)
    write_report(tmp_path / "paper.md")
    assert (tmp_path / "paper.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("number", CLAIMED)
def test_page_says_what_the_records_say(number):
    text = PAGE.read_text(encoding="utf-8")
    lines, record = text.splitlines(), record_of(number)
    for claim in record["claims"]:
        line = f"| [{number}](#figure-{number}) | {claim['words']} | {claim['verdict']} |"
        assert line in lines
    for of in [record, *record["more"]]:
        for run in of["runs"]:
            assert f"| {run['id']} | {run['fingerprint']} |" in text


def test_a_record_whose_table_is_missing_is_refused(tmp_path, capsys):
    for file in FOLDER.glob("figure3*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    table = tmp_path / "figure3-T26-16pairs.csv"
    table.unlink()
    assert figure.main(["3", "--from-records", str(tmp_path), "--out", str(tmp_path / "new")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(table) in line and "No such file" in line and not (tmp_path / "new").exists()


QUANTITIES = {"PD": "pd", "L": "loss", "largest |Δw|": "largest_difference"}


def expected(words):
    """The range that a part's words name."""
    ends = [float(x) for x in re.findall(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?", words)]
    if words.endswith("or more"):
        return ends[0], math.inf
    if words.endswith("or less"):
        return -math.inf, ends[0]
    return ends[0], ends[-1]


@pytest.mark.parametrize("number", CLAIMED)
def test_verdicts_follow_from_the_intervals(number):
    """A part by its interval, or its test; a claim by the last word on each of its parts."""
    for claim in record_of(number)["claims"]:
        last: list[str] = []
        for part in claim["parts"]:
            low, high = expected(part["expected"])
            measured = [part[k] for k in ("low", "high")]
            # ranges are printed with three digits
            tested = part["said"].startswith("equality")
            if part["verdict"] == claims.HOLDS and not tested:
                assert low - 1e-3 * abs(low) <= measured[0]
                assert measured[1] <= high + 1e-3 * abs(high)
            elif part["verdict"] == claims.FAILS and not tested:
                assert measured[1] < low * (1 + 1e-3) or measured[0] > high * (1 - 1e-3)
            elif tested:
                p = float(re.search(r"p = ([0-9.e+-]+);?", part["said"])[1].rstrip(";"))
                assert (part["verdict"] == claims.HOLDS) == (p < 0.05)
            if part["size"]:  # of more pairs: in place of the part before
                last.pop()
            last.append(part["verdict"])
        told = set(last)
        verdict = claims.FAILS if claims.FAILS in told else (
            claims.OPEN if claims.OPEN in told else claims.HOLDS)  # fmt: skip
        assert claim["verdict"] == verdict


def positive_ratio(first, second, rng):
    """log of a ratio of means over the same pairs, and its standard error, by SciPy's bootstrap."""

    def log_ratio(a, b, axis):
        return np.log(a.mean(axis=axis) / b.mean(axis=axis))

    found = stats.bootstrap((first, second), log_ratio, paired=True, vectorized=True,
                            method="percentile", n_resamples=2000, rng=rng)  # fmt: skip
    return float(log_ratio(first, second, 0)), float(found.standard_error)


@pytest.mark.parametrize("number", CLAIMED)
def test_numbers_of_ratios_and_losses_by_scipy(number):
    """What stands in the record of PD ratios and of equal losses, from the tables alone."""
    record = record_of(number)
    rng = np.random.default_rng(0)
    checked = 0
    runs = [(record["design"], r) for r in record["runs"]]
    runs += [(m["design"], r) for m in record["more"] for r in m["runs"]]
    where = {r["id"]: (design, r) for design, r in runs}
    for part in (p for c in record["claims"] for p in c["parts"]):
        of = [where[i] for i in part["ids"]]
        if part["measured"] is None or not of:
            continue
        table = table_of(number, of[0][0])

        def column(k, quantity, of=of, table=table):
            return table[f"{of[k][1]['curve']}|{of[k][1]['log2_window']}|{quantity}"].to_numpy()

        if part["said"].startswith("equality"):
            learned = "log_loss_learned" if number == 6 else "log_loss"
            later = [column(k, learned) - column(0, learned) for k in range(1, len(of))]
            later = [d[np.isfinite(d)] for d in later]
            margin = math.log(1.1) / 2
            assert expected(part["expected"])[1] == pytest.approx(math.exp(margin), rel=2e-3)
            if all(np.ptp(d) > 0 for d in later):
                p = max(
                    max(stats.ttest_1samp(d, -margin, alternative="greater").pvalue,
                        stats.ttest_1samp(d, margin, alternative="less").pvalue)
                    for d in later
                )  # fmt: skip
                assert (part["verdict"] == claims.HOLDS) == (p < 0.05)
                checked += 1
        elif of_all := re.search(r": (PD|L) of all pairs over that of those", part["what"]):
            x, stuck = column(0, QUANTITIES[of_all[1]]), column(0, "stuck")
            assert x.mean() / x[stuck == 0].mean() == pytest.approx(part["measured"], rel=1e-6)
            checked += 1
        elif part["what"].endswith("L, pair by pair"):
            d = np.log(column(0, "loss") / column(1, "loss"))
            ends = stats.ttest_1samp(d, 0.0).confidence_interval()
            for k, value in (("measured", d.mean()), ("low", ends.low), ("high", ends.high)):
                assert math.exp(value) == pytest.approx(part[k], rel=1e-6)
            checked += 1
        elif (name := QUANTITIES.get(part["what"].rpartition(": ")[2])) and len(of) == 2:
            value, error = positive_ratio(column(0, name), column(1, name), rng)
            assert value == pytest.approx(math.log(part["measured"]), abs=1e-6)
            # as wide as SciPy's, or wider where a few pairs make the mean
            if part["low"] and part["high"] is not None:
                width = math.log(part["high"] / part["low"])
                assert 2.5 * error < width
            checked += 1
        elif part["what"].endswith(": PD") and len(of) == 1:
            assert column(0, "pd").mean() == pytest.approx(part["measured"], rel=1e-6)
            checked += 1
    assert checked or number not in (2, 6, 8)
