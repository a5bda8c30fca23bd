"""TensorFlow: a hand-written training loop, all steps one XLA program; one model, or 32."""

import tensorflow as tf

from bench.cases import MODELS, Case, Engine, Job, activation, ends_of

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")


def logits(w, x, last, active):
    """(s,) of one model or (models, s) of an ensemble, from x (s, 32)."""
    if "e0" in w:
        x = tf.concat([x[:, :16] @ w["e0"], x[:, 16:] @ w["e1"]], axis=-1)
    for k in range(last + 1):
        x = tf.matmul(x, w[f"w{k}"]) + w[f"b{k}"][..., None, :]
        x = active(x) if k < last else x
    return x[..., 0]


def make(case: Case, models: int) -> Job:
    c = case.config
    initial = case.start(0) if models == 1 else case.starts(0)
    xs, ys = (tf.constant(a) for a in case.arrays)
    active = activation(c, tf.nn.relu, tf.sigmoid, tf.where)

    def update(w, a, g, step):
        if case.adagrad:
            a = {k: a[k] + g[k] * g[k] for k in w}
            return {k: w[k] - c.lr * g[k] / (tf.sqrt(a[k]) + c.epsilon) for k in w}, a
        rate = c.lr / (1.0 + c.decay * tf.cast(step, tf.float32))
        a = {k: c.momentum * a[k] - rate * g[k] for k in w}
        return {k: w[k] + a[k] for k in w}, a

    def body(step, w, a):
        with tf.GradientTape() as tape:
            tape.watch(w)
            z = logits(w, xs[step], case.last, active)
            # the gradient of the mean loss by z is (σ(z) - y)/s: less work than by the loss
            slope = tf.stop_gradient((tf.sigmoid(z) - ys[step]) / c.batch)
            loss = tf.reduce_sum(slope * z)
        return step + 1, *update(w, a, tape.gradient(loss, w), step)

    @tf.function(jit_compile=True)
    def train(w, a):
        return tf.while_loop(lambda step, w, a: step < case.steps, body, (0, w, a))[1:]

    def start():
        w = {k: tf.constant(v) for k, v in initial.items()}
        return w, {k: tf.fill(v.shape, case.state_start) for k, v in w.items()}

    def wait(state):
        w, a = train(*state)
        w["b0"].numpy()
        return w, a

    def read(state):
        w = {k: v.numpy() for k, v in state[0].items()}
        return [w] if models == 1 else ends_of(w, 0)

    return Job(start, wait, read, models * case.n)


ENGINES = {
    "TensorFlow XLA loop": Engine(lambda case: make(case, 1)),
    "TensorFlow XLA, 32 models": Engine(lambda case: make(case, MODELS), MODELS),
}
