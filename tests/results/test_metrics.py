"""Eqs. 2 and 3 and the measures beside them, against straightforward NumPy on every example."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nanorepro import Config, simulate
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics

KEY = stream_key(0, "bootstrap")


def evaluation(seed, n=40, scale=3.0):
    """Log-odds, two models' logits and counts of n patterns, and the same for every example."""
    rng = np.random.default_rng(seed)
    odds, z1, z2 = rng.normal(0.0, scale, (3, n))
    counts = rng.integers(1, 9, n)
    every = [np.repeat(v, counts) for v in (odds, z1, z2)]
    return (odds, z1, z2, counts), every


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


@pytest.mark.parametrize("seed", range(10))
def test_excess_loss_is_equation_2(seed):
    (odds, z, _, counts), (every_odds, every_z, _) = evaluation(seed)
    p, q = sigmoid(every_odds), sigmoid(every_z)
    expected = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert metrics.excess_loss(odds, z, counts) == pytest.approx(expected, rel=1e-12)
    assert metrics.excess_loss(odds, z.astype(np.float32), counts) == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_relative_pd_is_equation_3(seed):
    (odds, z1, z2, counts), (every_odds, every_z1, every_z2) = evaluation(seed)
    expected = np.mean(np.abs(sigmoid(every_z1) - sigmoid(every_z2)) / sigmoid(every_odds))
    assert metrics.relative_pd(odds, z1, z2, counts) == pytest.approx(expected, rel=1e-12)
    assert metrics.relative_pd(odds, z2, z1, counts) == metrics.relative_pd(odds, z1, z2, counts)
    assert metrics.relative_pd(odds, z1, z1, counts) == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_disagreement_and_churn(seed):
    (_, z1, z2, counts), (_, every_z1, every_z2) = evaluation(seed)
    p1, p2 = sigmoid(every_z1), sigmoid(every_z2)
    assert metrics.disagreement(z1, z2, counts) == pytest.approx(np.mean(np.abs(p1 - p2)), 1e-12)
    assert metrics.churn(z1, z2, counts) == np.mean((p1 > 0.5) != (p2 > 0.5))


def test_small_cases_by_hand():
    ones = np.ones(1, np.int64)
    zero, three = np.zeros(1), np.array([math.log(3.0)])  # p = 1/2 and p = 3/4
    assert metrics.relative_pd(zero, zero, three, ones) == pytest.approx(0.25 / 0.5, rel=1e-14)
    assert metrics.relative_pd(three, zero, three, ones) == pytest.approx(1 / 3, rel=1e-14)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert metrics.excess_loss(three, zero, ones) == pytest.approx(divergence, rel=1e-13)
    assert metrics.churn(zero, three, ones) == 1.0
    weighted = metrics.disagreement(np.zeros(2), np.array([0.0, math.log(3)]), np.array([3, 1]))
    assert weighted == pytest.approx(0.25 / 4, rel=1e-14)


@settings(max_examples=200)
@given(odds=st.floats(-60, 60), z=st.floats(-700, 700))
def test_excess_loss_of_extreme_logits(odds, z):
    """The divergence of one example, against 60 digits."""
    with mpmath.workdps(400):
        p, q = (1 / (1 + mpmath.exp(-mpmath.mpf(v))) for v in (odds, z))
        exact = p * mpmath.log(p / q) + (1 - p) * mpmath.log((1 - p) / (1 - q))
        entropy = -p * mpmath.log(p) - (1 - p) * mpmath.log(1 - p)
        scale = float(exact + entropy)
    found = metrics.excess_loss(np.array([odds]), np.array([z]), np.ones(1, np.int64))
    assert math.isfinite(found)
    assert abs(found - float(exact)) <= 4e-16 * (scale + abs(odds) + abs(z)) + 1e-300


@pytest.mark.parametrize("big", [100.0, 1e4, 1e30, 3e38])
def test_immense_logits_give_no_nan_and_no_warning(big):
    odds, ones = np.array([2.0, -2.0]), np.ones(2, np.int64)
    for sign in (1.0, -1.0):
        z = np.array([sign * big, sign * big], np.float32)
        loss = metrics.excess_loss(odds, z, ones)
        assert math.isfinite(loss) and loss > 10
        assert 0 <= metrics.relative_pd(odds, z, -z, ones) <= 1 / sigmoid(-2.0)
        assert metrics.churn(z, -z, ones) == 1.0
        assert metrics.disagreement(z, -z, ones) == pytest.approx(1.0)


