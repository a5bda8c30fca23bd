"""The trees of our own sums, seen through fit and predict: only inputs and outputs are used."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from nanorepro.config import Config
from nanorepro.data.sampling import FEATURES
from nanorepro.dials import dials
from nanorepro.errors import ConfigError, wrong
from nanorepro.model.layers import shapes
from nanorepro.numerics.plans import plan
from nanorepro.probing.trees import (
    Ask,
    NoTree,
    Tree,
    check_number,
    count,
    proved,
    tree_from,
    tree_of_plan,
)
from nanorepro.specification import ModelSpec, layers
from nanorepro.training.fitting import fit, predict

HIDDEN = (
    "with kahan the tree of this sum cannot be seen from outside: the compensation of a partial sum"
    " brings back what was lost in it, so that several trees give the same results"
)


def number_of_terms(config: Config, which: str, at: str) -> int:
    """The number of terms of a sum: `which` is batch, forward or backward, `at` a parameter."""
    layer = _layer(config, at)[1]
    if which == "batch":
        return config.batch
    if at.startswith("b"):
        raise ConfigError(f"{at} has no sum over units", "at", "the weights of a layer")
    return layer.fan_in // layer.sets if which == "forward" else layer.fan_out


def accumulator_of(config: Config, which: str) -> str:
    """The accumulator of a sum over the mini-batch or over units."""
    return getattr(dials(config, 0), "accumulator" if which == "batch" else "unit_accumulator")


def asked(config: Config, which: str, at: str, step: int = 0) -> Tree:
    """The tree that the configuration asks for in that sum of a step."""
    spec, d = ModelSpec(config, FEATURES, 0, 0), dials(config, 0)
    n = number_of_terms(config, which, at)
    if accumulator_of(config, which) == "exact":
        return tuple(range(n))
    if which == "batch":
        return tree_of_plan(plan(d.tree, d.leaf_order, n, spec.key("order"), step))
    block = (step * len(spec.net) + _layer(config, at)[0]) * 2 + (which == "backward")
    key = spec.key("order", "units")
    return tree_of_plan(plan(d.unit_tree, d.unit_order, n, key, block))


def probe(
    config: Config, which: str = "batch", at: str = "w0", step: int = 0, backend: str = "numba"
) -> Tree:
    """The tree of a sum of ours, by fit and predict alone.

    batch: the gradient of the parameter `at`, summed over the mini-batch of that step
    forward: what the weights `at` give the first unit above them, summed over units or features
    backward: what the first unit below the weights `at` gets from the units above

    forward and backward are seen in step 0.  Raises ConfigError where there is no such sum, and
    NoTree where its tree cannot be seen, as of most trees with `kahan`.
    """
    ask = {"batch": _ask_batch, "forward": _ask_forward, "backward": _ask_backward}[which]
    n = number_of_terms(config, which, at)
    if step and which != "batch":
        raise ConfigError("sums over units are seen in step 0 only", "step")
    if n < 2:
        raise ConfigError(f"the {which} sum of {at} has one term only", "at")
    check_number(n)  # before anything is compiled
    if which == "backward" and _layer(config, at)[0] == 0:
        raise ConfigError(f"{at} is the first layer, below which no gradient goes", "at")
    # one step of plain gradient descent shows the gradient: w - 1·g
    config = replace(
        config, optimizer="sgd", lr=1.0, momentum=0.0, decay=0.0, warm_start="", differ="none"
    )
    p = {"float32": 24, "float64": 53}.get(dials(config, 0).precision)
    p = p or int(dials(config, 0).precision.partition(":")[2])
    # a unit term is no power of two, so counting rounds: by less than half up to here
    most = 1 << p if which != "batch" else max(1, int(2.0 ** ((p - 2) / 2)))
    found = ask(config, at, step, backend)

    def one_by_one(plus: int, minus: int, ones: np.ndarray) -> int:
        # towards zero, -M + 1 is not -M but the number after it: what is left is more than 1
        return int(found(plus, minus, ones) == 1)

    towards_zero = dials(config, 0).rounding == "toward-zero"
    answer, most = (one_by_one, 1) if towards_zero else (found, most)
    if accumulator_of(config, which) != "kahan":
        return tree_from(answer, n, most)
    with suppress(NoTree):
        tree = tree_from(answer, n, most)
        if proved(tree, answer):
            return tree
    raise NoTree(HIDDEN)


def net_of(config: Config) -> tuple[Any, ...]:
    """The layers of a model over 32 features."""
    return layers(config, FEATURES)


def _layer(config: Config, at: str) -> tuple[int, Any]:
    """Number and record of the layer of a parameter; raises ConfigError for no parameter."""
    net = net_of(config)
    for k, layer in enumerate(net):
        if at in layer.names:
            return k, layer
    names = ", ".join(name for layer in net for name in layer.names)
    raise wrong("at", at, f"one of {names}")


def _blank(config: Config) -> dict[str, np.ndarray]:
    """All parameters zero, float64."""
    return {name: np.zeros(shape) for name, shape in shapes(net_of(config)).items()}


def _plateau(config: Config) -> float:
    """A power of two from which on every activation is y = z, to the last bit."""
    return 2.0 ** np.ceil(np.log2(max(64.0, 64.0 / config.beta, 8.0 * config.beta)))


def _path(config: Config, w: dict[str, np.ndarray], part: int, first: int = 1) -> None:
    """Weights 1 from layer to layer, by the first unit of each, from layer `first` up."""
    for k, layer in enumerate(net_of(config)):
        if k >= max(first, 1):
            below = net_of(config)[k - 1]
            w[layer.names[0]][part * below.row if below.sets > 1 else 0, 0] = 1.0


def _ask_batch(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a gradient's sum over the mini-batch are made by three features and the label.

    Each feature sends a level of its own up one path of units to the logit.  At the first the
    logit is 0 and δ = ±1/(2s), by the label: M and -M.  At the second it is -64 and δ = σ(-64)/s,
    the one; at the third σ and δ are 0.  A dense weight on the path is next to nothing and the
    activation under it huge, so that the weight after the step is the gradient.
    """
    net, (k, layer) = net_of(config), _layer(config, at)
    last, plateau, tiny = len(net) - 1, _plateau(config), 2.0**-60
    w = _blank(config)
    bias = at.startswith("b")
    part = layer.names.index(at) if k == 0 and layer.sets > 1 else 0
    _path(config, w, part)
    out, out_bias = net[-1].names
    level: tuple[float, ...]
    if last == 0:
        level = (0.0, -64.0, -1024.0)
    elif k == last and bias:
        # act(16 - 32) is 0 in units of the plateau, if not the identity; the others go through
        w[out][0, 0] = -2.0 / plateau
        w[net[k - 1].names[1]][0] = -32.0 * plateau
        none = 32.0 if config.act == "identity" else 16.0
        level = (none * plateau, 64.0 * plateau, 1024.0 * plateau)
    else:
        w[out][0, 0] = -64.0 / plateau
        w[out_bias][0] = 64.0
        level = (plateau, 2.0 * plateau, 16.0 * plateau)
    if k > 0 and not bias:
        w[at] *= tiny
        level = tuple(v / tiny for v in level)
    w[net[0].names[part]][:3, 0] = level
    size = net[0].fan_in // net[0].sets
    place = 0 if bias or k > 0 else 3 * layer.row  # of the weight that is looked at, flat
    before = float(w[at].flat[place])

    def gradient(code: np.ndarray, y: np.ndarray) -> float:
        code = np.concatenate([np.full(step * config.batch, 2), code])
        x = np.zeros((len(code), FEATURES), np.uint8)
        x[np.arange(len(code)), part * size + code] = 1
        x[:, part * size + 3] = 1
        y = np.concatenate([np.zeros(step * config.batch, np.uint8), y])
        return float(fit(config, x, y, w, backend)[at].flat[place]) - before

    alone = np.full(config.batch, 2)
    alone[0] = 1
    one = gradient(alone, np.zeros(config.batch, np.uint8))

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        code, y = np.full(config.batch, 2), np.zeros(config.batch, np.uint8)
        code[ones] = 1
        code[[plus, minus]], y[minus] = 0, 1
        return count(gradient(code, y), one)

    return ask


