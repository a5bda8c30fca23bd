"""python -m bench.reliability: runs and sweeps that are killed, short of disk, or share a folder.

Sweeps and single runs with checkpoints are killed by SIGKILL at random moments, begun again by the
same command, and killed again, a few times each; sweeps run where files may not grow beyond random
sizes, and on a file system in memory that fills up, is given some more, and fills up again; two
sweeps work in one folder while one of them is killed.  After every blow all files are read and
checked: no run that was finished may be gone, none damaged, and all bits must be those of runs that
nobody disturbed.  Exit status 1 if one is not so.
"""

import contextlib
import math
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro import Config, initial_parameters, load, simulate
from nanorepro.backends.protocols import Snapshot
from nanorepro.commands.common import carry_out, whole
from nanorepro.commands.console import Console
from nanorepro.commands.parser import Parser
from nanorepro.config import CHECKPOINT_MINUTES, with_paper_sizes
from nanorepro.data.worlds import make_world
from nanorepro.errors import option
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.training import checkpoints
from nanorepro.training.measuring import evaluation_set

NAME = "bench.reliability"
BACKEND = "reference"  # whose runs take a while without being compiled
SHORT: dict[str, Any] = {"model": "linear", "log2_examples": 11, "log2_eval": 4, "pairs": 1}
LONG: dict[str, Any] = {
    "hidden": "8,8",
    "log2_examples": 14,
    "log2_eval": 6,
    "pairs": 2,
    "eval_every": "log",
}
MINUTES = "0.002"  # between two checkpoints
LONGEST = 600.0  # seconds for which anything may take
WHOLE = (
    Config(log2_examples=25, pairs=8),
    Config(model="wide", log2_examples=21, pairs=8),
    Config(model="deep", data="quadratic", log2_examples=17, pairs=2, log2_eval=12),
)
HITS = 5  # kills of one sweep, or of one run, at most


@dataclass
class Toll:
    """What the blows cost: all but the first four must be 0.

    blows: kills, or refused writes; begun: sweeps, or single runs; finished: runs that ended;
    resumed: from a checkpoint
    lost: runs that were finished and are not there any more; damaged: files that cannot be read
    other: results of other bits; failed: commands that did not end as they should
    """

    blows: int = 0
    begun: int = 0
    finished: int = 0
    resumed: int = 0
    lost: int = 0
    damaged: int = 0
    other: int = 0
    failed: int = 0

    @property
    def clean(self) -> bool:
        return not (self.lost or self.damaged or self.other or self.failed)


class Watch:
    """The finished runs of a folder, checked after every blow."""

    def __init__(self, folder: Path, expected: dict[str, str], toll: Toll):
        self.folder, self.expected, self.toll = folder, expected, toll
        self.there: set[str] = set()

    def look(self) -> None:
        """Read every result and every checkpoint that is there."""
        files = {path.stem: path for path in self.folder.glob("*.h5")}
        self.toll.lost += len(self.there - set(files))
        self.there = set(files)
        for id, path in files.items():
            try:
                self.toll.other += load(path).fingerprint != self.expected[id]
            except Exception as error:
                print(f"{path}: {error}", file=sys.stderr)
                self.toll.damaged += 1
        for path in checkpoints.found_in(self.folder):
            try:
                checkpoints.read(path)
            except FileNotFoundError:
                continue  # its run has just been stored
            except Exception as error:
                print(f"{path}: {error}", file=sys.stderr)
                self.toll.damaged += 1

    def end(self, wanted: int) -> None:
        """See that all runs are there."""
        self.look()
        self.toll.begun += 1
        self.toll.failed += len(self.there) != wanted
        self.toll.finished += len(self.there)
        self.toll.resumed += sum(
            "resumed" in load(path).provenance for path in self.folder.glob("*.h5")
        )


