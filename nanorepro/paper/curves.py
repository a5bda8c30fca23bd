"""The runs behind the paper's figures: their sizes, and their curves.

A curve is a configuration whose window varies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError, wrong

NUMBERS = tuple(range(1, 11))  # of the paper's figures
FIRST, MID, LAST, ALL = "first", "mid", "last", "all"  # places in a list of windows
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "AdaGrad 0.1": {"optimizer": "adagrad", "lr": 0.1},
    "AdaGrad 1": {"optimizer": "adagrad", "lr": 1.0},
    "SGD 0.01": {"optimizer": "sgd", "lr": 0.01},
    "SGD 0.1": {"optimizer": "sgd", "lr": 0.1},
}
SMELU, SWISH = (0.02, 0.1, 0.5), (4.0, 16.0, 64.0)  # β of figure 10
SLOWER = 0.01  # the learning rate after a warm start


@dataclass(frozen=True)
class Size:
    """How large the runs of a figure are.

    Attributes
    ----------
    log2_examples, log2_eval, pairs, seed : int
        Of all runs, as in `Config`.
    windows : tuple of int
        log2 of the windows z.
    hidden : str
        Hidden layers in place of the deep model's.
    without : tuple of str
        Curves that are left out.
    series : bool
        Whether runs are also measured during training.
    """

    log2_examples: int
    log2_eval: int
    pairs: int
    windows: tuple[int, ...]
    seed: int = 0
    hidden: str = ""
    without: tuple[str, ...] = ()
    series: bool = True

    def at(self, place: str) -> tuple[int, ...]:
        """The windows at a place of the list; the middle one is the longest up to half the last."""
        first, middle, last = three_of(self.windows)
        return {FIRST: (first,), MID: (middle,), LAST: (last,), ALL: self.windows}[place]

    @property
    def words(self) -> str:
        """T, N, pairs and windows in words."""
        windows = ",".join(map(str, self.windows))
        pairs = f"{self.pairs} pair{'s' if self.pairs > 1 else ''}"
        hidden = f", hidden layers [{self.hidden}]" if self.hidden else ""
        hidden += f", without {' and '.join(self.without)}" if self.without else ""
        return (
            f"T = 2^{self.log2_examples}, N = 2^{self.log2_eval}, {pairs}, log2 z = {windows},"
            f" seed {self.seed}{hidden}"
        )


def three_of(windows: Sequence[int]) -> tuple[int, int, int]:
    """The first, the middle and the last window: the paper's 0, 10 and 20."""
    first, last = windows[0], windows[-1]
    return first, max(w for w in windows if 2 * w <= last or w == first), last


PAPER = Size(26, 16, 16, tuple(range(0, 21, 2)))
LAPTOP = Size(22, 16, 16, (0, 4, 8, 12, 16, 17))
# What decides claims that the figures' own pairs leave open.  Losses at every z are equal in
# expectation at any T, as a shuffled sequence of independent examples is one: there T may be small.
MORE_PAIRS = Size(20, 16, 256, (0, 7, 14))
MORE_TOWERS = Size(18, 12, 4096, (0, 6, 13), series=False)
# What may change its direction with T is decided at the paper's.
MORE_OF_PAPER = Size(26, 16, 128, (0, 10, 20), series=False)
MORE_SERIES = replace(MORE_OF_PAPER, pairs=256, series=True)
MORE_WIDE = Size(20, 16, 128, (0, 7, 14), series=False)
MORE_DEEP = Size(16, 12, 128, (0, 5, 11), series=False)
MOST_DEEP = Size(14, 12, 512, (0, 4, 9), series=False)
EQUAL_LOSS = Size(16, 12, 4096, (0, 4, 11), series=False)
EQUAL_LOSS_WIDE = Size(14, 12, 1024, (0, 3, 6, 9), series=False)
EQUAL_LOSS_DEEP = Size(12, 12, 512, (0, 3, 7), series=False)
SMOKE = Size(10, 8, 2, (0, 2, 5))
SCALES: dict[str, dict[int, Size]] = {
    "paper": dict.fromkeys(NUMBERS, PAPER),
    "laptop": dict.fromkeys(NUMBERS, LAPTOP)
    | {8: Size(20, 16, 16, (0, 4, 8, 12, 15)), 9: Size(20, 16, 16, (0, 4, 8, 12, 15))}
    | {10: Size(16, 14, 16, (0, 3, 6, 9, 11))},
    "smoke": dict.fromkeys(NUMBERS, SMOKE)
    | {10: Size(8, 6, 2, (0, 1, 3), hidden="64,32", without=("SmeLU 0.02 deep", "Swish 64 deep"))},
}


