"""Guards of speed that need no quiet machine: ratios within one process, repeated on failure."""

import time

import numpy as np
import pytest
from numba import njit
from numba.core.codegen import JITCodeLibrary

from nanorepro import Config, initial_parameters
from nanorepro.backends.numba.ensemble import make_ensemble
from nanorepro.backends.numba.llvm.simd import function, inlined
from nanorepro.data.packing import unpack
from nanorepro.data.sampling import examples
from nanorepro.data.worlds import make_world
from nanorepro.numerics.streams import stream_key
from nanorepro.specification import ModelSpec
from nanorepro.training.simulation import load_backend

TRIES = 5  # other work on the machine can spoil a measurement, not five of them


def plain_tower(x, y, w, b, gw, gb, aw, ab, h, d, widths, batch, lr, start):
    """The tower as one writes it first: an example at a time, loops over units, then AdaGrad."""
    for first in range(0, len(y), batch):
        gw[:] = np.float32(0.0)
        gb[:] = np.float32(0.0)
        for i in range(first, first + batch):
            for j in range(widths[0]):
                h[0, j] = x[i, j]
            for k in range(len(widths) - 1):
                for u in range(widths[k + 1]):
                    z = b[k, u]
                    for j in range(widths[k]):
                        z += w[k, u, j] * h[k, j]
                    last = k == len(widths) - 2
                    h[k + 1, u] = z if last or z > np.float32(0.0) else np.float32(0.0)
            top = len(widths) - 1
            p = np.float32(1.0) / (np.float32(1.0) + np.exp(-h[top, 0]))
            d[top, 0] = (p - np.float32(y[i])) / np.float32(batch)
            for k in range(len(widths) - 2, -1, -1):
                for j in range(widths[k]):
                    d[k, j] = np.float32(0.0)
                for u in range(widths[k + 1]):
                    gb[k, u] += d[k + 1, u]
                    for j in range(widths[k]):
                        gw[k, u, j] += h[k, j] * d[k + 1, u]
                        d[k, j] += w[k, u, j] * d[k + 1, u]
                for j in range(widths[k]):
                    if h[k, j] <= np.float32(0.0):
                        d[k, j] = np.float32(0.0)
        for k in range(len(widths) - 1):
            for u in range(widths[k + 1]):
                ab[k, u] += gb[k, u] * gb[k, u]
                b[k, u] -= lr * gb[k, u] / (np.sqrt(ab[k, u]) + start)
                for j in range(widths[k]):
                    aw[k, u, j] += gw[k, u, j] * gw[k, u, j]
                    w[k, u, j] -= lr * gw[k, u, j] / (np.sqrt(aw[k, u, j]) + start)


@pytest.fixture(scope="module")
def arrays():
    """The tower, and its first examples, packed and as float32."""
    config, n = Config(model="tower", seed=1), 1 << 12
    x, y = examples(make_world(1, "linear"), stream_key(1, "examples"), 0, n)
    return config, x[:, None], y, unpack(x[:, None], 32).astype(np.float32)


def plain(config, x, y):
    """A function that trains a plain tower from the start, and its weights by layer."""
    widths = np.array([32, *config.widths, 1])
    layers, widest = len(widths) - 1, 32
    shape = (layers, widest, widest)
    start, kernel = initial_parameters(config), njit(plain_tower)
    w, b = np.zeros(shape, np.float32), np.zeros((layers, widest), np.float32)

    def train():
        w[:], b[:] = 0.0, 0.0
        for k in range(layers):
            w[k, : widths[k + 1], : widths[k]] = start[f"w{k}"].T
        gw, gb = np.zeros_like(w), np.zeros_like(b)
        aw = np.full_like(w, config.initial_accumulator)
        ab = np.full_like(b, config.initial_accumulator)
        h = np.zeros((layers + 1, widest), np.float32)
        kernel(
            x, y, w, b, gw, gb, aw, ab, h, np.zeros_like(h), widths, config.batch,
            np.float32(config.lr), np.float32(config.epsilon),
        )  # fmt: skip

    return train, lambda k: w[k, : widths[k + 1], : widths[k]].T


