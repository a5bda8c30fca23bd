"""What the scripts of findings share: their options, intervals, pictures."""

import argparse
from pathlib import Path

import numpy as np

from nanorepro.config import Config
from nanorepro.numerics.streams import stream_key
from nanorepro.plots.style import BLACK, BLUE, GREEN, GREY, PURPLE, RED, file_of
from nanorepro.results import store
from nanorepro.results.files import replace_file
from nanorepro.results.result import Result
from nanorepro.results.studentized import Interval, contrast
from nanorepro.training.simulation import simulate

COLOURS = {"identity": BLUE, "relu": RED, "smelu": GREEN, "swish": PURPLE}
KEY = stream_key(0, "bootstrap")

__all__ = ["BLACK", "COLOURS", "GREY", "mean", "options", "ratio", "run", "save", "shown", "slope"]


def options(words: str, log2_examples: int, pairs: int, **lists: list[int]) -> argparse.Namespace:
    """T, pairs and folders of the command line, and lists of integers with their defaults."""
    found = argparse.ArgumentParser(description=words)
    add = found.add_argument
    add("--log2-examples", type=int, default=log2_examples, help="log2 of T (default: %(default)s)")
    add("--pairs", type=int, default=pairs, help="pairs of models (default: %(default)s)")
    for name, default in lists.items():
        listed = ",".join(map(str, default))
        add(f"--{name}", type=integers, default=default, help=f"a list (default: {listed})")
    add("--backend", default="numba", help="numba or reference (default: %(default)s)")
    add("--threads", type=int, default=None, help="threads (default: all CPUs)")
    add("--out", type=Path, default=Path(__file__).parent, help="folder of the picture")
    add("--runs", type=Path, default=Path("runs/findings"), help="folder of the stored runs")
    return found.parse_args()


def integers(text: str) -> list[int]:
    """The integers of a list such as 6,11,24."""
    return [int(word) for word in text.split(",")]


def run(config: Config, o: argparse.Namespace) -> Result:
    """The stored run, or a new one that is stored: an interrupted script goes on where it was."""
    found = store.find(o.runs, config)
    if found is None:
        found = simulate(config, o.backend, threads=o.threads)
        store.save(found, o.runs)
    return found


def mean(values: np.ndarray) -> Interval:
    """The mean over pairs of values that are not negative, with its 95 % interval."""
    values = np.asarray(values, float)
    if not values.any():
        return Interval(0.0, 0.0, 0.0)
    found = contrast(values[None], np.ones(1), KEY)
    return Interval(*np.exp(found).tolist())


def ratio(first: np.ndarray, second: np.ndarray) -> Interval:
    """The mean of one over that of the other, of the same pairs, with its 95 % interval."""
    rows = np.array([first, second], float)
    found = contrast(rows, np.array([1.0, -1.0]), KEY)
    return Interval(*np.exp(found).tolist())


def slope(x: np.ndarray, rows: np.ndarray) -> Interval:
    """d log y/d x of means over pairs, rows (x, pair), with its 95 % interval."""
    x = x - x.mean()
    return contrast(rows, x / (x @ x), KEY)


def shown(of: Interval, digits: int = 3) -> str:
    return f"{of.value:.{digits}g} [{of.low:.{digits}g}, {of.high:.{digits}g}]"


def save(figure, folder: Path, name: str) -> None:
    path = folder / f"{name}.png"
    replace_file(path, file_of(figure, "png", Description=f"python docs/findings/{name}.py"))
    print(f"drawn: {path}")
