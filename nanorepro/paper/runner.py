"""Running what a figure needs: stored runs found, missing ones made as a sweep of their folder.

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

from nanorepro.config import CHECKPOINT_MINUTES, Config
from nanorepro.paper import curves
from nanorepro.paper.curves import Curve
from nanorepro.results import store
from nanorepro.results.result import Result
from nanorepro.sweeps.engines import ThisProcess
from nanorepro.sweeps.folder import Failure, Folder
from nanorepro.sweeps.progress import SweepProgress
from nanorepro.sweeps.reading import environment
from nanorepro.sweeps.runner import Runner
from nanorepro.sweeps.work import Settings, Task
from nanorepro.training.calibration import Calibration, shortest
from nanorepro.training.compiling import says_when_compiling
from nanorepro.training.signals import ends_at_once, ends_when_kept
from nanorepro.training.simulation import simulate

NAME = "nanorepro.figure"  # the command whose runs these are


class RunsFailed(RuntimeError):
    """Runs that failed; the others are finished."""


@dataclass
class StoredRuns:
    """Stored runs of one figure: found by configuration, read once."""

    folder: Path
    size: curves.Size
    parameters: bool  # whether they are kept in memory
    curves: dict[str, Curve] = field(default_factory=dict)  # those of the paper if none
    read: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.curves = self.curves or curves.curves(self.size)

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

    def task(self, key: tuple[str, int], again: str) -> Task | None:
        """The run as a sweep makes it, None where the run it starts from is not there.

        `again`: the command of the figure, for runs that no command of their own makes.
        """
        config = self.config(key)
        source = self.curves[key[0]].source
        if config is None or not source:
            return Task(config) if config else None
        first = self.config((source, self.size.windows[0]))
        assert first is not None
        return Task(config, str(store.path_of(first, self.folder)), self.made(again))

    def made(self, again: str) -> str:
        """The command of the figure that makes its runs in this folder."""
        return f"{again} --out {shlex.quote(str(self.folder))}"

    def found(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Result]:
        """Those of the runs that are there."""
        every = {key: self.find(key) for key in keys}
        return {key: result for key, result in every.items() if result is not None}


class Deadline:
    """The time by which runs must end, and whether one more would.

    What a kind of run takes is measured; that runs take longer than that is learned from them.
    """

    def __init__(self, at: float, threads: int):
        self.at, self.calibration = at, Calibration("numba", threads)
        self.begin, self.expected = time.perf_counter(), 0.0

    def allows(self, task: Task) -> bool:
        """Whether a run that starts now would end in time."""
        if not math.isfinite(self.at):
            return True
        before = time.perf_counter()
        with ends_at_once(NAME):
            seconds = self.calibration.speed(task.config).seconds(task.config)
        now = time.perf_counter()
        self.begin += now - before
        slower = max((now - self.begin) / self.expected, 1.0) if self.expected else 1.0
        if now + min(slower, 3.0) * seconds > self.at:
            return False
        self.expected += seconds
        return True

    def over(self) -> bool:
        """Whether the time has come."""
        return time.perf_counter() > self.at


def train(
    figure: int | str,
    keys: Sequence[tuple[str, int]],
    stored: StoredRuns,
    threads: int,
    deadline: float,
    again: str,
    shown: bool = True,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    say: Callable[[str], None] | None = None,
) -> list[tuple[str, int]]:
    """Make and store the runs of a figure that are not there, as a sweep of their folder.

    Parameters
    ----------
    figure : int or str
        Its number or name.
    keys : sequence of (curve, window)
        The runs, in the order in which they are made.
    stored : StoredRuns
        Its runs, to which the new ones are added.
    threads : int
        Changes no bit.
    deadline : float
        Value of `time.perf_counter` after which no run should end.
    again : str
        The command of the figure.
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
    Broken
        Where a finished run cannot be stored.
    RunsFailed
        Where runs failed.
    """
    missing = [key for key in keys if stored.find(key) is None]
    if not missing:
        return []
    limit = Deadline(deadline, threads)
    planned = {stored.curves[name].at(window).id: Task(stored.curves[name].at(window))
               for name, window in keys}  # fmt: skip
    left = dict.fromkeys(stored.curves[name].at(window).id for name, window in missing)
    costs = sum(planned[id].cost for id in left)
    stream = sys.stderr if shown else io.StringIO()
    name = f"{NAME} {figure}"
    progress = SweepProgress(stream, name, len(planned), len(planned) - len(left), costs)
    settings = Settings(str(stored.folder), "numba", stored.made(again), checkpoint_minutes)
    engine = ThisProcess(settings, progress, say or progress.say)
    failed: list[Failure] = []

    def kept() -> bool:
        return checkpoint_minutes > 0.0 and any(done for _, done in progress.at.values())

    with progress, says_when_compiling(progress):
        compile_ahead([planned[id].config for id in left], threads)
        started = [key for key in keys if stored.curves[key[0]].source]
        plain = [key for key in keys if key not in started]
        with ends_when_kept(NAME, kept):
            for some in filter(None, (plain, started)):  # those that start from others follow them
                tasks = []
                for key in some:
                    if task := stored.task(key, again):
                        tasks.append(task)
                    else:
                        progress.leave_out(Task(stored.curves[key[0]].at(key[1])))
                runner = Runner(tasks, Folder(stored.folder), settings, engine.say, True, limit)
                failed += runner.run(threads, None, engine, name, progress).failed
    if failed:
        reasons = "; ".join(f"run {failure.id} failed: {failure.reason}" for failure in failed[:3])
        raise RunsFailed(f"{len(failed)} runs failed; {reasons}")
    return [key for key in missing if stored.find(key) is None]


def compile_ahead(configs: Sequence[Config], threads: int) -> None:
    """Compile what the runs need in processes side by side, for Numba's cache on the disk."""
    kinds = {json.dumps(asdict(shortest(c)), sort_keys=True): None for c in configs}
    groups = [list(kinds)[k::threads] for k in range(min(threads, len(kinds)))]
    if len(groups) < 2:
        return
    code = "import sys; from nanorepro.paper import runner; runner.compile_all(sys.argv[1:])"
    children: list[subprocess.Popen[bytes]] = []
    try:
        for group in groups:
            words = [sys.executable, "-c", code, *group]
            children.append(
                subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment(),
                )
            )
        for child in children:
            child.wait()
    finally:
        for child in children:
            child.kill()
            child.wait()


def compile_all(kinds: Sequence[str]) -> None:
    """What a process of `compile_ahead` does."""
    for kind in kinds:
        simulate(Config(**json.loads(kind)), "numba", 1)
