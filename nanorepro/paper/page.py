"""The paper's figures as one HTML page: all claims first, then each figure with its runs."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from nanorepro.pages import page
from nanorepro.paper import claims
from nanorepro.paper.evidence import runs_of
from nanorepro.plots import inline

Record = dict[str, Any]
COLUMNS = (
    ("curve", "curve"), ("log2_window", "log2 z"), ("log2_examples", "log2 T"),
    ("pairs", "pairs"), ("relative_pd", "relative PD"),
    ("excess_loss", "excess loss [nats]"), ("stuck", "stuck"), ("id", "id"),
    ("fingerprint", "fingerprint"), ("seconds", "seconds"),
)  # fmt: skip


def figures_page(
    records: Sequence[Record], folder: Path, measured: Callable[[Record], str], again: str
) -> bytes:
    """The page of the figures that were drawn.

    Parameters
    ----------
    records : sequence of dict
        What is known of each figure, as its JSON file has it.
    folder : Path
        Where its pictures and notes are.
    measured : callable
        What was measured of a part of a claim, in words.
    again : str
        The command that makes the page.
    """
    found = [(r["figure"], claim) for r in records for claim in r["claims"]]
    runs = {run["id"]: run for record in records for run in runs_of(record)}
    return page.render(
        "figures.html",
        claims=found,
        counted=claims.counted([claim for _, claim in found]),
        hours=sum(run["seconds"] for run in runs.values()) / 3600,
        cpus=sorted({str(run["cpu"]) for run in runs.values()}),
        figures=[(record, picture(record, folder), notes(record, folder)) for record in records],
        columns=COLUMNS,
        cell=cell,
        runs_of=runs_of,
        measured=measured,
        again=again,
    )


def picture(record: Record, folder: Path) -> Any:
    """The picture of a figure as a part of the page; empty if there is none."""
    number, title = record["figure"], str(record["title"])
    path = folder / f"figure{number}.svg"
    if path.exists():
        text = f"{title}; {record['size']}. The numbers are in figure{number}.csv."
        try:
            return page.markup(inline.themed(path.read_bytes(), f"figure{number}", title, text))
        except ParseError:
            pass  # not as it was drawn
    path = path.with_suffix(".png")
    if not path.exists():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return page.markup(f'<img alt="Figure {number}" src="data:image/png;base64,{data}">')


def notes(record: Record, folder: Path) -> str:
    """What was written about a figure by hand, as it stands in its file."""
    path = folder / f"notes{record['figure']}.md"
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""


def cell(value: Any) -> str:
    """A value of the table of runs."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
