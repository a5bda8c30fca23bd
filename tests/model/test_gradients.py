"""The reference against finite differences and against plain loops, one number at a time."""

from itertools import product

import numpy as np
import pytest
from oracles import naive
from support.records import initial_values
from support.slow import slow_after, slow_unless

from nanorepro import Config, fit, predict
from nanorepro.backends.reference import Model
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.architectures import ARCHITECTURES, Architecture
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.exp_log import exp64
from nanorepro.results import metrics
from nanorepro.specification import ModelSpec

exp_of_array = exp64(numpy_arrays)


def exp_of_float(a):
    return float(exp_of_array(np.float64(a)))


def problem(config, d, n, seed=0):
    """Random examples, and parameters with biases."""
    rng = np.random.default_rng(seed)
    x = (rng.random((n, d)) < 0.3).astype(np.uint8)
    start = {
        name: value if name[0] != "b" else rng.normal(0.0, 0.3, value.shape)
        for name, value in initial_values(config, d).items()
    }
    return x, rng.integers(0, 2, n), start


# Finite differences.


def mean_loss(config, x, y, parameters):
    """The mini-batch's mean logistic loss, log(1 + exp(z)) - y·z."""
    z = predict(config, x, parameters, backend="reference")
    return float(np.mean(metrics.softplus(z) - y * z))


def slope_of_loss(config, x, y, parameters, name, index, h=1e-4):
    """dL/dw by central differences, extrapolated from h and 2h."""

    def central(step):
        losses = []
        for sign in (1.0, -1.0):
            moved = parameters | {name: parameters[name].copy()}
            moved[name][index] += sign * step
            losses.append(mean_loss(config, x, y, moved))
        return (losses[0] - losses[1]) / (2.0 * step)

    return (4.0 * central(h) - central(2.0 * h)) / 3.0


def nearest_kink(config, model, x):
    """How near a hidden pre-activation comes to where the activation is not smooth."""
    kinks = {"relu": [0.0], "smelu": [config.beta, -config.beta]}.get(config.act, [])
    z, _ = model.forward(x.astype(bool))
    hidden = [v for v, layer in zip(z, model.net, strict=True) if layer.active]
    return min((np.abs(v - k).min() for v in hidden for k in kinks), default=1.0)


@pytest.mark.parametrize(
    ("model", "act"),
    slow_unless(
        lambda model, act: model not in ("wide", "deep"),
        product([*ARCHITECTURES, "hidden"], ACTIVATIONS),
    ),
)
def test_finite_differences(model, act):
    options = {"model": model} if model != "hidden" else {"hidden": "7,5,3"}
    config = Config(act=act, beta=0.7, precision="float64", fma="off", **options)
    n = {"wide": 3, "deep": 2}.get(model, 8)
    for seed in range(100):
        x, y, start = problem(config, 32, n, seed)
        network = Model(ModelSpec(config, 32, 0, 0), start)
        near = nearest_kink(config, network, x)
        h = min(1e-4, near / 20.0)
        if near > (1e-3 if model not in ("wide", "deep") else 2e-5):
            break
    else:
        raise AssertionError("every seed has a pre-activation at a kink")
    g = network.gradients(x.astype(bool), y)
    rng = np.random.default_rng(1)
    largest = max(np.abs(v).max() for v in g.values())
    tolerance = 1e-9 if h == 1e-4 else 1e-14 / h
    for name, value in start.items():
        assert g[name].shape == value.shape and g[name].any()
        # the largest gradients, and some others
        order = np.argsort(-np.abs(g[name]), axis=None)
        few = 3 if model == "deep" else 10
        picked = [*order[:few], *rng.choice(value.size, min(few, value.size), replace=False)]
        for flat in picked:
            index = np.unravel_index(flat, value.shape)
            slope = slope_of_loss(config, x, y, start, name, index, h)
            assert g[name][index] == pytest.approx(slope, rel=1e-6, abs=tolerance * largest), (
                name,
                index,
            )


# Plain loops.

SHAPES = [
    {"model": "linear"},
    {"model": "single"},
    {"model": "double"},
    {"hidden": "5,4,3"},
    {"model": "wide"},
]
DIALECTS = [
    {"epsilon_place": "outside"},
    {"epsilon_place": "inside", "epsilon": 1e-3},
    {"epsilon_place": "none"},
    {"optimizer": "sgd", "decay": 0.1},
    {"optimizer": "adam", "beta1": 0.8, "beta2": 0.99},
]


@pytest.fixture
def narrow_wide(monkeypatch):
    """The wide model with 6 hidden units, because a thousand take the loops too long."""
    monkeypatch.setitem(ARCHITECTURES, "wide", Architecture("wide", "", (6,), embeddings=2))


def as_arrays(parameters, like):
    return {
        name: np.array(value, like[name].dtype).reshape(like[name].shape)
        for name, value in parameters.items()
    }


