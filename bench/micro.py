"""python -m bench.micro: every kernel of a training step as a fraction of what the machine can do.

First the machine's limits, measured on the same core: fused multiply-adds, divisions and square
roots a second, and bytes a second from each cache and from memory.  Then each kernel of a model's
step by itself, with the operations and bytes that its record says it must do; the floor is the time
that the scarcest of them needs at its limit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from bench import harness
from bench.cases import CONFIGS, SIZES, Case
from bench.harness import median, seconds_of
from nanorepro.backends.numba.context import KernelContext
from nanorepro.backends.numba.kernel import Counts, Work
from nanorepro.backends.numba.kernels.step import Pick
from nanorepro.backends.numba.llvm import memory, simd, tiles
from nanorepro.backends.numba.model import Model
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.specification import ModelSpec

LANES = 16  # of a float32 vector; a CPU with shorter registers takes several for one
READ = {"L1": 1 << 14, "L2": 1 << 19, "L3": 1 << 24, "memory": 1 << 30}  # bytes that are read
CACHES = (("L1", 1 << 15), ("L2", 1 << 20), ("L3", 1 << 25), ("memory", 1 << 62))


@dataclass(frozen=True)
class Limits:
    """A second's worth of each on this core; `bytes` by level."""

    operations: float
    divisions: float
    roots: float
    bytes: dict[str, float]

    def level(self, resident: float) -> str:
        return next(name for name, size in CACHES if resident <= size)

    def floor(self, work: Work) -> tuple[float, str]:
        """Seconds that the work takes at least, and for want of what."""
        level = self.level(work.resident)
        needs = {
            "fma": work.operations / self.operations,
            "÷ √": work.divisions / self.divisions + work.roots / self.roots,
            level: work.bytes / self.bytes[level],
        }
        scarcest = max(needs, key=lambda name: needs[name])
        return needs[scarcest], scarcest


# The machine


def _repeat(make: Callable) -> Callable:
    """A kernel that does make()'s step n times, on a tile of 16 vectors that start from `first`."""
    step, lanes, rows, columns = make(), lanes_of(LANES), lanes_of(4), lanes_of(4)
    fill_tile, store_tile = tiles.fill_tile, tiles.store_tile

    @njit(nogil=True)
    def kernel(n, first, a, b, out):
        tile = fill_tile(first, lanes, rows, columns)
        for _ in range(n):
            tile = step(tile, a, b)
        store_tile(tile, out, 0, 4 * LANES, rows, columns)

    return kernel


def _fused() -> Callable:
    one, four, lanes = lanes_of(1), lanes_of(4), lanes_of(LANES)
    outer, load_tile = tiles.outer, tiles.load_tile

    @simd.inlined
    def step(tile, a, b):
        return outer(tile, a, 0, 1, load_tile(b, 0, 0, lanes, one, four), four)

    return step


def _of_tile(operation: Callable) -> Callable:
    """The same operation on the 16 vectors of a tile."""

    @simd.inlined
    def step(tile, a, b):
        t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, ta, tb, tc, td, te, tf = tile
        return (
            operation(t0, b), operation(t1, b), operation(t2, b), operation(t3, b),
            operation(t4, b), operation(t5, b), operation(t6, b), operation(t7, b),
            operation(t8, b), operation(t9, b), operation(ta, b), operation(tb, b),
            operation(tc, b), operation(td, b), operation(te, b), operation(tf, b),
        )  # fmt: skip

    return step


def _divided() -> Callable:
    lanes, load = lanes_of(LANES), memory.load

    @simd.inlined
    def divide(x, b):
        return load(b, 0, lanes) / x

    return _of_tile(divide)


def _rooted() -> Callable:
    sqrt = simd.sqrt

    @simd.inlined
    def root(x, b):
        return sqrt(x)

    return _of_tile(root)


