"""What is compared: one checkpoint or a series of them, from files, folders, runs or arrays."""

import glob
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nanorepro.data.tensors.arrays import tensors_of
from nanorepro.data.tensors.opening import HDF5, SUFFIXES, open_tensors, shards
from nanorepro.data.tensors.record import TensorFile
from nanorepro.errors import ConfigError, shown
from nanorepro.results.result import Result

RUN = b"nanorepro result"


@dataclass(frozen=True)
class CheckpointTensors:
    """One set of tensors of a source.

    Attributes
    ----------
    label : str
        Its name, as it is shown.
    number : int or None
        The step, epoch or whatever its name counts; None of one that stands alone.
    open : callable
        Gives its `TensorFile`.
    files : tuple of str
        Its files, with links followed, and the part of them; empty of arrays.
    """

    label: str
    number: int | None
    open: Callable[[], TensorFile]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What stands on one side of a comparison.

    Attributes
    ----------
    name : str
        As the caller named it.
    checkpoints : tuple of CheckpointTensors
        In the order of their numbers.
    series : bool
        Whether it is a series of checkpoints, be it of one.
    run : Result or None
        The stored run that it is of.
    model : tuple of int or None
        Of that run the pair and the model, if it is one of them.
    """

    name: str
    checkpoints: tuple[CheckpointTensors, ...]
    series: bool = False
    run: Result | None = None
    model: tuple[int, int] | None = None


def compared(what: Any, argument: str) -> Compared:
    """What a caller names: a path, a run, or arrays by their names; raises ConfigError.

    Parameters
    ----------
    what : str, Path, Result, mapping or sequence
        A file of tensors, a stored run, a folder or a pattern of checkpoints, each with `#` and a
        part of it if wanted; a Result; arrays by their names; or a list of such, a series.
    argument : str
        What an error names.
    """
    if isinstance(what, Result):
        return of_run(what, f"run {what.config.id}", "")
    if isinstance(what, Mapping):
        file = tensors_of(what, argument)
        return Compared(argument, (CheckpointTensors("", None, lambda: file),))
    if isinstance(what, str | os.PathLike):
        try:
            return of_path(os.fspath(what))
        except PermissionError as error:
            raise ConfigError(f"{shown(os.fspath(what))}: {error.strerror}") from None
    if isinstance(what, Sequence) and len(what):
        parts = [compared(one, f"{argument}[{k}]") for k, one in enumerate(what)]
        if any(part.series for part in parts):
            raise ConfigError("a series of series", argument, "single checkpoints")
        checkpoints = [
            replace(p.checkpoints[0], label=p.name, number=k) for k, p in enumerate(parts)
        ]
        return Compared(argument, tuple(checkpoints), series=True)
    right = "a path, a Result, arrays by their names, or a list of these"
    raise ConfigError(f"{shown(what)} cannot be compared", argument, right)


def of_path(text: str) -> Compared:
    """The source that a text names: `PATH` or `PATH#PART`."""
    path, part = text, ""
    if "#" in text and not os.path.exists(text):
        path, _, part = text.rpartition("#")
        if not part:
            right = "PATH#PART, as in run.h5#0.1 or model.npz#encoder/"
            raise ConfigError("nothing follows the #", repr(text), right)
    if "\0" in path:
        raise ConfigError("no file name has a NUL", repr(text))
    here = Path(path)
    if here.is_dir():
        return _of_files(text, _in_folder(here), part)
    if not here.exists() and any(c in path for c in "*?["):
        found = sorted(Path(p) for p in glob.glob(path))
        if not found:
            raise ConfigError("no file fits this pattern", repr(path))
        return _of_files(text, _checkpoints_of(found), part)
    if _is_run(here):
        from nanorepro.results.store import load

        whole = of_run(load(here), text, part)
        alone = replace(whole.checkpoints[0], files=_files([here], part))
        return replace(whole, checkpoints=(alone,))
    alone = CheckpointTensors(
        "", None, lambda: _part(open_tensors([here]), part, text), _files([here], part)
    )
    return Compared(text, (alone,))


def _files(paths: Sequence[Path], part: str) -> tuple[str, ...]:
    """What says whether two checkpoints are the same one."""
    return (*(os.path.realpath(path) for path in paths), part)


def _is_run(path: Path) -> bool:
    """Whether a file is one of `nanorepro.save`."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            if file.read(8) != HDF5:
                return False
        import h5py

        with h5py.File(path, "r") as file:
            return str(file.attrs.get("format", "")).startswith(RUN.decode())
    except (OSError, RuntimeError, KeyError, ValueError):
        return False