def assert_equal_bits(a, b):
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert a[name].tobytes() == b[name].tobytes(), (name, a[name], b[name])


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("narrow_wide")
def test_plain_loops_in_float64(shape, act, dialect):
    """Bit for bit, every gradient, parameter and logit of ten steps."""
    options = {"precision": "float64", "fma": "off", "batch": 6, "beta": 0.7, "lr": 0.3}
    config = Config(act=act, **options, **shape, **dialect)
    d, n = 8, 60
    x, y, start = problem(config, d, n)
    x[1], start["b0"][0] = 0, 0.0  # a pre-activation that is 0
    network = naive.Network(naive.Plain(exp_of_float), config, start)
    model = Model(ModelSpec(config, d, 0, 0), start)
    for k in range(0, n, 6):
        bits, labels = x[k : k + 6], y[k : k + 6]
        g = network.gradients(bits.tolist(), labels.tolist())
        ours = model.gradients(bits.astype(bool), labels)
        assert_equal_bits(as_arrays({name: g[name] for name in ours}, ours), ours)
        network.train_step(bits.tolist(), labels.tolist())
        model.train_step(bits.astype(bool), labels)
        model.step += 1
    ours = model.parameters()
    assert_equal_bits(as_arrays(network.w, start), ours)
    assert_equal_bits(ours, fit(config, x, y, start, backend="reference"))
    assert any((ours[name] != start[name]).any() for name in start)
    z = np.array([network.logit(row) for row in x.tolist()])
    assert z.tobytes() == predict(config, x, ours, backend="reference").tobytes()


@pytest.mark.parametrize(
    ("precision", "rounding", "fma"),
    slow_after(4, [
        ("float64", "nearest", "on"),
        ("float32", "nearest", "off"),
        ("float32", "toward-zero", "on"),
        ("bits:8", "toward-zero", "off"),
        ("float32", "nearest", "on"),
        ("bits:8", "nearest", "on"),
        ("bits:11", "nearest", "off"),
    ]),
)  # fmt: skip
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.usefixtures("narrow_wide")
def test_loops_of_fractions_in_every_precision(act, precision, rounding, fma):
    """The same with every operation rounded from its exact result."""
    p = {"float64": 53, "float32": 24}.get(precision) or int(precision[5:])
    ops = naive.Rounded(p, rounding, fma == "on", exp_of_float)
    for k in range(max(len(SHAPES), len(DIALECTS))):
        shape, dialect = SHAPES[k % len(SHAPES)], DIALECTS[k % len(DIALECTS)]
        config = Config(
            act=act,
            beta=0.7,
            batch=4,
            precision=precision,
            rounding=rounding,
            fma=fma,
            **shape,
            **dialect,
        )
        x, y, start = problem(config, 6, 12)
        dtype = np.float64 if p == 53 else np.float32
        start = {
            name: np.vectorize(ops.const)(value).astype(dtype) for name, value in start.items()
        }
        network = naive.Network(ops, config, start)
        for k in range(0, 12, 4):
            network.train_step(x[k : k + 4].tolist(), y[k : k + 4].tolist())
        ours = fit(config, x, y, start, backend="reference")
        for name, value in as_arrays(network.w, start).items():
            assert np.array_equal(value, ours[name]), (config.model, name)
        z = predict(config, x, ours, backend="reference")
        assert np.array_equal(z, [network.logit(row) for row in x.tolist()])


@pytest.mark.slow
def test_loops_of_fractions_on_numba():
    """The same for the compiled execution with the default dials."""
    config = Config(hidden="5,3", act="swish", batch=4)
    x, y, start = problem(config, 6, 12)
    start = {name: value.astype(np.float32) for name, value in start.items()}
    network = naive.Network(naive.Rounded(24, "nearest", True, exp_of_float), config, start)
    for k in range(0, 12, 4):
        network.train_step(x[k : k + 4].tolist(), y[k : k + 4].tolist())
    ours = fit(config, x, y, start)
    for name, value in as_arrays(network.w, start).items():
        assert np.array_equal(value, ours[name]), name


@pytest.mark.parametrize(
    ("precision", "fma"),
    [("float64", "on"), ("float32", "off"), ("bits:8", "on")],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("narrow_wide")
def test_loops_of_fractions_over_real_features(shape, precision, fma):
    """Sums of products x·w and x·δ, with x rounded to the precision."""
    p = {"float64": 53, "float32": 24}.get(precision) or int(precision[5:])
    ops = naive.Rounded(p, "nearest", fma == "on", exp_of_float)
    config = Config(act="swish", batch=4, precision=precision, fma=fma, **shape)
    _, y, start = problem(config, 6, 12)
    x = np.random.default_rng(8).normal(size=(12, 6)).astype(np.float32)
    x[x < -1] = 0.0
    dtype = np.float64 if p == 53 else np.float32
    start = {name: np.vectorize(ops.const)(value).astype(dtype) for name, value in start.items()}
    network = naive.Network(ops, config, start, real=True)
    rounded = np.vectorize(ops.const)(x.astype(float)).tolist()
    model = Model(ModelSpec(config, 6, 0, 0, real=True), start)
    for k in range(0, 12, 4):
        network.train_step(rounded[k : k + 4], y[k : k + 4].tolist())
    model.train(x, y)
    for name, value in as_arrays(network.w, start).items():
        assert np.array_equal(value, model.parameters()[name]), name
    assert np.array_equal(model.logits(x), [network.logit(row) for row in rounded])
