"""The runs of an attribution, as a sweep: found in a folder, missing ones made."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from nanorepro.analysis.attribution import Attribution, attribution, wanted
from nanorepro.arguments import folder_or_file, function_or_none, number_between
from nanorepro.config import CHECKPOINT_MINUTES, Config, check_sequence
from nanorepro.errors import ConfigError, wrong
from nanorepro.results.result import Result
from nanorepro.specification import of_first_models
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.runner import Broken, sweep
from nanorepro.sweeps.work import Settings, Task
from nanorepro.training.checkpoints import check_minutes
from nanorepro.training.examples import with_content
from nanorepro.training.simulation import simulate
from nanorepro.training.threads import number_of_threads

NAME = "nanorepro.attribute"


def attribute(
    config: Config,
    folder: str | Path | None = None,
    *,
    backend: str = "numba",
    threads: int | str | None = None,
    floor: float | None = None,
    sums: bool = False,
    stream: TextIO | None = None,
    say: Callable[[str], None] = lambda text: None,
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    command: str = "",
    data: object = None,
) -> Attribution:
    """Say which of the sources in which the models of each pair differ makes how much of PD.

    The sources are those that the configuration names: the roles of `differ`, and each dial with
    two values `a,b`.  Every subset of them is a run: a role that is not there is the same stream
    for both models, a dial that is not there has its first value in both.

    Parameters
    ----------
    config : Config
        The run in which all sources are there.
    folder : str or Path, optional
        Where the runs are stored, as a sweep's; those that are there are not made again.  None:
        nothing is stored.
    backend : {"numba", "reference", "cupy"}
        What computes it.
    threads : int or "all", optional
        Threads, or processes of the sweep; they change no bit.
    floor : float, optional
        PD below which the logarithm does not tell differences; None: the unit roundoff of the
        precision, 2^-24 for float32.
    sums : bool, optional
        Also make the runs that tell which single sum (a layer's forward, backward or mini-batch
        sum) is responsible: one with all sums exact, and one for each sum with all others exact.
    stream : TextIO, optional
        Where the progress of the sweep is shown.
    say : callable, optional
        Takes a line that the user should see.
    checkpoint_minutes : float, optional
        Minutes between two checkpoints inside a run, 0 for none.
    command : str, optional
        What the folder remembers as what asked for the runs.
    data : tuple of array_like, optional
        Your own examples, as for `simulate`; with a folder, name their file in config.data instead.

    Returns
    -------
    Attribution
        PD with each source alone, with all but each, Shapley values and shares on PD and on its
        logarithm, interactions; with intervals over pairs.

    Raises
    ------
    ConfigError
        For a configuration without sources, or one that cannot be run.
    Broken
        If runs failed or could not be stored; what is finished is kept.

    Examples
    --------
    >>> from nanorepro import Config, attribute
    >>> config = Config(model="linear", log2_examples=8, log2_eval=6, pairs=3, differ="init,order")
    >>> found = attribute(config, backend="reference")
    >>> [(e.source.name, e.idle) for e in found.effects], found.nothing.value
    ([('init', False), ('order', True)], 0.0)
    """
    if floor is not None:
        floor = number_between("floor", floor, 0.0, 1.0, "a number above 0 and below 1")
    if not isinstance(sums, bool):
        raise wrong("sums", sums, "True or False")
    function_or_none("say", say, "a function of a line of text")
    checkpoint_minutes = check_minutes(checkpoint_minutes)
    if folder is not None:
        folder = folder_or_file("folder", folder, "the path of a folder")
    if data is not None and folder is not None:
        raise ConfigError("runs of a folder read a file", "data", "{data=file:NAME} in its place")
    config, _ = with_content(config, data)
    runs = wanted(config, sums)
    for run in runs:
        check_sequence(run)
    pd: Mapping[str, np.ndarray]
    if folder is None:
        pd = alone(runs, backend, threads, data)
    else:
        settings = Settings(str(folder), backend, command, checkpoint_minutes)
        pd = made(runs, Folder(folder), settings, number_of_threads(threads), stream, say)
    return attribution(config, pd, floor, sums)


def alone(
    runs: Sequence[Config], backend: str, threads: int | str | None, data: object
) -> Mapping[str, np.ndarray]:
    """PD by pair of runs, by their ids, that are stored nowhere."""
    found, firsts = {}, dict[str, Result]()
    for run in runs:
        own = of_first_models(run).id
        result = simulate(run, backend, threads, data=data, firsts=firsts.get(own))
        firsts |= {own: result} if own == run.id else {}
        found[run.id] = result.measures["pd"][-1]
    return found


def made(
    runs: Sequence[Config],
    folder: Folder,
    settings: Settings,
    threads: int,
    stream: TextIO | None,
    say: Callable[[str], None],
) -> Mapping[str, np.ndarray]:
    """PD by pair of runs, by their ids, those made that are not there; raises Broken."""
    tasks = [Task(run, firsts=of_first_models(run).id) for run in runs]
    outcome = sweep(tasks, folder, settings, threads, stream, say, name=NAME)
    if outcome.failed:
        first = outcome.failed[0]
        many = f"{len(outcome.failed)} of {len(runs)} runs failed"
        raise Broken(f"{many}, the first {first.id}: {first.reason}")
    entries = [folder.entries[run.id] for run in runs]
    return {entry.id: np.array(entry.measures["pd"], np.float64) for entry in entries}


__all__ = ["Broken", "ConfigError", "attribute"]
