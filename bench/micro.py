"""python -m bench.micro: every stage of a training step as a fraction of what the machine can do.

First the machine's limits, measured on the same core: fused multiply-adds, divisions and square
roots a second, and bytes a second from each cache and from memory.  Then each stage of a model's
step by itself, with the operations and bytes that it has to do; the floor is the time that the
scarcest of them needs at its limit.  A stage whose work is not counted here has no floor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
from numba import njit

from bench import harness
from bench.cases import CONFIGS, Case
from bench.harness import median, seconds_of
from nanorepro.backends.numba import model as numba_model
from nanorepro.backends.numba.kernels import step
from nanorepro.backends.numba.layout import Map, Place
from nanorepro.backends.numba.llvm import simd, tiles
from nanorepro.backends.numba.sums.by_plan import lanes_of
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.specification import ModelSpec

LANES = 16  # of a float32 vector; a CPU with shorter registers takes several for one
SIZES = {"L1": 1 << 14, "L2": 1 << 19, "L3": 1 << 24, "memory": 1 << 30}  # bytes that are read
CACHES = (("L1", 1 << 15), ("L2", 1 << 20), ("L3", 1 << 25), ("memory", 1 << 62))


@dataclass(frozen=True)
class Work:
    """What something has to do: fused, added or multiplied numbers; divisions; roots; bytes."""

    operations: float = 0.0
    divisions: float = 0.0
    roots: float = 0.0
    bytes: float = 0.0
    resident: float = 0.0  # bytes among which these are: says which cache they come from

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.operations + other.operations,
            self.divisions + other.divisions,
            self.roots + other.roots,
            self.bytes + other.bytes,
            max(self.resident, other.resident),
        )


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
    lanes, load = lanes_of(LANES), simd.load

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
            s0 = s0 + simd.load(a, k, lanes)
            s1 = s1 + simd.load(a, k + 16, lanes)
            s2 = s2 + simd.load(a, k + 32, lanes)
            s3 = s3 + simd.load(a, k + 48, lanes)
            s4 = s4 + simd.load(a, k + 64, lanes)
            s5 = s5 + simd.load(a, k + 80, lanes)
            s6 = s6 + simd.load(a, k + 96, lanes)
            s7 = s7 + simd.load(a, k + 112, lanes)
    simd.store(out, 0, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7)


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
    for level, size in SIZES.items():
        array = aligned(size // 4)
        n = max(1, (1 << 25) // size)
        bandwidth[level] = n * size / best(lambda array=array, n=n: read(n, array, out))
        del array
    return Limits(rate(_fused), rate(_divided), rate(_rooted), bandwidth)


# The stages


@dataclass(frozen=True)
class Stage:
    """A stage of a step: its factory's name, the layer that it was made for, and its function."""

    name: str
    place: Place | None  # None: several layers together
    call: Callable

    @property
    def size(self) -> str:
        layer = self.place and self.place.layer
        return f"{layer.fan_in}→{layer.fan_out}" if layer else "all"


def stages_of(config) -> tuple[list[Stage], Map]:
    """The stages of a training step in order, and the map of its memory."""
    recorded: list[Stage] = []

    def recording(factory):
        def make(kit, *at):
            place = next((p for p in at[:1] if isinstance(p, Place)), None)
            return Stage(factory.__name__, place, factory(kit, *at))

        return make

    def record(found):
        recorded.extend(found)
        return step.nothing

    # a factory takes the kit, then a layer's place or the map of all, if either
    factories = {
        name: recording(f)
        for name, f in vars(numba_model).items()
        if getattr(f, "__annotations__", {}).get("kit") is step.Kit
        and f.__annotations__["return"] is Callable
        and f.__module__ != numba_model.__name__
    }
    with mock.patch.multiple(numba_model, sequence=record, **factories):
        essence, spec = numba_model.essence(config), ModelSpec(config, 32, 0, 0)
        compiled = numba_model.compile_model.__wrapped__(essence, spec.dials, 32)
    return recorded, compiled.map


def update_work(config, n: float) -> Work:
    """Work of updating n weights: they and their state are read and written."""
    optimizer = OPTIMIZERS[config.optimizer]
    return Work(
        operations=optimizer.operations * n,
        divisions=optimizer.divisions * n,
        roots=optimizer.roots * n,
        bytes=8 * (1 + len(optimizer.state)) * n,
    )


