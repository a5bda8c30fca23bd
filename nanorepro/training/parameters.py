"""Records of parameters: those before training, and the caller's, checked and rounded."""

from collections.abc import Mapping

import numpy as np

from nanorepro.arguments import whole_within
from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.config import Config, check_config
from nanorepro.data.options import WORLD_FEATURES
from nanorepro.errors import ConfigError
from nanorepro.model.initial_values import initial_values
from nanorepro.model.layers import Parameters, shapes
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.array_namespace import Function
from nanorepro.numerics.rounding import operations
from nanorepro.numerics.streams import uniform
from nanorepro.specification import ModelSpec

MOST_FEATURES = 1 << 20


def initial_parameters(
    config: Config, pair: int = 0, model: int = 0, features: int = WORLD_FEATURES
) -> Parameters:
    """The parameters of one model before training.

    Parameters
    ----------
    config : Config
        The run; `init`, `seed`, `differ` and the model's precision decide the values.
    pair : int
        From 0 to config.pairs - 1.
    model : int
        0 or 1, the first or second model of the pair.  They start apart only if the pairs differ
        in `init`, in `nudge`, or in precision.
    features : int
        Features of an example: 32 in the paper's worlds, else the columns of x.

    Returns
    -------
    dict of str to ndarray
        The record, in the model's precision (float64 or float32): weights "w0" (fan_in, fan_out),
        "w1", ... and biases "b0" (fan_out,), "b1", ...; the wide model's embeddings "e0", "e1"
        (features/2, 2) come before "w0".  Weights are Glorot uniform,
        limit·(2u - 1) with limit = sqrt(6/(fan_in + fan_out)), embeddings ±0.05, biases 0,
        u from the stream `init` of (seed, pair).

    Raises
    ------
    ConfigError
        If there is no such pair or model, or `features` does not fit the model.

    Examples
    --------
    >>> from nanorepro import Config, initial_parameters
    >>> config = Config(model="double", pairs=2)
    >>> {name: value.shape for name, value in initial_parameters(config, features=7).items()}
    {'w0': (7, 2), 'b0': (2,), 'w1': (2, 1), 'b1': (1,)}
    """
    check_config(config)
    pair = whole_within("pair", pair, 0, config.pairs - 1)
    model = whole_within("model", model, 0, 1)
    spec = ModelSpec(config, whole_within("features", features, 1, MOST_FEATURES), pair, model)
    return initial_record(spec, uniform)


def initial_record(spec: ModelSpec, uniform: Function) -> Parameters:
    """`initial_parameters` of a specification, drawn by `streams.uniform` or a backend's."""
    key = spec.key("init")
    return starting_record(spec, initial_values(spec.net, spec.config.init, key, uniform))


def starting_record(spec: ModelSpec, values: Parameters) -> Parameters:
    """Values in the model's precision; of the second model of a pair, nudged if they differ so."""
    found = in_precision(spec, values)
    return nudged(spec, found) if nudge_step(spec) == 0 else found


def in_precision(spec: ModelSpec, values: Parameters, name: str = "parameters") -> Parameters:
    """Finite values in the model's precision; raises ConfigError for one that is infinite there."""
    d = spec.dials
    ops = operations(numpy_arrays, d.precision, "nearest", d.fma)
    found = {}
    for key, value in values.items():
        with np.errstate(over="ignore"):
            found[key] = np.asarray(ops.const(value), ops.dtype)
        too_large = ~np.isfinite(found[key])
        if too_large.any():
            first = float(value[too_large][0])
            problem = f"{key} has {first:g}, which is infinite in the precision {d.precision}"
            raise ConfigError(problem, name, "smaller numbers")
    return found


def check_parameters(spec: ModelSpec, parameters: object, name: str = "parameters") -> Parameters:
    """A caller's record with the names and shapes of the model, in its precision.

    Raises ConfigError for anything else.
    """
    expected = shapes(spec.net)
    if not isinstance(parameters, Mapping) or set(parameters) != set(expected):
        right = f"a dict of {', '.join(expected)}, as initial_parameters returns it"
        raise ConfigError("not a record of this model", name, right)
    found = {}
    for key, shape in expected.items():
        value = np.asanyarray(parameters[key])
        if value.shape != shape or value.dtype.kind != "f":
            problem = f"{key} is {value.dtype} {value.shape}"
            raise ConfigError(problem, name, f"floats of shape {shape}")
        if np.ma.is_masked(value):
            raise ConfigError(f"{key} has masked entries", name, "finite numbers")
        value = np.asarray(value)
        if not np.isfinite(value).all():
            raise ConfigError(f"{key} has NaN or infinity", name, "finite numbers")
        found[key] = value + 0.0  # -0 becomes +0, as everywhere in the contract
    return in_precision(spec, found, name)


def check_records(spec: ModelSpec, parameters: object) -> list[Parameters]:
    """One record or a sequence of them, all checked; raises ConfigError."""
    if not isinstance(parameters, list | tuple):
        return [check_parameters(spec, parameters)]
    if not parameters:
        raise ConfigError("an empty list is not allowed", "parameters", "at least one record")
    return [
        check_parameters(spec, record, f"parameters[{k}]") for k, record in enumerate(parameters)
    ]
