"""The paper's figures at smoke size: what is plotted, what is stored, what is said."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from support.pages import parse
from support.processors import ROOT
from support.slow import slow_after, slow_unless

from nanorepro.commands import figure, sweep
from nanorepro.config import Config
from nanorepro.paper import claims, curves, evidence, report, runner
from nanorepro.paper.figures import FIGURES
from nanorepro.plots import style
from nanorepro.results import metrics, store
from nanorepro.sweeps import work
from nanorepro.sweeps.folder import Folder
from nanorepro.training.simulation import simulate

DOCS = Path(__file__).parents[2] / "docs" / "paper"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of all runs and pictures of this module."""
    return tmp_path_factory.mktemp("runs")


def made(folder, number: int, *options: str) -> dict:
    """A figure at smoke size, its record; of figure 6 two processes compile ahead."""
    words = ["--scale", "smoke", "--out", str(folder), "--threads", "2" if number == 6 else "1"]
    assert figure.main([str(number), *words, *options]) == 0
    return json.loads((folder / f"figure{number}-smoke.json").read_text())


def there(folder, number: int) -> dict:
    """The record of a figure at smoke size, which is made unless it was before."""
    path = folder / f"figure{number}-smoke.json"
    return json.loads(path.read_text()) if path.exists() else made(folder, number)


def table(folder, number: int) -> list[dict]:
    lines = (folder / f"figure{number}-smoke.csv").read_text().splitlines()
    assert lines[0].startswith(f"# python -m nanorepro.figure {number} --scale smoke")
    return list(csv.DictReader(lines[1:]))


# those with the most kinds of model take longer
@pytest.mark.parametrize("number", slow_unless(lambda number: number < 6, FIGURES))
def test_every_figure_is_made(folder, number, capsys):
    record = made(folder, number)
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert (folder / f"figure{number}-smoke.{kind}").read_bytes().startswith(start)
    size = curves.size(number, "smoke")
    assert len(record["runs"]) == len(FIGURES[number].needed(size))
    assert record["missing"] == []
    said = capsys.readouterr().out
    for claim in record["claims"]:
        assert claim["words"] in said
        assert claim["verdict"] == claims.OPEN
        for part in claim["parts"]:
            assert part["what"] in said and part["ids"]


@pytest.mark.parametrize("number", slow_after(1, [2, 6, 8, 10]))
def test_curves_plot_the_stored_runs(folder, number):
    there(folder, number)
    size = curves.size(number, "smoke")
    runs_of = runner.StoredRuns(folder, size, parameters=True)
    figure, runs = FIGURES[number], runs_of.found(FIGURES[number].needed(size))
    rows = table(folder, number)
    drawn = figure.picture(figure.rows(figure.plotted, size, runs), "")
    top, bottom = drawn.axes
    lines = {line.get_gid(): line for ax in (top, bottom) for line in ax.lines if line.get_gid()}
    for name, place in FIGURES[number].plotted:
        if name in size.without:
            continue
        results = [runs_of.find((name, w)) for w in size.at(place)]
        means = [r for r in rows if r["curve"] == name and r["pair"] == "mean"]
        assert [r["id"] for r in means] == [r.config.id for r in results]
        for row, result in zip(means, results, strict=True):
            # recomputed from the file's parameters by way of the caller's functions
            stored = store.load(folder / f"{row['id']}.h5")
            pds = [
                metrics.relative_pd(
                    stored.evaluation.log_odds, *stored.logits[k, :, -1], stored.evaluation.counts
                )
                for k in range(stored.config.pairs)
            ]
            assert float(row["pd"]) == pytest.approx(np.mean(pds), rel=1e-12)
            assert float(row["loss"]) == result.excess_loss
            assert int(row["stuck"]) == len(stored.stuck)
        shown = lines[f"pd {name}"].get_ydata()
        floor = top.get_ylim()[0]
        for y, row in zip(shown, means, strict=True):
            assert y == float(row["pd"]) or (float(row["pd"]) < y < 1.5 * floor)
        three = curves.three_of(size.windows)
        losses = [float(r["loss"]) for r in means if int(r["log2_window"]) in three]
        assert list(lines[f"loss {name}"].get_xdata()) == losses


