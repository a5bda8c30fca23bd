"""A result as the bytes of an HDF5 file, and back; xarray opens such a file as it is.

The bytes are made and read in memory, without the locks that HDF5 takes on files and without what
it does when a disk refuses.  The last line of a file is its seal: the SHA-256 of everything before
it, which HDF5 does not look at.
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import h5py
import numpy as np

from nanorepro.config import CONTRACT, Config, check_sequence, dials
from nanorepro.data.sampling import FEATURES
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters, shapes
from nanorepro.results.provenance import provenance
from nanorepro.results.result import Evaluation, Pair, Result, fingerprint
from nanorepro.specification import layers

FORMAT = "nanorepro result 1"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
SEAL = b"\nsha256 %s\n"
SEAL_BYTES = len(SEAL % (64 * b"0"))


@dataclass(frozen=True)
class Variable:
    """A dataset of the file: its dimensions, type, and what it is."""

    dims: tuple[str, ...]
    dtype: str
    meaning: str


def encode(result: Result) -> bytes:
    """The file of a result."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as f:
        _write(result, f)
    return sealed(buffer.getvalue())


def decode(data: bytes) -> Result:
    """The result of a file, all of it checked; the logits are those of the last checkpoint.

    Raises ConfigError for what is truncated, damaged, foreign or inconsistent.
    """
    content = unsealed(data)
    try:
        with h5py.File(io.BytesIO(content), "r") as f:
            return _read(f)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"not a stored run ({type(error).__name__})") from None


def sealed(content: bytes) -> bytes:
    """The content with its seal."""
    return content + SEAL % hashlib.sha256(content).hexdigest().encode()


def unsealed(data: bytes) -> bytes:
    """The content without its seal; raises ConfigError if that does not fit."""
    if not data.startswith(SIGNATURE):
        raise ConfigError("not an HDF5 file", right="a file <id>.h5 of a run")
    content = data[:-SEAL_BYTES]
    if sealed(content) != data:
        raise ConfigError("truncated or damaged, or not a file of this program")
    return content


def layout(config: Config) -> dict[str, Variable]:
    """The datasets of a run's file; parameters are named as in their record."""
    found = {
        "pattern": Variable(("pattern",), "u4", "evaluation example, feature j in bit j"),
        "count": Variable(("pattern",), "i8", "evaluation examples of the pattern"),
        "log_odds": Variable(("pattern",), "f8", "true log-odds of the label"),
        "logits": Variable(("pair", "model", "pattern"), "f8", "logits after the last step"),
        "pd": Variable(("checkpoint", "pair"), "f8", "relative PD, eq. 3"),
        "loss": Variable(
            ("checkpoint", "pair", "model"), "f8", "excess label loss, eq. 2, in nats"
        ),
        "churn": Variable(("checkpoint", "pair"), "f8", "share of examples classified otherwise"),
        "disagreement": Variable(("checkpoint", "pair"), "f8", "mean |p1 - p2|"),
        "stuck": Variable(("checkpoint", "pair", "model"), "u1", "learned no more than a constant"),
        "diverged": Variable(("checkpoint", "pair", "model"), "u1", "NaN or infinite"),
        "weight_distance": Variable(("pair",), "f8", "distance of the two models' parameters"),
        "weight_correlation": Variable(("pair",), "f8", "correlation of the parameters"),
        "deviation_cosine": Variable(("pair",), "f8", "cosine between w1 - theta and w2 - theta"),
    }
    real = "f8" if "f8" in (_dtype(config, 0), _dtype(config, 1)) else "f4"
    found["logits"] = Variable(found["logits"].dims, real, found["logits"].meaning)
    below = "feature"
    for layer in layers(config, FEATURES):
        above = "unit_" + layer.names[0][1:]  # w0 leads to unit_0
        inner = (below, above)
        if layer.sets > 1:
            inner, above = ("feature_of_set", "embedding"), "embedded"
        for name in layer.names:
            dims = ("pair", "model", *(inner[1:] if name.startswith("b") else inner))
            found[name] = Variable(dims, real, "parameter after the last step")
        below = above
    return found


