"""python -m nanorepro.sweep: many runs that are resumed, checked, repeated, tabulated.

Nothing that is slow to import is imported before the command line has been checked.
"""

import math
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nanorepro.commands.common import (
    MINUTES_HELP,
    carry_out,
    check_checkpoint_minutes,
    check_folder,
    check_threads,
)
from nanorepro.commands.console import Console
from nanorepro.commands.parser import Parser, nearest_of
from nanorepro.commands.sweep_folder import NAME, ON_A_FOLDER, check_backend
from nanorepro.config import BACKENDS, CHECKPOINT_MINUTES, Config, options_of
from nanorepro.config import command as command_line
from nanorepro.errors import ConfigError, shown
from nanorepro.parsing import real_number
from nanorepro.sweeps import grid
from nanorepro.text import counted
from nanorepro.training.progress import duration
from nanorepro.training.signals import Terminated, ends_at_once

if TYPE_CHECKING:
    from nanorepro.results.result import Result
    from nanorepro.sweeps.folder import Folder

GRID = """\
a grid file (TOML):
  log2_examples = 16                 a field of a run, for all runs
  [axes]                             a product of lists
  act = ["relu", "smelu"]
  log2_window = [0, 5, 10]
  [[product]]                        another product beside it
  act = "swish"
  beta = [0.5, 1.0, 2.0]
  [[run]]                            a single run
  tree = "lanes:8"
warm_start = "runs/ID.h5", or an ID in the folder: the run goes on where that one ended

more commands on a folder of runs:
  nanorepro sweep status FOLDER      what is finished, what failed and why, what is left
  nanorepro sweep verify FOLDER      open and check every file; bad ones are moved aside
  nanorepro sweep replay ID          train a run again and compare it bit for bit
  nanorepro sweep table FOLDER       a tidy table, CSV or Parquet
  nanorepro sweep report FOLDER      a page with graphs and a table, one HTML file
"""


def sweep_parser() -> Parser:
    """The command line of a sweep."""
    found = Parser(
        prog=NAME,
        usage="python -m nanorepro.sweep [GRID.toml] [--grid FIELD=VALUES ...] [option ...]",
        description="Make all runs of a grid that are not finished.  The same command goes on after"
        " whatever stopped it;\nseveral sweeps may share a folder.",
        epilog=GRID + "\nExample: python -m nanorepro.sweep --grid act=relu,smelu"
        " --grid log2_window=0,10 --out runs",
        quiet=True,
    )
    add = found.add_argument
    add("file", nargs="?", metavar="GRID.toml", help="file of the grid (see below)")
    add("--grid", action="append", default=[], metavar="FIELD=VALUES", dest="axes",
        help="an axis: a field and its values, parted by commas, or by semicolons where values"
        " hold commas; may be given several times (default: none)")  # fmt: skip
    add("--out", default="runs", metavar="FOLDER", help="folder of the runs (default: runs)")
    add("--plan", action="store_true",
        help="show what would run, how long and on how much disk; run nothing")  # fmt: skip
    add("--yes", action="store_true", help=f"also with more than {grid.MOST:,} runs")
    add("--backend", default=BACKENDS[0], metavar="{" + ",".join(BACKENDS) + "}",
        help=f"what computes the runs (default: {BACKENDS[0]})")  # fmt: skip
    add("--threads", default="all", metavar="N",
        help="cores to use, which change no bit (default: all)")  # fmt: skip
    add("--cluster", metavar="ADDRESS",
        help="the workers of a Dask scheduler make the runs, as tcp://scheduler:8786; see"
        " docs/cluster.md (default: this machine does)")  # fmt: skip
    add("--resources", metavar="NAME=N",
        help="what a run takes of its worker of the cluster, as GPU=1"
        " (default: nothing but a thread)")  # fmt: skip
    add("--checkpoint-minutes", default=f"{CHECKPOINT_MINUTES:g}", metavar="X", help=MINUTES_HELP)
    return found


