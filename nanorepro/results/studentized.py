"""Intervals over pairs that keep their coverage: means, ratios of means, slopes.

Prediction differences of pairs are heavy-tailed: a few pairs make the mean, and a percentile
interval of 16 pairs then holds the mean of all pairs in 70 to 90 % of cases, not in 95 %.  The
intervals here are studentized, on a logarithmic scale where the values are positive;
`python -m tests.claims.coverage` measures how often each kind of interval holds the truth.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nanorepro.numerics.streams import words
from nanorepro.results.bootstrap import KEPT, RESAMPLES, resamples

ROUNDING = 1e-12  # what is less of the estimates, with means of about 1, is rounding
MIXED = 1.5  # deviations below over those above from which a row is of two kinds of pairs
FEWEST = 3  # positive values of each kind from which a spread of logarithms is told


class Interval(NamedTuple):
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


def mean_of(
    values: Sequence[float] | np.ndarray, key: np.ndarray, count: int = RESAMPLES
) -> Interval:
    """Mean over the pairs that have a value, with its 95 % interval.

    On the logarithmic scale unless a value is negative.  NaN of fewer than two pairs, unless PD is
    exactly 0; without width where all are equal; infinite at an end of which so few pairs tell
    nothing.
    """
    row = np.asarray(values, np.float64)
    row = row[np.isfinite(row)]
    if len(row) and (row == row[0]).all() and (len(row) > 1 or row[0] == 0.0):
        return Interval(float(row[0]), float(row[0]), float(row[0]))
    if (row < 0.0).any():
        return contrast(row[None], np.ones(1), key, log=False, count=count)
    ends = contrast(row[None], np.ones(1), key, count=count)
    return Interval(*(math.exp(end) if end < 700.0 else end for end in ends))


def contrast(
    rows: np.ndarray,
    weights: np.ndarray,
    key: np.ndarray,
    log: bool = True,
    level: float = 0.95,
    count: int = RESAMPLES,
    whole: np.ndarray | None = None,
) -> Interval:
    """Σ_i w_i·g(mean of row i) over pairs, g = log or identity, with its interval.

    With g = log the difference of two is the logarithm of a ratio of means, and weights on several
    make a slope.  The interval is a studentized bootstrap's (Efron and Tibshirani, 1993, 12.5): the
    distribution of (estimate - truth)/(standard error) is taken from resamples, and no end lies
    farther off than a resample's estimate.  A few pairs show too little of a long tail, so with
    g = log that distribution is taken from log-normal pairs as well, fitted to the pairs
    (`_lognormal`); the interval is the wider one at each end.

    Parameters
    ----------
    rows : ndarray (quantity, pair)
        Values of every pair; a pair with a NaN is left out.  With log not negative.
    weights : ndarray (quantity,)
        The w_i.
    key : ndarray (2,)
        Of the stream of the resamples.
    log : bool, optional
        Whether g is the logarithm.
    level : float, optional
        Of the interval.
    count : int, optional
        Resamples.
    whole : ndarray (quantity,), optional
        Weights of a second sum, of which the share is wanted that the first one is.

    Returns
    -------
    Interval
        NaN where a mean is not positive, or infinite where too few pairs tell nothing.
    """
    rows = rows[:, np.isfinite(rows).all(axis=0)]
    n = rows.shape[1]
    if n < 2 or (log and not (rows.mean(axis=1) > 0.0).all()):
        return Interval(math.nan, math.nan, math.nan)
    if not log:
        # by a power of two, which rounds nothing
        unit = math.ldexp(1.0, math.frexp(float(np.abs(rows).max()))[1] - 1)
        found = _contrast(rows / unit, weights, key, log, level, count, whole)
        return found if whole is not None else Interval(*(unit * x for x in found))
    return _contrast(rows, weights, key, log, level, count, whole)


def _contrast(
    rows: np.ndarray,
    weights: np.ndarray,
    key: np.ndarray,
    log: bool,
    level: float,
    count: int,
    whole: np.ndarray | None,
) -> Interval:
    """`contrast` of rows without a NaN, with log of any scale, else of values of about 1."""
    n = rows.shape[1]
    # ratios do not depend on the scale, and the squares of small values do not underflow
    scale = rows.mean(axis=1, keepdims=True) if log else np.ones((len(rows), 1))
    value = float(weights @ np.log(scale[:, 0])) if log and whole is None else 0.0
    share = None if whole is None else Share(whole, np.log(scale))
    rows = rows / scale
    estimate, error = (float(x[0]) for x in _studentize(rows[:, None, :], weights, log, share))
    value += estimate
    if not math.isfinite(value):  # a share of nothing
        return Interval(math.nan, math.nan, math.nan)
    if error == 0.0:
        return Interval(value, value, value)
    found = [
        (e - estimate, s)
        for picked in resamples(key, n, count)
        for e, s in [_studentize(rows[:, picked], weights, log, share)]
    ]
    low, high = _limits(found, value, error, level)
    # where one pair makes the mean, resamples without it have next to no standard error: no end
    # lies farther off than any resample's estimate
    deviations = np.concatenate([d for d, _ in found])
    # of a resample without a positive value nothing is known
    deviations = np.where(np.isfinite(deviations), deviations, math.nan)
    low = max(low, value + float(np.where(np.isnan(deviations), -math.inf, deviations).min()))
    high = min(high, value + float(np.where(np.isnan(deviations), math.inf, deviations).max()))
    if log and ((rows > 0.0).sum(axis=1) >= FEWEST).all():
        lognormal = list(_lognormal(rows, weights, key, count, share))
        low2, high2 = _limits(lognormal, value, error, level)
        low, high = min(low, low2), max(high, high2)
    return Interval(value, low, high)


class Share(NamedTuple):
    """Of what a contrast is a share: weights (quantity,), and the logarithms (quantity, 1) of the
    scales that its rows were divided by.
    """

    weights: np.ndarray
    scale: np.ndarray


def _studentize(
    samples: np.ndarray, weights: np.ndarray, log: bool, share: Share | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors (resample,) of samples (quantity, resample, pair)."""
    n = samples.shape[-1]
    means = samples.mean(axis=-1)
    with np.errstate(all="ignore"):
        values = np.log(means) if log else means
        estimates, weighted = weights @ values, weights[:, None]
        if share is not None:
            total = share.weights @ (values + share.scale)
            estimates = (weights @ (values + share.scale)) / total
            weighted = (weighted - estimates * share.weights[:, None]) / total
        slopes = weighted / means if log else np.broadcast_to(weighted, means.shape)
        influence = np.einsum("qr,qrp->rp", slopes, samples - means[..., None])
        errors = np.sqrt((influence**2).sum(axis=-1) / (n * (n - 1)))
    errors[errors < ROUNDING] = 0.0
    return estimates, errors


