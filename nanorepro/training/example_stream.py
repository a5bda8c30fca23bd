"""The examples of a pair, chunk by chunk: drawn once for both models, whichever threads train them.

An example and its label are one number, as `sequences` has it.
"""

import threading
from concurrent.futures import Future

import numpy as np

from nanorepro.backends.protocols import Backend
from nanorepro.config import Config
from nanorepro.data.given import Given
from nanorepro.data.worlds import World
from nanorepro.training.sequences import sequence_of

# Examples that are drawn and shuffled at a time, or one window.  The fewer they are, the more often
# threads contend for the interpreter's lock.
CHUNK = 1 << 17
AHEAD = 4  # chunks that one model may be ahead of the other while the other is still waited for


class ExampleStream:
    """The chunks of a pair's examples in the order in which they are drawn.

    Each model takes one after the other.  The first to ask draws for both; a thread that asks
    while a chunk is being drawn draws the next one instead of waiting.

    steps: mini-batches that each model was trained on before
    """

    def __init__(
        self,
        config: Config,
        pair: int,
        world: World | Given,
        backend: Backend,
        steps: tuple[int, int] = (0, 0),
    ):
        self.sequence = sequence_of(config, pair, world, backend)
        self.examples = config.examples
        self.size = max(config.window, min(self.examples, CHUNK // config.window * config.window))
        self.count = -(-self.examples // self.size)
        # a window longer than a chunk is drawn for each model, because the memory is not for more
        self.ahead = AHEAD if self.size <= CHUNK else 0
        self.lock = threading.Lock()
        seen = [min(step * config.batch, self.examples) for step in steps]
        # the chunk that each model takes next
        self.next = [n // self.size if n < self.examples else self.count for n in seen]
        self.shared: dict[int, Future[np.ndarray]] = {}
        # the same memory for all: what is freed goes back to the system and comes in pages
        self.free: list[np.ndarray] = []

    def length(self, k: int) -> int:
        """Examples of chunk k."""
        return min(self.size, self.examples - k * self.size)

    def take(self, model: int, k: int, own: np.ndarray) -> np.ndarray:
        """Chunk k (length(k),) uint64, the next of `model`: in memory for both, or else in `own`.

        The memory for both is as it is until both models say that they are `done`.
        """
        drawn = self._claimed(model, k)
        if drawn is None:
            joined = own[: self.length(k)]
            self._draw(k, joined)
            return joined
        if not drawn.done():
            self._claimed(model, k + 1)
        return drawn.result()[: self.length(k)]

    def done(self, model: int, k: int) -> None:
        """`model` has what it needs of chunk k."""
        with self.lock:
            self.next[model] = k + 1
            if k in self.shared and self.next[1 - model] > k:
                self.free.append(self.shared.pop(k).result())

    def _claimed(self, model: int, k: int) -> Future[np.ndarray] | None:
        """Chunk k, drawn or being drawn; None if it is not to be shared."""
        with self.lock:
            if k in self.shared:
                return self.shared[k]
            other = self.next[1 - model]
            if not (other <= k < min(other + self.ahead, self.count)):
                return None
            drawn = self.shared[k] = Future()
            memory = self.free.pop() if self.free else np.empty(self.size, np.uint64)
        try:
            self._draw(k, memory[: self.length(k)])
            drawn.set_result(memory)
        except BaseException as error:
            drawn.set_exception(error)
            raise
        return drawn

    def _draw(self, k: int, joined: np.ndarray) -> None:
        self.sequence.draw(k * self.size, joined)
