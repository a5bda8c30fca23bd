"""Where a model in training lies in memory: which parameter, activation and partial sum is where.

The units of the first layer and of large ones lie side by side, (examples, units).  Small layers
above them lie across, (units, examples): so a layer of a few units fills whole vectors, too.  What
padding holds never reaches a result.
"""

from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from nanorepro.config import Dials
from nanorepro.model.layers import Layer
from nanorepro.numerics import plans

LINE = 64  # bytes of a cache line
ROWS = 16  # rows of a large layer's weights that are updated together
SPARE = 1  # rows of zeros after the 32 of the first layer, for features that are not there
UNITS = 12  # of a layer, at most, whose weights and their gradients fit in the registers
BLOCK = 4096  # weights of a layer, at most, whose gradients wait for those of all layers


class Memory(NamedTuple):
    """What one model in training works on; arrays are flat unless a shape is given.

    w, a: parameters and optimizer state
    z, h, d: of every layer: before and after the activation, the gradient by z
    turned: h or δ of one layer the other way round; back: of some of its units
    rows: (examples, width), δ of the layers of a few units, side by side, and below them zeros
    outputs: likewise h, of those under another of them
    y: labels of the mini-batch; one: the number 1, and one that is huge
    g: gradients of the parameters, where they lie in w, and then those of a block of weights
    word, present: packed features of some examples, and of one; found: of all, in words;
    columns: packed examples of every feature
    like: of every example the first that has the same features
    on: of every 32 inputs of a large layer and every example, which h are not 0; then whether
    all its weights are moderate
    who: of every input of such a layer the examples for which it is not 0
    alive: the inputs that are not 0 for all examples, and then the units whose δ are not
    slots, wide_slots, bins, special, lane: partial sums of plans and of exact sums
    plan: (m, 2), of the sums over the mini-batch; units: those of the sums over units
    """

    w: np.ndarray
    a: np.ndarray
    z: np.ndarray
    h: np.ndarray
    d: np.ndarray
    turned: np.ndarray
    back: np.ndarray
    y: np.ndarray
    g: np.ndarray
    one: np.ndarray
    rows: np.ndarray
    outputs: np.ndarray
    word: np.ndarray
    present: np.ndarray
    found: np.ndarray
    columns: np.ndarray
    like: np.ndarray
    on: np.ndarray
    who: np.ndarray
    alive: np.ndarray
    slots: np.ndarray
    wide_slots: np.ndarray
    bins: np.ndarray
    special: np.ndarray
    lane: np.ndarray
    plan: np.ndarray
    units: np.ndarray