def grid(number: int, first: int = 0) -> dict[str, list[Config]]:
    """The configurations of a sweep: short runs, and some long enough to have checkpoints."""
    return {
        "short": [Config(**SHORT, seed=first + k) for k in range(number)],
        "long": [Config(**LONG, seed=first + k) for k in range(max(1, number // 8))],
    }


def grid_file(folder: Path, number: int, first: int = 0) -> Path:
    """The same as a grid file."""
    text = ""
    for base, count in ((SHORT, number), (LONG, max(1, number // 8))):
        lines = [f"{name} = {value!r}".replace("'", '"') for name, value in base.items()]
        seeds = list(range(first, first + count))
        text += "[[product]]\n" + "\n".join([*lines, f"seed = {seeds}"]) + "\n\n"
    path = folder / "grid.toml"
    path.write_text(text)
    return path


def start(*words: str, before: Callable[[], None] | None = None) -> "subprocess.Popen[bytes]":
    """A command of the package."""
    command = [sys.executable, "-m", *words, "--backend", BACKEND, "-q"]
    null = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=null, stdout=null, stderr=null, preexec_fn=before, start_new_session=True
    )


def sweep_words(file: Path, folder: Path) -> list[str]:
    """The command of a sweep."""
    return [
        "nanorepro.sweep", str(file), "--out", str(folder), "--threads", "2",
        "--checkpoint-minutes", MINUTES,
    ]  # fmt: skip


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(text[1]) == process:
            found.append(int(path.parent.name))
    return found


def kill(process: "subprocess.Popen[bytes]", draw: random.Random) -> None:
    """Kill a sweep, one of its workers, or all of them at once."""
    workers = children(process.pid)
    what = draw.choice(["sweep", "worker", "all"])
    victims = {"sweep": [process.pid], "all": [*workers, process.pid]}.get(what, [])
    if what == "worker" and workers:
        victims = [draw.choice(workers)]
    for victim in victims or [process.pid]:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def ended(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Whether a process ends within some seconds."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def pause(process: "subprocess.Popen[bytes]", folder: Path, draw: random.Random) -> bool:
    """Wait for a random time, or for a random number of runs; whether the process ended before."""
    if draw.random() < 0.5:
        return ended(process, draw.uniform(0.2, 4.0))
    wanted = len(list(folder.glob("*.h5"))) + draw.randint(1, 8)
    while len(list(folder.glob("*.h5"))) < wanted:
        if ended(process, 0.02):
            return True
    return ended(process, draw.uniform(0.0, 0.3))


def killed_sweeps(kills: int, runs: int, draw: random.Random) -> Toll:
    """Sweeps that are killed, some times each, until there were so many kills."""
    toll = Toll()
    while toll.blows < kills:
        expected, left = fingerprints(runs, 1000 * toll.begun), min(HITS, kills - toll.blows)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name) / "runs"
            words = sweep_words(grid_file(Path(name), runs, 1000 * toll.begun), folder)
            watch, process, hit = Watch(folder, expected, toll), start(*words), False
            while True:
                if pause(process, folder, draw) if left else ended(process, LONGEST):
                    if process.returncode == 0:
                        break
                    # a run whose workers were killed three times is given up until the next call
                    given_up = hit and process.returncode == 1
                    toll.failed += not given_up and process.returncode != -signal.SIGKILL
                    process, hit = start(*words), False
                elif not left:
                    process.kill()
                    toll.failed += 1
                    break
                else:
                    kill(process, draw)
                    toll.blows, left, hit = toll.blows + 1, left - 1, True
                    watch.look()
            watch.end(len(expected))
    return toll


def killed_runs(kills: int, draw: random.Random) -> Toll:
    """Single runs with checkpoints that are killed, some times each, until there were so many."""
    toll = Toll()
    fixed = {**LONG, "log2_examples": 15}
    options = [f"{option(name)}={value}" for name, value in fixed.items()]
    while toll.blows < kills:
        config, left = Config(**fixed, seed=toll.begun), min(HITS, kills - toll.blows)
        expected = {config.id: simulate(config).fingerprint}
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            words = ["nanorepro.run", *options, f"--seed={config.seed}", "--out", name,
                     "--checkpoint-minutes", MINUTES]  # fmt: skip
            watch = Watch(Path(name), expected, toll)
            while not watch.there:
                process = start(*words, "--threads", draw.choice(["1", "2", "3"]))
                wait = draw.uniform(1.0, 8.0) if left else LONGEST
                if ended(process, wait):
                    toll.failed += process.returncode != 0
                else:
                    process.kill()
                    process.wait()
                    toll.blows, left = toll.blows + 1, left - 1
                watch.look()
                if wait == LONGEST and not watch.there:
                    break
            watch.end(1)
    return toll


def short_files(times: int, runs: int, draw: random.Random) -> Toll:
    """Sweeps whose files may not grow beyond random sizes, and which are begun again."""
    toll, expected = Toll(), fingerprints(runs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name) / "runs"
        words = sweep_words(grid_file(Path(name), runs), folder)
        watch = Watch(folder, expected, toll)
        for _ in range(times):
            most = draw.randrange(1 << 10, 1 << 16)
            process = start(
                *words,
                before=lambda n=most: resource.setrlimit(resource.RLIMIT_FSIZE, (n, n)),  # type: ignore[misc]
            )
            toll.blows += 1
            if not ended(process, LONGEST) or process.returncode not in (0, 1):
                process.kill()
                toll.failed += 1
            watch.look()
        process = start(*words)
        toll.failed += not (ended(process, LONGEST) and process.returncode == 0)
        watch.end(len(expected))
    return toll


def full_disks(times: int, runs: int, draw: random.Random) -> Toll:
    """Sweeps on a small file system in memory, which is given a little more when it is full."""
    toll = Toll()
    while toll.blows < times:
        expected, first = fingerprints(runs, 1000 * toll.begun), 1000 * toll.begun
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, disk(name) as resize:
            folder, size = Path(name) / "disk" / "runs", draw.randrange(40, 200)
            words = sweep_words(grid_file(Path(name), runs, first), folder)
            watch, status = Watch(folder, expected, toll), 1
            while status == 1:
                resize(size)
                process = start(*words)
                if not ended(process, LONGEST):
                    process.kill()
                    break
                status, full = process.returncode, process.returncode == 1
                toll.blows, size = toll.blows + full, size + draw.randrange(20, 160)
                watch.look()
            toll.failed += status != 0
            watch.end(len(expected))
    return toll


@contextlib.contextmanager
def disk(place: str) -> Iterator[Callable[[int], None]]:
    """A file system in memory, `disk` in a folder; what gives it so many KB.  For root only."""
    path = Path(place) / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(path)]
    subprocess.run(mount, check=True, stderr=subprocess.DEVNULL)

    def resize(kilobytes: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(path)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def shared_folders(times: int, runs: int, draw: random.Random) -> Toll:
    """Two sweeps in one folder, of which one is killed in the middle."""
    toll = Toll()
    while toll.blows < times:
        expected, first = fingerprints(runs, 1000 * toll.begun), 1000 * toll.begun
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name) / "runs"
            words = sweep_words(grid_file(Path(name), runs, first), folder)
            watch = Watch(folder, expected, toll)
            one, other = start(*words), start(*words)
            if not pause(one, folder, draw):
                kill(one, draw)
                toll.blows += 1
            watch.look()
            for process in (one, other):
                good = ended(process, LONGEST) and process.returncode in (0, -signal.SIGKILL)
                process.kill()
                toll.failed += not good
            watch.end(len(expected))
    return toll


def fingerprints(runs: int, first: int = 0) -> dict[str, str]:
    """What the runs of a sweep give that nobody disturbs, by id."""
    configs = [config for some in grid(runs, first).values() for config in some]
    return {config.id: simulate(config).fingerprint for config in configs}


def cost(model: str, data: str) -> str:
    """What a checkpoint takes in the middle of a run of the paper's sizes, evaluated now and then.

    The numbers in it are made up; half of the pairs are finished, the others half-way.
    """
    config = with_paper_sizes(Config(model=model, data=data, eval_every="log"))
    world = make_world(config.seed, config.data)
    patterns, record = len(evaluation_set(config, world).x), initial_parameters(config)
    state = dict.fromkeys(OPTIMIZERS[config.optimizer].state, record)
    logits = np.random.default_rng(0).normal(size=(len(config.checkpoints), patterns))
    logits, half = logits.astype(record["w0"].dtype), config.steps // 2
    passed = sum(step <= half for step in config.checkpoints)
    with tempfile.TemporaryDirectory() as name:
        checkpoint = checkpoints.Checkpoint(config, name)
        for pair in range(config.pairs):
            one = Snapshot(config.steps, record, {}, logits)
            if pair % 2:
                one = Snapshot(half, record, state, logits[:passed])
            checkpoint.models |= {(pair, 0): one, (pair, 1): one}
        cpu, wall = time.process_time(), time.perf_counter()
        checkpoint.write()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        assert checkpoint.path
        size = checkpoint.path.stat().st_size / 1e6
    share = cpu / (60.0 * CHECKPOINT_MINUTES)
    return f"{model:<8}{size:>8.1f} MB{cpu:>8.2f} s of a core{wall:>8.2f} s{share:>9.2%}"


def slowdown(config: Config) -> str:
    """A whole run without checkpoints and with one every second: the least of two each."""
    simulate(replace(config, log2_examples=8), checkpoint_minutes=0)  # which compiles
    least = {0.0: (math.inf, math.inf), 1 / 60: (math.inf, math.inf)}
    written = 0
    write = checkpoints.Checkpoint.write

    def counted(one: checkpoints.Checkpoint) -> bool:
        nonlocal written
        written += 1
        return write(one)

    checkpoints.Checkpoint.write = counted  # type: ignore[method-assign]
    for minutes in [*least] * 2:
        with tempfile.TemporaryDirectory() as name:
            begin = time.process_time(), time.perf_counter()
            simulate(config, checkpoint_minutes=minutes, checkpoint_folder=name)
            passed = time.process_time() - begin[0], time.perf_counter() - begin[1]
        cpu, wall = (min(pair) for pair in zip(passed, least[minutes], strict=True))
        least[minutes] = cpu, wall
    checkpoints.Checkpoint.write = write  # type: ignore[method-assign]
    (cpu, wall), (more_cpu, more_wall) = least.values()
    return (
        f"{config.model:<8}{written // 2:>4} checkpoints{cpu:>8.2f} s of CPU{more_cpu:>8.2f}"
        f"{more_cpu / cpu - 1:>+7.1%}{wall:>8.2f} s{more_wall:>8.2f}{more_wall / wall - 1:>+7.1%}"
    )


def parser() -> Parser:
    """The command line."""
    found = Parser(
        prog=NAME,
        usage="python -m bench.reliability [option ...]",
        description="Kill runs and sweeps at random moments, fill the disk, share a folder; exit"
        " status 1 if a finished\nrun is lost or damaged, or has other bits than one that nobody"
        " disturbed.",
        epilog="Example: python -m bench.reliability --sweep-kills 5 --run-kills 2",
    )
    add = found.add_argument
    add("--sweep-kills", default="50", metavar="N", help="kills of sweeps (default: 50)")
    add("--run-kills", default="20", metavar="N", help="kills of single runs (default: 20)")
    add("--short-files", default="10", metavar="N",
        help="sweeps whose files may not grow (default: 10)")  # fmt: skip
    add("--full-disks", default="20", metavar="N",
        help="times that a file system is full, for root only (default: 20)")  # fmt: skip
    add("--shared", default="10", metavar="N",
        help="kills of one of two sweeps in a folder (default: 10)")  # fmt: skip
    add("--runs", default="24", metavar="N", help="short runs of a sweep (default: 24)")
    add("--cost", action="store_true",
        help="measure what checkpoints take, and nothing else")  # fmt: skip
    add("--seed", default="0", metavar="N", help="seed of the moments (default: 0)")
    return found


def command(words: Sequence[str], console: Console) -> int:
    """All blows, and a table of what they cost."""
    o, _ = parser().read(words)
    numbers = {
        name: whole(option(name), getattr(o, name), int(name == "runs"), 10**6)
        for name in (
            "sweep_kills",
            "run_kills",
            "short_files",
            "full_disks",
            "shared",
            "runs",
            "seed",
        )
    }
    if o.cost:
        console.say(f"size, CPU time, wall time, CPU time in {CHECKPOINT_MINUTES:g} minutes")
        for model, data in (("tower", "linear"), ("wide", "linear"), ("deep", "quadratic")):
            console.say(cost(model, data))
        console.say("a whole run without checkpoints, and with one every second")
        for config in WHOLE:
            console.say(slowdown(config))
        return 0
    draw, runs = random.Random(numbers["seed"]), numbers["runs"]
    parts: dict[str, Callable[[], Toll]] = {
        "sweeps killed": lambda: killed_sweeps(numbers["sweep_kills"], runs, draw),
        "runs killed": lambda: killed_runs(numbers["run_kills"], draw),
        "short files": lambda: short_files(numbers["short_files"], runs, draw),
        "disk full": lambda: full_disks(numbers["full_disks"], runs, draw),
        "one folder": lambda: shared_folders(numbers["shared"], runs, draw),
    }
    names = [field.name for field in fields(Toll)]
    console.say(f"{'':<14}" + "".join(f"{name:>10}" for name in [*names, "seconds"]))
    clean = True
    for (title, part), wanted in zip(parts.items(), list(numbers.values()), strict=False):
        if not wanted:
            continue
        begin = time.monotonic()
        toll = part()
        values = [getattr(toll, name) for name in names] + [round(time.monotonic() - begin)]
        console.say(f"{title:<14}" + "".join(f"{value:>10}" for value in values))
        clean &= toll.clean
    return 0 if clean else 1


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, command, argv)


if __name__ == "__main__":
    sys.exit(main())
