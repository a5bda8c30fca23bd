"""The compiled execution: functions on vectors and scalars, which formulas and kernels are made of.

The number of lanes travels in a type, too: as the length of a tuple.  `fma`, `sqrt`, `where`,
`bits`, `from_bits`, `widen` and `narrow` work on vectors and scalars, as the operators of `vectors`
do; vectors come from memory by `memory.load` or from a scalar by `fill`.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from nanorepro.backends.numba.llvm.compiler import ApartCompiler, PartCompiler, part
from nanorepro.backends.numba.llvm.vectors import (
    FLOAT,
    Vector,
    joined,
    make_builtin,
    of_type,
    scalar_of,
    shuffle,
    splat,
)
from nanorepro.numerics import streams

FAST_FORMULAS = True  # operations may take any way to their bits
# what the compiler may use of the processor is a part of the key of all it compiles
DIRECTED = "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")
TABLES = DIRECTED  # whether there is `lookup`
# as numbers of lanes are: in a type
DOWN, UP, TOWARD_ZERO = ((0,) * n for n in (1, 2, 3))


def _fill(scalar, lanes):
    vector = Vector(scalar, lanes.count)

    def codegen(context, builder, sig, args):
        return splat(builder, args[0], vector.lanes)

    return vector, codegen


def _common(kinds):
    """The vector type among some operand types, or else the last of them."""
    return next((k for k in kinds if isinstance(k, Vector)), kinds[-1])


def _operands(context, builder, result, kinds, values):
    """Operands as values of the type `result`: scalars beside vectors fill a vector."""
    found = []
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(result, Vector) and not isinstance(kind, Vector):
            value = splat(builder, context.cast(builder, value, kind, result.dtype), result.lanes)
        found.append(value)
    return found


def machine(name, arity):
    """Typing of an LLVM instruction, or of the LLVM intrinsic llvm.<name>, on floats.

    A further argument, the rounding key, is not read.
    """

    def typing(*kinds):
        result = _common(kinds[:arity])

        def codegen(context, builder, sig, args):
            values = _operands(context, builder, result, sig.args[:arity], args[:arity])
            if name in FLOAT.values():
                return getattr(builder, name)(*values)
            kind, scalar = context.get_value_type(result), scalar_of(result)
            lanes = f"v{result.lanes}" if isinstance(result, Vector) else ""
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind] * arity),
                f"llvm.{name}.{lanes}f{scalar.bitwidth}",
            )
            return builder.call(function, values)

        return result, codegen

    return typing


def in_sixteens(builder, result, operation, values):
    """An operation of 16 numbers: longer vectors are cut, shorter ones filled up with anything."""
    if not isinstance(result, Vector):
        found = operation(*(splat(builder, value, 16) for value in values))
        return builder.extract_element(found, ir.IntType(32)(0))
    n, parts = result.lanes, []
    for k in range(0, n, 16):
        index = [min(lane, n - 1) for lane in range(k, k + 16)]
        parts.append(operation(*(shuffle(builder, value, index) for value in values)))
    return joined(builder, parts, n)


def _directed(name):
    """Typing of an operation on float32 that says itself where to round; AVX-512 has them."""
    kind = ir.VectorType(ir.FloatType(), 16)

    def typing(direction, *kinds):
        result = _common(kinds)
        mode = ir.IntType(32)(direction.count | 8)  # 8: without exceptions

        def codegen(context, builder, sig, args):
            values = _operands(context, builder, result, kinds, args[1:])
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind] * len(kinds) + [mode.type]),
                f"llvm.x86.avx512.{name}.ps.512",
            )
            return in_sixteens(
                builder, result, lambda *part: builder.call(function, [*part, mode]), values
            )

        return result, codegen

    return typing


def _lookup(table, index):
    """Typing of a look-up in a table of 32 numbers, as AVX-512 has it: for 16 at a time."""
    result, half = of_type(types.float32, index), ir.VectorType(ir.FloatType(), 16)
    numbers = ir.VectorType(ir.IntType(32), 16)

    def codegen(context, builder, sig, args):
        parts = []
        for k in (0, 16):
            part = ir.Constant(half, ir.Undefined)
            for n in range(16):
                number = builder.extract_value(args[0], k + n)
                part = builder.insert_element(part, number, ir.IntType(32)(n))
            parts.append(part)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(half, [half, numbers, half]),
            "llvm.x86.avx512.vpermi2var.ps.512",
        )
        return in_sixteens(
            builder, result, lambda v: builder.call(function, [parts[0], v, parts[1]]), args[1:]
        )

    return result, codegen


def _where(condition, a, b):
    result = _common((b, a))
    # a vector condition chooses lane by lane, between scalars too
    result = result if isinstance(result, Vector) else of_type(result, condition)

    def codegen(context, builder, sig, args):
        values = _operands(context, builder, result, sig.args[1:], args[1:])
        return builder.select(args[0], *values)

    return result, codegen


def _convert(width):
    def typing(a, t=None):
        result = of_type(types.float64 if width == 64 else types.float32, a)

        def codegen(context, builder, sig, args):
            source = scalar_of(sig.args[0]).bitwidth
            if source == width:
                return args[0]
            convert = builder.fpext if source < width else builder.fptrunc
            return convert(args[0], context.get_value_type(result))

        return result, codegen

    return typing


def _numbers(vector, array):
    result = of_type(array.dtype, vector)

    def codegen(context, builder, sig, args):
        return builder.uitofp(args[0], context.get_value_type(result))

    return result, codegen


def _bitcast(kind):
    def typing(a):
        result = of_type(getattr(types, f"{kind}{scalar_of(a).bitwidth}"), a)

        def codegen(context, builder, sig, args):
            return builder.bitcast(args[0], context.get_value_type(result))

        return result, codegen

    return typing


def _trailing_zeros(a):
    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return a, codegen


def _first(vector):
    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], ir.Constant(ir.IntType(32), 0))

    return vector.dtype, codegen


def _any_nonzero(vector):
    def codegen(context, builder, sig, args):
        kind = context.get_value_type(vector)
        mask = builder.fcmp_unordered("!=", args[0], ir.Constant(kind, None))
        whole = builder.bitcast(mask, ir.IntType(vector.lanes))
        return builder.icmp_unsigned("!=", whole, ir.Constant(ir.IntType(vector.lanes), 0))

    return types.boolean, codegen


def _any_true(conditions):
    def codegen(context, builder, sig, args):
        if not isinstance(conditions, Vector):
            return args[0]
        whole = builder.bitcast(args[0], ir.IntType(conditions.lanes))
        return builder.icmp_unsigned("!=", whole, ir.Constant(ir.IntType(conditions.lanes), 0))

    return types.boolean, codegen


def _ballot(vector):
    def codegen(context, builder, sig, args):
        zero = ir.Constant(context.get_value_type(vector), None)
        floats = isinstance(vector.dtype, types.Float)
        compare = builder.fcmp_unordered if floats else builder.icmp_unsigned
        return builder.bitcast(compare("!=", args[0], zero), ir.IntType(32))

    return types.uint32, codegen


def _united(vector):
    def codegen(context, builder, sig, args):
        found, n = args[0], vector.lanes
        while n > 1:
            n //= 2
            low, high = (shuffle(builder, found, range(k, k + n)) for k in (0, n))
            found = builder.or_(low, high)
        return builder.extract_element(found, ir.Constant(ir.IntType(32), 0))

    return vector.dtype, codegen


def _mask_of(bits):
    mask = Vector(types.boolean, 32)

    def codegen(context, builder, sig, args):
        word = context.cast(builder, args[0], sig.args[0], types.uint32)
        return builder.bitcast(word, context.get_value_type(mask))

    return mask, codegen


def fill(scalar, lanes):
    """The vector whose elements are all `scalar`."""


def add(a, b, t=None):
    """a + b."""


def sub(a, b, t=None):
    """a - b."""


def mul(a, b, t=None):
    """a·b."""


def div(a, b, t=None):
    """a/b."""


def sqrt(a, t=None):
    """√a."""


def fma(a, b, c, t=None):
    """a·b + c, rounded once."""


def add_to(direction, a, b):
    """a + b in float32, rounded in a direction; as all these, only where DIRECTED."""


def mul_to(direction, a, b):
    """a·b."""


def div_to(direction, a, b):
    """a/b."""


def sqrt_to(direction, a):
    """√a."""


def fma_to(direction, a, b, c):
    """a·b + c."""


def lookup(table, index):
    """table[index % 32] of a tuple of 32 float32; only where TABLES."""


def where(condition, a, b):
    """a where the condition holds, else b."""


def widen(a):
    """float32 to float64, exactly."""


def narrow(a):
    """float64 to float32, rounded to nearest."""


def numbers(vector, array):
    """Unsigned integers as numbers of an array's type."""


