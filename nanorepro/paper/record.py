"""A figure of the paper as a record, one file each (`figure1.py` to `figure10.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nanorepro.config import Config
from nanorepro.paper.claims import Claim
from nanorepro.paper.curves import FIRST, LAST, MID, Size, curves, run_keys
from nanorepro.paper.observed import Key
from nanorepro.paper.quantities import Quantity

if TYPE_CHECKING:
    import matplotlib.figure

Row = dict[str, Any]


def in_order(keys: Sequence[Key], size: Size) -> list[Key]:
    """Runs, each once: those that others start from, then the ends of the windows, the others."""
    sources = {n: c.source for n, c in curves(size).items() if c.source}
    first = [(sources[n], size.windows[0]) for n, _ in keys if n in sources]
    ends = [*size.at(FIRST), *size.at(LAST), *size.at(MID), *size.windows]
    rank = {w: k for k, w in reversed(list(enumerate(ends)))}
    kept = [key for key in keys if key[0] not in size.without]
    return list(dict.fromkeys([*first, *sorted(kept, key=lambda key: rank[key[1]])]))


def no_rows(plotted: Any, size: Size, runs: Any) -> list[Row]:
    """What a figure that draws models plots of runs: nothing."""
    return []


@dataclass(frozen=True)
class Figure:
    """What a figure of the paper runs, plots and claims.

    Attributes
    ----------
    number, title : int, str
        The paper's number, and what the picture shows.
    plot : str
        `module:function` of this package that makes a picture of the rows (or models), a title and
        a note.  Matplotlib is imported there only.
    plotted : tuple of (curve, place)
        The runs that are plotted.
    rows : callable
        The numbers that are plotted, from `plotted`, a size and the runs there are.
    parameters : bool
        Whether it needs the runs' parameters, and not their measures alone.
    caption : str
        The paper's own.
    claims : tuple of Claim
        What the paper claims of it.
    models : tuple of Config
        The models that it draws, where it draws models.
    """

    number: int
    title: str
    plot: str
    plotted: tuple[tuple[str, str], ...] = ()
    rows: Callable[[Any, Size, Any], list[Row]] = no_rows
    parameters: bool = False
    caption: str = ""
    claims: tuple[Claim, ...] = ()
    models: tuple[Config, ...] = ()

    def needed(self, size: Size) -> list[Key]:
        """The runs of the figure and its claims: the ends of the windows first, then the others."""
        claimed = [key for claim in self.claims for key in claim.needed(size)]
        return in_order([*run_keys(self.plotted, size), *claimed], size)

    def needed_more(self, claims: Sequence[Claim]) -> dict[Size, list[Key]]:
        """The runs with more pairs that decide claims, by their sizes."""
        found: dict[Size, list[Key]] = {}
        for claim in claims:
            if claim.more is not None:
                found.setdefault(claim.more, []).extend(claim.needed(claim.more))
        return {size: in_order(keys, size) for size, keys in found.items()}

    def wanted(self, size: Size) -> dict[Key, tuple[frozenset[Quantity], bool]]:
        """What claims need of each run of a size: quantities, and whether the course of PD."""
        found: dict[Key, tuple[frozenset[Quantity], bool]] = {}
        for claim in self.claims:
            for criterion in claim.criteria:
                needs = criterion.statistic
                for key in run_keys(criterion.runs, size):
                    quantities, series = found.get(key, (frozenset(), False))
                    found[key] = quantities | set(needs.quantities), series or needs.series
        return found

    def picture(
        self, rows: Sequence[Row], note: str, models: Sequence[Config] = ()
    ) -> "matplotlib.figure.Figure":
        """The picture of the rows; `note` says in a line what was run, `models` replace its own."""
        style = import_module("nanorepro.plots.style")
        module, _, function = self.plot.partition(":")
        plot = getattr(import_module(f"nanorepro.paper.{module}"), function)
        with style.settings():
            return plot(models or self.models or rows, self.title, note)
