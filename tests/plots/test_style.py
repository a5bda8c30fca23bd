"""Nothing of the user's Matplotlib settings reaches a picture, nor keeps it from being made."""

import subprocess
import sys

import matplotlib
import pytest
from support.processors import environment

from nanorepro.plots import style, summation_tree

CODE = """
import hashlib
from nanorepro.plots import style, summation_tree
figure = summation_tree.summation_tree(((0, 1), (2, 3, 4)), "a $ b \u4e2d")
print(hashlib.sha256(style.file_of(figure)).hexdigest())
import matplotlib
print(matplotlib.rcParams._get("backend"))
"""
SETTINGS = """
text.usetex: True
backend: No Such Backend
font.family: No Such Font
savefig.bbox: tight
axes.facecolor: red
no.such.setting: 1
"""


def drawn(folder, **settings):
    """What a process of its own draws and says in that folder and environment."""
    settings = environment(**settings)
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, capture_output=True, text=True, check=False,
        env={k: v for k, v in settings.items() if v != "missing"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("plain"), MPLBACKEND="missing")


@pytest.mark.parametrize(
    "settings, backend",
    [
        ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, None),
        ({"MPLBACKEND": "No Such Backend"}, None),
        ({"MPLBACKEND": "pdf"}, "pdf"),
        ({"MPLCONFIGDIR": "/proc/nowhere", "HOME": "missing"}, None),
    ],
    ids=str,
)
def test_environments(settings, backend, plain, tmp_path):
    picture, kept = drawn(tmp_path, **{"MPLBACKEND": "missing", **settings})[:2]
    assert picture == plain[0]
    assert backend is None or kept == backend  # what is the user's stays so


def test_a_file_of_settings(plain, tmp_path):
    (tmp_path / "matplotlibrc").write_text(SETTINGS)
    assert drawn(tmp_path, MPLBACKEND="missing")[0] == plain[0]


@pytest.mark.parametrize("kind, start", [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_same_figure_is_the_same_file(kind, start):
    files = {style.file_of(summation_tree.summation_tree(((0, 1), 2)), kind) for _ in range(2)}
    (data,) = files
    assert data.startswith(start)


def test_settings_are_restored():
    before = dict(matplotlib.rcParams)
    with style.settings():
        assert matplotlib.rcParams["font.size"] == style.STYLE["font.size"]
    assert dict(matplotlib.rcParams) == before