def sweep(words: Sequence[str], console: Console) -> int:
    """Make the runs of a grid."""
    o, given = sweep_parser().read(words)
    if o.file is None and not o.axes:
        raise ConfigError("no grid; give a file GRID.toml, or --grid FIELD=VALUE,VALUE")
    check_backend(o.backend)
    threads = check_threads(o.threads)
    address, resources = check_cluster(o, given)
    minutes = check_checkpoint_minutes(o.checkpoint_minutes)
    blocks = grid.read(o.file) if o.file is not None else []
    blocks = grid.combine(blocks, grid.from_words(o.axes))
    runs = grid.expand(blocks, None if o.yes else grid.MOST, starter(o.out, blocks))
    path = check_folder(o.out)
    for text in runs.merged[:3]:
        console.warn(f"the same run twice, made once: {text}")
    if len(runs.merged) > 3:
        console.warn(f"and {len(runs.merged) - 3:,} more that are the same as others")
    from nanorepro.sweeps.folder import Folder
    from nanorepro.sweeps.runner import Broken, Runner
    from nanorepro.sweeps.work import Settings, Task
    from nanorepro.training.threads import usable_cpus

    again = shlex.join(["python", "-m", NAME, *words])
    settings = Settings(str(path), o.backend, again, minutes)
    folder = Folder(path)
    check_unchanged(folder, again, runs.configs)
    tasks = [Task(c, *started(c, runs.starts.get(c.id))) for c in runs.configs]
    runner = Runner(tasks, folder, settings, console.warn)
    cores, engine = threads or usable_cpus(), None
    if address and runner.pending:
        from nanorepro.sweeps.cluster import Cluster

        engine = Cluster(settings, address, resources)
        engine.connect()
        cores = engine.slots
    stream = None if o.quiet else sys.stderr
    asked = counted(len(runs.configs), "run is", "runs are")
    try:
        with closing(engine) if engine else nullcontext():
            if o.plan:
                return show_plan(runner, o.backend, cores, console)
            outcome = runner.run(cores, stream, engine, NAME)
    except Broken as error:
        done = len(folder.entries)
        console.warn(f"{done} of {asked} finished; the same command goes on")
        return console.fail(error, 1)
    except (KeyboardInterrupt, Terminated):
        done = len(folder.entries)
        console.warn(f"{done} of {asked} finished; to go on: {again}")
        raise
    console.say(f"{outcome.finished} of {asked} finished in {path}/,"
                f" {outcome.trained} of them new")  # fmt: skip
    for failure in outcome.failed[:10]:
        console.say(f"failed: {failure.id} ({options_of(failure.config)}): {failure.reason}")
    if len(outcome.failed) > 10:
        console.say(f"and {len(outcome.failed) - 10} more; see nanorepro sweep status {path}")
    return 1 if outcome.failed else 0


def check_unchanged(folder: "Folder", again: str, configs: Sequence[Config]) -> None:
    """Raise ConfigError if the same sweep was begun on other examples of a file of the caller's."""
    if not any(config.is_given for config in configs):
        return
    now = {config.data: config.content for config in configs}
    for record in folder.sweeps():
        if record["command"] != again:
            continue
        for run in record["runs"]:
            data, content = (run["config"].get(name, "") for name in ("data", "content"))
            if content and now.get(data, content) != content:
                raise ConfigError(
                    f"the examples of {data} have changed since this sweep was begun in"
                    f" {str(folder.path)!r}; give the file as it was, or another --out"
                )


