"""The paper's claims: what is said of an interval, and of which runs."""

import math

import numpy as np
import pytest

from nanorepro.paper import claims, curves, estimates, evidence
from nanorepro.paper.figures import FIGURES
from nanorepro.paper.observed import Observed
from nanorepro.paper.quantities import PD

CLAIMS = [claim for figure in FIGURES.values() for claim in figure.claims]


def test_verdicts():
    part = claims.Criterion("", estimates.positive_mean(PD), (), 1.0, 2.0)
    assert claims.judge(1.1, 1.9, part) == claims.HOLDS
    assert claims.judge(2.1, 3.0, part) == claims.FAILS
    assert claims.judge(0.9, 1.5, part) == claims.OPEN
    assert claims.judge(math.nan, math.nan, part) == claims.OPEN


@pytest.mark.parametrize("number", FIGURES)
def test_each_size_of_a_figure_has_a_table_of_its_own(number):
    sizes = {c.more for c in FIGURES[number].claims if c.more}
    sizes |= {of[number] for of in curves.SCALES.values()}
    names = [evidence.table_name(f"figure{number}", size) for size in sizes]
    assert len(set(names)) == len(names)


def test_questions_of_our_own_are_counted_by_themselves():
    of = [
        {"verdict": claims.HOLDS},
        {"verdict": claims.FAILS, "ours": True},
        {"verdict": claims.HOLDS},
    ]
    assert claims.counted(of) == "2 hold; of questions of our own 1 does not hold"
    assert claims.counted(of[::2]) == "2 hold" and claims.counted([]) == "none"
    ours = [c.words for c in CLAIMS if c.ours]
    assert ours and all("the paper does not speak" in words for words in ours)


def test_resamples_do_not_decide():
    """Where an end of a bootstrap interval is at a border, its other resamples are asked."""
    rng = np.random.default_rng(3)
    size = curves.Size(claims.LEAST_LOG2_T, 0, 16, (0,))
    values = {PD.name: np.exp(rng.normal(size=16))}
    runs = {("linear", 0): Observed("linear", 0, size.log2_examples, 16, "", 0, values)}
    statistic = estimates.positive_mean(PD)
    ends = [statistic(list(runs.values()), r)[1:3] for r in range(claims.RESAMPLINGS)]
    lows, highs = (sorted(set(e)) for e in zip(*ends, strict=True))
    assert len(lows) > 1 and len(highs) > 1  # each has resamples of its own

    def told(low, high):
        part = claims.Criterion("", statistic, (("linear", curves.FIRST),), low, high)
        (measured,) = claims.measure(claims.Claim("", 0, (part,)), size, runs)
        return measured.verdict, "crosses" in measured.said

    low, high = ends[0]
    assert lows[0] < low and high < highs[-1]
    assert told(lows[0], highs[-1]) == (claims.HOLDS, False)
    assert told(highs[-1], math.inf)[0] == claims.OPEN
    # the first resamples alone would tell these
    for border in ((low, math.inf), (0.0, high), (low, high)):
        assert told(*border) == (claims.OPEN, True)
    assert told(np.nextafter(high, math.inf), math.inf) == (claims.OPEN, True)


def of_losses(curve, window, losses, size):
    return Observed(curve, window, size.log2_examples, size.pairs, "", 0,
                    {"log_loss": np.log(losses)})  # fmt: skip


