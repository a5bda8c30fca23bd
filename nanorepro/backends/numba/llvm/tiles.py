"""Several rows in one vector; tiles of vectors, held in registers while many terms join their
sums; squares transposed.

A tile is a tuple of rows × cols vectors, row after row.  Its size travels in types, as the number
of lanes does in `simd`: as lengths of tuples.
"""

from llvmlite import ir
from numba import types

from nanorepro.backends.numba.llvm.simd import DIRECTED, machine
from nanorepro.backends.numba.llvm.vectors import (
    Vector,
    address,
    element,
    joined,
    make_builtin,
    shuffle,
    splat,
)


def _gather(array, at, stride, lanes):
    vector = Vector(array.dtype, lanes.count)

    def codegen(context, builder, sig, args):
        array, at, stride = args[:3]
        found = ir.Constant(context.get_value_type(vector), ir.Undefined)
        for k in range(lanes.count):
            value = builder.load(address(context, builder, sig.args[0], array, at))
            found = builder.insert_element(found, value, ir.IntType(32)(k))
            at = builder.add(at, stride)
        return found

    return vector, codegen


def _spread(vector, lanes):
    result = Vector(vector.dtype, vector.lanes * lanes.count)

    def codegen(context, builder, sig, args):
        index = [r for r in range(vector.lanes) for _ in range(lanes.count)]
        return shuffle(builder, args[0], index)

    return result, codegen


def _repeat(vector, rows):
    result = Vector(vector.dtype, rows.count * vector.lanes)

    def codegen(context, builder, sig, args):
        return shuffle(builder, args[0], list(range(vector.lanes)) * rows.count)

    return result, codegen


def _store_rows(vector, array, at, stride, rows):
    lanes = vector.lanes // rows.count
    part = Vector(vector.dtype, lanes)

    def codegen(context, builder, sig, args):
        whole, out, at, stride = args[:4]
        kind = context.get_value_type(part)
        for r in range(rows.count):
            value = shuffle(builder, whole, list(range(r * lanes, (r + 1) * lanes)))
            pointer = address(context, builder, sig.args[1], out, at)
            store = builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
            store.align = vector.dtype.bitwidth // 8
            at = builder.add(at, stride)
        return context.get_dummy_value()

    return types.none, codegen


def _fill_tile(scalar, lanes, rows, cols):
    tile = types.UniTuple(Vector(scalar, lanes.count), rows.count * cols.count)

    def codegen(context, builder, sig, args):
        vector = splat(builder, args[0], lanes.count)
        return context.make_tuple(builder, tile, [vector] * tile.count)

    return tile, codegen


def _load_tile(array, at, stride, lanes, rows, cols):
    tile = types.UniTuple(Vector(array.dtype, lanes.count), rows.count * cols.count)

    def codegen(context, builder, sig, args):
        array, at, stride = args[:3]
        kind, found = context.get_value_type(tile.dtype), []
        for _ in range(rows.count):
            for c in range(cols.count):
                offset = ir.Constant(ir.IntType(64), c * lanes.count)
                pointer = address(context, builder, sig.args[0], array, builder.add(at, offset))
                value = builder.load(builder.bitcast(pointer, kind.as_pointer()))
                value.align = tile.dtype.dtype.bitwidth // 8
                found.append(value)
            at = builder.add(at, stride)
        return context.make_tuple(builder, tile, found)

    return tile, codegen


def _outer(acc, a, at, stride, right, rows):
    def codegen(context, builder, sig, args):
        tile, array, at, stride, right = args[:5]
        columns, sums = sig.args[4].count, []
        for r in range(rows.count):
            for c in range(columns):
                term = builder.extract_value(tile, r * columns + c)
                vector = builder.extract_value(right, c)
                sums.append(_joined(context, builder, sig.args[1], array, at, vector, term, acc))
            at = builder.add(at, stride)
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _places(numbers, at, stride, base, rows):
    tuples = types.UniTuple(types.int64, rows.count)

    def codegen(context, builder, sig, args):
        array, at, stride, base = args[:4]
        found = []
        for r in range(rows.count):
            k = builder.add(at, ir.IntType(64)(r))
            number = builder.load(address(context, builder, sig.args[0], array, k))
            found.append(builder.add(builder.mul(number, stride), base))
        return context.make_tuple(builder, tuples, found)

    return tuples, codegen