def of_run(result: Result, name: str, part: str) -> Compared:
    """A stored run: all its models, `pair.model` one of them, `pair` both of a pair."""
    pairs = result.config.pairs
    match = re.fullmatch(r"(\d{1,6})(?:\.([01]))?", part) if part else None
    if part and (match is None or int(match[1]) >= pairs):
        right = f"PAIR.MODEL or PAIR, pairs from 0 to {pairs - 1}, models 0 and 1, as in #0.1"
        raise ConfigError(f"{shown(part)} is no model of this run", repr(name), right)
    arrays: dict[str, Any] = {}
    model = None
    for k, records in enumerate(result.parameters):
        if match and k != int(match[1]):
            continue
        for m, record in enumerate(records):
            if match and match[2] is not None:
                if m == int(match[2]):
                    arrays, model = dict(record), (k, m)
            else:
                arrays[str(m) if match else f"{k}.{m}"] = record
    file = tensors_of(arrays, name)
    return Compared(name, (CheckpointTensors("", None, lambda: file),), run=result, model=model)


def _run_tensors(path: Path, part: str) -> TensorFile:
    """The tensors of a stored run, or of some of its models, with its configuration beside them."""
    from nanorepro.results.store import load

    result = load(path)
    file = of_run(result, str(path), part).checkpoints[0].open()
    return replace(file, metadata={k: str(v) for k, v in asdict(result.config).items()})


def _part(file: TensorFile, part: str, name: str) -> TensorFile:
    """The tensors whose names begin with `part`, without it."""
    if not part:
        return file
    found, whole = {}, dict[str, str]()
    for old, tensor in file.tensors.items():
        rest = old.removeprefix(part)
        if rest != old or old == part:
            short = rest.lstrip("/.") or old
            if short in found:
                problem = f"{shown(whole[short])} and {shown(old)} are both {shown(short)} there"
                raise ConfigError(problem, repr(name), "a beginning that only one of them has")
            found[short], whole[short] = replace(tensor, name=short), old
    if not found:
        some = ", ".join(list(file.tensors)[:5])
        problem = f"no tensor's name begins with {shown(part)}"
        raise ConfigError(problem, repr(name), f"the beginning of one, such as {some}")
    return replace(file, tensors=found)


def _in_folder(folder: Path) -> dict[str, list[Path]]:
    """The checkpoints of a folder by name: its files, or those of its folders."""
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    files = [p for p in entries if p.is_file() and p.suffix.lower() in SUFFIXES]
    if files:
        return _checkpoints_of(files)
    found = _checkpoints_of([p for p in entries if p.is_dir()])
    if not found:
        kinds = ", ".join(SUFFIXES)
        raise ConfigError("no file of tensors is there", repr(str(folder)), f"files {kinds}")
    return found


def _checkpoints_of(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Files and folders as checkpoints by name; a folder is one, of its files."""
    found = shards([p for p in paths if p.is_file()])
    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SUFFIXES]
            if inside:
                parts = shards(inside)
                if len(parts) > 1:
                    names = ", ".join(sorted(parts))
                    problem = f"it holds several files of tensors ({names})"
                    raise ConfigError(problem, repr(str(path)), f"'{path.parent}/*/NAME'")
                found[path.name] = inside
    return found


DIGITS = re.compile(r"(\d+)")


def _of_files(name: str, files: Mapping[str, list[Path]], part: str) -> Compared:
    """A series of the checkpoints of a folder or a pattern, in the order of their numbers.

    Stored runs have no numbers: their names are their ids.
    """
    runs = {label for label, paths in files.items() if len(paths) == 1 and _is_run(paths[0])}
    kinds = {DIGITS.sub("*", label) for label in files.keys() - runs} | ({"*"} if runs else set())
    if len(kinds) > 1 and not any(c in name for c in "*?["):
        listed = ", ".join(sorted(kinds)[:5])
        right = f"a file, or a pattern in quotes such as '{Path(name) / sorted(kinds)[0]}*'"
        raise ConfigError(f"it holds several series ({listed})", repr(name), right)

    def opener(label: str) -> Callable[[], TensorFile]:
        if label in runs:
            return lambda: _run_tensors(files[label][0], part)
        return lambda: _part(open_tensors(files[label]), part, label)

    ordered = sorted(files, key=natural)
    numbers = [None] * len(files) if runs else _numbers(ordered)
    checkpoints = tuple(
        CheckpointTensors(label, number, opener(label), _files(files[label], part))
        for number, label in sorted(zip(numbers, ordered, strict=True), key=lambda p: p[0] or 0)
    )
    if len(checkpoints) == 1 and not any(c in name for c in "*?["):
        return Compared(name, (replace(checkpoints[0], label="", number=None),))
    return Compared(name, checkpoints, series=True)


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that orders names by the numbers in them.

    Examples
    --------
    >>> sorted(["model_10", "model_9"], key=natural)
    ['model_9', 'model_10']
    """
    parts = DIGITS.split(name)
    return [(1, int(p)) if k % 2 else (0, p) for k, p in enumerate(parts)]


def _numbers(labels: Sequence[str]) -> list[int]:
    """What the names count: the last number that changes; else their places."""
    found = [list(map(int, DIGITS.findall(label))) for label in labels]
    if len({len(numbers) for numbers in found}) == 1 and found[0]:
        for column in list(zip(*found, strict=True))[::-1]:
            if len(set(column)) == len(labels):
                return list(column)
    return list(range(len(labels)))
