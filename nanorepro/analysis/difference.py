"""How two tensors differ: measured block by block, in memory that does not grow with them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nanorepro.data.tensors.record import FORMATS, NumberFormat, Tensor
from nanorepro.data.tensors.values import values_of
from nanorepro.errors import ConfigError
from nanorepro.numerics.ulp import SIGNED, apart, far, places, with_nan

BLOCK = 1 << 14  # numbers at a time, which stay in the caches as float64
DIGIT = 16  # bits of a distance that are counted at a time
BINS = 1 << DIGIT
SAFE = 2.0**500  # magnitudes whose squares may be summed: from its reciprocal to it


@dataclass(frozen=True)
class TensorDifference:
    """How tensor B differs from tensor A.

    Attributes
    ----------
    name : str
        The tensor, by its name in A.
    shape : tuple of int
        Its shape in A.
    format_a, format_b : str
        How its numbers are stored.  Where the two are not the same, all are converted to the
        format `compared_as`, exactly.
    compared_as : str
        The format in whose units in the last place they are compared.
    transposed : bool
        Whether the axes of B's tensor were brought into another order.
    elements, unequal : int
        Its numbers, and those whose bits are not the same in A and B (all NaN count as the same);
        a complex number counts as two.
    first_unequal : tuple of int or None
        Where the first of these is.
    zero_signs : int
        Unequal ones that are -0 and +0, which are 0 ulp apart.
    nan_in_one : int
        Unequal ones of which one is NaN: their distance in ulp is infinite.
    not_finite : int
        Elements that are NaN or infinite in A or B; the measures below leave them out.
    largest_ulp, median_ulp : float
        Largest and median distance over all elements, in units in the last place: the steps from
        one number to the other (`nanorepro.numerics.ulp`); of integers, their difference.  The
        median of an even number is the lower one in the middle.
    largest_difference : float
        max |a - b|.
    norm_a, norm_b, distance : float
        The Euclidean norms of A, of B, and of A - B.
    dot, squares_apart : float
        The sum of a·b, and ‖A‖² - ‖B‖² without the cancellation in it.
    angle : float
        Between A and B as vectors, in radians, computed without cancellation; NaN if one is 0.
    """

    name: str
    shape: tuple[int, ...]
    format_a: str
    format_b: str
    compared_as: str
    transposed: bool
    elements: int
    unequal: int
    first_unequal: tuple[int, ...] | None
    zero_signs: int
    nan_in_one: int
    not_finite: int
    largest_ulp: float
    median_ulp: float
    largest_difference: float
    norm_a: float
    norm_b: float
    distance: float
    dot: float
    squares_apart: float
    angle: float

    @property
    def equal(self) -> bool:
        """Whether all bits are the same; all NaN count as one."""
        return self.unequal == 0

    @property
    def relative_distance(self) -> float:
        """‖A - B‖ / ‖A‖; 0 where A = B, infinite where only A is 0."""
        return relative(self.distance, self.norm_a)

    @property
    def cosine(self) -> float:
        """The cosine between A and B as vectors; NaN if one is 0."""
        return math.cos(self.angle)


def relative(distance: float, norm: float) -> float:
    """distance / norm; 0 / 0 is 0, and x / 0 infinite."""
    if distance == 0.0:
        return 0.0
    return distance / norm if norm else math.inf


def angle_between(aa: float, bb: float, dd: float, ss: float) -> float:
    """The angle between two vectors, in radians; NaN if one is 0.

    Parameters
    ----------
    aa, bb, dd : float
        ‖a‖², ‖b‖² and ‖a - b‖².
    ss : float
        (a - b)·(a + b) = ‖a‖² - ‖b‖², summed term by term, without its cancellation.

    Notes
    -----
    ‖a - b‖² = (‖a‖ - ‖b‖)² + 4 ‖a‖ ‖b‖ sin²(α/2).
    """
    a, b = math.sqrt(aa), math.sqrt(bb)
    if not (a and b and math.isfinite(a + b + dd + ss)):
        return math.nan
    along = ss / (a + b)
    half = (dd - along * along) / (4.0 * a * b)
    return 2.0 * math.asin(math.sqrt(min(max(half, 0.0), 1.0)))


def common_format(a: NumberFormat, b: NumberFormat) -> NumberFormat:
    """The format that holds the numbers of both, exactly; raises ConfigError if there is none."""
    if a == b:
        return a
    kinds = {a.kind, b.kind}
    if kinds == {"float"}:
        return FORMATS["float64" if "float64" in (a.name, b.name) else "float32"]
    if kinds == {"complex"}:
        return FORMATS["complex128"]
    if kinds == {"int"} and "uint64" not in (a.name, b.name):
        return FORMATS["int64"]
    raise ConfigError(f"{a.name} and {b.name} are not compared")


class _Pair:
    """Two tensors whose numbers are read side by side, as what they are compared as."""

    def __init__(self, a: Tensor, b: Tensor):
        self.a, self.b = a, b
        self.format = common_format(a.format, b.format)
        self.real = {"complex64": "float32", "complex128": "float64"}.get(
            self.format.name, self.format.name
        )
        self.size = a.size * (2 if self.format.kind == "complex" else 1)
        # both in the order in which A is stored, so that A at least is read as it lies
        self.order = a.stored_order()

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Bits of both, signed, and their values."""
        for x, y in zip(
            self.a.blocks(self.order, BLOCK), self.b.blocks(self.order, BLOCK), strict=True
        ):
            (bits_a, values_a), (bits_b, values_b) = (
                self._bits(x, self.a.format),
                self._bits(y, self.b.format),
            )
            yield bits_a, bits_b, values_a, values_b

    def _bits(self, block: np.ndarray, format: NumberFormat) -> tuple[np.ndarray, np.ndarray]:
        values = values_of(block, format)
        if format == self.format and format.kind in ("float", "bool", "int"):
            if format.kind == "bool":
                return block.view(np.int8), values
            signed = SIGNED[block.dtype.itemsize]
            return block.view(signed), values
        values = values.astype(FORMATS[self.real].storage, copy=False)
        return values.view(SIGNED[values.dtype.itemsize]), values

    def distances(
        self, bits_a: np.ndarray, bits_b: np.ndarray, a: np.ndarray, b: np.ndarray, finite: bool
    ) -> np.ndarray:
        """In ulp of what they are compared as; of integers, |a - b|."""
        if a.dtype.kind == "f":
            found = apart(places(bits_a), places(bits_b))
            return found if finite else with_nan(found, np.isnan(a), np.isnan(b))
        return apart(a.view(np.uint8), b.view(np.uint8)) if a.dtype == bool else apart(a, b)