def _ask_forward(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a unit's sum are the weights themselves, times activations that are all equal."""
    net, (k, layer) = net_of(config), _layer(config, at)
    w, big = _blank(config), 2.0**90
    one = _plateau(config)
    part = layer.names.index(at) if layer.sets > 1 else 0
    _path(config, w, part, k + 1)
    scale = one
    if k > 0:
        scale = 1.0
        if net[k - 1].bias:
            w[net[k - 1].names[1]][:] = one
        else:
            for name in net[k - 1].names:
                w[name][0] = one
    x = np.ones((1, FEATURES), np.uint8)

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        column = np.zeros(len(w[at]))
        column[ones] = scale
        column[plus], column[minus] = big, -big
        w[at][:, 0] = column
        return count(float(predict(config, x, w, backend)[0]), one)

    return ask


def _ask_backward(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a unit's gradient are weights to the units above, times δ that are all equal.

    The biases above are so large that these weights change no slope, and that σ = 1; so only the
    first example, whose label is 0, has a gradient.
    """
    net, (k, layer) = net_of(config), _layer(config, at)
    w, big, small, huge = _blank(config), 2.0**80, 2.0**-120, 2.0**110
    _path(config, w, 0, k + 2)
    w[layer.names[1]][:] = huge
    w[net[k + 1].names[0]][:, 0] = 1.0
    below = net[k - 1]
    if below.bias:
        w[below.names[1]][0] = small
    seen = below.names[1] if below.bias else below.names[0]
    x = np.ones((config.batch, FEATURES), np.uint8)
    y = np.ones(config.batch, np.uint8)
    y[0] = 0

    def gradient(row: np.ndarray) -> float:
        w[at][0] = row
        return float(fit(config, x, y, w, backend)[seen].flat[0])

    one = gradient(np.eye(1, layer.fan_out)[0])

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        row = np.zeros(layer.fan_out)
        row[ones] = 1.0
        row[plus], row[minus] = big, -big
        return count(gradient(row), one)

    return ask
