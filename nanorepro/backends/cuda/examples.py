"""The examples of models in training, on the GPU: a world's are drawn there, the caller's dealt."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanorepro.backends.cuda.device import Device
from nanorepro.backends.cuda.ensemble import CHUNK, Ensemble, pairs_of
from nanorepro.backends.cuda.program import LANES, streams
from nanorepro.backends.protocols import Group
from nanorepro.config import Config
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key
from nanorepro.specification import ModelSpec

NUMBERS = 1 << 18  # of the caller's examples that each model has side by side, about
THREADS = 128


def chunk_size(config: Config) -> int:
    """Examples of a chunk, which are drawn at a time: whole windows, or one that is longer."""
    window = config.window
    return max(window, min(config.examples, CHUNK // window * window))


def bytes_of(config: Config, width: int) -> int:
    """Bytes of a model's examples of so many numbers, on the device at a time."""
    if not config.is_given:
        return 8 * chunk_size(config)
    epochs = chunk_size(config) + 2 * config.epoch
    return 8 * (chunk_size(config) + epochs) + 4 * (NUMBERS + config.batch * width)


class Examples:
    """The examples of each model, chunk by chunk in the order in which it sees them.

    What is shuffled is one number for each example.

    size: of a chunk; longest: examples that `piece` gives at a time
    """

    def __init__(self, device: Device, specs: Sequence[ModelSpec]):
        self.config, self.device = specs[0].config, device
        self.models, self.size = len(specs), chunk_size(self.config)
        self.longest = min(self.size, CHUNK)
        self.streams = device.compile(streams())
        self.of_pair: dict[int, list[int]] = {}
        for k, spec in enumerate(specs):
            self.of_pair.setdefault(spec.pair, []).append(k)
        self.pairs = len(self.of_pair)
        keys = [stream_key(self.config.seed, "examples", pair) for pair in self.of_pair]
        self.drawn = device.array(pairs_of(keys, np.uint32))
        shuffled = pairs_of([s.key("shuffle") for s in specs], np.uint32)
        self.shuffled = device.array(shuffled)
        self.numbers: Any = None
        self.length = 0

    def fill(self, first: int) -> int:
        """Have the chunk that begins with example `first` of the run at hand; its length."""
        n = min(self.size, self.config.examples - first)
        if n != self.length:
            self.numbers = self.device.empty((self.models, n), np.uint64)
            self.length = n
        self._draw(first, n)
        number, window = first // self.config.window, self.config.window
        whole = n // window
        self._shuffle(self.shuffled, number, self.numbers, (self.models, n), 0, window, whole)
        left = n - whole * window  # of the last window, which may be shorter
        self._shuffle(
            self.shuffled, number + whole, self.numbers, (self.models, n), n - left, left, 1
        )
        return n

    def _draw(self, first: int, n: int) -> None:
        """Fill `numbers` with those of the examples `first`, ... as they are drawn."""
        raise NotImplementedError

    def piece(self, low: int, high: int) -> tuple[Any, int, int, int]:
        """Rows of the chunk's examples from `low` to before `high`, as `Ensemble.train` takes them.

        The numbers from one model's to the next one's, the first of these examples there, and the
        words of an example.
        """
        raise NotImplementedError

    def _shuffle(
        self, keys: Any, first: int, numbers: Any, shape: tuple[int, int], at: int, n: int,
        windows: int,
    ) -> None:  # fmt: skip
        """Windows of n numbers, from `at` on in each row, in the order of their permutations."""
        rows, length = shape
        if n <= 1 or windows == 0:
            return
        arguments = [
            keys, np.uint64(first), numbers, np.uint64(length), np.uint64(at), np.uint32(n),
            np.uint32(windows),
        ]  # fmt: skip
        if n > LANES:
            self.streams.launch("shuffle_long", (windows, rows), LANES, arguments)
        else:
            blocks = -(-windows * LANES // THREADS)
            self.streams.launch("shuffle_short", (blocks, rows), THREADS, arguments)


class Drawn(Examples):
    """A world's: the number is the example, x + y·2^32."""

    def __init__(self, device: Device, group: Group, specs: Sequence[ModelSpec]):
        super().__init__(device, specs)
        assert isinstance(group.world, World)
        models = [(k, *rest) if rest else (k, k) for k, *rest in self.of_pair.values()]
        self.both = device.array(np.array(models, np.uint32))
        self.columns = device.array(group.world.columns)
        self.odds = device.array(np.ravel(group.world.odds))

    def _draw(self, first: int, n: int) -> None:
        self.streams.launch("draw", (-(-n // THREADS), self.pairs), THREADS, [
            self.drawn, self.both, np.uint64(self.config.first_example + first), self.columns,
            self.odds, self.numbers, np.uint32(n),
        ])  # fmt: skip

    def piece(self, low: int, high: int) -> tuple[Any, int, int, int]:
        return self.numbers, 2 * self.length, low, 1


class Dealt(Examples):
    """The caller's, epoch after epoch, each in another order: the number is the place.

    table: (examples, width) uint32, the rows of all of them
    epochs: the places of the pairs' examples of some epochs, `first_epoch` and on
    """

    def __init__(
        self, device: Device, group: Group, specs: Sequence[ModelSpec], ensemble: Ensemble
    ):
        super().__init__(device, specs)
        given = group.world
        assert isinstance(given, Given)
        table = ensemble.joined(given.x, given.y)
        self.table, self.width = device.array(table), table.shape[1]
        batch = self.config.batch
        self.longest = min(self.longest, max(1, NUMBERS // self.width // batch) * batch)
        pools = [group.pools[pair] for pair in self.of_pair]
        # those of all pairs are the same unless they split the examples
        self.apart = self.config.epoch if self.config.pair_examples == "split" else 0
        self.pools = device.array(np.stack(pools if self.apart else pools[:1]))
        self.epoch = self.config.epoch
        row = {pair: k for k, pair in enumerate(self.of_pair)}
        self.rows_of = device.array(np.array([row[spec.pair] for spec in specs], np.uint32))
        self.first_epoch = self.count = 0
        self.epochs: Any = None
        self.taken, self.room = None, 0

    def _draw(self, first: int, n: int) -> None:
        begin = self.config.first_example + first
        epoch, last = begin // self.epoch, (begin + n - 1) // self.epoch
        if not self.first_epoch <= epoch <= last < self.first_epoch + self.count:
            self._deal(epoch, last + 1 - epoch)
        inside = begin - self.first_epoch * self.epoch
        self.streams.launch("take", self._grid(n), THREADS, [
            self.epochs, np.uint64(self.count * self.epoch), self.rows_of, np.uint64(inside),
            self.numbers, np.uint64(n),
        ])  # fmt: skip

    def _deal(self, epoch: int, count: int) -> None:
        """Have so many epochs' places at hand."""
        n = count * self.epoch
        self.first_epoch, self.count = epoch, count
        self.epochs = self.device.empty((self.pairs, n), np.uint64)
        self.streams.launch("deal", (-(-n // THREADS), self.pairs), THREADS, [
            self.pools, np.uint64(self.apart), np.uint64(self.epoch), self.epochs, np.uint64(n),
        ])  # fmt: skip
        self._shuffle(self.drawn, epoch, self.epochs, (self.pairs, n), 0, self.epoch, count)

    def _grid(self, n: int) -> tuple[int, int]:
        return -(-n // THREADS), self.models

    def piece(self, low: int, high: int) -> tuple[Any, int, int, int]:
        n = high - low
        if n > self.room:
            self.room = n
            self.taken = self.device.empty((self.models, n, self.width), np.uint32)
        stride = self.room * self.width
        self.streams.launch("gather", self._grid(n * self.width), THREADS, [
            self.table, np.uint32(self.width), self.numbers, np.uint64(self.length), np.uint64(low),
            self.taken, np.uint64(stride), np.uint64(n * self.width),
        ])  # fmt: skip
        return self.taken, stride, 0, self.width - 1


def examples_of(
    device: Device, group: Group, specs: Sequence[ModelSpec], ensemble: Ensemble
) -> Examples:
    """The examples of models of a group, as an ensemble of them takes them."""
    if isinstance(group.world, Given):
        return Dealt(device, group, specs, ensemble)
    return Drawn(device, group, specs)