@pytest.mark.parametrize(
    "losses, verdict, where",
    [
        ([[1.04, 1.03, 1.03], [0.97, 0.98, 0.97], [1.0, 1.01, 1.0]], claims.HOLDS, "2^4"),
        # neither at the middle z nor at the largest
        ([[1.0] * 3, [1.0] * 3, [1.1, 1.1001, 1.1], [1.0] * 3], claims.FAILS, "2^12"),
        ([[1.0] * 3, [0.9, 0.9001, 0.9], [0.5, 1.0, 1.5], [1.0] * 3], claims.FAILS, "2^8"),
        ([[1.0] * 3, [1.0] * 3, [0.9, 1.1, 1.0], [1.0] * 3], claims.OPEN, "2^12"),
        ([[1.0] * 3, [1.0] * 3, [1.0] * 3, [math.nan] * 3], claims.OPEN, "2^16"),
    ],
)
def test_loss_is_judged_at_every_window(losses, verdict, where):
    windows = tuple(range(0, 4 * len(losses) + 1, 4))
    size = curves.Size(claims.LEAST_LOG2_T, 0, 3, windows)
    runs = {
        ("linear", w): of_losses("linear", w, values, size)
        for w, values in zip(windows, [[1.0] * 3, *losses], strict=True)
    }
    claim = claims.Claim("", 0, claims.equal_losses(["linear"]))
    (measured,) = claims.measure(claim, size, runs)
    assert (measured.verdict, len(measured.ids)) == (verdict, len(windows))
    assert measured.what.endswith(f"at the z told worst ({where})")


def test_loss_that_holds_differs_by_a_tenth_at_most():
    (part,) = claims.equal_losses(["linear"])
    assert part.high / part.low == pytest.approx(1.1)


def test_more_pairs_decide_what_the_figures_own_leave_open():
    own = curves.Size(22, 16, 4, (0, 8))
    more = curves.Size(18, 16, 64, (0, 4))
    claim = claims.Claim("", 20, claims.equal_losses(["linear", "ReLU 1"]), more)
    noise = np.exp(np.linspace(-0.1, 0.1, 64))

    def runs(size, linear, relu):
        return {
            (name, w): of_losses(name, w, losses if w else np.ones(size.pairs), size)
            for name, losses in (("linear", linear), ("ReLU 1", relu))
            for w in size.windows
        }

    wide = np.array([0.8, 1.2, 0.9, 1.1])
    verdict, parts = claims.decide(claim, own, runs(own, np.ones(4), wide), {})
    assert (verdict, [p.verdict for p in parts]) == (claims.OPEN, [claims.HOLDS, claims.OPEN])
    # the part that is open is decided, in either direction; the other is not asked again
    for second, told in ((noise, claims.HOLDS), (1.2 * noise, claims.FAILS)):
        found = runs(more, 1.5 * noise, second)
        verdict, parts = claims.decide(claim, own, runs(own, np.ones(4), wide), found)
        assert verdict == told
        assert [p.verdict for p in parts] == [claims.HOLDS, claims.OPEN, told]
        assert [p.size for p in parts] == ["", "", "T = 2^18, 64 pairs"]
    # what the figure's own runs tell stands
    other = np.array([2.0, 2.01, 2.02, 2.0])
    verdict, parts = claims.decide(
        claim, own, runs(own, np.ones(4), other), runs(more, noise, noise)
    )
    assert (verdict, len(parts)) == (claims.FAILS, 2)
    # runs that are too short for a claim leave it to those with more pairs
    short = curves.Size(18, 16, 4, (0, 8))
    verdict, _ = claims.decide(
        claim, short, runs(short, np.ones(4), other), runs(more, noise, noise)
    )
    assert verdict == claims.HOLDS


def test_what_is_measured_names_its_z():
    few = curves.Size(20, 0, 2, (0, 8, 15))  # of which 0 is the longest up to half the last
    many = curves.Size(20, 0, 2, (2, 4, 8, 15, 16))
    assert claims.at_size("linear, middle z: PD", few) == "linear, z = 1: PD"
    assert claims.at_size("linear, middle z: PD", many) == "linear, z = 2^8: PD"
    both = "PD at the largest z over z = 1"
    assert claims.at_size(both, few) == "PD at z = 2^15 over z = 1"
    assert claims.at_size(both, many) == "PD at z = 2^16 over z = 2^2"
    for claim in CLAIMS:
        for part in claims.measure(claim, many, {}):
            assert "middle" not in part.what and "largest z" not in part.what


def test_claims_name_curves_that_exist():
    known = curves.curves(curves.LAPTOP)
    for claim in CLAIMS:
        for part in claim.criteria:
            assert part.low <= part.high
            assert {name for name, _ in part.runs} <= known.keys()
        if claim.more is not None:
            assert claim.more.pairs >= 8 * curves.PAPER.pairs