@pytest.mark.parametrize("number", [2, 8])
def test_labels_do_not_overlap(number):
    """Of the stored figures with most curves; equal ones of one colour at one place are one."""
    drawn = FIGURES[number].picture(evidence.rows(DOCS / f"figure{number}.csv"), "")
    with style.settings():
        drawn.draw_without_rendering()
        bottom = drawn.axes[1]
        labels = [t for t in bottom.texts if t.get_gid() == "label"]
        boxes = [Text.get_window_extent(t) for t in labels]  # of the text, not the line to it
    assert len(labels) > 15
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])


def made_files(folder, number: int) -> dict[str, bytes]:
    """What is made of a figure's runs: neither these nor what a sweep keeps beside them."""
    return {p.name: p.read_bytes() for p in folder.glob(f"figure{number}-*")}


# architectures, curves, parameters
@pytest.mark.parametrize("number", slow_unless(lambda number: number in (1, 4), FIGURES))
def test_a_figure_is_drawn_and_judged_from_its_records_alone(number, folder, tmp_path, monkeypatch):
    """Every file anew, byte for byte, without a run or the compiler."""
    there(folder, number)
    records = tmp_path / "records"
    records.mkdir()
    files = made_files(folder, number)
    for name, data in files.items():
        if name.endswith((".csv", ".json")):
            (records / name).write_bytes(data)
    monkeypatch.setattr(work, "simulate", None)
    monkeypatch.setattr(store, "load", None)
    words = [str(number), "--scale", "smoke", "--from-records", str(records)]
    assert figure.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert made_files(tmp_path / "out", number) == files


@pytest.mark.parametrize(
    "name, damage, said",
    [
        ("figure4-smoke.json", lambda text: text[:50], "not JSON"),
        ("figure4-smoke.json", lambda text: "[]", "not a figure's record"),
        ("figure4-smoke.json", lambda text: text.replace('"log2_eval"', '"x"'), "design"),
        ("figure4-smoke-T10-2pairs.csv", lambda text: text.rsplit("\n", 2)[0], "1 pairs, not 2"),
        ("figure4-smoke-T10-2pairs.csv", lambda text: text.replace("\n0,", "\nx,"), "line 3"),
        ("figure4-smoke.csv", lambda text: text.replace("ReLU 1,0,", "ReLU 1,x,"), "line 3"),
        ("figure2-smoke.csv", lambda text: text.replace(",mean,", ",many,"), "line 3"),
        ("figure4-smoke.csv", None, "No such file"),
    ],
)
def test_records_that_are_wrong_are_refused(folder, tmp_path, capsys, name, damage, said):
    number = int(name.removeprefix("figure")[0])
    there(folder, number)
    for file, data in made_files(folder, number).items():
        if file.endswith((".csv", ".json")):
            (tmp_path / file).write_bytes(data)
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(damage((tmp_path / name).read_text()))
    capsys.readouterr()
    out = tmp_path / "out"
    words = [str(number), "--scale", "smoke", "--from-records", str(tmp_path), "--out", str(out)]
    assert figure.main(words) == 2
    err = capsys.readouterr().err
    assert said in err and name.split(".")[0] in err and err.count("\n") == 1
    assert not out.exists()


def test_a_figure_goes_on_from_a_folder_that_was_copied(folder, tmp_path):
    """As on another machine: the runs that are there are taken, the others made."""
    there(folder, 4)
    half = tmp_path / "copy"
    half.mkdir()
    stored = sorted(folder.glob("*.h5"))
    record = json.loads((folder / "figure4-smoke.json").read_text())
    ids = {r["id"] for r in record["runs"]}
    kept = [p for p in stored if p.stem in ids][0]
    (half / kept.name).write_bytes(kept.read_bytes())
    again = made(half, 4, "--minutes", "30")
    assert {r["id"]: r["fingerprint"] for r in again["runs"]} == {
        r["id"]: r["fingerprint"] for r in record["runs"]
    }
    assert again["claims"] == record["claims"] and again["missing"] == []


