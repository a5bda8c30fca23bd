"""The golden fingerprints, from what NVRTC compiles, carried out on the CPU and on a GPU."""

import golden
import pytest

ROWS = golden.read()["rows"]
# of each kind one that takes a second or less
QUICK = {
    "linear", "single", "double", "tower-init", "identity-1-sgd", "smelu-0.5", "swish-1.5-sgd",
    "init-uniform", "differ-nudge", "tree-lanes:5", "leaf-random", "kahan", "no-fma", "bits:8",
    "stochastic-bits:8", "float64-dials", "exact-toward-zero", "two-single-sums", "given", "real",
    "real-adam-float64",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in ROWS]
)
def test_fingerprint(name, interpreter):
    assert golden.check(name, "cupy", ROWS[name]) == ""
    assert interpreter.launches > 0


@pytest.mark.gpu
@pytest.mark.parametrize("name", ROWS)
def test_fingerprint_on_a_gpu(name, card):
    assert golden.check(name, "cupy", ROWS[name]) == ""


def test_at_least_forty_rows_are_checked():
    """All of them by `.ci/run`."""
    assert len(ROWS) >= 40
    assert set(QUICK) <= set(ROWS)
