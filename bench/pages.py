"""python -m bench.pages: what the page of a folder of finished runs costs, and how large it is.

One run is trained; the others say that they were, by a journal and files of their names, with its
measures times a number of their own.
"""

import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

from bench import harness
from nanorepro import Config, save, simulate
from nanorepro.config import command
from nanorepro.sweeps import journal
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.journal import Entry
from nanorepro.sweeps.report import report

TINY = Config(model="single", log2_examples=6, log2_window=0, log2_eval=4, pairs=16)
AXES = {
    "act": ("identity", "relu", "smelu", "swish"),
    "log2_window": (0, 2, 4, 6, 8),
    "optimizer": ("adagrad", "sgd"),
    "differ": ("shuffle", "init,shuffle"),
    "seed": range(1 << 20),
}


def grid(count: int) -> Iterator[Config]:
    """The first runs of a grid of five fields, the seed slowest."""
    *names, seed = AXES
    several = product(AXES[seed], *(AXES[name] for name in names))
    for first, *values in islice(several, count):
        yield replace(TINY, seed=first, log2_examples=14, **dict(zip(names, values, strict=True)))


def fill(folder: Path, count: int) -> None:
    """A folder of finished runs."""
    with tempfile.TemporaryDirectory() as elsewhere:
        result = simulate(TINY, "reference", 1)
        made = journal.entry(result, save(result, elsewhere))
    lines = []
    for config in grid(count):
        path = folder / f"{config.id}.h5"
        path.write_bytes(b"x")
        lines.append(journal.line(entry(made, config, path)))
    (folder / journal.NAME).write_text("\n".join(lines) + "\n")


def entry(made: Entry, config: Config, path: Path) -> Entry:
    """What a run says that was not trained."""
    found, draw = path.stat(), random.Random(config.id)
    level = draw.lognormvariate(0.0, 1.0)
    pd = [level * x * draw.lognormvariate(0.0, 0.3) for x in made.measures["pd"]]
    mean = sum(pd) / len(pd)
    ends = {"relative_pd": mean, "relative_pd_interval": [0.9 * mean, 1.1 * mean]}
    return replace(
        made, id=config.id, size=found.st_size, modified=found.st_mtime_ns,
        config=journal.record_of(config), measures={**made.measures, "pd": pd},
        summary={**made.summary, **ends},
        provenance={**made.provenance, "command": command(config)},
    )  # fmt: skip


def run(argv: Sequence[str] | None = None) -> int:
    parser = harness.Parser("bench.pages", __doc__, rounds=1, seconds=0.0)
    parser.count("--runs", 1000, "runs of the largest folder (default: 1000)")
    given = parser.read(argv)
    if given.quick:
        given.runs = min(given.runs, 100)
    print(harness.machine(given))
    rows = [["finished runs of 16 pairs", "s", "s of the CPU", "MB"]]
    for count in sorted({given.runs // 2, given.runs}):
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), count)
            begin, cpu = time.perf_counter(), time.process_time()
            page = report(Folder(folder))
            passed = time.perf_counter() - begin, time.process_time() - cpu
        rows.append([f"{count:,}", *(f"{t:.2f}" for t in passed), f"{len(page) / 1e6:.2f}"])
    print("\n" + harness.table(rows), flush=True)
    return 0


if __name__ == "__main__":
    harness.main("bench.pages", run)