def untimed(out, number):
    """A figure's record and tables without what differs between two times that it is made."""
    files = {p.name: p.read_text() for p in out.glob(f"figure{number}-smoke*.csv")}
    plotted = list(csv.DictReader(files.pop(f"figure{number}-smoke.csv").splitlines()[1:]))
    record = json.loads((out / f"figure{number}-smoke.json").read_text())
    for r in [*plotted, *record["runs"]]:
        r.pop("seconds", None)
        r.pop("command", None)  # of runs that start from others it names the folder
    record.pop("seconds")
    return record, plotted, files


@pytest.mark.parametrize("number, fewer", slow_after(1, [(4, "0,2"), (2, "0,5"), (10, "0,3")]))
def test_a_figure_grows_by_windows_from_its_records(
    number, fewer, folder, tmp_path, monkeypatch, capsys
):
    """What is recorded is not run again, though none of its runs are there."""
    there(folder, number)
    first, second = tmp_path / "first", tmp_path / "second"
    before = made(first, number, "--windows", fewer)
    trained = []

    def counted(config, *rest, **named):
        trained.append(config.id)
        return simulate(config, *rest, **named)

    monkeypatch.setattr(work, "simulate", counted)
    after = made(second, number, "--with-records", str(first))
    assert untimed(second, number) == untimed(folder, number)
    seconds = {r["id"]: r["seconds"] for r in before["runs"]}
    again = seconds.keys() & set(trained)  # what other runs start from
    sources = {r["id"] for r in after["runs"] if r["curve"] == "ReLU deep"}
    assert again <= sources and len(again) == (number == 10)
    kept = [r for r in after["runs"] if r["id"] in seconds.keys() - again]
    assert kept and all(r["seconds"] == seconds[r["id"]] for r in kept)
    assert f"{len(kept)} runs are from" in capsys.readouterr().out


