"""TensorFlow and Keras, trained on the same examples from the same initial values.

Two independent models: Keras layers with Keras's own optimizers, and eqs. 4 to 6 written with
TensorFlow's operations and trained in a hand-written loop, which also has the two dialects of
AdaGrad that Keras 3 has no longer.  TensorFlow sums in an order of its own, so the comparison is by
tolerance:

float64: 1e-12 of the largest number of an array.
float32: the rounding of two runs may differ by a few units in the last place in every step, and by
no more as long as no pre-activation of a ReLU gets another sign: `float32_tolerance`.  Up to the
step in which a pre-activation comes nearer to 0 than that, all must agree; afterwards the two are
different runs, which is the paper's subject.

The reference backend does most of the work, without fma, which is slow in NumPy; the last section
has the numba backend and fma.  The deep model takes fewer steps.
"""

import gc
import importlib
import os
import warnings
from functools import cache

import numpy as np
import pytest
from scipy import stats
from support.records import initial_values
from support.slow import slow_after, slow_unless

from nanorepro import Config, fit, initial_parameters, predict
from nanorepro.data.packing import pack, unpack
from nanorepro.data.sampling import examples
from nanorepro.data.worlds import make_world
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.architectures import ARCHITECTURES
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.specification import ModelSpec
from nanorepro.training.simulation import evaluation_set, load_backend


@pytest.fixture(scope="module", autouse=True)
def frameworks():
    """TensorFlow and Keras, for the process that runs these tests: they hold 0.6 GB."""
    global tf, keras
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # its sums are blocked by the CPU's cache
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own imports
        tf = pytest.importorskip("tensorflow", exc_type=ImportError)
        keras = importlib.import_module("keras")
    tf.config.set_visible_devices([], "GPU")
    tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")  # "triggered tf.function retracing": each test's own model
    gc.freeze()
    yield
    keras.backend.clear_session()
    gc.collect()


DIALECTS = {
    "inside": {"optimizer": "adagrad", "epsilon_place": "inside"},
    "outside": {"optimizer": "adagrad", "epsilon_place": "outside"},
    "none": {"optimizer": "adagrad", "epsilon_place": "none"},
    "sgd": {"optimizer": "sgd"},
    "adam": {"optimizer": "adam", "lr": 0.01},
}
KERAS_HAS = ("inside", "sgd", "adam")
STEPS = 200
BETA = {"smelu": 0.5, "swish": 1.5}


def config_of(model, act, dialect, precision, **options):
    options = {"beta": BETA.get(act, 1.0), "log2_eval": 8, "fma": "off", "seed": 5, **options}
    if model == "deep":
        options |= {"data": "quadratic", "batch": 8}
    if dialect == "adam" and (precision == "float32" or model == "deep"):
        # an error e of a small gradient moves a weight by up to lr·e/epsilon: by e, as elsewhere;
        # the deep model's gradients are the smallest
        options |= {"lr": 1e-3, "epsilon": 1e-3}
    options = {**DIALECTS[dialect], **options}
    return Config(model=model, act=act, precision=precision, **options)


world = cache(make_world)


def arrays_of(config, steps):
    """The first examples of pair 0: x (n, 32) and y (n,) of 0 and 1."""
    key = stream_key(config.seed, "examples")
    x, y = examples(world(config.seed, config.data), key, 0, steps * config.batch)
    return unpack(x[:, None], 32), y


def start_of(config):
    """Initial values with biases, as float64, so that nothing is zero by accident."""
    rng = np.random.default_rng(3)
    start = initial_parameters(config)
    return {
        k: v.astype(np.float64) if k[0] != "b" else rng.normal(0.0, 0.1, v.shape)
        for k, v in start.items()
    }


# The model in TensorFlow's operations.


def activation(config):
    beta = config.beta

    def smelu(z):
        inside = tf.square(z + beta) / (4.0 * beta)
        return tf.where(z <= -beta, tf.zeros_like(z), tf.where(z >= beta, z, inside))

    def swish(z):
        return z * tf.sigmoid(beta * z)

    return {"identity": tf.identity, "relu": tf.nn.relu, "smelu": smelu, "swish": swish}[config.act]


