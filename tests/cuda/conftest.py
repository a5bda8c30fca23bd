"""The GPU's backend on the interpreter of its compiled programs."""

import gc

import pytest
from support.ptx import cupy as stand_in
from support.ptx.device import Device

from nanorepro.backends.cuda import device as seam
from nanorepro.errors import ConfigError


@pytest.fixture
def interpreter(monkeypatch, tmp_path):
    """`--backend cupy` on the CPU, with races and all else that it checks."""
    yield stand_in.install(monkeypatch, tmp_path, Device())
    seam.current.cache_clear()
    gc.collect()  # the memory of a device, of which parts refer to each other


@pytest.fixture
def card():
    """The GPU of this machine."""
    try:
        return seam.current()
    except ConfigError as error:
        pytest.skip(f"NO GPU: {error}")


@pytest.fixture(params=["interpreter", pytest.param("card", marks=pytest.mark.gpu)])
def either(request):
    """`--backend cupy` on the interpreter, and once more on a card."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def launched(monkeypatch):
    """The kernels that are launched, each with the threads of its blocks."""
    found = set()
    launch = seam.CupyModule.launch

    def noted(self, name, grid, block, *rest):
        found.add((name, block))
        launch(self, name, grid, block, *rest)

    monkeypatch.setattr(seam.CupyModule, "launch", noted)
    return found
