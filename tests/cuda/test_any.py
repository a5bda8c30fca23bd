"""Any configuration: the GPU's programs give the reference's bits."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ptx import cupy as stand_in
from support.ptx.device import Device
from support.records import arrays_of, assert_same_record, random_parameters

from nanorepro import Config, fit
from nanorepro.backends.cuda import device as seam
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.trees import LEAF_ORDERS

EVERY = int(os.environ.get("NANOREPRO_EXAMPLES", "3"))  # random configurations; each is compiled
TREES = st.sampled_from(["chain", "pairwise", "lanes:2", "lanes:7", "blocks:3", "random"])
ORDERS = st.sampled_from(sorted(LEAF_ORDERS))
PRECISIONS = ["float32", "float64", "bits:3", "bits:8", "bits:11", "bits:16", "bits:24"]


@st.composite
def configurations(draw):
    precision = draw(st.sampled_from(PRECISIONS))
    double = precision == "float64"
    sums = st.sampled_from(
        sorted(n for n, a in ACCUMULATORS.items() if not (double and a.below_float64))
    )
    rounding = "nearest"
    if not double:
        rounding = draw(st.sampled_from(["nearest", "nearest", "toward-zero", "stochastic"]))
    return Config(
        hidden=draw(st.sampled_from(["1", "2", "3,2", "9", "17", "3,34", "16,12,4", "40,5,33"])),
        act=draw(st.sampled_from(sorted(ACTIVATIONS))),
        beta=draw(st.sampled_from([0.25, 1.0, 3.0])),
        batch=draw(st.sampled_from([1, 3, 8, 13, 32, 33])),
        optimizer=draw(st.sampled_from(sorted(OPTIMIZERS))),
        epsilon_place=draw(st.sampled_from(["outside", "inside", "none"])),
        lr=draw(st.sampled_from([0.01, 0.3, 10.0, 1e8])),
        leaf_order=draw(ORDERS),
        tree=draw(TREES),
        accumulator=draw(sums),
        unit_order=draw(ORDERS),
        unit_tree=draw(TREES),
        unit_accumulator=draw(sums),
        precision=precision,
        rounding=rounding,
        fma=draw(st.sampled_from(["on", "off"])),
        seed=draw(st.integers(0, 2**64 - 1)),
    )


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """The interpreter for all examples, without races, which others look for."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        stand_in.install(patch, Path(folder), Device(races=False))
        yield
    seam.current.cache_clear()
    sys.modules.pop("cupy", None)


@pytest.mark.slow
@settings(
    max_examples=EVERY,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(config=configurations(), d=st.sampled_from([1, 2, 16, 31, 32, 33]))
def test_any_configuration(config, d):
    rng = np.random.default_rng(config.seed)
    x, y = arrays_of(rng, 3 * config.batch, d)
    start = random_parameters(rng, config, d)
    ours = fit(config, x, y, start, backend="cupy")
    theirs = fit(config, x, y, start, backend="reference")
    assert_same_record(ours, theirs, str(config))