def allocate(wanted):
    """Zeros for each (shape, type) of a named tuple, out of one piece of memory, as such a tuple.

    Each array begins with a cache line, so that no vector lies on two: the deep model's step went
    from 33 to 29 µs an example, the wide one's from 720 to 570 ns.
    """
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in wanted]
    places = [LINE * k for k in accumulate((-(-n // LINE) for n in sizes), initial=0)]
    arena = np.zeros(places[-1] + LINE, np.uint8)
    begin = -arena.ctypes.data % LINE
    return type(wanted)(*(
        arena[begin + at :][:size].view(dtype).reshape(shape)
        for (shape, dtype), at, size in zip(wanted, places, sizes, strict=False)
    ))  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a layer lies in the memory; widths, strides and offsets in numbers.

    Of z, h and d: unit u of example i is at z + u·by_unit + i·by_example.  The weight of input j
    and unit u is at w + j·by_input + u·by_output; of embeddings u counts the units of one set, or
    where by_output > 1 those of all, and there is room for weights that are in no set.
    """

    layer: Layer
    across: bool  # (units, examples)
    alone: bool  # weights updated apart from the others, of a passing layer the biases, too
    passing: bool  # many units between few inputs and few outputs: its z, h and δ are not here
    shared: bool  # as the layer under it, of a few units, whose h are in rows, too
    fused: bool  # gradients, and δ of the layer under it, example by example
    row: int  # units, padded to whole vectors; of embeddings those of one set
    width: int  # units that an example takes, if they lie side by side
    lanes: int  # of a vector of units
    by_unit: int
    by_example: int
    by_input: int
    by_output: int
    w: int
    b: int
    z: int
    column: int  # of its first unit in the rows; -1: it is not there
    up: int  # first row of the unit plans, forward
    down: int  # and backward
    on: int  # of a large layer, its first word in `on`

    @property
    def weights(self) -> int:
        """Room for the weights."""
        if self.by_output > 1:
            return self.layer.fan_out * self.by_output
        return self.layer.fan_in * self.by_input


@dataclass(frozen=True)
class Map:
    """The places of all layers and the sizes of the memory's arrays.

    The parameters from `small` on are updated together, at the end of a step; those before, each
    layer by itself, as soon as gradients are there.
    """

    places: tuple[Place, ...]
    examples: int  # of a mini-batch, padded to whole vectors
    small: int
    parameters: int
    block: int  # gradients that are held besides
    biases: int  # where those of the layers of a few units begin
    units: int  # of these layers
    width: int  # of a row of their δ or h; 0 where no gradient needs rows
    outputs: int  # units, the first of these, whose h are in rows
    rows: int
    turned: int
    on: int
    most: int  # inputs or units of a large layer, at most
    activations: int
    unit_rows: int
    slots: int


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def lanes_for(n: int, longest: int) -> int:
    """Lanes of the vectors that hold n numbers side by side."""
    return min(longest, 1 << (n - 1).bit_length())


def whole_vectors(n: int, longest: int) -> int:
    """Room for n numbers side by side as vectors, of many numbers four vectors at a time."""
    return round_up(n, lanes_for(n, longest) if n < 4 * longest else 4 * longest)


def spaced(width: int, longest: int) -> int:
    """From one row to the next: 2048 bytes apart all would lie in a few sets of the cache."""
    return width if width % (32 * longest) else width + longest


def terms_of(layer: Layer) -> tuple[int, int]:
    """Terms of the sums over units of a layer, forward and backward."""
    return layer.fan_in // layer.sets, layer.fan_out


def along_inputs(layer: Layer, turning: bool, longest: int) -> bool:
    """Whether the vectors of a small layer's gradients lie along its inputs, not its units.

    Where that takes fewer of them; turning the inputs round first costs about eight for each.
    """
    inputs, units = -(-layer.fan_in // longest), -(-layer.fan_out // longest)
    return layer.fan_out * inputs + 8 * turning * inputs < layer.fan_in * units


@dataclass(frozen=True)
class Ways:
    """What the dials and the first layer allow."""

    narrow: bool  # the first layer has few units, and its weights lie along the features
    sparse: bool  # it is taken example by example
    plain: bool  # sums over units are plain chains
    tiled: bool  # sums over the mini-batch stay in registers
    chain: bool  # and are chains
    passing: bool  # a layer may be a passing one


def make_map(net: tuple[Layer, ...], batch: int, longest: int, dials: Dials, ways: Ways) -> Map:
    """Lay out the memory of a model; vectors have `longest` lanes at most."""
    narrow = ways.narrow
    across = narrow or (ways.plain and net[0].fan_out <= longest and not ways.sparse)
    in_rows = across and not narrow and net[0].fan_out > 1
    examples = round_up(batch, 32 if across else longest)
    places: list[Place] = []
    units = turned = unit_rows = outputs = on = 0
    slots = plans.plan_slots(dials.tree, batch)
    for k, layer in enumerate(net):
        row = whole_vectors(layer.row, longest)
        alone = row >= longest or narrow if k == 0 else layer.fan_in * row > BLOCK
        across = across if k == 0 else not alone
        few = across and (k == 0 or layer.fan_out < longest)
        width = row * layer.sets
        by_input, by_output = row if k == 0 or across else spaced(width, longest), 1
        shared = fused = False
        if k == 0 and narrow:
            by_input, by_output = 1, round_up(layer.fan_in, 32)
        elif k and across:
            under = places[-1]
            shared = ways.tiled and few and under.column >= 0 and (in_rows or layer.fan_out > 1)
            outputs = units if shared else outputs
            if not shared and along_inputs(layer, under.across, longest):
                by_input, by_output = 1, whole_vectors(layer.fan_in, longest)
            fused = ways.sparse and ways.chain and k == 1 and layer.fan_out <= UNITS
            fused = fused and by_output == longest
            in_rows |= few and by_output == 1 and layer.fan_out > 1
            turned = max(turned, 0 if under.across else layer.fan_in * examples)
        elif k:
            turned = max(turned, layer.fan_out * examples)
        rows = [plans.plan_rows(dials.unit_tree, n) for n in terms_of(layer)]
        slots = max(slots, *(plans.plan_slots(dials.unit_tree, n) for n in terms_of(layer)))
        by_unit, by_example = (examples, 1) if across else (1, spaced(width, longest))
        places.append(
            Place(layer, across, alone, False, shared, fused, row, width,
                  lanes_for(layer.row, longest), by_unit, by_example, by_input, by_output, 0, 0, 0,
                  units if few else -1, unit_rows, unit_rows + rows[0], on)
        )  # fmt: skip
        on += 0 if across else 1 + round_up(layer.fan_in, 32) // 32 * round_up(batch, 32)
        units += layer.fan_out if few else 0
        unit_rows += sum(rows)
    for k in range(1, len(places) - 1):
        under, place, over = places[k - 1 : k + 2]
        many = place.across and place.width >= 4 * longest and place.by_output == 1
        rows = place.layer.fan_in + 1 + over.layer.fan_out  # updated beside a mini-batch's sums
        few = under.across and rows <= min(batch, longest) and over.column >= 0
        if ways.passing and many and few and over.by_output > 1:
            places[k] = replace(place, passing=True, alone=True, on=on)
            on += place.layer.fan_out * -(-batch // 32)
            places[k + 1] = replace(over, alone=True)
    small = w = 0
    for alone in (True, False):
        small = w
        for k, place in enumerate(places):
            if place.alone == alone:
                room = max(place.weights, (32 + SPARE) * place.by_input * (k == 0))
                b = round_up(w + room, longest)
                places[k] = replace(place, w=w, b=b)
                w = round_up(b + place.width * place.passing, longest)
    biases, b = w, w + round_up(units, longest)
    z = round_up(units, longest) * examples
    for k, place in enumerate(places):
        if place.column >= 0:
            places[k] = replace(place, b=biases + place.column, z=place.column * examples)
        elif not place.passing:
            places[k] = replace(place, b=b, z=z)
            b = round_up(b + place.width, longest)
            # below the rows of 32 examples one of zeros, for examples that are not there
            rows = max(batch, 32) + SPARE
            size = place.width * examples if place.across else rows * place.by_example
            z = round_up(z + size, longest)
    width = spaced(round_up(units, longest), longest) if in_rows else 0
    block = 2 * ROWS * max(p.by_input for p in places)
    large = [p.layer for p in places[1:] if not p.across]
    most = max((max(layer.fan_in, layer.fan_out) for layer in large), default=0)
    return Map(
        tuple(places), examples, small, b, block, biases, units,
        width, outputs, (examples + 2) * width, turned, on, round_up(most, 32),
        z + 4 * longest * examples, unit_rows, slots,
    )  # fmt: skip


def flat_lanes(n: int, longest: int) -> int:
    """Lanes of the vectors that n elements side by side fill exactly."""
    return min(longest, n & -n)
