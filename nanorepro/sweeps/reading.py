"""Many files of runs read and checked by processes side by side, as where a journal was lost.

    python -m nanorepro.sweeps.reading FOLDER

is one of them: it takes ids, one a line, until its input ends, and answers each by a line, that of
the journal or why the file is none of that run.
"""

import contextlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nanorepro.errors import ConfigError
from nanorepro.results import store
from nanorepro.results.hdf5 import LeftAlone
from nanorepro.sweeps import journal
from nanorepro.sweeps.journal import Entry
from nanorepro.training.threads import usable_cpus

MANY = 500  # files from which on more than one process reads


def environment() -> dict[str, str]:
    """The environment of another process of this package.

    What is installed is found anyway, and would in PYTHONPATH come before the standard library.
    """
    root = Path(__file__).resolve().parents[2]
    if str(root) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(os.environ)
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def read(folder: Path, id: str) -> Entry:
    """The entry of a run's file, which is opened and checked; raises ConfigError."""
    path = folder / f"{id}.h5"
    result = store.load(path)
    if result.config.id != id:
        raise ConfigError(f"holds the run {result.config.id} under another name")
    return journal.entry(result, path)


class Reading:
    """Entries of files, in the order in which they are asked for; a context.

    Parameters
    ----------
    folder : Path
        Where the files are.
    ids : sequence of str
        The runs, in that order.
    """

    def __init__(self, folder: Path, ids: Sequence[str]):
        self.folder, self.ids = folder, ids
        self.processes: list[subprocess.Popen[bytes]] = []
        self.owner: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Reading":
        count = min(usable_cpus(), 2 * len(self.ids) // MANY)
        try:
            self._start(count if count > 1 else 0)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, count: int) -> None:
        for k in range(count):
            process = subprocess.Popen(
                [sys.executable, "-m", "nanorepro.sweeps.reading", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(),
            )
            self.processes.append(process)
            mine = self.ids[k::count]
            self.owner.update(dict.fromkeys(mine, process))
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # one that is gone is noticed when it is asked
                process.stdin.write("".join(f"{id}\n" for id in mine).encode())
                process.stdin.close()

    def __exit__(self, *exception: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()

    def entry(self, id: str) -> Entry:
        """The entry of a run's file; raises ConfigError."""
        process = self.owner.get(id)
        if process is not None:
            assert process.stdout is not None
            found = journal.unsealed(process.stdout.readline().decode(errors="replace"))
            if found is not None and found["id"] == id:
                return _answered(found)
        return read(self.folder, id)


def _answered(found: dict[str, Any]) -> Entry:
    if "problem" in found:
        kind = LeftAlone if found["sound"] else ConfigError
        raise kind(found["problem"], found["field"], found["right"])
    return journal.entry_of(found)


def _answer(folder: Path, id: str) -> str:
    try:
        return journal.line(read(folder, id))
    except ConfigError as error:
        sound = isinstance(error, LeftAlone)
        words = {"problem": error.problem, "field": error.field, "right": error.right}
        return journal.sealed({"id": id, "sound": sound, **words})


def main() -> None:
    """One of the processes."""
    for id in sys.stdin.read().split():
        print(_answer(Path(sys.argv[1]), id), flush=True)


if __name__ == "__main__":
    main()
