"""The order of a sum on the device: fixed, or drawn there for some steps at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device, Loaded
from nanorepro.backends.cuda.program import draws_order, fixed_order, ordered_plan
from nanorepro.numerics.plans import is_drawn, plan_rows, plan_slots

BYTES = 1 << 26  # of drawn plans at a time, about
THREADS = 128


@dataclass
class Plans:
    """The plans of a sum of n terms for some models.

    keys: (models, 2) uint32 on the device, of the stream that they are drawn from; step t of the
    training takes the plan of block t·stride + offset.
    """

    device: Device
    streams: Loaded
    tree: str
    leaf_order: str
    n: int
    keys: Any
    models: int
    stride: int
    offset: int

    def __post_init__(self) -> None:
        self.length, self.slots = plan_rows(self.tree, self.n), plan_slots(self.tree, self.n)
        self.draws_tree, self.draws_order = is_drawn(self.tree), draws_order(self.leaf_order)
        self.drawn = self.draws_tree or self.draws_order
        self.first = self.count = 0
        fixed = np.zeros((1, 2), np.int32)
        if not self.draws_tree:
            # the leaves of one whose order is drawn stay as the tree has them
            order = "given" if self.draws_order else self.leaf_order
            fixed = ordered_plan(self.tree, order, self.n)
        self.rows, self.fixed = fixed, self.device.array(fixed)
        self.terms = self.device.array(fixed_order(self.leaf_order, self.n))

    @property
    def together(self) -> int:
        """Steps whose plans are drawn at a time."""
        each = self.models * (8 * self.length + 8 * self.n)
        return max(1, min(4096, BYTES // each)) if self.drawn else 1 << 20

    def prepare(self, first: int, steps: int) -> None:
        """Have the plans of the steps from `first` on at hand."""
        if not self.drawn or (self.first <= first and first + steps <= self.first + self.count):
            return
        self.first, self.count = first, steps
        self.plans = self.device.empty((self.models, steps, self.length, 2), np.int32)
        spare = self.device.empty((self.models, steps, 2, self.n), np.uint32)
        self.streams.launch(
            "make_plans", (-(-steps // THREADS), self.models), THREADS,
            [
                self.keys, np.uint64(first * self.stride + self.offset), np.uint64(self.stride),
                self.fixed, np.uint32(self.draws_tree), self.terms, np.uint32(self.draws_order),
                np.uint32(self.n), np.uint32(self.length), np.uint32(steps), self.plans, spare,
            ],
        )  # fmt: skip

    def arguments(self, step: int) -> list[Any]:
        """What a kernel is told of the plan of a step."""
        if not self.drawn:
            numbers = (0, 0, self.length, self.slots)
            return [self.fixed, *map(np.uint32, numbers)]
        numbers = (self.count, step - self.first, self.length, self.slots)
        return [self.plans, *map(np.uint32, numbers)]
