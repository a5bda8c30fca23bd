"""Results that are never lost and never silently wrong: one immutable HDF5 file a run, `<id>.h5`.

A file is whole or absent (`files`), sealed and checked (`hdf5`), read-only, and never overwritten.
"""

import contextlib
import os
from pathlib import Path

from nanorepro.arguments import folder_or_file
from nanorepro.config import Config, command
from nanorepro.errors import ConfigError, wrong
from nanorepro.results import hdf5
from nanorepro.results.files import (
    checkpoint_of,
    is_refused,
    read_file,
    write_new,
)
from nanorepro.results.result import Result


class Conflict(RuntimeError):
    """A stored run has the same id as a new one and other bits: a finding, never overwritten."""


def path_of(config: Config, folder: str | Path) -> Path:
    """Where a run is stored in a folder."""
    return Path(folder) / f"{config.id}.h5"


def save(result: Result, folder: str | Path) -> Path:
    """Store a result as `<id>.h5` in a folder.

    Parameters
    ----------
    result : Result
        What `simulate` returned.
    folder : str or Path
        Where; made if it is not there.  A checkpoint of the run in it is not needed any more and
        is removed.

    Returns
    -------
    Path
        The file, read-only.  A file that holds this result already is kept as it is.

    Raises
    ------
    Conflict
        If the file there holds another result of the same configuration: it is kept.
    ConfigError
        If the file there is none of this program, or damaged: it is kept.  If the parameters are
        not those of the fingerprint.
    NotWritten
        An OSError whose message says in a line what the system refuses; nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> from nanorepro import Config, load, save, simulate
    >>> config = Config(model="linear", log2_examples=6, log2_eval=6, pairs=1)
    >>> result = simulate(config, backend="reference")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(result, folder)
    ...     path.name == f"{config.id}.h5", load(path) == result
    (True, True)
    """
    if not isinstance(result, Result):
        raise wrong("result", result, "a Result, as `simulate` returns it")
    folder = folder_or_file("folder", folder, "the path of a folder")
    path = path_of(result.config, folder)
    _write(result, path)
    with contextlib.suppress(OSError):
        checkpoint_of(result.config.id, folder).unlink()
    return path


def load(path: str | Path) -> Result:
    """Read a stored result and check all of it.

    Parameters
    ----------
    path : str or Path
        A file `<id>.h5` of a run, under whatever name it is now.

    Returns
    -------
    Result
        Equal to what was stored; its logits are those of the last checkpoint.

    Raises
    ------
    ConfigError
        For a file that is missing, truncated, damaged, foreign or inconsistent, and for one of
        another contract or of a newer version.
    """
    path = folder_or_file("path", path, "the path of a file <id>.h5 of a run")
    try:
        return hdf5.decode(read_file(path))
    except ConfigError as error:
        raise type(error)(str(error), repr(str(path))) from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: Exception) -> ConfigError:
    """The error of a run's file that cannot be read; `LeftAlone` if it may be read another time."""
    reason = getattr(error, "strerror", None) or str(error)
    if os.path.islink(path):
        reason += ", a link"
    kind = hdf5.LeftAlone if is_refused(error) else ConfigError
    return kind(reason, repr(str(path)), "a file <id>.h5 of a run")


def check(path: str | Path, config: Config) -> Result:
    """The stored result of a configuration; raises ConfigError if the file holds another run."""
    result = load(path)
    if result.config.id != config.id:
        made = f"run {result.config.id} ({command(result.config)}), renamed or copied"
        raise ConfigError(
            f"holds {made}", repr(str(path)), f"it its name {result.config.id}.h5, or move it away"
        )
    return result


def find(folder: str | Path, config: Config) -> Result | None:
    """The stored result of a configuration, None if there is none.

    Raises ConfigError for a file of that name which cannot be read or holds another run.
    """
    path = path_of(config, folder)
    return check(path, config) if os.path.exists(path) else None


def _write(result: Result, path: Path) -> None:
    """Write a result, or see that it is there."""
    if not os.path.exists(path):
        try:
            write_new(path, hdf5.encode(result))
            return
        except FileExistsError:  # it appeared meanwhile, or is a broken link
            pass
    stored = check(path, result.config)
    if stored != result:
        if stored.fingerprint == result.fingerprint:
            what = f"the same parameters ({result.fingerprint}) with other measures"
        else:
            what = f"fingerprint {stored.fingerprint} there, {result.fingerprint} here"
        raise Conflict(
            f"{str(path)!r} holds another result under the same id and was left as it is: {what}"
        )
