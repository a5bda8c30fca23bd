"""Whether B differs from A by more than rounding: a rank test against replicates.

A and its replicates R_1, ..., R_n differ by rounding alone.  Under the hypothesis that B does, too,
the m = n + 2 models are exchangeable: no order of them is likelier than another.  Each gets a
score, by a function that treats the others alike: how far it stands out among them.  The p-value is
the share of models whose score is at least B's,

    p = #{i : s_i >= s_B} / m,

and P(p <= α) <= α for every α, whatever the distribution of the parameters, their number and
their dependence: this is a permutation test of one place (Lehmann & Romano, Testing Statistical
Hypotheses, section 15.2).  The smallest p there is, is 1/m.

The score is made of several, since faults differ: a wrong rate moves all weights a little, a
dropped update few of them.  With X (m, numbers) the models, less their mean,

    raw           the numbers as they are
    standardised  each number divided by its standard deviation over the models

and K = X Xᵀ, scaled to the mean eigenvalue 1, it is for several λ

    s_i(λ) = -log [(K + λ P)⁻¹]_ii,  P = I - 1 1ᵀ/m,

the inverse that of the space orthogonal to 1.  For λ = ∞ it is the distance to the mean of all; for
small λ the distance to the affine space of the others: directions in which replicates differ among
themselves count little, others much.  One score more is of single numbers: the largest over the
numbers of log(1 + d²/(s² + q²)), d the distance to the mean of the others, s their standard
deviation, and q the unit roundoff of that mean, lest models tie in numbers in which all others
are equal.  Each score is studentised with mean and standard deviation of the other models',
and the greatest is the score of the test; over a series of checkpoints, the greatest over all of
them.  The rank makes good for the choice.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert

from nanorepro.data.tensors.record import NumberFormat, Tensor
from nanorepro.data.tensors.values import values_of

LEVEL = 0.05
BLOCK = 1 << 13  # numbers of each model at a time
RIDGES = (math.inf, 1.0, 1e-2, 1e-8)  # λ, in mean eigenvalues
ALL = 1e-12  # share of a sum of squares that is not told from 0
TIE = 1e-9  # scores of models that are equal, and computed in another order
WITHIN, BEYOND, UNDECIDED = "within rounding", "beyond rounding", "undecided"


@dataclass(frozen=True)
class RoundingTest:
    """The verdict on B.

    Attributes
    ----------
    verdict : str
        `beyond rounding` if p <= level; `within rounding` if not: nothing was found that rounding
        would not do; `undecided` if the replicates are too few for any p to be as small as that.
    p : float
        The p-value: the share of the models (A, the replicates and B) that stand out at least
        as much as B does.
    smallest_p : float
        The smallest that so many models can give.
    level : float
        What p is held against: how often B is called beyond rounding although it is not.
    replicates : int
        Their number, without A.
    stands_out_by : str
        The statistic in which B stands out most.
    stands_out_at : str
        The checkpoint at which it does; "" where there is one only.
    by_checkpoint : tuple of float
        The p-value of each checkpoint by itself; a verdict over several of them needs `p`.
    distance, largest_distance : tuple of float
        At each checkpoint, the distance of B to the mean of all models, and the largest such
        distance among A and its replicates, both relative to the norm of the mean.
    """

    verdict: str
    p: float
    smallest_p: float
    level: float
    replicates: int
    stands_out_by: str
    stands_out_at: str
    by_checkpoint: tuple[float, ...]
    distance: tuple[float, ...]
    largest_distance: tuple[float, ...]

    def __str__(self) -> str:
        least = math.ceil(1.0 / self.level) - 2
        if self.verdict == UNDECIDED:
            return (
                f"undecided: p is {self.p:.3g}, and with {self.replicates} replicates no p is below"
                f" {self.smallest_p:.3g}; a verdict at {self.level:g} needs at least {least}"
            )
        at = f" at {self.stands_out_at}" if self.stands_out_at else ""
        how = f", most by {self.stands_out_by}{at}" if self.verdict == BEYOND else ""
        return (
            f"{self.verdict}: p = {self.p:.3g} (rank test at {self.level:g} against A and"
            f" {self.replicates} replicates{how})"
        )


@dataclass(frozen=True)
class Gram:
    """Scalar products between models, less their mean, summed over their numbers.

    Attributes
    ----------
    raw, standardised : ndarray (m, m)
        Of the numbers, and of the numbers in their standard deviations.
    single : ndarray (m,)
        The largest d²/(s² + q²) of each over the numbers.
    not_finite : ndarray (m,)
        How many numbers of each are NaN or infinite; such numbers are left out for all.
    norm : float
        Of the mean of all models.
    """

    raw: np.ndarray
    standardised: np.ndarray
    single: np.ndarray
    not_finite: np.ndarray
    norm: float


def gram(
    tensors: Sequence[Sequence[Tensor]], progress: Callable[[int], None] = lambda numbers: None
) -> Gram:
    """The scalar products of models, read side by side, block by block.

    Parameters
    ----------
    tensors : sequence of sequences of Tensor
        For each tensor, that of each model, all of one shape.
    progress : callable, optional
        Called with the numbers that were read since the last call.
    """
    m = len(tensors[0]) if tensors else 0
    raw, standardised = np.zeros((m, m)), np.zeros((m, m))
    single, not_finite, square = np.zeros(m), np.zeros(m), 0.0
    for same in tensors:
        roundoff = unit_roundoff(same[0].format)
        for x in _blocks(same):
            progress(x.size)
            finite = np.isfinite(x)
            if not finite.all():
                not_finite += (~finite).sum(axis=1)
                x = x[:, finite.all(axis=0)]
            with np.errstate(all="ignore"):
                first = x[0].copy()
                x -= first  # lest the mean of equal numbers is not that number
                mean = x.mean(axis=0)
                x -= mean
                square += float(np.sum((first + mean) ** 2))
                deviation = np.sqrt(np.mean(x * x, axis=0))
                raw += x @ x.T
                moving = deviation > 0.0
                z = x[:, moving] / deviation[moving]
                standardised += z @ z.T
                if z.size:
                    q = roundoff * np.abs(first + mean)[moving]
                    single = np.maximum(single, standing_out(x[:, moving], q).max(axis=1))
    return Gram(raw, standardised, single, not_finite, math.sqrt(square))


def unit_roundoff(format: NumberFormat) -> float:
    """The relative error of rounding to a format, at most; of integers that of float64."""
    bits = {"complex64": 23, "complex128": 52}.get(format.name, format.significand or 52)
    return float(2.0 ** -(bits + 1))


def standing_out(x: np.ndarray, q: np.ndarray) -> np.ndarray:
    """d²/(s² + q²) of every number of every model, (m, n), by the other models.

    `x` (m, n) are the models less their mean, `q` (n,) the unit roundoffs.
    """
    m = len(x)
    squares = x * x
    total = squares.sum(axis=0)
    own = squares * (m / (m - 1))  # what leaves the sum of squares with the model
    others = np.maximum(total - own, ALL * total)
    found: np.ndarray = own * (m / (m - 1)) / (others / (m - 1) + q * q)
    return found


def _blocks(tensors: Sequence[Tensor]) -> Iterator[np.ndarray]:
    """The numbers of one tensor of all models, (m, n) float64."""
    order = tensors[0].stored_order()
    for parts in zip(*(t.blocks(order, BLOCK) for t in tensors), strict=True):
        yield np.stack(
            [values_of(p, t.format).astype(np.float64) for p, t in zip(parts, tensors, strict=True)]
        )


def scores(found: Gram) -> dict[str, np.ndarray]:
    """The scores (m,) of all models by every statistic, studentised."""
    statistics = {}
    for name, products in (("raw", found.raw), ("standardised", found.standardised)):
        for ridge in RIDGES:
            how = "mean" if ridge == math.inf else f"span of the others (ridge {ridge:g})"
            statistics[f"the distance to the {how}, {name} numbers"] = outlying(products, ridge)
    statistics["a single number"] = np.log1p(found.single)
    if found.not_finite.any():
        statistics["numbers that are not finite"] = found.not_finite
    return {name: studentised(values) for name, values in statistics.items()}


def outlying(products: np.ndarray, ridge: float) -> np.ndarray:
    """s_i(λ): how far each model lies from the others, as a logarithm.

    Parameters
    ----------
    products : ndarray (m, m)
        Scalar products of the models, less their mean.
    ridge : float
        λ in mean eigenvalues; infinite for the distance to the mean.
    """
    m = len(products)
    scale = float(np.trace(products)) / max(m - 1, 1)
    if not (scale > 0.0 and math.isfinite(scale)):
        return np.zeros(m)
    scaled = products / scale
    tiny = np.finfo(np.float64).tiny
    if ridge == math.inf:
        return np.log(np.maximum(np.diag(scaled), tiny))
    basis = helmert(m)  # (m - 1, m), orthogonal to 1, along which there is nothing
    ridged = basis @ scaled @ basis.T + ridge * np.eye(m - 1)
    inverse = np.sum(basis * np.linalg.solve(ridged, basis), axis=0)
    return -np.log(np.maximum(inverse, tiny))


def studentised(values: np.ndarray) -> np.ndarray:
    """Each value less the mean of the others, in their standard deviations."""
    m = len(values)
    centred = values - values.mean()
    total, squares = centred.sum(), (centred**2).sum()
    mean = (total - centred) / (m - 1)
    variance = np.maximum((squares - centred**2) / (m - 1) - mean**2, 0.0)
    apart = centred - mean
    floor = 1e-9 * max(1.0, float(np.abs(values).max()))
    found: np.ndarray = apart / np.maximum(np.sqrt(variance), floor)
    return found


def p_value(combined: np.ndarray) -> float:
    """The share of models whose score is at least that of the last one."""
    last = combined[-1]
    return float(np.mean(combined >= last - TIE * max(1.0, abs(last))))


def rounding_test(
    grams: Sequence[Gram], labels: Sequence[str], level: float = LEVEL
) -> RoundingTest:
    """The verdict on the last model.

    Parameters
    ----------
    grams : sequence of Gram
        One for each checkpoint, of the same models: A, its replicates, B.
    labels : sequence of str
        Names of the checkpoints.
    level : float
        The error of the first kind that is allowed.
    """
    m = len(grams[0].raw)
    by_statistic = [scores(found) for found in grams]
    combined = [np.max(list(some.values()), axis=0) for some in by_statistic]
    total = np.max(combined, axis=0)
    p, smallest = p_value(total), 1.0 / m
    at = int(np.argmax([values[-1] for values in combined]))
    by = max(by_statistic[at], key=lambda name: float(by_statistic[at][name][-1]))
    far = [np.sqrt(np.maximum(np.diag(found.raw), 0.0)) / (found.norm or 1.0) for found in grams]
    if smallest > level:
        verdict = UNDECIDED
    else:
        verdict = BEYOND if p <= level else WITHIN
    return RoundingTest(
        verdict=verdict,
        p=p,
        smallest_p=smallest,
        level=level,
        replicates=m - 2,
        stands_out_by=by,
        stands_out_at=labels[at] if len(grams) > 1 else "",
        by_checkpoint=tuple(p_value(values) for values in combined),
        distance=tuple(float(d[-1]) for d in far),
        largest_distance=tuple(float(d[:-1].max()) for d in far),
    )
