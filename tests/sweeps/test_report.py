"""The page of a folder: what stands in it, that it is whole and safe, small and always the same."""

import math
import os
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from support.folders import entry_of, fill, grid
from support.pages import parse

from nanorepro.commands import sweep
from nanorepro.errors import ConfigError
from nanorepro.numerics.streams import stream_key
from nanorepro.pages import page
from nanorepro.results.metrics import METRICS
from nanorepro.results.studentized import mean_of
from nanorepro.sweeps import pooled, report, table
from nanorepro.sweeps.folder import Folder

GRID = grid(act=["identity", "relu", "swish"], log2_window=[0, 5, 10], seed=[0, 1], pairs=[4])
EVIL = "</style><script>alert('1 & 2')</script>\"<b>\x00\udcff"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sweep of which some runs are missing, for several reasons."""
    made = Folder(tmp_path_factory.mktemp("of") / "runs")
    fill(made.path, [entry_of(config) for config in GRID[:-3]])
    made.remember("python -m nanorepro.sweep grid.toml", GRID)
    made.fail(GRID[-1], "MemoryError: nothing left", 3)
    (made.path / f"{GRID[-2].id}.h5").write_bytes(b"torn")
    return made


@pytest.fixture(scope="module")
def tree(folder):
    return parse(report.report(folder))


def rows_of(tree):
    (runs,) = (t for t in tree.all("table") if t.get("id") == "runs")
    heads = [cell.text for cell in runs.all("thead")[0].all("th")]
    return heads, [[c.text for c in body.children[0].children] for body in runs.all("tbody")]


def test_it_says_what_was_run_what_is_missing_and_why(tree, folder):
    text = " ".join(tree.all("main")[0].text.split())
    assert "15 runs finished: 120 models" in text
    command = f"python -m nanorepro.sweep grid.toml --out {folder.path}"
    assert f"{command} 15 of 18 runs finished" in text
    (missing,) = (t for t in tree.all("table") if t.get("id") is None and GRID[-1].id in t.text)
    reasons = {r.children[0].text: r.children[1].text for r in missing.all("tbody")[0].all("tr")}
    assert reasons[GRID[-1].id] == "failed, tried 3 times: MemoryError: nothing left"
    assert reasons[GRID[-2].id].startswith("its file cannot be used: ")
    assert reasons[GRID[-3].id] == "not run yet"
    assert "act" in text and "log2 of z, the mini-batches among which" in text


def test_the_table_holds_every_run_with_its_numbers(folder, tree):
    heads, rows = rows_of(tree)
    assert heads[:6] == ["id", "act", "log2_window", "seed", "relative PD", "excess loss [nats]"]
    assert [row[0] for row in rows] == [e.id for e in table.entries(folder)]
    for row, entry in zip(rows, table.entries(folder), strict=True):
        low, high = entry.summary["relative_pd_interval"]
        assert row[4] == f"{entry.summary['relative_pd']:.4g}{low:.3g} to {high:.3g}"
        assert row[5].startswith(f"{entry.summary['excess_loss']:.4g}")
        assert row[1:4] == [entry.of.act, str(entry.of.log2_window), str(entry.of.seed)]


def test_every_run_has_its_command_id_fingerprint_and_provenance(folder, tree):
    details = {e.get("id"): e for e in tree.all("tr") if e.get("class") == "more"}
    for entry in folder.entries.values():
        facts = details[f"of-{entry.id}"].all("dl")[0].children
        known = {a.text: b.text for a, b in zip(facts[::2], facts[1::2], strict=True)}
        assert known["fingerprint"] == entry.fingerprint and entry.sha256 in known["file"]
        for name, value in entry.provenance.items():
            assert known[name] == str(value)


def test_means_and_intervals_are_those_of_the_pairs(folder, tree):
    """Of a single run its own; of several, the mean over all their pairs, in its interval."""
    found = table.entries(folder)
    runs = [pooled.pairs_of(entry) for entry in found]
    for cell in pooled.cells(runs, "log2_window", "act"):
        chosen = [e for e in found if (e.of.log2_window, e.of.act) == (cell.value, cell.of)]
        pds = [x for e in chosen for x in e.measures["pd"] if x is not None]
        assert cell.mean == math.fsum(pds) / len(pds) and cell.low <= cell.mean <= cell.high
        if len(chosen) == 1:
            assert [cell.low, cell.high] == chosen[0].summary["relative_pd_interval"]
        else:
            assert (cell.low, cell.high) == mean_of(
                pds, stream_key(0, "bootstrap"), pooled.RESAMPLES
            )[1:]
            assert cell.high - cell.low > 2.5 * np.std(pds) / math.sqrt(len(pds))
        text = f"log2_window = {cell.value}, act = {cell.of}: {cell.mean:.4g} ["
        spots = [t.text for c in tree.all("circle") for t in c.all("title")]
        assert any(spot.startswith(text) for spot in spots)


def test_a_graph_for_every_axis_and_one_against_the_loss(tree):
    figures = tree.all("figure")
    titles = [f.all("h3")[0].text for f in figures]
    assert titles == [*(f"Relative PD against {n}" for n in ("act", "log2_window", "seed")),
                      "Relative PD against excess loss"]  # fmt: skip
    assert "Colour and marker: log2_window." in figures[0].text
    assert "Pairs are pooled over seed (2 values)." in figures[0].text
    assert METRICS["loss"].label in figures[-1].text
    links = {a.get("href") for a in figures[-1].all("a")}
    _, rows = rows_of(tree)
    assert links == {f"#run-{row[0]}" for row in rows}


def test_every_pair_is_a_point(folder, tree):
    paths = [
        p for p in tree.all("figure")[0].all("path")
        if "dot" in (p.get("class") or "") and "--blue" in (p.get("style") or "")
    ]  # fmt: skip
    first = [e for e in folder.entries.values() if e.of.log2_window == 0]  # blue
    pairs = [
        x for e in first for x, stuck in zip(e.measures["pd"], e.measures["stuck"], strict=True)
        if x is not None and not any(stuck)
    ]  # fmt: skip
    assert sum(p.get("d").count("M") for p in paths) == len(pairs)


def test_the_page_is_accessible(tree):
    """Headers are headers, everything that is referred to is there, pictures say what they show."""
    ids = [e.get("id") for e in tree.all() if e.get("id")]
    assert len(ids) == len(set(ids))
    for element in tree.all():
        for name in ("aria-labelledby", "aria-controls", "for"):
            assert set((element.get(name) or "").split()) <= set(ids)
        if (element.get("href") or "").startswith("#"):
            assert element.get("href")[1:] in ids
        reference = re.search(
            r"url\(#([^)]+)\)", " ".join(filter(None, element.attributes.values()))
        )
        assert reference is None or reference[1] in ids
    for cell in tree.all("th"):
        assert cell.get("scope") in ("col", "row")
    for picture in tree.all("svg"):
        assert picture.get("role") == "img"
        title, description = picture.children[:2]
        assert (title.tag, description.tag) == ("title", "desc")
        assert len(title.text) > 10 and len(description.text) > 10
    for control in tree.all("select", "input"):
        assert control in [c for label in tree.all("label") for c in label.all("select", "input")]
    levels = [int(h.tag[1]) for h in tree.all("h1", "h2", "h3")]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
    assert tree.all("html")[0].get("lang") == "en"


def test_the_page_loads_nothing(tree):
    for element in tree.all():
        assert not {"src", "srcset", "data", "action"} & set(element.attributes), element.tag
        assert element.tag not in ("link", "iframe", "object", "img", "base")
        assert (element.get("href") or "#").startswith("#")
        assert "url(" not in (element.get("style") or "").replace("url(#", "")
        assert not [name for name in element.attributes if name.startswith("on")]
    (style,), (script,) = tree.all("style"), tree.all("script")
    assert "url(" not in style.text and "@import" not in style.text
    for word in ("fetch", "XMLHttp", "import", "innerHTML", "eval", "http"):
        assert word not in script.text


def luminance(colour: str) -> float:
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_stand_out(tree, theme):
    """By WCAG 2.2: text 4.5 to 1, marks of a graph 3 to 1."""
    style = tree.all("style")[0].text
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", style)
    named = {name: colours[theme] for name, *colours in found}
    for behind in ("paper", "raised"):
        for text in ("text", "muted", "link", "good", "bad"):
            assert contrast(named[text], named[behind]) >= 4.5, (text, behind)
    assert contrast(named["text"], named["mark"]) >= 4.5
    assert contrast(named["link"], named["mark"]) >= 4.5
    for mark in ("blue", "cyan", "green", "yellow", "red", "purple", "grey"):
        assert contrast(named[mark], named["paper"]) >= 3.0, mark


def test_whatever_is_in_the_folder_stands_there_as_text(tmp_path):
    """Of the provenance, the commands, the configuration, reasons and the folder's name."""
    folder = Folder(tmp_path / "<script>alert(0)<")
    configs = GRID[:4]
    for k, config in enumerate(configs):
        made = {**entry_of(config).provenance, "command": f"{k}{EVIL}", f"key{EVIL}": EVIL}
        fill(folder.path, [entry_of(config, provenance=made, backend=EVIL, fingerprint=EVIL)])
    odd = entry_of(GRID[4])
    fill(folder.path, [replace(odd, config={**odd.config, "differ": f"$x^\x00{EVIL}$"})])
    folder.remember(EVIL, configs)
    folder.fail(GRID[5], EVIL, 1)
    made = report.report(folder)
    tree = parse(made)
    assert len(tree.all("script")) == len(tree.all("style")) == 1 and tree.all("b") == []
    escaped = "</style><script>alert('1 & 2')</script>\"<b>\\x00\\udcff"
    details = " ".join(e.text for e in tree.all("tr") if e.get("class") == "more")
    assert f"0{escaped}" in details and f"key{escaped}" in details
    text = tree.all("main")[0].text
    assert f"Runs in {folder.path.name}/" in text and f"failed: {escaped}" in text
    assert sum(f"$x^\\x00{escaped}"[:17] in svg.text for svg in tree.all("svg")) >= 3
    assert b"<script>alert" not in made and b"\x00" not in made


