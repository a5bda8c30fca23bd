"""Compiled kernels that apply one function to arrays, what they are given, and how they compare."""

import math

import numpy as np
from numba import njit

from nanorepro.backends.numba.llvm import memory

LANES = (0,) * 8
SPECIAL = [0.0, 1.0, 1.5, 2.0**-126, 2.0**-149, 2.0**-150, 2.0**-1022, 5e-324, 1e30, 88.8, 103.9]
SPECIAL += [2.0**127, 2.0**128, 709.7, 709.8, 745.1, 745.2, 1e308, math.inf, math.nan]
SPECIAL = np.array(SPECIAL + [-value for value in SPECIAL])


def compiled(function, arity=1):
    """A kernel that applies `function` to arrays, eight lanes at a time."""
    load, store = memory.load, memory.store
    if arity == 1:

        @njit(error_model="numpy")
        def kernel(lanes, out, x):
            for i in range(0, x.size, len(lanes)):
                store(out, i, function(load(x, i, lanes)))

    elif arity == 2:

        @njit(error_model="numpy")
        def kernel(lanes, out, x, y):
            for i in range(0, x.size, len(lanes)):
                store(out, i, function(load(x, i, lanes), load(y, i, lanes)))

    else:

        @njit(error_model="numpy")
        def kernel(lanes, out, x, y, z):
            for i in range(0, x.size, len(lanes)):
                a, b, c = load(x, i, lanes), load(y, i, lanes), load(z, i, lanes)
                store(out, i, function(a, b, c))

    def apply(*operands):
        count = operands[0].size
        padded = [np.resize(a, -(-count // len(LANES)) * len(LANES)) for a in operands]
        out = np.empty_like(padded[0])
        kernel(LANES, out, *padded)
        return out[:count]

    return apply


def assert_same_bits(a, b):
    """Equal bits; NaN equals any NaN."""
    assert a.dtype == b.dtype
    word = np.uint32 if a.dtype == np.float32 else np.uint64
    differ = (a.view(word) != b.view(word)) & ~(np.isnan(a) & np.isnan(b))
    assert not differ.any(), (np.flatnonzero(differ)[:5], a[differ][:5], b[differ][:5])
