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
from numba.extending import lower_builtin, models, register_jitable, register_model

from nanorepro import streams


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
    """Pointer to element `index` of a pointer, or of a C-contiguous array over all its axes."""
    if not isinstance(kind, types.CPointer):
        array = context.make_array(kind)(context, builder, array).data
    return builder.gep(array, [index])


def _pointer(array):
    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype), codegen


def _load(array, index, lanes):
    vector = Vector(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        load = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        load.align = array.dtype.bitwidth // 8
        return load

    return vector, codegen


def _store(array, index, vector):
    def codegen(context, builder, sig, args):
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        store = builder.store(args[2], builder.bitcast(pointer, kind.as_pointer()))
        store.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none, codegen


def _fill(scalar, lanes):
    vector = Vector(scalar, lanes.count)

    def codegen(context, builder, sig, args):
        return _splat(builder, args[0], vector.lanes)

    return vector, codegen


def _common(kinds):
    """The vector type among some operand types, or else the last of them."""
    return next((k for k in kinds if isinstance(k, Vector)), kinds[-1])


def _operands(context, builder, result, kinds, values):
    """Operands as values of the type `result`: scalars beside vectors fill a vector."""
    found = []
    for kind, value in zip(kinds, values, strict=True):
        if isinstance(result, Vector) and not isinstance(kind, Vector):
            value = _splat(builder, context.cast(builder, value, kind, result.dtype), result.lanes)
        found.append(value)
    return found


def _machine(name, arity):
    """Typing of an LLVM instruction, or of the LLVM intrinsic llvm.<name>, on floats.

    A further argument, the ticket of stochastic rounding, is not read.
    """

    def typing(*kinds):
        result = _common(kinds[:arity])

        def codegen(context, builder, sig, args):
            values = _operands(context, builder, result, sig.args[:arity], args[:arity])
            if name in _FLOAT.values():
                return getattr(builder, name)(*values)
            kind, scalar = context.get_value_type(result), _scalar(result)
            lanes = f"v{result.lanes}" if isinstance(result, Vector) else ""
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind] * arity),
                f"llvm.{name}.{lanes}f{scalar.bitwidth}",
            )
            return builder.call(function, values)

        return result, codegen

    return typing


def _where(condition, a, b):
    result = _common((b, a))
    # a vector condition chooses lane by lane, between scalars too
    result = result if isinstance(result, Vector) else _of_type(result, condition)

    def codegen(context, builder, sig, args):
        values = _operands(context, builder, result, sig.args[1:], args[1:])
        return builder.select(args[0], *values)

    return result, codegen


def _convert(width):
    def typing(a, t=None):
        result = _of_type(types.float64 if width == 64 else types.float32, a)

        def codegen(context, builder, sig, args):
            source = _scalar(sig.args[0]).bitwidth
            if source == width:
                return args[0]
            convert = builder.fpext if source < width else builder.fptrunc
            return convert(args[0], context.get_value_type(result))

        return result, codegen

    return typing


def _bitcast(kind):
    def typing(a):
        result = _of_type(getattr(types, f"{kind}{_scalar(a).bitwidth}"), a)

        def codegen(context, builder, sig, args):
            return builder.bitcast(args[0], context.get_value_type(result))

        return result, codegen

    return typing


def _gather(array, at, stride, lanes):
    vector = Vector(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        array, at, stride = args[:3]
        found = ir.Constant(context.get_value_type(vector), ir.Undefined)
        for k in range(lanes.count):
            value = builder.load(_address(context, builder, sig.args[0], array, at))
            found = builder.insert_element(found, value, ir.IntType(32)(k))
            at = builder.add(at, stride)
        return found

    return vector, codegen


def _spread(vector, lanes):
    result = Vector(vector.dtype, vector.lanes * lanes.count)

    def codegen(context, builder, sig, args):
        index = [r for r in range(vector.lanes) for _ in range(lanes.count)]
        return _shuffle(builder, args[0], index)

    return result, codegen


def _repeat(vector, rows):
    result = Vector(vector.dtype, rows.count * vector.lanes)

    def codegen(context, builder, sig, args):
        return _shuffle(builder, args[0], list(range(vector.lanes)) * rows.count)

    return result, codegen


def _shuffle(builder, vector, index):
    """The vector whose k-th element is vector[index[k]]."""
    order = ir.Constant(ir.VectorType(ir.IntType(32), len(index)), index)
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), order)


