"""The interpreter of PTX finds what it is there to find, in mutants and in small programs."""

import numpy as np
import pytest
from support.ptx.device import Device
from support.ptx.parser import Module, PtxError
from support.slow import slow_after

from nanorepro.backends.cuda import nvrtc, program
from nanorepro.backends.cuda.ensemble import Ensemble
from nanorepro.backends.cuda.formulas import source_text
from nanorepro.backends.cuda.program import program_of, streams
from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.specification import ModelSpec
from nanorepro.training.parameters import initial_parameters

CONFIG = Config(hidden="6,3", batch=16, optimizer="sgd", lr=0.05)


def train(device, replace=("", ""), config=CONFIG, steps=3):
    """Train two models on random examples, with one text of their program replaced."""
    spec = ModelSpec(config, 32, 0, 0)
    small = program_of(config, dials(config, 0), 32).small
    assert replace[0] in small
    if replace[0]:
        device.programs[small] = device.compile(small.replace(*replace))
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 2**33, (2, steps * config.batch), np.uint64)
    rows &= np.uint64(0x155555555)  # features that no example has, too
    ensemble = Ensemble(device, [spec, spec], [initial_parameters(config)] * 2)
    ensemble.train(device.array(rows), 2 * steps * config.batch, 0, 1, steps)
    return ensemble.parameters()


BARRIER = "__syncwarp();"
BODY = source_text("small.cu")


def without(number):
    """The text around a barrier of `small.cu`, and the same without it."""
    at = [k for k in range(len(BODY)) if BODY.startswith(BARRIER, k)][number]
    before, after = BODY[at - 60 : at], BODY[at + len(BARRIER) : at + len(BARRIER) + 40]
    return before + BARRIER + after, before + after


def test_the_kernels_as_they_are_pass():
    train(Device())


@pytest.mark.parametrize("number", range(BODY.count(BARRIER)))
def test_a_missing_barrier_is_a_race(number):
    with pytest.raises(PtxError, match="race|nobody wrote"):
        train(Device(), without(number))


SYNC = "__syncthreads();"
# of layers without tiles, and with them
OF_THE_BLOCK = [
    (hidden, file, number)
    for hidden, file in (("33,3", "block.cu"), ("40,36", "block.cu"), ("40,36", "tiles.cu"))
    for number in range(source_text(file).count(SYNC))
]


@pytest.mark.parametrize(("hidden", "file", "number"), slow_after(1, OF_THE_BLOCK))
def test_a_missing_barrier_of_the_block_is_a_race(hidden, file, number):
    config = Config(hidden=hidden, batch=8 if hidden == "33,3" else 16, optimizer="sgd", lr=0.05)
    source, text = program_of(config, dials(config, 0), 32).layers, source_text(file)
    before = SYNC.join(text.split(SYNC)[: number + 1])
    at = source.index(text) + len(before)
    device = Device()
    device.programs[source] = device.compile(source[:at] + source[at + len(SYNC) :])
    rng = np.random.default_rng(3)
    rows = device.array(rng.integers(0, 2**33, (1, 3 * config.batch), np.uint64))
    ensemble = Ensemble(device, [ModelSpec(config, 32, 0, 0)], [initial_parameters(config)])
    with pytest.raises(PtxError, match="race"):
        ensemble.train(rows, 0, 0, 1, 3)


MANY = source_text("wide.cu")
OF_BLOCK = [k for k in range(len(MANY)) if MANY.startswith(SYNC, k)]


@pytest.mark.parametrize("number", slow_after(2, range(len(OF_BLOCK))))
def test_a_missing_barrier_of_many_units_is_a_race(number, monkeypatch):
    monkeypatch.setattr(program, "WORKERS", 2)
    at = OF_BLOCK[number]
    text = MANY[:at] + MANY[at + len(SYNC) :]
    config = Config(hidden="2,136", batch=4, optimizer="sgd", lr=0.05)  # several parts of units
    with pytest.raises(PtxError, match="race|nobody wrote"):
        train(Device(), (MANY, text), config=config, steps=2)


