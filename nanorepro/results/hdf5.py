"""A result as the bytes of an HDF5 file, and back; xarray opens such a file as it is.

The bytes are made and read in memory, without the locks that HDF5 takes on files and without what
it does when a disk refuses.  The last line of a file is its seal: the SHA-256 of everything before
it, which HDF5 does not look at.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

import h5py
import numpy as np

from nanorepro.config import CONTRACT, Config, check_sequence
from nanorepro.data.tensors.opening import HDF5
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters, shapes
from nanorepro.results.labelled import (
    FORMAT,
    attributes,
    contents,
    coordinates,
    dtype_of,
    sizes,
    variables,
)
from nanorepro.results.metrics import metrics_of
from nanorepro.results.result import Evaluation, Result, check_fingerprint, fingerprint
from nanorepro.specification import layers

Found = TypeVar("Found")
SEAL = b"\nsha256 %s\n"
SEAL_BYTES = len(SEAL % (64 * b"0"))


class LeftAlone(ConfigError):
    """A file that cannot be read now, of which nothing says that it is damaged."""


class OtherVersion(LeftAlone):
    """A sound file that this version of the program cannot read."""


def encode(result: Result) -> bytes:
    """The file of a result; raises ConfigError where `check_fingerprint` does."""
    check_fingerprint(result)
    with h5py.File("in memory", "w", driver="core", backing_store=False) as f:
        _write(result, f.id)
        f.flush()
        content: bytes = f.id.get_file_image()
    return sealed(content)


def decode(data: bytes) -> Result:
    """The result of a file, all of it checked; the logits are those of the last checkpoint.

    Raises ConfigError for what is truncated, damaged, foreign or inconsistent.
    """
    return read_whole(data, _read, "a stored run")


def read_whole(data: bytes, read: Callable[[h5py.File], Found], kind: str) -> Found:
    """What is read of a file whose seal fits; raises ConfigError for any that is not of a kind."""
    content = unsealed(data)
    try:
        with h5py.File(io.BytesIO(content), "r") as f:
            return read(f)
    except (ConfigError, MemoryError):  # of the latter the file is not to blame
        raise
    except Exception as error:
        raise ConfigError(f"not {kind} ({type(error).__name__})") from None


def sealed(content: bytes) -> bytes:
    """The content with its seal."""
    return content + seal_of(content)


def seal_of(content: "bytes | memoryview") -> bytes:
    """The seal of some content."""
    return SEAL % hashlib.sha256(content).hexdigest().encode()


def unsealed(data: bytes) -> bytes:
    """The content without its seal; raises ConfigError if that does not fit."""
    if not data.startswith(HDF5):
        raise ConfigError("not an HDF5 file", right="a file <id>.h5 of a run")
    content = data[:-SEAL_BYTES]
    if sealed(content) != data:
        raise ConfigError("truncated or damaged, or not a file of this program")
    return content


# The arrays are written and read by HDF5's own functions: what h5py's do besides takes longer than
# the training of a short run.


def _write(result: Result, f: h5py.h5f.FileID) -> None:
    arrays, along = contents(result), coordinates(result)
    scales = {}
    for name, (values, meaning) in along.items():
        scales[name] = _write_array(f, name, values)
        h5py.h5ds.set_scale(scales[name], name.encode())
        _describe(scales[name], meaning)
    for name, variable in variables(result.config).items():
        if name in along or name in result.absent:
            continue
        dataset = _write_array(f, name, arrays[name])
        _describe(dataset, variable.attributes)
        for axis, dim in enumerate(variable.dims):
            h5py.h5ds.attach_scale(dataset, scales[dim], axis)
    _describe(f, attributes(result))


def _write_array(f: h5py.h5f.FileID, name: str, values: np.ndarray) -> h5py.h5d.DatasetID:
    values = np.ascontiguousarray(values)
    kind = h5py.h5t.py_create(values.dtype, logical=True)
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_obj_track_times(False)  # the same result gives the same bytes whenever it is written
    dataset = h5py.h5d.create(f, name.encode(), kind, h5py.h5s.create_simple(values.shape), plan)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return dataset


def _describe(of: h5py.h5g.GroupID, meaning: Mapping[str, Any]) -> None:
    """Give a file or an array its attributes: texts, numbers, and arrays of numbers."""
    for name, value in meaning.items():
        array = np.array(value, h5py.string_dtype()) if isinstance(value, str) else np.array(value)
        kind, memory = (h5py.h5t.py_create(array.dtype, logical=k) for k in (True, False))
        attribute = h5py.h5a.create(of, name.encode(), kind, h5py.h5s.create_simple(array.shape))
        attribute.write(array, mtype=memory)


def _read(f: h5py.File) -> Result:
    config = read_config(f)
    patterns = f["pattern"].shape
    if len(patterns) != 1 or not 0 < patterns[0] <= config.evaluation_examples:
        raise ConfigError("the number of evaluation patterns is wrong")
    length, stored, metrics = sizes(config, patterns[0]), set(f), metrics_of(config)
    absent = frozenset(metrics) - stored
    arrays = {}
    for name, v in variables(config).items():
        shape = tuple(length[d] for d in v.dims)
        if name in absent:
            arrays[name] = np.full(shape, 0 if metrics[name].flag else np.nan, v.dtype)
        else:
            arrays[name] = read_array(f, name, shape, v.dtype)
    names, kinds = (
        shapes(layers(config, config.features)),
        (dtype_of(config, 0), dtype_of(config, 1)),
    )
    parameters = [
        [{n: arrays[n][k, m].astype(kinds[m]) for n in names} for m in (0, 1)]
        for k in range(config.pairs)
    ]
    _check_values(arrays, parameters, config, {name for name in metrics if name not in absent})
    if fingerprint(parameters) != f.attrs["fingerprint"]:
        raise ConfigError("the parameters are not those of the fingerprint")
    return Result(
        config=config,
        backend=read_text(f, "backend"),
        parameters=parameters,
        evaluation=Evaluation(
            arrays["pattern"], arrays["count"], arrays.get("log_odds"), arrays.get("label")
        ),
        logits=arrays["logits"][:, :, None],
        checkpoints=config.checkpoints,
        measures={
            name: arrays[name].astype(bool) if metric.flag else arrays[name]
            for name, metric in metrics.items()
        },
        constant_loss=float(f.attrs["constant_loss"]),
        fingerprint=read_text(f, "fingerprint"),
        seconds=float(f.attrs["seconds"]),
        provenance=read_record(f, "provenance"),
        absent=absent,
    )


def read_config(f: h5py.File, expected: str = FORMAT) -> Config:
    """The run that a file of some format says it is of, checked."""
    format = f.attrs.get("format")
    if format != expected:
        if isinstance(format, str) and format.startswith(expected[:-1]):
            raise OtherVersion(f"made by another version of nanorepro, as {format!r}")
        raise ConfigError("not a stored run of this version of the program")
    if f.attrs["contract"] != CONTRACT:
        problem = f"made under contract {f.attrs['contract']}, this program has {CONTRACT}"
        raise OtherVersion(problem, right="a file of the same contract")
    record = read_record(f, "config")
    try:
        config = Config.from_record(record)
    except ConfigError as error:
        newer = set(record) - {field.name for field in fields(Config)}
        raise OtherVersion(str(error)) if newer else error from None
    check_sequence(config)
    if f.attrs["id"] != config.id:
        raise ConfigError("the id is not that of the configuration")
    return config


def read_array(f: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A dataset that lies in the file itself, whole, with the shape and type it must have."""
    at = name.encode()
    links = f.id.links
    if not links.exists(at) or links.get_info(at).type != h5py.h5l.TYPE_HARD:
        raise ConfigError(f"{name} is missing")
    dataset = h5py.h5o.open(f.id, at)
    right = isinstance(dataset, h5py.h5d.DatasetID) and dataset.shape == shape
    if not right or dataset.dtype != dtype:
        raise ConfigError(f"{name} has not the type {np.dtype(dtype)} and the shape {shape}")
    values = np.empty(shape, dtype)
    plan = dataset.get_create_plist()
    plain = plan.get_layout() == h5py.h5d.CONTIGUOUS and not plan.get_external_count()
    if not plain or dataset.get_storage_size() != values.nbytes:
        raise ConfigError(f"{name} is not in the file")
    dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values


