"""Where a result comes from: the command, the versions, the processor, the source that ran."""

import contextlib
import hashlib
import platform
import socket
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nanorepro.config import Config, command
from nanorepro.version import __version__

LIBRARIES = ("numpy", "numba", "llvmlite", "h5py")


def provenance(config: Config) -> dict[str, str]:
    """The command that makes a result again, versions, CPU, host, engine, source digest."""
    return {
        "command": _command(config),
        "nanorepro": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": _cpu(),
        "host": socket.gethostname(),
        "engine": "one process",  # a sweep's says what made it
        "source": source_digest(),
        **{name: _version(name) for name in LIBRARIES},
    }


def _command(config: Config) -> str:
    """The command that makes a result again; a file that it does not know is FILE."""
    words = command(config)
    if not config.warm_start:
        return words
    return f"{words} --warm-start FILE  # the run of fingerprint {config.warm_start}"


@cache
def _version(library: str) -> str:
    """The version of a library; a run that stores nothing needs no h5py."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


@cache
def source_digest() -> str:
    """SHA-256 over the names and texts of the package's source files."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.cu")]):
        text = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(text)}\n".encode() + text)
    return digest.hexdigest()


@cache
def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