def contents(result: Result) -> dict[str, np.ndarray]:
    """The arrays of a run's file by name."""

    def measure(name: str) -> np.ndarray:
        return np.array([[getattr(pair, name) for pair in pairs] for pairs in result.series])

    found = {
        "pattern": result.evaluation.x,
        "count": result.evaluation.counts,
        "log_odds": result.evaluation.log_odds,
        "logits": result.logits[:, :, -1],
        "weight_distance": np.array(result.weight_distance),
        "weight_correlation": np.array(result.weight_correlation),
        "deviation_cosine": np.array(result.deviation_cosine),
    }
    for name in ("pd", "loss", "churn", "disagreement", "stuck", "diverged"):
        found[name] = measure(name)
    for name in result.parameters[0][0]:
        found[name] = np.array([[model[name] for model in pair] for pair in result.parameters])
    return {name: found[name].astype(v.dtype) for name, v in layout(result.config).items()}


def _dtype(config: Config, model: int) -> str:
    return "f8" if dials(config, model).precision == "float64" else "f4"


def _sizes(config: Config, patterns: int) -> dict[str, int]:
    """Length of every dimension."""
    sizes = {"pair": config.pairs, "model": 2, "pattern": patterns}
    sizes["checkpoint"] = len(config.checkpoints)
    variables = layout(config)
    for name, shape in shapes(layers(config, FEATURES)).items():
        sizes.update(zip(variables[name].dims[2:], shape, strict=True))
    return sizes


def _write(result: Result, f: h5py.File) -> None:
    config = result.config
    arrays = contents(result)
    scales = _sizes(config, len(result.evaluation.x))
    coordinates = {name: np.arange(n, dtype="i8") for name, n in scales.items()}
    coordinates["checkpoint"] = np.array(result.checkpoints, "i8")
    coordinates["pattern"] = arrays["pattern"]
    for name, values in coordinates.items():
        f.create_dataset(name, data=values).make_scale(name)
    f["checkpoint"].attrs["long_name"] = "mini-batches trained on"
    for name, variable in layout(config).items():
        dataset = f[name] if name in coordinates else f.create_dataset(name, data=arrays[name])
        dataset.attrs["long_name"] = variable.meaning
        if name not in coordinates:
            for axis, dim in enumerate(variable.dims):
                dataset.dims[axis].attach_scale(f[dim])
    f.attrs["format"] = FORMAT
    f.attrs["contract"] = CONTRACT
    f.attrs["id"] = config.id
    f.attrs["config"] = json.dumps(asdict(config))
    f.attrs["fingerprint"] = result.fingerprint
    f.attrs["backend"] = result.backend
    f.attrs["seconds"] = result.seconds
    f.attrs["constant_loss"] = result.constant_loss
    f.attrs["relative_pd"] = result.relative_pd
    f.attrs["relative_pd_interval"] = result.relative_pd_interval
    f.attrs["excess_loss"] = result.excess_loss
    f.attrs["excess_loss_interval"] = result.excess_loss_interval
    f.attrs["provenance"] = json.dumps({**provenance(config), **result.provenance})


def _read(f: h5py.File) -> Result:
    config = _read_config(f)
    patterns = f["pattern"].shape
    if len(patterns) != 1 or not 0 < patterns[0] <= 1 << config.log2_eval:
        raise ConfigError("the number of evaluation patterns is wrong")
    sizes = _sizes(config, patterns[0])
    arrays = {
        name: _read_array(f, name, tuple(sizes[d] for d in v.dims), v.dtype)
        for name, v in layout(config).items()
    }
    names = shapes(layers(config, FEATURES))
    parameters = [
        [{n: arrays[n][k, m].astype(_dtype(config, m)) for n in names} for m in (0, 1)]
        for k in range(config.pairs)
    ]
    _check_values(arrays, parameters, config)
    if fingerprint(parameters) != f.attrs["fingerprint"]:
        raise ConfigError("the parameters are not those of the fingerprint")
    return Result(
        config=config,
        backend=_text(f, "backend"),
        parameters=parameters,
        evaluation=Evaluation(arrays["pattern"], arrays["count"], arrays["log_odds"]),
        logits=arrays["logits"][:, :, None],
        checkpoints=config.checkpoints,
        series=_read_series(arrays),
        weight_distance=arrays["weight_distance"].tolist(),
        weight_correlation=arrays["weight_correlation"].tolist(),
        deviation_cosine=arrays["deviation_cosine"].tolist(),
        constant_loss=float(f.attrs["constant_loss"]),
        fingerprint=_text(f, "fingerprint"),
        seconds=float(f.attrs["seconds"]),
        provenance=_record(f, "provenance"),
    )