def forward(config, w, x):
    """Logits (s, 1) and the pre-activations of the hidden layers."""
    h, hidden, act = x, [], activation(config)
    if config.model == "wide":
        h = tf.concat([x[:, :16] @ w["e0"], x[:, 16:] @ w["e1"]], axis=1)
    last = len(config.widths)
    for k in range(last):
        hidden.append(h @ w[f"w{k}"] + w[f"b{k}"])
        h = act(hidden[-1])
    return h @ w[f"w{last}"] + w[f"b{last}"], hidden


def gradients(config, w, x, y):
    """Gradients of the mean loss, and how near a hidden pre-activation other than 0 comes to 0.

    The latter in parts of the largest pre-activation of its layer.
    """
    with tf.GradientTape() as tape:
        z, hidden = forward(config, w, x)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z))
    sizes = [tf.where(v == 0, tf.reduce_max(tf.abs(v)), tf.abs(v)) for v in hidden]
    near = [tf.reduce_min(v) / tf.reduce_max(v) for v in sizes]
    nearest = tf.reduce_min(near) if near else tf.ones((), z.dtype)
    return tape.gradient(loss, w), nearest


def update(config, w, state, g, step):
    """One of the rules of DIALECTS, for one variable and its state."""
    lr = tf.constant(config.lr, g.dtype)
    if config.optimizer == "adam":
        m, v = state
        first, second = (
            tf.constant(beta, tf.float64) ** tf.cast(step + 1, tf.float64)
            for beta in (config.beta1, config.beta2)
        )
        rate = tf.cast(config.lr * tf.sqrt(1.0 - second) / (1.0 - first), g.dtype)
        m.assign_add((g - m) * (1.0 - config.beta1))
        v.assign_add((tf.square(g) - v) * (1.0 - config.beta2))
        w.assign_sub(m * rate / (tf.sqrt(v) + config.epsilon))
        return
    (state,) = state
    if config.optimizer == "sgd":
        rate = config.lr / (1.0 + config.decay * tf.cast(step, tf.float64))
        state.assign(config.momentum * state - tf.cast(rate, g.dtype) * g)
        w.assign_add(state)
        return
    state.assign_add(tf.square(g))
    if config.epsilon_place == "inside":
        w.assign_sub(lr * g / tf.sqrt(state + config.epsilon))
    elif config.epsilon_place == "outside":
        w.assign_sub(g * lr / (tf.sqrt(state) + config.epsilon))
    else:
        w.assign_sub(g * lr * tf.math.rsqrt(state))


class ByHand:
    """A model in training in a hand-written TensorFlow loop."""

    def __init__(self, config, start, x, y):
        self.config, self.dtype = config, tf.as_dtype(config.precision)
        self.start = {k: tf.constant(v, self.dtype) for k, v in start.items()}
        self.w = {k: tf.Variable(v) for k, v in self.start.items()}
        self.fills = OPTIMIZERS[config.optimizer].starts(config)
        self.state = {k: [tf.Variable(v) for _ in self.fills] for k, v in self.start.items()}
        self.restart()
        self.x = tf.constant(x.reshape(-1, config.batch, 32), self.dtype)
        self.y = tf.constant(y.reshape(-1, config.batch, 1), self.dtype)
        self.loop = tf.function(self._loop, jit_compile=False)

    def restart(self):
        for name, value in self.start.items():
            self.w[name].assign(value)
            for state, fill in zip(self.state[name], self.fills, strict=True):
                state.assign(tf.fill(value.shape, tf.constant(fill, self.dtype)))

    def _loop(self, steps):
        nearest = tf.TensorArray(self.dtype, size=steps)
        for step in tf.range(steps):
            g, near = gradients(self.config, self.w, self.x[step], self.y[step])
            nearest = nearest.write(step, near)
            for name in self.w:
                update(self.config, self.w[name], self.state[name], g[name], step)
        return nearest.stack()

    def train(self, steps):
        """Train for that many steps; how near a ReLU came to its kink, by step."""
        return self.loop(tf.constant(steps)).numpy()

    def parameters(self):
        return {name: v.numpy() for name, v in self.w.items()}


