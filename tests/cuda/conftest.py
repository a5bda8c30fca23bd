"""The GPU's backend on the interpreter of its compiled programs."""

import gc

import pytest
from support.ptx import cupy as stand_in
from support.ptx.device import Device

from nanorepro.backends.cuda import device as seam


@pytest.fixture
def interpreter(monkeypatch, tmp_path):
    """`--backend cupy` on the CPU, with races and all else that it checks."""
    yield stand_in.install(monkeypatch, tmp_path, Device())
    seam.current.cache_clear()
    gc.collect()  # the memory of a device, of which parts refer to each other
