"""python -m bench.sweeps: what a sweep costs beside its trainings, and how large it may be.

engine   runs of about a second, by the engine and by a plain loop in as many processes
short    runs of T = 2^14 a second, and on a cluster of Dask's where it is installed
folder   a folder of many finished runs, all valid files: seconds until a sweep knows what is left,
         until `table` has written it, until `open_results` has it, with the journal and without
"""

import os
import queue
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from bench import harness
from nanorepro import Config, simulate
from nanorepro.results import hdf5
from nanorepro.sweeps import journal, table
from nanorepro.sweeps.engines import Local, Process
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.runner import Runner, sweep
from nanorepro.sweeps.work import Settings, Task

PARTS = ("engine", "short", "folder")
SECOND = Config(log2_examples=20, pairs=40)  # a run of about a second on one core
SHORT = Config(log2_examples=14, pairs=2)  # and of about 10 ms
TINY = Config(model="linear", log2_examples=6, log2_eval=6, pairs=4)
PLAIN = """
import sys
from nanorepro import Config, save, simulate
for seed in range(int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])):
    config = Config(log2_examples=int(sys.argv[1]), pairs=int(sys.argv[2]), seed=seed)
    save(simulate(config, threads=1), sys.argv[6])
"""


@contextmanager
def folder(given) -> Iterator[Path]:
    """A folder for runs, gone afterwards."""
    path = Path(tempfile.mkdtemp(dir=given.out))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def seeds(config: Config, count: int) -> list[Task]:
    return [Task(replace(config, seed=seed)) for seed in range(count)]