@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 30.0))
def test_excess_loss_is_not_negative_and_zero_at_the_truth(seed, scale):
    (odds, z, _, counts), _ = evaluation(seed, scale=scale)
    assert metrics.excess_loss(odds, odds, counts) == 0.0
    assert metrics.excess_loss(odds, z, counts) > 0.0


def test_the_average_is_exactly_rounded_in_any_order():
    rng = np.random.default_rng(0)
    values, counts = rng.normal(size=1000) * 10.0 ** rng.integers(-8, 8, 1000), np.ones(1000)
    order = rng.permutation(1000)
    assert metrics.mean(values, counts) == metrics.mean(values[order], counts)
    assert metrics.mean(np.array([1e100, 1.0, -1e100, 1.0]), np.ones(4)) == 0.5


def test_softplus_and_probability():
    z = np.array([-745.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1e300])
    exact = [float(mpmath.log1p(mpmath.exp(mpmath.mpf(v)))) for v in z[:-1].tolist()] + [1e300]
    np.testing.assert_allclose(metrics.softplus(z), exact, rtol=1e-15, atol=1e-16)
    np.testing.assert_allclose(metrics.probability(z[1:-1]), sigmoid(z[1:-1]), rtol=1e-15)


# Stuck models.


def test_the_constants_loss_is_the_least_of_all_constants():
    (odds, _, _, counts), (every, _, _) = evaluation(5)
    least = metrics.constant_loss(odds, counts)
    rate = sigmoid(every).mean()
    for p in (0.98 * rate, rate, 1.02 * rate):
        z = np.full(len(odds), math.log(p / (1 - p)))
        loss = metrics.excess_loss(odds, z, counts)
        assert loss >= least - 1e-15
        assert p == rate or loss > least + 1e-6
    assert least > 0.1


def test_stuck_models():
    assert not metrics.is_stuck(0.98, 1.0) and metrics.is_stuck(0.995, 1.0)
    assert metrics.is_stuck(0.99, 1.0) and metrics.is_stuck(5.0, 1.0)
    assert metrics.is_stuck(math.nan, 1.0)


def test_a_model_that_cannot_learn_is_stuck_and_named():
    """Zero initial values leave a ReLU at its kink: only the last bias learns."""
    options = {"log2_examples": 12, "log2_eval": 10, "pairs": 2, "hidden": "3"}
    stuck = simulate(Config(init="zero", **options), backend="reference")
    assert stuck.stuck == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(loss >= 0.99 * stuck.constant_loss for p in stuck.pairs for loss in p.loss)
    learned = simulate(Config(act="identity", **options), backend="reference")
    assert learned.stuck == [] and learned.excess_loss < stuck.excess_loss / 2


# Parameters.