def _check_values(
    arrays: dict[str, np.ndarray],
    parameters: list[list[Parameters]],
    config: Config,
    stored: set[str],
) -> None:
    """What is not finite must belong to a diverged model; counts and flags must be such."""
    metrics = metrics_of(config)
    for name in (*(n for n, metric in metrics.items() if metric.flag), "label"):
        if name in arrays and arrays[name].max() > 1:
            raise ConfigError(f"{name} is not 0 or 1")
    if arrays["count"].min() < 1 or arrays["count"].sum() != config.evaluation_examples:
        raise ConfigError("the counts are not those of the evaluation set")
    if not np.isfinite(arrays.get("log_odds", 0.0)).all():
        raise ConfigError("log_odds has NaN or infinity")
    bad = arrays["diverged"].astype(bool)
    for name in stored:
        metric = metrics[name]
        whole = np.isfinite(arrays[name])
        whole = whole.all(axis=2) if metric.by_model else whole
        if not (metric.of_diverged or np.logical_or(whole, bad.any(axis=2)).all()):
            raise ConfigError(f"{name} has NaN or infinity")
    for k, records in enumerate(parameters):
        for m, model in enumerate(records):
            trained = [*model.values(), arrays["logits"][k, m]]
            if not (bad[-1, k, m] or all(np.isfinite(v).all() for v in trained)):
                raise ConfigError(f"model {m} of pair {k} has NaN or infinity")


def read_text(f: h5py.File, name: str) -> str:
    """An attribute that must be text."""
    value = f.attrs[name]
    if not isinstance(value, str):
        raise ConfigError(f"{name} is not text")
    return value


def read_record(f: h5py.File, name: str) -> dict[str, Any]:
    """An attribute that must be a JSON object."""
    value = json.loads(read_text(f, name))
    if not isinstance(value, dict):
        raise ConfigError(f"{name} is not a record")
    return value