def excess_loss_by_tensorflow(config, parameters):
    """Eq. 2 by TensorFlow on the evaluation set: cross-entropy minus entropy."""
    e = evaluation_set(config, world(config.seed, config.data))
    dtype = tf.as_dtype(config.precision)
    x = tf.constant(unpack(e.x[:, None], 32), dtype)
    z, _ = forward(config, {k: tf.constant(v, dtype) for k, v in parameters.items()}, x)
    z, odds = tf.cast(z[:, 0], tf.float64), tf.constant(e.log_odds)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.sigmoid(odds), logits=z)
    own = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.sigmoid(odds), logits=odds)
    return float(np.average((cross - own).numpy(), weights=e.counts))


# The model in Keras's layers.


def keras_model(config, start):
    dtype, act = config.precision, activation(config)
    x = keras.Input((32,), dtype=dtype)
    made = {}
    h = x
    if config.model == "wide":
        for k in (0, 1):
            made[f"e{k}"] = keras.layers.Dense(2, use_bias=False, dtype=dtype)
        h = keras.layers.Concatenate(dtype=dtype)([made["e0"](x[:, :16]), made["e1"](x[:, 16:])])
    for k, width in enumerate((*config.widths, 1)):
        last = k == len(config.widths)
        made[f"w{k}"] = keras.layers.Dense(width, None if last else act, dtype=dtype)
        h = made[f"w{k}"](h)
    model = keras.Model(x, h)
    for name, layer in made.items():
        bias = [start["b" + name[1:]]] if name[0] == "w" else []
        layer.set_weights([start[name], *bias])

    def read():
        found = {}
        for name in start:
            weights = made["w" + name[1:] if name[0] == "b" else name].get_weights()
            found[name] = weights[name[0] == "b"]
        return found

    return model, read


def train_by_keras(config, start, x, y):
    before, number = keras.config.floatx(), np.dtype(config.precision).type
    keras.config.set_floatx(config.precision)
    try:
        model, read = keras_model(config, start)
        # a Python number would pass through float32 on its way
        if config.optimizer == "sgd":
            rate = keras.optimizers.schedules.InverseTimeDecay(
                number(config.lr), 1, number(config.decay)
            )
            optimizer = keras.optimizers.SGD(rate, momentum=np.float64(config.momentum))
        elif config.optimizer == "adam":
            optimizer = keras.optimizers.Adam(
                config.lr,
                *map(number, (config.beta1, config.beta2)),
                epsilon=number(config.epsilon),
            )
        else:
            optimizer = keras.optimizers.Adagrad(
                config.lr,
                initial_accumulator_value=number(config.initial_accumulator),
                epsilon=number(config.epsilon),
            )
        loss = keras.losses.BinaryCrossentropy(from_logits=True, dtype=config.precision)
        model.compile(optimizer, loss, jit_compile=False)
        x, y = x.astype(config.precision), y.astype(config.precision)[:, None]
        model.fit(x, y, batch_size=config.batch, shuffle=False, verbose=0)
        return read()
    finally:
        keras.config.set_floatx(before)


# Comparisons.


def excess_loss(config, parameters, backend="reference"):
    e = evaluation_set(config, world(config.seed, config.data))
    z = predict(config, unpack(e.x[:, None], 32), parameters, backend)
    return metrics.excess_loss(e.log_odds, z, e.counts)


def distance(a, b):
    """The largest difference of two records, in parts of an array's largest number."""
    assert set(a) == set(b)
    worst = 0.0
    for name in a:
        assert a[name].shape == b[name].shape
        scale = np.abs(b[name]).max()
        if scale > 0:
            worst = max(worst, float(np.abs(a[name].astype(np.float64) - b[name]).max() / scale))
        else:
            assert not a[name].any()
    return worst


def float32_tolerance(steps):
    """Of parameters after that many steps, in parts of the largest of an array.

    In a step a weight, its update and the sums behind it are rounded, in two ways that are at most
    a few units (2^-23) apart.  The steps' differences have no common sign: they grow as the root
    of their number.
    """
    return 4.0 * 2.0**-23 * np.sqrt(steps)


def common_steps(config, steps, nearest):
    """How many of the steps two roundings have to agree on."""
    if config.act != "relu":
        return steps
    if config.precision == "float64":
        assert nearest.min() > 1e-11, "a ReLU is at its kink: take another seed"
        return steps
    for step, near in enumerate(nearest):
        if near < 2.0 * float32_tolerance(step + 1):
            return step
    return steps


