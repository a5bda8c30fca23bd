"""What is distributed: the source distribution holds the tests and docs, the wheel the package."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.processors import ROOT

HOOKS = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
PARTS = ("nanorepro", "tests", "docs", "bench", "examples")
TEXTS = (".py", ".md", ".json", ".csv", ".png", ".pdf", ".sh", ".cu", ".typed",
         ".html", ".css", ".js")  # fmt: skip
FILES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "setup.cfg", "pyproject.toml",
         "ruff.toml", "MANIFEST.in")  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the two distributions, built from a copy of the checkout."""
    copy, dist = tmp_path_factory.mktemp("copy") / "nanorepro", tmp_path_factory.mktemp("dist")
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for name in PARTS:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for hook in ("build_sdist", "build_wheel"):
        subprocess.run([sys.executable, "-c", HOOKS, hook, str(dist)], cwd=copy, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    return dist


def expected(*parts: str) -> set[str]:
    """The files of parts of the checkout."""
    return {
        path.relative_to(ROOT).as_posix()
        for part in parts
        for path in (ROOT / part).rglob("*")
        if path.suffix in TEXTS and "__pycache__" not in path.parts
    }


def test_the_source_distribution_holds_the_tests_and_docs(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    missing = (expected(*PARTS) | set(FILES)) - held
    assert not missing, sorted(missing)[:10]
    assert not [name for name in held if name.endswith(".pyc")]


def test_the_wheel_holds_the_package_and_the_command(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        held = set(archive.namelist())
        (entry,) = (name for name in held if name.endswith("entry_points.txt"))
        script = archive.read(entry).decode()
    assert expected("nanorepro") <= held
    assert not [name for name in held if not name.startswith("nanorepro")]
    assert "nanorepro = nanorepro.commands.main:main" in script