def _store_rows(vector, array, at, stride, rows):
    lanes = vector.lanes // rows.count
    part = Vector(vector.dtype, lanes)

    def codegen(context, builder, sig, args):
        whole, out, at, stride = args[:4]
        kind = context.get_value_type(part)
        for r in range(rows.count):
            value = _shuffle(builder, whole, list(range(r * lanes, (r + 1) * lanes)))
            pointer = _address(context, builder, sig.args[1], out, at)
            store = builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
            store.align = vector.dtype.bitwidth // 8
            at = builder.add(at, stride)
        return context.get_dummy_value()

    return types.none, codegen


def _trailing_zeros(a):
    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

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


def _ballot(vector):
    def codegen(context, builder, sig, args):
        zero = ir.Constant(context.get_value_type(vector), None)
        mask = builder.icmp_unsigned("!=", args[0], zero)
        return builder.bitcast(mask, ir.IntType(32))

    return types.uint32, codegen


def _mask_of(bits):
    mask = Vector(types.boolean, 32)

    def codegen(context, builder, sig, args):
        word = context.cast(builder, args[0], sig.args[0], types.uint32)
        return builder.bitcast(word, context.get_value_type(mask))

    return mask, codegen


def _fill_tile(scalar, lanes, rows, cols):
    tile = types.UniTuple(Vector(scalar, lanes.count), rows.count * cols.count)

    def codegen(context, builder, sig, args):
        vector = _splat(builder, args[0], lanes.count)
        return context.make_tuple(builder, tile, [vector] * tile.count)

    return tile, codegen


