"""python -m bench.reliability_cluster: workers and schedulers of a cluster that are killed.

A sweep on two workers, of which one is killed by SIGKILL again and again, at random moments, and a
new one started; and a sweep whose scheduler is killed, and which is begun again with another.
After every kill all files are read and checked; at the end each fingerprint is compared with that
of a sweep on this machine which nobody disturbed.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import harness
from bench.dask_cluster import Dask, until
from nanorepro import Config, load
from nanorepro.commands.parser import Parser
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.runner import sweep
from nanorepro.sweeps.work import Settings, Task

FIXED = {"model": "linear", "log2_examples": 13, "log2_eval": 6, "pairs": 1}
BACKEND = "reference"  # whose runs take a while without being compiled


@dataclass
class Toll:
    """What the kills cost: runs that were finished and are not any more, damaged, other bits."""

    kills: int = 0
    lost: int = 0
    damaged: int = 0
    other: int = 0
    failed: int = 0
    sweeps: int = 0


def check(folder: Path, expected: dict[str, str], before: set[str], toll: Toll) -> set[str]:
    """Read all files of a folder; the ids of those that are there."""
    there = {path.stem: path for path in folder.glob("*.h5")}
    toll.lost += len(before - set(there))
    for id, path in there.items():
        try:
            toll.other += load(path).fingerprint != expected[id]
        except Exception:
            toll.damaged += 1
    return set(there)


def start(folder: Path, address: str, runs: int) -> "subprocess.Popen[str]":
    """The sweep's command."""
    fixed = [f"--grid={name}={value}" for name, value in FIXED.items()]
    seeds = "--grid=seed=" + ",".join(map(str, range(runs)))
    options = ["--backend", BACKEND, "--cluster", address, "--out", str(folder), "-q"]
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "nanorepro.sweep", *fixed, seeds, *options],
                            stdout=pipe, stderr=pipe, text=True)  # fmt: skip


def finished(child: "subprocess.Popen[str]", toll: Toll) -> int:
    """Wait for a sweep; its status."""
    out, err = child.communicate(timeout=600)
    toll.failed += out.count("failed: ")
    toll.sweeps += 1
    if child.returncode:
        print(err.strip())
    return child.returncode


def kill_workers(place: Path, expected: dict[str, str], kills: int, draw: random.Random) -> Toll:
    """Kill workers of a running sweep."""
    dask, folder, toll, there = Dask(place / "dask"), place / "runs", Toll(), set[str]()
    try:
        for name in ("a", "b"):
            dask.work(name)
        child = start(folder, dask.address, len(expected))
        while toll.kills < kills:
            count = len(list(folder.glob("*.h5")))
            until(lambda least=count + 1: len(list(folder.glob("*.h5"))) >= least, 20.0)
            time.sleep(draw.uniform(0.0, 0.6))
            if child.poll() is not None:
                break
            name = draw.choice(("a", "b"))
            dask.kill(name)
            toll.kills += 1
            dask.work(name)
            there = check(folder, expected, there, toll)
        while finished(child, toll) != 0:  # a run that lost three workers
            child = start(folder, dask.address, len(expected))
        there = check(folder, expected, there, toll)
        toll.lost += len(set(expected) - there)
    finally:
        dask.close()
    return toll


def kill_schedulers(place: Path, expected: dict[str, str], kills: int, draw: random.Random) -> Toll:
    """Kill the scheduler of a running sweep; the same command goes on with another."""
    dask, folder, toll, there = Dask(place / "dask"), place / "runs", Toll(), set[str]()
    try:
        while True:
            for name in ("a", "b"):
                dask.work(name)
            child = start(folder, dask.address, len(expected))
            if toll.kills == kills:
                break
            least = len(there) + draw.randint(1, 2)
            until(lambda least=least: len(list(folder.glob("*.h5"))) >= least, 60.0)
            time.sleep(draw.uniform(0.0, 0.6))
            dask.kill("scheduler")
            toll.kills += 1
            assert finished(child, toll) == 1
            there = check(folder, expected, there, toll)
            dask.close()
            dask.schedule()
        assert finished(child, toll) == 0
        there = check(folder, expected, there, toll)
        toll.lost += len(set(expected) - there)
    finally:
        dask.close()
    return toll


def run(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m bench.reliability_cluster", description=__doc__)
    add = parser.add_argument
    add("--workers", type=_number, default=10, metavar="N", help="kills of workers (default: 10)")
    add("--schedulers", type=_number, default=5, metavar="N",
        help="kills of schedulers (default: 5)")  # fmt: skip
    add("--seed", type=_number, default=0, metavar="N", help="of the moments (default: 0)")
    given, _ = parser.read(sys.argv[1:] if argv is None else argv)
    draw = random.Random(given.seed)
    rows = [["killed", "kills", "sweeps", "runs", "lost", "damaged", "other bits", "failed"]]
    bad = 0
    with tempfile.TemporaryDirectory() as where:
        place = Path(where)
        for what, kills, kill in (("worker", given.workers, kill_workers),
                                  ("scheduler", given.schedulers, kill_schedulers)):  # fmt: skip
            count = 3 * kills + 5
            tasks = [Task(Config(**FIXED, seed=seed)) for seed in range(count)]
            plain = place / f"plain {what}"
            sweep(tasks, Folder(plain), Settings(str(plain), BACKEND))
            expected = {path.stem: load(path).fingerprint for path in plain.glob("*.h5")}
            (place / what).mkdir()
            toll = kill(place / what, expected, kills, draw)
            counts = (toll.kills, toll.sweeps, count, toll.lost, toll.damaged, toll.other)
            rows.append([what, *map(str, counts), str(toll.failed)])
            bad += toll.lost + toll.damaged + toll.other + (toll.kills < kills)
    print(harness.table(rows))
    return 1 if bad else 0


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give a number from 0 to 1000")
    return int(text)


if __name__ == "__main__":
    harness.main("bench.reliability_cluster", run)