LOADED = "k < NUMBERS; k += 32) m[k]"
FEATURE = "const u32 feature = __shfl_sync(ALL_LANES, present.feature, first + part & 31);"
SOME_LANES = "u32 feature = 0; if (u < M - 1) feature = " + FEATURE.partition("= ")[2]
MUTANTS = {
    "deltas one row too far": ("D = H + UNITS * ROW,", "D = H + (UNITS + 1) * ROW,", "outside"),
    "examples of a step too many": ("if (s + 1 < steps)", "if (s < steps)", "outside"),
    "a model's memory too long": (
        LOADED,
        LOADED.replace("NUMBERS", "NUMBERS + 32"),
        "outside|race",
    ),
    "not all weights are loaded": (LOADED, LOADED.replace("NUMBERS", "32"), "nobody wrote"),
    "a collective under a condition": (FEATURE, SOME_LANES, "deadlock"),
    "two models in one place": ("memory + (u64)blockIdx.x * NUMBERS", "memory", "race"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant(name):
    old, new, message = MUTANTS[name]
    with pytest.raises(PtxError, match=message):
        train(Device(), (old, new))


def same(a, b):
    return all(np.array_equal(a[0][k], b[0][k]) for k in a[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("join(source, m, slots[slot][m]);", "join(source ^ 1, m, slots[slot][m]);"),
        ("s < steps; ++s", "s <= steps; ++s"),
    ],
    ids=["another order", "a step too many"],
)
def test_what_is_computed_otherwise_has_other_bits(old, new):
    config = Config(hidden="6,3", batch=16, act="swish")
    right = train(Device(), config=config)
    assert not same(train(Device(races=False), (old, new), config=config), right)


def test_contraction_gives_no_other_bits_because_operations_are_intrinsics():
    options = [o for o in nvrtc.OPTIONS if "fmad" not in o]
    config = Config(hidden="4", batch=8, fma="off")
    assert same(train(Device(options=options), config=config), train(Device(), config=config))


def test_flushing_to_zero_is_refused():
    options = [o for o in nvrtc.OPTIONS if "ftz" not in o]
    with pytest.raises(PtxError, match="not the contract's"):
        train(Device(options=[*options, "--ftz=true"]))


# Small programs

HEAD = "typedef unsigned int u32;\n"


def run(source, threads=64, words=64, shared=0, grid=(1, 1), races=True):
    """One kernel `k(u32* a)` over an array of so many words."""
    device = Device(races=races)
    program = device.compile(HEAD + source)
    a = device.array(np.arange(words, dtype=np.uint32))
    program.launch("k", grid, threads, [a], shared)
    return device.get(a)


def kernel(body):
    return f'extern "C" __global__ void k(u32* a) {{ {body} }}'


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a[threadIdx.x / 2] = threadIdx.x;", "two threads write at once"),
        ("a[threadIdx.x ^ 1] = a[threadIdx.x];", "race"),
        ("a[0] = a[threadIdx.x];", "race|at once"),
        ("if (blockIdx.x) a[0] = 7; else a[1] = a[0];", "race"),
        # a barrier of the warp does not order what another warp does
        ("u32 v = a[threadIdx.x]; __syncwarp(); a[(threadIdx.x + 32) % 64] = v;", "race"),
        ("__shared__ u32 s[64]; a[threadIdx.x] = s[threadIdx.x];", "nobody wrote"),
        ("__shared__ u32 s[64]; s[threadIdx.x] = 1; a[threadIdx.x] = s[63 - threadIdx.x];", "race"),
        ("a[threadIdx.x + 1] = 0;", "outside"),
        ("*(unsigned long long*)(a + 1) = threadIdx.x;", "not aligned|at once"),
        ("if (threadIdx.x % 2) __syncthreads(); a[threadIdx.x] = 0;", "deadlock"),
        ("if (threadIdx.x < 16) __syncwarp(); a[threadIdx.x] = 0;", "deadlock"),
        ("if (threadIdx.x < 16) a[threadIdx.x] = __ballot_sync(0xFFFF, 1);", "deadlock|mask"),
        ("atomicAdd((float*)a, 1.0f);", "unknown operation"),
        ("((float*)a)[threadIdx.x] = __expf(a[threadIdx.x]);", "contract|unknown"),
    ],
)  # fmt: skip
def test_finds(body, message):
    with pytest.raises(PtxError, match=message):
        run(kernel(body), grid=(2, 1) if "blockIdx" in body else (1, 1))


@pytest.mark.parametrize(
    "body",
    [
        "u32 v = a[threadIdx.x]; __syncthreads(); a[63 - threadIdx.x] = v;",
        "u32 v = a[threadIdx.x]; __syncwarp(); a[threadIdx.x ^ 1] = v;",
        "__shared__ u32 s[64]; s[threadIdx.x] = a[threadIdx.x]; __syncthreads();"
        " a[threadIdx.x] = s[63 - threadIdx.x];",
        "for (u32 k = 0; k < threadIdx.x; ++k) a[threadIdx.x] += k; __syncwarp();",
    ],
)
def test_passes_what_is_ordered(body):
    run(kernel(body))


def test_reads_of_one_word_by_all_and_a_later_write():
    body = "u32 v = a[0]; a[threadIdx.x + 64] = v; {} if (threadIdx.x == 5) a[0] = v + 1;"
    assert run(kernel(body.format("__syncthreads();")), words=128)[0] == 1
    for barrier in ("", "__syncwarp();"):
        with pytest.raises(PtxError, match="race"):
            run(kernel(body.format(barrier)), words=128)


def test_arguments_of_another_size_are_refused():
    device = Device()
    program = device.compile('extern "C" __global__ void k(unsigned* a, unsigned n) { a[0] = n; }')
    a = device.array(np.zeros(1, np.uint32))
    program.launch("k", (1, 1), 1, [a, np.uint32(7)])
    assert device.get(a)[0] == 7
    for wrong in (7, np.uint64(7)):
        with pytest.raises(PtxError, match="bytes"):
            program.launch("k", (1, 1), 1, [a, wrong])


def test_an_array_that_was_not_written_is_not_given_back():
    device = Device()
    with pytest.raises(PtxError, match="nobody wrote"):
        device.get(device.empty((3,), np.float32))


@pytest.mark.parametrize("word", ["add.ftz.f32", "ex2.approx.f32", "add.f32", "add.sat.f32"])
def test_operations_that_are_not_the_contracts(word):
    text = nvrtc.compiled(streams(), "90").decode()
    line = f"\tmov.u32 \t%r1, %tid.x;\n\t{word} \t%f1, %f1, %f1;\n"
    with pytest.raises(PtxError):
        Module(text.replace("{\n", "{\n\t.reg .f32 %f<9>;\n" + line, 1))
