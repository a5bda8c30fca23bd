"""Short vectors as a Numba type, so that a kernel says itself which terms share a register.

Numba leaves the choice of vector loops to LLVM, which may vectorise a loop nest or not.  A
`Vector` is LLVM's `<lanes x dtype>`: element-wise IEEE operations, no reduction, hence the same
bits on every target; a target with narrower registers splits it.  The number of lanes travels in
a type, too: as the length of a tuple.  `load`, `store`, `fill`, `fma`, `sqrt`, `where`, `bits`,
`from_bits`, `widen` and `narrow` work on vectors, and the arithmetic and comparison operators too.
Those of them that do not name memory work on scalars as well.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_jitable,
    register_model,
)


class Vector(types.Type):
    """`lanes` elements of the scalar type `dtype`, kept in registers."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Vector({dtype}, {lanes})")


def _element(dtype):
    if isinstance(dtype, types.Boolean):
        return ir.IntType(1)
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(_element(vector.dtype), vector.lanes))


def _splat(builder, scalar, lanes):
    """The vector whose lanes all hold the LLVM value `scalar`."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)


def _of_type(dtype, like):
    """`dtype` as a scalar or as a vector, after the type `like`."""
    return Vector(dtype, like.lanes) if isinstance(like, Vector) else dtype


def _scalar(kind):
    return kind.dtype if isinstance(kind, Vector) else kind


_FLOAT = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}
_INTEGER = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.and_: "and_",
    operator.or_: "or_",
    operator.xor: "xor",
    operator.lshift: "shl",
    operator.rshift: "lshr",
}
_COMPARE = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def _vectors(args):
    """The common vector type of two operands of which one may be a scalar, or None."""
    if len(args) != 2 or not any(isinstance(a, Vector) for a in args):
        return None
    vector = next(a for a in args if isinstance(a, Vector))
    for a in args:
        if isinstance(a, Vector) and a != vector:
            return None
        if not isinstance(a, Vector | types.Number | types.Literal):
            return None
    return vector


def _emit(name, compare):
    def lower(context, builder, sig, args):
        vector = next(a for a in sig.args if isinstance(a, Vector))
        real = isinstance(vector.dtype, types.Float)
        values = [
            value
            if isinstance(kind, Vector)
            else _splat(builder, context.cast(builder, value, kind, vector.dtype), vector.lanes)
            for kind, value in zip(sig.args, args, strict=True)
        ]
        if not compare:
            return getattr(builder, name)(*values)
        if real:
            # "not equal" is true for NaN, the others are false, as in IEEE 754
            test = builder.fcmp_unordered if name == "!=" else builder.fcmp_ordered
        else:
            test = builder.icmp_signed if vector.dtype.signed else builder.icmp_unsigned
        return test(name, *values)

    return lower


def _register(op):
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            vector = _vectors(args)
            if vector is None:
                return None
            real = isinstance(vector.dtype, types.Float)
            if op in _COMPARE:
                return signature(Vector(types.boolean, vector.lanes), *args)
            if op in (_FLOAT if real else _INTEGER):
                return signature(vector, *args)
            return None

    infer_global(op)(Template)
    if op in _COMPARE:
        lower = _emit(_COMPARE[op], True)
    else:

        def lower(context, builder, sig, args):
            vector = next(a for a in sig.args if isinstance(a, Vector))
            table = _FLOAT if isinstance(vector.dtype, types.Float) else _INTEGER
            return _emit(table[op], False)(context, builder, sig, args)

    for left, right in ((Vector, Vector), (Vector, types.Any), (types.Any, Vector)):
        lower_builtin(op, left, right)(lower)


for _op in {**_FLOAT, **_INTEGER, **_COMPARE}:
    _register(_op)


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) != 1 or not isinstance(args[0], Vector):
            return None
        return signature(*args, *args) if isinstance(args[0].dtype, types.Float) else None


@lower_builtin(operator.neg, Vector)
def _negate(context, builder, sig, args):
    return builder.fneg(args[0])


def _address(context, builder, kind, array, index):
    """Pointer to element `index` of a C-contiguous array, counted over all its axes."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def _load(typingctx, array, index, lanes):
    vector = Vector(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        load = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        load.align = array.dtype.bitwidth // 8
        return load

    return vector(array, types.intp, lanes), codegen


@intrinsic
def _store(typingctx, array, index, vector):
    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        store = builder.store(args[2], builder.bitcast(pointer, kind.as_pointer()))
        store.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), codegen