@dataclass
class _Sums:
    """What is summed over the blocks.

    Attributes
    ----------
    aa, bb, ab, dd : float
        Of a², b², a·b and (a - b)².
    ss : float
        Of (a - b)(a + b).
    """

    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0
    ss: float = 0.0

    def add(self, a: np.ndarray, b: np.ndarray) -> float:
        """Add the sums over a block; returns max |a - b|."""
        d = a - b
        held = a + b
        held *= d
        self.ss += float(np.add.reduce(held))
        for name, one, other in (("aa", a, a), ("bb", b, b), ("ab", a, b), ("dd", d, d)):
            np.multiply(one, other, out=held)
            setattr(self, name, getattr(self, name) + float(np.add.reduce(held)))
        return _largest(d)

    def add_equal(self, a: np.ndarray) -> None:
        square = float(np.sum(a * a))
        self.aa, self.bb, self.ab = self.aa + square, self.bb + square, self.ab + square


def measure(
    a: Tensor,
    b: Tensor,
    transposed: bool = False,
    progress: Callable[[int], None] = lambda elements: None,
) -> TensorDifference:
    """How two tensors of one shape differ.

    Parameters
    ----------
    a, b : Tensor
        Of the same shape.
    transposed : bool
        What the result says of B's axes.
    progress : callable, optional
        Called with the elements that were read since the last call.

    Raises
    ------
    ConfigError
        If their formats cannot be compared, or a file is damaged.
    """
    pair = _Pair(a, b)
    with np.errstate(all="ignore"):  # of NaN and infinities, which are counted
        return _measured(pair, transposed, progress)


