"""Kernels made of kernels: one after another, and over blocks of units."""

from collections.abc import Callable

from nanorepro.backends.numba.llvm.simd import inlined


def sequence(kernels):
    """One kernel that carries out the given ones in order.

    Six at a time: each further level costs another pass of the compiler over all below it.
    """
    if len(kernels) == 1:
        return kernels[0]
    if len(kernels) > 6:
        size = -(-len(kernels) // 6)
        return sequence([sequence(kernels[k : k + size]) for k in range(0, len(kernels), size)])

    s0, s1, s2, s3, s4, s5 = (*kernels, *[nothing] * (6 - len(kernels)))

    @inlined
    def all_of(m, x, first, rate, t):
        s0(m, x, first, rate, t)
        s1(m, x, first, rate, t)
        s2(m, x, first, rate, t)
        s3(m, x, first, rate, t)
        s4(m, x, first, rate, t)
        s5(m, x, first, rate, t)

    return all_of


@inlined
def nothing(m, x, first, rate, t):
    return


def in_blocks(n: int, size: int, block_of: Callable) -> Callable:
    """A function (m, rate, t): block_of(size)(m, j, rate, t) for j = 0, size, ... < n.

    What is left over is a block of its own.
    """
    full = n - n % size
    whole, rest = block_of(size), block_of(n - full) if full < n else None

    @inlined
    def blocks(m, rate, t):
        for j in range(0, full, size):
            whole(m, j, rate, t)

    if rest is None:
        return blocks

    @inlined
    def blocks_and_rest(m, rate, t):
        blocks(m, rate, t)
        rest(m, full, rate, t)

    return blocks_and_rest
