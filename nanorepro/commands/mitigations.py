"""python -m nanorepro.figure mitigations: what each of them buys, as a table and a picture."""

from typing import TYPE_CHECKING, Any

from nanorepro.commands.common import FAILED
from nanorepro.commands.console import Console, describe
from nanorepro.errors import ConfigError

if TYPE_CHECKING:
    from nanorepro.commands.figure import FigureRequest
    from nanorepro.paper.curves import Size

NAME = "mitigations"
NUMBERS = ("log2_window", "pd", "loss", "stuck", "diverged", "examples", "served")
TITLE = "Mitigations, of towers [16, 8, 4, 2] in the linear world"


def make(request: "FigureRequest", size: "Size", deadline: float, console: Console) -> bool:
    """The files, then the table; whether nothing failed."""
    from nanorepro.paper import mitigation_table, report, rows
    from nanorepro.plots import style

    again = request.command(NAME)
    if request.records:
        record, found = from_records(request)
        again = record["command"]
    else:
        record, found = from_runs(request, size, deadline, console)
    record["table"] = mitigation_table.table(found, size.seed)
    pictures, problems = {}, []
    try:
        from nanorepro.paper import plot_mitigations

        with style.settings():
            picture = plot_mitigations.panels(record["table"], TITLE, record["size"])
        pictures = report.pictures(picture, again)
    except Exception as error:
        problems.append(f"the picture could not be drawn: {describe(error)}")
    name = f"{NAME}-{request.scale}"
    kinds = [*pictures, "csv", "json"]
    try:
        table = rows.as_csv(found, f"{again}; {record['size']}")
        report.write(request.folder, name, {name: table}, record, pictures)
    except Exception as error:
        problems.append(f"the table could not be written: {describe(error)}")
        kinds = []
    console.say(f"{TITLE}; {record['size']}")
    for line in mitigation_table.as_text(record["table"]):
        console.say(line)
    console.say("\n  ratios: of the pairs that learned in both, with 95 % intervals over pairs")
    files = f"{request.folder / name}." + ", .".join(kinds) if kinds else "not written"
    console.say(f"\n  {files}; again: {request.command_here(NAME)}")
    for problem in problems:
        console.fail(problem, FAILED)
    return not problems


def from_runs(
    request: "FigureRequest", size: "Size", deadline: float, console: Console
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record and the rows of the runs, those that are stored and those that are made now."""
    from dataclasses import asdict

    from nanorepro.backends import load_backend
    from nanorepro.paper import averaged_models, mitigations, report, runner

    stored = runner.StoredRuns(request.folder, size, False, mitigations.curves(size))
    keys, again = mitigations.needed(size), request.command(NAME)
    late = runner.train(
        NAME, keys, stored, request.threads, deadline, again, not request.quiet,
        request.checkpoint_minutes, console.warn if request.quiet else None,
    )  # fmt: skip
    results, backend = stored.found(keys), load_backend("numba")
    means, more = averaged_models.averages(
        size, stored, backend, request.threads, deadline, not request.quiet
    )
    made = averaged_models.ensembles(size, stored, backend)
    late += more
    words = size.words + (f"; {len(late)} runs not made" if late else "")
    record = {
        "figure": NAME, "title": TITLE, "scale": request.scale, "command": again, "size": words,
        "design": asdict(size), "missing": [list(key) for key in late],
        "mitigations": [asdict(m) for m in mitigations.plotted(size)],
        "runs": [report.run_record(key, results[key]) for key in sorted(results)],
    }  # fmt: skip
    return record, mitigations.rows(size, {**results, **means, **made})


def from_records(request: "FigureRequest") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record and the rows that were written."""
    from nanorepro.paper import evidence

    assert request.records is not None
    path = request.records / f"{NAME}-{request.scale}"
    record = evidence.record_of(path.with_suffix(".json"))
    if not {"command", "size", "figure"} <= record.keys() or record["figure"] != NAME:
        raise ConfigError(f"'{path}.json': not the record of mitigations")
    found = evidence.rows(path.with_suffix(".csv"))
    for name in NUMBERS:
        if not found or any(not isinstance(r.get(name), int | float) for r in found):
            raise ConfigError(f"'{path}.csv': not the table of mitigations; {name} is missing")
    return record, found
