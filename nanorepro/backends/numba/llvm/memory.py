"""The compiled execution: memory, by pointers; vectors are read from it and written to it."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import models, register_model

from nanorepro.backends.numba.llvm.vectors import Vector, address, make_builtin


class Pointers(types.Type):
    """A named tuple of pointers, which the compiler moves about as one value.

    Numba's own tuple is taken apart and put together again at every call, and each of its thirty
    members is looked at for memory to be given back: half of the code that LLVM would be given.
    """

    is_data = True  # for `part_store`

    def __init__(self, kind, members):
        self.kind, self.members = kind, dict(zip(kind._fields, members, strict=True))
        sizes = ",".join(f"{member.dtype}" for member in members)
        super().__init__(f"{kind.__module__}.{kind.__qualname__}({sizes})")


@register_model(Pointers)
class _PointersModel(models.PrimitiveModel):
    def __init__(self, manager, pointers):
        members = [manager.lookup(kind).get_value_type() for kind in pointers.members.values()]
        super().__init__(manager, pointers, ir.LiteralStructType(members))


@infer_getattr
class _PointersAttribute(AttributeTemplate):
    key = Pointers

    def generic_resolve(self, pointers, name):
        return pointers.members.get(name)


@lower_getattr_generic(Pointers)
def _get_pointer(context, builder, kind, value, name):
    return builder.extract_value(value, [*kind.members].index(name))


def _together(context, builder, kind, members):
    """The value of the type `Pointers` with these members."""
    value = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for k, member in enumerate(members):
        value = builder.insert_value(value, member, k)
    return value


def _pointer(array):
    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype), codegen


def _pointers(arrays):
    kinds = [types.CPointer(array.dtype) for array in arrays.types]
    result = Pointers(arrays.instance_class, kinds)

    def codegen(context, builder, sig, args):
        found = []
        for k, array in enumerate(sig.args[0].types):
            value = builder.extract_value(args[0], k)
            found.append(context.make_array(array)(context, builder, value).data)
        return _together(context, builder, result, found)

    return result, codegen


def _offset(pointer, n):
    def codegen(context, builder, sig, args):
        return address(context, builder, sig.args[0], *args)

    return pointer, codegen


def _moved(pointers, steps, n):
    def codegen(context, builder, sig, args):
        count, found = context.cast(builder, args[2], sig.args[2], types.int64), []
        for k in range(len(pointers.members)):
            by = builder.mul(builder.extract_value(args[1], k), count)
            found.append(builder.gep(builder.extract_value(args[0], k), [by]))
        return _together(context, builder, pointers, found)

    return pointers, codegen


def _load(array, index, lanes):
    vector = Vector(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        pointer = address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        load = builder.load(builder.bitcast(pointer, kind.as_pointer()))
        load.align = array.dtype.bitwidth // 8
        return load

    return vector, codegen


def _prefetch(locality):
    def typing(array, index):
        def codegen(context, builder, sig, args):
            pointer = address(context, builder, sig.args[0], args[0], args[1])
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
                "llvm.prefetch.p0i8",
            )
            to_read, nearness, data = (number(k) for k in (0, locality, 1))
            builder.call(function, [builder.bitcast(pointer, byte), to_read, nearness, data])
            return context.get_dummy_value()

        return types.none, codegen

    return typing


def _store(array, index, vector):
    def codegen(context, builder, sig, args):
        pointer = address(context, builder, sig.args[0], args[0], args[1])
        kind = context.get_value_type(vector)
        store = builder.store(args[2], builder.bitcast(pointer, kind.as_pointer()))
        store.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none, codegen


def pointer(array):
    """Where an array's elements begin.  A kernel passes on one word for it, an array is seven."""


def pointers(arrays):
    """A named tuple of arrays as one of pointers, of the type `Pointers`."""


def offset(pointer, n):
    """A pointer to what lies n elements further on."""


def moved(pointers, steps, n):
    """The pointers, each to what lies n of its steps further on."""


def load(array, index, lanes):
    """The vector of the elements from `index` on, counted over all axes."""


def prefetch(array, index):
    """Have the cache line of an element, if there is one, fetched to L1.

    No result depends on it.
    """


def prefetch_early(array, index):
    """The same to L2."""


def store(array, index, vector):
    """Write a vector to the elements from `index` on."""


for _function, _typing in {
    pointer: _pointer,
    pointers: _pointers,
    offset: _offset,
    moved: _moved,
    load: _load,
    prefetch: _prefetch(3),
    prefetch_early: _prefetch(2),
    store: _store,
}.items():
    make_builtin(_function, _typing)