def bits(a):
    """The bits of a float as an unsigned integer of the same width."""


def from_bits(a):
    """A float from its bits."""


def trailing_zeros(a):
    """Index of the lowest bit that is set; of 0 its number of bits."""


def first(vector):
    """The first element."""


def any_nonzero(vector):
    """Whether an element is not 0 (NaN is not)."""


def any_true(conditions):
    """Whether one of some conditions holds."""


def ballot(vector):
    """Of 32 numbers: bit k says whether the k-th is not 0 (NaN is not)."""


def reduce_or(vector):
    """The bits that any element has."""


def mask_of(bits):
    """32 conditions, the k-th of them bit k."""


_options = {"error_model": "numpy", "no_cfunc_wrapper": True, "no_cpython_wrapper": True}
_options["pipeline_class"] = PartCompiler
function = part(**_options)
# for what a kernel calls in its loops
inlined = part(**_options, forceinline=True)
# for what takes much code at many places
apart = part(**_options | {"pipeline_class": ApartCompiler}, forceinline=False)
# in line, where the compiler sees that the words have 32 bits
philox = inlined(streams.make_philox())


for _function, _typing in {
    fill: _fill,
    add: machine("fadd", 2),
    sub: machine("fsub", 2),
    mul: machine("fmul", 2),
    div: machine("fdiv", 2),
    sqrt: machine("sqrt", 1),
    fma: machine("fma", 3),
    add_to: _directed("add"),
    mul_to: _directed("mul"),
    div_to: _directed("div"),
    sqrt_to: _directed("sqrt"),
    fma_to: _directed("vfmadd"),
    lookup: _lookup,
    where: _where,
    widen: _convert(64),
    narrow: _convert(32),
    numbers: _numbers,
    bits: _bitcast("uint"),
    from_bits: _bitcast("float"),
    trailing_zeros: _trailing_zeros,
    first: _first,
    any_nonzero: _any_nonzero,
    any_true: _any_true,
    ballot: _ballot,
    reduce_or: _united,
    mask_of: _mask_of,
}.items():
    make_builtin(_function, _typing)
