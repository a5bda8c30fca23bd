"""Traced formulas: their bits are those of the same factories on NumPy's arrays."""

import itertools

import numpy as np
import pytest
from support.ptx.device import Device
from support.records import assert_same_bits

from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.array_namespace import DeviceFunctions, Namespace
from nanorepro.backends.cuda.formulas import ARGUMENTS, formulas, source_text
from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.rounding import operations

KEY = np.array([[12345, 678]], np.uint64)
STEP = 2**35 + 3
HARD = [0.0, 1.0, 1.5, 2.0**-149, 2.0**-126, 3e-45, 1.1754942e-38, 1e-20, 2.0**-100, 2.0**-101]
HARD += [0.1, 3.0, 88.8, 103.9, 1e10, 3.4e38, 1.0039062, 1.0000001, float("inf"), float("nan")]
HARD += [-v for v in HARD]

PRECISIONS = [
    *(("float32", r) for r in ("nearest", "toward-zero", "stochastic")),
    ("float64", "nearest"),
    *((f"bits:{p}", "nearest") for p in (2, 5, 8, 9, 11, 12, 18, 19, 23, 24)),
    *itertools.product(("bits:8", "bits:20"), ("toward-zero", "stochastic")),
]


def kernels(names, counts):
    """A kernel for each function: so many arrays in, one out."""
    text = ""
    for name, count in zip(names, counts, strict=True):
        arrays = "".join(f"const number* a{k}, " for k in range(count))
        values = ", ".join(f"a{k}[i]" for k in range(count))
        text += (
            f'extern "C" __global__ void test_{name}({arrays}const u64* keys, u64 step, u32 n,'
            " number* out) {\n  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;\n"
            f"  if (i < n) out[i] = {name}({values}, RoundingKey{{keys[0], keys[1], step}});\n}}\n"
        )
    return text


def operands(rng, dtype, const, count):
    """Every pair of hard numbers, and random ones, rounded to the precision."""
    values = np.concatenate([HARD, rng.normal(0, 1, 60), np.exp(rng.normal(0, 30, 60))])
    values = np.asarray(const(values), dtype)
    grids = [values] * min(count, 2)
    found = [np.ravel(a) for a in np.meshgrid(*grids)]
    while len(found) < count:
        found.append(rng.permutation(found[0]))
    if count == 1:
        found = [np.asarray(const(np.concatenate([values, rng.normal(0, 20, 4000)])), dtype)]
    return found


def apply(device, program, name, values):
    """A kernel's results, of one number a thread."""
    n, out = len(values[0]), device.empty((len(values[0]),), values[0].dtype)
    arguments = [*map(device.array, values), device.array(KEY), np.uint64(STEP), np.uint32(n), out]
    program.launch(f"test_{name}", (-(-n // 128), 1), 128, arguments)
    return device.get(out)


@pytest.mark.parametrize(("precision", "rounding"), PRECISIONS)
def test_operations_and_activations(precision, rounding):
    rng = np.random.default_rng(7)
    config = Config(act="swish", beta=1.5, precision=precision, rounding=rounding)
    d = dials(config, 0)
    found = formulas(config, d, 100, 1)
    names, counts = zip(*((f"op_{k}", len(v)) for k, v in ARGUMENTS.items()), strict=True)
    names, counts = [*names, "activation", "activation_backward"], [*counts, 1, 2]
    device = Device(races=False)
    source = source_text("common.cu") + found.text + kernels(names, counts)
    program = device.compile(source)
    ops = operations(numpy_arrays, precision, rounding, d.fma)
    value, backward = ACTIVATIONS["swish"].make(numpy_arrays, ops, config.beta)
    t = (KEY[0, 0], KEY[0, 1], np.uint64(STEP))
    with np.errstate(all="ignore"):
        for name, count in zip(names, counts, strict=True):
            values = operands(rng, ops.dtype, ops.const, count)
            function = {"activation": value, "activation_backward": backward}.get(name)
            function = function or getattr(ops, name[3:])
            expected = np.asarray(function(*values, t), ops.dtype)
            assert_same_bits(apply(device, program, name, values), expected, f"{name} {precision}")


def test_branches_become_both_ways():
    def f(a, b, t):
        if a < b or b < 0.0:
            return a + b if a > 1.0 else a
        return b

    program = DeviceFunctions()
    program.define("f", f, "ff", ["a", "b"])
    text = program.text()
    assert text.count("return") == 5  # three ways, of which the first two fork again
    assert text.count("if (") == 4


def test_what_would_round_twice_is_refused():
    """A float32 that meets a float64 would be widened silently."""

    def f(a, b, t):
        return a + b

    with pytest.raises(TypeError, match="kinds differ"):
        DeviceFunctions().define("f", f, "fd", ["a", "b"])


@pytest.mark.parametrize("directed", [False, True])
def test_a_value_is_computed_once(directed):
    program = DeviceFunctions()
    program.define("f", lambda a, t: Namespace(directed).sqrt(a + a) * (a + a), "f", ["a"])
    assert program.text().count("__fadd_rn") == 1


def test_options_keep_subnormal_numbers_and_products_apart():
    assert {"--ftz=false", "--fmad=false", "--prec-div=true", "--prec-sqrt=true"} <= set(
        nvrtc.OPTIONS
    )
