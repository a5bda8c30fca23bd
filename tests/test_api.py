"""The public API, as a user, a type checker and `help` see it."""

import doctest
import importlib
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nanorepro
from nanorepro import Config, ConfigError
from tests.support.processors import environment

NAMES = [
    "Config", "ConfigError", "Result", "attribute", "compare", "diverge", "fit",
    "initial_parameters", "load", "open_results", "predict", "save", "simulate",
]  # fmt: skip
MODULES = [
    "nanorepro", "nanorepro.analysis.comparison", "nanorepro.results.result",
    "nanorepro.results.store", "nanorepro.training.fitting",
    "nanorepro.sweeps.attributing", "nanorepro.training.parameters",
    "nanorepro.training.simulation",
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


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name, monkeypatch):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 0 and results.failed == 0


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
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(source)]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    seen = [line.partition(": ")[2] for line in done.stdout.splitlines() if "user.py" in line]
    assert [line.partition("note: Revealed type is ")[2] for line in seen[2:4]] == ['"float"'] * 2
    assert "ndarray" in seen[0] and "dict[" in seen[1]
    assert seen[4].startswith('error: "Result" has no attribute "no_such"') and len(seen) == 5


def test_numbers_and_lists_of_any_kind_are_taken_or_refused():
    assert Config(eval_every=np.int64(5)) == Config(eval_every=5) == Config(eval_every="5")
    assert Config(differ={"init", "shuffle"}) == Config(differ=("init", "shuffle"))
    for wrong in ({"differ": [1, 2]}, {"differ": {1, "init"}}, {"eval_every": 5.0},
                  {"eval_every": True}, {"eval_every": np.array([1, 2])}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: .*; give "):
            Config(**wrong)


def test_a_config_is_read_by_its_fields():
    assert "log2_window" in (Config.__doc__ or "")
