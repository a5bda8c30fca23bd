"""The largest and the median of the distances between two tensors, exactly, in constant memory."""

import math

import numpy as np

from nanorepro.analysis.tensor_pair import TensorPair, max_abs_of_both
from nanorepro.numerics.ulp import far

DIGIT = 16  # bits of a distance that are counted at a time
BINS = 1 << DIGIT


class DistanceCounts:
    """Counts of distances, of which the largest and the median are wanted, exactly.

    They are counted by their upper 16 bits of 32, and one by one below 2^16; what is wider, by how
    many digits of 16 bits it has.  Of those with the upper digit that the median of the first ones
    has, the lower one is counted, too: then most medians are known.  What another is, further
    readings find.
    """

    def __init__(self, pair: TensorPair):
        self.pair = pair
        self.small = np.zeros(BINS, np.int64)
        self.upper = np.zeros(BINS, np.int64)  # of those below 2^32, by digit
        self.longer = np.zeros(4, np.int64)  # by the number of digits; those of 3 and 4 are used
        self.guess: int | None = None  # the upper digit of the median, probably
        self.lower = np.zeros(BINS, np.int64)  # of those with that upper digit
        self.top = 0
        self.held: np.ndarray | None = None
        self.filled = 0

    def add_zeros(self, n: int) -> None:
        """Count n zeros."""
        self.small[0] += n
        self.upper[0] += n

    def add(self, d: np.ndarray) -> None:
        """Count distances, many at a time."""
        if self.held is None:
            self.held = np.empty(BINS, d.dtype)
        if self.filled + len(d) > len(self.held):
            self._flush()
        self.held[self.filled : self.filled + len(d)] = d
        self.filled += len(d)

    def _flush(self) -> None:
        if self.held is None or not self.filled:
            return
        d = self.held[: self.filled]
        self.filled = 0
        top = int(d.max())
        self.top = max(self.top, top)
        if top >= 1 << 32:
            for k in (2, 3):
                self.longer[k] += np.count_nonzero(d >> np.uint64(DIGIT * k))
            self.longer[2] -= np.count_nonzero(d >> np.uint64(3 * DIGIT))
            d = d[d < np.uint64(1 << 32)]
        if self.guess is None:
            self.guess = int(np.partition(d, len(d) // 2)[len(d) // 2]) >> DIGIT if len(d) else 0
        if top >= BINS:
            upper = d >> d.dtype.type(DIGIT)
            self._count(self.upper, upper)
            if self.guess:
                self._count(self.lower, d[upper == self.guess] & d.dtype.type(BINS - 1))
            d = d[d < BINS]
        else:
            self.upper[0] += len(d)
        self._count(self.small, d)

    def _count(self, bins: np.ndarray, digits: np.ndarray) -> None:
        found = np.bincount(digits.astype(np.int64))
        bins[: len(found)] += found

    def largest(self) -> float:
        """The largest distance; infinite with a NaN in one of two."""
        self._flush()
        return self._as_number(self.top)

    def median(self) -> float:
        """The lower median."""
        self._flush()
        rank = (self.pair.size - 1) // 2
        if rank < 0:
            return 0.0
        below = int(self.upper.sum())
        if rank < below:
            digit, rank = _locate(self.upper, rank)
            if digit == 0:
                return self._as_number(_locate(self.small, rank)[0])
            if digit == self.guess:
                return self._as_number(digit << DIGIT | _locate(self.lower, rank)[0])
            return self._as_number(self._digits(digit, rank, 1))
        rank -= below
        level = 2 if rank < self.longer[2] else 3
        if level == 3:
            rank -= int(self.longer[2])
        found = self._counted(0, DIGIT * level)
        found[0] = 0
        digit, rank = _locate(found, rank)
        return self._as_number(self._digits(digit, rank, level))

    def _digits(self, prefix: int, rank: int, level: int) -> int:
        """The distance of a rank among those that begin with `prefix`, `level` digits follow."""
        for shift in range(DIGIT * (level - 1), -1, -DIGIT):
            digit, rank = _locate(self._counted(prefix, shift), rank)
            prefix = prefix << DIGIT | digit
        return prefix

    def _counted(self, prefix: int, shift: int) -> np.ndarray:
        """How many distances have each digit at `shift`, of those with `prefix` above it."""
        found = np.zeros(BINS, np.int64)
        for bits_a, bits_b, x, y in self.pair.blocks():
            finite = x.dtype.kind != "f" or math.isfinite(max_abs_of_both(x, y))
            d = self.pair.distances(bits_a, bits_b, x, y, finite)
            wide = d.dtype.type
            d >>= wide(shift)
            above = d >> wide(DIGIT)
            picked = d[above == wide(prefix)] & wide(BINS - 1)
            counted = np.bincount(picked.astype(np.int64))
            found[: len(counted)] += counted
        return found

    def _as_number(self, distance: int) -> float:
        width = None if self.held is None else self.held.dtype
        real = self.pair.format.kind in ("float", "complex")
        return math.inf if real and width and distance == far(width) else float(distance)


def _locate(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin in which the element of a rank lies, and its rank inside it."""
    below = np.cumsum(counts)
    found = int(np.searchsorted(below, rank, side="right"))
    return found, rank - (int(below[found - 1]) if found else 0)