@njit(nogil=True)
def read(n, a, out):
    """Read the array n times, eight vectors a round."""
    lanes = (0,) * 16
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = simd.fill(np.float32(0.0), lanes)
    for _ in range(n):
        for k in range(0, a.shape[0], 128):
            s0 = s0 + memory.load(a, k, lanes)
            s1 = s1 + memory.load(a, k + 16, lanes)
            s2 = s2 + memory.load(a, k + 32, lanes)
            s3 = s3 + memory.load(a, k + 48, lanes)
            s4 = s4 + memory.load(a, k + 64, lanes)
            s5 = s5 + memory.load(a, k + 80, lanes)
            s6 = s6 + memory.load(a, k + 96, lanes)
            s7 = s7 + memory.load(a, k + 112, lanes)
    memory.store(out, 0, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7)


def aligned(n: int) -> np.ndarray:
    """n zeros, float32, from the beginning of a cache line on."""
    raw = np.zeros(n + 16, np.float32)
    at = -raw.ctypes.data // 4 % 16
    return raw[at : at + n]


def limits(seconds: float, rounds: int) -> Limits:
    """Measure what this core can do, the best of some rounds."""
    # 0·1 + sum, 1/1, √1: numbers that stay as they are
    a, b, out, first = aligned(64), aligned(4 * LANES), aligned(16 * LANES), np.float32(1.0)
    b[:] = 1.0

    def best(call: Callable[[], object]) -> float:
        call()
        return min(seconds_of(call, seconds) for _ in range(rounds))

    def rate(make: Callable) -> float:
        kernel, n = _repeat(make), 20_000
        return n * 16 * LANES / best(lambda: kernel(n, first, a, b, out))

    bandwidth = {}
    for level, size in READ.items():
        array = aligned(size // 4)
        n = max(1, (1 << 25) // size)
        bandwidth[level] = n * size / best(lambda array=array, n=n: read(n, array, out))
        del array
    return Limits(rate(_fused), rate(_divided), rate(_rooted), bandwidth)


# The kernels


def size_of(ctx: KernelContext, pick: Pick) -> str:
    """The shape of the layer that a kernel works for; "all" if it is for several."""
    layers = {k for of in pick.kernel.carries.values() for k in of(ctx, pick.k)}
    layer = ctx.net[pick.k]
    return f"{layer.fan_in}→{layer.fan_out}" if len(layers) == 1 else "all"


def counts_in(model: Model, features: float, rows: float) -> Counts:
    """What the mini-batch in a model's memory has."""
    layout, ctx, m = model.layout, model.compiled.ctx, model.memory
    picks = model.compiled.step.picks
    sparse = [p.k for p in picks if "active_mask" in p.kernel.reads]
    first = m.duplicate_of[: ctx.batch] == np.arange(ctx.batch)
    different = first.sum() if any("duplicate_of" in p.kernel.reads for p in picks) else 0.0
    if not sparse or layout[sparse[0]].recomputed:
        return Counts(features, rows, different)
    place, s, blocks = layout[sparse[0]], ctx.batch, -(-ctx.batch // 32)
    words = m.examples_of_input[: blocks * place.layer.fan_in].reshape(-1, blocks, 1)
    h = (words >> np.arange(32, dtype=np.uint32) & 1).reshape(place.layer.fan_in, -1)[:, :s]
    delta = m.transposed[: place.layer.fan_out * layout.examples].reshape(-1, layout.examples)
    return Counts(
        features, rows, different, h[:, first].sum(), h.sum(), h.any(1).sum(), delta.any(1).sum()
    )


def seconds_of_kernel(kernel: Callable, model: Model, x: np.ndarray, least: float) -> float:
    """Seconds of a kernel on the mini-batch that the model's memory holds."""
    pointers, pointer = memory.pointers, memory.pointer

    @njit(nogil=True)
    def repeated(n, memory, x, rate, t):
        m, features = pointers(memory), pointer(x)
        for _ in range(n):
            kernel(m, features, 0, rate, t)

    # a rate of 0: that the same gradient is applied again and again must not lead anywhere
    key = model.spec.key("rounding")
    t, rate = (key[0], key[1], np.uint64(0)), model.memory.w.dtype.type(0.0)
    repeated(1, model.memory, x, rate, t)
    once = seconds_of(lambda: repeated(1, model.memory, x, rate, t), 0.002)
    n = max(1, int(least / 4 / once))
    return seconds_of(lambda: repeated(n, model.memory, x, rate, t), least) / n


def measure(case: str, given, machine: Limits) -> list[tuple[str, str, float, float, str]]:
    """(kernel, size, ns an example, floor, scarcest) of each kernel of a case's step."""
    made = Case(CONFIGS[case], 1 << 11)
    config, (x, y) = made.config, made.packed
    model = Model(ModelSpec(config, 32, 0, 0), made.start(0))
    model.train(x[:, None], y)
    s, ctx, layout = config.batch, model.compiled.ctx, model.layout
    batches = x.reshape(-1, s)
    features = float(np.mean([_features(b) for b in batches]))
    rows = float(np.mean([int(np.bitwise_or.reduce(b)).bit_count() for b in batches]))
    typical = min(range(len(batches)), key=lambda k: abs(_features(batches[k]) - features))
    now = np.ascontiguousarray(batches[typical][:, None])
    found = []
    for pick in model.compiled.step.picks:
        kernel = pick.build(ctx, layout)
        seconds = median(
            [seconds_of_kernel(kernel, model, now, given.seconds) for _ in range(given.rounds)]
        )
        work = pick.kernel.work(ctx, layout, pick.k, counts_in(model, features, rows))
        floor, scarcest = machine.floor(work)
        size = size_of(ctx, pick)
        found.append((pick.kernel.name, size, 1e9 * seconds / s, 1e9 * floor / s, scarcest))
    # and the whole step, on so many examples that a call's beginning and end do not count
    long = Case(config, SIZES[case].single)
    x, y = long.packed[0][:, None], long.packed[1]
    whole = median(
        [seconds_of(lambda: model.train(x, y), given.seconds) / long.n for _ in range(given.rounds)]
    )
    total = sum(row[3] for row in found)
    found.append(("the whole step", "", 1e9 * whole, total, ""))
    return found


def _features(batch: np.ndarray) -> int:
    return sum(int(v).bit_count() for v in batch)


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.micro", __doc__, rounds=3, seconds=0.1)
    parser.names("--models", list(CONFIGS), "whose kernels")
    given = parser.read(argv)
    print(harness.begin(given) + "\n")
    machine = limits(given.seconds, given.rounds)
    print(
        f"fma {machine.operations / 1e9:.1f} G/s ({2 * machine.operations / 1e9:.0f} GFLOP/s),"
        f" ÷ {machine.divisions / 1e9:.2f} G/s, √ {machine.roots / 1e9:.2f} G/s; read "
        + ", ".join(f"{k} {v / 1e9:.0f} GB/s" for k, v in machine.bytes.items())
    )
    rows = []
    for case in given.models:
        found = measure(case, given, machine)
        lines = [("kernel", "layer", "ns/example", "floor", "for want of", "of the limit")]
        for name, size, ns, floor, scarcest in found:
            share = f"{100 * floor / ns:.0f} %" if floor else "-"
            shown = f"{floor:.3g}" if floor else "-"
            lines.append((name, size, f"{ns:.3g}", shown, scarcest, share))
            rows.append((case, name, size, ns, floor, scarcest))
        print(f"\n{case}\n" + harness.table(lines))
    head = ("model", "kernel", "layer", "ns", "floor", "scarcest")
    harness.write_csv(given.out / "micro.csv", head, rows)
    return 0


if __name__ == "__main__":
    harness.main("bench.micro", run)
