"""The paper's claims: what is said of an interval, and of which runs."""

import math

from nanorepro import claims, estimates, paper


def test_verdicts():
    part = claims.Part("", estimates.mean(estimates.pd), (), 1.0, 2.0)
    assert claims.judge(1.1, 1.9, part) == claims.HOLDS
    assert claims.judge(2.1, 3.0, part) == claims.FAILS
    assert claims.judge(0.9, 1.5, part) == claims.OPEN
    assert claims.judge(math.nan, math.nan, part) == claims.OPEN


def test_claims_name_curves_that_exist():
    known = paper.curves(paper.LAPTOP)
    for claim in claims.CLAIMS:
        assert claim.figure in paper.FIGURES
        for part in claim.parts:
            assert part.low <= part.high
            assert {name for name, _ in part.runs} <= known.keys()
