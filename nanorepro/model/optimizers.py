"""The optimizers: one update of one weight, the same code for every backend.

An optimizer is a function of (xp, ops, setting) that returns `update(w, state, g, rate, t)` →
(w, state), with w a weight, g its gradient and `state` a tuple of any length, the numbers that the
optimizer keeps for each weight; and where each of them starts.  `rate` is the step's learning rate.
Scalars, vectors or arrays.
"""

import numpy as np


def adagrad(xp, ops, setting):
    """AdaGrad (Duchi et al. 2011) as TensorFlow does it: a ← a + g², then

    outside:  w ← w - (η·g)/(√a + ε)     the paper's Keras
    inside:   w ← w - (η·g)/√(a + ε)     Keras 3
    none:     w ← w - (η·g)/√a           TensorFlow 1
    """
    epsilon = ops.const(setting.epsilon)
    place = setting.epsilon_place
    inside, outside = place == "inside", place == "outside"
    add, sub, mul, div, sqrt, fma = ops.add, ops.sub, ops.mul, ops.div, ops.sqrt, ops.fma

    @xp.function
    def update(w, state, g, rate, t):
        a = fma(g, g, state[0], t)
        if inside:
            root = sqrt(add(a, epsilon, t), t)
        elif outside:
            root = add(sqrt(a, t), epsilon, t)
        else:
            root = sqrt(a, t)
        return sub(w, div(mul(rate, g, t), root, t), t), (a,)

    return update, (setting.initial_accumulator,)


def sgd(xp, ops, setting):
    """SGD with momentum, Keras's: v ← m·v - η·g, w ← w + v."""
    momentum = ops.const(setting.momentum)
    zero = ops.const(0.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    # a unit that is never active leaves a velocity that fades: 76 → 33 ns for the tower's step
    decay = ops.decay if momentum > 0.0 else ops.fma

    @xp.function
    def update(w, state, g, rate, t):
        v = decay(momentum, state[0], sub(zero, mul(rate, g, t), t), t)
        return add(w, v, t), (v,)

    return update, (0.0,)


OPTIMIZERS = {"adagrad": adagrad, "sgd": sgd}


def learning_rate(setting, step):
    """The rate of a step, or of an array of steps: lr, for SGD lr/(1 + decay·step), in float64."""
    if setting.optimizer == "sgd":
        return setting.lr / (1.0 + setting.decay * step)
    return setting.lr


def learning_rates(setting, first: int, steps: int) -> np.ndarray:
    """The rates of so many steps from the first on, (steps,), or the one of all, (1,)."""
    if setting.optimizer == "sgd" and setting.decay:
        return learning_rate(setting, first + np.arange(steps))
    return np.array([setting.lr])
