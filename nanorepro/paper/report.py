"""What was measured, put down: a figure's files, its record, the printed claims, the page of all.

The page is made of the records alone, so it can be made again from what is stored.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nanorepro.config import command
from nanorepro.paper import claims, curves
from nanorepro.paper.curves import Size
from nanorepro.paper.evidence import Evidence, runs_of
from nanorepro.paper.figures import FIGURES
from nanorepro.paper.observed import Key
from nanorepro.paper.record import Figure
from nanorepro.results.files import replace_file
from nanorepro.results.plain import finite_or_null
from nanorepro.results.result import Result
from nanorepro.text import counted


def note(size: curves.Size) -> str:
    """The size of the runs for a picture, beside the paper's where it is smaller."""
    same = replace(size, windows=(), seed=0) == replace(curves.PAPER, windows=())
    p = curves.PAPER
    hidden = ", [1024, 512]" if size.hidden else ""
    differs = "" if same else f" (paper: T = 2^{p.log2_examples}, {p.pairs} pairs{hidden})"
    return size.words + differs


def record(
    figure: Figure,
    evidence: Evidence,
    runs: Mapping[Size, Mapping[Key, dict[str, Any]]],
    scale: str,
    again: str,
    words: str,
    missing: Sequence[Key],
) -> dict[str, Any]:
    """What is known of a figure, for its JSON file and the page.

    `runs` are what `run_record` says of the runs of every size, the figure's own first; `again` is
    the command that makes it again, `words` its size in words.
    """
    made: list[dict[str, Any]] = [
        {"design": asdict(size), "runs": [of[key] for key in sorted(of)]}
        for size, of in runs.items()
    ]
    every = {r["id"]: r["seconds"] for of in made for r in of["runs"]}
    return {
        "figure": figure.number, "title": figure.title, "scale": scale, "command": again,
        "size": words, **made[0], "more": made[1:], "missing": [list(key) for key in missing],
        "claims": [claim_record(claim, evidence) for claim in figure.claims],
        "seconds": sum(every.values()),
    }  # fmt: skip


def judged_again(figure: Figure, evidence: Evidence, record: dict[str, Any]) -> dict[str, Any]:
    """A stored record with its claims judged anew."""
    return {**record, "claims": [claim_record(claim, evidence) for claim in figure.claims]}


def pictures(picture: Any, again: str, svg: bool = False) -> dict[str, bytes]:
    """A picture as PNG and PDF, which name the command that makes it again, and as SVG."""
    from nanorepro.plots import inline, style

    return ({"svg": inline.svg(picture)} if svg else {}) | {
        "png": style.file_of(picture, "png", Description=again),
        "pdf": style.file_of(picture, "pdf", Subject=again),
    }


def run_record(key: Key, r: Result) -> dict[str, Any]:
    """What is said of one run in the record and the report."""
    found: dict[str, Any] = finite_or_null({
        "curve": key[0], "log2_window": key[1], "id": r.config.id, "fingerprint": r.fingerprint,
        "relative_pd": r.relative_pd, "excess_loss": r.excess_loss,
        "stuck": len(r.stuck), "diverged": len(r.diverged), "seconds": r.seconds,
        "command": r.provenance.get("command", command(r.config)),
        "cpu": r.provenance.get("cpu", ""), "source": r.provenance.get("source", ""),
    })  # fmt: skip
    return found


def claim_record(claim: claims.Claim, evidence: Evidence) -> dict[str, Any]:
    """A claim beside what was measured."""
    verdict, parts = evidence.judge(claim)
    found: dict[str, Any] = finite_or_null({
        "words": claim.words,
        **({"ours": True} if claim.ours else {}),
        "verdict": verdict,
        "parts": [
            {
                "what": m.what, "size": m.size, "expected": m.criterion.expected,
                "measured": m.value, "low": m.low, "high": m.high,
                "said": m.said, "verdict": m.verdict, "ids": list(m.ids),
            }
            for m in parts
        ],
    })  # fmt: skip
    return found


