"""How many threads a run may use."""

import os
from contextlib import suppress
from pathlib import Path

from nanorepro.training.parameters import whole_number

MOST_THREADS = 1024


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


def check_threads(threads: object) -> int:
    """A number of threads; None and "all" mean all usable CPUs.  Raises ConfigError."""
    if threads is None or (isinstance(threads, str) and threads == "all"):
        return usable_cpus()
    return whole_number("threads", threads, 1, MOST_THREADS)