def compare(config, steps, backend="reference", with_keras=True):
    """Train for that many steps in every way and compare parameters and losses."""
    x, y = arrays_of(config, steps)
    start = start_of(config)
    theirs = ByHand(config, start, x, y)
    common = common_steps(config, steps, theirs.train(steps))
    assert common >= min(steps, 2)
    if common < steps:
        theirs.restart()
        theirs.train(common)
    n = common * config.batch
    tolerance = 1e-12 if config.precision == "float64" else float32_tolerance(common)

    after = fit(config, x[:n], y[:n], start, backend)
    moved = distance(start, after)
    assert moved > 100 * tolerance, "nothing was trained"
    apart = distance(after, theirs.parameters())
    assert apart < tolerance
    if with_keras:
        apart = max(apart, distance(after, train_by_keras(config, start, x[:n], y[:n])))
        assert apart < tolerance
    print(f"{common} steps, distance {apart:.1e} of {tolerance:.1e}")

    losses = [
        excess_loss(config, after, backend),
        excess_loss_by_tensorflow(config, theirs.parameters()),
    ]
    exact = config.precision == "float64"
    assert losses[0] == pytest.approx(losses[1], rel=1e-10 if exact else 1e-5)


def combinations():
    """Every model, activation, dialect and precision, with a number of steps that stays cheap."""
    full = {("deep", "identity", "inside"), ("deep", "relu", "outside")}
    full |= {("deep", "smelu", "none"), ("deep", "swish", "sgd")}
    for model in ARCHITECTURES:
        for act in ACTIVATIONS if model != "linear" else ["identity"]:
            for dialect in DIALECTS:
                for precision in ("float64", "float32"):
                    steps = STEPS
                    often = act in ("relu", "swish") and dialect in ("outside", "sgd")
                    if model == "wide" and not (often and precision == "float64"):
                        steps = 50
                    if model == "deep":
                        steps = 20 if (model, act, dialect) in full else 5
                    yield model, act, dialect, precision, steps


