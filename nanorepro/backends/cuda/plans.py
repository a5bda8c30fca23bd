"""The order of a sum on the device: fixed, or drawn there for some steps at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device, Loaded
from nanorepro.backends.cuda.program import LEAF_ORDERS
from nanorepro.numerics.plans import fixed_plan, plan_rows, plan_slots

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
        self.drawn = "random" in (self.tree, self.leaf_order)
        self.first = self.count = 0
        fixed = np.zeros((1, 2), np.int32)
        if self.tree != "random":
            fixed = fixed_plan(self.tree, self.n).astype(np.int32)
            if self.leaf_order == "reversed":
                leaves = fixed[:, 1] >= 0
                fixed[leaves, 1] = self.n - 1 - fixed[leaves, 1]
        self.fixed = self.device.array(fixed)

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
        order = LEAF_ORDERS.index(self.leaf_order)
        # the leaves of a drawn tree are in order where the fixed one has been turned already
        self.streams.launch(
            "make_plans", (-(-steps // THREADS), self.models), THREADS,
            [
                self.keys, np.uint64(first * self.stride + self.offset), np.uint64(self.stride),
                self.fixed, np.uint32(order), np.uint32(self.n), np.uint32(self.length),
                np.uint32(steps), self.plans, spare, np.uint32(self.tree == "random"),
            ],
        )  # fmt: skip

    def arguments(self, step: int) -> list[Any]:
        """What a kernel is told of the plan of a step."""
        if not self.drawn:
            numbers = (0, 0, self.length, self.slots)
            return [self.fixed, *map(np.uint32, numbers)]
        numbers = (self.count, step - self.first, self.length, self.slots)
        return [self.plans, *map(np.uint32, numbers)]
