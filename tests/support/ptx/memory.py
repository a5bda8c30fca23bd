"""Memory that knows who wrote and read each word: races, places outside, words nobody wrote.

Within a block only barriers order what threads do to a word: one of the warp for its lanes, one of
the block for all.  Between the blocks of a launch nothing does.
"""

from dataclasses import dataclass, field

import numpy as np
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


def conflict(threads: Threads, who, other, at, mine):
    """Whether an access of others (thread, warp, block; MANY of several) is not ordered before now.

    at: the epochs of that access, of its warp and its block; mine: those of the threads `who`.
    """
    thread, warp, block = other
    same_launch = at[1] >> 32 == threads.launch
    elsewhere = block != threads.block_of[who]
    by_warp = (warp == threads.warp_of[who]) & (thread != who) & (at[0] >= mine[0])
    by_block = (warp != threads.warp_of[who]) & (at[1] >= mine[1])
    return same_launch & (elsewhere | by_warp | by_block)


def check(words: Words, threads: Threads, load: bool, at, who) -> tuple[str, int]:
    """What is wrong with an access of words by threads, and a thread; note what they do."""
    here = who, threads.warp_of[who], threads.block_of[who]
    mine = threads.warp_epoch[here[1]], threads.block_epoch[here[2]]
    if load and not words.written[at].all():
        return "nobody wrote this", int(who[~words.written[at]][0])
    wrong = conflict(threads, who, words.writers[:, at], words.written_at[:, at], mine)
    if wrong.any():
        return "race: another thread's write without a barrier", int(who[wrong][0])
    readers, read_at = words.readers[:, at], words.read_at[:, at]
    if load:
        # who read before and is not ordered before this stays known, as one of several
        keep = conflict(threads, who, readers, read_at, mine)
        for k, me in enumerate(here):
            words.readers[k, at] = np.where(keep & (readers[k] != me), MANY, me)
            mixed = (words.readers[k, at] != me) & (words.readers[k, at] != MANY)
            words.readers[k, at[mixed]] = MANY  # of lanes that read one word in one instruction
        words.read_at[0, at], words.read_at[1, at] = mine
        return "", 0
    wrong = conflict(threads, who, readers, read_at, mine)
    if wrong.any():
        return "race: written after another thread's read without a barrier", int(who[wrong][0])
    for k, me in enumerate(here):
        words.writers[k, at] = me
    words.written[at] = True
    words.written_at[0, at], words.written_at[1, at] = mine
    if (words.writers[0, at] != who).any():
        return "race: two threads write at once", int(who[0])
    return "", 0


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
        """(words, indices, which of the threads) of the memories that addresses lie in."""
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
        """Load or store one value for each thread; returns the loaded values."""
        if (address % size).any():
            raise PtxError("not aligned")
        result = np.empty(len(who), np.uint32 if size == 4 else np.uint64)
        for words, at, part, inside, checked in self.find(address, who):
            if not inside.all():
                raise PtxError(f"outside of memory, thread {int(who[part][~inside][0])}")
            for half in range(size // 4):
                places = at + half
                if half and len(places) and places.max() >= len(words.values):
                    raise PtxError("outside of memory")
                if races and checked:
                    wrong, thread = check(words, self.threads, load, places, who[part])
                    if wrong:
                        raise PtxError(f"{wrong}, thread {thread}")
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