def starter(folder: str, blocks: Sequence[grid.Block]) -> grid.Start:
    """What finds the run that `warm_start` of a grid names: a file, or an id in the folder."""
    read: dict[str, tuple[str, Result]] = {}

    def start(config: Config, word: str, given: set[str]) -> tuple[Config, str]:
        from nanorepro.results import store
        from nanorepro.sweeps.checking import named
        from nanorepro.sweeps.folder import Folder
        from nanorepro.training.continuing import continued

        if word not in read:
            try:
                if os.path.lexists(word) or word.endswith(".h5"):
                    read[word] = word, store.load(word)
                else:
                    found = named(Folder(folder), word)
                    read[word] = str(Folder(folder).file(found.config.id)), found
            except ConfigError as error:
                text = str(error)
                if not os.path.lexists(word) and (id := grid.named(blocks, Path(word).stem)):
                    text = f"{id} is a run of this grid that is not finished; make it in a sweep"
                    text += " before this one, whose runs have their ids from its parameters"
                raise ConfigError(text, "warm_start") from None
        file, stored = read[word]
        return continued(config, stored, file, given), file

    return start


def started(config: Config, file: str | None) -> tuple[str, ...]:
    """The file that a run starts from, and the command that makes it again; nothing of others."""
    return (file, f"{command_line(config)} --warm-start {shlex.quote(file)}") if file else ()


SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")


def check_cluster(o: Any, given: set[str]) -> tuple[str, dict[str, float]]:
    """The scheduler's address, empty if there is none, and what a run takes; raises ConfigError."""
    if o.cluster is None:
        if o.resources is not None:
            raise ConfigError("--resources: only workers of a cluster have some; give --cluster")
        return "", {}
    if "threads" in given:
        raise ConfigError("--threads: the workers of --cluster have their own; give one of the two")
    return check_address(o.cluster), check_resources(o.resources) if o.resources else {}


def check_address(text: str) -> str:
    """The address of a scheduler; raises ConfigError."""
    address = text if "://" in text else f"tcp://{text}"
    try:
        found = urlsplit(address)
        good = found.scheme in SCHEMES and bool(found.hostname) and bool(found.port)
    except ValueError:
        good = False
    if not good or found.path or any(c.isspace() for c in text):
        right = "the scheduler's address, as tcp://scheduler:8786"
        raise ConfigError(f"--cluster: {shown(text)} is not allowed; give {right}")
    return address


def check_resources(text: str) -> dict[str, float]:
    """What a run takes of its worker, from text such as GPU=1; raises ConfigError."""
    found: dict[str, float] = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        try:
            number = real_number(value)
        except ValueError:
            number = 0.0
        if not name.strip() or name.strip() in found or not 0.0 < number < math.inf:
            right = "NAME=NUMBER, as GPU=1; several parted by commas"
            raise ConfigError(f"--resources: {shown(text)} is not allowed; give {right}")
        found[name.strip()] = number
    return found


def show_plan(runner: Any, backend: str, cores: int, console: Console) -> int:
    """What would run."""
    from nanorepro.sweeps.planning import plan

    todo, number = list(runner.pending), len(runner.tasks)
    console.say(f"{counted(number, 'run')}, {number - len(todo)} finished, {len(todo)} to be made")
    for damaged in runner.damaged:
        console.say(f"damaged, to be made again: {damaged.path}: {damaged.reason}")
    if not todo:
        return 0
    with ends_at_once(NAME):
        found = plan(todo, backend, cores)
    some = "" if found.measured == found.kinds else f" ({found.measured} were timed)"
    kinds, on = counted(found.kinds, "kind"), counted(cores, "core")
    console.say(
        f"{found.models:,} models, {found.examples:,} examples, {kinds} of run{some}\n"
        f"about {duration(found.seconds)} on {on}, the start of processes aside,"
        f" {found.size / 1e6:,.2g} MB in {runner.folder.path}/"
    )
    return 0


def command(words: Sequence[str], console: Console) -> int:
    """A sweep, or a command on a folder of runs."""
    if words and words[0] in ON_A_FOLDER:
        return ON_A_FOLDER[words[0]](words[1:], console)
    if words and not os.path.lexists(words[0]) and (near := nearest_of(words[0], ON_A_FOLDER)):
        raise ConfigError(f"{shown(words[0])} is no file; did you mean {near}?")
    return sweep(words, console)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, command, argv)


if __name__ == "__main__":
    sys.exit(main())
