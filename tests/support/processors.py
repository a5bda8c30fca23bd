"""The processors on which tests run this checkout in processes of their own."""

import os
import platform
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(**settings: str) -> dict[str, str]:
    """The environment of a child that imports this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **settings}


def targets() -> list[str]:
    """The processors that this one can stand for; empty: as Numba finds it."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return [""]
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        flags = set()
    found = ["generic"]
    found += ["haswell"] if {"avx2", "fma", "bmi2"} <= flags else []
    return found + (["skylake-avx512"] if {"avx512f", "avx512vl", "avx512dq"} <= flags else [])
