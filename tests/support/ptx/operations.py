"""The arithmetic of PTX as NumPy expressions: one table, and what is not in it is refused.

A register is an array with an element for each thread.  Its type is a letter: u, s, f of 32 bits,
U, S, d of 64, p a predicate.  Only operations that round once and keep subnormal numbers are here:
`add.f32` without a rounding, which may be contracted, `.ftz` and `.approx` are unknown.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import vectorize
from numba.extending import intrinsic

DTYPES = {
    "u": np.uint32, "s": np.int32, "f": np.float32, "U": np.uint64, "S": np.int64, "d": np.float64,
    "p": np.bool_,
}  # fmt: skip
# the names of PTX's types, and the letters that registers have in these operations
NAMES = {"u32": "u", "b32": "u", "s32": "s", "u64": "U", "b64": "U", "s64": "S"}
CANONICAL = np.uint32(0x7FFFFFFF)  # the NaN of the GPU's float32 operations


@dataclass(frozen=True)
class Operation:
    """The result's type, the sources' types, and the expression of a, b, c, e."""

    result: str
    sources: str
    expression: str


@intrinsic
def _fma(context, a, b, c):
    return a(a, a, a), lambda context, builder, signature, args: builder.fma(*args)


@vectorize(["f4(f4,f4,f4)", "f8(f8,f8,f8)"])
def fma(a, b, c):
    """a·b + c, rounded once: the processor's instruction, or libm's exact one."""
    return _fma(a, b, c)


def u(x):
    return np.asarray(x).astype(np.uint32)


def U(x):
    return np.asarray(x).astype(np.uint64)


def s(x):
    return np.asarray(x).astype(np.int32)


def S(x):
    return np.asarray(x).astype(np.int64)


def f(x):
    return np.asarray(x).astype(np.float32)


def d(x):
    return np.asarray(x).astype(np.float64)


def odd_sum(a, b):
    """a + b of float64, rounded to odd: one rounding of it to float32 is then the exact sum's."""
    total = a + b
    t = total - a
    lost = (a - (total - t)) + (b - t)
    bits = total.view(np.uint64)
    nearer = bits - ((bits ^ lost.view(np.uint64)) >> np.uint64(63))
    odd = (nearer | np.uint64(1)).view(np.float64)
    return np.where((lost < 0) | (lost > 0), odd, total)


def towards(direction, exact):
    """A float64, an exact result or one rounded to odd, as the float32 in a direction."""
    nearest = exact.astype(np.float32)
    back = nearest.astype(np.float64)
    if direction == "rp":
        wrong, target = back < exact, np.float32(math.inf)
    elif direction == "rm":
        wrong, target = back > exact, np.float32(-math.inf)
    else:
        wrong, target = abs(back) > abs(exact), np.float32(0.0)
    return np.where(wrong, np.nextafter(nearest, target), nearest)


def add_towards(direction, a, b):
    return fma_towards(direction, a, np.ones_like(a), b)


def mul_towards(direction, a, b):
    return towards(direction, d(a) * d(b))


def fma_towards(direction, a, b, c):
    product, c = d(a) * d(b), d(c)
    found = towards(direction, odd_sum(product, c))
    if direction == "rm":  # what cancels is then -0
        cancel = (product + c == 0) & (np.signbit(product) != np.signbit(c))
        found = np.where(cancel, np.float32(-0.0), found)
    return found


def div_towards(direction, a, b):
    a, b = d(a), d(b)
    q = a / b
    rest = fma(-q, b, a)
    rest = np.where(b < 0, -rest, rest)
    bits = q.view(np.uint64)
    nearer = bits - ((bits ^ rest.view(np.uint64)) >> np.uint64(63))
    odd = (nearer | np.uint64(1)).view(np.float64)
    return towards(direction, np.where((rest < 0) | (rest > 0), odd, q))


def sqrt_towards(direction, a):
    a = d(a)
    q = np.sqrt(a)
    rest = fma(-q, q, a)
    bits = q.view(np.uint64)
    odd = ((bits - (rest < 0).astype(np.uint64)) | np.uint64(1)).view(np.float64)
    return towards(direction, np.where((rest < 0) | (rest > 0), odd, q))


