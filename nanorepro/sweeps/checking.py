"""Stored runs looked at once more: all files of a folder, or one run trained again."""

import os
from dataclasses import dataclass, replace

import numpy as np

from nanorepro.config import Config
from nanorepro.data.options import FILE
from nanorepro.errors import ConfigError, shown
from nanorepro.results import store
from nanorepro.results.files import is_refused
from nanorepro.results.hdf5 import LeftAlone
from nanorepro.results.labelled import contents
from nanorepro.results.result import Result
from nanorepro.sweeps import journal
from nanorepro.sweeps.folder import Damaged, Folder, Report
from nanorepro.sweeps.work import Task
from nanorepro.training import checkpoints
from nanorepro.training.simulation import simulate


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Parameters
    ----------
    sound : int
        Files that open, and whose schema, digest and fingerprint fit.
    damaged : list of Damaged
        Files that are not, moved aside.
    others : list of Damaged
        Files that another version of the program made, or that cannot be read, left where they are.
    lost : list of str
        Ids of runs of which the journal has a line and the folder no file.
    begun : int
        Checkpoints of runs in the middle of their training that are as sound.
    """

    sound: int
    damaged: list[Damaged]
    others: list[Damaged]
    lost: list[str]
    begun: int


def verify(folder: Folder, report: Report | None = None) -> Verdict:
    """Open and check every file, whatever the journal says; damaged ones are moved aside.

    Checkpoints of runs in the middle of their training are files, too.

    The journal is made whole from the files.  Raises ConfigError for a folder of a newer version.
    """
    known = journal.read(folder.path)
    damaged = folder.look(report=report, full=True)
    gone = {one.path.stem for one in [*damaged, *folder.others]}
    lost = sorted(id for id in known if id not in folder.entries and id not in gone)
    begun, others = 0, list(folder.others)
    for path in checkpoints.found_in(folder.path):
        try:
            state = checkpoints.read(path)
            if state.config.id != path.stem:
                raise ConfigError(f"holds the run {state.config.id} under another name")
            begun += 1
        except FileNotFoundError:
            continue  # its run has just been stored
        except LeftAlone as error:
            others.append(Damaged(path, str(error)))
        except ConfigError as error:
            damaged.append(Damaged(path, str(error)))
        except OSError as error:
            kind = others if is_refused(error) else damaged
            kind.append(Damaged(path, error.strerror or str(error)))
    return Verdict(len(folder.entries), list(map(folder.put_away, damaged)), others, lost, begun)


def named(folder: Folder, id: str) -> Result:
    """The stored run whose id begins so; raises ConfigError if that is none or several."""
    ids = sorted(name for name in folder.files() if id and name.startswith(id))
    if len(ids) != 1:
        where = str(folder.path)
        found = f"several runs in {where!r} begin with {shown(id)}: {', '.join(ids[:3])}"
        raise ConfigError(f"{found if ids else f'no run {shown(id)} in {where!r}'}; give its id")
    return store.load(folder.file(ids[0]))


def start_of(folder: Folder, result: Result) -> str:
    """The file of the run that a run starts from; empty if it starts from initial values."""
    wanted = result.config.warm_start
    if not wanted:
        return ""
    folder.look()
    for id, entry in folder.entries.items():
        if entry.fingerprint == wanted:
            return str(folder.file(id))
    raise ConfigError(f"the run that {result.config.id} starts from is not in the folder")


def replay(
    stored: Result, task: Task, backend: str, threads: int | None, report: Report | None = None
) -> list[str]:
    """Train a run again; the names of the arrays that are not the same bits, which is none.

    NaN is compared by class, as in the contract.
    """
    start = store.load(task.start).parameters if task.start else None
    again = simulate(found(stored), backend, threads, report, start)
    here, there = contents(again), contents(stored)
    named = there.keys() - stored.absent
    differ = [name for name in there if name in named and not _same(here[name], there[name])]
    return differ or ([] if again.fingerprint == stored.fingerprint else ["fingerprint"])


def found(stored: Result) -> Config:
    """A stored run's configuration, whose file of examples is where it can be read now.

    That is where it names it, or where the run read it, whatever the folder was.
    """
    config, there = stored.config, stored.provenance.get("examples", "")
    named = config.data.removeprefix(FILE)
    if config.data.startswith(FILE) and not os.path.exists(named) and os.path.exists(there):
        return replace(config, data=FILE + there)
    return config


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
