"""Running what a figure needs: stored runs found, missing ones made with progress, or planned.

A second call finds everything stored; an interrupted one goes on where it was.
"""

import io
import json
import math
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from nanorepro.config import CHECKPOINT_MINUTES, Config, command
from nanorepro.paper import curves
from nanorepro.paper.speed import Speed, calibrate
from nanorepro.results import store
from nanorepro.results.result import Result
from nanorepro.training.compiling import says_when_compiling
from nanorepro.training.progress import Progress, clock
from nanorepro.training.signals import ends_when_kept
from nanorepro.training.simulation import simulate

NAME = "nanorepro.figure"  # the command whose runs these are
COST = {"linear": 10, "single": 15, "double": 20, "tower": 70, "wide": 600, "deep": 60000}


class NotStored(RuntimeError):
    """A finished run that could not be stored."""


@dataclass
class StoredRuns:
    """Stored runs of one figure: found by configuration, read once."""

    folder: Path
    size: curves.Size
    parameters: bool  # whether they are kept in memory
    read: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.curves = curves.curves(self.size)

    def config(self, key: tuple[str, int]) -> Config | None:
        """The configuration of a run, None where the run it starts from is not there."""
        curve = self.curves[key[0]]
        if not curve.source:
            return curve.at(key[1])
        source = self.find((curve.source, self.size.windows[0]))
        return curve.at(key[1], source.fingerprint) if source else None

    def find(self, key: tuple[str, int]) -> Result | None:
        """The stored run, without its logits; raises ConfigError for a damaged file."""
        config = self.config(key)
        return self.load(config) if config else None

    def load(self, config: Config) -> Result | None:
        if config.id not in self.read:
            stored = store.find(self.folder, config)
            if stored is None:
                return None
            self.keep(stored)
        return self.read[config.id]

    def keep(self, result: Result) -> None:
        """Hold what is drawn and measured; of large models that is not the parameters."""
        parameters = result.parameters if self.parameters else []
        self.read[result.config.id] = replace(
            result, parameters=parameters, logits=result.logits[:, :, :, :0]
        )

    def start(self, key: tuple[str, int]) -> Any:
        """The parameters a run starts from, None for a run from initial values."""
        source = self.curves[key[0]].source
        if not source:
            return None
        config = self.config((source, self.size.windows[0]))
        assert config is not None
        return store.check(store.path_of(config, self.folder), config).parameters

    def found(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Result]:
        """Those of the runs that are there."""
        every = {key: self.find(key) for key in keys}
        return {key: result for key, result in every.items() if result is not None}


