"""The rank test against replicates: its size whatever the distribution, and what it finds."""

import numpy as np
import pytest
from support.slow import slow_after

from nanorepro.analysis.rounding_test import (
    BEYOND,
    UNDECIDED,
    WITHIN,
    gram,
    outlying,
    rounding_test,
    standing_out,
    studentised,
)
from nanorepro.data.tensors.arrays import tensors_of


def verdict(contestants, level=0.05, checkpoints=1):
    """The test of the rows of an array (checkpoints·m, numbers), the last of each m is B."""
    grams = []
    for rows in np.split(np.asarray(contestants), checkpoints):
        tensors = [tensors_of({"w": row}, "x").tensors["w"] for row in rows]
        grams.append(gram([tensors]))
    return rounding_test(grams, [f"step {k}" for k in range(checkpoints)], level)


DRAWS = {
    "normal": lambda rng, m: rng.normal(size=(m, 30)),
    "heavy tails": lambda rng, m: rng.standard_t(1, size=(m, 30)),
    "correlated": lambda rng, m: rng.normal(size=(m, 3)) @ rng.normal(size=(3, 30)) ** 3,
    "jumps": lambda rng, m: rng.normal(size=(m, 30)) + 100.0 * (rng.random((m, 1)) < 0.1),
    "few values": lambda rng, m: rng.integers(0, 2, size=(m, 3)).astype(float),
    "one number": lambda rng, m: rng.normal(size=(m, 1)),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("replicates", slow_after(1, [18, 40]))
def test_the_size_is_at_most_the_level(name, replicates):
    """Of 400 trials in which rounding is all, 5 % are 20; 36 and more have a chance of 4e-4."""
    rng, m = np.random.default_rng(replicates), replicates + 2
    p = np.array([verdict(DRAWS[name](rng, m)).p for _ in range(400)])
    assert np.count_nonzero(p <= 0.05) < 36
    if name in ("normal", "heavy tails", "correlated", "one number"):  # without ties it is exact
        assert np.count_nonzero(p <= np.floor(0.2 * m) / m) > 80 * 0.6
        assert abs(p.mean() - (m + 1) / (2 * m)) < 5 * 0.29 / 20


def test_over_a_series_the_size_is_the_same():
    rng = np.random.default_rng(3)
    p = [verdict(np.cumsum(rng.normal(size=(3, 20, 10)), 0).reshape(60, 10), checkpoints=3).p
         for _ in range(400)]  # fmt: skip
    assert sum(one <= 0.05 for one in p) < 36


FAULTS = {
    "all move a little": lambda x, rng: x + 1.5,
    "one moves": lambda x, rng: x + 30.0 * (np.arange(x.size) == 3),
    "a quiet one moves": lambda x, rng: x + 1e-3 * (np.arange(x.size) == x.size - 1),
    "not a number": lambda x, rng: np.where(np.arange(x.size) == 3, np.nan, x),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found(name):
    rng = np.random.default_rng(5)
    scale = np.append(np.ones(99), 1e-5)
    found = 0
    for _ in range(20):
        x = rng.normal(size=(20, 100)) * scale
        x[-1] = FAULTS[name](x[-1], rng)
        result = verdict(x)
        found += result.verdict == BEYOND
        assert result.p >= 1 / 20
    assert found >= 19


def test_a_direction_in_which_replicates_do_not_differ():
    """The jumps of the replicates are far larger than the fault, which is across them."""
    rng = np.random.default_rng(6)
    jumps = rng.normal(size=(5, 200))
    x = 100.0 * rng.normal(size=(30, 5)) @ jumps + rng.normal(size=(30, 200))
    x[-1] += 3.0 * rng.normal(size=200)
    result = verdict(x)
    assert result.verdict == BEYOND and "ridge" in result.stands_out_by


def test_the_verdicts():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(22, 50))
    assert verdict(x).verdict == WITHIN
    assert verdict(x[:6]).verdict == UNDECIDED
    assert "needs at least 18" in str(verdict(x[:6]))
    assert verdict(x[:19]).verdict == UNDECIDED and verdict(x[:20]).verdict != UNDECIDED
    x[-1] += 100.0
    found = verdict(x)
    assert (found.verdict, found.replicates, found.p) == (BEYOND, 20, 1 / 22)
    assert found.distance[0] > 10 * found.largest_distance[0]
    assert verdict(x, level=0.01).verdict == UNDECIDED


def test_the_order_of_the_replicates_does_not_matter():
    rng = np.random.default_rng(1)
    x = rng.standard_t(2, size=(25, 40))
    p = [verdict(np.vstack([x[rng.permutation(24)], x[24:]])).p for _ in range(5)]
    assert len(set(p)) == 1


def test_equal_contestants_are_ties():
    x = np.tile(np.random.default_rng(0).normal(size=30), (20, 1))
    assert verdict(x).p == 1.0
    x[-1, 0] += 1e-12
    assert verdict(x).p == 1 / 20
    y = np.random.default_rng(0).normal(size=(20, 30))
    y[-1] = y[0]
    assert verdict(y).p >= 2 / 20


def test_a_checkpoint_at_which_it_shows_is_enough():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 22, 50)) * np.array([1e-3, 1.0, 100.0])[:, None, None]
    x[0, -1] += 0.05
    found = verdict(x.reshape(66, 50), checkpoints=3)
    assert found.verdict == BEYOND and found.stands_out_at == "step 0"
    assert len(found.by_checkpoint) == 3 and found.by_checkpoint[0] == 1 / 22


def test_the_distance_to_the_span_by_its_definition():
    """For a small ridge, the score is that of the distance to the affine space of the others."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 20))
    centred = x - x.mean(axis=0)
    got = outlying(centred @ centred.T, 1e-9)
    for k in range(6):
        others = np.delete(x, k, axis=0)
        basis = (others[1:] - others[0]).T
        gap = x[k] - others[0]
        gap = gap - basis @ np.linalg.lstsq(basis, gap, rcond=None)[0]
        scale = np.trace(centred @ centred.T) / 5
        assert got[k] == pytest.approx(np.log(gap @ gap / scale), abs=1e-6)


def test_a_single_number_by_its_definition():
    x = np.random.default_rng(7).normal(size=(6, 4))
    got = standing_out(x - x.mean(axis=0), np.full(4, 0.5))
    for k in range(6):
        others = np.delete(x, k, axis=0)
        expected = (x[k] - others.mean(axis=0)) ** 2 / (others.var(axis=0) + 0.25)
        assert got[k] == pytest.approx(expected)


def test_numbers_in_which_one_differs_make_no_ties():
    """As of rare features: each contestant is the only one that differs somewhere, by a few ulp."""
    rng, p = np.random.default_rng(8), []
    for _ in range(300):
        x = np.tile(rng.normal(size=40).astype("f4"), (20, 1))
        for row, k in zip(x, rng.permutation(40), strict=False):
            row[k] += np.spacing(row[k]) * rng.integers(1, 9)
        p.append(verdict(x).p)
    assert 4 <= sum(one <= 0.05 for one in p) < 30  # 15 of 300 are 5 %


def test_studentised_by_the_others():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    for k, got in enumerate(studentised(values)):
        others = np.delete(values, k)
        assert got == pytest.approx((values[k] - others.mean()) / others.std())
