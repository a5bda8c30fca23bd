"""Models with the same dials, trained side by side on the GPU."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device, Loaded
from nanorepro.backends.cuda.plans import Plans
from nanorepro.backends.cuda.program import LANES, OWNED, all_exact, program_of, streams
from nanorepro.backends.protocols import State
from nanorepro.model.layers import Parameters
from nanorepro.model.optimizers import OPTIMIZERS, learning_rates
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.rounding import operations
from nanorepro.specification import ModelSpec, compile_key

THREADS = 128
# `tiles.cu`: sums and terms of a tile; how many sums of how many terms are worth tiles
LARGE, NARROW = (128, 32, 32), (4, 32, 128)
MANY, SOME, LONG = 1 << 10, 16, 128
# weights times examples of a mini-batch up to which a block trains a model, and its most threads
BLOCK_WORK, BLOCK_THREADS = 1 << 20, 512
SPARE = 1 << 28  # bytes of partial sums at most
PATTERNS = 1 << 22  # activations of an evaluation at a time, about
# examples of each model between two moments in which Ctrl-C is heard, where a launch takes many
# steps in shared memory, and elsewhere
CHUNK, PIECE = 1 << 17, 1 << 13


def pairs_of(keys: Sequence[np.ndarray], dtype: Any) -> np.ndarray:
    """Keys as rows of two numbers."""
    return np.array([[int(word) for word in key] for key in keys], dtype)


def tiles_for(m: int, n: int, terms: int) -> str:
    """Which tiles suit m x n sums of so many terms, if any."""
    if m <= NARROW[0] and terms >= LONG:
        return "narrow"
    return "large" if m * n >= MANY and m >= LARGE[1] and terms >= SOME else ""


class Ensemble:
    """Models that have one Config and equal dials, with their parameters, at one step.

    Everything lies on the device: their memory (models, 1 + states, parameters), and what a step
    needs besides.
    """

    def __init__(self, device: Device, specs: Sequence[ModelSpec], records: Sequence[Parameters]):
        self.device, self.specs, self.step = device, tuple(specs), 0
        self.config, self.dials = specs[0].config, specs[0].dials
        self.models, self.batch = len(specs), self.config.batch
        self.real = specs[0].real
        key = compile_key(self.config)
        self.program = program_of(key, self.dials, specs[0].features, self.real)
        self.shape, self.dtype = self.program.shape, self.program.formulas.dtype
        self.streams = device.compile(streams())
        small = self.program.small and self.program.shared <= device.shared
        self.small = device.compile(self.program.small) if small else None
        # without tiles, which training has; evaluating takes little
        layers = self.program.forward if small else self.program.layers
        self.layers = device.compile(layers)
        d = self.dials
        self.const = operations(numpy_arrays, d.precision, d.rounding, d.fma).const
        starts = self.program.formulas.starts
        memory = np.zeros((self.models, 1 + len(starts), self.shape.parameters), self.dtype)
        for k, start in enumerate(starts):
            memory[:, 1 + k] = start
        self.memory = device.array(self._with_parameters(memory, records))
        self.keys = device.array(pairs_of([s.key("rounding") for s in specs], np.uint64))
        self.order_keys = device.array(pairs_of([s.key("order") for s in specs], np.uint32))

    def _with_parameters(self, memory: np.ndarray, records: Sequence[Parameters]) -> np.ndarray:
        """The memory with these parameters, the optimizer's state as it is."""
        for of_model, record in zip(memory, records, strict=True):
            for name, (at, _) in self.shape.places().items():
                value = self.const(np.asarray(record[name], np.float64))
                of_model[0, at : at + value.size] = np.reshape(value, -1)
        return memory

    def set_parameters(self, records: Sequence[Parameters]) -> None:
        """Take other parameters, those of each model; optimizer state and step stay."""
        memory = self.device.get(self.memory).copy()
        self.memory = self.device.array(self._with_parameters(memory, records))

    def _record(self, row: np.ndarray) -> Parameters:
        """The named arrays of a row of the memory, as views in their own shapes."""
        return {
            name: row[at : at + int(np.prod(shape))].reshape(shape)
            for name, (at, shape) in self.shape.places().items()
        }

    def parameters(self) -> list[Parameters]:
        """A copy of each model's parameters."""
        return [parameters for parameters, _ in self.records()]

    def records(self) -> list[tuple[Parameters, State]]:
        """A copy of each model's parameters and of its optimizer's state."""
        names = OPTIMIZERS[self.config.optimizer].state
        found: list[tuple[Parameters, State]] = []
        for rows in self.device.get(self.memory):
            parameters, *state = ({k: v.copy() for k, v in self._record(r).items()} for r in rows)
            found.append((parameters, dict(zip(names, state, strict=True))))
        return found

    def restore(self, step: int, records: Sequence[tuple[Parameters, State]]) -> None:
        """Be at a step with these bits, each model's, which models of these specifications gave."""
        self.step = step
        memory = self.device.get(self.memory)
        for rows, (parameters, state) in zip(memory, records, strict=True):
            for row, record in zip(rows, (parameters, *state.values()), strict=True):
                for name, view in self._record(row).items():
                    view[:] = record[name]
        self.memory = self.device.array(memory)

    def _plans(
        self, tree: str, leaf_order: str, exact: bool, n: int, stream: str, block: tuple[int, int]
    ) -> Plans:
        if exact:  # no order changes a bit of the exact sum
            tree, leaf_order = "chain", "given"
        keys = pairs_of([s.key("order", stream) for s in self.specs], np.uint32)
        return Plans(
            self.device, self.streams, tree, leaf_order, n, self.device.array(keys), self.models,
            *block,
        )  # fmt: skip

    @cached_property
    def batch_plans(self) -> Plans:
        """Of the sums over the mini-batch."""
        d = self.dials
        exact = all_exact(d, len(self.shape.net), over_batch=True)
        return self._plans(d.tree, d.leaf_order, exact, self.batch, "order", (1, 0))

    @cached_property
    def unit_plans(self) -> list[tuple[Plans, Plans]]:
        """Of the sums over units, forward and backward, of each layer."""
        d, count = self.dials, 2 * len(self.shape.net)

        def plans(n: int, block: int) -> Plans:
            exact = all_exact(d, len(self.shape.net), over_batch=False)
            return self._plans(d.unit_tree, d.unit_order, exact, n, "units", (count, block))

        return [
            (plans(layer.fan_in // layer.sets, 2 * k), plans(layer.fan_out, 2 * k + 1))
            for k, layer in enumerate(self.shape.net)
        ]

    @cached_property
    def activations(self) -> tuple[Any, Any, Any]:
        """z, h and the deltas of a mini-batch."""
        size = (self.models, self.shape.all_units, self.batch)
        z, h, d = (self.device.empty(size, self.dtype) for _ in range(3))
        return z, h, d

    @cached_property
    def masks(self) -> Any:
        """Which examples of a mini-batch have each feature, of at most 32 of both."""
        return self.device.empty((self.models, LANES), np.uint32)

    def _grid(self, outputs: int, slots: int = 1, size: int = 0) -> tuple[tuple[int, int], Any]:
        """Blocks for so many results of each model, and memory for their partial sums."""
        blocks = -(-outputs // THREADS)
        if slots == 1:
            return (min(blocks, 1 << 20), self.models), self._spare(0)
        most = max(1, SPARE // (slots * size * THREADS * self.models))
        blocks = min(blocks, most)
        return (blocks, self.models), self._spare(blocks * self.models * THREADS * slots * size)

    def _spare(self, size: int) -> Any:
        if size > self._spare_size or not self._spare_size:
            self._spare_size = max(size, 16)
            self._spare_memory = self.device.empty((self._spare_size,), np.uint8)
        return self._spare_memory

    _spare_size, _spare_memory = 0, None

    def forward(
        self, rows: Any, stride: int, first: int, words: int, z: Any, h: Any, n: int
    ) -> None:
        """z and h of n examples in all layers."""
        end = [self.keys, np.uint64(self.step)]
        for k, layer in enumerate(self.shape.net):
            tiles = tiles_for(layer.fan_out, n, layer.fan_in) if k else ""
            if tiles and self.program.by_tiles[k, "forward"] and self.small is None:
                grid = self._tile_grid(tiles, layer.fan_out, n)
                self.layers.launch(f"forward_{tiles}", grid, THREADS, [
                    np.uint32(k), self.memory, z, h, np.uint32(n), *end,
                ])  # fmt: skip
                continue
            plans = self.unit_plans[k][0]
            size = self.program.formulas.unit_bytes
            each = 4 if k == 0 and self.program.fours else 1
            grid, spare = self._grid(layer.fan_out * n // each, plans.slots, size)
            self.layers.launch("forward", grid, THREADS, [
                np.uint32(k), self.memory, rows, np.uint64(stride), np.uint64(first),
                np.uint32(words), z, h, np.uint32(n), *plans.arguments(self.step), spare, *end,
            ])  # fmt: skip

    def _tile_grid(self, tiles: str, m: int, n: int) -> tuple[int, int]:
        height, width = (LARGE if tiles == "large" else NARROW)[:2]
        return -(-m // height) * -(-n // width), self.models

    def joined(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Rows (n, words + 1) uint32 of features, and labels (n,), as the kernels read them.

        x: (n, words) uint32 packed, or (n, features) float32, which are rounded to the precision
        """
        if self.real:
            x = np.asarray(self.const(x), np.float32).view(np.uint32)
        return np.concatenate([x, y[:, None]], axis=1, dtype=np.uint32, casting="unsafe")

    def train(self, rows: Any, stride: int, first: int, words: int, steps: int) -> None:
        """Train on so many mini-batches from the example `first` of each model's rows on.

        rows: features and label of each example, words + 1 numbers of uint32, as `joined` has them;
        those of the models are `stride` numbers apart (0: all see the same).
        """
        most = max(1, (PIECE if self.small is None else CHUNK) // self.batch)
        for done in range(0, steps, most):
            if done:
                self.device.synchronize()  # where Ctrl-C is heard
            some = min(most, steps - done)
            self._train_some(rows, stride, first + done * self.batch, words, some)

    def _train_some(self, rows: Any, stride: int, first: int, words: int, steps: int) -> None:
        """Train on as many mini-batches as are launched without a wait."""
        if self.small is not None:
            self._train_small(self.small, rows, stride, first, steps)
            return
        most = min(p.together for p in self._all_plans())
        for done in range(0, steps, most):
            some = min(most, steps - done)
            for plans in self._all_plans():
                plans.prepare(self.step, some)
            self._train(rows, stride, first + done * self.batch, words, some)

    def _train_small(self, small: Loaded, rows: Any, stride: int, first: int, steps: int) -> None:
        rates, many = self._rates(steps)
        small.launch(self.program.kernel, (self.models, 1), self.program.threads, [
            self.memory, rows, np.uint64(stride), np.uint64(first), rates, np.uint32(many),
            np.uint32(steps), self.keys, self.order_keys, np.uint64(self.step),
        ], self.program.shared)  # fmt: skip
        self.step += steps

    def _all_plans(self) -> list[Plans]:
        return [self.batch_plans, *(p for both in self.unit_plans for p in both)]

    def _rates(self, steps: int) -> tuple[Any, int]:
        """The rates of the next steps on the device, and their number: one of all, or each."""
        rates = np.asarray(self.const(learning_rates(self.config, self.step, steps)), self.dtype)
        return self.device.array(rates), len(rates)

    def _train(self, rows: Any, stride: int, first: int, words: int, steps: int) -> None:
        rates, many = self._rates(steps)
        if self.one_block:
            self._train_block(rows, stride, first, words, steps, rates, many)
            return
        z, h, d = self.activations
        n, net = np.uint32(self.batch), self.shape.net
        for s in range(steps):
            where = [np.uint64(stride), np.uint64(first + s * self.batch), np.uint32(words)]
            end = [self.keys, np.uint64(self.step)]
            self.forward(rows, stride, first + s * self.batch, words, z, h, self.batch)
            grid, _ = self._grid(self.batch)
            self.layers.launch("output", grid, THREADS, [rows, *where, z, d, self.masks, n, *end])
            for k in range(len(net) - 1, 0, -1):
                if k in self.program.owned:
                    grid = net[k].fan_in // OWNED, self.models
                    self.layers.launch("backward_descend", grid, THREADS, [
                        np.uint32(k), self.memory, z, h, d, *end, rates, np.uint32(s % many),
                    ])  # fmt: skip
                else:
                    self._backward(k, z, d)
            self._descend(rows, where, h, d, rates, s % many)
            self.step += 1

    @cached_property
    def one_block(self) -> bool:
        """Whether a block is enough for a model, so that a launch takes many steps."""
        fixed = not any(plans.drawn for both in self.unit_plans for plans in both)
        return fixed and self.shape.parameters * self.batch <= BLOCK_WORK

    @cached_property
    def block_plans(self) -> tuple[Any, Any]:
        """The plans of all layers' sums over units in one array, and a table of where they are."""
        both = [plans for pair in self.unit_plans for plans in pair]
        starts = np.cumsum([0, *(plans.length for plans in both)])
        table = [(at, p.length, p.slots) for at, p in zip(starts[:-1], both, strict=True)]
        rows = np.concatenate([plans.rows for plans in both])
        return self.device.array(rows), self.device.array(np.array(table, np.uint32))

    def _train_block(
        self, rows: Any, stride: int, first: int, words: int, steps: int, rates: Any, many: int
    ) -> None:
        f = self.program.formulas
        slots = max(plans.slots for pair in self.unit_plans for plans in pair)
        most = max(layer.fan_out * max(self.batch, layer.fan_in) for layer in self.shape.net)
        threads = min(BLOCK_THREADS, -(-most // LANES) * LANES)
        threads = THREADS if self.program.tiled else threads  # as the tiles have
        each = self.models * threads
        units = self.device.empty((each * slots * f.unit_bytes,), np.uint8)
        batches = self.device.empty((each * self.batch_plans.slots * f.batch_bytes,), np.uint8)
        self.layers.launch("train_block", (1, self.models), threads, [
            self.memory, rows, np.uint64(stride), np.uint64(first), np.uint32(words),
            *self.activations, self.masks, np.uint32(self.batch), *self.block_plans,
            *self.batch_plans.arguments(self.step), units, batches, self.keys, np.uint64(self.step),
            rates, np.uint32(many), np.uint32(steps),
        ])  # fmt: skip
        self.step += steps

    def _backward(self, k: int, z: Any, d: Any) -> None:
        """The deltas of the layer below layer k."""
        layer, n = self.shape.net[k], self.batch
        end = [self.keys, np.uint64(self.step)]
        tiles = tiles_for(layer.fan_in, n, layer.fan_out)
        if tiles and self.program.by_tiles[k, "backward"]:
            grid = self._tile_grid(tiles, layer.fan_in, n)
            self.layers.launch(f"backward_{tiles}", grid, THREADS, [
                np.uint32(k), self.memory, z, d, np.uint32(n), *end,
            ])  # fmt: skip
            return
        plans, size = self.unit_plans[k][1], self.program.formulas.unit_bytes
        grid, spare = self._grid(layer.fan_in * n, plans.slots, size)
        self.layers.launch("backward", grid, THREADS, [
            np.uint32(k), self.memory, z, d, np.uint32(n), *plans.arguments(self.step), spare,
            *end,
        ])  # fmt: skip

    @cached_property
    def by_tiles(self) -> tuple[list[int], Any]:
        """How many weights of each layer `descend` leaves to others, on the host and the device."""
        found = [
            layer.fan_in * layer.fan_out
            if k in self.program.owned or k and self.program.by_tiles[k, "batch"]
            and tiles_for(layer.fan_out, layer.fan_in, self.batch) == "large" else 0
            for k, layer in enumerate(self.shape.net)
        ]  # fmt: skip
        return found, self.device.array(np.array(found, np.uint32))

    def _descend(self, rows: Any, where: list[Any], h: Any, d: Any, rates: Any, rate: int) -> None:
        """The gradients, and the update of all weights and biases."""
        n = np.uint32(self.batch)
        end = [self.keys, np.uint64(self.step), rates, np.uint32(rate)]
        host, there = self.by_tiles
        for k, layer in enumerate(self.shape.net):
            if host[k] and k not in self.program.owned:
                grid = self._tile_grid("large", layer.fan_out, layer.fan_in)
                self.layers.launch("descend_large", grid, THREADS, [
                    np.uint32(k), self.memory, h, d, n, *end,
                ])  # fmt: skip
        most = max(
            layer.fan_in * layer.row + layer.fan_out - done
            for layer, done in zip(self.shape.net, host, strict=True)
        )
        plans, size = self.batch_plans, self.program.formulas.batch_bytes
        grid, spare = self._grid(most, plans.slots, size)
        self.layers.launch("descend", grid, THREADS, [
            self.memory, rows, *where, h, d, self.masks, n, *plans.arguments(self.step), spare,
            *end, there,
        ])  # fmt: skip

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (models, n) of examples (n, words or features), the same for all models."""
        count, words = x.shape
        for plans in (p for both in self.unit_plans for p in both):
            plans.prepare(self.step, 1)
        rows = self.device.array(self.joined(x, np.zeros(count)))
        units = self.shape.all_units
        piece = max(1, min(count, PATTERNS // (units * self.models)))
        z, h = (self.device.empty((self.models, units, piece), self.dtype) for _ in range(2))
        found = self.device.empty((self.models, count), self.dtype)
        for first in range(0, count, piece):
            n = min(piece, count - first)
            if n < piece:
                z, h = (self.device.empty((self.models, units, n), self.dtype) for _ in range(2))
            self.forward(rows, 0, first, words, z, h, n)
            self.layers.launch("collect", self._grid(n)[0], THREADS, [
                z, np.uint32(n), found, np.uint64(first), np.uint64(count),
            ])  # fmt: skip
        return self.device.get(found)
