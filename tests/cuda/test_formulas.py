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
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.accumulators import ACCUMULATORS
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


TERMS = 4  # products of a sum, and as many terms of their own
SUMS = """
extern "C" __global__ void test_sum(const number* a, const number* b, const number* c, u32 terms,
                                    u32 n, const u64* keys, u64 step, number* out) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  RoundingKey t{keys[0], keys[1], step};
  Unit sum, other;
  for (u32 k = 0; k < terms; ++k) {
    (k % 2 ? other : sum).product(a[k * n + i], b[k * n + i], t);
  }
  for (u32 k = 0; k < terms; ++k) sum.term(c[k * n + i], t);
  sum.merge(other, t);
  out[i] = sum.result(t);
}
"""


def parts(n):
    """Products and terms of n sums, none of them yet: their factors a, b and terms c."""
    return [np.zeros((TERMS, n)) for _ in range(3)]


def ties(bits, tiny, huge):
    """One, of either sign, half its step and what is far below it, if anything; even and odd."""
    below = (-bits - 9, -66, -75, -94, tiny)
    # the highest bit at the beginning, in the middle and at the end of a digit
    rows = itertools.product((1.0, -1.0), (0, 16, 31), (0, 1, 2), (1, 2, 3), (-1, 0, 1), below)
    a, b, c = parts(810)
    for i, (sign, scale, odd, halves, sticky, far) in enumerate(rows):
        one = sign * 2.0**scale
        a[0, i], b[0, i] = one, 1.0
        c[0, i], c[1, i] = odd * one * 2.0 ** (1 - bits), halves * one * 2.0 ** (-1 - bits)
        c[2, i] = sticky * np.ldexp(1.0, max(far + scale, tiny))
    return a, b, c


def products_below(bits, tiny, huge):
    """Single products around half the least number, and within the subnormal ones."""
    low = -(-tiny // 2)
    rows = list(itertools.product((1, -1), (1, 2, 3, 5, 7), (1, 3), range(-4, 5)))
    a, b, c = parts(2 * len(rows))
    for i, (sign, m, n, shift) in enumerate(rows * 2):
        a[0, i], b[0, i] = np.ldexp(sign * m, low), np.ldexp(n, tiny - low + shift)
        if i >= len(rows):  # and something more that decides a tie, or does not
            a[1, i], b[1, i] = np.ldexp(1.0, low), np.ldexp((-1.0) ** i, tiny - low - 8)
    return a, b, c


def around_the_largest(bits, tiny, huge):
    """The largest number and fractions of its step, by terms and by products."""
    largest = (2.0 - 2.0 ** (1 - bits)) * 2.0**huge
    step = 2.0 ** (huge + 1 - bits)
    rows = list(itertools.product((1.0, -1.0), (-1.0, 0.25, 0.5, 0.75, 1.0), (-1.0, 0.0, 1.0)))
    a, b, c = parts(len(rows) + 4)
    for i, (sign, share, sticky) in enumerate(rows):
        c[:3, i] = sign * largest, sign * share * step, sticky * 2.0**tiny
    for i, sign in ((-1, 1.0), (-2, -1.0)):  # products that are no number, by themselves and not
        a[:2, i], b[:2, i] = sign * 2.0**huge, 2.0**huge
        a[:2, i - 2], b[:2, i - 2] = (2.0**huge, -(2.0**huge)), sign * 2.0**huge
        c[0, i - 2] = sign
    return a, b, c


def special(bits, tiny, huge):
    """Zeros of either sign, infinities and NaN, in a product and as a term."""
    values = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan)
    a, b, c = parts(len(values) ** 3)
    a[0], b[0], c[0] = np.array(list(itertools.product(values, repeat=3))).T
    return a, b, c


def any_size(bits, tiny, huge):
    """Numbers of all sizes, of which some cancel."""
    rng, shape = np.random.default_rng(5), (TERMS, 400)

    def draw():
        whole = rng.integers(-(2**bits), 2**bits, shape).astype(np.float64)
        return np.ldexp(whole, rng.integers(tiny, huge - bits - 1, shape))

    a, b, c = draw(), draw(), draw() * rng.integers(0, 2, shape)
    half = shape[1] // 2
    a[2, :half], b[2, :half] = -a[0, :half], b[0, :half]
    c[:, :100] = a[1, :100] = a[3, :100] = 0.0
    a[2, :100] *= rng.choice([1.0, 1.0 + 2.0 ** (1 - bits)], 100)
    return a, b, c


HARD_SUMS = [ties, products_below, around_the_largest, special, any_size]


@pytest.mark.parametrize(
    ("precision", "rounding", "fma"),
    [
        ("float64", "nearest", "on"),
        ("float64", "nearest", "off"),
        ("float32", "nearest", "on"),
        ("float32", "nearest", "off"),
        ("bits:24", "toward-zero", "on"),
        ("bits:11", "stochastic", "on"),
    ],
)
def test_exact_sums(precision, rounding, fma):
    """`exact.cu` rounds hard sums as the fractions of `numerics.exact_sum` do."""
    config = Config(
        accumulator="exact", unit_accumulator="exact", precision=precision, rounding=rounding,
        fma=fma,
    )  # fmt: skip
    d = dials(config, 0)
    ops = operations(numpy_arrays, precision, rounding, d.fma)
    double = ops.dtype == np.float64
    limits = (53, -1074, 1023) if double else (24, -149, 127)
    with np.errstate(all="ignore"):
        sums = zip(*(hard(*limits) for hard in HARD_SUMS), strict=True)
        a, b, c = (np.asarray(ops.const(np.concatenate(v, axis=1)), ops.dtype) for v in sums)
        t = (KEY[0, 0], KEY[0, 1], np.uint64(STEP))
        start, product, term, merge, result = ACCUMULATORS["exact"].make(numpy_arrays, ops)
        total, other = (start(np.zeros(a.shape[1], ops.dtype)) for _ in range(2))
        for k in range(TERMS):
            if k % 2:
                other = product(other, a[k], b[k], t)
            else:
                total = product(total, a[k], b[k], t)
        for k in range(TERMS):
            total = term(total, c[k], t)
        expected = np.asarray(result(merge(total, other, t), t), ops.dtype)
    device, n = Device(races=False), a.shape[1]
    source = source_text("common.cu") + formulas(config, d, 100, 1).text + SUMS
    out = device.empty((n,), ops.dtype)
    device.compile(source).launch("test_sum", (-(-n // 128), 1), 128, [
        *map(device.array, (a, b, c)), np.uint32(TERMS), np.uint32(n), device.array(KEY),
        np.uint64(STEP), out,
    ])  # fmt: skip
    assert_same_bits(device.get(out), expected, f"{precision} {rounding} fma {fma}")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_states_are_found_beyond_32_bits(optimizer):
    """The k-th state of a weight lies k times all parameters behind it, in 64 bits."""
    config = Config(optimizer=optimizer)
    text = formulas(config, dials(config, 0), 2**31 - 4, 1).text
    body = text[text.index("void update(") :].split("}")[0]
    states = len(OPTIMIZERS[optimizer].state)
    assert body.count("* (u64)PARAMETERS]") == 2 * states == body.count("m[at + ")


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
