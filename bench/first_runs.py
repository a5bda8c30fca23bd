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
    with tempfile.TemporaryDirectory() as folder:
        full, kernels = Path(folder, "full"), Path(folder, "kernels")
        seconds_of({}, full)
        sizes = [path.stat().st_size for path in full.glob("*/parts-*/*")]
        shutil.copytree(full, kernels)
        for parts in kernels.glob("*/parts-*"):
            shutil.rmtree(parts)
        print(f"CPU seconds; {len(sizes)} parts, {sum(sizes) / 1e6:.1f} MB")
        print(f"{'':16}empty cache  kernels  kernels and parts", flush=True)
        for name, changes in CHANGES.items():
            found = [
                [with_cache(changes, left) for left in (None, kernels, full)]
                for _ in range(given.rounds)
            ]
            empty, without, whole = (median(seconds) for seconds in zip(*found, strict=True))
            print(f"{name:16}{empty:11.1f}{without:9.1f}{whole:19.1f}", flush=True)
    return 0


def with_cache(changes: dict[str, object], left: Path | None) -> float:
    """The same with a copy of what a cache holds, or with nothing."""
    with tempfile.TemporaryDirectory() as cache:
        if left is not None:
            shutil.copytree(left, cache, dirs_exist_ok=True)
        return seconds_of(changes, Path(cache))


if __name__ == "__main__":
    harness.main("bench.first_runs", run)
