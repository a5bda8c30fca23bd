"""python -m bench.versions OLD NEW ...: the speed of checkouts of this repository, in turns.

A process for each, of the checkout's own code and `bench.worker`; short measurements take turns, so
that what else the machine does concerns all alike.  Printed are the median of each, and the median
of the ratios to the first within a round.  A checkout: `git worktree add --detach FOLDER COMMIT`.
"""

import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from bench import harness
from bench.__main__ import OF_32, OURS, Worker
from bench.cases import SIZES
from bench.harness import median

CASES = ("linear", "tower", "wide", "deep")
OF_MANY = ("linear", "tower")  # the others are trained one by one


def compare(given: Namespace, workers: Sequence[Worker], case: str, engine: str) -> list[list[str]]:
    """A row for each checkout: seconds to compile, ns an example and model, over the first."""
    sizes, seconds, found = SIZES[case], [], [[] for _ in workers]
    n = sizes.single if engine == OURS else sizes.ensemble
    for worker in workers:
        begin = time.perf_counter()
        worker.ask(do="prepare", engine=engine, case=case, examples=n)
        seconds.append(time.perf_counter() - begin)
    for k in range(given.rounds):  # every other round the other way round
        for index in range(len(workers))[:: 1 if k % 2 else -1]:
            answer = workers[index].ask(do="time", engine=engine, case=case, seconds=given.seconds)
            found[index].append(answer["ns"])
    return [
        [f"{case}, {engine}", str(k), f"{seconds[k]:.1f}", f"{median(ns):.4g}",
         f"{median([a / b for a, b in zip(ns, found[0], strict=True)]):.3f}"]
        for k, ns in enumerate(found)
    ]  # fmt: skip


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.versions", __doc__, rounds=40, seconds=0.02)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a checkout")
    parser.names("--models", CASES, "models")
    given = parser.read(argv)
    for folder in given.folders:
        if not (folder / "bench" / "worker.py").is_file():
            parser.error(f"FOLDER: {str(folder)!r} is not a checkout of this repository; give one")
    print(harness.machine(given))
    for k, folder in enumerate(given.folders):
        print(f"{k}: {folder}")
    workers: list[Worker] = []
    try:
        for k, folder in enumerate(given.folders):
            log = given.out / f"version{k}.log"
            workers.append(Worker("nanorepro", given, log, folder.resolve()))
        rows = [["case", "checkout", "first, s", "ns", "over the first"]]
        for case in given.models:
            for engine in (OURS, OF_32) if case in OF_MANY else (OURS,):
                rows += compare(given, workers, case, engine)
        print(harness.table(rows))
    finally:
        for worker in workers:
            worker.close()
    return 0


if __name__ == "__main__":
    harness.main("bench.versions", run)
