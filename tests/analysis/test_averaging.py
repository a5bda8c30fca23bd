"""Averages of weights and of predictions: equal to plain loops, and what must hold of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanorepro import Config, simulate
from nanorepro.analysis.averaging import averaged_steps, ensemble_logits, tail_averages
from nanorepro.analysis.lockstep import Lockstep, PairExamples
from nanorepro.backends import reference
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.results import metrics
from nanorepro.specification import ModelSpec
from nanorepro.training.parameters import initial_parameters

SMALL = Config(hidden="4,3", log2_examples=8, log2_eval=5, pairs=2, batch=16, seed=3)


def step_by_step(config, pair):
    """The records of both models after every step."""
    world = make_world(config.seed, config.data)
    specs = [ModelSpec(config, FEATURES, pair, m) for m in (0, 1)]
    start = [initial_parameters(config, pair, m) for m in (0, 1)]
    examples = PairExamples(config, pair, world, reference)
    both = Lockstep(reference.Model, specs, start, examples)
    for step in range(1, config.steps + 1):
        both.go_on(step)
        yield step, both.parameters()


@pytest.mark.parametrize("precision", ["float32", "float64", "bits:11"])
def test_means_are_those_of_the_steps_of_the_second_half(precision):
    config = replace(SMALL, precision=precision, log2_window=2)
    world = make_world(config.seed, config.data)
    means, last = tail_averages(config, 1, world, reference)
    after = dict(step_by_step(config, 1))
    steps = [s for s in after if s > config.steps // 2]
    assert averaged_steps(config.steps) == tuple(steps)
    for m in (0, 1):
        for name, mean in means[m].items():
            assert mean.dtype == last[m][name].dtype
            for at in np.ndindex(mean.shape):
                seen = [float(after[s][m][name][at]) for s in steps]
                exact = math.fsum(seen) / len(seen)
                ulp = {"float32": 2.0**-23, "float64": 2.0**-52, "bits:11": 2.0**-10}[precision]
                added = 2.0**-53 * sum(map(abs, seen))  # n - 1 additions of float64, each rounded
                assert abs(float(mean[at]) - exact) <= ulp * abs(exact) + added
    trained = simulate(config, "reference").parameters[1]
    for ours, theirs in zip(last, trained, strict=True):
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@given(st.integers(1, 10**6), st.integers(1, 100))
def test_averaged_steps_rise_to_the_last(steps, count):
    found = averaged_steps(steps, count)
    assert list(found) == sorted(set(found)) and found[-1] == steps
    assert found[0] > steps // 2 and len(found) == min(count, steps - steps // 2)


def test_the_mean_of_a_model_that_diverged_is_not_a_number():
    config = replace(SMALL, act="identity", lr=1e12, optimizer="sgd", pairs=1)
    with np.errstate(all="ignore"):
        means, last = tail_averages(config, 0, make_world(3, "linear"), reference)
    assert not all(np.isfinite(v).all() for v in last[0].values())
    assert all(np.isnan(v).all() for v in means[0].values())


logits = st.lists(st.floats(-40.0, 40.0, width=32), min_size=6, max_size=6)


NO, ALMOST, FURTHER = [0.0] * 6, [*[0.0] * 4, -19.0, 0.0], [*[0.0] * 4, -29.0, 0.0]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=4), logits)
@example([(NO, NO), (ALMOST, FURTHER)], [*[0.0] * 4, -12.0, 0.0])
def test_an_ensemble_is_no_farther_apart_and_no_worse_than_its_members(members, truth):
    """By the convexity of |p - q| and of the log loss, whatever the members say."""
    truth, counts = metrics.Prediction(np.array(truth)), np.arange(1, 7)
    pairs = [[metrics.Prediction(np.array(z)) for z in pair] for pair in members]
    both = [metrics.Prediction(ensemble_logits([p[m] for p in pairs])) for m in (0, 1)]
    apart = [metrics.relative_pd(truth, *p, counts) for p in pairs]
    together = metrics.relative_pd(truth, *both, counts)
    # the logits of both ensembles are rounded: each p is within 2^-51, here relative to p_θ
    rounding = np.average(2.0**-50 / truth.p, weights=counts)
    assert together <= np.mean(apart) * (1 + 1e-9) + rounding
    for m in (0, 1):
        losses = [metrics.excess_loss(truth, p[m], counts) for p in pairs]
        assert metrics.excess_loss(truth, both[m], counts) <= np.mean(losses) + 1e-9
        mean = np.mean([1.0 / (1.0 + np.exp(-p[m].z)) for p in pairs], axis=0)
        assert both[m].p == pytest.approx(mean, rel=1e-12)


def test_an_ensemble_of_one_is_its_member():
    z = np.linspace(-700.0, 700.0, 101)
    assert ensemble_logits([metrics.Prediction(z)]) == pytest.approx(z, rel=1e-12, abs=1e-12)
