"""Packed examples, and the caller's arrays of 0 and 1 checked and packed."""

from collections.abc import Callable

import numpy as np

from nanorepro.errors import ConfigError


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
    return ((packed[:, j // 32] >> (j % 32).astype(np.uint32)) & 1).astype(np.uint8)


def numbers(name: str, a: object, axes: int) -> np.ndarray:
    """The caller's array of so many axes; raises ConfigError if it is empty or has no numbers."""
    array = np.asarray(a)
    if array.ndim != axes or 0 in array.shape:
        raise ConfigError(f"{name}: shape {array.shape} is wrong; give {axes} axes, not empty")
    if array.dtype.kind not in "buif":
        raise ConfigError(f"{name}: type {array.dtype} is not allowed; give numbers 0 and 1")
    return array


def neither(name: str, array: np.ndarray) -> ConfigError:
    """What is wrong with an array that has other numbers than 0 and 1."""
    wrong = array[(array != 0) & (array != 1)].flat[0]
    return ConfigError(f"{name}: {wrong} is not allowed; give 0 and 1 only")


def binary_labels(name: str, a: object) -> np.ndarray:
    """The caller's labels (n,) as uint8 of 0 and 1; raises ConfigError for anything else."""
    array = numbers(name, a, 1)
    ones = array != 0
    if not np.array_equal(ones, array == 1):
        raise neither(name, array)
    return ones.view(np.uint8)


def packed_examples(
    name: str, a: object, pack: Callable[[np.ndarray], np.ndarray | None] = pack
) -> tuple[np.ndarray, int]:
    """The caller's examples (n, d) of 0 and 1, packed by a backend's `pack`, and d.

    Raises ConfigError for anything else.
    """
    array = numbers(name, a, 2)
    packed = pack(array)
    if packed is None:
        raise neither(name, array)
    return packed, array.shape[1]