@dataclass(frozen=True)
class Met:
    """How much there is in a mini-batch."""

    bits: float  # features present, of all examples together
    rows: float  # different ones of them
    # of a large layer behind a ReLU, below it: what is not 0
    distinct: float = 0.0  # h of different examples
    terms: float = 0.0  # h of all examples
    inputs: float = 0.0  # inputs of some example
    units: float = 0.0  # units whose δ is not 0 for some example


def met_in(model, config, chart: Map, bits: float, rows: float) -> Met:
    """What the mini-batch in a model's memory has."""
    place, m = next((p for p in chart.places[1:] if not p.across), None), model.memory
    if place is None:
        return Met(bits, rows)
    fan_in, s = place.layer.fan_in, config.batch
    h = m.who[:fan_in, None] >> np.arange(s, dtype=np.uint32) & 1
    delta = m.turned[: place.layer.fan_out * chart.examples].reshape(-1, chart.examples)
    first = m.like[:s] == np.arange(s)
    return Met(bits, rows, h[:, first].sum(), h.sum(), h.any(1).sum(), delta.any(1).sum())


def work_of(config, stage: Stage, chart: Map, met: Met) -> Work | None:
    """What a stage has to do."""
    s, bits, rows = config.batch, met.bits, met.rows
    if stage.place is None:
        return work_together(config, stage.name, chart)
    layer = stage.place.layer
    fan_in, fan_out = layer.fan_in, layer.fan_out
    weights = fan_in * layer.row
    moved = 4 * (weights + s * fan_in + s * fan_out)
    activation = Work(operations=2 * s * fan_out, bytes=12 * s * fan_out, resident=8 * s * fan_out)
    product = Work(operations=s * weights, bytes=moved, resident=moved)
    masked = Work(operations=bits * layer.row, bytes=4 * bits * layer.row, resident=8 * weights)
    match stage.name:
        case "find_features":
            return Work(operations=32 * s, bytes=8 * s)
        case "first_forward" | "present_forward" | "narrow_forward" | "narrow_present_forward":
            sums = masked + Work(bytes=4 * s * fan_out)
            return replace(sums, resident=4 * weights) + activation
        case "passing_forward":
            above = _outputs(chart, layer) * fan_out
            return Work(operations=s * (weights + above + 2 * fan_out), bytes=4 * (weights + above))
        case "passing_backward":
            # forward again, but for ReLU, and δ below
            above = _outputs(chart, layer) * fan_out
            again = 0 if ACTIVATIONS[config.act].often_zero else weights + fan_out
            count = again + weights + above + 2 * fan_out
            return Work(operations=s * count, bytes=4 * (weights + above))
        case "passing_update":
            # and again, and the gradients of both layers
            above = _outputs(chart, layer) * fan_out
            count = 2 * weights + 2 * above + 5 * fan_out
            return Work(operations=s * count) + update_work(config, weights + fan_out + above)
        case "dense_forward" | "across_forward":
            return product + activation
        case "sparse_forward":
            sums = Work(operations=met.distinct * layer.row, bytes=moved, resident=moved)
            return sums + activation
        case "sparse_backward_and_update":
            below = Work(operations=s * met.inputs * met.units + s * fan_in)
            sums = Work(operations=met.terms * layer.row, bytes=moved, resident=8 * weights)
            return below + sums + update_work(config, met.inputs * layer.row)
        case "output_gradient":
            # σ: some 17 operations in float64, each as much as two, and one division of each kind
            return Work(operations=36 * s, divisions=4 * s, bytes=12 * s)
        case "across_backward":
            return product + Work(operations=s * fan_in)
        case "across_gradients":
            return product
        case "fused_backward":
            # and the sums of the gradients by these weights and by the biases below
            return product + Work(operations=s * weights + 2 * s * fan_in, bytes=moved)
        case "backward_and_update":
            backward = Work(operations=s * weights + s * fan_in, bytes=moved, resident=4 * weights)
            new = Work(operations=s * weights, bytes=moved - 4 * weights, resident=8 * weights)
            return backward + new + update_work(config, weights)
        case "first_update" | "narrow_update" | "narrow_tiled_update":
            return masked + update_work(config, rows * layer.row * stage.place.alone)
        case "bias_sums":
            return Work(operations=s * fan_out, bytes=4 * s * fan_out)
    return None


def _outputs(chart: Map, layer) -> int:
    """Units of the layer over a layer."""
    above = [p.layer for p in chart.places]
    return above[above.index(layer) + 1].fan_out


