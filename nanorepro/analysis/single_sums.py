"""Which single sum makes two models differ: each alone as it is, all others exact.

A sum that is exact has one result in whatever order its terms join it, so what it adds to the
prediction difference, where the models differ in nothing else, is 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.numerics.single_sums import KINDS, Site, sites, text_of
from nanorepro.numerics.streams import stream_key
from nanorepro.results.content import EqualByContent
from nanorepro.results.metrics import metrics_of
from nanorepro.results.studentized import Interval, contrast, mean_of
from nanorepro.specification import layers

SUFFICES = 0.5  # part of the decades of PD from which a sum is named
LEVEL = 0.95


def words_of(site: Site) -> str:
    """A sum as it is named."""
    layer, kind = site
    return f"layer {layer} {kind}"


def exact(config: Config) -> Config:
    """The same run with all sums exact."""
    found: Config = replace(
        config, accumulator="exact", unit_accumulator="exact", accumulator_at=""
    )
    return found


def alone(config: Config, site: Site) -> Config:
    """The same run with all sums exact but one, which is as it was in each model."""
    texts = [text_of({site: dials(config, m).accumulator_of(*site)}) for m in (0, 1)]
    found: Config = replace(exact(config), accumulator_at=",".join(dict.fromkeys(texts)))
    return found


def inexact_sites(config: Config) -> list[Site]:
    """The sums that can be rounded more than once: of two terms or more, not exact already."""
    net = layers(config, config.features)
    terms = {
        (k, kind): {"forward": layer.fan_in // layer.sets, "backward": layer.fan_out}.get(
            kind, config.batch
        )
        for k, layer in enumerate(net)
        for kind in KINDS
    }
    both = dials(config, 0), dials(config, 1)
    return [
        site
        for site in sites(len(net))
        if terms[site] > 1 and any(d.accumulator_of(*site) != "exact" for d in both)
    ]


def runs_of_sums(config: Config) -> list[Config]:
    """The runs that are wanted besides the configuration's own."""
    return [exact(config), *(alone(config, site) for site in inexact_sites(config))]


