"""Where the two models of a pair part: the step, the weight, the bit, and what follows from it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nanorepro.analysis.lockstep import Lockstep, Position, equal, pauses
from nanorepro.backends.protocols import TracedModel
from nanorepro.config import Config
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.layers import Parameters
from nanorepro.numerics import numpy_arrays, ulp
from nanorepro.numerics.rounding import operations
from nanorepro.results.metrics import Prediction
from nanorepro.specification import ModelSpec

TRACED = 1 << 22  # numbers that a traced piece of training fills at most, of each model


@dataclass(frozen=True)
class Weight:
    """A parameter in which two models differ.

    Attributes
    ----------
    name, index : str, tuple of int
        Its array, such as "w0", and its place there.
    values : tuple of float
        What it is in the first and the second model.
    ulps : int or None
        Numbers of the format from one to the other; None where the two have different formats.
    bit : int or None
        The highest bit in which the two patterns differ, 0 for the last place.
    """

    name: str
    index: tuple[int, ...]
    values: tuple[float, float]
    ulps: int | None
    bit: int | None

    def __str__(self) -> str:
        at = ", ".join(map(str, self.index))
        apart = "" if self.ulps is None else f", {self.ulps} ulp apart, bit {self.bit}"
        return f"{self.name}[{at}]: {self.values[0]!r} and {self.values[1]!r}{apart}"


@dataclass(frozen=True)
class Parting:
    """Where the parameters of a pair differ first.

    Attributes
    ----------
    step : int
        Mini-batches that both were trained on; 0 if they start apart.
    weights : int
        Parameters that differ then.
    layers : dict of str to int
        How many of each array.
    first : Weight
        The first of them, in the order of the record, row by row.
    """

    step: int
    weights: int
    layers: dict[str, int]
    first: Weight


@dataclass(frozen=True)
class Branch:
    """Where an activation takes another branch in the two models for the first time.

    Attributes
    ----------
    step : int
        The mini-batch, counted from 0.
    example : int
        Its example, as its number in the pair's sequence.
    layer, unit : int
        The hidden unit, both counted from 0.
    values : tuple of float
        What the activation is taken of, in the two models.
    others : int
        Further units and examples of this mini-batch that take another branch.
    """

    step: int
    example: int
    layer: int
    unit: int
    values: tuple[float, float]
    others: int


@dataclass(frozen=True)
class LossParting:
    """The first mini-batch whose mean loss, rounded to float32, differs: step and both losses."""

    step: int
    values: tuple[float, float]


def difference(first: Parameters, second: Parameters) -> tuple[int, dict[str, int], Weight] | None:
    """How many parameters differ, how many of each array, and the first; None if none does."""
    found: dict[str, int] = {}
    at: Weight | None = None
    for name in first:
        a, b = first[name], second[name]
        apart = (a != b) & ~(np.isnan(a) & np.isnan(b))
        if not apart.any():
            continue
        found[name] = int(apart.sum())
        if at is None:
            index = tuple(int(k) for k in np.unravel_index(int(apart.argmax()), apart.shape))
            at = Weight(name, index, (float(a[index]), float(b[index])), *_bits(a[index], b[index]))
    return (sum(found.values()), found, at) if at is not None else None


def _bits(a: np.floating, b: np.floating) -> tuple[int | None, int | None]:
    """Numbers of the format between two floats, and their highest bit that differs."""
    if a.dtype != b.dtype:
        return None, None
    bits = np.array([a, b]).view(ulp.SIGNED[a.itemsize])
    one, other = ulp.places(bits)[:, None]
    differing = int((bits[:1] ^ bits[1:]).view(ulp.UNSIGNED[a.itemsize])[0])
    return int(ulp.apart(one, other)[0]), differing.bit_length() - 1


def bisect(pair: Lockstep, low: Sequence[Position], high: int) -> tuple[Parting, list[Position]]:
    """Where two models part that are equal where `low` says, and not at step `high`.

    Each replay halves what is left, so all of them together train on no more than `high` less low
    steps.  A pair that parts, meets and parts again between the two is found where it parts last
    or earlier; of one that stays apart it is the first step.

    Returns the parting and where the models are one step before.
    """
    positions, first = list(low), low[0].step
    while high - first > 1:
        middle = (first + high) // 2
        pair.go_back(positions)
        pair.go_on(middle)
        if equal(*pair.parameters()):
            positions, first = pair.positions(), middle
        else:
            high = middle
    pair.go_back(positions)
    pair.go_on(high)
    return parting(pair), positions


def parting(pair: Lockstep) -> Parting:
    """The parting of two models that differ, said of the step they are at."""
    found = difference(*pair.parameters())
    assert found is not None, "the two models are equal"
    return Parting(pair.step, *found)


def comparable(config: Config) -> bool:
    """Whether both models of a pair see the same examples in each mini-batch."""
    return config.log2_window == 0 or "shuffle" not in config.roles


def forward_may_differ(specs: Sequence[ModelSpec]) -> bool:
    """Whether equal parameters may give other outputs: by the dials, or by draws of their own."""
    config = specs[0].config
    return specs[0].dials != specs[1].dials or bool(config.roles & {"order", "rounding"})


class Events:
    """The first mini-batch in which a branch differs, and in which the rounded loss does.

    pair: two traced models, where they are looked at from
    """

    def __init__(self, pair: Lockstep):
        self.pair, self.config = pair, pair.specs[0].config
        self.branch: Branch | None = None
        self.loss: LossParting | None = None
        self.kinks = [branches_of(spec) for spec in pair.specs]
        self.units = [layer.fan_out for layer in pair.specs[0].net]
        self.active = sum(n for n, k in zip(self.units, pair.specs[0].net, strict=True) if k.active)

    @property
    def all_found(self) -> bool:
        has_branches = bool(ACTIVATIONS[self.config.act].kinks) and self.active > 0
        return self.loss is not None and (self.branch is not None or not has_branches)

    def look(self, until: int) -> None:
        """Look at the mini-batches up to a step, until both are found."""
        batch, width = self.config.batch, sum(self.units)
        longest = max(min(1 << 11, TRACED // width) // batch, 1)  # steps; then more
        while self.pair.step < until and not self.all_found:
            low = self.pair.step
            high = min(pauses(spec, low, min(low + longest, until))[0] for spec in self.pair.specs)
            self._look_at(low, high)
            longest = max(min(2 * longest, TRACED // width // batch), 1)

    def _look_at(self, low: int, high: int) -> None:
        traced, labels = [], np.empty(0)
        batch = self.config.batch
        for spec, model in zip(self.pair.specs, self.pair.models, strict=True):
            assert isinstance(model, TracedModel)
            places = self.pair.examples.places(spec, low, high)
            order = np.argsort(places.reshape(-1, batch), axis=1, kind="stable")
            order = (order + np.arange(0, len(places), batch)[:, None]).ravel()
            rows = [(model.trace(x, y), y) for x, y in self.pair.examples.pieces(spec, low, high)]
            traced.append(np.concatenate([z for z, _ in rows])[order])
            labels = np.concatenate([y for _, y in rows])[order]
            self.numbers = places[order]
            self.pair.report(len(places))
            self.pair.arrive(spec, model)
        if self.branch is None and self.active:
            self._find_branch(low, traced)
        if self.loss is None:
            self._find_loss(low, [z[:, -1] for z in traced], labels)

    def _find_branch(self, low: int, traced: Sequence[np.ndarray]) -> None:
        first, second = (
            kinks(z[:, : self.active]) for kinks, z in zip(self.kinks, traced, strict=True)
        )
        apart = first != second
        rows = apart.any(axis=1)
        if not rows.any():
            return
        batch = self.config.batch
        row = int(rows.argmax())
        step = row // batch
        here = apart[step * batch : (step + 1) * batch]
        column = int(apart[row].argmax())
        layer, unit = 0, column
        while unit >= self.units[layer]:
            unit -= self.units[layer]
            layer += 1
        self.branch = Branch(
            low + step,
            int(self.numbers[row]),
            layer,
            unit,
            (float(traced[0][row, column]), float(traced[1][row, column])),
            int(here.sum()) - 1,
        )

    def _find_loss(self, low: int, logits: Sequence[np.ndarray], y: np.ndarray) -> None:
        batch = self.config.batch
        a, b = (z.astype(np.float64).reshape(-1, batch) for z in logits)
        differ = np.flatnonzero((a != b).any(axis=1))
        for k in differ.tolist():
            labels = y.reshape(-1, batch)[k]
            one, other = (np.float32(mean_loss(z[k], labels)) for z in (a, b))
            if one != other and not (np.isnan(one) and np.isnan(other)):
                self.loss = LossParting(low + k, (float(one), float(other)))
                return


def mean_loss(z: np.ndarray, y: np.ndarray) -> float:
    """Mean log loss of logits (s,) for labels (s,) of 0 and 1, float64, its sum exactly rounded."""
    prediction = Prediction(z)
    losses = np.where(y == 1, prediction.softplus_minus, prediction.softplus)
    return math.fsum(losses.tolist()) / len(z) if np.isfinite(losses).all() else math.nan


def branches_of(spec: ModelSpec) -> Callable[[np.ndarray], np.ndarray]:
    """A function that gives for each z which formula of its activation it has: 0, 1, ..."""
    activation, d = ACTIVATIONS[spec.config.act], spec.dials
    scale = spec.config.beta if activation.uses_beta else 1.0
    const = operations(numpy_arrays, d.precision, d.rounding, d.fma).const
    edges = [const(kink * scale) for kink in activation.kinks]  # as the formulas have them

    def branch(z: np.ndarray) -> np.ndarray:
        found = np.zeros(z.shape, np.int8)
        for k, edge in enumerate(edges):
            found += (z > edge) if k == 0 else (z >= edge)
        return found

    return branch