class RunsProgress(Progress):
    """The progress of many runs: runs and models done, examples a second, time left."""

    def __init__(self, stream: TextIO, name: str, costs: Sequence[int]):
        super().__init__(stream, "preparing ...", name)
        self.total = sum(costs)
        self.runs, self.number, self.models, self.examples = 0, len(costs), 0, 0
        self.now: tuple[int, int] = 0, 0  # examples of the run at work, and its models

    def of(self, config: Config, cost: int) -> Callable[[int, int], None]:
        """What reports the progress of the next run."""
        before, models = self.done, 2 * config.pairs

        def report(done: int, total: int) -> None:
            self.now = done, models * done // total
            self(before + cost * done // total, self.total)

        return report

    def end(self, config: Config, done: int) -> None:
        """A run is finished, or given up with nothing done."""
        self.runs += 1
        self.models += 2 * config.pairs
        self.examples += 2 * config.pairs * config.examples
        self.now, self.done = (0, 0), done

    def text(self) -> str:
        passed = time.perf_counter() - self.begin
        runs = f"{self.runs} of {self.number} runs"
        if self.first is None:
            return f"{runs}, {self.waiting} {clock(passed)}"
        models = self.models + self.now[1]
        rate = (self.examples + self.now[0]) / max(passed, 1e-9)
        line = f"{runs}, {models} models, {rate:,.0f} examples/s"
        if self.runs == self.number:
            return f"{line}, {clock(passed)}"
        begin, before = self.first
        share = f"{line}, {self.done / self.total:.0%}"
        if self.done == before:
            return share
        left = (time.perf_counter() - begin) * (self.total - self.done) / (self.done - before)
        return f"{share}, {clock(left)} left"


class Deadline:
    """The time by which runs must end, and whether one more would.

    What a kind of run takes is measured; that runs take longer than that is learned from them.
    """

    def __init__(self, at: float, threads: int):
        self.at, self.threads = at, threads
        self.begin, self.expected = time.perf_counter(), 0.0
        self.speeds: dict[str, Speed] = {}  # by curve

    def allows(self, curve: str, config: Config) -> bool:
        """Whether a run that starts now would end in time."""
        if not math.isfinite(self.at):
            return True
        if curve not in self.speeds:
            self.speeds[curve] = calibrate(config, self.threads)
        seconds, now = self.speeds[curve].seconds(config), time.perf_counter()
        slower = max((now - self.begin) / self.expected, 1.0) if self.expected else 1.0
        if now + min(slower, 3.0) * seconds > self.at:
            return False
        self.expected += seconds
        return True


def train(
    figure: int,
    keys: Sequence[tuple[str, int]],
    stored: StoredRuns,
    threads: int,
    deadline: float,
    again: str,
    shown: bool = True,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    say: Callable[[str], None] | None = None,
) -> list[tuple[str, int]]:
    """Make and store the runs of a figure that are not there.

    Parameters
    ----------
    figure : int
        Its number.
    keys : sequence of (curve, window)
        The runs, in the order in which they are made.
    stored : StoredRuns
        Its runs, to which the new ones are added.
    threads : int
        Changes no bit.
    deadline : float
        Value of `time.perf_counter` after which no run should end.
    again : str
        The command of the figure, for runs that no command of their own makes.
    shown : bool, optional
        Whether progress is shown on standard error.
    checkpoint_minutes : float, optional
        Minutes between two checkpoints inside a run, 0 for none.
    say : callable, optional
        Takes a line about a checkpoint, as in `simulate`; shown with the progress if None.

    Returns
    -------
    list of (curve, window)
        The runs that were left out, for want of time or of the run that they start from.

    Raises
    ------
    NotStored
        Where a finished run cannot be stored.
    """
    missing = [key for key in keys if stored.find(key) is None]
    if not missing:
        return []
    left_out: list[tuple[str, int]] = []
    time_left = Deadline(deadline, threads)
    configs = [stored.curves[name].config for name, _ in missing]
    costs = [cost(config) for config in configs]
    stream = sys.stderr if shown else io.StringIO()
    progress = RunsProgress(stream, f"{NAME} {figure}", costs)

    def kept() -> bool:
        return checkpoint_minutes > 0.0 and progress.now[0] > 0

    with progress, says_when_compiling(progress):
        compile_ahead(configs, threads)
        done = 0
        for key, planned, price in zip(missing, configs, costs, strict=True):
            config = stored.config(key)
            if config is None or stored.load(config) is None:  # not the same of another curve
                if config is None or not time_left.allows(key[0], config):
                    left_out.append(key)
                else:
                    with ends_when_kept(NAME, kept):
                        result = simulate(
                            config, "numba", threads, progress.of(config, price),
                            stored.start(key), checkpoint_minutes, stored.folder,
                            say or progress.say,
                        )  # fmt: skip
                    _keep(result, key, stored, again)
            progress.end(planned, done := done + price)
    return left_out


def _keep(result: Result, key: tuple[str, int], stored: StoredRuns, again: str) -> None:
    """Store one run, and hold what is drawn of it."""
    made = command(result.config)
    if stored.curves[key[0]].source:
        made = f"{again} --out {shlex.quote(str(stored.folder))}"
    result = replace(result, provenance={**result.provenance, "command": made})
    _save(result, stored.folder)
    stored.keep(result)


def _save(result: Result, folder: Path) -> None:
    """Store a run; where that fails, raise NotStored, which says what was measured."""
    try:
        store.save(result, folder)
    except Exception as error:
        raise NotStored(
            f"run {result.config.id} could not be stored: {error}; its fingerprint is"
            f" {result.fingerprint}, its relative PD {result.relative_pd:.4g}, its excess loss"
            f" {result.excess_loss:.4g}; again: {result.provenance['command']}"
        ) from error


def cost(config: Config) -> int:
    """About how long a run takes, in ns on one core; only the ratios matter."""
    return COST[config.model] * 2 * config.pairs * config.examples


def compile_ahead(configs: Sequence[Config], threads: int) -> None:
    """Compile what the runs need in processes side by side, for Numba's cache on the disk."""
    kinds = {json.dumps(tiny(c), sort_keys=True): None for c in configs}
    groups = [list(kinds)[k::threads] for k in range(min(threads, len(kinds)))]
    if len(groups) < 2:
        return
    code = "import sys; from nanorepro.paper import runner; runner.compile_all(sys.argv[1:])"
    children: list[subprocess.Popen[bytes]] = []
    try:
        for group in groups:
            words = [sys.executable, "-c", code, *group]
            children.append(subprocess.Popen(words, stdin=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL))  # fmt: skip
        for child in children:
            child.wait()
    finally:
        for child in children:
            child.kill()


def tiny(config: Config) -> dict[str, Any]:
    """The shortest run that compiles the same code."""
    small = replace(config, warm_start="", first_example=0, eval_every="", log2_examples=5,
                    log2_window=0, log2_eval=0, pairs=1, differ="none", lr=0.1)  # fmt: skip
    return asdict(small)


def compile_all(kinds: Sequence[str]) -> None:
    """What a process of `compile_ahead` does."""
    for kind in kinds:
        simulate(Config(**json.loads(kind)), "numba", 1)
