"""The package's imports run downwards, from the commands to the errors, and never in a circle.

All imports count, those inside functions too, which only put off when a module is read.  Imports
for type checkers alone (`if TYPE_CHECKING:`) run nowhere: they make no circle, but they name what a
module knows of, and count as others do for the order of the packages.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import nanorepro

ROOT = Path(nanorepro.__file__).parent
# From the bottom up: a package imports itself and those before it (docs/architecture.md).
ORDER = (
    "version", "text", "errors", "parsing", "arguments", "settings", "numerics", "data", "model",
    "dials", "config", "specification", "results", "backends", "training", "analysis", "probing",
    "plots", "pages", "sweeps", "paper", "commands", "entry points",
)  # fmt: skip
# A kernel imports no other kernel; the table that picks them imports all.
KERNELS = "nanorepro.backends.numba.kernels."
TABLE = KERNELS + "step"


def modules() -> dict[str, Path]:
    """The package's modules by name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class WithoutTypes(ast.NodeTransformer):
    """Leaves out what stands under `if TYPE_CHECKING:`."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
        return node.orelse if "TYPE_CHECKING" in names else node


def imported(name: str, source: str, known: set[str], types: bool = True) -> Iterator[str]:
    """The package's modules that a module imports, wherever in it, with or without for types."""
    package = name if (ROOT.parent / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]
    tree = ast.parse(source)
    for node in ast.walk(tree if types else WithoutTypes().visit(tree)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
            base = f"{above}.{node.module or ''}".strip(".") if node.level else str(node.module)
            names = [f"{base}.{alias.name}" for alias in node.names]
            # `from package import module` imports the module; `from module import name` the module
            names = [n if n in known else base for n in names]
        else:
            continue
        yield from (n for n in names if n.split(".")[0] == "nanorepro" and n != name)


def package_of(name: str) -> str:
    """The package that a module belongs to."""
    parts = name.split(".")
    first = parts[1] if len(parts) > 1 else "entry points"
    return first if first in ORDER else "entry points"


def graph(types: bool = True) -> dict[str, set[str]]:
    """What each module imports."""
    known = modules()
    return {
        name: set(imported(name, path.read_text(encoding="utf-8"), set(known), types))
        for name, path in known.items()
    }


def upwards(edges: dict[str, set[str]]) -> list[str]:
    """Imports of a package from a later one; only entry points import `nanorepro` itself."""
    return [
        f"{name} imports {other}"
        for name, others in edges.items()
        for other in sorted(others)
        if ORDER.index(package_of(other)) > ORDER.index(package_of(name))
    ]


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, in order; empty without."""
    done: set[str] = set()

    def follow(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            if found := follow(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in edges if (found := follow(name, []))), [])


def between_kernels(edges: dict[str, set[str]]) -> list[str]:
    """Imports of a kernel from another one."""
    return [
        f"{name} imports {other}"
        for name, others in edges.items()
        for other in sorted(others)
        if name.startswith(KERNELS) and name != TABLE and other.startswith(KERNELS)
    ]


def test_imports_run_downwards():
    assert upwards(graph()) == []


def test_there_is_no_circle():
    assert circle(graph(types=False)) == []


def test_a_kernel_imports_no_other_kernel():
    edges = graph()
    assert between_kernels(edges) == []
    assert {KERNELS + "small_layers", KERNELS + "large_layers"} <= edges[TABLE]
    edges[KERNELS + "small_layers"].add(KERNELS + "large_layers")
    assert between_kernels(edges) == [f"{KERNELS}small_layers imports {KERNELS}large_layers"]


def test_every_package_has_its_place():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(ORDER)


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("nanorepro.errors", "from nanorepro.config import Config", True),
        ("nanorepro.numerics.trees", "def f():\n    import nanorepro.data.worlds", True),
        ("nanorepro.model.layers", "from nanorepro import specification", True),
        ("nanorepro.model.layers", "from ..specification import ModelSpec", True),
        ("nanorepro.model.layers", "import nanorepro.commands.run as run", True),
        ("nanorepro.config", "from nanorepro import Config", True),
        ("nanorepro.specification", "from nanorepro.config import Config", False),
        ("nanorepro.model.layers", "from .initializers import glorot", False),
    ],
)
def test_an_import_upwards_is_seen(name, source, found):
    edges = {name: set(imported(name, source, set(modules())))}
    assert bool(upwards(edges)) == found
    assert edges[name]


def test_imports_for_types_count_for_the_order_only():
    source = "if TYPE_CHECKING:\n    import nanorepro.config\nelse:\n    import nanorepro.errors"
    found = [set(imported("nanorepro.parsing", source, set(modules()), t)) for t in (True, False)]
    assert found == [{"nanorepro.config", "nanorepro.errors"}, {"nanorepro.errors"}]


def test_a_circle_is_seen():
    edges = graph(types=False)
    edges["nanorepro.numerics.trees"].add("nanorepro.numerics.plans")
    assert set(circle(edges)) == {"nanorepro.numerics.trees", "nanorepro.numerics.plans"}


# What the command line reads before it answers.


def test_config_imports_no_numpy(tmp_path):
    import subprocess
    import sys

    code = "import sys, nanorepro.config; print({'numpy', 'numba', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