def records(seed, n=3):
    rng = np.random.default_rng(seed)
    return [
        {"w0": rng.normal(size=(7, 3)).astype(np.float32), "b0": rng.normal(size=3)}
        for _ in range(n)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_distance_and_correlation_of_weights(seed):
    a, b, _ = records(seed)
    flat = [np.concatenate([p["w0"].ravel(), p["b0"]]).astype(np.float64) for p in (a, b)]
    expected = np.linalg.norm(flat[0] - flat[1])
    assert metrics.weight_distance(a, b) == pytest.approx(expected, rel=1e-14)
    expected = stats.pearsonr(*flat).statistic
    assert metrics.weight_correlation(a, b) == pytest.approx(expected, rel=1e-12)
    assert metrics.weight_distance(a, a) == 0.0
    assert metrics.weight_correlation(a, a) == pytest.approx(1.0, rel=1e-14)
    negative = {name: 5.0 - 2.0 * value.astype(np.float64) for name, value in a.items()}
    assert metrics.weight_correlation(a, negative) == pytest.approx(-1.0, rel=1e-14)


def test_cosine():
    a, b = np.array([3.0, 0.0]), np.array([1.0, 1.0])
    assert metrics.cosine(a, b) == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert metrics.cosine(a, -a) == -1.0 and metrics.cosine(a, np.array([0.0, 2.0])) == 0.0
    assert math.isnan(metrics.cosine(a, np.zeros(2)))
    # orthogonal but for what plain sums lose
    assert metrics.cosine(np.array([1e9, 1.0, 1e9]), np.array([1.0, 1.0, -1.0])) == pytest.approx(
        1.0 / math.sqrt(3.0 * 2e18), rel=1e-12
    )


def test_cosine_of_deviations_from_the_truth():
    rng = np.random.default_rng(2)
    theta, first, second = rng.normal(size=(3, FEATURES))
    found = metrics.deviation_cosine(
        {"w0": (theta + first)[:, None], "b0": np.ones(1)},
        {"w0": (theta + second)[:, None], "b0": np.zeros(1)},
        theta,
    )
    expected = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_result_holds_these_measures():
    config = Config(model="linear", log2_examples=10, log2_eval=8, pairs=2, differ="init,shuffle")
    result = simulate(config, backend="reference")
    e, theta = result.evaluation, make_world(0, "linear").theta
    for k, pair in enumerate(result.pairs):
        first, second = result.parameters[k]
        z1, z2 = (
            (e.x[:, None] >> np.arange(32, dtype=np.uint32) & 1) @ p["w0"][:, 0].astype(np.float64)
            + p["b0"][0]
            for p in (first, second)
        )
        assert pair.pd == pytest.approx(metrics.relative_pd(e.log_odds, z1, z2, e.counts), 1e-5)
        losses = [metrics.excess_loss(e.log_odds, z, e.counts) for z in (z1, z2)]
        assert pair.loss == pytest.approx(losses, rel=1e-5)
        assert pair.churn == metrics.churn(z1, z2, e.counts)
        assert result.weight_distance[k] == metrics.weight_distance(first, second)
        assert result.weight_correlation[k] == metrics.weight_correlation(first, second)
        assert result.deviation_cosine[k] == metrics.deviation_cosine(first, second, theta)
    assert result.relative_pd == pytest.approx(np.mean([p.pd for p in result.pairs]), rel=1e-14)
    assert result.excess_loss == pytest.approx(np.mean([p.loss for p in result.pairs]), rel=1e-14)
    assert result.constant_loss == metrics.constant_loss(e.log_odds, e.counts)
    low, high = result.relative_pd_interval
    assert low <= result.relative_pd <= high


def test_labels_have_words_symbol_and_unit():
    loss, pd, churn = (metrics.METRICS[name] for name in ("loss", "pd", "churn"))
    assert (loss.label, loss.short_label) == ("excess loss [nats]", "$L$ [nats]")
    assert loss.full_label == "excess loss $L$ [nats]"
    assert (pd.label, pd.short_label) == ("relative PD", r"$\Delta_r$")
    assert pd.full_label == r"relative PD $\Delta_r$"
    assert {churn.label, churn.short_label, churn.full_label} == {"churn"}


# Where only labels are known


LABELLED = st.lists(
    st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.booleans()), min_size=2, max_size=30
).filter(lambda rows: len({y for _, _, y in rows}) == 2)


@given(LABELLED)
def test_measures_of_labels_are_their_definitions(rows):
    z1, z2, y = (np.array(column) for column in zip(*rows, strict=True))
    ones = np.ones(len(y), int)
    p1, p2 = (1 / (1 + np.exp(-z)) for z in (z1, z2))
    expected = np.mean(np.abs(p1 - p2) / ((p1 + p2) / 2))
    assert metrics.relative_pd_of_mean(z1, z2, ones) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    expected = np.mean(np.where(y, np.log1p(np.exp(-z1)), np.log1p(np.exp(z1))))
    assert metrics.log_loss(z1, y, ones) == pytest.approx(expected, rel=1e-12)
    pairs = [(a > b) + (a == b) / 2 for a in z1[y] for b in z1[~y]]
    assert metrics.auc(z1, y, ones) == pytest.approx(np.mean(pairs), rel=1e-12)
    best = metrics.constant_log_loss(y, ones)
    assert best == pytest.approx(-np.log([y.mean(), 1 - y.mean()]) @ [y.mean(), 1 - y.mean()])


def test_auc_of_equal_and_of_perfect_logits():
    y, ones = np.array([0, 1, 0, 1]), np.ones(4, int)
    assert metrics.auc(np.zeros(4), y, ones) == 0.5
    assert metrics.auc(np.array([-1.0, 2.0, 0.0, 1.0]), y, ones) == 1.0
    assert metrics.auc(np.array([1.0, -2.0, 0.0, -1.0]), y, ones) == 0.0


def test_pd_of_predictions_that_are_both_zero_is_zero():
    z = np.array([-1e9, 0.0])
    assert metrics.relative_pd_of_mean(z, z, np.ones(2, int)) == 0.0
    assert metrics.relative_pd_of_mean(z, np.array([-1e9, -1e9]), np.ones(2, int)) == 1.0


def test_metrics_of_runs_of_both_kinds_are_called_what_both_are():
    assert metrics.metrics_of_all([False, False]) is metrics.METRICS
    assert metrics.metrics_of_all([True]) is metrics.LABEL_METRICS
    both = metrics.metrics_of_all([True, False])
    assert set(both) == {*metrics.METRICS, *metrics.LABEL_METRICS}
    assert both["loss"].words == "loss"
