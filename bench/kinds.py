"""python -m bench.kinds: the memory of a process that trains many different kinds of model.

Activations × optimizers × trees × precisions × hidden layers, in an order that is drawn once.  With
an empty NUMBA_CACHE_DIR every kind is compiled, with that of a run before every kind is loaded.
"""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import harness
from nanorepro import Config
from nanorepro.commands import parser
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.optimizers import OPTIMIZERS

TREES = ("chain", "pairwise", "lanes:4", "blocks:4")
PRECISIONS = ("float32", "float64", "bits:8", "bits:11")
HIDDEN = ("5", "6,3", "7,4", "12,6,3")
PAGE = 4096  # bytes


def configurations() -> list[Config]:
    """One run of two mini-batches for each kind."""
    kinds = [*itertools.product(ACTIVATIONS, OPTIMIZERS, TREES, PRECISIONS, HIDDEN)]
    random.Random(0).shuffle(kinds)
    return [
        Config(
            hidden=hidden, act=act, optimizer=optimizer, tree=tree, precision=precision,
            log2_examples=6, log2_eval=4, pairs=1,
        )
        for act, optimizer, tree, precision, hidden in kinds
    ]  # fmt: skip


def resident() -> float:
    """The memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def growth(configs: Sequence[Config]) -> Iterator[tuple[Config, float, float, str]]:
    """Each configuration, the memory and the CPU seconds after its run, and its fingerprint."""
    from nanorepro import simulate

    for config in configs:
        fingerprint = simulate(config, "numba", 1).fingerprint
        yield config, resident(), time.process_time(), fingerprint


def run(argv: Sequence[str]) -> int:
    found = configurations()
    words = parser.Parser(
        prog="python -m bench.kinds",
        usage="python -m bench.kinds [option ...]",
        description=__doc__,
    )
    right = f"2 to {len(found)}"
    words.add_argument(
        "--kinds", type=int, default=24, metavar="N", help=f"kinds of model, {right} (default: 24)"
    )
    given, _ = words.read(argv)
    if not 2 <= given.kinds <= len(found):
        words.error(f"--kinds: {given.kinds} is not allowed; give {right}")
    first = last = 0.0
    for k, (config, memory, seconds, fingerprint) in enumerate(growth(found[: given.kinds])):
        first, last = first or memory, memory
        print(
            f"{k + 1:4} {memory:7.0f} MB {seconds:7.1f} s  {fingerprint[:12]}  {config.act}"
            f" {config.optimizer} {config.tree} {config.precision} {config.hidden}",
            flush=True,
        )
    print(f"{(last - first) / (given.kinds - 1):.2f} MB a kind")
    return 0


if __name__ == "__main__":
    harness.main("bench.kinds", run)
