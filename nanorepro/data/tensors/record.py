"""One tensor of a file, and the formats of its numbers."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from nanorepro.errors import ConfigError

BLOCK = 1 << 16  # elements at a time: a few such arrays lie in a core's cache
IN_MEMORY = 1 << 26  # bytes of a tensor that is brought into another order in memory


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of a tensor are stored.

    Attributes
    ----------
    name : str
        As NumPy and ml_dtypes name it.
    storage : str
        The NumPy type, little-endian, of what is stored: the floating type itself where NumPy has
        it, else the unsigned integers that hold its bits.
    kind : str
        `float`, `complex`, `int` or `bool`.
    significand, exponent : int
        Bits of a floating format: those stored of the significand, and of the exponent.
    infinities : bool
        Whether a floating format has infinities, and NaN in all other values of the greatest
        exponent, as IEEE 754 has it.
    unsigned_zero : bool
        Whether -0 stands for NaN, the only one, and zero has no sign.
    """

    name: str
    storage: str
    kind: str
    significand: int = 0
    exponent: int = 0
    infinities: bool = True
    unsigned_zero: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of one number."""
        return np.dtype(self.storage).itemsize


def _float(name: str, storage: str, exponent: int, significand: int) -> NumberFormat:
    return NumberFormat(name, storage, "float", significand, exponent)


FORMATS = {
    f.name: f
    for f in (
        _float("float64", "<f8", 11, 52),
        _float("float32", "<f4", 8, 23),
        _float("float16", "<f2", 5, 10),
        _float("bfloat16", "<u2", 8, 7),
        _float("float8_e5m2", "u1", 5, 2),
        NumberFormat("float8_e4m3fn", "u1", "float", 3, 4, infinities=False),
        NumberFormat("float8_e4m3fnuz", "u1", "float", 3, 4, False, unsigned_zero=True),
        NumberFormat("float8_e5m2fnuz", "u1", "float", 2, 5, False, unsigned_zero=True),
        NumberFormat("complex64", "<c8", "complex"),
        NumberFormat("complex128", "<c16", "complex"),
        *(
            NumberFormat(f"{sign}int{8 * size}", f"{'<' if size > 1 else ''}{sign or 'i'}{size}",
                         "int")
            for sign in ("", "u")
            for size in (1, 2, 4, 8)
        ),
        NumberFormat("bool", "?", "bool"),
    )
}  # fmt: skip


def format_of(dtype: np.dtype) -> NumberFormat | None:
    """The format of a NumPy type, in whatever byte order; None of one that holds no such numbers.

    Examples
    --------
    >>> format_of(np.dtype(">f4")).name
    'float32'
    """
    return FORMATS.get(dtype.name) if dtype.kind in "fciub" else None


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file.

    Attributes
    ----------
    name : str
        Its name in the file.
    format : NumberFormat
        How its numbers are stored.
    stored_shape : tuple of int
        Its shape as it is stored, the last axis closest together.
    axes : tuple of int
        The stored axes in the order in which the tensor has them.
    read : callable
        read(n) yields all elements as they are stored, in arrays (n,) of the format's storage, the
        last one shorter; they hold until the next one is asked for.
    """

    name: str
    format: NumberFormat
    stored_shape: tuple[int, ...]
    axes: tuple[int, ...]
    read: Callable[[int], Iterator[np.ndarray]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.stored_shape[axis] for axis in self.axes)

    @property
    def size(self) -> int:
        """Its elements."""
        return math.prod(self.stored_shape)

    def permuted(self, axes: tuple[int, ...]) -> "Tensor":
        """The same with its axes in another order, as `numpy.transpose` has it."""
        return replace(self, axes=tuple(self.axes[axis] for axis in axes))

    def blocks(self, axes: tuple[int, ...] | None = None, n: int = BLOCK) -> Iterator[np.ndarray]:
        """Its elements, with the axes `axes` of the tensor from the slowest to the fastest.

        Parameters
        ----------
        axes : tuple of int, optional
            The order of the axes; that of the tensor if not given.
        n : int
            Elements of a block.

        Yields
        ------
        ndarray (n,)
            Of the format's storage, the last one shorter.
        """
        order = self.axes if axes is None else tuple(self.axes[axis] for axis in axes)
        moving = [axis for axis in order if self.stored_shape[axis] != 1]
        if not self.size:
            return
        if moving == sorted(moving):
            yield from self.read(n)
        else:
            yield from self._reordered(order, n)

    def stored_order(self) -> tuple[int, ...]:
        """The axes of the tensor from the one that is stored slowest to the fastest."""
        return tuple(self.axes.index(axis) for axis in range(len(self.axes)))

    def _reordered(self, order: tuple[int, ...], n: int) -> Iterator[np.ndarray]:
        """Blocks in an order that is not the stored one, from a copy on disk if it is large."""
        bytes_ = self.size * self.format.bytes
        with tempfile.TemporaryFile() as file:
            whole: np.ndarray
            if bytes_ <= IN_MEMORY:
                whole = np.empty(self.size, self.format.storage)
                first = 0
                for block in self.read(n):
                    whole[first : first + len(block)] = block
                    first += len(block)
            else:
                for block in self.read(n):
                    file.write(block.tobytes())
                file.flush()
                whole = np.memmap(file, self.format.storage, "r", shape=(self.size,))
            moved = whole.reshape(self.stored_shape).transpose(order)
            yield from reblocked(_slabs(moved, n), n, self.format.storage)


