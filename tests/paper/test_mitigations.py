"""Mitigations at smoke size: runs, ensembles, averages, table, picture and records."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from nanorepro.backends import load_backend
from nanorepro.commands import figure
from nanorepro.paper import averaged_models, mitigation_table, mitigations, plot_mitigations, runner
from nanorepro.paper.curves import Size
from nanorepro.results import store
from nanorepro.sweeps import work
from nanorepro.training.parameters import initial_parameters
from nanorepro.training.threads import ThreadedWork

SIZE = mitigations.SIZES["smoke"]
WORDS = ["mitigations", "--scale", "smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of all runs of this module, with the table and the picture."""
    found = tmp_path_factory.mktemp("runs")
    assert figure.main([*WORDS, "--out", str(found)]) == 0
    return found


@pytest.fixture(scope="module")
def stored(folder):
    return runner.StoredRuns(folder, SIZE, False, mitigations.curves(SIZE))


def rows_of(folder):
    lines = (folder / "mitigations-smoke.csv").read_text().splitlines()
    assert lines[0].startswith("# python -m nanorepro.figure mitigations --scale smoke")
    return list(csv.DictReader(lines[1:]))


def made_files(folder):
    return {p.name: p.read_bytes() for p in folder.glob("mitigations-*")}


@pytest.mark.slow
def test_every_mitigation_has_its_rows(folder):
    record = json.loads((folder / "mitigations-smoke.json").read_text())
    names = {m.name for m in mitigations.plotted(SIZE)}
    assert {r["name"] for r in record["table"]} == {r["curve"] for r in rows_of(folder)} == names
    assert len(record["table"]) == 2 * len(names) and record["missing"] == []
    assert (folder / "mitigations-smoke.png").read_bytes().startswith(b"\x89PNG")
    for row in record["table"]:
        if row["name"] == mitigations.BASE:
            assert row["pd_ratio"] == row["loss_ratio"] == 1.0
    assert len(record["runs"]) == len(mitigations.needed(SIZE))


@pytest.mark.slow
def test_members_see_the_same_examples_and_start_elsewhere(stored):
    config = stored.config
    base, others = (
        config((mitigations.BASE, 3)),
        [config((mitigations.member(k), 3)) for k in (1, 2)],
    )
    assert len({c.id for c in (base, *others)}) == 3
    for c in others:
        assert (c.seed, c.first_example, c.lr, c.differ) == (0, 0, base.lr, base.differ)
    starts = [
        initial_parameters(c, pair, model)["w0"]
        for c in (base, *others) for pair in range(3) for model in (0, 1)
    ]  # fmt: skip
    assert len({w[0, 0] for w in starts}) == 9  # values of their own, of every pair and member
    assert all(np.array_equal(a, b) for a, b in zip(starts[::2], starts[1::2], strict=True))
    every = replace(base, pairs=9)  # and those that pairs further on would have
    for k, w in enumerate(starts[::2]):
        assert np.array_equal(w, initial_parameters(every, k)["w0"])


@pytest.mark.slow
def test_ensembles_are_means_of_stored_probabilities(folder, stored):
    """Recomputed by NumPy alone."""
    found = averaged_models.ensembles(SIZE, stored, load_backend("numba"))
    runs = [
        store.load(store.path_of(stored.config((mitigations.member(k), 3)), folder))
        for k in range(4)
    ]
    z = np.array([r.logits[:, :, -1] for r in runs], float)  # (member, pair, model, pattern)
    p = (1.0 / (1.0 + np.exp(-z))).mean(axis=0)
    true, counts = 1.0 / (1.0 + np.exp(-runs[0].evaluation.log_odds)), runs[0].evaluation.counts
    apart = (np.abs(p[:, 0] - p[:, 1]) / true) @ counts / counts.sum()
    entropy = true * np.log(true) + (1 - true) * np.log(1 - true)
    cross = true * np.log(p) + (1 - true) * np.log(1 - p)
    loss = (entropy - cross) @ counts / counts.sum()
    measured = found["ensemble of 4", 3]
    assert [q.pd for q in measured.pairs] == pytest.approx(apart, rel=1e-9)
    assert np.array([q.loss for q in measured.pairs]) == pytest.approx(loss, rel=1e-9)


