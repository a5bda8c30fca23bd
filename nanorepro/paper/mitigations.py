"""What brings the models of a pair closer, beside the ReLU tower that does nothing of it.

Each is a row of a table: curves that are trained as those of a figure are, and what is made of
them (`averaged_models`).  A new one is one record here and, if it is trained, its curve.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nanorepro.config import Config
from nanorepro.paper.curves import ALL, SLOWER, Curve, Size
from nanorepro.paper.observed import Key
from nanorepro.paper.record import Row, in_order
from nanorepro.paper.rows import curve_rows
from nanorepro.results.result import Result

BASE = "ReLU"
AVERAGED = "weights averaged"
ENSEMBLES = (2, 4, 8)
SMELU, SWISH, RATES = (0.1, 0.5, 1.0, 2.0), (1.0, 4.0, 16.0), (0.03, 0.01)

SIZES = {
    "paper": Size(26, 16, 16, (0, 10, 20), series=False),
    "laptop": Size(20, 16, 32, (0, 10), series=False),
    "smoke": Size(
        13, 8, 3, (0, 3), series=False,
        without=("SmeLU 0.1", "SmeLU 1", "SmeLU 2", "Swish 1", "Swish 4", "Swish 16",
                 "sums exact", "float64"),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Mitigation:
    """One row of the table.

    Attributes
    ----------
    name, family : str
        Its own, and that of its colour in the picture.
    words : str
        What is done.
    runs : tuple of str
        The curves that are trained for it.
    examples : int
        Examples that are trained on for one prediction, in those of the baseline.
    models : int
        Models that are evaluated for one prediction.
    """

    name: str
    family: str
    words: str
    runs: tuple[str, ...]
    examples: int = 1
    models: int = 1


def member(k: int) -> str:
    """The curve of the k-th member of an ensemble, of which the first is the baseline."""
    return f"{BASE}, member {k + 1}" if k else BASE


def trained(name: str, family: str, words: str, *before: str, examples: int = 1) -> Mitigation:
    return Mitigation(name, family, words, (*before, name), examples)


MITIGATIONS: tuple[Mitigation, ...] = (
    trained(BASE, "baseline", "ReLU tower, AdaGrad 0.1, float32"),
    *(trained(f"SmeLU {b:g}", "SmeLU", f"SmeLU, β = {b:g}") for b in SMELU),
    *(trained(f"Swish {b:g}", "Swish", f"Swish, β = {b:g}") for b in SWISH),
    *(trained(f"rate {r:g}", "rate", f"rate {r:g} in place of 0.1") for r in RATES),
    trained(
        "warm start", "rate", f"from the trained models of one pair, new examples, rate {SLOWER:g}",
        BASE, examples=2,
    ),
    Mitigation(
        AVERAGED, "averages", "mean of the weights over the second half of the training", (BASE,)
    ),
    *(
        Mitigation(
            f"ensemble of {k}", "averages",
            f"mean probability of {k} models with initial values and orders of their own",
            tuple(map(member, range(k))), k, k,
        )
        for k in ENSEMBLES
    ),
    trained("sums exact", "arithmetic", "sums over the mini-batch rounded once"),
    trained("float64", "arithmetic", "every operation in float64"),
    trained("examples x2", "examples", "twice the examples", examples=2),
    trained("examples x4", "examples", "four times the examples", examples=4),
)  # fmt: skip


def curves(size: Size) -> dict[str, Curve]:
    """The curves that are trained, by name."""
    base = Config(
        model="tower", log2_examples=size.log2_examples, log2_eval=size.log2_eval,
        pairs=size.pairs, seed=size.seed,
    )  # fmt: skip
    found = [
        Curve(BASE, base),
        *(Curve(f"SmeLU {b:g}", replace(base, act="smelu", beta=b)) for b in SMELU),
        *(Curve(f"Swish {b:g}", replace(base, act="swish", beta=b)) for b in SWISH),
        *(Curve(f"rate {r:g}", replace(base, lr=r)) for r in RATES),
        Curve("warm start", replace(base, lr=SLOWER), source=BASE),
        *(
            Curve(member(k), replace(base, first_stream=k * size.pairs))
            for k in range(1, max(ENSEMBLES))
        ),
        Curve("sums exact", replace(base, accumulator="exact")),
        Curve("float64", replace(base, precision="float64")),
        *(
            Curve(f"examples x{1 << k}", replace(base, log2_examples=size.log2_examples + k))
            for k in (1, 2)
        ),
    ]
    return {curve.name: curve for curve in found}


def plotted(size: Size) -> list[Mitigation]:
    """Those of a size."""
    return [m for m in MITIGATIONS if m.name not in size.without]


def needed(size: Size) -> list[Key]:
    """The runs, in the order in which they are made: the ends of the windows first."""
    names = dict.fromkeys(name for m in plotted(size) for name in m.runs)
    found = in_order([(n, w) for n in names for w in size.windows], size)
    sources = [(c.source, size.windows[0]) for c in curves(size).values() if c.source]
    return list(dict.fromkeys([*sources, *found]))


def rows(size: Size, runs: Mapping[Key, Result]) -> list[Row]:
    """The numbers that are plotted: as of a figure's curves, with what each costs.

    examples: trained on for one prediction, in those of the baseline; served: models evaluated
    """
    return [
        {**row, "examples": m.examples, "served": m.models}
        for m in plotted(size) for row in curve_rows(((m.name, ALL),), size, dict(runs))
    ]  # fmt: skip
