"""The stages of large layers: the units lie side by side, and weights pass the caches once."""

from collections.abc import Callable

from nanorepro.backends.numba.kernels.step import Kit, activated, apply_gradients, bent, transposed
from nanorepro.backends.numba.layout import ROWS, Place
from nanorepro.backends.numba.llvm.simd import inlined, load, prefetch_early, store
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.backends.numba.sums.products import Matrix, products, steps_of


def dense_forward(kit: Kit, place: Place, under: Place) -> Callable:
    """z[i, u] = Σ_j h[i, j]·W[j, u], then the activation; the units side by side."""
    left = Matrix(under.z, under.by_unit, under.by_example)
    right = Matrix(place.w, place.by_input, 0)
    n, batch, z_at, pitch = place.layer.fan_in, kit.batch, place.z, place.by_example
    total = products(kit.unit_sums, n, batch, place.width, left, right, place.up, pitch, True)
    finish = activated(kit, place, batch)

    @inlined
    def stage(m, x, first, rate, t):
        total(m, m.units, m.h, m.w, m.z, z_at, 0, t)
        finish(m, 0, 0, t)

    return stage


def delta_below(kit: Kit, place: Place, under: Place, rows: int) -> Callable:
    """A function (m, j, t): `across_backward` for the `rows` inputs from j on, δ being in m.turned.

    The sums lie along the examples, so that W need not be transposed.
    """
    z_at, examples, across = under.z, kit.examples, under.across
    left, right = Matrix(place.w, 1, place.by_input), Matrix(0, examples, 0)
    n, down = place.layer.fan_out, place.down
    back = products(kit.unit_sums, n, rows, examples, left, right, down, examples)
    bend, turn = bent(kit, under, rows), turned_back(kit, under, rows)

    @inlined
    def delta(m, j, t):
        if across:
            back(m, m.units, m.w, m.turned, m.d, z_at + j * examples, j, t)
            bend(m, j, t)
        else:
            back(m, m.units, m.w, m.turned, m.back, 0, j, t)
            turn(m, 0, rows * examples, j, t)

    return delta


def turned_back(kit: Kit, under: Place, rows: int) -> Callable:
    """A function (m, at, room, j, t): δ = A'(z)·d of the `rows` units from j on, in their places.

    The d of a unit's examples lie side by side in m.back from `at` on; from `room` on is room.
    """
    step = kit.longest if rows % kit.longest == 0 else rows & -rows
    turn, lanes, examples = transposed(rows, kit.batch, kit.longest), lanes_of(step), kit.examples
    z_at, below, batch = under.z, under.by_example, kit.batch
    backward, active = kit.backward, under.layer.active

    @inlined
    def turn_back(m, at, room, j, t):
        turn(m.back, at, examples, m.back, room, rows)
        for i in range(batch):
            for c in range(0, rows, step):
                to = z_at + i * below + j + c
                d = load(m.back, room + i * rows + c, lanes)
                if active:
                    d = backward(d, load(m.z, to, lanes), t)
                store(m.d, to, d)

    return turn_back


def backward_and_update(kit: Kit, place: Place, under: Place, g_at: int) -> Callable:
    """`across_backward`, then W[j, u] ← update(W[j, u], Σ_i h[i, j]·δ[i, u]), for large W.

    A few rows of W at a time, which pass through the caches once.  The sums over u lie along the
    examples, so that W need not be transposed, only δ.  The gradients of some rows are applied
    while those of the next are summed: divisions run beside products (deep, 16.9 → 13.6 µs).
    """
    batch, fan_in, fan_out = kit.batch, place.layer.fan_in, place.layer.fan_out
    width, pitch, w_at = place.width, place.by_input, place.w
    turn_delta = transposed(batch, fan_out, kit.longest)
    d_at, size, vector, examples = place.z, min(fan_in, ROWS), kit.longest, kit.examples
    room, apply_one = size * pitch, apply_gradients(kit, vector)
    vectors, full = room // vector, fan_in - fan_in % size

    def block_of(rows: int) -> Callable:
        steps = steps_of(kit.batch_sums, batch, rows, width, vector)
        every = steps // vectors if rows == size else 0
        meanwhile = kit.batch_sums.tiled(batch) and every > 0

        @inlined
        def beside(m, q, t):
            g_before, w_before, n, rate, t = t
            k = q // every
            if q % every == 0 and k < vectors:
                if k < n:
                    apply_one(m, g_before + k * vector, w_before + k * vector, rate, t)
                # weights of the next rows, and their state: 31 → 27 µs
                prefetch_early(m.w, w_before + 2 * room + k * vector)
                prefetch_early(m.a, w_before + room + k * vector)

        left, right = Matrix(under.z, under.by_example, under.by_unit), Matrix(d_at, pitch, 0)
        more = beside if meanwhile else None
        total = products(kit.batch_sums, batch, rows, width, left, right, 0, pitch, beside=more)
        apply, below = apply_gradients(kit, rows * pitch), delta_below(kit, place, under, rows)

        @inlined
        def block(m, j, rate, t):
            below(m, j, t)
            to = g_at + j // size % 2 * room
            if meanwhile:
                before = (g_at + room - (to - g_at), w_at + (j - size) * pitch)
                total(m, m.plan, m.h, m.d, m.g, to, j, (*before, vectors * (j > 0), rate, t))
            else:
                total(m, m.plan, m.h, m.d, m.g, to, j, t)
            if not meanwhile or j + size == full:
                apply(m, to, w_at + j * pitch, rate, t)

        return block

    every_row = in_blocks(fan_in, size, block_of)

    @inlined
    def stage(m, x, first, rate, t):
        turn_delta(m.d, d_at, pitch, m.turned, 0, examples)
        every_row(m, rate, t)

    return stage


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