def write(
    folder: Path,
    name: str,
    tables: Mapping[str, str],
    record: dict[str, Any],
    pictures: Mapping[str, bytes],
) -> None:
    """Tables as CSV by their names, record as JSON, pictures by their kind; each whole or not."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{table}.csv": text for table, text in tables.items()}
    texts[f"{name}.json"] = json.dumps(record, indent=1) + "\n"
    files = {n: text.encode("utf-8", "backslashreplace") for n, text in texts.items()}
    files |= {f"{name}.{kind}": data for kind, data in pictures.items()}
    for file, data in files.items():
        replace_file(folder / file, data)


def shown(record: dict[str, Any], files: str, again: str) -> str:
    """What is said of a figure: its claims beside what was measured.

    `files` are what was made, `again` the command that makes them.
    """
    lines = [f"figure {record['figure']}: {record['title']}; {record['size']}".rstrip("; ")]
    for claim in record["claims"]:
        there = any(part["measured"] is not None for part in claim["parts"])
        verdict = claim["verdict"] if there else "not measured"
        lines.append(f"  {verdict.upper()}: {claim['words']}")
        for part in claim["parts"]:
            paper = f"paper: {part['expected']} -> {part['verdict']}"
            lines.append(f"      {what(part)}: {measured(part)}; {paper}")
    return "\n".join([*lines, f"  {files}; again: {again}"])


def what(part: dict[str, Any]) -> str:
    """What was measured, and of which runs if not the figure's."""
    return f"{part['what']}; {part['size']}" if part.get("size") else str(part["what"])


def measured(part: dict[str, Any]) -> str:
    """A measured value with its interval, in words."""
    if part["measured"] is None:
        return "not measured"
    if part["low"] is None or part["high"] is None:
        ends = ("-∞" if part["low"] is None else f"{part['low']:.3g}",
                "∞" if part["high"] is None else f"{part['high']:.3g}")  # fmt: skip
        text = f"{part['measured']:.3g} [{', '.join(ends)}]"
    elif part["low"] == part["high"]:
        text = f"{part['measured']:g}"
    else:
        text = f"{part['measured']:.3g} [{part['low']:.3g}, {part['high']:.3g}]"
    return f"{text}, {part['said']}" if part.get("said") else text


def write_report(page: Path) -> None:
    """The page of all figures that were drawn for it, from their records."""
    folder = page.with_suffix("")
    found = [folder / f"figure{f}.json" for f in FIGURES]
    records = [json.loads(p.read_text(encoding="utf-8")) for p in found if p.exists()]
    again = f"python -m nanorepro.figure N --report {shlex.quote(page.name)}"
    if len(records) == 1:
        again = f"{records[0]['command']} --report {shlex.quote(str(page))}"
    if page.suffix.lower() == ".html":
        from nanorepro.paper.page import figures_page

        replace_file(page, figures_page(records, folder, measured, again))
        return
    lines = ["# The paper, reproduced", "", *summary(records, folder, again)]
    for record in records:
        lines += section(record, folder)
    replace_file(page, ("\n".join(lines).rstrip() + "\n").encode("utf-8", "backslashreplace"))


JUDGED = "intervals.md"  # how, in a page of its own beside the pictures


