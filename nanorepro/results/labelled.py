"""A result as labelled arrays: names, dimensions, units and meanings, for the store and xarray."""

import json
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from nanorepro.config import CONTRACT, Config
from nanorepro.dials import dials
from nanorepro.errors import ConfigError
from nanorepro.model.layers import shapes
from nanorepro.results.metrics import metrics_of
from nanorepro.results.provenance import provenance
from nanorepro.specification import layers

if TYPE_CHECKING:
    import xarray

    from nanorepro.results.result import Result

FORMAT = "nanorepro result 1"


@dataclass(frozen=True)
class Variable:
    """An array of a result: its dimensions, type, what it is, and its unit ("" of labels)."""

    dims: tuple[str, ...]
    dtype: str
    meaning: str
    unit: str = ""

    @property
    def attributes(self) -> dict[str, str]:
        named = {"long_name": self.meaning}
        return {**named, "units": self.unit} if self.unit else named


def variables(config: Config) -> dict[str, Variable]:
    """The arrays of a run by name; parameters are named as in their record."""
    real = "f8" if "f8" in (dtype_of(config, 0), dtype_of(config, 1)) else "f4"
    found = {
        "pattern": Variable(("pattern",), "u4", "evaluation example, feature j in bit j"),
        "count": Variable(("pattern",), "i8", "evaluation examples of the pattern", "1"),
    }
    if config.is_given:
        found["pattern"] = Variable(("pattern",), "u4", "place of the evaluation example")
        found["label"] = Variable(("pattern",), "u1", "label of the evaluation example", "1")
    else:
        found["log_odds"] = Variable(("pattern",), "f8", "true log-odds of the label", "1")
    found |= {
        "logits": Variable(("pair", "model", "pattern"), real, "logits after the last step", "1"),
    }
    for name, metric in metrics_of(config).items():
        found[name] = Variable(metric.dims, metric.dtype, metric.meaning, metric.unit)
    below = "feature"
    for layer in layers(config, config.features):
        above = "unit_" + layer.names[0][1:]  # w0 leads to unit_0
        inner = (below, above)
        if layer.sets > 1:
            inner, above = ("feature_of_set", "embedding"), "embedded"
        for name in layer.names:
            dims = ("pair", "model", *(inner[1:] if name.startswith("b") else inner))
            found[name] = Variable(dims, real, "parameter after the last step", "1")
        below = above
    return found


def contents(result: "Result") -> dict[str, np.ndarray]:
    """The values of these arrays."""
    found = {
        "pattern": result.evaluation.x,
        "count": result.evaluation.counts,
        "logits": result.logits[:, :, -1],
        **result.measures,
    }
    truth = {"log_odds": result.evaluation.log_odds, "label": result.evaluation.labels}
    found |= {name: values for name, values in truth.items() if values is not None}
    for name in result.parameters[0][0]:
        found[name] = np.array([[model[name] for model in pair] for pair in result.parameters])
    return {name: found[name].astype(v.dtype) for name, v in variables(result.config).items()}


def sizes(config: Config, patterns: int) -> dict[str, int]:
    """Length of every dimension."""
    found = {"pair": config.pairs, "model": 2, "pattern": patterns}
    found["checkpoint"] = len(config.checkpoints)
    named = variables(config)
    for name, shape in shapes(layers(config, config.features)).items():
        found.update(zip(named[name].dims[2:], shape, strict=True))
    return found


def coordinates(result: "Result") -> dict[str, tuple[np.ndarray, dict[str, str]]]:
    """The values along every dimension, and what they are."""
    found: dict[str, tuple[np.ndarray, dict[str, str]]] = {}
    for name, n in sizes(result.config, len(result.evaluation.x)).items():
        found[name] = np.arange(n, dtype="i8"), {}
    steps = np.array(result.checkpoints, "i8")
    found["checkpoint"] = steps, {"long_name": "mini-batches trained on"}
    pattern = variables(result.config)["pattern"]
    found["pattern"] = result.evaluation.x.astype(pattern.dtype), pattern.attributes
    return found


def attributes(result: "Result") -> dict[str, Any]:
    """What holds for the whole run."""
    return {
        "format": FORMAT,
        "contract": CONTRACT,
        "id": result.config.id,
        "config": json.dumps(asdict(result.config)),
        "fingerprint": result.fingerprint,
        "backend": result.backend,
        "seconds": result.seconds,
        "constant_loss": result.constant_loss,
        "relative_pd": result.relative_pd,
        "relative_pd_interval": np.array(result.relative_pd_interval),
        "excess_loss": result.excess_loss,
        "excess_loss_interval": np.array(result.excess_loss_interval),
        "provenance": json.dumps(result.provenance or provenance(result.config)),
    }


def xarray_module() -> Any:
    """The library, which is wanted only here; raises ConfigError where it is not installed."""
    try:
        return import_module("xarray")
    except ImportError:
        problem = "xarray is not installed; pip install 'nanorepro[xarray]'"
        raise ConfigError(problem) from None


def to_xarray(result: "Result") -> "xarray.Dataset":
    """`Result.to_xarray`."""
    along = coordinates(result)
    named, arrays = variables(result.config), contents(result)
    dataset: xarray.Dataset = xarray_module().Dataset(
        {
            name: (variable.dims, arrays[name], variable.attributes)
            for name, variable in named.items()
            if name not in along
        },
        {name: (name, values, meaning) for name, (values, meaning) in along.items()},
        attributes(result),
    )
    return dataset


def dtype_of(config: Config, model: int) -> str:
    """The type that holds a model's precision."""
    return "f8" if dials(config, model).precision == "float64" else "f4"
