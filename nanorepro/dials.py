"""How the arithmetic of a model is done: the dials, as options and as one model has them.

What each dial does is said in docs/arithmetic.md, "Sums" and "Precision and rounding"; what it may
be, by the records of trees, orders, accumulators and formats.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from nanorepro.errors import wrong
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.formats import PRECISIONS, ROUNDINGS, significand_bits
from nanorepro.numerics.single_sums import accumulators_at, sites, text_of
from nanorepro.numerics.trees import LEAF_ORDERS, TREES, find_tree
from nanorepro.settings import setting, summaries


@dataclass(frozen=True)
class Dials:
    """How one model's arithmetic is done: the four dials of a sum, twice, and what they share.

    Parameters
    ----------
    leaf_order, tree, accumulator : str
        Of the sums over the mini-batch.
    unit_order, unit_tree, unit_accumulator : str
        Of the sums over units.
    accumulator_at : str
        Of single sums, where it is another one (`numerics.single_sums`).
    precision, rounding : str
        Of every operation.
    fma : bool
        Whether a product joins a sum unrounded.
    """

    leaf_order: str
    tree: str
    accumulator: str
    unit_order: str
    unit_tree: str
    unit_accumulator: str
    accumulator_at: str
    precision: str
    rounding: str
    fma: bool

    def accumulator_of(self, layer: int, kind: str) -> str:
        """The accumulator of one sum: `forward`, `backward` or `batch` of a layer."""
        usual = self.accumulator if kind == "batch" else self.unit_accumulator
        return accumulators_at(self.accumulator_at).get((layer, kind), usual)

    @property
    def other_accumulators(self) -> dict[tuple[int, str], str]:
        """The sums whose accumulator is not that of all sums of their kind."""
        named = accumulators_at(self.accumulator_at).items()
        usual = replace(self, accumulator_at="")
        return {site: name for site, name in named if name != usual.accumulator_of(*site)}


@dataclass(frozen=True, kw_only=True)
class DialSettings:
    """The dials of the arithmetic, for both models of a pair or `a,b`: a part of `Config`."""

    leaf_order: str = setting(
        "given",
        "order of the terms in a sum over the mini-batch; " + summaries(LEAF_ORDERS),
        shown=LEAF_ORDERS,
    )
    tree: str = setting(
        "chain", "tree of a sum over the mini-batch; " + summaries(TREES), shown=TREES
    )
    accumulator: str = setting(
        "plain",
        "accumulator of a sum over the mini-batch; " + summaries(ACCUMULATORS),
        shown=ACCUMULATORS,
    )
    unit_order: str = setting("given", "order of the terms in a sum over units", shown=LEAF_ORDERS)
    unit_tree: str = setting("chain", "tree of a sum over units", shown=TREES)
    unit_accumulator: str = setting("plain", "accumulator of a sum over units", shown=ACCUMULATORS)
    accumulator_at: str = setting(
        "",
        "accumulators of single sums in place of these: LAYER:SUM=ACCUMULATOR joined by +, as in"
        " 1:batch=exact+2:forward=kahan; layers from 0 at the inputs, SUM forward, backward or"
        " batch, the gradients by a layer's weights and biases",
    )
    precision: str = setting(
        "float32", "every operation's precision; p is 2 to 24 significand bits", shown=PRECISIONS
    )
    rounding: str = setting("nearest", "every operation's rounding", shown=ROUNDINGS)
    fma: str = setting(
        "on", "a product joins a sum unrounded (on) or rounded (off)", shown=("on", "off")
    )


def dials(config: DialSettings, model: int) -> Dials:
    """The dials of the first (0) or second (1) model of a pair; `a,b` gives a to the first."""
    values: dict[str, Any] = {}
    for f in fields(Dials):
        parts = str(getattr(config, f.name)).split(",")
        if len(parts) > 2:
            raise wrong(f.name, getattr(config, f.name), "one value, or two: one for each model")
        values[f.name] = parts[model % len(parts)]
    if values["fma"] not in ("on", "off"):
        raise wrong("fma", config.fma, "on or off")
    return Dials(**{**values, "fma": values["fma"] == "on"})


def check_dials(d: Dials, layers: int) -> None:
    """Raise ConfigError for a dial out of range or dials that contradict each other."""
    one_of = {
        "leaf_order": LEAF_ORDERS, "unit_order": LEAF_ORDERS, "rounding": ROUNDINGS,
        "accumulator": ACCUMULATORS, "unit_accumulator": ACCUMULATORS,
    }  # fmt: skip
    for name, allowed in one_of.items():
        if getattr(d, name) not in allowed:
            raise wrong(name, getattr(d, name), " or ".join(allowed))
    for name in ("tree", "unit_tree"):
        find_tree(name, getattr(d, name))
    at = accumulators_at(d.accumulator_at)
    if missing := set(at) - set(sites(layers)):
        right = f"layers from 0 to {layers - 1}, and backward from 1 on"
        raise wrong("accumulator_at", text_of({s: at[s] for s in missing}), right)
    try:
        p = significand_bits(d.precision)
    except ValueError:
        right = "float32, float64 or bits:p with p from 2 to 24"
        raise wrong("precision", d.precision, right) from None
    if p == 53:
        if d.rounding != "nearest":
            raise wrong("rounding", d.rounding, "nearest, the only one with {precision=float64}")
        used = {n: [getattr(d, n)] for n in ("accumulator", "unit_accumulator")}
        for name, values in (used | {"accumulator_at": [*at.values()]}).items():
            if any(ACCUMULATORS[value].below_float64 for value in values):
                others = " or ".join(n for n, a in ACCUMULATORS.items() if not a.below_float64)
                raise wrong(name, getattr(d, name), others + " with {precision=float64}")
