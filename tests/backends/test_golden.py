"""The golden fingerprints, on every execution, number of threads, process and processor."""

import json
import os
import shutil
import subprocess
import sys
from itertools import product

import golden
import numpy as np
import pytest
from support.processors import ROOT, environment, targets
from support.slow import slow_unless

from nanorepro.backends import reference
from nanorepro.backends.numba import model as numba_model
from nanorepro.config import CONTRACT
from nanorepro.model.optimizers import learning_rate, learning_rates

TABLE = golden.read()
ROWS = TABLE["rows"]
THREADED = ["linear", "tower", "identity-1"]
SOME = ["swish-1.5", "kahan", "exact-float32", "linear", "wide-no-fma", "stochastic-bits:8"]
SOME += ["bits:20", "toward-zero-bits:8"]  # where a processor takes other ways than the next
# each is a kernel to compile, but for the first three, which other tests need, too
QUICK = {"linear", "tower", "wide-sgd", "real"}
LONG = {"stochastic-dials", "stochastic-float32", "real-wide"}  # for the reference
# AArch64 is emulated, and NumPy's part of it is slow
HANDFUL = ["linear", "float64", "stochastic-bits:8"]


def run(settings: dict[str, str], *names: str) -> str:
    """`python -m tests.golden` on some rows, in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.golden", *names],
        cwd=ROOT, env=environment(**settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(names)
    return done.stdout


def test_table_is_that_of_this_contract():
    assert TABLE["contract"] == CONTRACT
    assert {name: row["options"] for name, row in ROWS.items()} == golden.cases()
    assert len({row["fingerprint"] for row in ROWS.values()}) >= len(ROWS) - 2


def test_name_of_a_row_is_given_once():
    found = golden.cases()
    with pytest.raises(ValueError, match="wide-model"):
        found["wide-model"] = {}
    assert {"wide", "wide-model"} <= set(found)


@pytest.mark.parametrize(
    ("backend", "name"),
    slow_unless(
        lambda backend, name: name in QUICK if backend == "numba" else name not in LONG,
        product(("numba", "reference"), ROWS),
    ),
)
def test_fingerprint(backend, name):
    # any number of threads, here, where the row's kernel is compiled already
    for threads in (1, 2, 3, 5) if backend == "numba" and name in THREADED else (1,):
        assert golden.check(name, backend, ROWS[name], threads) == ""


@pytest.mark.slow
@pytest.mark.parametrize("target", targets())
def test_processor_in_fresh_processes_with_an_empty_and_a_warm_cache(target, tmp_path):
    # no features but the target's own: generic has neither AVX nor fma
    settings = {"NUMBA_CPU_NAME": target, "NUMBA_CPU_FEATURES": ""} if target else {}
    settings["NUMBA_CACHE_DIR"] = str(tmp_path)
    empty = run(settings, *SOME)
    compiled = sorted(tmp_path.rglob("*.nb?"))
    assert compiled
    assert run(settings, *SOME) == empty
    assert sorted(tmp_path.rglob("*.nb?")) == compiled


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("NANOREPRO_AARCH64") != "1",
    reason="set NANOREPRO_AARCH64=1 to emulate AArch64 (tests/aarch64.sh fetches 350 MB)",
)
def test_aarch64():
    settings = {"PYTHON": sys.executable, "NUMBA_CACHE_DIR": ""}
    child = environment(**settings)
    del child["NUMBA_CACHE_DIR"]
    done = subprocess.run(
        [shutil.which("bash"), "tests/aarch64.sh", "python", "-m", "tests.golden", *HANDFUL],
        cwd=ROOT, env=child, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# What a failure says


def test_names_the_stream_that_went_first():
    row = json.loads(json.dumps(ROWS["identity-1"]))
    row["fingerprint"] = "0" * 64
    row["streams"]["examples"] = "00000000"
    assert "first went the stream: examples" in golden.check("identity-1", "reference", row)


def test_names_the_weight_of_the_row(monkeypatch):
    """A change of both executions: the table's digests tell the interval and the weight."""

    def other(config, step):
        return learning_rate(config, step) * (1.0 + 2.0**-20 * (step == 5))

    monkeypatch.setattr(reference, "learning_rate", other)
    message = golden.check("identity-1-sgd", "reference", ROWS["identity-1-sgd"])
    assert "model 0: equal after step 4, not after step 8, w0[" in message


@pytest.mark.slow
def test_names_the_step_and_the_bits_in_which_numba_leaves_the_reference(monkeypatch):
    def other(config, first, steps):
        rates = np.resize(learning_rates(config, first, steps), steps)
        if first <= 5 < first + steps:
            rates[5 - first] *= 1.0 + 2.0**-20
        return rates

    monkeypatch.setattr(numba_model, "learning_rates", other)
    message = golden.check("identity-1-sgd", "numba", ROWS["identity-1-sgd"])
    assert "equal after step 4, not after step 8" in message
    assert "it leaves the reference in step 6, w0[" in message
    assert "0x" in message.split("reference in")[1]


def test_write_refuses_another_row(tmp_path, monkeypatch, capsys):
    path = tmp_path / "golden.json"
    table = json.loads(json.dumps({**TABLE, "rows": {"linear": ROWS["linear"]}}))
    table["rows"]["linear"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(table))
    before = path.read_bytes()
    monkeypatch.setattr(golden, "PATH", path)
    monkeypatch.setattr(golden, "cases", lambda: {"linear": table["rows"]["linear"]["options"]})
    assert golden.write() == 1
    assert "nothing written" in capsys.readouterr().err
    assert path.read_bytes() == before
    monkeypatch.setattr(golden, "CONTRACT", CONTRACT + 1)
    assert golden.write() == 0
    assert golden.read()["rows"]["linear"]["fingerprint"] == ROWS["linear"]["fingerprint"]