def reversed_bits(a):
    bits = np.unpackbits(a.view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")
    return np.packbits(bits, axis=1).view(">u4").ravel().astype(np.uint32)


def leading_zeros(a, width):
    """Zeros above the highest bit that is set; of 0 the width."""
    high, low = (a >> (width // 2)).astype(np.float64), (a % (1 << width // 2)).astype(np.float64)
    bits = np.where(high > 0, np.frexp(high)[1] + width // 2, np.frexp(low)[1])
    return (width - bits).astype(np.uint32)


def highest(a):
    """bfind.shiftamt: the shift that brings the highest bit to the top; of 0 all ones."""
    return np.where(a == 0, np.uint32(0xFFFFFFFF), leading_zeros(a, 32))


def inserted(a, b, at, n):
    """bfi: n bits of a put into b from bit `at` on."""
    mask = ((np.uint64(1) << U(n)) - np.uint64(1)) << U(at)
    return (U(b) & ~mask) | ((U(a) << U(at)) & mask)


def extracted(a, at, n):
    """bfe: n bits of a from bit `at` on."""
    return (U(a) >> U(at)) & ((np.uint64(1) << U(n)) - np.uint64(1))


def chosen(a, b, selector):
    """prmt: four bytes out of the eight of b and a."""
    both, found = U(a) | U(b) << np.uint64(32), np.zeros(np.shape(a), np.uint64)
    for k in range(4):
        which = (U(selector) >> np.uint64(4 * k)) & np.uint64(7)
        found |= ((both >> (which * np.uint64(8))) & np.uint64(255)) << np.uint64(8 * k)
    return u(found)


def logic(a, b, c, table):
    """lop3: any function of three bits."""
    found = np.zeros_like(a)
    for k in range(8):
        if int(np.ravel(table)[0]) >> k & 1:
            found |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return found


COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
UNORDERED = {
    "ltu": "~(a >= b)", "leu": "~(a > b)", "gtu": "~(a <= b)", "geu": "~(a < b)",
    "equ": "~((a < b) | (a > b))", "neu": "a != b",
}  # fmt: skip


def table() -> dict[str, Operation]:
    """Every operation by its name in PTX."""
    found: dict[str, Operation] = {}

    def put(names: str, result: str, sources: str, expression: str) -> None:
        for name in names.split():
            found[name] = Operation(result, sources, expression)

    for t, n in (("f", "f32"), ("d", "f64")):
        put(f"fma.rn.{n}", t, 3 * t, "fma(a, b, c)")
        for name, sign in (("add", "+"), ("sub", "-"), ("mul", "*"), ("div", "/")):
            put(f"{name}.rn.{n}", t, 2 * t, f"a {sign} b")
        put(f"sqrt.rn.{n}", t, t, "np.sqrt(a)")
        put(f"rcp.rn.{n}", t, t, f"{t}(1) / a")
        put(f"neg.{n}", t, t, "-a")
        put(f"abs.{n}", t, t, "abs(a)")
        put(f"mov.{n} mov.b{n[1:]}.float", t, t, "a")
        for name, sign in COMPARISONS.items():
            both = "(a < b) | (a > b)" if name == "ne" else f"a {sign} b"
            put(f"setp.{name}.{n}", "p", 2 * t, both)
        for name, expression in UNORDERED.items():
            put(f"setp.{name}.{n}", "p", 2 * t, expression)
        put(f"setp.num.{n}", "p", 2 * t, "(a == a) & (b == b)")
        put(f"setp.nan.{n}", "p", 2 * t, "(a != a) | (b != b)")
    for way in ("rz", "rp", "rm"):
        put(f"sub.{way}.f32", "f", "ff", f"add_towards({way!r}, a, -b)")
        for name, n in (("add", 2), ("mul", 2), ("div", 2), ("sqrt", 1), ("fma", 3)):
            sources = n * "f"
            text = ", ".join("abc"[: len(sources)])
            put(f"{name}.{way}.f32", "f", sources, f"{name}_towards({way!r}, {text})")
    for name, t in NAMES.items():
        for comparison, sign in COMPARISONS.items():
            put(f"setp.{comparison}.{name}", "p", 2 * t, f"a {sign} b")
        for comparison, sign in {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}.items():
            put(f"setp.{comparison}.{name}", "p", 2 * t, f"a {sign} b")
        for op, expression in {
            "add": "a + b", "sub": "a - b", "mul.lo": "a * b",
            "min": "np.minimum(a, b)", "max": "np.maximum(a, b)",
        }.items():  # fmt: skip
            put(f"{op}.{name}", t, 2 * t, expression)
        put(f"mad.lo.{name}", t, 3 * t, "a * b + c")
    for t in "uU":
        n, s_ = (32, "s") if t == "u" else (64, "S")
        for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
            put(f"{name}.b{n}", t, 2 * t, f"a {sign} b")
        put(f"not.b{n}", t, t, "~a")
        put(f"neg.s{n}", t, t, f"~a + {t}(1)")
        put(f"abs.s{n}", s_, s_, "abs(a)")
        put(f"shl.b{n}", t, f"{t}u", f"np.where(b < {n}, a << {t}(b & {n - 1}), {t}(0))")
        put(f"shr.u{n} shr.b{n}", t, f"{t}u", f"np.where(b < {n}, a >> {t}(b & {n - 1}), {t}(0))")
        put(f"shr.s{n}", s_, f"{s_}u", f"a >> {s_}(np.minimum(b, {n - 1}))")
        put(" ".join(f"selp.{k}{n}" for k in "bus"), t, f"{t}{t}p", "np.where(c, a, b)")
        put(" ".join(f"mov.{k}{n}" for k in "bus"), t, t, "a")
        put(f"bfi.b{n}", t, f"{t}{t}uu", f"{t}(inserted(a, b, c, e))")
        put(f"bfe.u{n}", t, f"{t}uu", f"{t}(extracted(a, b, c))")
        put(f"div.u{n}", t, 2 * t, "a // b")
        put(f"rem.u{n}", t, 2 * t, "a % b")
        put(f"popc.b{n}", "u", t, "np.bitwise_count(a).astype(np.uint32)")
        put(f"clz.b{n}", "u", t, f"leading_zeros(a, {n})")
    put("selp.f32", "f", "ffp", "np.where(c, a, b)")
    put("selp.f64", "d", "ddp", "np.where(c, a, b)")
    put("lop3.b32", "u", "uuuu", "logic(a, b, c, e)")
    put("prmt.b32", "u", "uuu", "chosen(a, b, c)")
    put("brev.b32", "u", "u", "reversed_bits(a)")
    put("bfind.shiftamt.u32", "u", "u", "highest(a)")
    put("shf.l.wrap.b32", "u", "uuu", "u((U(b) << U(32) | U(a)) << U(c & 31) >> U(32))")
    put("shf.r.wrap.b32", "u", "uuu", "u((U(b) << U(32) | U(a)) >> U(c & 31))")
    for name, sign in (("and", "&"), ("or", "|"), ("xor", "^")):
        put(f"{name}.pred", "p", "pp", f"a {sign} b")
    put("not.pred", "p", "p", "~a")
    put("mov.pred", "p", "p", "a")
    put("mul.hi.u32", "u", "uu", "u(U(a) * U(b) >> U(32))")
    put("mul.hi.s32", "s", "ss", "s(S(a) * S(b) >> S(32))")
    put("mul.hi.u64", "U", "UU", "high_product(a, b)")
    put("mul.wide.u32", "U", "uu", "U(a) * U(b)")
    put("mul.wide.s32", "S", "ss", "S(a) * S(b)")
    put("mad.wide.u32", "U", "uuU", "U(a) * U(b) + c")
    put("mad.wide.s32", "S", "ssS", "S(a) * S(b) + c")
    put("cvt.u32.u64 low", "u", "U", "u(a & U(0xFFFFFFFF))")
    put("high", "u", "U", "u(a >> U(32))")
    put("pack", "U", "uu", "U(a) | U(b) << U(32)")
    put("cvt.u64.u32", "U", "u", "U(a)")
    put("cvt.s64.s32", "S", "s", "S(a)")
    put("cvt.f64.f32", "d", "f", "d(a)")
    put("cvt.rn.f32.f64", "f", "d", "f(a)")
    put("cvt.rn.f64.u64", "d", "U", "d(a)")
    put("cvt.rn.f32.u64", "f", "U", "f(a)")
    put("cvt.rn.f64.u32", "d", "u", "d(a)")
    put("cvt.rn.f64.s32", "d", "s", "d(a)")
    put("cvt.rn.f32.u32", "f", "u", "f(a)")
    put("cvt.rn.f32.s32", "f", "s", "f(a)")
    put("cvt.u16.u32 cvt.u32.u16 cvt.u16.u16", "u", "u", "a & u(0xFFFF)")
    put("cvt.u16.u64", "u", "U", "u(a & U(0xFFFF))")
    put("cvt.u64.u16", "U", "u", "U(a & u(0xFFFF))")
    put("cvt.s32.s16 cvt.s32.s8", "s", "s", "a")
    for name, expression in {
        "mul.lo.s16": "a * b", "add.s16": "a + b", "sub.s16": "a - b", "or.b16": "a | b",
        "and.b16": "a & b", "xor.b16": "a ^ b", "shl.b16": "a << b",
    }.items():  # fmt: skip
        put(name, "u", "uu", f"({expression}) & u(0xFFFF)")
    put("mov.u16 mov.b16", "u", "u", "a & u(0xFFFF)")
    put("selp.u16 selp.b16 selp.s16", "u", "uup", "np.where(c, a, b)")
    put("not.b16", "u", "u", "~a & u(0xFFFF)")
    put("mul.wide.u16", "u", "uu", "(a & u(0xFFFF)) * (b & u(0xFFFF))")
    put("shr.u16", "u", "uu", "(a & u(0xFFFF)) >> b")
    for comparison, sign in COMPARISONS.items():
        for name in ("s16", "u16", "b16"):
            kind = "np.int16" if name == "s16" else "np.uint16"
            put(
                f"setp.{comparison}.{name}", "p", "uu",
                f"a.astype(np.uint16).view({kind}) {sign} b.astype(np.uint16).view({kind})",
            )  # fmt: skip
    return found


def high_product(a, b):
    """The upper 64 bits of a product."""
    low, width = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = a & low, a >> width, b & low, b >> width
    middle = a1 * b0 + (a0 * b0 >> width)
    other = a0 * b1 + (middle & low)
    return a1 * b1 + (middle >> width) + (other >> width)


OPERATIONS = table()
# conversions of addresses, which here are what they are
SAME = {
    f"cvta.{to}{space}.u64": "mov.u64"
    for to in ("", "to.")
    for space in ("global", "shared", "local", "const", "param")
}  # fmt: skip
