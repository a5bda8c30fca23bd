"""exp and log of whole arrays, compiled: the bits that `elementary` gives with NumPy."""

from collections.abc import Callable

import numpy as np
from numba import njit

from nanorepro.backends import simd
from nanorepro.backends.numba_sums import lanes_of
from nanorepro.backends.simd import load, store
from nanorepro.elementary import exp64, log64

LANES = lanes_of(16)


def of_arrays(function: Callable) -> Callable:
    """The function float64 array → array of the same shape, 16 numbers at a time."""

    @njit(cache=True, nogil=True)
    def kernel(values):
        for i in range(0, values.shape[0], len(LANES)):
            store(values, i, function(load(values, i, LANES)))

    def apply(x: np.ndarray) -> np.ndarray:
        values = np.empty(-(-x.size // len(LANES)) * len(LANES))
        values[: x.size], values[x.size :] = x.ravel(), 1.0
        kernel(values)
        return values[: x.size].reshape(x.shape)

    return apply


exp, log = of_arrays(exp64(simd)), of_arrays(log64(simd))
