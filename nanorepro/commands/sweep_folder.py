"""python -m nanorepro.sweep status, verify, replay, table, report: what a folder of runs holds."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nanorepro.commands.common import check_file, check_threads
from nanorepro.commands.console import Console
from nanorepro.commands.parser import Parser
from nanorepro.config import BACKENDS, options_of
from nanorepro.errors import ConfigError, shown
from nanorepro.text import counted
from nanorepro.training.progress import clock

if TYPE_CHECKING:
    from nanorepro.sweeps.folder import Folder

NAME = "nanorepro.sweep"


def folder_parser(command: str, description: str) -> Parser:
    """The command line of a command on a folder of runs."""
    usage = f"python -m nanorepro.sweep {command} [FOLDER] [option ...]"
    found = Parser(prog=f"{NAME} {command}", usage=usage, description=description, quiet=True)
    found.add_argument(
        "folder", nargs="?", default="runs", metavar="FOLDER", help="folder of the runs"
        " (default: runs)",
    )  # fmt: skip
    return found


def check_backend(name: str) -> None:
    """Raise ConfigError for a backend that is not there."""
    if name not in BACKENDS:
        raise ConfigError(f"--backend: {shown(name)} is not allowed; give {' or '.join(BACKENDS)}")


def existing(name: str) -> "Folder":
    """A folder of runs that is there; raises ConfigError."""
    from nanorepro.sweeps.folder import Folder

    if not name or "\0" in name or not os.path.isdir(name):
        raise ConfigError(f"{shown(name)} is not a folder; give the folder of a sweep's runs")
    return Folder(Path(name))


def status(words: Sequence[str], console: Console) -> int:
    """Say what is finished, what failed, and what is left."""
    o, _ = folder_parser("status", "What is finished, what failed and why, what is left.").read(
        words
    )
    from nanorepro.sweeps.leases import at_work
    from nanorepro.training import checkpoints

    folder = existing(o.folder)
    damaged = folder.look()
    models = sum(2 * e.of.pairs for e in folder.entries.values())
    seconds = sum(e.seconds for e in folder.entries.values())
    console.say(
        f"{folder.path}: {counted(len(folder.entries), 'run')} finished, {models:,} models,"
        f" {clock(seconds)} of training"
    )
    for record in folder.sweeps():
        ids = {run["id"] for run in record["runs"]}
        done = len(ids & set(folder.entries))
        console.say(f"{done} of {len(ids)} finished: {record['command']}")
    for path in checkpoints.found_in(folder.path):
        console.say(checkpoint_line(path, path.stem in folder.entries))
    if at := at_work(folder.path):
        console.say(f"{len(at)} being made now: {', '.join(at[:8])}{', ...' if at[8:] else ''}")
    for damage in damaged:
        console.say(f"damaged: {damage.path}: {damage.reason}")
    for other in folder.others:
        console.say(f"left as it is: {other.path}: {other.reason}")
    for failure in folder.failures().values():
        console.say(
            f"failed {failure.when}, tried {counted(failure.tries, 'time')}: {failure.id}"
            f" ({options_of(failure.config)}): {failure.reason}"
        )
    return 0


def checkpoint_line(path: Path, finished: bool) -> str:
    """What a checkpoint in a folder of runs holds."""
    from nanorepro.training import checkpoints

    if finished:
        return f"checkpoint of a finished run, not needed any more: {path}"
    try:
        state = checkpoints.read(path)
    except (ConfigError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"checkpoint that cannot be used: {path}: {reason}"
    return f"in the middle, {state.share:.0%} done until {state.written}: {path.stem}"


def verify(words: Sequence[str], console: Console) -> int:
    """Open and check every file."""
    o, _ = folder_parser(
        "verify",
        "Open every file of a folder, results and checkpoints, check its digest, schema and"
        " fingerprint, move\nbad ones into damaged/ and name them.  The journal is made whole."
        "  Exit status 1 if one was bad.",
    ).read(words)
    from nanorepro.sweeps.checking import verify as check
    from nanorepro.sweeps.progress import FileProgress

    folder = existing(o.folder)
    if o.quiet:
        found = check(folder)
    else:
        with FileProgress(sys.stderr, "reading ...", f"{NAME} verify") as progress:
            found = check(folder, progress)
    for damaged in found.damaged:
        moved = f"; moved to {damaged.moved}" if damaged.moved else ""
        console.say(f"bad: {damaged.path}: {damaged.reason}{moved}")
    for other in found.others:
        console.say(f"left as it is: {other.path}: {other.reason}")
    for id in found.lost:
        console.say(f"lost: {folder.file(id)}: the journal has a line of it, and there is no file")
    sound = counted(found.sound, "file is sound", "files are sound")
    console.say(f"{sound}, {len(found.damaged)} bad, {len(found.lost)} lost")
    if found.begun:
        one, several = "checkpoint of a run", "checkpoints of runs"
        begun = counted(found.begun, f"{one} in the middle is", f"{several} in the middle are")
        console.say(f"{begun} sound")
    return 1 if found.damaged or found.lost else 0


def replay(words: Sequence[str], console: Console) -> int:
    """Train a run again and compare."""
    parser = Parser(
        prog=f"{NAME} replay",
        usage="python -m nanorepro.sweep replay ID [option ...]",
        description="Train a finished run again and compare all it holds, bit for bit.  Exit status"
        " 1 if something differs.",
        quiet=True,
    )
    add = parser.add_argument
    add("id", metavar="ID", help="id of the run, or the beginning of it")
    add("--out", default="runs", metavar="FOLDER", help="folder of the runs (default: runs)")
    add("--backend", default=BACKENDS[0], metavar="{" + ",".join(BACKENDS) + "}",
        help=f"what computes it, which need not be what did (default: {BACKENDS[0]})")  # fmt: skip
    add("--threads", default="all", metavar="N", help="threads (default: all)")
    o, _ = parser.read(words)
    check_backend(o.backend)
    threads = check_threads(o.threads)
    folder = existing(o.out)
    from nanorepro.sweeps import checking
    from nanorepro.sweeps.work import Task
    from nanorepro.training.progress import Progress

    stored = checking.named(folder, o.id)
    task = Task(stored.config, checking.start_of(folder, stored))
    if o.quiet:
        differ = checking.replay(stored, task, o.backend, threads)
    else:
        with Progress(sys.stderr, "starting ...", f"{NAME} replay") as progress:
            differ = checking.replay(stored, task, o.backend, threads, progress)
    id = stored.config.id
    if differ:
        console.say(f"{id}: other bits than stored in {', '.join(differ)}")
        return 1
    console.say(f"{id}: the same bits, fingerprint {stored.fingerprint}")
    return 0


def table(words: Sequence[str], console: Console) -> int:
    """Write the tidy table."""
    parser = folder_parser(
        "table",
        "A table with a row for each pair of each run: the fields that vary, the measures, the"
        " command.",
    )
    parser.add_argument(
        "--to", metavar="FILE", help="file .csv or .parquet (default: CSV on standard output)"
    )
    o, _ = parser.read(words)
    folder = existing(o.folder)
    target = check_file(o.to, "--to", (".csv", ".parquet")) if o.to is not None else None
    from nanorepro.results.files import replace_file
    from nanorepro.sweeps import table as tables

    found = tables.entries(folder)
    for text in tables.left_out(folder):
        console.warn(text)
    if target is None:
        console.say(tables.as_csv(found).rstrip("\n"))
        return 0
    parquet = target.suffix.lower() == ".parquet"
    data = tables.as_parquet(found) if parquet else tables.as_csv(found).encode()
    replace_file(target, data)
    console.say(f"{counted(len(found), 'run')} in {target}")
    return 0


def report(words: Sequence[str], console: Console) -> int:
    """Write the page."""
    parser = folder_parser(
        "report",
        "One HTML file of a folder: what was run, relative PD against each field that varies and"
        " against the\nloss, a table of runs that sorts and filters, and what is missing and why."
        "  It loads nothing from\nelsewhere.",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="file .html (default: report.html in the folder)"
    )
    o, _ = parser.read(words)
    folder = existing(o.folder)
    from nanorepro.pages import page
    from nanorepro.results.files import replace_file

    page.check()
    name = str(folder.path / "report.html") if o.out is None else o.out
    target = check_file(name, "--out", (".html",))
    from nanorepro.sweeps.report import report as made

    replace_file(target, made(folder))
    console.say(f"{counted(len(folder.entries), 'run')} in {target}")
    return 0


ON_A_FOLDER = {
    "status": status,
    "verify": verify,
    "replay": replay,
    "table": table,
    "report": report,
}