def clocks() -> tuple[float, float]:
    """Seconds on the wall, and of CPU time of this process and of those that it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(s.ru_utime + s.ru_stime for s in spent)


def plain(config: Config, count: int, processes: int, path: Path) -> None:
    """The runs in plain loops, every one of which makes each so many-th run."""
    words = [str(config.log2_examples), str(config.pairs)]
    children = [
        subprocess.Popen([sys.executable, "-c", PLAIN, *words, str(k), str(count), str(processes),
                          str(path)])
        for k in range(processes)
    ]  # fmt: skip
    assert not any(child.wait() for child in children)


class Watched:
    """What arrives from the workers of an engine, and how long they were at runs and between them.

    Other programs on the machine make the clock of a whole sweep differ by more than the engine
    costs; from the end of a run to the beginning of the worker's next one is the engine's alone.
    """

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[Process, dict | None]] = queue.SimpleQueue()
        self.get, self.get_nowait = self.queue.get, self.queue.get_nowait
        self.last: dict[Process, float] = {}
        self.at_runs = self.between = 0.0

    def put(self, arrived: tuple[Process, dict | None]) -> None:
        worker, message = arrived
        now, before = time.perf_counter(), self.last.get(worker)
        if message and ("begin" in message or "end" in message):
            if "end" in message and before is not None:
                self.at_runs += now - before
            elif before is not None:
                self.between += now - before
            self.last[worker] = now
        self.queue.put(arrived)


def engine(given) -> list[list[str]]:
    """The engine beside a plain loop."""
    watched = Watched()
    simulate(replace(SECOND, log2_examples=8), threads=1)  # which compiles
    rows = [["engine", "runs", "wall s", "CPU s"]]
    found = {}
    for name in ("loop", "engine"):
        with folder(given) as path:
            begin = clocks()
            if name == "loop":
                plain(SECOND, given.runs, given.processes, path)
            else:
                tasks, settings = seeds(SECOND, given.runs), Settings(str(path))
                made = Local(settings, given.processes)
                made.arrived = watched  # type: ignore[assignment]
                sweep(tasks, Folder(path), settings, given.processes, engine=made)
            found[name] = [b - a for a, b in zip(begin, clocks(), strict=True)]
            assert len(list(path.glob("*.h5"))) == given.runs
        rows.append([name, str(given.runs), *(f"{value:.2f}" for value in found[name])])
    cost = [b / a - 1.0 for a, b in zip(found["loop"], found["engine"], strict=True)]
    rows.append(["the engine costs", "", *(f"{value:+.1%}" for value in cost)])
    return [*rows, ["workers wait for it", "", f"{watched.between / watched.at_runs:.2%}", ""]]


def short(given) -> list[list[str]]:
    """Short runs a second."""
    simulate(replace(SHORT, log2_examples=8), threads=1)
    count = 5 * given.runs
    rows = [["short runs, T = 2^14", "runs", "wall s", "runs/s", "CPU s", "CPU ms/run"]]

    def row(name: str, seconds: float, cpu: float) -> None:
        pace, each = f"{count / seconds:.0f}", f"{1e3 * cpu / count:.1f}"
        rows.append([name, str(count), f"{seconds:.2f}", pace, f"{cpu:.2f}", each])

    for name in ("plain loop", "local"):
        with folder(given) as path:
            begin = clocks()
            if name == "local":
                sweep(seeds(SHORT, count), Folder(path), Settings(str(path)), given.processes)
            else:
                plain(SHORT, count, given.processes, path)
            row(name, *(b - a for a, b in zip(begin, clocks(), strict=True)))
            assert len(list(path.glob("*.h5"))) == count
    begin = clocks()
    with folder(given) as path:
        seconds = cluster(given, seeds(SHORT, count), path)
        assert len(list(path.glob("*.h5"))) == count
    row("cluster, CPU with its start", seconds, clocks()[1] - begin[1])
    return rows


def cluster(given, tasks: Sequence[Task], path: Path) -> float:
    """Seconds of runs on a cluster of workers of one thread, which have compiled the code."""
    import distributed

    from nanorepro.sweeps.cluster import Cluster

    with distributed.LocalCluster(
        n_workers=given.processes, threads_per_worker=1, dashboard_address=None,
        local_directory=str(given.out),
    ) as workers:  # fmt: skip
        with folder(given) as first:
            some = seeds(replace(SHORT, log2_eval=8), 4 * given.processes)
            settings = Settings(str(first))
            made = Cluster(settings, workers.scheduler_address)
            sweep(some, Folder(first), settings, given.processes, engine=made)
        settings = Settings(str(path))
        begin = time.perf_counter()
        made = Cluster(settings, workers.scheduler_address)
        sweep(tasks, Folder(path), settings, given.processes, engine=made)
        return time.perf_counter() - begin


def fill(path: Path, count: int) -> list[Task]:
    """A folder of finished runs: one was trained, the others say that they were, by their seeds."""
    result = simulate(TINY, "reference", 1)
    tasks = seeds(TINY, count)
    for task in tasks:
        origin = {**result.provenance, "command": f"seed {task.config.seed}"}
        data = hdf5.encode(replace(result, config=task.config, provenance=origin))
        (path / f"{task.config.id}.h5").write_bytes(data)
    return tasks


def full_folder(given) -> list[list[str]]:
    """What a folder of many runs costs."""
    rows = [[f"a folder of {given.finished:,} runs", "s"]]

    def measure(name: str, call) -> None:
        begin = time.perf_counter()
        call()
        rows.append([name, f"{time.perf_counter() - begin:.2f}"])

    with folder(given) as path:
        tasks = fill(path, given.finished)

        def command(*words: str) -> None:
            there = [sys.executable, "-m", "nanorepro.sweep", *words]
            subprocess.run(there, check=True, stdout=subprocess.DEVNULL, env=os.environ)

        fixed = {k: v for k, v in asdict(TINY).items() if v != asdict(Config())[k]}
        grid = [f"--grid={k}={v}" for k, v in fixed.items()]
        grid.append("--grid=seed=" + ",".join(map(str, range(given.finished))))
        measure("the journal is made from the files", lambda: Folder(path).look())
        assert len(journal.read(path)) == given.finished
        measure(
            "sweep: decide what is left", lambda: Runner(tasks, Folder(path), Settings(""), print)
        )
        measure("the whole command, nothing left", lambda: command(*grid, "--out", str(path)))
        measure("status", lambda: command("status", str(path)))
        measure("table", lambda: command("table", str(path)))
        measure("open_results", lambda: table.open_results(path))
    return rows


def run(argv: Sequence[str] | None = None) -> int:
    parser = harness.Parser("bench.sweeps", __doc__, rounds=1, seconds=0.0)
    parser.names("--parts", PARTS, "what is measured")
    parser.count("--runs", 200, "runs of a second, and a fifth of the short ones (default: 200)")
    parser.count("--finished", 10_000, "finished runs of the folder (default: 10000)")
    parser.count("--processes", len(harness.cores()), "processes (default: one a core)")
    given = parser.read(argv)
    if given.quick:
        given.runs, given.finished = min(given.runs, 8), min(given.finished, 200)
    print(harness.machine(given))
    for name, part in zip(PARTS, (engine, short, full_folder), strict=True):
        if name in given.parts:
            print("\n" + harness.table(part(given)), flush=True)
    return 0


if __name__ == "__main__":
    harness.main("bench.sweeps", run)
