"""exp, log and exactly rounded sums of whole arrays, compiled.

The bits that `numerics.exp_log` gives with NumPy, and `numerics.exact_sum.fsum`.
"""

from collections.abc import Callable

import numpy as np

from nanorepro.backends.numba.llvm import simd
from nanorepro.backends.numba.llvm.cache import cached_njit
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.backends.numba.sums.exact import expansion
from nanorepro.numerics import exact_sum
from nanorepro.numerics.exp_log import exp64, log64
from nanorepro.numerics.rounding import operations

LANES = lanes_of(16)


def of_arrays(function: Callable) -> Callable:
    """The function float64 array → array of the same shape, 16 numbers at a time."""

    @cached_njit
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


start, _, term, result = expansion(operations(simd, "float64", "nearest", True))


@cached_njit
def total(values, partial):
    """Σ values (n,), and 0 if it is exactly rounded: in 16 lanes, then over all their parts."""
    n = values.shape[0] // len(LANES) * len(LANES)
    state, whole = start(fill(0.0, LANES)), start(0.0)
    for i in range(0, n, len(LANES)):
        state = term(state, load(values, i, LANES), None)
    for k in range(len(state)):
        store(partial, k * len(LANES), state[k])
    last = 4 * len(LANES)
    for k in range(last):
        whole = term(whole, partial[k], None)
    for i in range(n, values.shape[0]):
        whole = term(whole, values[i], None)
    return result(whole, None), whole[4] + partial[last:].sum()


def fsum(values: np.ndarray) -> float:
    """The exactly rounded sum of float64 (n,); NaN of infinities of both signs."""
    found, lost = total(np.ascontiguousarray(values), np.empty(5 * len(LANES)))
    return found if lost == 0.0 else exact_sum.fsum(values)