@dataclass(frozen=True, eq=False)
class SingleSums(EqualByContent):
    """PD where one sum alone is not exact.

    Attributes
    ----------
    config : Config
        The run with all sums as they are.
    sites : tuple of (layer, kind)
        The sums.
    pd : ndarray (2 + sites, pairs)
        Relative PD of each pair: with all sums as they are, with all exact, with each alone.
    floor : float
        As in `Attribution`.
    """

    config: Config
    sites: tuple[Site, ...]
    pd: np.ndarray
    floor: float

    @property
    def _key(self) -> np.ndarray:
        return stream_key(self.config.seed, "bootstrap")

    @cached_property
    def means(self) -> tuple[Interval, ...]:
        """Mean PD of every row of `pd`."""
        within = metrics_of(self.config)["pd"].within
        return tuple(within(mean_of(row, self._key)) for row in self.pd)

    @cached_property
    def shares(self) -> dict[Site, Interval]:
        """Of every sum: how far it alone brings log PD from all exact (0) to all as they are (1).

        log(1 + PD/floor), as in `Attribution`.
        """
        known = np.isfinite(self.pd).all(axis=0)
        rows = (self.pd[:, known] + self.floor) / self.floor
        whole = np.zeros(len(rows))
        whole[:2] = 1.0, -1.0
        found = {}
        for at, site in enumerate(self.sites):
            weights = np.zeros(len(rows))
            weights[[2 + at, 1]] = 1.0, -1.0
            used = [0, 1, 2 + at]
            found[site] = contrast(rows[used], weights[used], self._key, whole=whole[used])
        return found

    @cached_property
    def sufficient(self) -> tuple[Site, ...]:
        """The sums that alone bring log PD half the way or more, the largest first."""
        shares = {site: share.value for site, share in self.shares.items()}
        found = [site for site in self.sites if shares[site] >= SUFFICES]
        return tuple(sorted(found, key=lambda site: -shares[site]))

    @cached_property
    def rivals(self) -> tuple[Site, ...]:
        """The other sums whose PD is not told to be less than that of the first that suffices.

        Neither in the mean, or in the mean alone, which a single pair may make.
        """
        if not self.sufficient:
            return ()
        known = np.isfinite(self.pd).all(axis=0)
        rows = dict(zip(self.sites, self.pd[2:, known], strict=True))
        first, weights = rows.pop(self.sufficient[0]), np.array([1.0, -1.0])
        return tuple(
            site
            for site, row in rows.items()
            if not contrast(np.stack([first, row]) + self.floor, weights, self._key).low > 0.0
            or not _more_in_pairs(first, row)
        )

    @property
    def responsible(self) -> Site | None:
        """The one sum that suffices, if there is one only, and all others do less."""
        one = len(self.sufficient) == 1 and not self.rivals
        return self.sufficient[0] if one else None

    def findings(self) -> list[str]:
        """What there is to say, a sentence each."""
        as_is, none, *_ = self.means
        if not as_is.value > 0.0:
            return ["sums: PD is exactly 0 as they are"]
        if log_pd(none.value, self.floor) >= SUFFICES * log_pd(as_is.value, self.floor):
            return [
                f"sums: with all of them exact PD is {none.value:.3g}, of {as_is.value:.3g}: what"
                " makes it is no rounding of a sum"
            ]
        start = f"sums: with all exact PD is {none.value:.3g}"
        named = [f"{words_of(s)} {self.means[2 + self.sites.index(s)].value:.3g}"
                 for s in self.sufficient]  # fmt: skip
        if self.responsible:
            return [f"{start}; one alone is responsible, {named[0]} of {as_is.value:.3g}"]
        if not named:
            return [f"{start}; none alone brings it half the way to {as_is.value:.3g}"]
        if len(named) == 1:
            others = ", ".join(map(words_of, self.rivals))
            return [f"{start}; first is {named[0]} of {as_is.value:.3g}, not told apart: {others}"]
        return [f"{start}; each of {len(named)} alone suffices: {', '.join(named)}"]

    def as_record(self) -> dict[str, Any]:
        """All of it as plain values, as JSON has them; NaN stays."""
        return {
            "as_they_are": self.means[0],
            "all_exact": self.means[1],
            "responsible": words_of(self.responsible) if self.responsible else None,
            "sufficient": [words_of(site) for site in self.sufficient],
            "sums": [
                {
                    "layer": site[0],
                    "sum": site[1],
                    "relative_pd": self.means[2 + at],
                    "log_share": self.shares[site],
                    "run": alone(self.config, site).id,
                    "pd": self.pd[2 + at].tolist(),
                }
                for at, site in enumerate(self.sites)
            ],
        }


def log_pd(pd: float, floor: float) -> float:
    """Decades of PD above the floor: log10(1 + PD/floor)."""
    return math.log10(1.0 + pd / floor)


def _more_in_pairs(first: np.ndarray, other: np.ndarray) -> bool:
    """Whether most pairs have twice as much in the first, or more of them than by chance.

    The latter is a sign test, at 5 %, of the pairs whose two differ by a factor of 2 or more.
    """
    up = int(((first >= 2.0 * other) & (first > 0.0)).sum())
    down = int(((other >= 2.0 * first) & (other > 0.0)).sum())
    if 2 * up > len(first):
        return True
    chance = sum(math.comb(up + down, k) for k in range(up, up + down + 1)) / 2.0 ** (up + down)
    return chance <= 1.0 - LEVEL


def single_sums(config: Config, pd: Mapping[str, np.ndarray], floor: float) -> SingleSums:
    """The single sums of a configuration, from the PD (pairs,) of its runs by their ids."""
    runs = [config, *runs_of_sums(config)]
    rows = np.array([pd[run.id] for run in runs], np.float64)
    return SingleSums(config, tuple(inexact_sites(config)), rows, floor)