# every model, activation and dialect once or twice
QUICK = {
    ("linear", "identity", "none", "float32"), ("single", "smelu", "sgd", "float64"),
    ("double", "swish", "adam", "float64"), ("tower", "relu", "inside", "float64"),
    ("tower", "relu", "outside", "float32"), ("deep", "relu", "sgd", "float32"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "act", "dialect", "precision", "steps"),
    slow_unless(
        lambda model, act, dialect, precision, steps: (model, act, dialect, precision) in QUICK,
        combinations(),
    ),
)
def test_training(model, act, dialect, precision, steps):
    config = config_of(model, act, dialect, precision)
    by_keras = KERAS_HAS
    if precision == "float32":
        # one of the two; not Adam, whose 1 - beta2^n Keras computes in float32, 3e-5 beside it
        by_keras = ("inside",) if act in ("identity", "relu") else ("sgd",)
    compare(config, steps, with_keras=dialect in by_keras)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("model", ARCHITECTURES)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_of_one_step(model, act, precision):
    config = config_of(model, act, "sgd", precision, batch=8 if model == "deep" else 32)
    x, y = arrays_of(config, 1)
    start = start_of(config)
    model = load_backend("reference").Model(ModelSpec(config, 32, 0, 0), start)
    ours = model.gradients(x.astype(bool), y)
    theirs = ByHand(config, start, x, y)
    g, nearest = gradients(config, theirs.w, theirs.x[0], theirs.y[0])
    assert config.act != "relu" or nearest > 1e-6
    tolerance = 1e-10 if precision == "float64" else 2e-5  # sums of up to 1024 terms that cancel
    assert distance(ours, {name: v.numpy() for name, v in g.items()}) < tolerance
    z = model.logits(pack(x))
    theirs, _ = forward(config, theirs.w, theirs.x[0])
    assert distance({"z": z}, {"z": theirs.numpy()[:, 0]}) < tolerance


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_initial_values_are_as_keras_has_them(model):
    """Glorot uniform for Dense, ±0.05 for Embedding, biases 0: Keras's defaults, drawn often."""
    config = Config(model=model, precision="float64")
    for name, value in initial_values(config, 32).items():
        if name[0] == "b":
            assert not value.any()
            continue
        layer = keras.layers.Embedding(1, 1) if name[0] == "e" else keras.layers.Dense(1)
        kind = layer.embeddings_initializer if name[0] == "e" else layer.kernel_initializer
        draws = min(100, max(1, 2000 // value.size))
        theirs = [type(kind)(seed=k)(value.shape).numpy().ravel() for k in range(draws)]
        ours = [initial_values(config, 32, pair)[name].ravel() for pair in range(draws)]
        ours, theirs = np.concatenate(ours), np.concatenate(theirs)
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=8.0 / ours.size)


def test_the_dialects_are_further_apart_than_the_tolerance():
    """Else a wrong place of epsilon would pass."""
    found = {}
    for dialect in DIALECTS:
        config = config_of("tower", "swish", dialect, "float64")
        x, y = arrays_of(config, 20)
        found[dialect] = fit(config, x, y, start_of(config), backend="reference")
    for a in DIALECTS:
        for b in DIALECTS:
            assert a == b or distance(found[a], found[b]) > 100 * 1e-10


@pytest.mark.parametrize(
    ("model", "act", "dialect", "precision"),
    [
        ("tower", "swish", "inside", "float64"),
        ("wide", "smelu", "sgd", "float64"),
        ("double", "relu", "outside", "float32"),
    ],
)
@pytest.mark.parametrize("backend", slow_after(1, ["reference", "numba"]))
def test_training_on_real_features(model, act, dialect, precision, backend):
    """The same networks over real numbers, of different scales, in place of bits."""
    config, steps = config_of(model, act, dialect, precision, lr=0.02), 30
    rng = np.random.default_rng(11)
    n = steps * config.batch
    x = (rng.normal(size=(n, 32)) * 2.0 ** rng.integers(-3, 2, 32)).astype(np.float32)
    y = (x @ rng.normal(size=32) + rng.normal(size=n) > 0).astype(np.uint8)
    start = start_of(config)
    theirs = ByHand(config, start, x, y)
    common = common_steps(config, steps, theirs.train(steps))
    assert common >= 10
    if common < steps:
        theirs.restart()
        theirs.train(common)
    ours = load_backend(backend).Model(ModelSpec(config, 32, 0, 0, real=True), start)
    ours.train(x[: common * config.batch], y[: common * config.batch])
    tolerance = 1e-12 if precision == "float64" else float32_tolerance(common)
    assert distance(start, ours.parameters()) > 100 * tolerance
    assert distance(ours.parameters(), theirs.parameters()) < tolerance
    z = ours.logits(x[:64])
    other, _ = forward(config, theirs.w, tf.constant(x[:64], theirs.dtype))
    assert distance({"z": z}, {"z": other.numpy()[:, 0]}) < 10 * tolerance


# The numba backend, with fma.


@pytest.mark.parametrize(
    ("model", "act", "dialect", "precision", "steps"),
    slow_after(
        1,
        [
            ("tower", "relu", "outside", "float32", STEPS),
            ("tower", "swish", "sgd", "float64", STEPS),
            ("wide", "smelu", "inside", "float64", STEPS),
            ("tower", "swish", "adam", "float64", STEPS),
            ("deep", "relu", "none", "float32", 20),
        ],
    ),
)
def test_numba_training(model, act, dialect, precision, steps):
    config = config_of(model, act, dialect, precision, fma="on")
    compare(config, steps, "numba", with_keras=dialect in KERAS_HAS)


@pytest.mark.slow
def test_numba_gradients_through_fit():
    """One step of SGD with an immense rate: what is left of the start is below the rounding."""
    config = config_of("tower", "swish", "sgd", "float64", fma="on", lr=2.0**30)
    x, y = arrays_of(config, 1)
    start = start_of(config)
    after = fit(config, x, y, start)
    ours = {name: (start[name] - after[name]) / 2.0**30 for name in start}
    theirs = ByHand(config, start, x, y)
    g, _ = gradients(config, theirs.w, theirs.x[0], theirs.y[0])
    assert distance(ours, {name: v.numpy() for name, v in g.items()}) < 1e-10