def _outer_at(acc, a, places, k, right):
    def codegen(context, builder, sig, args):
        tile, array, places, k, right = args
        columns, sums = sig.args[4].count, []
        for r in range(sig.args[2].count):
            at = builder.add(builder.extract_value(places, r), k)
            for c in range(columns):
                term = builder.extract_value(tile, r * columns + c)
                vector = builder.extract_value(right, c)
                sums.append(_joined(context, builder, sig.args[1], array, at, vector, term, acc))
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _outer_tile(acc, left, right):
    def codegen(context, builder, sig, args):
        tile, left, right = args
        one, sums = acc.dtype, []
        fused = machine("fma", 3)(one, one, one)[1]
        for r in range(sig.args[1].count):
            a = builder.extract_value(left, r)
            for c in range(sig.args[2].count):
                term = builder.extract_value(tile, r * sig.args[2].count + c)
                b = builder.extract_value(right, c)
                sums.append(fused(context, builder, one(one, one, one), (a, b, term)))
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _chained(acc, a, at, stride, tile):
    def codegen(context, builder, sig, args):
        total, array, at, stride, tile = args
        for k in range(sig.args[4].count):
            vector = builder.extract_value(tile, k)
            total = _joined(context, builder, sig.args[1], array, at, vector, total, sig.args[4])
            at = builder.add(at, stride)
        return total

    return acc, codegen


def _outer_shared(acc, a, at, right, per):
    def codegen(context, builder, sig, args):
        tile, array, at, right = args[:4]
        one, n, sums = acc.dtype, per.count, []
        width, fused = one.lanes // n, machine("fma", 3)(one, one, one)[1]
        part = ir.VectorType(element(one.dtype), n)
        for g in range(acc.count):
            place = address(context, builder, sig.args[1], array, at)
            value = builder.load(builder.bitcast(place, part.as_pointer()))
            value.align = one.dtype.bitwidth // 8
            factor = shuffle(builder, value, [r for r in range(n) for _ in range(width)])
            term = builder.extract_value(tile, g)
            sums.append(fused(context, builder, one(one, one, one), (factor, right, term)))
            at = builder.add(at, ir.IntType(64)(n))
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _joined(context, builder, kind, array, at, vector, total, tile):
    """fma(array[at], vector, total)."""
    one = tile.dtype
    factor = splat(builder, builder.load(address(context, builder, kind, array, at)), one.lanes)
    fused = machine("fma", 3)(one, one, one)[1]
    return fused(context, builder, one(one, one, one), (factor, vector, total))


def _add_present(acc, a, at, stride, present, rows, cols):
    def codegen(context, builder, sig, args):
        tile, array, at, stride, present = args[:5]
        lanes = acc.dtype.lanes
        # AVX-512 keeps conditions in registers of their own; in others parts of them are taken
        # number by number
        together = 1 if DIRECTED else cols.count
        sums = []
        for r in range(rows.count):
            scalar = builder.load(address(context, builder, sig.args[1], array, at))
            for c in range(0, cols.count, together):
                first = r * cols.count + c
                parts = [builder.extract_value(tile, first + k) for k in range(together)]
                before = joined(builder, parts, together * lanes)
                value = splat(builder, scalar, together * lanes)
                mask = shuffle(builder, present, range(c * lanes, (c + together) * lanes))
                if rows.count == 1:
                    # one instruction more, but each sum waits 2 cycles, not 3
                    after = builder.fadd(before, builder.select(mask, value, value.type(None)))
                else:
                    after = builder.select(mask, builder.fadd(before, value), before)
                sums += [
                    shuffle(builder, after, range(k * lanes, (k + 1) * lanes))
                    for k in range(together)
                ]
            at = builder.add(at, stride)
        return context.make_tuple(builder, acc, sums)

    return acc, codegen


