"""What a figure's claims are judged by: the numbers of its pairs, of every size of its runs.

They are made of results, written beside the figure, and read back: what is told of a claim is a
function of these numbers alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanorepro.errors import ConfigError
from nanorepro.paper import claims, csv_table, observed
from nanorepro.paper.curves import Size
from nanorepro.paper.observed import Key, Observed
from nanorepro.paper.record import Figure, Row
from nanorepro.results.files import check_regular

if TYPE_CHECKING:
    from nanorepro.results.result import Result

TEXT = ("curve", "parameter", "id", "fingerprint")  # columns of a figure's table that are text
LARGEST = 1 << 28  # bytes of a file that is read


@dataclass(frozen=True)
class Evidence:
    """The runs of a figure as its claims see them.

    Attributes
    ----------
    size : Size
        The figure's.
    runs : dict of (curve, window) to Observed
        Its runs.
    more : dict of Size to such dicts
        Those with more pairs.
    """

    size: Size
    runs: observed.Runs
    more: dict[Size, observed.Runs] = field(default_factory=dict)

    def judge(self, claim: claims.Claim) -> tuple[str, list[claims.Measured]]:
        """The verdict on a claim, and its parts."""
        more = self.more.get(claim.more, {}) if claim.more else {}
        return claims.decide(claim, self.size, self.runs, more)

    def open(self, of: Sequence[claims.Claim]) -> list[claims.Claim]:
        """The claims that the figure's own runs leave open, and more pairs may decide.

        Of each the criteria that are open.
        """
        alone, found = Evidence(self.size, self.runs), []
        for claim in of:
            verdict, parts = alone.judge(claim)
            if claim.more and verdict == claims.OPEN:
                left = tuple(part.criterion for part in parts if part.verdict == claims.OPEN)
                found.append(replace(claim, criteria=left))
        return found

    def tables(self, name: str, note: str) -> dict[str, str]:
        """The numbers as CSV, a file for every size."""
        return {
            table_name(name, size): observed.as_csv(
                [runs[key] for key in sorted(runs)], f"{note}; {size.words}"
            )
            for size, runs in {self.size: self.runs, **self.more}.items()
            if runs
        }


def table_name(name: str, size: Size) -> str:
    """The name of a size's table of numbers of pairs, without its suffix."""
    return f"{name}-T{size.log2_examples}-{size.pairs}pairs"


def observe(figure: Figure, size: Size, results: Mapping[Key, "Result"]) -> observed.Runs:
    """The runs there are of one size, as the figure's claims see them."""
    return {
        key: observed.observe(key, results[key], sorted(wanted, key=lambda q: q.name), series)
        for key, (wanted, series) in figure.wanted(size).items()
        if key in results
    }


def name_of(folder: Path, figure: int, scale: str) -> str:
    """What a figure's files in a folder begin with: with the scale, or of a page without."""
    named = f"figure{figure}-{scale}"
    return named if (folder / f"{named}.json").exists() else f"figure{figure}"


def read(folder: Path, name: str) -> tuple[dict[str, Any], list[Row], Evidence]:
    """A figure's record, the rows it plots and its evidence, from its files in a folder.

    Raises
    ------
    ConfigError
        If a file is missing or is not what this program writes.
    """
    record = record_of(folder / f"{name}.json")
    try:
        size = size_of(record["design"])
        more = {size_of(m["design"]): m["runs"] for m in record["more"]}
        found = {
            s: _observed(folder, name, s, runs)
            for s, runs in {size: record["runs"], **more}.items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{str(folder / name)!r}.json: not a figure's record ({what})") from None
    own = found.pop(size)
    return record, rows(folder / f"{name}.csv"), Evidence(size, own, found)


def size_of(design: Mapping[str, Any]) -> Size:
    """A size from its record."""
    kinds = {f: type(v) for f, v in asdict(Size(0, 0, 0, ())).items()}
    if design.keys() != kinds.keys():
        raise ConfigError(f"a design has {', '.join(kinds)}, and not {', '.join(design)}")
    fields: dict[str, Any] = {f: tuple(v) if isinstance(v, list) else v for f, v in design.items()}
    for f, v in fields.items():
        if type(v) is not kinds[f]:
            raise ConfigError(f"a design's {f} is {v!r}")
    return Size(**fields)


def _observed(
    folder: Path, name: str, size: Size, runs: Sequence[Mapping[str, Any]]
) -> observed.Runs:
    """The runs of one size, with the numbers of their table."""
    known = [
        Observed(str(r["curve"]), int(r["log2_window"]), size.log2_examples, size.pairs,
                 str(r["id"]), size.seed, {})
        for r in runs
    ]  # fmt: skip
    if not known:
        return {}
    table = folder / f"{table_name(name, size)}.csv"
    full = observed.from_csv(_text(table), str(table), known)
    return {(r.curve, r.log2_window): r for r in full if r.values}


def runs_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The runs of a figure's record with log2 T and pairs, those that decide its claims last."""
    return [
        {**run, **{f: of["design"][f] for f in ("log2_examples", "pairs")}}
        for of in [record, *record.get("more", [])]
        for run in of["runs"]
    ]


def rows(path: Path) -> list[Row]:
    """The rows of a figure's table, as they were plotted."""
    (_, titles), *lines = [*csv_table.read(_text(path))] or [(0, [])]
    found = []
    for number, row in lines:
        try:
            found.append({k: _value(k, v) for k, v in zip(titles, row, strict=True)})
        except ValueError:
            raise ConfigError(f"{str(path)!r}, line {number}: not a row of a figure") from None
    return found


def _value(column: str, text: str) -> Any:
    if column in TEXT or text == "" or (column == "pair" and text == "mean"):
        return text
    try:
        return int(text)
    except ValueError:
        return float(text)


def record_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{str(path)!r}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{str(path)!r}: not a figure's record")
    return found


def _text(path: Path) -> str:
    try:
        check_regular(path)
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{str(path)!r}: larger than {LARGEST >> 20} MB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{str(path)!r}: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{str(path)!r}: not UTF-8 text") from None
