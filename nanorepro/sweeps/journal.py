"""The journal of a folder: one line a finished run, only ever appended to.

A line is a JSON object that says which file holds the run, its SHA-256, and what the run gave, so
that a table of thousands of runs is read without opening their files.  Its last member is a digest
of the rest of the line: a line that was torn, or changed, is passed over.  The files are what
counts; the journal can be made again from them.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.results import store
from nanorepro.results.files import check_regular
from nanorepro.results.plain import finite_or_null
from nanorepro.results.result import Result
from nanorepro.settings import setting_of

NAME = "journal.jsonl"
VERSION = 1
ABSENT = {f.name: setting_of(f).absent for f in fields(Config)}
CHECK = ', "check": "%s"}'
CHECK_LENGTH = len(CHECK % (16 * "0"))


@dataclass(frozen=True)
class Entry:
    """A finished run as its line in the journal says it.

    Parameters
    ----------
    id : str
        Name of the run; its file is ``<id>.h5``.
    sha256 : str
        Of the whole file, in hex.
    size, modified : int
        Bytes of the file, and its time of modification in ns: while both are the same, the file is
        not read again.
    config : dict
        The fields of the run's Config that are not at the value that their absence means.
    fingerprint, backend : str
        As in Result.
    seconds : float
        Of the training.
    summary : dict
        ``relative_pd``, ``excess_loss`` (of the caller's examples ``log_loss``), their intervals,
        ``constant_loss``.
    measures : dict
        Every measure at the end: a list by pair, or by pair and model.
    provenance : dict
        As in Result.
    """

    id: str
    sha256: str
    size: int
    modified: int
    config: dict[str, Any]
    fingerprint: str
    backend: str
    seconds: float
    summary: dict[str, Any]
    measures: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def is_given(self) -> bool:
        """Whether its examples are the caller's."""
        return bool(self.config.get("content"))

    @property
    def of(self) -> Config:
        """The run's configuration."""
        return Config.from_record(self.config)


NAMES = tuple(f.name for f in fields(Entry))


def entry(result: Result, path: Path) -> Entry:
    """The entry of a result that is stored in a file."""
    found = os.stat(path)
    loss = "log_loss" if result.config.is_given else "excess_loss"
    return Entry(
        id=result.config.id,
        sha256=digest(path),
        size=found.st_size,
        modified=found.st_mtime_ns,
        config=record_of(result.config),
        fingerprint=result.fingerprint,
        backend=result.backend,
        seconds=result.seconds,
        summary=finite_or_null(
            {
                "relative_pd": result.relative_pd,
                "relative_pd_interval": result.relative_pd_interval,
                loss: result.mean("loss"),
                f"{loss}_interval": result.interval_of("loss"),
                "constant_loss": result.constant_loss,
            }
        ),
        measures=measures(result),
        provenance=dict(result.provenance),
    )


def record_of(config: Config) -> dict[str, Any]:
    """The fields of a configuration that are not at the value that their absence means."""
    values = {name: getattr(config, name) for name in ABSENT}
    return {k: v for k, v in values.items() if v != ABSENT[k]}


def measures(result: Result) -> dict[str, Any]:
    """Every measure of a result after the last step: by pair, or by pair and model."""
    return {
        name: (result.measures[name][-1] if m.by_checkpoint else result.measures[name]).tolist()
        for name, m in result.metrics.items()
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, in hex; raises ConfigError."""
    try:
        with open(path, "rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as error:
        raise store.unreadable(path, error) from None


def line(one: Entry) -> str:
    """The line of an entry, without the line feed."""
    return sealed({"version": VERSION, **{name: getattr(one, name) for name in NAMES}})


def entry_of(record: dict[str, Any]) -> Entry:
    """The entry that a record of a line says."""
    return Entry(**{name: record[name] for name in NAMES})


def sealed(record: dict[str, Any]) -> str:
    """A record as a JSON line whose last member is a digest of the rest; NaN is null."""
    text = json.dumps(finite_or_null(record), separators=(", ", ": "), allow_nan=False)[:-1]
    return text + CHECK % _check(text)


def unsealed(text: str) -> dict[str, Any] | None:
    """The record of a line, None if the line was torn or changed."""
    text = text.rstrip("\n")
    body, check = text[:-CHECK_LENGTH], text[-CHECK_LENGTH:]
    if check != CHECK % _check(body):
        return None
    record = json.loads(body + "}")
    return record if isinstance(record, dict) else None


def append(path: Path, text: str) -> None:
    """Append one line to a file that others append to, by a single write; raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        end = os.lseek(handle, 0, os.SEEK_END)
        torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
        data = ("\n" if torn else "").encode() + text.encode() + b"\n"
        written = os.write(handle, data)
        while written < len(data):  # a disk that is filling up; the next write says why
            written += os.write(handle, data[written:])
    finally:
        os.close(handle)


def records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of the whole lines of a file, in order; nothing if there is no file."""
    try:
        check_regular(path)
        with open(path, encoding="utf-8", errors="replace") as f:
            for text in f:
                record = unsealed(text)
                if record is not None:
                    yield record
    except FileNotFoundError:
        return


class Journal:
    """The entries of a folder's journal by id; of several of one run, the last.

    Parameters
    ----------
    folder : Path
        The folder.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self.entries: dict[str, Entry] = {}
        self.offset = 0  # bytes that were read

    def read(self) -> dict[str, Entry]:
        """The entries, with those that were appended since the last call.

        Raises
        ------
        ConfigError
            If another version wrote it, or it cannot be read.
        """
        try:
            check_regular(self.path)
            with open(self.path, "rb") as f:
                if f.seek(0, os.SEEK_END) < self.offset:  # made anew
                    self.offset, self.entries = 0, {}
                f.seek(self.offset)
                for line in f:
                    if not line.endswith(b"\n"):  # being written, or torn
                        break
                    record = unsealed(line.decode(errors="replace"))
                    if record is not None:
                        self._take(record)
                    self.offset += len(line)  # what was refused is so the next time, too
        except FileNotFoundError:
            self.offset, self.entries = 0, {}
        except OSError as error:
            refused = isinstance(error, PermissionError)
            right = "give one that may be read" if refused else "move it away, it is made anew"
            raise ConfigError(f"{str(self.path)!r}: {error.strerror}; {right}") from None
        return self.entries

    def _take(self, record: dict[str, Any]) -> None:
        version = record.get("version")
        if version != VERSION:
            raise ConfigError(
                f"{str(self.path)!r}: written by another version of nanorepro (journal"
                f" {version}, this one has {VERSION}); give a folder of this version"
            )
        if record.keys() >= {*NAMES}:
            self.entries[record["id"]] = entry_of(record)


def read(folder: Path) -> dict[str, Entry]:
    """The entries of a folder's journal by id; raises ConfigError if another version wrote it."""
    return Journal(folder).read()


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