def _limits(
    found: list[tuple[np.ndarray, np.ndarray]], value: float, error: float, level: float
) -> tuple[float, float]:
    """The ends of a studentized interval, from deviations of estimates and standard errors."""
    with np.errstate(all="ignore"):
        t = np.concatenate([np.where(np.abs(d) < ROUNDING, 0.0, d / s) for d, s in found])
    tail = (1.0 - level) / 2.0
    # of a resample without a positive value nothing is known: it counts at both ends
    least, most = np.where(np.isnan(t), -math.inf, t), np.where(np.isnan(t), math.inf, t)
    at = round((1.0 - tail) * (len(t) - 1))
    return value - error * float(np.sort(most)[at]), value - error * float(-np.sort(-least)[at])


def _lognormal(
    rows: np.ndarray, weights: np.ndarray, key: np.ndarray, count: int, share: Share | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Deviations and standard errors of log-normal pairs.

    Each row's logarithms have its median, and the root mean square deviation from it; where those
    below are much larger than those above, each side has its own, for models that are stuck at a
    small PD make no long tail of large ones.  They are as correlated as the row's, and 0 where the
    resampled pairs are.
    """
    there = rows > 0.0
    with np.errstate(all="ignore"):
        logs = np.where(there, np.log(rows), math.nan)
    d = logs - np.nanmedian(logs, axis=1, keepdims=True)
    d = np.where(there, d, 0.0)
    from scipy import special  # a third of a second, which most commands do without

    above, below = (np.sqrt(_mean_square(d, side & there)) for side in (d > 0.0, d < 0.0))
    common = np.sqrt(_mean_square(d, there))
    mixed = below > MIXED * above
    above, below = np.where(mixed, above, common), np.where(mixed, below, common)
    scores = np.where(d > 0.0, d / np.maximum(above, ROUNDING), d / np.maximum(below, ROUNDING))
    square = np.sqrt((scores**2).sum(axis=1))
    correlation = scores @ scores.T / np.maximum(np.outer(square, square), ROUNDING)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    mix = vectors * np.sqrt(np.maximum(values, 0.0))
    means = sum(
        np.exp(s[:, 0] ** 2 / 2.0) * special.ndtr(sign * s[:, 0])
        for s, sign in ((above, 1.0), (below, -1.0))
    )
    logs = np.log(there.mean(axis=1) * means)
    if share is None:
        truth = float(weights @ logs)
    else:
        logs = logs + share.scale[:, 0]
        truth = float((weights @ logs) / (share.weights @ logs))
    done, n = 0, rows.shape[1]
    for picked in resamples(key, n, count):
        z = _normals(key.tobytes(), done, (len(rows), *picked.shape))
        z = np.einsum("ij,jrp->irp", mix, z)
        z *= np.where(z > 0.0, above[:, :, None], below[:, :, None])
        estimates, errors = _studentize(np.exp(z) * there[:, picked], weights, True, share)
        yield estimates - truth, errors
        done += z.size


def _mean_square(d: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Variance about 0 of some values of each row (row, 1), 0 of none."""
    found: np.ndarray = np.where(some, d**2, 0.0).sum(axis=1, keepdims=True) / np.maximum(
        some.sum(axis=1, keepdims=True) - 1, 1
    )
    return found


@lru_cache(maxsize=KEPT)
def _normals(key: bytes, first: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers from the Philox words of block 1; resamples have block 0's."""
    from scipy import special

    counters = np.arange(first, first + math.prod(shape))
    high, low = words(np.frombuffer(key, np.uint64), counters, block=1)[:2]
    uniform = (high.astype(np.float64) * 2.0**32 + low.astype(np.float64) + 0.5) * 2.0**-64
    found: np.ndarray = special.ndtri(np.minimum(uniform, 1.0 - 2.0**-53)).reshape(shape)
    found.setflags(write=False)
    return found
