"""A folder of runs: which are finished, which are damaged, and how a result gets in.

    <id>.h5          a finished run         journal.jsonl    one line for each
    failures.jsonl   runs that failed       sweeps/          what was asked for, by which command
    leases/          runs being made        <id>.checkpoint  a run in the middle of its training
    damaged/         files moved aside: nothing is ever deleted

Finished means that the file opens, its schema fits and its digest fits.  A run's file is checked in
full once; from then on its size and time of modification are compared with the journal's, and its
digest where they are not the same.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.results import files, store
from nanorepro.results.hdf5 import LeftAlone
from nanorepro.results.result import Result
from nanorepro.sweeps import journal, reading
from nanorepro.sweeps.journal import Entry, record_of
from nanorepro.sweeps.reading import Reading

FAILURES, SWEEPS = "failures.jsonl", "sweeps"
RUN_FILE = re.compile(r"([0-9a-f]{16})\.h5")
OTHER = "not the file that the journal names: its digest is another"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Damaged:
    """A file that is not a finished run, and why."""

    path: Path
    reason: str
    moved: Path | None = None


@dataclass(frozen=True)
class Failure:
    """A run that failed: why, after how many tries, and when."""

    id: str
    config: dict[str, Any]
    reason: str
    tries: int
    when: str


class Folder:
    """Finished runs and what is known of them.

    Parameters
    ----------
    path : str or Path
        The folder; it need not be there until something is stored.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.journal = journal.Journal(self.path)
        self.entries: dict[str, Entry] = {}
        self.others: list[Damaged] = []  # not known to be damaged: of another version, refused
        self.damaged: list[Damaged] = []  # as `look` found them

    def file(self, id: str) -> Path:
        """The file of a run."""
        return self.path / f"{id}.h5"

    def files(self) -> dict[str, os.stat_result]:
        """The files that have the name of a run, by id."""
        files = {}
        try:
            with os.scandir(self.path) as found:
                for entry in found:
                    if name := RUN_FILE.fullmatch(entry.name):
                        try:
                            files[name[1]] = entry.stat()
                        except OSError:  # gone meanwhile, or a link to nothing
                            with contextlib.suppress(OSError):
                                files[name[1]] = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(f"{str(self.path)!r}: {error.strerror}; give a folder") from None
        return files

    def look(
        self, ids: Iterable[str] | None = None, report: Report | None = None, full: bool = False
    ) -> list[Damaged]:
        """Find what is finished: `entries` then holds it; returns what is damaged.

        Parameters
        ----------
        ids : iterable of str, optional
            The runs to look at; all of the folder if None.
        report : callable, optional
            Called with how many files were looked at, and of how many.
        full : bool
            Open and check every file, whatever the journal says.

        Raises
        ------
        ConfigError
            If the journal, or the file of a run among `ids`, was written by another version or
            cannot be read.
        """
        known = self.journal.read()
        files = self.files()
        wanted = sorted(files) if ids is None else [id for id in ids if id in files]
        self.entries, self.others, damaged, new = {}, [], [], list[Entry]()
        with Reading(self.path, [id for id in wanted if full or id not in known]) as source:
            for done, id in enumerate(wanted):
                if report and done % 50 == 0:
                    report(done, len(wanted))
                try:
                    made = self._entry(id, files[id], known.get(id), full, source.entry)
                    if id not in known or not _agree(made, known[id], full):
                        new.append(made)
                    self.entries[id] = made
                except LeftAlone as error:  # nothing is known to be wrong with it
                    if ids is not None:
                        raise ConfigError(f"{error}; nothing was changed") from None
                    self.others.append(Damaged(self.file(id), _reason(error, self.file(id))))
                except ConfigError as error:
                    damaged.append(Damaged(self.file(id), _reason(error, self.file(id))))
        with contextlib.suppress(OSError):  # of a folder that can only be read
            for made in new:
                self.append(made)
        if report:
            report(len(wanted), len(wanted))
        self.damaged = damaged
        return damaged

    def _entry(
        self,
        id: str,
        found: os.stat_result,
        known: Entry | None,
        full: bool,
        read: Callable[[str], Entry],
    ) -> Entry:
        """The entry of a run's file, which is read as far as needed; raises ConfigError."""
        path = self.file(id)
        if known and not full:
            if (known.size, known.modified) == (found.st_size, found.st_mtime_ns):
                return known
            if known.size != found.st_size or journal.digest(path) != known.sha256:
                raise ConfigError(OTHER)
            return replace(known, modified=found.st_mtime_ns)
        made = read(id)
        if known and made.sha256 != known.sha256:
            raise ConfigError(OTHER)
        return made

    def find(self, id: str) -> Entry | None:
        """The entry of one run, if it is finished, whoever made it; raises ConfigError."""
        path = self.file(id)
        if id in self.entries:
            return self.entries[id]
        if not path.exists():
            return None
        known = self.journal.read().get(id)  # its line may still be on its way
        read = partial(reading.read, self.path)
        self.entries[id] = self._entry(id, path.stat(), known, False, read)
        return self.entries[id]

    def append(self, made: Entry) -> None:
        """Write an entry into the journal; raises OSError."""
        journal.append(self.journal.path, journal.line(made))

    def publish(self, result: Result) -> Entry:
        """Store a result, then write its line; raises OSError, Conflict, ConfigError."""
        path = store.save(result, self.path)
        made = journal.entry(result, path)
        self.append(made)
        return made

    def set_aside(self, damaged: Damaged) -> Damaged:
        """Move a damaged file into `damaged/`, where it is kept; raises OSError."""
        return replace(damaged, moved=files.set_aside(damaged.path))

    def put_away(self, damaged: Damaged) -> Damaged:
        """The same, where it may be impossible: the reason then says so."""
        try:
            return self.set_aside(damaged)
        except OSError as error:
            reason = f"{damaged.reason}; cannot be moved aside ({error.strerror})"
            return replace(damaged, reason=reason)

    def fail(self, config: Config, reason: str, tries: int) -> Failure:
        """Keep why a run failed; raises OSError."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        made = Failure(config.id, record_of(config), reason, tries, when)
        journal.append(self.path / FAILURES, journal.sealed(asdict(made)))
        return made

    def failures(self) -> dict[str, Failure]:
        """The last failure of every run that is not finished, by id."""
        names = [f.name for f in fields(Failure)]
        found = {}
        for record in journal.records(self.path / FAILURES):
            if set(names) <= set(record):
                found[record["id"]] = Failure(**{name: record[name] for name in names})
        return {id: f for id, f in found.items() if not self.file(id).exists()}

    def remember(self, command: str, configs: Sequence[Config]) -> None:
        """Keep what was asked for and by which command, for `status` and the report."""
        ids = [config.id for config in configs]
        name = hashlib.sha256(
            "\n".join([command, *ids]).encode(errors="surrogatepass")
        ).hexdigest()[:16]
        path = self.path / SWEEPS / f"{name}.json"
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = [{"id": config.id, "config": record_of(config)} for config in configs]
        when = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"command": command, "first": when, "runs": runs})
        files.replace_file(path, text.encode())

    def _here(self, command: str) -> str:
        """A command as it goes on in this folder, which may have been copied or renamed."""
        try:
            words = shlex.split(command)
        except ValueError:  # not as a shell has it
            return command
        if words[:2] != ["python", "-m"]:
            return command
        given = [k for k, word in enumerate(words) if word == "--out" or word.startswith("--out=")]
        first = given[0] if given else len(words)
        last = first + 1 + (words[first : first + 1] == ["--out"])
        name = words[last - 1].removeprefix("--out=") if given and last <= len(words) else "runs"
        if os.path.abspath(name) == os.path.abspath(self.path):
            return command
        return shlex.join([*words[:first], "--out", str(self.path), *words[last:]])

    def sweeps(self) -> Iterator[dict[str, Any]]:
        """What was asked for: records of `command`, `first` and `runs`, the oldest first."""
        found = []
        for path in sorted((self.path / SWEEPS).glob("*.json")):
            try:
                record = json.loads(path.read_bytes())
                found.append({name: record[name] for name in ("command", "first", "runs")})
                found[-1]["command"] = self._here(str(record["command"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a file of somebody else
        yield from sorted(found, key=lambda r: str(r["first"]))


def _agree(a: Entry, b: Entry, full: bool) -> bool:
    """Whether two entries of a file are of the same time, and in full say the same."""
    return a.modified == b.modified and not (full and journal.line(a) != journal.line(b))


def _reason(error: ConfigError, path: Path) -> str:
    return str(error).removeprefix(f"{str(path)!r}: ")