@pytest.mark.slow
def test_averages_are_kept_and_what_is_damaged_is_made_anew(folder, stored, monkeypatch):
    backend, late = load_backend("numba"), math.inf

    def averages():
        return averaged_models.averages(SIZE, stored, backend, 1, late, shown=False)[0]

    first = averages()
    for (name, window), r in first.items():
        base = stored.find((mitigations.BASE, window))
        assert name == mitigations.AVERAGED and r.fingerprint != base.fingerprint
    path = averaged_models.path_of(folder, stored.config((mitigations.BASE, 0)))
    before = path.read_text()
    calls = []
    real = averaged_models.averaged
    monkeypatch.setattr(averaged_models, "averaged", lambda *a: calls.append(a) or real(*a))
    listed = json.dumps({**json.loads(before), "measures": [1, 2]})
    longer = before.replace('"pd": [', '"pd": [0.5, ')
    for damaged in ("", "[]", "{}", listed, longer, before[:-9]):
        path.write_text(damaged)
        again = averages()
        assert (
            again[mitigations.AVERAGED, 0].fingerprint == first[mitigations.AVERAGED, 0].fingerprint
        )
    assert len(calls) == 6
    assert averages().keys() == first.keys() and len(calls) == 6
    assert json.loads(path.read_text())["measures"] == json.loads(before)["measures"]


@pytest.mark.slow
def test_a_run_that_is_not_repeated_to_the_bit_is_a_finding(stored):
    base = replace(stored.find((mitigations.BASE, 0)), fingerprint=64 * "0")
    with pytest.raises(averaged_models.NotTheSame, match="a finding"):
        averaged_models.averaged(base, load_backend("numba"), 1, ThreadedWork(1, None))


@pytest.mark.slow
def test_second_call_only_draws(folder, monkeypatch):
    before = made_files(folder)
    monkeypatch.setattr(work, "simulate", None)
    monkeypatch.setattr(averaged_models, "averaged", None)
    assert figure.main([*WORDS, "--out", str(folder)]) == 0
    assert made_files(folder) == before


@pytest.mark.slow
def test_drawn_from_the_records_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "simulate", None)
    monkeypatch.setattr(store, "load", None)
    out = tmp_path / "out"
    words = [*WORDS, "--from-records", str(folder), "--out", str(out)]
    assert figure.main(words) == 0
    assert made_files(out) == made_files(folder)


@pytest.mark.slow
def test_minutes_leave_runs_out(tmp_path, capsys):
    words = [*WORDS, "--minutes", "1e-9", "--out", str(tmp_path)]
    assert figure.main(words) == 0
    assert "runs not made" in capsys.readouterr().out
    assert list(tmp_path.glob("*.h5")) == []