def summary(records: list[dict[str, Any]], folder: Path, again: str) -> list[str]:
    """What the page is, and the verdicts of all claims."""
    found = [c for r in records for c in r["claims"]]
    runs = {run["id"]: run for record in records for run in runs_of(record)}
    hours = sum(run["seconds"] for run in runs.values()) / 3600
    cpus = sorted({run["cpu"] for run in runs.values()})
    options = ", with the options under each figure" if len(records) > 1 else ""
    lines = [
        f"Made by `{again}`{options}; the numbers of all tables come from the stored runs"
        " whose ids and fingerprints stand below each figure. A figure's record has the command of"
        " each run.",
        "",
        "A part of a claim holds if the 95 % interval over pairs lies inside the expected"
        " range, does not hold if it lies outside, and cannot be told otherwise or where the"
        " runs are too small for the claim. Where the figure's own pairs cannot tell, more pairs"
        " decide (`--decide`), of the size that their line names. That losses are equal is"
        " told by two one-sided tests of the paired logarithms at 5 % (the interval shown is"
        " then of 90 %), that they are not by a test at 0.1 %; equal is within"
        f" {100 * (claims.NEAR - 1):.1f} %. `O(10^k)` is expected within a factor of ten, since θ"
        " and the initial values are other draws than the paper's; ranges for which the paper has"
        " no number are ours."
        + (f" [Part by part]({folder.name}/{JUDGED})." if (folder / JUDGED).exists() else ""),
        "",
        "Every verdict is a function of the tables beside the figures (`figureN-T...pairs.csv`):"
        " `python -m nanorepro.figure N --from-records FOLDER` judges and draws from them alone,"
        " and `pytest tests/claims` recomputes all.",
        "",
        f"Claims: {claims.counted(found)}. Runs: {hours:.2f} hours on {', '.join(cpus)}.",
        "",
        "| figure | claim | verdict |",
        "|---|---|---|",
    ]
    lines += [
        f"| [{r['figure']}](#figure-{r['figure']}) | {c['words']} | {c['verdict']} |"
        for r in records for c in r["claims"]
    ]  # fmt: skip
    return [*lines, ""]


LINK = re.compile(r"\]\((?![a-z]+:|#)")  # to a file


def from_page(text: str, folder: str) -> str:
    """Notes with links to files as the page needs them, beside whose folder it is.

    Examples
    --------
    >>> from_page("[how](intervals.md)", "paper")
    '[how](paper/intervals.md)'
    """
    return LINK.sub(f"]({folder}/", text)


def section(record: dict[str, Any], folder: Path) -> list[str]:
    """One figure of the page: picture, command, claims, runs."""
    f = record["figure"]
    at = f"{folder.name}/figure{f}"
    drawn = (folder / f"figure{f}.png").exists()
    picture = f"![Figure {f}]({at}.png)" if drawn else "The picture could not be drawn."
    pdf = f"[PDF]({at}.pdf), " if drawn else ""
    table = f"[numbers]({at}.csv), " if runs_of(record) else ""
    lines = [
        f"## Figure {f}", "", f"{record['title']}.", "", picture, "",
        f"The paper's caption: {FIGURES[f].caption}", "",
        f"Command: `{record['command']}`" + (f"; {record['size']}." if record["size"] else "."),
        f"{pdf}{table}[record]({at}.json).", "",
    ]  # fmt: skip
    if record["claims"]:
        lines += ["| claim and its parts | measured [95 % interval] | expected | verdict |",
                  "|---|---|---|---|"]  # fmt: skip
    for claim in record["claims"]:
        lines.append(f"| **{claim['words']}** | | | **{claim['verdict']}** |")
        for p in claim["parts"]:
            words = what(p).replace("|", "\\|")
            lines.append(f"| {words} | {measured(p)} | {p['expected']} | {p['verdict']} |")
    notes = folder / f"notes{f}.md"
    if notes.exists():
        lines += ["", from_page(notes.read_text(encoding="utf-8").strip(), folder.name)]
    if runs := runs_of(record):
        lines += [
            "", f"<details><summary>{counted(len(runs), 'run')},"
            f" {record['seconds'] / 3600:.2f} hours</summary>", "",
            "| curve | log2 z | log2 T | pairs | Δ_r | L | stuck | id | fingerprint | seconds |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for r in runs:
            values = (r["relative_pd"], r["excess_loss"])
            pd, loss = ("-" if v is None else f"{v:.3g}" for v in values)
            cells = (
                r["curve"], r["log2_window"], r["log2_examples"], r["pairs"], pd, loss, r["stuck"],
                r["id"], r["fingerprint"], f"{r['seconds']:.1f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(map(str, cells))} |")
        lines += ["", "</details>"]
    return [*lines, ""]
