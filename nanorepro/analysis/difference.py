"""How two tensors differ: measured block by block, in memory that does not grow with them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanorepro.analysis.distance_counts import DistanceCounts
from nanorepro.analysis.tensor_pair import TensorPair, max_abs, max_abs_of_both
from nanorepro.data.tensors.record import Tensor
from nanorepro.numerics.ulp import far

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
        return max_abs(d)

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
    pair = TensorPair(a, b)
    with np.errstate(all="ignore"):  # of NaN and infinities, which are counted
        return _measured(pair, transposed, progress)


def _measured(
    pair: TensorPair, transposed: bool, progress: Callable[[int], None]
) -> TensorDifference:
    counts = DistanceCounts(pair)
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
        first_unequal=None if first is None else pair.index(first),
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


def _finite(x: np.ndarray, y: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Both as float64, with 0 in place of what is not finite in one; max |x|, |y|; how many."""
    xs = x.astype(np.float64)
    ys = xs if y is None else y.astype(np.float64)
    top, out = max_abs_of_both(xs, ys), 0
    if not math.isfinite(top):
        wrong = ~(np.isfinite(xs) & np.isfinite(ys))
        xs[wrong] = 0.0
        ys[wrong] = 0.0
        top, out = max_abs_of_both(xs, ys), int(np.count_nonzero(wrong))
    return xs, ys, top, out


def _scaled_sums(pair: TensorPair, scale: float) -> _Sums:
    """The sums of values times a power of two, where squares would overflow or vanish."""
    sums = _Sums()
    for _, _, x, y in pair.blocks():
        xs, ys, _, _ = _finite(x, y)
        sums.add(xs * scale, ys * scale)
    return sums
