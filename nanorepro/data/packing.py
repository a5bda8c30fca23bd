"""Packed examples: 32 features of 0 and 1 in a word."""

import numpy as np


def pack(x: np.ndarray) -> np.ndarray | None:
    """(n, d) numbers → (n, ⌈d/32⌉) uint32, feature j in bit j mod 32 of word ⌊j/32⌋.

    None if one of them is neither 0 nor 1.
    """
    n, d = x.shape
    present = np.zeros((n, -(-d // 32) * 32), bool)
    np.not_equal(x, 0, out=present[:, :d])
    if not np.array_equal(present[:, :d], x == 1):
        return None
    return np.packbits(present, axis=1, bitorder="little").view("<u4").astype(np.uint32)


def unpack(packed: np.ndarray, d: int) -> np.ndarray:
    """(n, ⌈d/32⌉) uint32 → (n, d) uint8 of 0 and 1."""
    j = np.arange(d)
    bits: np.ndarray = (packed[:, j // 32] >> (j % 32).astype(np.uint32)) & 1
    return bits.astype(np.uint8)