def _measured(pair: _Pair, transposed: bool, progress: Callable[[int], None]) -> TensorDifference:
    counts = _Counts(pair)
    sums, largest, magnitude = _Sums(), 0.0, 0.0
    unequal = zero_signs = nan_in_one = not_finite = at = 0
    first: int | None = None
    for bits_a, bits_b, x, y in pair.blocks():
        n = len(x)
        progress(n)
        other = bits_a != bits_b
        same = not other.any()
        xs, ys, top, out = _finite(x, None if same else y)
        not_finite += out
        magnitude = max(magnitude, top)
        if same:
            sums.add_equal(xs)
            counts.add_zeros(n)
        else:
            largest = max(largest, sums.add(xs, ys))
            d = pair.distances(bits_a, bits_b, x, y, out == 0)
            if x.dtype.kind == "f":
                if out:
                    other &= ~(np.isnan(x) & np.isnan(y))
                    nan_in_one += int(np.count_nonzero(d == far(d.dtype)))
                zero_signs += int(np.count_nonzero(other & (d == 0)))
            if first is None and other.any():
                first = at + int(np.argmax(other))
            counts.add(d)
            unequal += int(np.count_nonzero(other))
        at += n
    scale = 1.0
    if magnitude and not 1.0 / SAFE <= magnitude <= SAFE:
        scale = 2.0 ** min(-math.frexp(magnitude)[1], 1000)
        sums = _scaled_sums(pair, scale)
    norm_a, norm_b, apart_by = (math.sqrt(v) / scale for v in (sums.aa, sums.bb, sums.dd))
    return TensorDifference(
        name=pair.a.name,
        shape=pair.a.shape,
        format_a=pair.a.format.name,
        format_b=pair.b.format.name,
        compared_as=pair.format.name,
        transposed=transposed,
        elements=pair.size,
        unequal=unequal,
        first_unequal=None if first is None else _index(pair, first),
        zero_signs=zero_signs,
        nan_in_one=nan_in_one,
        not_finite=not_finite,
        largest_ulp=counts.largest(),
        median_ulp=counts.median(),
        largest_difference=largest,
        norm_a=norm_a,
        norm_b=norm_b,
        distance=apart_by,
        dot=sums.ab / scale / scale,
        squares_apart=sums.ss / scale / scale,
        angle=angle_between(sums.aa, sums.bb, sums.dd, sums.ss),
    )


def _largest(values: np.ndarray) -> float:
    """max |x|; NaN if one is."""
    if not len(values):
        return 0.0
    high, low = float(np.maximum.reduce(values)), -float(np.minimum.reduce(values))
    return high if high >= low or high != high else low


