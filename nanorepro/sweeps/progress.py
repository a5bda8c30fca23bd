"""How far a sweep is: runs and models done, examples a second, time left."""

import time
from typing import TextIO

from nanorepro.sweeps.work import Task
from nanorepro.training.progress import Progress, clock


class SweepProgress(Progress):
    """The progress of many runs, of which several are at work at a time.

    Parameters
    ----------
    stream : TextIO
        Where it is shown.
    name : str
        What stands before it.
    number, done : int
        Runs of the sweep, and those that were finished before.
    total : int
        Cost of the runs to be made.
    """

    def __init__(self, stream: TextIO, name: str, number: int, done: int, total: int):
        super().__init__(stream, "starting ...", name)
        self.number, self.runs, self.total = number, done, max(total, 1)
        self.left_out = 0
        self.failed = self.elsewhere = self.models = self.examples = self.cost = 0
        self.at: dict[str, tuple[Task, int]] = {}

    def begin_run(self, task: Task) -> None:
        """A run was begun."""
        self.at[task.config.id] = task, 0
        self._count()

    def report(self, task: Task, done: int) -> None:
        """A run is at this many examples."""
        self.at[task.config.id] = task, done
        self._count()

    def end_run(self, task: Task, trained: bool = True, failed: bool = False) -> None:
        """A run is finished, here or elsewhere, or failed."""
        self.at.pop(task.config.id, None)
        self.cost += task.cost
        if failed:
            self.failed += 1
        else:
            self.runs += 1
        if trained and not failed:
            self.models += 2 * task.config.pairs
            self.examples += 2 * task.config.pairs * task.config.examples
        self._count()

    def leave_out(self, task: Task) -> None:
        """A run is not made, for want of time or of the run that it starts from."""
        self.cost += task.cost
        self.left_out += 1
        self._count()

    def _count(self) -> None:
        share = sum(
            task.cost * done // (2 * task.config.pairs * task.config.examples)
            for task, done in self.at.values()
        )
        self(min(self.cost + share, self.total), self.total)

    def text(self) -> str:
        passed = time.perf_counter() - self.begin
        text = f"{self.runs} of {self.number} runs"
        if self.failed:
            text += f", {self.failed} failed"
        if self.left_out:
            text += f", {self.left_out} left out"
        if self.elsewhere:
            text += f", {self.elsewhere} in another sweep"
        if self.first is None:
            return f"{text}, {self.waiting} {clock(passed)}"
        at = list(self.at.values())
        models = self.models + sum(done // task.config.examples for task, done in at)
        rate = (self.examples + sum(done for _, done in at)) / max(passed, 1e-9)
        text += f", {models:,} models, {rate:,.0f} examples/s"
        if self.done >= self.total:
            return f"{text}, {clock(passed)}"
        begin, before = self.first
        text += f", {self.done / self.total:.0%}"
        if self.done == before:
            return text
        left = (time.perf_counter() - begin) * (self.total - self.done) / (self.done - before)
        return f"{text}, {clock(left)} left"


class FileProgress(Progress):
    """The progress through the files of a folder."""

    def text(self) -> str:
        passed = time.perf_counter() - self.begin
        if self.first is None or not self.total:
            return f"{self.waiting} {clock(passed)}"
        return f"{self.done:,} of {self.total:,} files, {clock(passed)}"
