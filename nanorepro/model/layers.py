"""What is trained: layers, activations, initial values (sections 3 to 6, figures 1 and 5)."""

from dataclasses import dataclass

import numpy as np

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.numerics.streams import stream_key, uniform

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One layer: fan_out units over fan_in inputs.

    A layer of embeddings is `sets` tables side by side: inputs in `sets` equal parts, each with
    fan_out/sets outputs of its own, no bias.
    """

    names: tuple[str, ...]  # parameters, weights before bias
    fan_in: int
    fan_out: int
    sets: int
    bias: bool
    active: bool  # followed by the activation

    @property
    def row(self) -> int:
        """Outputs that one input reaches."""
        return self.fan_out // self.sets


def layers(config: Config, features: int) -> tuple[Layer, ...]:
    """The layers of a model over `features` binary inputs, from the inputs up."""
    found = []
    fan_in = features
    if config.model == "wide":
        if features % 2:
            raise ConfigError(f"x: {features} features are not two equal sets; give an even number")
        found.append(Layer(("e0", "e1"), features, 4, 2, bias=False, active=False))
        fan_in = 4
    for k, fan_out in enumerate((*config.widths, 1)):
        active = k < len(config.widths)
        found.append(Layer((f"w{k}", f"b{k}"), fan_in, fan_out, 1, bias=True, active=active))
        fan_in = fan_out
    return tuple(found)


def shapes(net: tuple[Layer, ...]) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, in the order of the fingerprint."""
    found: dict[str, tuple[int, ...]] = {}
    for layer in net:
        for name in layer.names:
            if name.startswith("b"):
                found[name] = (layer.fan_out,)
            else:
                found[name] = (layer.fan_in // layer.sets, layer.row)
    return found


def initial_values(config: Config, net: tuple[Layer, ...], pair: int, model: int) -> Parameters:
    """Initial parameters in float64, Keras's: Glorot uniform, embeddings ±0.05, biases 0.

    w = limit·(2u - 1), limit = sqrt(6/(fan_in + fan_out)) or 0.05, u from the `init` stream: the
    k-th parameter from block k.  `--init` zero and uniform (±0.05) hold for all weights.
    """
    key = stream_key(config.seed, "init", pair, model if "init" in config.roles else 0)
    values = {}
    for block, (name, shape) in enumerate(shapes(net).items()):
        if name.startswith("b") or config.init == "zero":
            values[name] = np.zeros(shape)
            continue
        small = name.startswith("e") or config.init == "uniform"
        limit = 0.05 if small else np.sqrt(6.0 / (shape[0] + shape[1]))
        u = uniform(key, shape[0] * shape[1], block)
        values[name] = (limit * (2.0 * u - 1.0)).reshape(shape)
    return values
