"""Where a model in training lies in memory: which parameter, activation and partial sum is where.

The activations of a layer are (batch, pitch) with the units side by side; `width` is the number of
units, padded to full vectors, and `pitch` the distance of one example's units from the next one's.
What padding holds never reaches a result.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nanorepro import summation
from nanorepro.backends.simd import function, pointer
from nanorepro.config import Dials
from nanorepro.network import Layer

BLOCK = 4096  # weights of a layer, at most, whose gradients wait for those of all layers


class Memory(NamedTuple):
    """What one model in training works on; arrays are flat unless a shape is given.

    w, a: parameters and optimizer state, layer after layer, weights before biases
    wt: small dense weights transposed, (fan_out, pitch below) each, for sums along the inputs
    z, h, d: (batch, pitch) of every layer: before and after the activation, the gradient by z
    turned, back: δ of a layer, and of some units of the layer below it, (units, batch)
    y: labels of the mini-batch; one: the number 1
    g: gradients of the parameters, where they lie in w, and then those of a block of weights
    rows: (batch, width) the gradients by z of the short layers side by side
    word, present: packed features of some examples, and of one; columns: packed examples of
    every feature; few: 32 sums
    slots, wide_slots, bins, special, lane: partial sums of plans and of exact sums
    plan: (m, 2), of the sums over the mini-batch; units: those of the sums over units
    """

    w: np.ndarray
    a: np.ndarray
    wt: np.ndarray
    z: np.ndarray
    h: np.ndarray
    d: np.ndarray
    turned: np.ndarray
    back: np.ndarray
    y: np.ndarray
    g: np.ndarray
    one: np.ndarray
    rows: np.ndarray
    word: np.ndarray
    present: np.ndarray
    columns: np.ndarray
    few: np.ndarray
    slots: np.ndarray
    wide_slots: np.ndarray
    bins: np.ndarray
    special: np.ndarray
    lane: np.ndarray
    plan: np.ndarray
    units: np.ndarray


@function
def pointers(m):
    """The memory as pointers, which is how the stages see it."""
    return Memory(
        pointer(m.w),
        pointer(m.a),
        pointer(m.wt),
        pointer(m.z),
        pointer(m.h),
        pointer(m.d),
        pointer(m.turned),
        pointer(m.back),
        pointer(m.y),
        pointer(m.g),
        pointer(m.one),
        pointer(m.rows),
        pointer(m.word),
        pointer(m.present),
        pointer(m.columns),
        pointer(m.few),
        pointer(m.slots),
        pointer(m.wide_slots),
        pointer(m.bins),
        pointer(m.special),
        pointer(m.lane),
        pointer(m.plan),
        pointer(m.units),
    )


@dataclass(frozen=True)
class Place:
    """Where a layer lies in the memory; widths and offsets in numbers."""

    layer: Layer
    below: int  # pitch of the layer below
    width: int
    row: int  # length of one input's row of weights, and of one set
    pitch: int  # from one example's units to the next one's; in dense layers one input's weights'
    lanes: int
    alone: bool  # weights updated apart from the others
    short: bool  # a row of units is one vector
    w: int
    b: int
    wt: int
    z: int
    z_below: int
    up: int  # first row of the unit plans, forward
    down: int  # and backward


@dataclass(frozen=True)
class Map:
    """The places of all layers and the sizes of the memory's arrays.

    The parameters from `small` on are updated together, at the end of a step; those before, each
    layer by itself, as soon as gradients are there.
    """

    places: tuple[Place, ...]
    small: int
    parameters: int
    block: int  # gradients that are held besides
    transposed: int
    turned: int  # units whose δ is transposed, at most
    activations: int
    unit_rows: int
    slots: int

    @property
    def short(self) -> tuple[Place, ...]:
        """The layers whose biases lie side by side at the end: all but the wide ones."""
        return tuple(p for p in self.places if p.layer.bias and p.short)


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def whole_vectors(n: int, longest: int) -> int:
    """Room for n numbers side by side as whole vectors."""
    return round_up(n, longest if n < 4 * longest else 4 * longest)


def terms_of(layer: Layer) -> tuple[int, int]:
    """Terms of the sums over units of a layer, forward and backward."""
    return layer.fan_in // layer.sets, layer.fan_out


def make_map(net: tuple[Layer, ...], batch: int, longest: int, dials: Dials) -> Map:
    """Lay out the memory of a model; vectors have `longest` lanes at most."""
    places: list[Place] = []
    below = wt = z = z_below = units = 0
    slots = summation.plan_slots(dials.tree, batch)
    for k, layer in enumerate(net):
        lanes = min(longest, 1 << (layer.row - 1).bit_length())
        row = (
            whole_vectors(layer.row, longest) if layer.row > longest else round_up(layer.row, lanes)
        )
        width = row * layer.sets
        # rows 2048 bytes apart would all lie in the same few sets of the first-level cache
        pitch = width if width % (32 * longest) else width + longest
        rows = [summation.plan_rows(dials.unit_tree, n) for n in terms_of(layer)]
        slots = max(slots, *(summation.plan_slots(dials.unit_tree, n) for n in terms_of(layer)))
        down = units + rows[0]
        alone = row >= longest if k == 0 else layer.fan_in * width > BLOCK
        places.append(
            Place(layer, below, width, row, pitch, lanes, alone, width <= longest, 0, 0, wt, z,
                  z_below, units, down)
        )  # fmt: skip
        wt += 0 if k == 0 or alone else layer.fan_out * below
        z_below, z = z, z + round_up(batch * pitch, longest)
        below, units = pitch, units + sum(rows)
    w = small = 0
    for alone in (True, False):
        small = w
        for k, place in enumerate(places):
            if place.alone == alone:
                places[k] = replace(place, w=w)
                row = place.pitch if k else place.row
                size = (
                    whole_vectors(place.layer.fan_in, longest)
                    if row == 1
                    else place.layer.fan_in * row
                )
                w = round_up(w + size, longest)
    for short in (False, True):
        for k, place in enumerate(places):
            if place.layer.bias and place.short == short:
                places[k] = replace(places[k], b=w)
                w += place.width
        w = round_up(w, longest)
    block = max(16 * place.pitch for place in places)
    turned = max((p.layer.fan_out for p in places if p.alone), default=0)
    return Map(tuple(places), small, w, block, wt, turned, z + longest, units, slots)


def flat_lanes(n: int, longest: int) -> int:
    """Lanes of the vectors that n elements side by side fill exactly."""
    return min(longest, n & -n)
