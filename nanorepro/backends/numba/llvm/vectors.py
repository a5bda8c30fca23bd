"""Short vectors as a Numba type, so that a kernel says itself which terms share a register.

Numba leaves the choice of vector loops to LLVM, which may vectorise a loop nest or not.  A
`Vector` is LLVM's `<lanes x dtype>`: element-wise IEEE operations, no reduction, hence the same
bits on every target; a target with narrower registers splits it.  Here are the type, its
arithmetic and comparison operators, and what `simd` and `tiles` make their functions with.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model


class Vector(types.Type):
    """`lanes` elements of the scalar type `dtype`, kept in registers."""

    is_data = True  # for `part_store`

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(f"Vector({dtype}, {lanes})")


def element(dtype):
    if isinstance(dtype, types.Boolean):
        return ir.IntType(1)
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(element(vector.dtype), vector.lanes))


def splat(builder, scalar, lanes):
    """The vector whose lanes all hold the LLVM value `scalar`."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), order)


def shuffle(builder, vector, index):
    """The vector whose k-th element is vector[index[k]]."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(index)), list(index))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


def joined(builder, parts, lanes):
    """The first `lanes` elements of the concatenation of some vectors of one length."""
    while len(parts) > 1:
        if len(parts) % 2:
            parts = [*parts, parts[-1]]
        index = ir.Constant(
            ir.VectorType(ir.IntType(32), 2 * parts[0].type.count),
            list(range(2 * parts[0].type.count)),
        )
        parts = [
            builder.shuffle_vector(low, high, index)
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
    return shuffle(builder, parts[0], range(lanes))


def address(context, builder, kind, array, index):
    """Pointer to element `index` of a pointer, or of a C-contiguous array over all its axes."""
    if not isinstance(kind, types.CPointer):
        array = context.make_array(kind)(context, builder, array).data
    return builder.gep(array, [index])


def of_type(dtype, like):
    """`dtype` as a scalar or as a vector, after the type `like`."""
    return Vector(dtype, like.lanes) if isinstance(like, Vector) else dtype


def scalar_of(kind):
    return kind.dtype if isinstance(kind, Vector) else kind


FLOAT = {
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
        if not isinstance(a, Vector | types.Number | types.Literal | types.Boolean):
            return None
    return vector


def _emit(name, compare):
    def lower(context, builder, sig, args):
        vector = next(a for a in sig.args if isinstance(a, Vector))
        real = isinstance(vector.dtype, types.Float)
        values = [
            value
            if isinstance(kind, Vector)
            else splat(builder, context.cast(builder, value, kind, vector.dtype), vector.lanes)
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
            if op in (FLOAT if real else _INTEGER):
                return signature(vector, *args)
            return None

    infer_global(op)(Template)
    if op in _COMPARE:
        lower = _emit(_COMPARE[op], True)
    else:

        def lower(context, builder, sig, args):
            vector = next(a for a in sig.args if isinstance(a, Vector))
            table = FLOAT if isinstance(vector.dtype, types.Float) else _INTEGER
            return _emit(table[op], False)(context, builder, sig, args)

    for left, right in ((Vector, Vector), (Vector, types.Any), (types.Any, Vector)):
        lower_builtin(op, left, right)(lower)


for _op in {**FLOAT, **_INTEGER, **_COMPARE}:
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


def make_builtin(function, typing):
    """Make a plain function one of the compiler's own: `typing(*types)` → (result type, codegen).

    An intrinsic would do the same, but it is no function, of which `content` knows what it consists
    of; and a wrapper is compiled for every type.
    """

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            return signature(typing(*args)[0], *args)

    infer_global(function)(Template)

    def lower(context, builder, sig, args):
        return typing(*sig.args)[1](context, builder, sig, args)

    lower_builtin(function, types.VarArg(types.Any))(lower)
