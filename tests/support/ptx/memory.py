"""Memory that knows who wrote and read each word: races, places outside, words nobody wrote.

Within a block only barriers order what threads do to a word: one of the warp for its lanes, one of
the block for all.  Between the blocks of a launch nothing does.
"""

from dataclasses import dataclass, field

import numpy as np
from numba import njit
from support.ptx.parser import CONSTANT, GLOBAL, LOCAL, SHARED, PtxError


@dataclass
class Words:
    """32-bit words; who wrote and read each last (thread, warp, block), and when."""

    values: np.ndarray
    written: np.ndarray
    writers: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.values)
        self.writers, self.readers = np.zeros((3, n), np.int64), np.zeros((3, n), np.int64)
        # epochs of the warp and the block at that time; no launch has the number 0
        self.written_at, self.read_at = np.zeros((2, n), np.int64), np.zeros((2, n), np.int64)


@dataclass
class Threads:
    """The threads of a launch, and how many barriers their warps and blocks have passed.

    An epoch counts from launch·2^32 on: what another launch did is always ordered.
    """

    launch: int
    count: int
    block: int
    warp_epoch: np.ndarray = field(init=False)
    block_epoch: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        start = self.launch << 32
        self.warp_epoch = np.full(-(-self.count // 32), start, np.int64)
        self.block_epoch = np.full(self.count // self.block, start, np.int64)
        self.warp_of = np.arange(self.count) // 32
        self.block_of = np.arange(self.count) // self.block


MANY = -1  # readers of more than one thread, warp or block
WRONG = (
    "",
    "nobody wrote this",
    "race: another thread's write without a barrier",
    "race: written after another thread's read without a barrier",
    "race: two threads write at once",
)


@njit(cache=True)
def conflict(who, block, other, at, launch, warp_epoch, block_epoch):
    """Whether an access of others (thread, warp, block; MANY of several) is not ordered before now.

    at: the epochs of that access, of its warp and its block.
    """
    if at[1] >> 32 != launch or other[0] == who:
        return False
    if other[2] != who // block:
        return True
    if other[1] == who // 32:
        return at[0] >= warp_epoch
    return at[1] >= block_epoch


@njit(cache=True)
def check(load, places, threads, launch, block, warp_epochs, block_epochs, written, writers,
          written_at, readers, read_at):  # fmt: skip
    """Which of WRONG an access of words by threads is, and of whom; notes what they do."""
    for n in range(len(threads)):
        at, who = places[n], threads[n]
        warp, group = warp_epochs[who // 32], block_epochs[who // block]
        if load and not written[at]:
            return 1, who
        if conflict(who, block, writers[:, at], written_at[:, at], launch, warp, group):
            return 2, who
        if not load and conflict(who, block, readers[:, at], read_at[:, at], launch, warp, group):
            return 3, who
    for n in range(len(threads)):
        at, who = places[n], threads[n]
        warp, group = warp_epochs[who // 32], block_epochs[who // block]
        here = (who, who // 32, who // block)
        if load:
            # who read before and is not ordered before this stays known, as one of several
            kept = conflict(who, block, readers[:, at], read_at[:, at], launch, warp, group)
            for k in range(3):
                readers[k, at] = MANY if kept and readers[k, at] != here[k] else here[k]
            read_at[0, at], read_at[1, at] = warp, group
            continue
        if conflict(who, block, writers[:, at], written_at[:, at], launch, warp, group):
            return 4, who
        for k in range(3):
            writers[k, at] = here[k]
        written[at] = True
        written_at[0, at], written_at[1, at] = warp, group
    return 0, 0


class Space:
    """All memory of a launch by address."""

    def __init__(self, regions: dict[int, Words], threads: Threads, sizes: dict[str, int]):
        self.regions, self.threads, n = regions, threads, threads.count
        # bytes of shared memory of a block, of local memory of a thread, both whole words
        self.shared_words, self.local_words = (-(-sizes[k] // 4) for k in ("shared", "local"))
        blocks = n // threads.block
        self.shared = self._fresh(blocks * self.shared_words)
        self.local = self._fresh(n * self.local_words)

    @staticmethod
    def _fresh(n: int) -> Words:
        return Words(np.full(n, 0xA5A5A5A5, np.uint32), np.zeros(n, bool))

    def find(self, address: np.ndarray, who: np.ndarray):
        """(words, indices, which of the threads, which are inside) of the memories of addresses.

        None for the last if all are.
        """
        low, high = int(address.min()), int(address.max())
        if low >= GLOBAL and low & -GLOBAL == high & -GLOBAL:  # all in one array, as mostly
            words = self.regions.get(low & -GLOBAL)
            if words is not None:
                at, size = (address - (low & -GLOBAL)) // 4, len(words.values)
                inside = None if (high - (low & -GLOBAL)) // 4 < size else at < size
                return [(words, at, slice(None), inside, True)]
        if low >= SHARED and high < CONSTANT:
            at = (address - SHARED) // 4
            inside = None if (high - SHARED) // 4 < self.shared_words else at < self.shared_words
            at = at + self.threads.block_of[who] * self.shared_words
            return [(self.shared, at, slice(None), inside, True)]
        shared = (address >= SHARED) & (address < CONSTANT)
        local = (address >= LOCAL) & (address < SHARED)
        found = []
        if shared.any():
            at = (address[shared] - SHARED) // 4
            inside = at < self.shared_words
            at = at + self.threads.block_of[who[shared]] * self.shared_words
            found.append((self.shared, at, shared, inside, True))
        if local.any():
            at = (address[local] - LOCAL) // 4
            inside = at < self.local_words
            found.append((self.local, at + who[local] * self.local_words, local, inside, False))
        rest = ~shared & ~local
        if rest.any():
            # constants and arrays, each a region of its own
            base = np.where(address >= GLOBAL, address & -GLOBAL, CONSTANT)
            for b in np.unique(base[rest]):
                part = rest & (base == b)
                words = self.regions.get(int(b))
                if words is None:
                    nowhere = np.zeros(part.sum(), bool)
                    found.append((self.local, address[part], part, nowhere, False))
                    continue
                at = (address[part] - b) // 4
                inside = (at >= 0) & (at < len(words.values))
                found.append((words, at, part, inside, b != CONSTANT))
        return found

    def access(self, load: bool, size: int, address: np.ndarray, who: np.ndarray, values, races):
        """Load or store a value for each thread, at aligned addresses; returns those loaded."""
        result = np.empty(len(who), np.uint32 if size == 4 else np.uint64)
        for words, at, part, inside, checked in self.find(address, who):
            if inside is not None and not inside.all():
                raise PtxError(f"outside of memory, thread {int(who[part][~inside][0])}")
            for half in range(size // 4):
                places = at + half if half else at
                if half and len(places) and places.max() >= len(words.values):
                    raise PtxError("outside of memory")
                if races and checked:
                    t = self.threads
                    wrong, thread = check(
                        load, places, who[part], t.launch, t.block, t.warp_epoch, t.block_epoch,
                        words.written, words.writers, words.written_at, words.readers,
                        words.read_at,
                    )  # fmt: skip
                    if wrong:
                        raise PtxError(f"{WRONG[wrong]}, thread {thread}")
                elif load and not words.written[places].all():
                    raise PtxError("nobody wrote this")
                if load and size == 4:
                    result[part] = words.values[places]
                elif load:
                    wide = words.values[places].astype(np.uint64) << np.uint64(32 * half)
                    result[part] = wide if half == 0 else result[part] | wide
                else:
                    v = values[part]
                    if size == 8:
                        v = (v >> np.uint64(32 * half) & np.uint64(0xFFFFFFFF)).astype(np.uint32)
                    words.values[places] = v
                    words.written[places] = True
        return result