def _slabs(array: np.ndarray, n: int) -> Iterator[np.ndarray]:
    """The elements of an array in its order, about n at a time, flat."""
    for index in slabs(array.shape, n):
        yield np.ascontiguousarray(array[index]).reshape(-1)
        base = array
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        mapped = getattr(base, "_mmap", None)
        if mapped is not None and hasattr(mapped, "madvise"):
            import mmap

            mapped.madvise(mmap.MADV_DONTNEED)  # lest what was read counts as this process's memory


def slabs(
    shape: tuple[int, ...], n: int, chunks: tuple[int, ...] | None = None
) -> Iterator[tuple[int | slice, ...]]:
    """Indices that take an array apart, in its order, into pieces of about n elements.

    Parameters
    ----------
    shape : tuple of int
        The array's.
    n : int
        Elements of a piece at most, unless one row of chunks has more.
    chunks : tuple of int, optional
        The shape of the chunks in which it is stored; pieces hold whole ones where they can.

    Examples
    --------
    >>> list(slabs((4, 2), 4))
    [(slice(0, 2, None),), (slice(2, 4, None),)]
    """
    axis = 0
    while axis < len(shape) - 1 and math.prod(shape[axis + 1 :]) > n:
        if chunks is not None and chunks[axis] > 1:
            break
        axis += 1
    if not shape:
        yield ()
        return
    inner = max(1, math.prod(shape[axis + 1 :]))
    step = max(1, n // inner)
    if chunks is not None:
        step = max(step // chunks[axis], 1) * chunks[axis]
    for outer in np.ndindex(*shape[:axis]):
        for first in range(0, shape[axis], step):
            yield (*outer, slice(first, min(first + step, shape[axis])))


def reblocked(parts: Iterator[np.ndarray], n: int, storage: str) -> Iterator[np.ndarray]:
    """Flat arrays of any lengths as arrays of n elements, the last one shorter."""
    held = np.empty(n, storage)
    filled = 0
    for part in parts:
        first = 0
        while first < len(part):
            if not filled and len(part) - first >= n:
                yield part[first : first + n]
                first += n
                continue
            taken = min(n - filled, len(part) - first)
            held[filled : filled + taken] = part[first : first + taken]
            filled, first = filled + taken, first + taken
            if filled == n:
                yield held
                filled = 0
    if filled:
        yield held[:filled]


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file, or of a few that belong together.

    Attributes
    ----------
    tensors : dict of str to Tensor
        By their names, in the file's order.
    metadata : dict of str to str
        What the file says beside its tensors.
    left_out : dict of str to str
        What has a name there and is not compared, and why.
    notes : tuple of str
        What was understood of the file that it does not say itself.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


def refused(path: object, problem: str, right: str = "") -> ConfigError:
    """The error of a file that is not read."""
    return ConfigError(problem, repr(str(path)), right)
