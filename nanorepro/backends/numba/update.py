"""The optimizer's update of vectors of weights, and where its state lies."""

from collections.abc import Callable

from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.layout import Layout, flat_lanes
from nanorepro.backends.numba.llvm.memory import load, store
from nanorepro.backends.numba.llvm.simd import fill, inlined
from nanorepro.backends.numba.sums.by_plan import lanes_of


def state_access(ctx: KernelContext, parameters: int, read: Callable, write: Callable):
    """Functions get(m, at) and put(m, at, state) for the optimizer's state of the weights at `at`.

    A state is a tuple, as `model.optimizers` has it; number k of the weight `at` is at
    m.a[at + k·parameters].  read(array, at) and write(array, at, vector) say which weights.
    """

    def access(count: int) -> tuple[Callable, Callable]:
        if count == 0:
            return no_state, nothing_to_put
        (get_before, put_before), k = access(count - 1), count - 1
        offset = k * parameters

        @inlined
        def get(m, at):
            return get_before(m, at) + (read(m.a, at + offset),)

        @inlined
        def put(m, at, state):
            put_before(m, at, state)
            write(m.a, at + offset, state[k])

        return get, put

    return access(len(ctx.starts))


@inlined
def no_state(m, at):
    return ()


@inlined
def nothing_to_put(m, at, state):
    return


def vector_state(ctx: KernelContext, parameters: int, lanes: tuple[int, ...]):
    """`state_access` of a vector of contiguous weights."""

    @inlined
    def read(array, at):
        return load(array, at, lanes)

    @inlined
    def write(array, at, vector):
        store(array, at, vector)

    return state_access(ctx, parameters, read, write)


def apply_gradients(ctx: KernelContext, layout: Layout, n: int) -> Callable:
    """(m, g_at, at, rate, t): update the n weights from `at` on by the gradients m.g[g_at], ..."""
    step = flat_lanes(n, ctx.longest)
    lanes, update = lanes_of(step), ctx.update
    get_state, put_state = vector_state(ctx, layout.parameters, lanes)

    @inlined
    def apply(m, g_at, at, rate, t):
        for k in range(0, n, step):
            g, rates = load(m.g, g_at + k, lanes), fill(rate, lanes)
            w, state = update(load(m.w, at + k, lanes), get_state(m, at + k), g, rates, t)
            store(m.w, at + k, w)
            put_state(m, at + k, state)

    return apply
