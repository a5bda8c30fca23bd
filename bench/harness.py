"""What all benchmarks share: one core, the clock, the machine's name, tables, the command line."""

import argparse
import csv
import os
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from nanorepro.commands import common, parser
from nanorepro.errors import ConfigError
from nanorepro.parsing import real_number
from nanorepro.text import in_columns

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}


def begin(given: argparse.Namespace) -> str:
    """Keep this process on one core; the head of its report."""
    head = machine(given)
    on_one_core(given.core)
    return head


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_now = CLOCKS["wall"]


def on_one_core(core: int) -> None:
    """Keep this process on one core, and its libraries to one thread; before they are imported."""
    os.environ.update(ONE_THREAD)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def machine(given: argparse.Namespace) -> str:
    """The CPU, the day, the load that others made before: a line for the head of a report."""
    name = "unknown CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        numbers = [found.get(k, "?") for k in ("cpu family", "model", "stepping")]
        name = f"{found['model name']} (family {numbers[0]}, model {numbers[1]}.{numbers[2]})"
    except (OSError, KeyError):
        pass
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    core, day = f"core {given.core} of {len(cores())}", time.strftime("%Y-%m-%d %H:%M")
    return f"{name}, {core}, {day}, load {load}, {given.clock} clock"


def use_clock(name: str) -> None:
    """Which clock `seconds_of` reads from now on."""
    global _now
    _now = CLOCKS[name]


def seconds_of(
    call: Callable[[], object], least: float, before: Callable[[], object] = lambda: None
) -> float:
    """Mean seconds of a call, repeated for `least` seconds; `before` each is not counted."""
    total, count = 0.0, 0
    while total < least:
        before()
        start = _now()
        call()
        total += _now() - start
        count += 1
    return total / count


def median(values: Sequence[float]) -> float:
    found = sorted(values)
    return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first to the left, the others to the right."""
    return textwrap.dedent("\n".join(in_columns(rows, left=1)))


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


class Parser(parser.Parser):
    """The command line of a benchmark."""

    def __init__(self, module: str, description: str | None, rounds: int, seconds: float):
        super().__init__(
            prog=f"python -m {module}", usage=f"python -m {module} [option ...]",
            description=description,
        )  # fmt: skip
        self.count("--rounds", rounds, f"measurements of each, in turn (default: {rounds})")
        self.add_argument(
            "--seconds",
            type=_positive,
            default=seconds,
            metavar="X",
            help=f"least duration of a measurement (default: {seconds})",
        )
        last = cores()[-1]
        self.add_argument(
            "--core",
            type=_core,
            default=last,
            metavar="N",
            help=f"the core that all runs on (default: {last}, the last)",
        )
        self.add_argument(
            "--out",
            type=Path,
            default=Path("runs/bench"),
            metavar="FOLDER",
            help="folder of the CSV and the picture (default: runs/bench)",
        )
        self.add_argument(
            "--clock",
            choices=tuple(CLOCKS),
            default="wall",
            help="wall, or cpu: the process's own time, where others use the core (default: wall)",
        )
        self.add_argument("--quick", action="store_true", help="short measurements, to try it out")

    def count(self, name: str, default: int, help: str) -> None:
        self.add_argument(name, type=_count, default=default, metavar="N", help=help)

    def names(self, name: str, allowed: Sequence[str], help: str) -> None:
        """A list out of `allowed`, all of them by default."""

        def read(text: str) -> tuple[str, ...]:
            for word in text.split(","):
                if word not in allowed:
                    right = ", ".join(allowed)
                    raise argparse.ArgumentTypeError(f"{word!r} is not allowed; give {right}")
            return tuple(text.split(","))

        help = f"{help}: a list out of {', '.join(allowed)} (default: all)"
        self.add_argument(name, type=read, default=tuple(allowed), metavar="LIST", help=help)

    def read(self, argv: Sequence[str] | None) -> argparse.Namespace:
        given, _ = super().read(sys.argv[1:] if argv is None else argv)
        try:
            given.out.mkdir(parents=True, exist_ok=True)
        except OSError as wrong:
            raise ConfigError(f"--out: {wrong}; give a folder to write to") from None
        use_clock(given.clock)
        if given.quick:
            given.seconds = min(given.seconds, 0.05)
        return given


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= 10**6):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give a whole number from 1")
    return int(text)


def _core(text: str) -> int:
    if text not in map(str, cores()):
        right = ", ".join(map(str, cores()))
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give {right}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = real_number(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; give seconds above 0")
    return value


def main(name: str, run: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a command: a mistake is one line and exit status 2."""
    sys.exit(common.carry_out(name, lambda words, console: run(words)))
