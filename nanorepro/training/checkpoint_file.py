"""A run in the middle of its training as the bytes of an HDF5 file, and back.

    /                       attributes: format, contract, id, config, times
    /0, /1                  the first and the second models of the pairs that were begun:
        pair, step          which pair, and how many mini-batches it was trained on
        logits              (checkpoints passed by all of them, patterns)
        parameters/NAME     (models, ...), each array of their records
        state/ARRAY/NAME    the same of the optimizer, of those that are not at their last step

The bytes are sealed as those of a result (`results.hdf5`): a file that was truncated or changed
anywhere is refused, and so is one of another run, contract or version.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import h5py
import numpy as np

from nanorepro.backends.protocols import Snapshot
from nanorepro.config import CONTRACT, Config
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Parameters, shapes
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.results.hdf5 import read_array, read_config, read_text, read_whole, seal_of
from nanorepro.results.labelled import dtype_of
from nanorepro.specification import layers
from nanorepro.training.run_state import RunState

FORMAT = "nanorepro checkpoint 1"
KIND = "a checkpoint of a run"


def encode(state: RunState) -> memoryview:
    """The file of a run in the middle; there is no second copy of it in memory."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as f:
        f.attrs.update({
            "format": FORMAT, "contract": CONTRACT, "id": state.config.id,
            "config": json.dumps(asdict(state.config)), "seconds": state.seconds,
            "started": state.started, "written": state.written, "resumed": state.resumed,
        })  # fmt: skip
        for m in (0, 1):
            of = {pair: one for (pair, model), one in state.models.items() if model == m}
            for name, values in _arrays(state.config, m, of):
                f.create_dataset(f"{m}/{name}", data=values)
    seal = seal_of(buffer.getbuffer())
    buffer.seek(0, io.SEEK_END)
    buffer.write(seal)
    return buffer.getbuffer()


def decode(data: bytes) -> RunState:
    """The run of a file, all of it checked; raises ConfigError for what cannot be used."""
    return read_whole(data, _state, KIND)


def _state(f: h5py.File) -> RunState:
    config = read_config(f, FORMAT)
    models = {(pair, m): one for m in (0, 1) for pair, one in _models(f, config, m)}
    times = {name: read_text(f, name) for name in ("started", "written", "resumed")}
    seconds = float(f.attrs["seconds"])
    if not 0.0 <= seconds < np.inf:
        raise ConfigError("seconds is not a time")
    return RunState(config, models, seconds, **times)


def config_of(data: bytes) -> Config:
    """The configuration of the run of a file; raises ConfigError as `decode` does."""
    return read_whole(data, lambda f: read_config(f, FORMAT), KIND)


def _arrays(
    config: Config, model: int, of: Mapping[int, Snapshot]
) -> Iterator[tuple[str, np.ndarray]]:
    """The datasets of the first or the second models, one by one; `of` holds them by pair."""
    yield "pair", np.array(list(of), "i8")
    yield "step", np.array([one.step for one in of.values()], "i8")
    if not of:
        return
    dtype = dtype_of(config, model)
    yield "logits", np.concatenate([one.logits for one in of.values()], dtype=dtype)
    records = {"parameters": [one.parameters for one in of.values()]}
    states = [one.state for one in of.values() if one.step < config.steps]
    for name in OPTIMIZERS[config.optimizer].state if states else ():
        records[f"state/{name}"] = [state[name] for state in states]
    for where, some in records.items():
        for name in some[0]:
            yield f"{where}/{name}", np.stack([record[name] for record in some], dtype=dtype)


def _models(f: h5py.File, config: Config, model: int) -> list[tuple[int, Snapshot]]:
    """The first or the second models of a file with their pairs, checked."""
    count = _length(f, f"{model}/pair")
    pairs, steps = (
        read_array(f, f"{model}/{name}", (count,), "i8").tolist() for name in ("pair", "step")
    )
    if len(set(pairs)) < count or not all(0 <= pair < config.pairs for pair in pairs):
        raise ConfigError("its pairs are not those of the run")
    if not all(0 < step <= config.steps for step in steps):
        raise ConfigError("its steps are not those of the run")
    if not count:
        return []
    dtype = dtype_of(config, model)
    passed = [sum(c <= step for c in config.checkpoints) for step in steps]
    begins = np.cumsum([0, *passed])
    patterns = f[f"{model}/logits"].shape[-1]
    logits = read_array(f, f"{model}/logits", (begins[-1], patterns), dtype)
    parameters = _records(f, f"{model}/parameters", config, count, dtype)
    left = [k for k, step in enumerate(steps) if step < config.steps]
    names = OPTIMIZERS[config.optimizer].state if left else ()
    states: list[dict[str, Any]] = [{} for _ in steps]
    for name in names:
        records = _records(f, f"{model}/state/{name}", config, len(left), dtype)
        for k, record in zip(left, records, strict=True):
            states[k][name] = record
    return [
        (pair, Snapshot(step, w, state, logits[low:high]))
        for pair, step, w, state, low, high in zip(
            pairs, steps, parameters, states, begins[:-1], begins[1:], strict=True
        )
    ]


def _records(f: h5py.File, where: str, config: Config, count: int, dtype: str) -> list[Parameters]:
    arrays = {
        name: read_array(f, f"{where}/{name}", (count, *shape), dtype)
        for name, shape in shapes(layers(config, config.features)).items()
    }
    return [{name: values[k] for name, values in arrays.items()} for k in range(count)]


def _length(f: h5py.File, name: str) -> int:
    """The length of a dataset of one dimension."""
    (n,) = f[name].shape
    return int(n)
