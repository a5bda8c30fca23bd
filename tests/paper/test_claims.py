"""The paper's claims: what is said of an interval, and of which runs."""

import math

import pytest
from support.results import result_of

from nanorepro.paper import claims, curves, estimates
from nanorepro.paper.figures import FIGURES

CLAIMS = [claim for figure in FIGURES.values() for claim in figure.claims]


def test_verdicts():
    part = claims.Criterion("", estimates.mean(estimates.pd), (), 1.0, 2.0)
    assert claims.judge(1.1, 1.9, part) == claims.HOLDS
    assert claims.judge(2.1, 3.0, part) == claims.FAILS
    assert claims.judge(0.9, 1.5, part) == claims.OPEN
    assert claims.judge(math.nan, math.nan, part) == claims.OPEN


@pytest.mark.parametrize(
    "losses, verdict, where",
    [
        ([[1.04, 1.04], [0.97, 0.97], [1.0, 1.0]], claims.HOLDS, "2^4"),
        # neither at the middle z nor at the largest
        ([[1.0, 1.0], [1.0, 1.0], [1.06, 1.06], [1.0, 1.0]], claims.FAILS, "2^12"),
        ([[1.0, 1.0], [0.94, 0.94], [0.5, 1.5], [1.0, 1.0]], claims.FAILS, "2^8"),
        ([[1.0, 1.0], [1.0, 1.0], [0.9, 1.1], [1.0, 1.0]], claims.OPEN, "2^12"),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [math.nan, math.nan]], claims.OPEN, "2^16"),
    ],
)
def test_loss_is_judged_at_every_window(losses, verdict, where):
    windows = tuple(range(0, 4 * len(losses) + 1, 4))
    size = curves.Size(claims.SETTLED, 0, 2, windows)
    runs = {
        ("linear", w): result_of([1.0, 1.0], values, w)
        for w, values in zip(windows, [[1.0, 1.0], *losses], strict=True)
    }
    claim = claims.Claim("", 0, claims.equal_losses(["linear"]))
    (measured,) = claims.measure(claim, size, runs)
    assert (measured.verdict, len(measured.ids)) == (verdict, len(windows))
    assert measured.what.endswith(f"at the z farthest off ({where})")


def test_loss_that_holds_differs_by_a_tenth_at_most():
    (part,) = claims.equal_losses(["linear"])
    assert part.high / part.low == pytest.approx(1.1)


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
