"""python -m bench.first_runs: what it costs to compile a configuration in a new process.

CPU seconds of a process that imports the package and makes one short run, with an empty cache, and
with one in which the main job's run has left its kernels: without and with the parts of kernels
beside them, which other kernels link.  Medians of rounds in turn.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import harness
from bench.harness import median
from nanorepro.commands import parser

CHANGES: dict[str, dict[str, object]] = {
    "tower": {},
    "pairwise": {"tree": "pairwise"},
    "lanes:4, Adam": {"tree": "lanes:4", "optimizer": "adam"},
    "swish": {"act": "swish"},
    "batch 16": {"batch": 16},
    "bits:8": {"precision": "bits:8"},
    "wide": {"model": "wide"},
    "deep": {"model": "deep"},
}
# a process's own time: imports, compiling, the run
RUN = """
import time
import nanorepro
nanorepro.simulate(nanorepro.Config(log2_examples=8, log2_eval=6, pairs=1, **{changes!r}))
print(time.process_time())
"""


def seconds_of(changes: dict[str, object], cache: Path) -> float:
    """CPU seconds of a process that runs one configuration with the kernels of a cache."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", RUN.format(changes=changes)]
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def measured(rounds: int, folder: Path) -> tuple[dict[str, list[list[float]]], list[int]]:
    """Seconds of each configuration with each cache, and the sizes of the parts that are kept."""
    full, kernels = folder / "full", folder / "kernels"
    seconds_of({}, full)
    sizes = [path.stat().st_size for path in full.glob("*/parts-*/*")]
    shutil.copytree(full, kernels)
    for parts in kernels.glob("*/parts-*"):
        shutil.rmtree(parts)
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in CHANGES}
    for _ in range(rounds):
        for name, times in found.items():
            for seconds, left in zip(times, (None, kernels, full), strict=True):
                cache = Path(tempfile.mkdtemp(dir=folder))
                if left is not None:
                    shutil.copytree(left, cache, dirs_exist_ok=True)
                seconds.append(seconds_of(CHANGES[name], cache))
                shutil.rmtree(cache)
    return found, sizes


def run(argv: Sequence[str]) -> int:
    words = parser.Parser(
        prog="python -m bench.first_runs",
        usage="python -m bench.first_runs [option ...]",
        description=__doc__,
    )
    words.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="measurements of each (default: 3)"
    )
    given, _ = words.read(argv)
    if given.rounds < 1:
        words.error(f"--rounds: {given.rounds} is not allowed; give a whole number from 1")
    with tempfile.TemporaryDirectory() as name:
        found, sizes = measured(given.rounds, Path(name))
    rows = [["", "empty cache", "kernels", "kernels and parts"]]
    rows += [
        [name, *(f"{median(seconds):.1f}" for seconds in times)] for name, times in found.items()
    ]
    print(f"CPU seconds; {len(sizes)} parts, {sum(sizes) / 1e6:.1f} MB\n" + harness.table(rows))
    return 0


if __name__ == "__main__":
    harness.main("bench.first_runs", run)
