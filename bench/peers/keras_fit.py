"""Keras's model.fit on a tf.data.Dataset, its own layers, optimizers and loss."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.optimizers import SGD, Adagrad
from keras.optimizers.schedules import InverseTimeDecay

from bench.cases import Case, Engine, Job, activation

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.get_logger().setLevel("ERROR")


def names_of(layer: str) -> list[str]:
    """The parameters of a layer: embeddings have no bias."""
    return [layer, "b" + layer[1:]] if layer.startswith("w") else [layer]


def make(case: Case, steps_per_execution: int) -> Job:
    c, initial = case.config, case.start(0)
    active = activation(c, tf.nn.relu, tf.sigmoid, tf.where)
    x = keras.Input((32,))
    h, made = x, {}
    if c.model == "wide":
        made = {f"e{k}": layers.Dense(2, use_bias=False) for k in (0, 1)}
        h = layers.Concatenate()([made["e0"](x[:, :16]), made["e1"](x[:, 16:])])
    for k, width in enumerate((*c.widths, 1)):
        made[f"w{k}"] = layers.Dense(width, None if k == case.last else active)
        h = made[f"w{k}"](h)
    model = keras.Model(x, h)
    for name, layer in made.items():
        layer.set_weights([initial[n] for n in names_of(name)])
    if case.adagrad:
        optimizer = Adagrad(c.lr, c.initial_accumulator, c.epsilon)
    else:
        optimizer = SGD(InverseTimeDecay(c.lr, 1, c.decay), momentum=c.momentum)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, steps_per_execution=steps_per_execution)
    optimizer.build(model.trainable_variables)
    variables = [*model.trainable_variables, *optimizer.variables]
    first = [np.array(v) for v in variables]

    xs, ys = case.arrays
    options = tf.data.Options()
    options.autotune.enabled = False
    options.threading.private_threadpool_size = 1
    data = tf.data.Dataset.from_tensor_slices((xs.reshape(-1, 32), ys.reshape(-1, 1)))
    data = data.batch(c.batch, drop_remainder=True).with_options(options)

    def start():
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)

    def train(state):
        model.fit(data, verbose=0)

    def read(state):
        found = {}
        for name, layer in made.items():
            found |= dict(zip(names_of(name), layer.get_weights(), strict=True))
        return [found]

    return Job(start, train, read, case.n)


ENGINES = {
    "Keras fit": Engine(lambda case: make(case, 1)),
    "Keras fit, 256 steps a call": Engine(lambda case: make(case, 256)),
}
