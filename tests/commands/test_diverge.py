"""python -m nanorepro.diverge, as people type it."""

import json

import pytest
from support.commands import call, refused
from support.slow import slow_after

from nanorepro.commands import diverge

TINY = ("--log2-examples", "9", "--log2-eval", "5", "--pairs", "2", "--hidden", "4", "-q")


@pytest.mark.parametrize("backend", slow_after(1, ["reference", "numba"]))
def test_a_table_the_numbers_and_a_picture(backend, tmp_path):
    words = (*TINY[:-1], "--backend", backend, "--out", str(tmp_path))
    status, out, err = call(diverge.main, *words, "-q")
    assert (status, err) == (0, "")
    assert "part after" in out
    assert f"again    python -m nanorepro.diverge {' '.join(words)}" in out
    [numbers] = tmp_path.glob("*.json")
    [picture] = tmp_path.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    record = json.loads(numbers.read_text())
    assert len(record["divergences"][0]["pairs"]) == 2
    assert record["provenance"]["numpy"]


@pytest.mark.parametrize("backend", slow_after(1, ["reference", "numba"]))
def test_json_is_one_object_with_a_planted_step(backend, tmp_path):
    words = (*TINY, "--differ", "nudge", "--nudge-at", "5", "--json", "--backend", backend,
             "--out", str(tmp_path))  # fmt: skip
    status, out, _ = call(diverge.main, *words)
    assert status == 0
    record = json.loads(out, parse_constant=pytest.fail)
    for pair in record["divergences"][0]["pairs"]:
        assert (pair["parting"]["step"], pair["parting"]["weights"]) == (5, 1)


def test_configurations_side_by_side(tmp_path):
    words = (*TINY, "--by", "act=relu,swish", "--json", "--backend", "reference")
    status, out, _ = call(diverge.main, *words, "--out", str(tmp_path))
    record = json.loads(out)
    assert status == 0
    assert (record["axis"], record["values"]) == ("act", ["relu", "swish"])
    assert [d["config"]["act"] for d in record["divergences"]] == ["relu", "swish"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "act"], "--by: 'act' is not allowed; give FIELD=VALUE,VALUE"),
        (["--by", "acct=relu,swish"], "--by: 'acct' is not a field of a run; did you mean act?"),
        (["--by", "act=relu"], "--by: 'relu' is not allowed; give two values or more"),
        (["--by", "act=relu,relu"], "--by: 'relu,relu' is not allowed"),
        (["--by", "act=relu,tanh"], "--act: 'tanh' is not allowed"),
        (["--by", "seed=1,2,3,4,5,6,7,8"], "--by: 8 values are too many"),
        (["--threshold", "0"], "--threshold: '0' is not allowed; give a number above 0"),
        (["--per-octave", "0"], "--per-octave: '0' is not allowed"),
        (["--backend", "cupy"], "--backend: 'cupy' is not allowed; give numba or reference"),
        (["--differ", "nudge", "--nudge-at", "99"], "--nudge-at: 99 is not allowed"),
        (["--warm-start", "x"], "'--warm-start' is not an option"),
        (["--log2-window", "30"], "--log2-window: 30 is not allowed"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_nothing_is_written(words, said, tmp_path):
    words = [*words, "--out", str(tmp_path / "out")]
    assert said in refused(diverge.main, *TINY, *words, folder=tmp_path)


def test_help_says_what_is_looked_for():
    status, out, _ = call(diverge.main, "--help")
    assert status == 0
    for words in ("--by", "--threshold", "--nudge-at", "another branch", "default"):
        assert words in out
