"""The stages of large layers: the units lie side by side, and weights pass the caches once."""

from collections.abc import Callable

from nanorepro.backends.layout import ROWS, Place
from nanorepro.backends.numba_sums import lanes_of
from nanorepro.backends.products import Matrix, products, steps_of
from nanorepro.backends.simd import inlined, load, prefetch_early, store
from nanorepro.backends.stages import Kit, activated, apply_gradients, bent, transposed


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


def backward_and_update(kit: Kit, place: Place, under: Place, g_at: int) -> Callable:
    """`across_backward`, then W[j, u] ← update(W[j, u], Σ_i h[i, j]·δ[i, u]), for large W.

    A few rows of W at a time, which pass through the caches once.  The sums over u lie along the
    examples, so that W need not be transposed, only δ.  The gradients of some rows are applied
    while those of the next are summed: divisions run beside products (deep, 16.9 → 13.6 µs).
    """
    batch, fan_in, fan_out = kit.batch, place.layer.fan_in, place.layer.fan_out
    width, pitch, w_at, z_at, examples = place.width, place.by_input, place.w, under.z, kit.examples
    below, by_unit, across = under.by_example, under.by_unit, under.across
    turn_delta = transposed(batch, fan_out, kit.longest)
    backward, active = kit.backward, under.layer.active
    d_at, size, vector = place.z, min(fan_in, ROWS), kit.longest
    room, apply_one = size * pitch, apply_gradients(kit, vector)
    vectors, full = room // vector, fan_in - fan_in % size

    def block_of(rows: int) -> Callable:
        step = kit.longest if rows >= kit.longest else rows & -rows
        lanes = lanes_of(step)
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

        left, right = Matrix(w_at, 1, pitch), Matrix(0, examples, 0)
        back = products(kit.unit_sums, fan_out, rows, examples, left, right, place.down, examples)
        turn_back = transposed(rows, batch, kit.longest)
        left, right = Matrix(z_at, below, by_unit), Matrix(d_at, pitch, 0)
        more = beside if meanwhile else None
        total = products(kit.batch_sums, batch, rows, width, left, right, 0, pitch, beside=more)
        apply, bend = apply_gradients(kit, rows * pitch), bent(kit, under, rows)
        turned = rows * examples

        @inlined
        def block(m, j, rate, t):
            if across:
                back(m, m.units, m.w, m.turned, m.d, z_at + j * examples, j, t)
                bend(m, j, t)
            else:
                back(m, m.units, m.w, m.turned, m.back, 0, j, t)
                turn_back(m.back, 0, examples, m.back, turned, rows)
                for i in range(batch):
                    for c in range(0, rows, step):
                        at = z_at + i * below + j + c
                        g = load(m.back, turned + i * rows + c, lanes)
                        if active:
                            g = backward(g, load(m.z, at, lanes), t)
                        store(m.d, at, g)
            to = g_at + j // size % 2 * room
            if meanwhile:
                before = (g_at + room - (to - g_at), w_at + (j - size) * pitch)
                total(m, m.plan, m.h, m.d, m.g, to, j, (*before, vectors * (j > 0), rate, t))
            else:
                total(m, m.plan, m.h, m.d, m.g, to, j, t)
            if not meanwhile or j + size == full:
                apply(m, to, w_at + j * pitch, rate, t)

        return block

    whole = block_of(size)
    rest = block_of(fan_in - full) if full < fan_in else None

    @inlined
    def stage(m, x, first, rate, t):
        turn_delta(m.d, d_at, pitch, m.turned, 0, examples)
        for j in range(0, full, size):
            whole(m, j, rate, t)

    if rest is None:
        return stage

    @inlined
    def stage_and_rest(m, x, first, rate, t):
        stage(m, x, first, rate, t)
        rest(m, full, rate, t)

    return stage_and_rest
