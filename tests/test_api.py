"""The public API, as a user, a type checker and `help` see it."""

import inspect
import io
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nanorepro
from nanorepro import (
    Config,
    ConfigError,
    attribute,
    compare,
    diverge,
    fit,
    initial_parameters,
    load,
    open_results,
    predict,
    save,
    simulate,
)
from tests.support.processors import environment

NAMES = [
    "Config", "ConfigError", "Result", "attribute", "compare", "diverge", "fit",
    "initial_parameters", "load", "open_results", "predict", "save", "simulate",
]  # fmt: skip


def python(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)


def test_all_dir_and_help_know_every_name():
    done = python(
        "import nanorepro; print(nanorepro.__all__, set(nanorepro.__all__) - set(dir(nanorepro)));"
        "from nanorepro import *; print(load, Result)"
    )
    assert done.stderr == "" and done.stdout.startswith(f"{NAMES} set()")
    text = pydoc.plain(pydoc.render_doc(nanorepro))
    for name in NAMES:
        assert f"{name}(" in text or f"class {name}" in text


@pytest.mark.parametrize("name", ["attribute", "compare", "diverge"])
def test_a_function_is_not_hidden_by_the_command_of_its_name(name):
    done = python(
        f"import nanorepro.{name}; from nanorepro import {name}; import nanorepro;"
        f"print({name} is nanorepro.{name}, callable({name}))"
    )
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'nanorepro' has no attribute 'train'"):
        nanorepro.train  # noqa: B018


@pytest.mark.parametrize("module", ["nanorepro", "nanorepro.run"])
def test_nothing_that_is_slow_is_imported(module):
    slow = "{'numpy', 'numba', 'h5py', 'matplotlib', 'scipy', 'xarray'}"
    done = python(
        f"import sys, {module}, nanorepro; dir(nanorepro); print({slow} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("ConfigError", "Config")])
def test_every_function_says_what_it_takes_and_gives(name):
    found = getattr(nanorepro, name)
    text = inspect.getdoc(found)
    if name == "Result":
        assert "Attributes\n-----" in text and "Examples\n-----" in text
        return
    for section in ("Parameters", "Returns", "Raises", *(["Examples"] if name != "load" else [])):
        assert f"{section}\n---" in text, f"{name} has no {section}"
    for parameter in inspect.signature(found).parameters:
        assert f"\n{parameter} : " in text or f"\n{parameter}, " in text, f"{name}: {parameter}"


@pytest.mark.slow
def test_a_type_checker_sees_the_names(tmp_path):
    assert (Path(nanorepro.__file__).parent / "py.typed").exists()
    source = tmp_path / "user.py"
    source.write_text(
        "from nanorepro import Config, Result, fit, initial_parameters, load, save, simulate\n"
        "result: Result = simulate(Config(pairs=2), threads=1)\n"
        "start = initial_parameters(result.config, features=7)\n"
        "one = fit(result.config, [[0]], [1], start)\n"
        "many = fit(result.config, [[0]], [1], [start])\n"
        "reveal_type(one['w0'])\nreveal_type(many[0])\nreveal_type(result.pairs[0].pd)\n"
        "reveal_type(load(save(result, 'runs')).relative_pd)\n"
        "result.no_such\n"
        "from nanorepro import simulte\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(source)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    seen = [line.partition(": ")[2] for line in done.stdout.splitlines() if "user.py" in line]
    assert [line.partition("note: Revealed type is ")[2] for line in seen[2:4]] == ['"float"'] * 2
    assert "ndarray" in seen[0] and "dict[" in seen[1]
    assert seen[4].startswith('error: "Result" has no attribute "no_such"') and len(seen) == 6
    assert seen[5].startswith('error: Module "nanorepro" has no attribute "simulte"')


def test_numbers_and_lists_of_any_kind_are_taken_or_refused():
    assert Config(eval_every=np.int64(5)) == Config(eval_every=5) == Config(eval_every="5")
    assert Config(differ={"init", "shuffle"}) == Config(differ=("init", "shuffle"))
    for wrong in ({"differ": [1, 2]}, {"differ": {1, "init"}}, {"eval_every": 5.0},
                  {"eval_every": True}, {"eval_every": np.array([1, 2])}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: .*; give "):
            Config(**wrong)


SMALL = Config(model="linear", log2_examples=5, log2_eval=2, pairs=1)
REFERENCE = {"backend": "reference", "threads": 1}


@pytest.mark.parametrize("config", [None, {}, "tower", 1])
def test_what_is_no_configuration_is_one_line(config):
    record = {"w0": np.zeros((1, 1)), "b0": np.zeros(1)}
    for call in (
        lambda: simulate(config), lambda: diverge(config), lambda: attribute(config),
        lambda: initial_parameters(config), lambda: fit(config, [[1]], [1], record),
        lambda: predict(config, [[1]], record),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"^config: .* is not allowed; give a nanorepro"):
            call()


ANOTHER_KIND = {
    "path": lambda result: [load(None), load(b"runs"), load(io.BytesIO())],
    "folder": lambda result: [save(result, None)],
    "folder ": lambda result: [open_results(1)],
    "folder  ": lambda result: [diverge(SMALL, folder=1, backend="reference")],
    "folder   ": lambda result: [attribute(SMALL, 1, backend="reference")],
    "result": lambda result: [save(1, "runs")],
    "checkpoint_folder": lambda result: [simulate(SMALL, checkpoint_folder=1, **REFERENCE)],
    "firsts": lambda result: [simulate(SMALL, firsts=1, **REFERENCE)],
    "progress": lambda result: [simulate(SMALL, progress=1, **REFERENCE)],
    "say": lambda result: [simulate(SMALL, say="no", **REFERENCE)],
    "say ": lambda result: [attribute(SMALL, say=1, backend="reference")],
    "checkpoint_minutes": lambda result: [attribute(SMALL, checkpoint_minutes=-1)],
    "sums": lambda result: [attribute(SMALL, sums="no", backend="reference")],
    "floor": lambda result: [attribute(SMALL, floor="a", backend="reference")],
    "threshold": lambda result: [diverge(SMALL, threshold="a", backend="reference")],
    "per_octave": lambda result: [diverge(SMALL, per_octave=0, backend="reference")],
    "per_octave ": lambda result: [diverge(SMALL, per_octave=1.5, backend="reference")],
    "per_octave  ": lambda result: [diverge(SMALL, per_octave=True, backend="reference")],
    "per_octave   ": lambda result: [diverge(SMALL, per_octave=np.True_, backend="reference")],
    "threshold ": lambda result: [diverge(SMALL, threshold=np.True_, backend="reference")],
    "level": lambda result: [compare({"w": [1.0]}, {"w": [1.0]}, level="a")],
    "transpose": lambda result: [compare({"w": [1.0]}, {"w": [1.0]}, transpose=1)],
    "transpose ": lambda result: [compare({"w": [1.0]}, {"w": [1.0]}, transpose={"w": 1})],
    "record": lambda result: [Config.from_record([1])],
    "lr": lambda result: [Config(lr=np.bool_(True))],
    "hidden": lambda result: [Config(hidden=[])],
}


@pytest.fixture(scope="module")
def result():
    return simulate(SMALL, **REFERENCE)


@pytest.mark.parametrize("name", ANOTHER_KIND)
def test_an_argument_of_another_kind_is_one_line(name, result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^{name.strip()}: .* is not allowed; give "):
        ANOTHER_KIND[name](result)
    assert list(tmp_path.iterdir()) == []


def test_a_config_is_read_by_its_fields():
    assert "log2_window" in (Config.__doc__ or "")
