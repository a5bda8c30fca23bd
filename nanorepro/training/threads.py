"""How many threads a run may use, and what they share while they work on it."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from nanorepro.arguments import whole_within
from nanorepro.backends.protocols import Interrupted
from nanorepro.config import MOST_THREADS

Progress = Callable[[int, int], None]
K = TypeVar("K")
T = TypeVar("T")


class ThreadedWork:
    """Work that threads share: how much of it is done, and that all end when one fails.

    Parameters
    ----------
    total : int
        Examples to be trained on, each counted once for every model and pass.
    progress : callable or None
        Called as progress(done, total), one call at a time; what it raises ends the work.
    done : int
        Examples that were done before.
    """

    def __init__(self, total: int, progress: Progress | None, done: int = 0):
        self.total, self.progress, self.done = total, progress, done
        self.stop = threading.Event()
        self.lock = threading.Lock()

    def report(self, examples: int) -> None:
        """Count examples; raises Interrupted in a thread that is to end."""
        with self.lock:
            if self.stop.is_set():
                raise Interrupted
            self.done = min(self.done + examples, self.total)
            if self.progress:
                try:
                    self.progress(self.done, self.total)
                except BaseException:
                    self.stop.set()  # before this thread takes up another part
                    raise

    def run(
        self,
        part: Callable[[K], T],
        keys: Iterable[K],
        threads: int,
        ended: Callable[[K, T], None] = lambda key, result: None,
    ) -> list[T]:
        """part(key) for every key, by so many threads; the results in the order of the keys.

        `ended` is called in this thread with each key and result as they come.  The first failure,
        of whatever part, ends all threads at their next report and is raised.
        """
        with ThreadPoolExecutor(threads) as pool:
            futures = {pool.submit(part, key): key for key in keys}
            try:
                for future in as_completed(futures):
                    ended(futures[future], future.result())
            except BaseException as error:
                self.stop.set()
                for future in futures:
                    future.cancel()
                if isinstance(error, Interrupted):
                    raise _why(list(futures)) from None
                raise
        return [future.result() for future in futures]


def _why(futures: Sequence[Future[Any]]) -> BaseException:
    """What made the threads stop whose futures are interrupted: the first other failure."""
    failures = (future.exception() for future in futures if not future.cancelled())
    return next(f for f in failures if f and not isinstance(f, Interrupted))


def usable_cpus() -> int:
    """The CPUs that this process may use: those of its affinity, within its container's quota.

    `taskset`, Slurm and cpusets restrict the affinity; `docker --cpus` sets a quota of CPU time.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        count = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count()
    return max(1, min(count or 1, _quota() or MOST_THREADS, MOST_THREADS))


def _quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """CPUs' worth of time that a container may use, rounded up; None if there is no limit."""
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    with suppress(OSError, ValueError):  # the first version of control groups
        one = int((root / "cpu" / "cpu.cfs_quota_us").read_text())
        return None if one <= 0 else -(-one // int((root / "cpu/cpu.cfs_period_us").read_text()))
    return None


def number_of_threads(threads: object) -> int:
    """A number of threads; None and "all" mean all usable CPUs.  Raises ConfigError."""
    if threads is None or (isinstance(threads, str) and threads == "all"):
        return usable_cpus()
    return whole_within("threads", threads, 1, MOST_THREADS)
