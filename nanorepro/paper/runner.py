"""Running what a figure needs: stored runs found, missing ones made with progress, or planned.

A second call finds everything stored; an interrupted one goes on where it was.
"""

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

from nanorepro.commands.run import ends_at_once
from nanorepro.config import Config, command
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.model.layers import shapes
from nanorepro.paper import claims, curves
from nanorepro.results import store
from nanorepro.results.result import Result
from nanorepro.specification import layers
from nanorepro.training.progress import Progress, clock
from nanorepro.training.simulation import evaluation_set, simulate

NAME = "nanorepro.figure"  # the command whose runs these are
COST = {"linear": 10, "single": 15, "double": 20, "tower": 70, "wide": 600, "deep": 60000}


@dataclass
class Shelf:
    """Stored runs of one figure: found by configuration, read once."""

    folder: Path
    size: curves.Size
    parameters: bool  # whether they are kept in memory
    read: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self):
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
            path = self.folder / f"{config.id}.h5"
            if not path.exists():
                return None
            self.keep(store.load(path))
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
        return store.load(self.folder / f"{config.id}.h5").parameters

    def found(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Result]:
        """Those of the runs that are there."""
        every = {key: self.find(key) for key in keys}
        return {key: result for key, result in every.items() if result is not None}


class Course(Progress):
    """The progress of many runs: runs and models done, examples a second, time left."""

    def __init__(self, stream: TextIO, name: str, costs: Sequence[int]):
        super().__init__(stream, "compiling (only the first time) ...", name)
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


def train(
    figure: int, shelf: Shelf, threads: int, deadline: float, again: str
) -> list[tuple[str, int]]:
    """Make and store the runs that are not there; returns those left out for want of time.

    `again` is the command of the figure, for runs that no command of their own makes.
    """
    keys = claims.needed(figure, shelf.size)
    missing = [key for key in keys if shelf.find(key) is None]
    speeds: dict[str, float] = {}
    late = []
    begin, spent = time.perf_counter(), 0.0
    costs = [cost(shelf.curves[name].config) for name, _ in missing]
    if not missing:
        return []
    course = Course(sys.stderr, f"{NAME} {figure}", costs)
    with course:
        compile_ahead([shelf.curves[name].config for name, _ in missing], threads)
        done = 0
        for key, price in zip(missing, costs, strict=True):
            config = shelf.config(key)
            if config is None or shelf.load(config):  # no start, or the same under another name
                late += [key] if config is None else []
                course.end(replace(shelf.curves[key[0]].config), done := done + price)
                continue
            if math.isfinite(deadline):
                name = key[0]
                if name not in speeds:
                    speeds[name] = calibrate(config, threads)
                slower = max((time.perf_counter() - begin) / spent, 1.0) if spent else 1.0
                needs = speeds[name] * 2 * config.pairs * config.examples
                if time.perf_counter() + min(slower, 3.0) * needs > deadline:
                    late.append(key)
                    course.end(config, done := done + price)
                    continue
                spent += needs
            with ends_at_once(NAME):
                start = shelf.start(key)
                result = simulate(config, "numba", threads, course.of(config, price), start)
            made = command(config)
            if start is not None:
                made = f"{again} --out {shlex.quote(str(shelf.folder))}"
            result = replace(result, provenance={**result.provenance, "command": made})
            store.save(result, shelf.folder)
            shelf.keep(result)
            course.end(config, done := done + price)
    return late


def cost(config: Config) -> int:
    """About how long a run takes, in ns on one core; only the ratios matter."""
    return COST[config.model] * 2 * config.pairs * config.examples


def compile_ahead(configs: Sequence[Config], threads: int) -> None:
    """Compile what the runs need in processes side by side, for Numba's cache on the disk."""
    kinds = {json.dumps(tiny(c), sort_keys=True): None for c in configs}
    groups = [list(kinds)[k::threads] for k in range(min(threads, len(kinds)))]
    if len(groups) < 2:
        return
    code = "import sys; from nanorepro import sweep; sweep.compile_all(sys.argv[1:])"
    children: list[subprocess.Popen] = []
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


def calibrate(config: Config, threads: int) -> float:
    """Seconds an example and model of a run, from short runs of the same kind."""
    small = replace(config, warm_start="", first_example=0, eval_every="", log2_eval=4,
                    pairs=max(threads, 1))  # fmt: skip

    def seconds(log2: int) -> float:
        window = min(config.log2_window, log2 - 5)
        trial = replace(small, log2_examples=log2, log2_window=window)
        with ends_at_once(NAME):
            begin = time.perf_counter()
            simulate(trial, "numba", threads)
            return time.perf_counter() - begin

    seconds(5)  # compiles
    fixed, log2 = seconds(5), 7
    while (passed := seconds(log2) - fixed) < 0.3 and log2 + 2 <= config.log2_examples:
        log2 += 2
    passed = min(passed, seconds(log2) - fixed)
    return max(passed, 1e-6) / (2 * small.pairs * ((1 << log2) - 32))


def bytes_of(config: Config, patterns: int) -> int:
    """About how large a run's file is."""
    models = 2 * config.pairs
    parameters = sum(math.prod(s) for s in shapes(layers(config, FEATURES)).values())
    return 40_000 + 4 * models * (parameters + patterns) + 20 * patterns


def plan(sizes: dict[int, curves.Size], folder: Path, threads: int) -> None:
    """Print what would run, how long it takes and on how much disk; run and write nothing."""
    seen: set[str] = set()
    speeds: dict[str, float] = {}
    total = disk = 0.0
    for figure, size in sizes.items():
        shelf = Shelf(folder, size, parameters=False)
        by_curve: dict[str, list[tuple[str, int]]] = {}
        for key in claims.needed(figure, size):
            by_curve.setdefault(key[0], []).append(key)
        print(f"figure {figure}: {curves.TITLES[figure]}; {size.words}" if by_curve else
              f"figure {figure}: {curves.TITLES[figure]}; no runs")  # fmt: skip
        patterns: dict[str, int] = {}
        for name, keys in by_curve.items():
            config = shelf.curves[name].config
            there = sum(shelf.find(key) is not None for key in keys)
            ids = {f"{config.id} {w}" for _, w in keys if shelf.find((name, w)) is None}
            new = len(ids - seen)
            seen |= ids
            line = f"  {name:<28} {len(keys):>3} runs, {there:>3} stored"
            if shared := len(ids) - new:
                line += f", {shared} counted above"
            if new:
                kind = json.dumps([config.model, config.act, config.beta, config.optimizer])
                if kind not in speeds:
                    speeds[kind] = calibrate(replace(config, log2_window=size.windows[-1]),
                                             threads)  # fmt: skip
                if config.data not in patterns:
                    world = make_world(config.seed, config.data)
                    patterns[config.data] = len(evaluation_set(config, world).x)
                each = speeds[kind] * 2 * config.pairs * config.examples
                space = bytes_of(config, patterns[config.data])
                total, disk = total + each * new, disk + space * new
                line += (
                    f"; {1e9 * speeds[kind] * threads:,.0f} ns/example/core,"
                    f" {new} x {clock(each)} = {clock(each * new)}, {space * new / 1e6:,.0f} MB"
                )
            print(line, flush=True)
    print(f"together about {clock(total)} with {threads} threads,"
          f" {disk / 1e6:,.0f} MB in {folder}/")  # fmt: skip
