"""Documentation that is checked: examples run, and every attribute of a record is described."""

import dataclasses
import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

import nanorepro

ROOT = Path(nanorepro.__file__).parent

DOCUMENTED = [
    "analysis.comparison", "analysis.configuration", "analysis.difference",
    "analysis.distance_counts", "analysis.matching", "analysis.tensor_pair",
    "analysis.replicates", "analysis.rounding_test", "analysis.compared", "data.files",
    "data.tensors.arrays", "data.tensors.opening", "data.tensors.record", "data.tensors.values",
    "numerics.ulp", "text",
    "errors", "parsing", "settings", "config", "specification", "data.distributions", "data.worlds",
    "model.activations", "model.architectures", "model.initializers", "model.layers",
    "model.optimizers", "model.optimizers.shared", "numerics.accumulators",
    "numerics.array_namespace", "numerics.trees",
    "probing.formats", "probing.functions", "probing.showing", "probing.trees",
    "training.compiling", "training.signals", "plots.style", "paper.claims", "paper.curves",
    "paper.csv_table", "paper.record", "paper.rows", "commands.common", "commands.console",
    "commands.parser",
]  # fmt: skip


def module_of(name):
    return import_module("nanorepro." + name)


def with_examples():
    """The modules of the package that have examples."""
    for path in sorted(ROOT.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(("nanorepro", *(p for p in parts if p != "__init__")))


@pytest.mark.parametrize("name", list(with_examples()))
def test_examples_give_what_they_say(name):
    found = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0 and found.failed == 0


def test_the_public_functions_have_examples():
    found = set(with_examples())
    for name in set(nanorepro.__all__) - {"ConfigError"}:
        assert getattr(nanorepro, name).__module__ in found, name


def records():
    """The frozen records of these modules that have fields."""
    for name in DOCUMENTED:
        for kind in vars(module_of(name)).values():
            if (
                inspect.isclass(kind)
                and dataclasses.is_dataclass(kind)
                and kind.__module__ == "nanorepro." + name
                and not kind.__name__.endswith(("Settings", "Setting", "Choice"))
            ):
                yield kind


@pytest.mark.parametrize("kind", list(records()), ids=lambda kind: kind.__name__)
def test_every_attribute_is_described(kind):
    described = [
        name.strip()
        for line in kind.__doc__.splitlines()
        if " : " in line or line.strip().isidentifier() or line.strip().startswith("UP,")
        for name in line.split(" : ")[0].split(",")
    ]
    for f in dataclasses.fields(kind):
        assert f.name in described, f.name


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_is_public_is_documented(name):
    for found in vars(module_of(name)).values():
        if getattr(found, "__module__", "") != "nanorepro." + name:
            continue
        if getattr(found, "__name__", "_").startswith("_"):
            continue
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, found.__qualname__
            methods = vars(found).values() if inspect.isclass(found) else ()
            for method in methods:
                if inspect.isfunction(method) and not method.__name__.startswith("_"):
                    assert method.__doc__, method.__qualname__