def test_the_same_folder_gives_the_same_bytes(folder, tmp_path):
    code = (
        "import sys; from nanorepro.sweeps.folder import Folder;"
        " from nanorepro.sweeps import report;"
        " sys.stdout.buffer.write(report.report(Folder(sys.argv[1])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "MPLBACKEND": "pdf"}
    matplotlibrc = tmp_path / "matplotlibrc"
    matplotlibrc.write_text("svg.fonttype: path\nfont.size: 33\n")
    environment["MATPLOTLIBRC"] = str(matplotlibrc)
    words = [sys.executable, "-c", code, str(folder.path)]
    done = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert done.stdout == report.report(folder) == report.report(Folder(folder.path))


@pytest.mark.slow
def test_five_hundred_runs_are_small_and_quick(tmp_path):
    """Seconds of the CPU: a third of the bound on 2.4 GHz, half of what 1,000 runs may take."""
    configs = grid(
        act=["identity", "relu", "smelu", "swish"], log2_window=[0, 2, 4, 6, 10],
        optimizer=["sgd", "adagrad"], differ=["shuffle", "init,shuffle"], seed=range(7),
    )[:500]  # fmt: skip
    fill(tmp_path, [entry_of(config) for config in configs])
    begin = time.process_time()
    made = report.report(Folder(tmp_path))
    assert time.process_time() - begin < 15.0
    assert len(made) < 3_000_000
    assert len(rows_of(parse(made))[1]) == len(configs) == 500


@pytest.mark.parametrize(
    "configs",
    [
        grid(pairs=[1]),
        grid(seed=range(60), pairs=[1]),
        grid(tree=["chain", "pairwise", "lanes:8"], hidden=["", "9,8"], lr=[0.001, 0.01, 1.0],
             precision=["float32", "bits:8,float32"], pairs=[2]),
        grid(act=["relu", "swish"], eval_every=["", "log", "7"], pairs=[1, 3], seed=[2**64 - 1]),
    ],
    ids=["one run", "many values", "many axes", "text and numbers"],
)  # fmt: skip
def test_folders_of_all_kinds(configs, tmp_path):
    fill(tmp_path, [entry_of(config) for config in configs])
    tree = parse(report.report(Folder(tmp_path)))
    assert len(rows_of(tree)[1]) == len(configs)
    varied = table.axes(list(Folder(tmp_path).journal.read().values()))
    assert len(tree.all("figure")) == len(varied) + 1


@pytest.mark.parametrize("value", [0.0, None])
def test_pairs_that_are_exactly_zero_or_diverged(value, tmp_path):
    """Some of them, then all."""

    def changed(entry):
        measures = {
            **entry.measures, "pd": [value] * entry.of.pairs,
            "diverged": [[int(value is None)] * 2] * entry.of.pairs,
        }  # fmt: skip
        summary = {**entry.summary, "relative_pd": value, "relative_pd_interval": [value, value]}
        return replace(entry, measures=measures, summary=summary)

    entries = [entry_of(config) for config in GRID]
    for number in (5, len(entries)):
        changes = [changed(e) for e in entries[:number]]
        fill(tmp_path / str(number), [*changes, *entries[number:]])
        tree = parse(report.report(Folder(tmp_path / str(number))))
        _, rows = rows_of(tree)
        assert [r[4] for r in rows].count("00 to 0" if value == 0.0 else "–") >= number
        notes = tree.all("figcaption")[0].text
        if value is None:
            assert "that diverged" in notes
        elif number == 5:
            assert "exactly 0" in notes
            shapes = [p.get("class") for p in tree.all("figure")[0].all("path")]
            assert "points triangle" in shapes


def test_a_folder_where_everything_failed_has_a_page(tmp_path):
    folder = Folder(tmp_path)
    folder.remember("python -m nanorepro.sweep x.toml", GRID[:2])
    folder.fail(GRID[0], "it did not work", 1)
    text = parse(report.report(folder)).all("main")[0].text
    assert "0 runs finished" in text and "failed: it did not work" in text and "not run yet" in text


def test_nothing_to_report(tmp_path):
    with pytest.raises(ConfigError, match="no runs there; give a folder of runs"):
        report.report(Folder(tmp_path))


def command(capsys, *words):
    status = sweep.main(list(map(str, words)))
    return status, *capsys.readouterr()


def test_the_command_writes_the_page(folder, tmp_path, capsys):
    status, out, err = command(capsys, "report", folder.path, "--out", tmp_path / "a" / "p.html")
    assert (status, err) == (0, "") and out == f"15 runs in {tmp_path / 'a' / 'p.html'}\n"
    assert (tmp_path / "a" / "p.html").read_bytes() == report.report(folder)
    status, out, _ = command(capsys, "report", folder.path)
    assert out == f"15 runs in {folder.path / 'report.html'}\n"
    (folder.path / "report.html").unlink()


def test_mistakes_are_one_line(folder, tmp_path, capsys, monkeypatch):
    for words, line in (
        (["nowhere"], "'nowhere' is not a folder"),
        ([folder.path, "--out", tmp_path / "p.pdf"], "give a file name .html"),
        ([tmp_path], "no runs there; give a folder of runs"),
    ):
        status, out, err = command(capsys, "report", *words)
        assert (status, out, err.count("\n")) == (2, "", 1) and line in err
    monkeypatch.setitem(sys.modules, "jinja2", None)
    status, out, err = command(capsys, "report", folder.path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "a page needs Jinja2, which is not installed; pip install 'nanorepro[report]'" in err
    assert list(tmp_path.iterdir()) == [] and not (folder.path / "report.html").exists()


def test_jinja_is_imported_for_a_page_only():
    code = (
        "import sys, nanorepro.commands.sweep; print({'jinja2', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_template_escapes_and_misses_nothing():
    with pytest.raises(Exception, match="undefined"):
        page.render("sweep.html")
    assert page.printable("a\x07\n\udc80é") == "a\\x07\n\\udc80é"