@pytest.mark.parametrize("number", slow_after(1, [4, 10]))
def test_of_records_that_have_all_nothing_is_run(number, folder, tmp_path, monkeypatch, capsys):
    record = there(folder, number)
    monkeypatch.setattr(work, "simulate", None)
    made(tmp_path, number, "--with-records", str(folder))
    for name in (f"figure{number}-smoke.json", f"figure{number}-smoke.csv"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert f"{len(record['runs'])} runs are from" in capsys.readouterr().out


def test_recorded_numbers_that_lack_what_a_claim_needs_are_made_again(folder, tmp_path):
    record = there(folder, 4)
    records = tmp_path / "records"
    records.mkdir()
    for name, data in made_files(folder, 4).items():
        if name.endswith((".csv", ".json")):
            (records / name).write_bytes(data.replace(b"largest_difference", b"other"))
    again = made(tmp_path / "out", 4, "--with-records", str(records))
    assert again["claims"] == record["claims"]


@pytest.mark.parametrize("damage", ['"id": "0', '"fingerprint": "zz', '"seconds": "1'])
def test_recorded_runs_that_are_none_are_refused(damage, folder, tmp_path, capsys):
    there(folder, 4)
    for name, data in made_files(folder, 4).items():
        if name.endswith((".csv", ".json")):
            (tmp_path / name).write_bytes(data)
    path = tmp_path / "figure4-smoke.json"
    field = damage.split(":")[0]
    text = path.read_text()
    if field == '"seconds"':
        path.write_text(text.replace('"seconds": ', '"seconds": "1", "s": ', 1))
    else:
        path.write_text(text.replace(f'{field}: "', damage))
    capsys.readouterr()
    out = tmp_path / "out"
    words = ["4", "--scale", "smoke", "--with-records", str(tmp_path), "--out", str(out)]
    assert figure.main(words) == 2
    err = capsys.readouterr().err
    assert "figure4-smoke" in err and err.count("\n") == 1 and not out.exists()


def test_the_runs_of_a_figure_are_a_sweep_of_its_folder(folder, capsys):
    record = there(folder, 4)
    ids, place = {r["id"] for r in record["runs"]}, Folder(folder)
    assert ids <= set(place.journal.read())
    asked = {run["id"]: sweep["command"] for sweep in place.sweeps() for run in sweep["runs"]}
    assert ids <= set(asked)  # by this figure, or by another that has the same runs
    for command in asked.values():  # which goes on in this folder
        assert command.startswith("python -m nanorepro.figure ")
        assert command.endswith(f" --out {shlex.quote(str(folder))}")
    capsys.readouterr()
    assert sweep.main(["verify", str(folder), "-q"]) == 0
    assert " 0 bad, 0 lost" in capsys.readouterr().out
    for id in ids:
        origin = store.load(folder / f"{id}.h5").provenance
        assert origin["sweep"].startswith("python -m nanorepro.figure ")
        assert origin["engine"] == "one process" and origin["command"].startswith("python -m nano")


def test_a_run_that_fails_is_kept_with_its_reason_and_the_rest_goes_on(
    folder, tmp_path, monkeypatch, capsys
):
    of, wanted = work.simulate, {r["id"] for r in there(folder, 4)["runs"]}
    bad = min(wanted)

    def fails(config, *more, **named):
        if config.id == bad:
            raise MemoryError("too large")
        return of(config, *more, **named)

    monkeypatch.setattr(work, "simulate", fails)
    words = ["4", "--scale", "smoke", "--out", str(tmp_path), "-q"]
    capsys.readouterr()
    assert figure.main(words) == 1
    out, err = capsys.readouterr()
    assert out == "" and f"run {bad} failed: MemoryError: too large" in err
    assert {path.stem for path in tmp_path.glob("*.h5")} == wanted - {bad}
    assert set(Folder(tmp_path).failures()) == {bad}
    monkeypatch.undo()
    assert figure.main(words) == 0
    assert {path.stem for path in tmp_path.glob("*.h5")} == wanted
    assert not Folder(tmp_path).failures()


@pytest.mark.slow
def test_runs_start_from_those_that_were_made_before(folder):
    """Of figure 10: the lower rate goes on from the parameters of the run before, in its folder."""
    record = there(folder, 10)
    of = curves.curves(curves.size(10, "smoke"))
    runs = {r["id"]: store.load(folder / f"{r['id']}.h5") for r in record["runs"]}
    later = [r for r in runs.values() if r.config.warm_start]
    assert later and any(curve.source for curve in of.values())
    for run in later:
        assert run.config.warm_start in {r.fingerprint for r in runs.values()}
        assert "figure 10 --scale smoke --out " in run.provenance["command"]


@pytest.mark.slow  # figure 6
def test_claims_that_are_open_ask_for_more_pairs(folder, monkeypatch, capsys):
    """What decides is trained only where the figure's own runs leave a claim open."""
    more = curves.Size(8, 8, 4, (0, 1, 3), series=False)
    of = FIGURES[6]
    changed = [replace(c, more=more if "similar" in c.words else None, least=8) for c in of.claims]
    monkeypatch.setitem(FIGURES, 6, replace(of, claims=tuple(changed)))
    record = made(folder, 6, "--decide")
    (others,) = record["more"]
    assert {r["curve"] for r in others["runs"]} == {"Identity tower", "ReLU tower"}
    assert len(others["runs"]) == 6 and others["design"]["pairs"] == 4
    sizes = [p["size"] for c in record["claims"] for p in c["parts"]]
    assert set(sizes) == {"", "T = 2^8, 4 pairs"}
    assert "T = 2^8, 4 pairs" in capsys.readouterr().out
    assert (folder / "figure6-smoke-T8-4pairs.csv").exists()
    assert record["command"].endswith("--decide")
    (folder / "figure6-smoke-T8-4pairs.csv").unlink()
    monkeypatch.undo()
    made(folder, 6)


@pytest.mark.parametrize("number", slow_after(2, [3, 4, 7, 9]))
def test_weights_and_their_differences(number, folder):
    there(folder, number)
    rows = table(folder, number)
    assert {r["curve"] for r in rows} == {n for n, _ in FIGURES[number].plotted}
    for row in rows[:: max(len(rows) // 50, 1)]:
        stored = store.load(folder / f"{row['id']}.h5")
        assert stored.fingerprint == row["fingerprint"]
        pair = stored.parameters[int(row["pair"])]
        names = [n for n, v in pair[0].items() for _ in range(v.size)]
        assert row["parameter"] == names[int(row["index"])]
        for m, model in enumerate(pair, 1):
            value = np.concatenate([v.T.ravel() for v in model.values()])[int(row["index"])]
            assert float(row[f"model_{m}"]) == value
        assert float(row["difference"]) == float(row["model_2"]) - float(row["model_1"])


@pytest.mark.parametrize("number", slow_after(1, [4, 2]))
def test_second_call_only_draws(number, folder, monkeypatch):
    made(folder, number)
    pictures = {p.name: p.read_bytes() for p in folder.glob(f"figure{number}-smoke.*")}
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.h5")}
    monkeypatch.setattr(work, "simulate", None)
    made(folder, number)
    assert before == {p.name: p.stat().st_mtime_ns for p in folder.glob("*.h5")}
    assert pictures == {p.name: p.read_bytes() for p in folder.glob(f"figure{number}-smoke.*")}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_figure_goes_on(folder, tmp_path, sent):
    words = [sys.executable, "-m", "nanorepro.figure", "2", "--scale", "smoke",
             "--log2-examples", "20", "--windows", "0,9", "--threads", "1"]  # fmt: skip
    child = subprocess.Popen([*words, "--out", str(tmp_path)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("*.h5"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(sent)
    child.communicate()
    assert child.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    assert not list(tmp_path.glob("figure2*"))
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("[0-9a-f]*.h5")}
    assert 3 <= len(kept) < 20
    assert figure.main([*words[3:], "--out", str(tmp_path)]) == 0
    now = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("[0-9a-f]*.h5")}
    assert len(now) == 20
    assert kept.items() <= now.items()


@pytest.mark.parametrize(
    "words, named",
    [
        (["11"], "figure"),
        ([], "figure"),
        (["2", "--scale", "huge"], "--scale"),
        (["2", "--log2-examples", "4"], "--log2-examples"),
        (["2", "--log2-examples", "x"], "--log2-examples"),
        (["2", "--pairs", "0"], "--pairs"),
        (["2", "--scale", "smoke", "--windows", "0,6"], "--windows"),
        (["2", "--threads", "0"], "--threads"),
        (["2", "--minutes", "0"], "--minutes"),
        (["2", "--seed", "-1"], "--seed"),
        (["2", "--report", "page.htm"], "--report"),
        (["2", "--model", "tower"], "--model"),
        (["1", "--hidden", "0"], "--hidden"),
        (["2", "--nonsense"], "--nonsense"),
        (["2", "--from-records", "nowhere"], "--from-records"),
        (["2", "--from-records", ".", "--pairs", "3"], "--pairs"),
        (["2", "--from-records", "."], "figure2"),
        (["2", "--with-records", "nowhere"], "--with-records"),
        (["2", "--with-records", "."], "figure2"),
        (["2", "--with-records", ".", "--from-records", "."], "--from-records"),
        (["2", "--with-records", ".", "--plan"], "--plan"),
        (["mitigations", "--with-records", "."], "--with-records"),
    ],
)
def test_wrong_options(words, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert figure.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and named in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "curve"), slow_after(1, [("4", "ReLU 1"), ("6", "ReLU tower")]))
def test_plan_runs_and_writes_nothing(number, curve, tmp_path, capsys):
    out = tmp_path / "runs"
    words = [number, "--log2-examples", "12", "--pairs", "2", "--plan", "--out", str(out)]
    assert figure.main(words) == 0
    said = capsys.readouterr().out
    assert curve in said and "MB" in said and "together about" in said
    assert not out.exists()


def test_minutes_leave_runs_out(tmp_path, capsys):
    words = ["4", "--scale", "smoke", "--minutes", "1e-9", "--out", str(tmp_path)]
    assert figure.main(words) == 0
    assert "runs not made" in capsys.readouterr().out
    assert list(tmp_path.glob("*.h5")) == []


def test_report_is_traceable(folder, tmp_path):
    page = tmp_path / "paper.md"
    for number in (4, 1):
        words = [str(number), "--scale", "smoke", "--out", str(folder), "--report", str(page)]
        assert figure.main(words) == 0
    text = page.read_text()
    assert text.index("## Figure 1") < text.index("## Figure 4")
    record = json.loads((tmp_path / "paper" / "figure4.json").read_text())
    for run in record["runs"]:
        assert run["id"] in text and run["fingerprint"] in text
        assert store.load(folder / f"{run['id']}.h5").fingerprint == run["fingerprint"]
    assert record["command"] in text
    assert "(paper/figure4.png)" in text and (tmp_path / "paper" / "figure4.png").exists()


def test_report_as_one_html_page(tmp_path):
    """Claims first, pictures inside, what others wrote as text; nothing is loaded."""
    page, drawn = tmp_path / "paper.html", tmp_path / "paper"
    drawn.mkdir()
    for name in ("figure4.json", "figure4.png"):  # drawn before, for another page
        shutil.copy(ROOT / "docs" / "paper" / name, drawn)
    (drawn / "notes4.md").write_text("<script>alert(1)</script> & more")
    words = ["1", "--out", str(tmp_path / "runs"), "--report", str(page)]
    assert figure.main(words) == 0
    first = page.read_bytes()
    assert figure.main(words) == 0 and page.read_bytes() == first
    tree = parse(first)
    heads = [h.text for h in tree.all("h2")]
    assert heads[0] == "All claims"
    assert [h.partition(":")[0] for h in heads[1:]] == ["Figure 1", "Figure 4"]
    record = json.loads((drawn / "figure4.json").read_text())
    assert record["runs"] and record["claims"]
    for run in record["runs"]:
        assert run["fingerprint"] in tree.text and run["command"] in tree.text
    for claim in record["claims"]:
        assert claim["words"] in tree.all("table")[0].text
    assert len(tree.all("svg")) == len(tree.all("img")) == len(tree.all("script")) == 1
    assert tree.all("img")[0].get("src").startswith("data:image/png;base64,")
    assert "<script>alert(1)</script> & more" in tree.text
    ids = [e.get("id") for e in tree.all() if e.get("id")]
    assert len(ids) == len(set(ids))
    assert all((e.get("href") or "#")[0] == "#" for e in tree.all())


def test_a_picture_that_others_changed_does_nothing(tmp_path):
    """What is no picture is left out of an SVG; what is no SVG is not used."""
    page, drawn = tmp_path / "paper.html", tmp_path / "paper"
    drawn.mkdir()
    for name in ("figure4.json", "figure6.json", "figure6.png"):
        shutil.copy(ROOT / "docs" / "paper" / name, drawn)
    (drawn / "figure4.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script>'
        '<g onclick="alert(3)"><image href="http://example.org/x.png"/></g>'
        '<rect style="fill: url(http://example.org/y)"/></svg>'
    )
    (drawn / "figure6.svg").write_text("not <as it was")
    report.write_report(page)
    tree = parse(page.read_bytes())
    assert len(tree.all("script")) == len(tree.all("svg")) == len(tree.all("img")) == 1
    for word in (b"alert", b"example.org", b"onclick", b"onload"):
        assert word not in page.read_bytes()


def test_a_page_without_jinja_is_refused_before_anything_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.chdir(tmp_path)
    assert figure.main(["2", "--report", "page.html"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "pip install 'nanorepro[report]'" in err
    assert list(tmp_path.iterdir()) == []


def test_configured_architecture(tmp_path):
    words = ["5", "--model", "tower", "--hidden", "3,200", "--act", "swish"]
    assert figure.main([*words, "--out", str(tmp_path)]) == 0
    config = Config(model="tower", hidden="3,200", act="swish")
    (ax,) = FIGURES[5].picture([], "", [config]).axes
    assert "tower [3, 200], A = swish" in ax.get_title(loc="left")
