"""Initial values: weights uniform in ±limit (`initializers`), biases 0 (section 2)."""

import numpy as np

from nanorepro.model.initializers import EMBEDDING_LIMIT, INITIALIZERS
from nanorepro.model.layers import Layer, Parameters, shapes
from nanorepro.numerics.array_namespace import Function
from nanorepro.numerics.streams import uniform


def initial_values(
    net: tuple[Layer, ...], init: str, key: np.ndarray, uniform: Function = uniform
) -> Parameters:
    """Initial parameters, float64: w = limit·(2u - 1), biases 0.

    Parameters
    ----------
    net : tuple of Layer
        The layers.
    init : str
        The initializer's name, which says the limit; that of embeddings is ±0.05.
    key : np.ndarray
        (2,) uint64, the key of the stream `init`: the k-th parameter draws u from its block k.
    uniform : callable
        `streams.uniform`, or a backend's.
    """
    initializer, values = INITIALIZERS[init], {}
    for block, (name, shape) in enumerate(shapes(net).items()):
        limit = 0.0 if name.startswith("b") else initializer.limit(*shape)
        if limit == 0.0:
            values[name] = np.zeros(shape)
            continue
        limit = EMBEDDING_LIMIT if name.startswith("e") else limit
        u = uniform(key, shape[0] * shape[1], block)
        values[name] = (limit * (2.0 * u - 1.0)).reshape(shape)
    return values
