"""What is trained: layers, and their parameters before training (sections 3 to 6)."""

from dataclasses import dataclass

import numpy as np

from nanorepro.errors import ConfigError

Parameters = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One layer: fan_out units over fan_in inputs.

    A layer of embeddings is `sets` tables side by side: inputs in `sets` equal parts, each with
    fan_out/sets outputs of its own, no bias.

    Attributes
    ----------
    names : tuple of str
        Its parameters, weights before bias.
    fan_in, fan_out : int
        Inputs and outputs.
    sets : int
        Tables of embeddings; 1 for a layer of units.
    bias : bool
        Whether it has one.
    active : bool
        Whether the activation follows.
    """

    names: tuple[str, ...]
    fan_in: int
    fan_out: int
    sets: int
    bias: bool
    active: bool

    @property
    def row(self) -> int:
        """Outputs that one input reaches."""
        return self.fan_out // self.sets


def make_layers(widths: tuple[int, ...], embeddings: int, features: int) -> tuple[Layer, ...]:
    """The layers of a model, from the inputs up.

    Parameters
    ----------
    widths : tuple of int
        Units of each hidden layer.
    embeddings : int
        Outputs of each of the two tables of embeddings below them; 0 without.
    features : int
        Binary inputs; an even number with embeddings.

    Raises
    ------
    ConfigError
        For an odd number of features that are to be two equal sets.
    """
    found, fan_in = [], features
    if embeddings:
        if features % 2:
            raise ConfigError(f"x: {features} features are not two equal sets; give an even number")
        found.append(Layer(("e0", "e1"), features, 2 * embeddings, 2, bias=False, active=False))
        fan_in = 2 * embeddings
    for k, fan_out in enumerate((*widths, 1)):
        active = k < len(widths)
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
