"""The sequence of a pair's training examples, of a world or of the caller's, any part of it."""

from typing import Protocol

import numpy as np

from nanorepro.backends.protocols import Backend
from nanorepro.config import Config
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.errors import ConfigError
from nanorepro.numerics.streams import stream_key
from nanorepro.text import counted


class ExampleSequence(Protocol):
    """The training examples of a pair, in the order in which windows are cut out of them.

    Each is one number while it is shuffled.

    width: words of its features, or real features
    """

    width: int

    def draw(self, first: int, joined: np.ndarray) -> None:
        """Fill `joined` (n,) uint64 with the numbers of the run's examples first, first + 1, ..."""

    def room(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Arrays x and y for n examples, as `ModelInTraining.train` takes them."""

    def split(self, joined: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        """Fill x and y with the features and labels of numbers that `draw` gave."""

    def shuffle_and_split(
        self, key: np.ndarray, first: int, joined: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> None:
        """`split` of examples first, ... in the order of `shuffle_windows`; `joined` stays."""


class WorldSequence:
    """Examples drawn from a world: the number is the example itself, features and label."""

    width = 1

    def __init__(self, config: Config, pair: int, world: World, backend: Backend):
        self.window = config.window
        self.backend, self.world, self.first = backend, world, config.first_example
        self.key = stream_key(config.seed, "examples", pair)

    def draw(self, first: int, joined: np.ndarray) -> None:
        self.backend.draw(self.world, self.key, self.first + first, joined)

    def room(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((n, 1), np.uint32), np.empty(n, np.uint8)

    def split(self, joined: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.backend.split(joined, x[:, 0], y)

    def shuffle_and_split(
        self, key: np.ndarray, first: int, joined: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> None:
        rows = joined.reshape(-1, self.window)
        self.backend.shuffle_and_split(rows, key, first // self.window, x[:, 0], y)


class GivenSequence:
    """The caller's examples, epoch after epoch, each in another order: the number is the place.

    Epoch e of pair k is in the order of permutation e of the stream ("examples", k).
    """

    def __init__(self, config: Config, pair: int, given: Given, backend: Backend):
        self.given, self.backend, self.first = given, backend, config.first_example
        self.config, self.width = config, given.x.shape[1]
        self.pool = pools(config, backend)[pair]
        self.key = stream_key(config.seed, "examples", pair)
        self.epochs: dict[int, np.ndarray] = {}  # the last two of which a chunk was a part

    def draw(self, first: int, joined: np.ndarray) -> None:
        n, at, end = len(self.pool), 0, len(joined)
        while at < end:
            epoch, inside = divmod(self.first + first + at, n)
            whole = (end - at) // n if inside == 0 else 0
            if whole:
                rows = joined[at : at + whole * n].reshape(whole, n)
                rows[:] = self.pool
                self.backend.shuffle(rows, self.key, epoch)
                at += whole * n
            else:
                part = self._one_epoch(epoch)[inside : inside + end - at]
                joined[at : at + len(part)] = part
                at += len(part)

    def _one_epoch(self, epoch: int) -> np.ndarray:
        found = self.epochs.get(epoch)
        if found is None:
            found = self.pool.copy()
            self.backend.shuffle(found[None], self.key, epoch)
            self.epochs = {**dict([*self.epochs.items()][-1:]), epoch: found}
        return found

    def room(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        x = self.given.x
        return np.empty((n, x.shape[1]), x.dtype), np.empty(n, np.uint8)

    def split(self, joined: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        at = joined.astype(np.int64)
        np.take(self.given.x, at, axis=0, out=x, mode="clip")
        np.take(self.given.y, at, out=y, mode="clip")

    def shuffle_and_split(
        self, key: np.ndarray, first: int, joined: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> None:
        ordered = joined.copy()
        shuffle_windows(self.backend, self.config, key, first, ordered)
        self.split(ordered, x, y)


def sequence_of(
    config: Config, pair: int, world: World | Given, backend: Backend
) -> ExampleSequence:
    """The sequence of a pair."""
    if isinstance(world, Given):
        return GivenSequence(config, pair, world, backend)
    return WorldSequence(config, pair, world, backend)


def dealt(config: Config, backend: Backend) -> np.ndarray:
    """Places (n,) uint64 of the caller's examples in the order in which they are dealt out.

    Permutation 0 of the stream `deal`: first those that are held out, then those of the pairs.
    """
    given = config.given
    assert given is not None
    order = np.arange(given.examples, dtype=np.uint64)
    backend.shuffle(order[None], stream_key(config.seed, "deal"), 0)
    return order


def pools(config: Config, backend: Backend) -> dict[int, np.ndarray]:
    """Places (epoch,) uint64 of the examples that each pair is trained on in an epoch."""
    left = dealt(config, backend)[config.held_out :]
    apart = config.epoch if config.pair_examples == "split" else 0
    return {k: left[k * apart : k * apart + config.epoch] for k in range(config.pairs)}


def evaluated(config: Config, given: Given, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of the evaluation examples: those given, or those held out.

    Raises ConfigError where one class is absent among the latter.
    """
    if given.x_eval is not None and given.y_eval is not None:
        return given.x_eval, given.y_eval
    at = dealt(config, backend)[: config.held_out]
    x, y = given.x[at], given.y[at]
    if y.all() or not y.any():
        right = "another part or seed, or x_eval and y_eval"
        held_out = counted(len(y), "held-out example is", "held-out examples are")
        raise ConfigError(f"{held_out} of one class", "holdout", right)
    return x, y


def shuffle_windows(
    backend: Backend, config: Config, key: np.ndarray, first: int, joined: np.ndarray
) -> None:
    """Bring examples first, ... into the order of their windows; the last may be shorter.

    `first` begins a window, and `joined` ends with one.
    """
    number, whole = first // config.window, len(joined) // config.window
    cut = whole * config.window
    backend.shuffle(joined[:cut].reshape(whole, config.window), key, number)
    if cut < len(joined):
        backend.shuffle(joined[None, cut:], key, number + whole)