@pytest.mark.parametrize(
    "words, named",
    [
        (["--report", "page.md"], "--report"),
        (["--decide"], "--decide"),
        (["--model", "wide"], "--model"),
        (["--windows", "0,9"], "--windows"),
        (["--from-records", "nowhere"], "--from-records"),
        (["--from-records", "."], "mitigations-smoke.json"),
    ],
)
def test_wrong_options(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert figure.main([*WORDS, *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and named in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, damage, said",
    [
        ("json", lambda text: "{}", "not the record"),
        ("csv", lambda text: text.replace(",served", ",serve"), "served is missing"),
        ("csv", lambda text: text.replace(",mean,", ",many,"), "line 3"),
        ("csv", lambda text: "".join(text.splitlines(keepends=True)[:2]), "not the table"),
    ],
)
def test_records_that_are_wrong_are_refused(folder, tmp_path, capsys, kind, damage, said):
    for name, data in made_files(folder).items():
        if name.endswith((".csv", ".json")):
            (tmp_path / name).write_bytes(data)
    path = tmp_path / f"mitigations-smoke.{kind}"
    path.write_text(damage(path.read_text()))
    out = tmp_path / "out"
    assert figure.main([*WORDS, "--from-records", str(tmp_path), "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not out.exists()


def made_rows(values):
    """Rows of one window, from (name, PD of every pair, L of every pair, examples)."""
    found = []
    for name, pds, losses, examples in values:
        pairs = [("mean", np.mean(pds), np.mean(losses)), *zip(range(9), pds, losses, strict=False)]
        found += [
            {"curve": name, "log2_window": 0, "pair": k, "pd": pd, "loss": loss,
             "examples": examples, "served": examples, "stuck": 0, "diverged": 0}
            for k, pd, loss in pairs
        ]  # fmt: skip
    return found


def test_the_table_by_hand():
    rng = np.random.default_rng(0)
    pd, loss = rng.lognormal(size=9), rng.lognormal(sigma=0.1, size=9)
    rows = made_rows(
        [("ReLU", pd, loss, 1), ("ensemble of 4", pd / 2.0, loss, 4),
         ("SmeLU 1", pd / 8.0, 1.03 * loss, 1), ("sums exact", 0.0 * pd, loss, 1)]
    )  # fmt: skip
    found = {r["name"]: r for r in mitigation_table.table(rows, 0)}
    four, smooth, exact = (found[n] for n in ("ensemble of 4", "SmeLU 1", "sums exact"))
    assert four["pd_ratio"] == pytest.approx(0.5) and four["pairs"] == 9
    assert four["pd_ratio_low"] == pytest.approx(0.5) == four["pd_ratio_high"]
    assert four["bought"] == pytest.approx(1.0) and four["per_cost"] == pytest.approx(0.5)
    assert four["per_loss"] is None and smooth["per_cost"] is None
    assert smooth["bought"] == pytest.approx(3.0) and smooth["per_loss"] == pytest.approx(1.0)
    assert exact["pd_ratio"] == 0.0 and exact["bought"] is None
    text = "\n".join(mitigation_table.as_text([*found.values()]))
    assert "all" in text and "0.5 [0.5, 0.5]" in text
    drawn = plot_mitigations.panels([*found.values()], "", "")
    points = {line.get_gid(): line for line in drawn.axes[0].lines}
    assert points["ensemble of 4"].get_xydata().tolist() == [[1.0, pytest.approx(0.5)]]
    assert points["ensemble of 4"].get_markersize() == 2.0 * points["SmeLU 1"].get_markersize()
    assert points["sums exact"].get_marker() == "v"


def test_nothing_is_said_of_pairs_that_did_not_learn():
    rows = made_rows([("ReLU", np.ones(9), np.ones(9), 1), ("SmeLU 1", np.ones(9), np.ones(9), 1)])
    stuck = [row | {"stuck": 2 * (row["curve"] == "ReLU")} for row in rows]
    found = mitigation_table.table(stuck, 0)
    assert [r["pd_ratio"] for r in found] == [None, None] and found[0]["stuck"] == 18
    assert "-" in "\n".join(mitigation_table.as_text(found))
    assert plot_mitigations.panels(found, "", "").axes[0].texts[0].get_text() == "no pair learned"


def test_every_scale_names_curves_that_there_are():
    for size in mitigations.SIZES.values():
        assert isinstance(size, Size)
        assert {*size.without} <= {m.name for m in mitigations.MITIGATIONS}
        curves = mitigations.curves(size)
        assert {name for name, _ in mitigations.needed(size)} <= curves.keys()
        sources = [c.source for c in curves.values() if c.source]
        assert [mitigations.needed(size)[0][0]] == sources == [mitigations.BASE]
