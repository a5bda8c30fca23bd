"""The caller's own examples: models trained and evaluated on arrays of 0 and 1."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from nanorepro.config import Config
from nanorepro.data import packing
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec
from nanorepro.training.simulation import check_parameters, load_backend


def check_records(config: Config, features: int, parameters: object) -> list[Parameters]:
    """One record or a sequence of them, all checked; raises ConfigError."""
    if not isinstance(parameters, list | tuple):
        return [check_parameters(config, features, parameters)]
    if not parameters:
        raise ConfigError("parameters: an empty list is not allowed; give at least one record")
    return [
        check_parameters(config, features, record, f"parameters[{k}]")
        for k, record in enumerate(parameters)
    ]


@overload
def fit(
    config: Config, x: object, y: object, parameters: Parameters, backend: str = "numba"
) -> Parameters: ...


@overload
def fit(
    config: Config, x: object, y: object, parameters: Sequence[Parameters], backend: str = "numba"
) -> list[Parameters]: ...


def fit(
    config: Config,
    x: object,
    y: object,
    parameters: Parameters | Sequence[Parameters],
    backend: str = "numba",
) -> Parameters | list[Parameters]:
    """Train one model on the caller's examples in the given order, by the first model's dials.

    x (n, d) and y (n,) of 0 and 1, n a multiple of config.batch, d even for the wide model;
    parameters as `initial_parameters` has them, w0 (or e0, e1) for d features, or a list of such
    records: an ensemble, each of its models trained as it would be alone.  A dozen small ones and
    more are trained side by side, in a fraction of the time.  The optimizer starts anew.

    Returns the trained record, or a list of them; raises ConfigError for anything else.
    """
    engine = load_backend(backend)
    packed, features = packing.packed_examples("x", x, engine.pack)
    labels = packing.binary_labels("y", y)
    if len(packed) != len(labels):
        raise ConfigError(f"y: {len(labels)} labels do not fit {len(packed)} examples of x")
    if len(labels) % config.batch:
        raise ConfigError(f"x: {len(labels)} examples; give a multiple of batch, {config.batch}")
    records = check_records(config, features, parameters)
    trained = engine.train_models(ModelSpec(config, features, 0, 0), records, packed, labels)
    return trained if isinstance(parameters, list | tuple) else trained[0]


def predict(
    config: Config,
    x: object,
    parameters: Parameters | Sequence[Parameters],
    backend: str = "numba",
) -> np.ndarray:
    """Logits (n,) of examples x (n, d) of 0 and 1, in the first model's precision.

    Of a list of records (models, n).
    """
    engine = load_backend(backend)
    packed, features = packing.packed_examples("x", x, engine.pack)
    spec = ModelSpec(config, features, 0, 0)
    records = check_records(config, features, parameters)
    logits = np.stack([engine.Model(spec, record).logits(packed) for record in records])
    return logits if isinstance(parameters, list | tuple) else logits[0]
