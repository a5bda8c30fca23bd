"""The golden fingerprints, from what NVRTC compiles, carried out on the CPU and on a GPU."""

import golden
import pytest

from nanorepro.backends.cuda import device as seam
from nanorepro.errors import ConfigError

ROWS = golden.read()["rows"]
# a second or two each; the others take longer, as they take every launch of every step
QUICK = [
    "linear", "linear-sgd", "single", "double", "tower-init", "later", "identity-1",
    "identity-1-sgd", "smelu-0.5", "smelu-0.5-sgd", "smelu-2", "smelu-2-sgd", "swish-1.5",
    "swish-1.5-sgd", "adagrad-inside", "adagrad-none", "sgd-plain", "init-zero", "init-uniform",
    "differ-none", "differ-init", "differ-nudge", "differ-order", "differ-init,shuffle,nudge",
    "nudge-later", "tree-pairwise", "unit-pairwise", "tree-lanes:8", "tree-lanes:5",
    "tree-blocks:4", "tree-blocks:7", "leaf-random", "unit-reversed", "two-trees",
    "two-precisions", "kahan", "kahan-no-fma", "wide-no-fma", "no-fma", "bits:8", "bits:11",
    "bits:24", "toward-zero-bits:8", "stochastic-bits:8", "float64-dials", "exact-toward-zero",
    "wide-model", "two-single-sums", "given", "given-split", "real", "real-linear", "real-trees",
    "real-adam-float64", "real-accumulators", "real-bits:8",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ROWS]
)
def test_fingerprint(name, interpreter):
    assert golden.check(name, "cupy", ROWS[name]) == ""
    assert interpreter.launches > 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", ROWS)
def test_fingerprint_on_a_gpu(name):
    try:
        seam.current()
    except ConfigError as error:
        pytest.skip(f"NO GPU: {error}")
    assert golden.check(name, "cupy", ROWS[name]) == ""


def test_forty_rows_are_checked_by_default():
    assert len(set(QUICK)) == len(QUICK) >= 40
    assert set(QUICK) <= set(ROWS)
