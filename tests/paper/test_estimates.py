"""Statistics of made-up runs, by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.results import result_of, with_series

from nanorepro.paper import estimates, observed, quantities
from nanorepro.paper.observed import Observed
from nanorepro.paper.quantities import LOSS, PD


def run_of(pds, losses=None, **values):
    """A run of made-up numbers."""
    found = {"pd": pds, "loss": losses if losses is not None else np.ones(len(pds)), **values}
    arrays = {name: np.array(x, float) for name, x in found.items()}
    return Observed("linear", 0, 5, len(pds), "", 0, arrays)


def test_statistics_by_hand():
    a, b = run_of([1.0, 3.0, 2.0, 2.0]), run_of([1.0, 1.0, 1.0, 1.0])
    value, low, high, *_ = estimates.ratio(PD)([a, b])
    assert value == pytest.approx(2.0) and 0.5 < low < 2.0 < high < 8.0
    least = estimates.least_ratio(PD)([a, b, a])
    assert least.value == pytest.approx(0.5)
    # one of two: wider than a ratio that stands alone
    assert (
        least.high - least.low > estimates.ratio(PD)([b, a]).high - estimates.ratio(PD)([b, a]).low
    )
    value, *_ = estimates.positive_mean(PD)([run_of([1.0, math.nan, 3.0])])
    assert value == pytest.approx(2.0)
    stuck = run_of([1.0] * 4, stuck=[1.0, 0.0, 0.0, 0.0])
    seen, low, high, *_ = estimates.share_stuck()([stuck])
    assert seen == 0.25 and low == pytest.approx(0.0456, abs=1e-4)
    assert high == pytest.approx(0.6994, abs=1e-4)
    opposite = run_of([1.0] * 4, first_layer_cosine=[1.0, -1.0, -0.99, 0.98])
    assert estimates.count_opposite()([opposite, opposite]).value == 4.0
    absolute = estimates.mean(quantities.FIRST_LAYER, np.abs)([opposite])
    assert absolute.value == pytest.approx(np.mean([1.0, 1.0, 0.99, 0.98]))


def test_ratios_of_ratios_and_of_functions_by_hand():
    values = ([8.0, 4.0, 6.0], [1.0, 2.0, 3.0], [4.0, 2.0, 6.0], [1.0, 1.0, 1.0])
    found = estimates.change_of_ratio(PD)([run_of(pds) for pds in values])
    assert found.value == pytest.approx((6.0 / 2.0) / (4.0 / 1.0))
    assert found.low < found.value < found.high
    cosines = ([0.9, -0.8, 0.7], [-0.99, 0.98, 0.97])
    a, b = (run_of([1.0] * 3, first_layer_cosine=c) for c in cosines)
    found = estimates.ratio(quantities.FIRST_LAYER, estimates.noise)([a, b])
    assert found.value == pytest.approx(10.0)


def test_pairs_with_a_stuck_model_are_left_out_of_those_that_learned():
    r = result_of([1.0, 2.0, 3.0])
    stuck = [(False, False), (True, False), (False, True)]
    pairs = [p.changed(stuck=s) for p, s in zip(r.pairs, stuck, strict=True)]
    r = with_series(r, [pairs])
    for of in (quantities.PD_LEARNED, quantities.LOSS_LEARNED, quantities.CORRELATION_LEARNED):
        assert np.isfinite(of.measure(r)).tolist() == [True, False, False]
    assert quantities.PD_LEARNED.measure(r)[0] == 1.0


def test_nothing_is_told_of_a_mean_that_is_zero():
    zero, one = run_of([0.0] * 4), run_of([1.0, 2.0, 1.0, 2.0])
    for found in (estimates.ratio(PD)([zero, one]), estimates.positive_mean(PD)([zero])):
        assert math.isnan(found.low) and math.isnan(found.high)


def test_slope_of_a_power_law():
    r = result_of([1.0, 1.0])
    steps = tuple(1 << k for k in range(8))
    series = [[p.changed(pd=float(s) ** -0.5) for p in r.pairs] for s in steps]
    config = replace(r.config, log2_examples=12)  # 2^7 steps
    r = with_series(replace(r, checkpoints=steps, config=config), series)
    run = observed.observe(("linear", 0), r, [PD], series=True)
    assert sorted(run.series) == [8, 16, 32, 64, 128]
    assert estimates.slope_in_examples()([run]).value == pytest.approx(-0.5, abs=1e-8)


def test_the_loss_of_a_pair_does_not_depend_on_how_far_its_models_are_apart():
    """Two models of losses 1 and 4 count as two of 2, not of 2.5."""
    r = result_of([1.0, 1.0])
    r = with_series(r, [[p.changed(loss=(1.0, 4.0), stuck=(False, True)) for p in r.pairs]])
    assert quantities.LOG_LOSS.measure(r) == pytest.approx([math.log(2.0)] * 2)
    assert quantities.LOG_LOSS_LEARNED.measure(r) == pytest.approx([0.0] * 2)
    assert LOSS.measure(r) == pytest.approx([2.5] * 2)
    r = with_series(r, [[p.changed(stuck=(True, True)) for p in r.pairs]])
    assert np.isnan(quantities.LOG_LOSS_LEARNED.measure(r)).all()


def test_numbers_of_pairs_survive_the_table():
    rng = np.random.default_rng(0)
    runs = [
        Observed(curve, window, 20, 3, f"{window}", 0,
                 {"pd": observed.nine_digits(rng.exponential(1e-7, 3)),
                  "log_loss": np.array([math.nan, -1.5, 2.0])},
                 {512: np.array([1.0, 0.0, 3e-9])} if window else {})
        for curve in ("ReLU wide, AdaGrad 0.1", "linear") for window in (0, 10)
    ]  # fmt: skip
    known = [replace(r, values={}, series={}) for r in runs]
    again = observed.from_csv(observed.as_csv(runs, "a note"), "table.csv", known)
    for before, after in zip(runs, again, strict=True):
        assert before.values.keys() == after.values.keys()
        assert before.series.keys() == after.series.keys()
        for name, values in before.values.items():
            assert np.array_equal(values, after.values[name], equal_nan=True)
        for step, values in before.series.items():
            assert np.array_equal(values, after.series[step])
    turned = [
        replace(r, values=dict(reversed(r.values.items())), series=dict(reversed(r.series.items())))
        for r in runs
    ]
    assert observed.as_csv(turned, "a note") == observed.as_csv(runs, "a note")