@intrinsic
def _fill(typingctx, scalar, lanes):
    vector = Vector(scalar, lanes.count)

    def codegen(context, builder, sig, args):
        return _splat(builder, args[0], vector.lanes)

    return vector(scalar, lanes), codegen


def _call(name):
    """An intrinsic for LLVM's llvm.<name> over operands of one floating type."""

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(sig.return_type)
        scalar = _scalar(sig.return_type)
        suffix = f"v{sig.return_type.lanes}" if isinstance(sig.return_type, Vector) else ""
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind] * len(args)),
            f"llvm.{name}.{suffix}f{scalar.bitwidth}",
        )
        if suffix:
            args = [
                a if isinstance(k, Vector) else _splat(builder, a, sig.return_type.lanes)
                for k, a in zip(sig.args, args, strict=True)
            ]
        return builder.call(function, args)

    return codegen


@intrinsic
def _fma(typingctx, a, b, c):
    result = next((k for k in (a, b, c) if isinstance(k, Vector)), c)
    return result(a, b, c), _call("fma")


@intrinsic
def _sqrt(typingctx, a):
    return a(a), _call("sqrt")


@intrinsic
def _where(typingctx, condition, a, b):
    like = next((kind for kind in (a, b, condition) if isinstance(kind, Vector)), b)
    result = _of_type(_scalar(a if isinstance(a, Vector) else b), like)

    def codegen(context, builder, sig, args):
        values = [args[0]]
        for kind, value in zip(sig.args[1:], args[1:], strict=True):
            if not isinstance(kind, Vector):
                value = context.cast(builder, value, kind, _scalar(result))
                if isinstance(result, Vector):
                    value = _splat(builder, value, result.lanes)
            values.append(value)
        return builder.select(*values)

    return result(condition, a, b), codegen


@intrinsic(prefer_literal=True)
def _convert(typingctx, a, to):
    """Between float32 and float64 (`to` is the bit width), rounded to nearest."""
    result = _of_type(types.float64 if to.literal_value == 64 else types.float32, a)

    def codegen(context, builder, sig, args):
        kind = context.get_value_type(result)
        source = _scalar(sig.args[0]).bitwidth
        if source == to.literal_value:
            return args[0]
        return (builder.fpext if source < to.literal_value else builder.fptrunc)(args[0], kind)

    return result(a, to), codegen


@intrinsic(prefer_literal=True)
def _bitcast(typingctx, a, to):
    """The bits of a float as an unsigned integer of the same width (`to` = 0), or back (1)."""
    width = _scalar(a).bitwidth
    dtype = getattr(types, f"{'float' if to.literal_value else 'uint'}{width}")
    result = _of_type(dtype, a)

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(result))

    return result(a, to), codegen


# The decorator of formulas; division by zero gives inf or NaN, as in a vector, and never raises.
function = register_jitable(error_model="numpy")


@register_jitable
def load(array, index, lanes):
    return _load(array, index, lanes)


@register_jitable
def store(array, index, vector):
    _store(array, index, vector)


@register_jitable
def fill(scalar, lanes):
    return _fill(scalar, lanes)


@register_jitable
def fma(a, b, c):
    """a·b + c, rounded once."""
    return _fma(a, b, c)


@register_jitable
def sqrt(a):
    return _sqrt(a)


@register_jitable
def where(condition, a, b):
    return _where(condition, a, b)


@register_jitable
def widen(a):
    return _convert(a, 64)


@register_jitable
def narrow(a):
    return _convert(a, 32)


@register_jitable
def bits(a):
    return _bitcast(a, 0)


@register_jitable
def from_bits(a):
    return _bitcast(a, 1)


@intrinsic
def _trailing_zeros(typingctx, a):
    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return a(a), codegen


@register_jitable
def trailing_zeros(a):
    """Index of the lowest bit that is set in a ≠ 0."""
    return _trailing_zeros(a)
