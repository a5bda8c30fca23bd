"""The caller's examples, compiled: checked and packed to bits as fast as memory gives them."""

import numpy as np

from nanorepro.backends.numba.llvm.cache import cached_njit
from nanorepro.backends.numba.llvm.memory import load, pointer
from nanorepro.backends.numba.llvm.simd import ballot, fill, inlined, where
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.data import packing

WORD = lanes_of(32)
PART = 1 << 18  # bytes, about, of rows that are made contiguous at a time
NO, YES = np.uint32(0), np.uint32(1)


@inlined
def bits_where(condition):
    """32 conditions as one number, the k-th its bit k."""
    return ballot(where(condition, fill(YES, WORD), fill(NO, WORD)))


@cached_njit
def pack_rows(x, packed):
    """Rows of x (n, d) to packed (n, ⌈d/32⌉); says whether all numbers are 0 or 1."""
    n, d = x.shape
    numbers, whole, strange = pointer(x), d // 32, NO
    for i in range(n):
        for word in range(whole):
            v = load(numbers, i * d + 32 * word, WORD)
            present = bits_where(v != 0)
            strange |= present ^ bits_where(v == 1)
            packed[i, word] = present
        if 32 * whole < d:
            present = NO
            for j in range(32 * whole, d):
                v = numbers[i * d + j]
                if v != 0:
                    present |= YES << np.uint32(j % 32)
                    if v != 1:
                        strange = YES
            packed[i, whole] = present
    return strange == NO


def pack(x: np.ndarray) -> np.ndarray | None:
    """`packing.pack`, in one pass."""
    kind = np.dtype(np.uint8) if x.dtype == bool else x.dtype
    if not kind.isnative or (kind.kind, kind.itemsize) in (("f", 2), ("f", 16)):
        return packing.pack(x)  # types that the compiler does not know
    n, d = x.shape
    packed = np.empty((n, -(-d // 32)), np.uint32)
    rows = max(1, PART // (d * kind.itemsize))
    for k in range(0, n, rows):
        part = np.ascontiguousarray(x[k : k + rows]).view(kind)
        if not pack_rows(part, packed[k : k + rows]) and x.dtype != bool:
            return None
    return packed