def _read_config(f: h5py.File) -> Config:
    if f.attrs.get("format") != FORMAT:
        raise ConfigError("not a stored run of this version of the program")
    if f.attrs["contract"] != CONTRACT:
        problem = f"made under contract {f.attrs['contract']}, this program has {CONTRACT}"
        raise ConfigError(problem, right="a file of the same contract")
    config = Config.from_record(_record(f, "config"))
    check_sequence(config)
    if f.attrs["id"] != config.id:
        raise ConfigError("the id is not that of the configuration")
    return config


def _read_array(f: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A dataset that lies in the file itself, whole, with the shape and type it must have."""
    if not isinstance(f.get(name, getlink=True), h5py.HardLink):
        raise ConfigError(f"{name} is missing")
    dataset = f[name]
    if not isinstance(dataset, h5py.Dataset) or (dataset.shape, dataset.dtype) != (shape, dtype):
        raise ConfigError(f"{name} has not the type {np.dtype(dtype)} and the shape {shape}")
    plain = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if not plain or dataset.external or dataset.id.get_storage_size() != dataset.nbytes:
        raise ConfigError(f"{name} is not in the file")
    return dataset[...]


def _read_series(arrays: dict[str, np.ndarray]) -> list[list[Pair]]:
    def two(name: str, c: int, k: int) -> tuple[Any, Any]:
        first, second = arrays[name][c, k].tolist()
        return first, second

    return [
        [
            Pair(
                pd=float(arrays["pd"][c, k]),
                loss=two("loss", c, k),
                stuck=(arrays["stuck"][c, k, 0] == 1, arrays["stuck"][c, k, 1] == 1),
                diverged=(arrays["diverged"][c, k, 0] == 1, arrays["diverged"][c, k, 1] == 1),
                churn=float(arrays["churn"][c, k]),
                disagreement=float(arrays["disagreement"][c, k]),
            )
            for k in range(arrays["pd"].shape[1])
        ]
        for c in range(arrays["pd"].shape[0])
    ]


def _check_values(
    arrays: dict[str, np.ndarray], parameters: list[list[Parameters]], config: Config
) -> None:
    """What is not finite must belong to a diverged model; counts and flags must be such."""
    for name in ("stuck", "diverged"):
        if arrays[name].max() > 1:
            raise ConfigError(f"{name} is not 0 or 1")
    if arrays["count"].min() < 1 or arrays["count"].sum() != 1 << config.log2_eval:
        raise ConfigError("the counts are not those of the evaluation set")
    if not np.isfinite(arrays["log_odds"]).all():
        raise ConfigError("log_odds has NaN or infinity")
    bad = arrays["diverged"].astype(bool)
    finite = {name: np.isfinite(arrays[name]) for name in ("pd", "churn", "disagreement", "loss")}
    finite["loss"] = finite["loss"].all(axis=2)
    for name, whole in finite.items():
        if not np.logical_or(whole, bad.any(axis=2)).all():
            raise ConfigError(f"{name} has NaN or infinity")
    for k, records in enumerate(parameters):
        for m, model in enumerate(records):
            trained = [*model.values(), arrays["logits"][k, m]]
            if not (bad[-1, k, m] or all(np.isfinite(v).all() for v in trained)):
                raise ConfigError(f"model {m} of pair {k} has NaN or infinity")


def _text(f: h5py.File, name: str) -> str:
    value = f.attrs[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name} is not text")
    return value


def _record(f: h5py.File, name: str) -> dict[str, Any]:
    value = json.loads(_text(f, name))
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is not a record")
    return value