def _finite(x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Both as float64, with 0 in place of what is not finite in one; max |x|, |y|; how many."""
    xs = x.astype(np.float64)
    ys = xs if y is None else y.astype(np.float64)
    top, out = _top(xs, ys), 0
    if not math.isfinite(top):
        wrong = ~(np.isfinite(xs) & np.isfinite(ys))
        xs[wrong] = 0.0
        ys[wrong] = 0.0
        top, out = _top(xs, ys), int(np.count_nonzero(wrong))
    return xs, ys, top, out


def _top(xs: np.ndarray, ys: np.ndarray) -> float:
    """max |x|, |y|; NaN or infinite if one is."""
    found = _largest(xs)
    if ys is not xs and math.isfinite(found):
        other = _largest(ys)
        found = other if other != other or other > found else found
    return found


def _scaled_sums(pair: _Pair, scale: float) -> _Sums:
    """The sums of values times a power of two, where squares would overflow or vanish."""
    sums = _Sums()
    for _, _, x, y in pair.blocks():
        xs, ys, _, _ = _finite(x, y)
        sums.add(xs * scale, ys * scale)
    return sums


def _index(pair: _Pair, flat: int) -> tuple[int, ...]:
    """Where in A the element is that is read as number `flat`."""
    if pair.format.kind == "complex":
        flat //= 2
    shape = tuple(pair.a.shape[axis] for axis in pair.order)
    found = [0] * len(shape)
    for axis, place in zip(pair.order, np.unravel_index(flat, shape), strict=True):
        found[axis] = int(place)
    return tuple(found)


class _Counts:
    """Counts of distances, of which the largest and the median are wanted, exactly.

    They are counted by their upper 16 bits of 32, and one by one below 2^16; what is wider, by how
    many digits of 16 bits it has.  Of those with the upper digit that the median of the first ones
    has, the lower one is counted, too: then most medians are known.  What another is, further
    readings find.
    """

    def __init__(self, pair: _Pair):
        self.pair = pair
        self.small = np.zeros(BINS, np.int64)
        self.upper = np.zeros(BINS, np.int64)  # of those below 2^32, by digit
        self.longer = np.zeros(4, np.int64)  # by the number of digits; those of 3 and 4 are used
        self.guess: int | None = None  # the upper digit of the median, probably
        self.lower = np.zeros(BINS, np.int64)  # of those with that upper digit
        self.top = 0
        self.held: np.ndarray | None = None
        self.filled = 0

    def add_zeros(self, n: int) -> None:
        """Count n zeros."""
        self.small[0] += n
        self.upper[0] += n

    def add(self, d: np.ndarray) -> None:
        """Count distances, many at a time."""
        if self.held is None:
            self.held = np.empty(BINS, d.dtype)
        if self.filled + len(d) > len(self.held):
            self._flush()
        self.held[self.filled : self.filled + len(d)] = d
        self.filled += len(d)

    def _flush(self) -> None:
        if self.held is None or not self.filled:
            return
        d = self.held[: self.filled]
        self.filled = 0
        top = int(d.max())
        self.top = max(self.top, top)
        if top >= 1 << 32:
            for k in (2, 3):
                self.longer[k] += np.count_nonzero(d >> np.uint64(DIGIT * k))
            self.longer[2] -= np.count_nonzero(d >> np.uint64(3 * DIGIT))
            d = d[d < np.uint64(1 << 32)]
        if self.guess is None:
            self.guess = int(np.partition(d, len(d) // 2)[len(d) // 2]) >> DIGIT if len(d) else 0
        if top >= BINS:
            upper = d >> d.dtype.type(DIGIT)
            self._count(self.upper, upper)
            if self.guess:
                self._count(self.lower, d[upper == self.guess] & d.dtype.type(BINS - 1))
            d = d[d < BINS]
        else:
            self.upper[0] += len(d)
        self._count(self.small, d)

    def _count(self, bins: np.ndarray, digits: np.ndarray) -> None:
        found = np.bincount(digits.astype(np.int64))
        bins[: len(found)] += found

    def largest(self) -> float:
        """The largest distance; infinite with a NaN in one of two."""
        self._flush()
        return self._as_number(self.top)

    def median(self) -> float:
        """The lower median."""
        self._flush()
        rank = (self.pair.size - 1) // 2
        if rank < 0:
            return 0.0
        below = int(self.upper.sum())
        if rank < below:
            digit, rank = _locate(self.upper, rank)
            if digit == 0:
                return self._as_number(_locate(self.small, rank)[0])
            if digit == self.guess:
                return self._as_number(digit << DIGIT | _locate(self.lower, rank)[0])
            return self._as_number(self._digits(digit, rank, 1))
        rank -= below
        level = 2 if rank < self.longer[2] else 3
        if level == 3:
            rank -= int(self.longer[2])
        found = self._counted(0, DIGIT * level)
        found[0] = 0
        digit, rank = _locate(found, rank)
        return self._as_number(self._digits(digit, rank, level))

    def _digits(self, prefix: int, rank: int, level: int) -> int:
        """The distance of a rank among those that begin with `prefix`, `level` digits follow."""
        for shift in range(DIGIT * (level - 1), -1, -DIGIT):
            digit, rank = _locate(self._counted(prefix, shift), rank)
            prefix = prefix << DIGIT | digit
        return prefix

    def _counted(self, prefix: int, shift: int) -> np.ndarray:
        """How many distances have each digit at `shift`, of those with `prefix` above it."""
        found = np.zeros(BINS, np.int64)
        for bits_a, bits_b, x, y in self.pair.blocks():
            finite = x.dtype.kind != "f" or math.isfinite(_top(x, y))
            d = self.pair.distances(bits_a, bits_b, x, y, finite)
            wide = d.dtype.type
            d >>= wide(shift)
            above = d >> wide(DIGIT)
            picked = d[above == wide(prefix)] & wide(BINS - 1)
            counted = np.bincount(picked.astype(np.int64))
            found[: len(counted)] += counted
        return found

    def _as_number(self, distance: int) -> float:
        width = None if self.held is None else self.held.dtype
        real = self.pair.format.kind in ("float", "complex")
        return math.inf if real and width and distance == far(width) else float(distance)


def _locate(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin in which the element of a rank lies, and its rank inside it."""
    below = np.cumsum(counts)
    found = int(np.searchsorted(below, rank, side="right"))
    return found, rank - (int(below[found - 1]) if found else 0)