def work_together(config, name: str, chart: Map) -> Work | None:
    """What a stage of several layers has to do."""
    s, places = config.batch, chart.places
    units = chart.units
    match name:
        case "find_equals":
            return Work(operations=s * s, bytes=8 * s)
        case "turn_deltas" | "turn_outputs":
            units = chart.outputs if name == "turn_outputs" else units
            return Work(bytes=2 * 4 * units * s, resident=2 * 4 * units * s)
        case "few_bias_sums" | "shared_gradients":
            weights = sum(p.layer.fan_in * p.layer.row for p in places if p.shared)
            return Work(operations=s * (weights + units), bytes=4 * s * (units + chart.outputs))
        case "update_small":
            weights = sum(p.layer.fan_in * p.layer.row for p in places if not p.alone)
            biases = sum(p.layer.fan_out for p in places if p.layer.bias and not p.passing)
            return update_work(config, weights + biases)
    return None


def seconds_of_stage(stage: Callable, model, x, least: float) -> float:
    """Seconds of a stage on the mini-batch that the model's memory holds."""
    pointers, pointer = simd.pointers, simd.pointer

    @njit(nogil=True)
    def kernel(n, memory, x, rate, t):
        m, features = pointers(memory), pointer(x)
        for _ in range(n):
            stage(m, features, 0, rate, t)

    # a rate of 0: that the same gradient is applied again and again must not lead anywhere
    key = model.spec.key("rounding")
    t, rate = (key[0], key[1], np.uint64(0)), model.memory.w.dtype.type(0.0)
    kernel(1, model.memory, x, rate, t)
    once = seconds_of(lambda: kernel(1, model.memory, x, rate, t), 0.002)
    n = max(1, int(least / 4 / once))
    return seconds_of(lambda: kernel(n, model.memory, x, rate, t), least) / n


def measure(case: str, given, machine: Limits) -> list[tuple[str, str, float, float, str]]:
    """(stage, size, ns an example, floor, scarcest) of each stage of a case's step."""
    made = Case(CONFIGS[case], 1 << 11)
    config, (x, y) = made.config, made.packed
    spec = ModelSpec(config, 32, 0, 0)
    model = numba_model.Model(spec, made.start(0))
    model.train(x[:, None], y)
    s = config.batch
    batches = x.reshape(-1, s)
    bits = float(np.mean([sum(int(v).bit_count() for v in b) for b in batches]))
    rows = float(np.mean([int(np.bitwise_or.reduce(b)).bit_count() for b in batches]))
    typical = min(range(len(batches)), key=lambda k: abs(_bits(batches[k]) - bits))
    now = np.ascontiguousarray(batches[typical][:, None])
    known, chart = stages_of(config)
    found = []
    for stage in known:
        seconds = median(
            [seconds_of_stage(stage.call, model, now, given.seconds) for _ in range(given.rounds)]
        )
        work = work_of(config, stage, chart, met_in(model, config, chart, bits, rows))
        floor, scarcest = machine.floor(work) if work else (0.0, "-")
        found.append((stage.name, stage.size, 1e9 * seconds / s, 1e9 * floor / s, scarcest))
    # and the whole step
    whole = median(
        [
            seconds_of(lambda: model.train(x[:, None], y), given.seconds) / made.n
            for _ in range(given.rounds)
        ]
    )
    total = sum(row[3] for row in found)
    found.append(("the whole step", "", 1e9 * whole, total, ""))
    return found


def _bits(batch: np.ndarray) -> int:
    return sum(int(v).bit_count() for v in batch)


def run(argv: Sequence[str] | None) -> int:
    parser = harness.Parser("bench.micro", __doc__, rounds=3, seconds=0.1)
    parser.names("--models", list(CONFIGS), "whose stages")
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
        lines = [("stage", "layer", "ns/example", "floor", "for want of", "of the limit")]
        for name, size, ns, floor, scarcest in found:
            share = f"{100 * floor / ns:.0f} %" if floor else "-"
            shown = f"{floor:.3g}" if floor else "-"
            lines.append((name, size, f"{ns:.3g}", shown, scarcest, share))
            rows.append((case, name, size, ns, floor, scarcest))
        print(f"\n{case}\n" + harness.table(lines))
    head = ("model", "stage", "layer", "ns", "floor", "scarcest")
    harness.write_csv(given.out / "micro.csv", head, rows)
    return 0


if __name__ == "__main__":
    harness.main("bench.micro", run)