def least(call) -> float:
    """The least seconds of three calls."""
    found = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def test_the_tower_against_a_plain_loop(arrays):
    """At least three times as fast as the loop that one writes first (16 times on our machine)."""
    config, packed, y, x = arrays
    train, weights = plain(config, x, y)
    train()
    model = load_backend("numba").Model(ModelSpec(config, 32, 0, 0), initial_parameters(config))
    model.train(packed, y)
    found = model.parameters()
    for k in range(len(config.widths) + 1):  # that the loop is no straw man
        np.testing.assert_allclose(found[f"w{k}"], weights(k), rtol=0.02, atol=0.02)
    ratios = []
    for _ in range(TRIES):
        ratios.append(least(train) / least(lambda: model.train(packed, y)))
        if ratios[-1] > 3.0:
            return
    pytest.fail(f"only {max(ratios):.1f} times as fast as a plain loop")


def test_models_side_by_side_against_one_after_another(arrays):
    """16 linear models on the same examples take less than 3/4 of the time (a third, measured)."""
    _, packed, y, _ = arrays
    config = Config(model="linear", seed=1, pairs=16, differ="init")
    spec, records = ModelSpec(config, 32, 0, 0), [initial_parameters(config, k) for k in range(16)]
    together, alone = (
        make_ensemble(spec, records),
        load_backend("numba").Model(spec, records[0]),
    )
    together.train(packed, y)
    alone.train(packed, y)
    assert together.count == 16
    ratios = []
    for _ in range(TRIES):
        one = least(lambda: alone.train(packed, y))
        ratios.append(least(lambda: together.train(packed, y)) / (16 * one))
        if ratios[-1] < 0.75:
            return
    pytest.fail(f"side by side they took {min(ratios):.2f} of the time")


@pytest.mark.slow
def test_products_by_zero_are_passed_over(arrays):
    """Large layers most of whose units are 0 take less than half of the time (a sixth, measured).

    Biases below 0 make them so with ReLU, and none with the identity.
    """
    _, packed, y, _ = arrays
    packed, y, models = packed[:512], y[:512], []
    for act in ("identity", "relu"):
        config = Config(hidden="512,512", act=act, data="quadratic", seed=1)
        spec, record = ModelSpec(config, 32, 0, 0), initial_parameters(config)
        lowered = {name: record[name] - np.float32(0.2) for name in ("b0", "b1")}
        models.append(load_backend("numba").Model(spec, record | lowered))
        models[-1].train(packed, y)
    ratios = []
    for _ in range(TRIES):
        every, some = (least(lambda m=model: m.train(packed, y)) for model in models)
        ratios.append(some / every)
        if ratios[-1] < 0.5:
            return
    pytest.fail(f"with ReLU they took {min(ratios):.2f} of the time")


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_the_callers_arrays_are_packed_in_little_time(kind, arrays):
    """As fast as NumPy packs them without a check (three times, measured)."""
    x = arrays[3].astype(kind, order="C")  # rows side by side, as callers have them
    pack = load_backend("numba").pack
    assert np.array_equal(pack(x), arrays[1])
    ratios = []
    for _ in range(TRIES):
        ratios.append(least(lambda: np.packbits(x != 0, axis=1)) / least(lambda: pack(x)))
        if ratios[-1] > 1.0:
            return
    pytest.fail(f"NumPy took only {max(ratios):.2f} times as long")


def test_time_is_linear_in_the_examples(arrays):
    """Eight times the mini-batches take no more than twelve times the time."""
    config, packed, y, _ = arrays
    model = load_backend("numba").Model(ModelSpec(config, 32, 0, 0), initial_parameters(config))
    model.train(packed, y)
    n, ratios = len(y) // 8, []
    for _ in range(TRIES):
        few = least(lambda: model.train(packed[:n], y[:n]))
        ratios.append(least(lambda: model.train(packed, y)) / few)
        if ratios[-1] < 12.0:
            return
    pytest.fail(f"eight times the examples took {min(ratios):.1f} times as long")


def test_only_kernels_have_machine_code(monkeypatch):
    """What a kernel is made of is compiled into it and not by itself as well."""
    made, finish = [], JITCodeLibrary._finalize_specific

    def finalize(library):
        made.append(library.name)
        finish(library)

    monkeypatch.setattr(JITCodeLibrary, "_finalize_specific", finalize)

    @inlined
    def twice(x):
        return x + x

    @function
    def four_times(x):
        return twice(twice(x))

    @njit
    def kernel(x):
        return four_times(x) + twice(x)

    assert kernel(7) == 42
    names = {name.rpartition(".")[2] for name in made}
    assert names - {"nrt"} == {"kernel"}  # the former is Numba's own, of the first compilation