def _outer(acc, a, at, stride, b, bt, rows, cols):
    def codegen(context, builder, sig, args):
        tile, a_array, at, stride, b_array, bt = args[:6]
        kind = context.get_value_type(acc.dtype)
        lanes = ir.Constant(ir.IntType(64), acc.dtype.lanes)
        fused = _machine("fma", 3)(acc.dtype, acc.dtype, acc.dtype)[1]
        right = []
        for _ in range(cols.count):
            pointer = _address(context, builder, sig.args[4], b_array, bt)
            value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            value.align = acc.dtype.dtype.bitwidth // 8
            right.append(value)
            bt = builder.add(bt, lanes)
        sums = []
        for r in range(rows.count):
            scalar = builder.load(_address(context, builder, sig.args[1], a_array, at))
            left = _splat(builder, scalar, acc.dtype.lanes)
            for c in range(cols.count):
                term = builder.extract_value(tile, r * cols.count + c)
                three = acc.dtype(acc.dtype, acc.dtype, acc.dtype)
                sums.append(fused(context, builder, three, (left, right[c], term)))
            at = builder.add(at, stride)
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _transpose(source, at, stride, target, to, to_stride, lanes):
    def codegen(context, builder, sig, args):
        n = lanes.count
        kind = ir.VectorType(_element(source.dtype), n)
        index = ir.VectorType(ir.IntType(32), n)
        half = range(n // 2)
        low = ir.Constant(index, [k + n * b for k in half for b in (0, 1)])
        high = ir.Constant(index, [k + n // 2 + n * b for k in half for b in (0, 1)])

        def place(number, array, offset):
            pointer = _address(context, builder, sig.args[number], array, offset)
            return builder.bitcast(pointer, kind.as_pointer())

        rows, at, to = [], args[1], args[4]
        for _ in range(n):
            row = builder.load(place(0, args[0], at))
            row.align = source.dtype.bitwidth // 8
            rows.append(row)
            at = builder.add(at, args[2])
        # log2(n) perfect shuffles of the rows
        for _ in range(n.bit_length() - 1):
            mixed = []
            for a, b in zip(rows[: n // 2], rows[n // 2 :], strict=True):
                mixed += [builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)]
            rows = mixed
        for row in rows:
            store = builder.store(row, place(3, args[3], to))
            store.align = source.dtype.bitwidth // 8
            to = builder.add(to, args[5])
        return context.get_dummy_value()

    return types.none, codegen


def _add_tile(acc, other):
    def codegen(context, builder, sig, args):
        sums = [
            builder.fadd(builder.extract_value(args[0], k), builder.extract_value(args[1], k))
            for k in range(acc.count)
        ]
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _store_tile(acc, array, at, stride, rows, cols):
    def codegen(context, builder, sig, args):
        tile, out, at, stride = args[:4]
        kind = context.get_value_type(acc.dtype)
        for r in range(rows.count):
            for c in range(cols.count):
                offset = ir.Constant(ir.IntType(64), c * acc.dtype.lanes)
                pointer = _address(context, builder, sig.args[1], out, builder.add(at, offset))
                value = builder.extract_value(tile, r * cols.count + c)
                store = builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
                store.align = acc.dtype.dtype.bitwidth // 8
            at = builder.add(at, stride)
        return context.get_dummy_value()

    return types.none, codegen


def pointer(array):
    """Where an array's elements begin.  A kernel passes on one word for it, an array is seven."""


def load(array, index, lanes):
    """The vector of the elements from `index` on, counted over all axes."""


def store(array, index, vector):
    """Write a vector to the elements from `index` on."""


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


def where(condition, a, b):
    """a where the condition holds, else b."""


def widen(a):
    """float32 to float64, exactly."""


def narrow(a):
    """float64 to float32, rounded to nearest."""


def bits(a):
    """The bits of a float as an unsigned integer of the same width."""


def from_bits(a):
    """A float from its bits."""


def gather(array, at, stride, lanes):
    """The vector of array[at], array[at + stride], ..."""


def spread(vector, lanes):
    """Each element of a vector so many times side by side."""


def repeat(vector, rows):
    """`rows` times the same vector, as one."""


def store_rows(vector, array, at, stride, rows):
    """Write a vector of several rows, row r from array[at + r·stride] on."""


def trailing_zeros(a):
    """Index of the lowest bit that is set in a ≠ 0."""


def first(vector):
    """The first element."""


def any_nonzero(vector):
    """Whether an element is not 0 (NaN is not)."""


def ballot(vector):
    """Of 32 integers: bit k says whether the k-th is not 0."""


def mask_of(bits):
    """32 conditions, the k-th of them bit k."""


def fill_tile(scalar, lanes, rows, cols):
    """rows × cols vectors, all filled with `scalar`; numbers are lengths of tuples here, too."""


def outer(acc, a, at, stride, b, bt, rows, cols):
    """acc[r, c] ← fma(a[at + r·stride], vector c of b from bt on, acc[r, c]) for a tile of sums."""


def transpose(source, at, stride, target, to, to_stride, lanes):
    """Transpose a square of lanes × lanes: row r from source[at + r·stride] becomes a column."""


def add_tile(acc, other):
    """acc + other, vector by vector."""


def store_tile(acc, array, at, stride, rows, cols):
    """Write a tile, row r from array[at + r·stride] on."""


_options = {"error_model": "numpy", "no_cfunc_wrapper": True, "no_cpython_wrapper": True}
function = register_jitable(**_options)
# for what a kernel calls in its loops
inlined = register_jitable(**_options, forceinline=True)
philox = function(streams.philox)


def _make_builtin(function, typing):
    """Make a plain function one of the compiler's own: `typing(*types)` → (result type, codegen).

    An intrinsic would do the same, but its identity changes from process to process, and with it
    the key of every cached function that refers to it; and a wrapper is compiled for every type.
    """

    class Template(AbstractTemplate):
        def generic(self, args, kws):
            return signature(typing(*args)[0], *args)

    infer_global(function)(Template)

    def lower(context, builder, sig, args):
        return typing(*sig.args)[1](context, builder, sig, args)

    lower_builtin(function, types.VarArg(types.Any))(lower)


for _function, _typing in {
    pointer: _pointer,
    load: _load,
    store: _store,
    fill: _fill,
    add: _machine("fadd", 2),
    sub: _machine("fsub", 2),
    mul: _machine("fmul", 2),
    div: _machine("fdiv", 2),
    sqrt: _machine("sqrt", 1),
    fma: _machine("fma", 3),
    where: _where,
    widen: _convert(64),
    narrow: _convert(32),
    bits: _bitcast("uint"),
    from_bits: _bitcast("float"),
    gather: _gather,
    spread: _spread,
    repeat: _repeat,
    store_rows: _store_rows,
    trailing_zeros: _trailing_zeros,
    first: _first,
    any_nonzero: _any_nonzero,
    ballot: _ballot,
    mask_of: _mask_of,
    fill_tile: _fill_tile,
    outer: _outer,
    transpose: _transpose,
    add_tile: _add_tile,
    store_tile: _store_tile,
}.items():
    _make_builtin(_function, _typing)
