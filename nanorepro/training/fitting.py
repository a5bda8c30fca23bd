"""The caller's own examples: models trained and evaluated on arrays."""

from collections.abc import Sequence
from typing import overload

import numpy as np

from nanorepro.backends import load_backend
from nanorepro.backends.protocols import Backend
from nanorepro.config import Config, check_config
from nanorepro.data.arrays import check_aligned, examples_of, labels_of
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec
from nanorepro.training.parameters import check_records


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
    """Train one model, or an ensemble, on the caller's examples in the given order.

    Parameters
    ----------
    config : Config
        The model, the optimizer and the arithmetic: the dials of the first model of a pair.
    x : array_like (n, d)
        Examples of d features, 0 and 1 or real numbers, of which the nearest float32 is taken: an
        array, a nested list, a data frame, or a SciPy sparse array; n a multiple of config.batch,
        d any number from 1, for the wide model an even one.
    y : array_like (n,)
        Labels, 0 and 1, or -1 and +1.
    parameters : record or list of records
        Where the training starts: `initial_parameters(config, features=d)`, or what an earlier
        `fit` returned.  A list of records is an ensemble, each of its models trained as it would
        be alone; a dozen small ones and more are trained together in a fraction of the time.
    backend : {"numba", "reference", "cupy"}
        What computes it; changes no bit.

    Returns
    -------
    dict of str to ndarray, or list of them
        The trained record, in the model's precision; a list of them for a list.

    Raises
    ------
    ConfigError
        For examples, labels or parameters that do not fit; the message names what and where.

    Notes
    -----
    Each step takes config.batch examples and follows docs/arithmetic.md, "One step".  The
    optimizer starts anew with every call: AdaGrad's accumulators at config.initial_accumulator,
    SGD's velocity at 0, the step at 0.  Two calls one after the other are therefore not one call
    on all examples.

    Examples
    --------
    >>> import numpy as np
    >>> from nanorepro import Config, fit, initial_parameters, predict
    >>> config = Config(model="linear", lr=1.0)
    >>> x = np.tile([[0, 1], [1, 0]], (32, 1))
    >>> start = initial_parameters(config, features=2)
    >>> trained = fit(config, x, x[:, 0], start, backend="reference")
    >>> predict(config, [[0, 1], [1, 0]], trained, backend="reference") > 0
    array([False,  True])
    """
    check_config(config)
    engine = load_backend(backend)
    check_aligned(x, y, "y")
    taken, spec = _examples(config, x, engine)
    labels = labels_of("y", y)
    if len(taken) != len(labels):
        problem = f"{len(labels)} labels do not fit {len(taken)} examples of x"
        raise ConfigError(problem, "y")
    if len(labels) % config.batch:
        raise ConfigError(f"{len(labels)} examples", "x", f"a multiple of batch, {config.batch}")
    trained = engine.train_models(spec, check_records(spec, parameters), taken, labels)
    return trained if isinstance(parameters, list | tuple) else trained[0]


def predict(
    config: Config,
    x: object,
    parameters: Parameters | Sequence[Parameters],
    backend: str = "numba",
) -> np.ndarray:
    """Logits of the caller's examples, by the first model's dials.

    Parameters
    ----------
    config : Config
        The model and the arithmetic.
    x : array_like (n, d)
        Examples of d features, as for `fit`.
    parameters : record or list of records
        What `fit` returned, or `result.parameters[pair][model]` of a run (d = 32).
    backend : {"numba", "reference", "cupy"}
        What computes it; changes no bit.

    Returns
    -------
    ndarray (n,), or (models, n) for a list of records
        Logits z in the model's precision; p̂(1) = 1/(1 + exp(-z)).

    Raises
    ------
    ConfigError
        For examples or parameters that do not fit.

    Examples
    --------
    >>> from nanorepro import Config, initial_parameters, predict
    >>> config = Config(model="linear", init="zero")
    >>> predict(config, [[0, 1, 1]], initial_parameters(config, features=3), backend="reference")
    array([0.], dtype=float32)
    """
    check_config(config)
    engine = load_backend(backend)
    taken, spec = _examples(config, x, engine)
    records = check_records(spec, parameters)
    logits = np.stack([engine.Model(spec, record).logits(taken) for record in records])
    return logits if isinstance(parameters, list | tuple) else logits[0]


def _examples(config: Config, x: object, engine: Backend) -> tuple[np.ndarray, ModelSpec]:
    """The caller's examples as models take them, and what a model over them is."""
    taken, features, real = examples_of("x", x, engine.pack)
    return taken, ModelSpec(config, features, 0, 0, real)
