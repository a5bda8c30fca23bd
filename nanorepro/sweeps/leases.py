"""Who does which run, where several sweeps share a folder: files that only one can make.

`leases/<id>` names its owner, a sweep whose own file `leases/<owner>.owner` it touches while it
lives.  A lease whose owner is gone is void.  No locks are needed, which shared file systems often
do not have; the worst that a mistaken lease can do is that a run is done twice, to the same bits.
"""

import contextlib
import os
import secrets
import threading
import time
from pathlib import Path

from nanorepro.results.files import machine

FOLDER = "leases"
BEAT = 10.0  # seconds between two signs of life
DEAD = 90.0  # seconds without one after which the owner on another machine is taken for gone


class Leases:
    """The leases of one sweep in a folder; a context in which it is alive."""

    def __init__(self, folder: Path):
        self.folder = folder / FOLDER
        start = _started(os.getpid()) or 0
        self.owner = f"{machine()}+{os.getpid()}+{start}+{secrets.token_hex(4)}"
        self.held: set[str] = set()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "Leases":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._touch(self._file(self.owner))
        for path in self.folder.iterdir():  # what sweeps left that were killed
            with contextlib.suppress(OSError):
                age = self._now() - path.stat().st_mtime
                gone = path.suffix == ".owner" and self._is_dead(path.stem, age)
                if gone or (path.suffix == ".void" and age > DEAD):
                    path.unlink()
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.thread.join()
        for name in list(self.held):
            self.release(name)
        with contextlib.suppress(OSError):
            self._file(self.owner).unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()  # which only succeeds if nobody else is there

    def take(self, name: str) -> bool:
        """Take a run; False if another sweep has it."""
        if name in self.held:
            return True
        path = self.folder / name
        for _ in range(3):
            self.held.add(name)  # before it is so: whatever interrupts this, it is given up again
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                self.held.discard(name)
                if not self._void(path):
                    return False
                self._remove(path)
                continue
            with os.fdopen(handle, "w") as f:
                f.write(self.owner)
            return True
        return False

    def release(self, name: str) -> None:
        """Give a lease up."""
        with contextlib.suppress(OSError):
            if (self.folder / name).read_text(errors="replace") in (self.owner, ""):
                (self.folder / name).unlink()
        self.held.discard(name)  # afterwards: whatever interrupts this, it is done again

    def is_void(self, path: Path, now: float) -> bool:
        """Whether the owner of a lease is gone at a time."""
        try:
            owner = path.read_text(errors="replace")
            age = now - path.stat().st_mtime
        except OSError:
            return False  # it has just been given up; the next look will tell
        if not owner:  # being written, or its owner was killed just then
            return age > BEAT
        with contextlib.suppress(OSError, ValueError):  # the latter of what is no file's name
            age = now - self._file(owner).stat().st_mtime
        return self._is_dead(owner, age)

    def _is_dead(self, owner: str, age: float) -> bool:
        """Whether a sweep is gone that gave its last sign of life `age` seconds ago."""
        host, process, start, _ = owner.split("+") if owner.count("+") == 3 else ("", "0", "", "")
        if host == machine() and process.isdecimal():
            return str(_started(int(process)) or 0) != start
        return age > DEAD

    def _void(self, path: Path) -> bool:
        return self.is_void(path, self._now())

    def _remove(self, path: Path) -> None:
        """Remove a void lease, unless somebody has just taken one in its place."""
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.void")
        try:
            os.rename(path, aside)
        except OSError:
            return  # it has just been given up
        with contextlib.suppress(OSError):
            if not self._void(aside):
                self._put_back(aside, path)
        with contextlib.suppress(OSError):
            aside.unlink()

    def _put_back(self, aside: Path, path: Path) -> None:
        """Give a lease its name again, unless somebody has it by now; raises OSError."""
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        except OSError:  # of a file system without links
            os.rename(aside, path)

    def _now(self) -> float:
        """The time by the clock of the file system, which may be another machine's."""
        mine = self._file(self.owner)
        self._touch(mine)
        return mine.stat().st_mtime

    def _file(self, owner: str) -> Path:
        return self.folder / f"{owner}.owner"

    def _touch(self, path: Path) -> None:
        path.touch()

    def _live(self) -> None:
        while not self.ended.wait(BEAT):
            with contextlib.suppress(OSError):
                self._touch(self._file(self.owner))


def _started(process: int) -> int | None:
    """When a process of this machine was started, in ticks; None if there is none of that number.

    A number that was given to another process has another start.
    """
    try:
        status = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        pass
    else:
        fields = status.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    try:
        os.kill(process, 0)  # a system without /proc
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return 1


def at_work(folder: Path) -> list[str]:
    """The runs that are leased by sweeps which are alive."""
    looker = Leases(folder)
    found = sorted(p for p in looker.folder.glob("*") if len(p.name) == 16)
    return [path.name for path in found if not looker.is_void(path, now=time.time())]