def size(
    figure: int,
    scale: str,
    log2_examples: int | None = None,
    pairs: int | None = None,
    windows: Sequence[int] | None = None,
    seed: int = 0,
) -> Size:
    """The size of a figure at a scale, with what is given in place of its own.

    At a smaller T the windows that do not fit give way to the longest that does.
    """
    return resized(SCALES[scale][figure], log2_examples, pairs, windows, seed)


def resized(
    found: Size,
    log2_examples: int | None = None,
    pairs: int | None = None,
    windows: Sequence[int] | None = None,
    seed: int = 0,
) -> Size:
    """A size with what is given in place of its own, as `size` has it."""
    examples = found.log2_examples if log2_examples is None else log2_examples
    if not 5 <= examples <= 40:
        raise wrong("log2_examples", examples, "5 to 40")
    longest = examples - 5
    wanted = found.windows if windows is None else tuple(sorted(set(windows)))
    if windows is not None and not all(0 <= w <= longest for w in wanted):
        raise ConfigError(
            f"{','.join(map(str, wanted))} is not allowed",
            "windows",
            f"log2 z from 0 to {longest}, as 2^{examples} examples allow",
        )
    fitting = {w for w in wanted if w <= longest}
    if len(fitting) < len(wanted):
        fitting.add(longest)
    return replace(
        found,
        log2_examples=examples,
        pairs=found.pairs if pairs is None else pairs,
        windows=tuple(sorted(fitting)),
        seed=seed,
    )


@dataclass(frozen=True)
class Curve:
    """A line of a figure.

    Attributes
    ----------
    name : str
        In the figure and in claims.
    config : Config
        Its run at one window.
    source : str
        The curve whose models, trained with the shortest window, it starts from; empty: none.
    """

    name: str
    config: Config
    source: str = ""

    def at(self, window: int, fingerprint: str = "") -> Config:
        """The run of one window; `fingerprint` is that of the source's run."""
        c = replace(self.config, log2_window=window)
        if not self.source:
            return c
        return replace(c, warm_start=fingerprint, first_example=c.examples)


def curves(size: Size) -> dict[str, Curve]:
    """Every curve of the paper by name, at a size."""
    found: dict[str, Curve] = {}

    def add(name: str, source: str = "", **fields: Any) -> None:
        sizes = {
            "log2_examples": size.log2_examples, "log2_eval": size.log2_eval,
            "pairs": size.pairs, "seed": size.seed,
            "eval_every": "log" if size.series else "",
        }  # fmt: skip
        found[name] = Curve(name, Config(**{**sizes, **fields}), source)

    for suffix, differ in (("", "shuffle"), (" diff", "init,shuffle")):
        add("linear" + suffix, model="linear", differ=differ)
        for units, model in ((1, "single"), (2, "double")):
            for title, act in (("Identity", "identity"), ("ReLU", "relu")):
                add(f"{title} {units}{suffix}", model=model, act=act, differ=differ)
    for title, act in (("Identity", "identity"), ("ReLU", "relu")):
        add(f"{title} tower", model="tower", act=act)
    for title, act in (("SmeLU 0.5", "smelu"), ("Swish 4", "swish")):
        add(f"{title} tower", model="tower", act=act, beta=float(title.split()[1]))
    for name, optimizer in OPTIMIZERS.items():
        add(f"linear, {name}", model="linear", **optimizer)
        for title, act in (("Identity", "identity"), ("ReLU", "relu")):
            add(f"{title} wide, {name}", model="wide", act=act, **optimizer)
    for title, act in (("SmeLU 0.1", "smelu"), ("Swish 16", "swish")):
        beta = float(title.split()[1])
        add(f"{title} wide, AdaGrad 0.1", model="wide", act=act, beta=beta)
    quadratic: dict[str, Any] = {"data": "quadratic", "model": "deep"}
    if size.hidden:
        quadratic |= {"model": "tower", "hidden": size.hidden}
    add("linear, quadratic", data="quadratic", model="linear")
    add("ReLU deep", act="relu", **quadratic)
    for beta in SMELU:
        add(f"SmeLU {beta:g} deep", act="smelu", beta=beta, **quadratic)
    for beta in SWISH:
        add(f"Swish {beta:g} deep", act="swish", beta=beta, **quadratic)
    add("ReLU deep TL", source="ReLU deep", act="relu", lr=SLOWER, **quadratic)
    return found


SIMPLE = ("linear", "Identity 1", "ReLU 1", "Identity 2", "ReLU 2")
WIDE = tuple(f"{m}, {o}" for m in ("linear", "Identity wide", "ReLU wide") for o in OPTIMIZERS)
SMOOTH = tuple(f"SmeLU {b:g} deep" for b in SMELU) + tuple(f"Swish {b:g} deep" for b in SWISH)


def run_keys(runs: Sequence[tuple[str, str]], size: Size) -> list[tuple[str, int]]:
    """(curve, place) → (curve, window)."""
    return [(name, w) for name, place in runs for w in size.at(place)]