def _transpose(source, at, stride, target, to, to_stride, lanes):
    def codegen(context, builder, sig, args):
        n, size = lanes.count, source.dtype.bitwidth // 8
        part = 16 // size  # numbers of 16 bytes, within which shuffling is quickest
        kind = element(source.dtype)

        def place(number, array, offset, count):
            pointer = address(context, builder, sig.args[number], array, offset)
            return builder.bitcast(pointer, ir.VectorType(kind, count).as_pointer())

        def piece(row, column):
            offset = builder.add(at[row], ir.IntType(64)(column))
            value = builder.load(place(0, args[0], offset, part))
            value.align = size
            return value

        def joined(vectors):
            while len(vectors) > 1:
                count = 2 * vectors[0].type.count
                vectors = [
                    mixed(a, b, range(count))
                    for a, b in zip(vectors[::2], vectors[1::2], strict=True)
                ]
            return vectors[0]

        def mixed(a, b, index):
            order = ir.Constant(ir.VectorType(ir.IntType(32), len(index)), list(index))
            return builder.shuffle_vector(a, b, order)

        at, to = [args[1]], args[4]
        for _ in range(n - 1):
            at.append(builder.add(at[-1], args[2]))
        half, begins = range(part // 2), range(0, n, part)
        low = [c + k + n * b for c in begins for k in half for b in (0, 1)]
        high = [k + part // 2 for k in low]
        for column in begins:
            rows = [joined([piece(row + k, column) for row in begins]) for k in range(part)]
            # log2(part) perfect shuffles of the parts
            for _ in range(part.bit_length() - 1):
                pairs = list(zip(rows[: part // 2], rows[part // 2 :], strict=True))
                rows = [mixed(a, b, index) for a, b in pairs for index in (low, high)]
            for row in rows:
                store = builder.store(row, place(3, args[3], to, n))
                store.align = size
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


def _in_line(tile, lanes):
    vector, n = Vector(tile.dtype.dtype, lanes.count), tile.count * tile.dtype.lanes

    def codegen(context, builder, sig, args):
        whole = joined(builder, [builder.extract_value(args[0], k) for k in range(tile.count)], n)
        return shuffle(builder, whole, [min(k, n - 1) for k in range(lanes.count)])

    return vector, codegen


def _row_of(tile, row, cols):
    vector = Vector(tile.dtype.dtype, cols.count * tile.dtype.lanes)

    def codegen(context, builder, sig, args):
        begin = row.count * cols.count
        parts = [builder.extract_value(args[0], begin + c) for c in range(cols.count)]
        return joined(builder, parts, vector.lanes)

    return vector, codegen


def _opaque(n):
    number = types.int64

    def codegen(context, builder, sig, args):
        kind = ir.IntType(64)
        value = context.cast(builder, args[0], sig.args[0], number)
        return builder.asm(ir.FunctionType(kind, [kind]), "", "=r,0", [value], False)

    return number, codegen


def _store_tile(acc, array, at, stride, rows, cols):
    def codegen(context, builder, sig, args):
        tile, out, at, stride = args[:4]
        kind = context.get_value_type(acc.dtype)
        for r in range(rows.count):
            for c in range(cols.count):
                offset = ir.Constant(ir.IntType(64), c * acc.dtype.lanes)
                pointer = address(context, builder, sig.args[1], out, builder.add(at, offset))
                value = builder.extract_value(tile, r * cols.count + c)
                store = builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
                store.align = acc.dtype.dtype.bitwidth // 8
            at = builder.add(at, stride)
        return context.get_dummy_value()

    return types.none, codegen


def _store_at(acc, array, places, cols):
    def codegen(context, builder, sig, args):
        tile, out, places = args[:3]
        kind = context.get_value_type(acc.dtype)
        for r in range(sig.args[2].count):
            for c in range(cols.count):
                offset = ir.Constant(ir.IntType(64), c * acc.dtype.lanes)
                at = builder.add(builder.extract_value(places, r), offset)
                pointer = address(context, builder, sig.args[1], out, at)
                value = builder.extract_value(tile, r * cols.count + c)
                store = builder.store(value, builder.bitcast(pointer, kind.as_pointer()))
                store.align = acc.dtype.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.none, codegen


def gather(array, at, stride, lanes):
    """The vector of array[at], array[at + stride], ..."""


def spread(vector, lanes):
    """Each element of a vector repeated so many times, copies adjacent."""


def repeat(vector, rows):
    """`rows` times the same vector, as one."""


def store_rows(vector, array, at, stride, rows):
    """Write a vector of several rows, row r from array[at + r·stride] on."""


def fill_tile(scalar, lanes, rows, cols):
    """rows × cols vectors, all filled with `scalar`; numbers are lengths of tuples here, too."""


def load_tile(array, at, stride, lanes, rows, cols):
    """rows × cols vectors, row r from array[at + r·stride] on."""


def outer(acc, a, at, stride, right, rows):
    """acc[r, c] ← fma(a[at + r·stride], right[c], acc[r, c]) for a tile of sums."""


def places(numbers, at, stride, base, rows):
    """The tuple of base + stride·numbers[at + r], r < rows."""


def outer_at(acc, a, places, k, right):
    """acc[r, c] ← fma(a[places[r] + k], right[c], acc[r, c]) for a tile of sums."""


def store_at(acc, array, places, cols):
    """Write a tile, row r from array[places[r]] on."""


def outer_tile(acc, left, right):
    """acc[r, c] ← fma(left[r], right[c], acc[r, c]) for a tile of sums."""


def outer_shared(acc, a, at, right, per):
    """acc[g] ← fma(f, right, acc[g]), each of f's equal parts filled with one of `per` numbers.

    They are a[at + g·per], a[at + g·per + 1], ...
    """


def chained(acc, a, at, stride, tile):
    """acc ← fma(a[at + k·stride], tile[k], acc) for each vector of a tile in turn."""


def add_present(acc, a, at, stride, present, rows, cols):
    """acc[r, c] ← acc[r, c] + a[at + r·stride] in those lanes for which `present` holds.

    No sum may be -0 before.
    """


def transpose(source, at, stride, target, to, to_stride, lanes):
    """Transpose a square of lanes × lanes: row r from source[at + r·stride] becomes a column."""


def add_tile(acc, other):
    """acc + other, vector by vector."""


def in_line(tile, lanes):
    """The numbers of a tile as one vector, whose further lanes hold anything."""


def row_of(tile, row, cols):
    """Row `row` of a tile of `cols` columns as one vector."""


def opaque(n):
    """n, of which the compiler does not know: a loop so often is not written out."""


def store_tile(acc, array, at, stride, rows, cols):
    """Write a tile, row r from array[at + r·stride] on."""


for _function, _typing in {
    gather: _gather,
    spread: _spread,
    repeat: _repeat,
    store_rows: _store_rows,
    fill_tile: _fill_tile,
    load_tile: _load_tile,
    outer: _outer,
    places: _places,
    outer_at: _outer_at,
    store_at: _store_at,
    outer_tile: _outer_tile,
    outer_shared: _outer_shared,
    chained: _chained,
    add_present: _add_present,
    transpose: _transpose,
    add_tile: _add_tile,
    in_line: _in_line,
    row_of: _row_of,
    opaque: _opaque,
    store_tile: _store_tile,
}.items():
    make_builtin(_function, _typing)
