"""How often intervals hold the truth, on populations like those of measured pairs.

`python -m tests.claims.coverage` prints the table; the small version is a test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nanorepro.analysis.shapley import shapley_weights
from nanorepro.numerics.streams import stream_key
from nanorepro.results.studentized import contrast

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Population:
    """Pairs of numbers of two runs, and the exact ratio of their means.

    The second follows the first by `shared`, the correlation of the logarithms' normal parts.
    """

    name: str
    spread: float  # of the logarithm of the first run's numbers
    other: float  # of the second's
    shared: float = 0.0
    share: float = 0.0  # of the first run's pairs that are `times` as large: stuck, or far apart
    times: float = 1.0

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Numbers (2, n)."""
        a, b = rng.standard_normal((2, n))
        b = self.shared * a + np.sqrt(1.0 - self.shared**2) * b
        some = np.where(rng.random(n) < self.share, self.times, 1.0)
        return np.stack([np.exp(self.spread * a) * some, np.exp(self.other * b)])

    @property
    def truth(self) -> float:
        """The logarithm of the ratio of the means."""
        mixed = 1.0 + self.share * (self.times - 1.0)
        return float((self.spread**2 - self.other**2) / 2 + np.log(mixed))


# spreads of the logarithms of PD as measured: 0.2 to 1 of most runs, 1.4 to 2.1 of single ReLU with
# distinct initial values and of towers, mixtures for stuck models and for double ReLU at z = 1
POPULATIONS = (
    Population("log-normal 0.5 over 0.5", 0.5, 0.5),
    Population("log-normal 0.8 over 0.8, correlated", 0.8, 0.8, shared=0.7),
    Population("log-normal 1 over 0.5", 1.0, 0.5),
    Population("log-normal 1.5 over 0.5", 1.5, 0.5),
    Population("log-normal 2 over 0.8", 2.0, 0.8),
    Population("a fifth stuck, 0.6 over 0.6", 0.6, 0.6, share=0.2, times=0.01),
    Population("a quarter stuck, 1.4 over 0.6", 1.4, 0.6, share=0.25, times=0.01),
    Population("a quarter 100 times as large", 1.0, 0.5, share=0.25, times=100.0),
    Population("one in 16 10,000 times as large", 1.0, 0.5, share=1 / 16, times=1e4),
)


def percentile(x: np.ndarray, k: int) -> tuple[float, float]:
    """The interval that is not used: of percentiles of resampled ratios."""
    return _scipy(x, k, "percentile")


def bca(x: np.ndarray, k: int) -> tuple[float, float]:
    """Bias-corrected and accelerated, as SciPy has it."""
    return _scipy(x, k, "BCa")


def _scipy(x: np.ndarray, k: int, method: str) -> tuple[float, float]:
    def log_ratio(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
        return np.log(a.mean(axis=axis) / b.mean(axis=axis))

    found = stats.bootstrap(
        tuple(x), log_ratio, paired=True, vectorized=True, method=method, n_resamples=999,
        rng=np.random.default_rng(k),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def studentized(x: np.ndarray, k: int) -> tuple[float, float]:
    """The interval that is used."""
    weights = np.array([1.0, -1.0])
    _, low, high = contrast(x, weights, stream_key(k, "bootstrap"), count=999)
    return low, high


def misses(
    of: Callable[[np.ndarray, int], tuple[float, float]],
    population: Population,
    n: int,
    trials: int,
) -> tuple[int, int]:
    """In how many trials the truth lies below and above the interval of n pairs."""
    below = above = 0
    for k in range(trials):
        low, high = of(population.draw(np.random.default_rng([n, k]), n), k)
        below += population.truth < low
        above += population.truth > high
    return below, above


MEDIANS = np.array([0.0, 1e-3, 1e-5, 1.2e-3])  # PD without sources, with one of two, with both
ROUNDOFF = 2.0**-24


def share_misses(spread: float, log: bool, n: int, trials: int) -> tuple[int, int]:
    """`misses` of the weaker of two sources' Shapley share of log PD, or of PD, of n pairs.

    PD is log-normal, its logarithm has the deviation `spread`, independently in each run.
    """
    weights, whole = shapley_weights(2)[1], np.array([-1.0, 0.0, 0.0, 1.0])

    def scaled(pd: np.ndarray) -> np.ndarray:
        return (pd + ROUNDOFF) / ROUNDOFF if log else pd

    means = scaled(MEDIANS * np.exp(spread**2 / 2.0))
    values = np.log(means) if log else means
    truth, below, above = (weights @ values) / (whole @ values), 0, 0
    for k in range(trials):
        normal = np.random.default_rng([n, k]).standard_normal((len(MEDIANS), n))
        rows = scaled(MEDIANS[:, None] * np.exp(spread * normal))
        key = stream_key(k, "bootstrap")
        _, low, high = contrast(rows, weights, key, log, count=999, whole=whole)
        below += truth < low
        above += truth > high
    return below, above
