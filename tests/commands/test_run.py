"""The command line: what it prints, and that no bad input gets further than one line."""

import contextlib
import io
import json
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.commands import TINY

from nanorepro import Config, simulate
from nanorepro.commands.run import GROUPS, Options, main
from nanorepro.config import command
from nanorepro.errors import option
from nanorepro.results import store
from nanorepro.training import checkpoints
from nanorepro.training.progress import Progress, clock

SMALL = "--hidden 4,4 --log2-examples 8 --log2-eval 8 --pairs 2 --backend reference --threads 1"


def call(*words: str, out: Path | None = None) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command."""
    argv = [*words, *(["--out", str(out)] if out else [])]
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()) as warned,
    ):
        try:
            status = main(argv)
        except SystemExit as end:
            status = end.code
    return status, said.getvalue(), warned.getvalue()


def refused(*words: str, out: Path) -> str:
    """The one line that refuses these options; nothing else may have happened."""
    status, said, warned = call(*words, out=out)
    assert status == 2, (words, said, warned)
    assert said == ""
    assert warned.startswith("nanorepro.run: error: ")
    assert warned.count("\n") == 1
    assert warned.endswith("\n")
    assert not out.exists()
    return warned


def test_a_run_as_json(tmp_path):
    status, said, warned = call(*SMALL.split(), "--json", "--eval-every", "log", out=tmp_path)
    assert status == 0
    found = json.loads(said)
    config = Config(**found["config"])
    result = simulate(config, "reference", 1)
    assert found["id"] == config.id
    assert found["fingerprint"] == result.fingerprint
    assert found["relative_pd"] == result.relative_pd
    assert found["relative_pd_interval"] == list(result.relative_pd_interval)
    assert found["excess_loss"] == result.excess_loss
    assert found["stuck"] == [list(model) for model in result.stuck]
    assert found["backend"] == "reference"
    assert found["seconds"] > 0
    assert found["examples_per_second"] > 0
    assert [p["pd"] for p in found["pairs"]] == [p.pd for p in result.pairs]
    assert [p["loss"] for p in found["pairs"]] == [list(p.loss) for p in result.pairs]
    assert found["pairs"][0]["deviation_cosine"] is None  # NaN for a model that is not linear
    assert [s["step"] for s in found["series"]] == list(result.checkpoints)
    assert store.load(found["stored"]).fingerprint == result.fingerprint
    assert sorted(os.listdir(tmp_path)) == [f"{config.id}.h5", f"{config.id}.png"]
    assert "100 %" in warned


def test_a_run_as_a_table(tmp_path):
    status, said, _ = call(*SMALL.split(), out=tmp_path)
    stored = store.load(next(tmp_path.glob("*.h5")))
    assert status == 0
    for word in (
        f"{stored.relative_pd:.4g}",
        stored.fingerprint,
        stored.config.id,
        "95 % interval",
        "examples/s",
        "stuck",
        "diverged",
        "python -m nanorepro.run --hidden 4,4",
    ):
        assert word in said


def test_the_command_that_was_stored_makes_the_run_again(tmp_path):
    status, said, _ = call(*SMALL.split(), "--differ", "init", "--json", out=tmp_path / "a")
    words = json.loads(said)["command"].removeprefix("python -m nanorepro.run ").split()
    status, again, _ = call(*words, "--json", "--backend", "reference", out=tmp_path / "b")
    assert status == 0
    assert json.loads(again)["fingerprint"] == json.loads(said)["fingerprint"]


def test_the_same_run_twice_is_kept_and_another_under_its_id_is_a_failure(tmp_path, monkeypatch):
    assert call(*SMALL.split(), out=tmp_path)[0] == 0
    path = next(tmp_path.glob("*.h5"))
    before = path.read_bytes()
    assert call(*SMALL.split(), out=tmp_path)[0] == 0
    assert path.read_bytes() == before
    monkeypatch.setattr("nanorepro.training.measuring.metrics.weight_distance", lambda *_: 1.0)
    status, said, warned = call(*SMALL.split(), out=tmp_path)
    assert status == 1
    assert "another result under the same id" in warned.splitlines()[-1]
    assert "relative PD" in said  # what was computed is not lost
    assert path.read_bytes() == before


def test_diverged_models_are_named(tmp_path):
    words = [*SMALL.split(), "--act", "identity", "--optimizer", "sgd", "--lr", "1e12"]
    status, said, _ = call(*words, out=tmp_path)
    assert status == 0
    assert re.search(r"diverged +4 of 4 models: 0\.0, 0\.1, 1\.0, 1\.1", said)
    assert "over 0 of 2 pairs: no model diverged there" in said
    status, said, _ = call(*words, "--json", out=tmp_path)
    found = json.loads(said, parse_constant=lambda name: pytest.fail(name))
    assert found["relative_pd"] is None
    assert found["diverged"] == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_warm_start_goes_on_with_new_examples(tmp_path):
    first = json.loads(call(*SMALL.split(), "--json", out=tmp_path)[1])
    words = [*SMALL.split(), "--warm-start", first["stored"], "--lr", "0.01", "--json"]
    second = json.loads(call(*words, out=tmp_path)[1])
    assert second["config"]["warm_start"] == first["fingerprint"]
    assert second["config"]["first_example"] == 256
    assert f"--warm-start {first['stored']}" in second["command"]
    start = store.load(first["stored"]).parameters
    expected = simulate(Config(**second["config"]), "reference", 1, start=start)
    assert second["fingerprint"] == expected.fingerprint
    third = json.loads(call(*words, "--first-example", "7", out=tmp_path)[1])
    assert third["config"]["first_example"] == 7


def test_a_warm_start_must_fit(tmp_path):
    stored = json.loads(call(*SMALL.split(), "--json", out=tmp_path / "a")[1])["stored"]
    out = tmp_path / "b"
    warm = ["--log2-examples", "8", "--warm-start", stored]
    assert "give --model tower --hidden 4,4" in refused(*warm, out=out)
    fits = [*warm, "--hidden", "4,4"]
    assert "--init" in refused(*fits, "--init", "zero", out=out)
    other = json.loads(call(*SMALL.split(), "--seed", "3", "--json", out=tmp_path / "a")[1])
    words = ["--log2-examples", "8", "--hidden", "4,4", "--warm-start", other["stored"]]
    assert "--seed: the run in" in refused(*words, out=out)


def test_damaged_files_for_a_warm_start(tmp_path):
    stored = json.loads(call(*SMALL.split(), "--json", out=tmp_path / "a")[1])["stored"]
    whole = Path(stored).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for bad in (b"", whole[:999], whole[:-1], bytes(flipped), b"text\n", whole[:-73]):
        path = tmp_path / "bad.h5"
        path.write_bytes(bad)
        line = refused(*SMALL.split(), "--warm-start", str(path), out=tmp_path / "b")
        assert "--warm-start" in line
        assert "bad.h5" in line


def test_a_damaged_file_of_the_same_id_stops_the_run_before_it_starts(tmp_path):
    call(*SMALL.split(), out=tmp_path)
    path = next(tmp_path.glob("*.h5"))
    path.write_bytes(b"damaged")
    status, said, warned = call(*SMALL.split(), out=tmp_path)
    assert (status, said, warned.count("\n")) == (2, "", 1)
    assert path.name in warned
    assert path.read_bytes() == b"damaged"


WRONG = {
    "--model": "towr",
    "--hidden": "4,,4",
    "--act": "tanh",
    "--beta": "0",
    "--data": "cubic",
    "--content": "real:1+1x1",
    "--epochs": "0",
    "--holdout": "1",
    "--pair-examples": "both",
    "--log2-examples": "41",
    "--log2-window": "9",
    "--log2-eval": "-1",
    "--first-example": "1.5",
    "--pairs": "0",
    "--first-stream": "-1",
    "--batch": "33",
    "--differ": "shuffle,shuffle",
    "--optimizer": "rmsprop",
    "--lr": "nan",
    "--initial-accumulator": "0",
    "--epsilon": "-1",
    "--epsilon-place": "middle",
    "--momentum": "1",
    "--decay": "inf",
    "--beta1": "1",
    "--beta2": "-0.1",
    "--init": "he",
    "--leaf-order": "sorted",
    "--tree": "lanes",
    "--accumulator": "neumaier",
    "--unit-order": "given,given,given",
    "--unit-tree": "blocks:0",
    "--unit-accumulator": "",
    "--accumulator-at": "0:backward=exact",
    "--precision": "bits:1",
    "--rounding": "up",
    "--fma": "yes",
    "--eval-every": "0",
    "--seed": "18446744073709551616",
    "--nudge-at": "-1",
    "--nudge-ulps": "0",
    "--nudge-weights": "1.5",
    "--warm-start": "absent.h5",
    "--backend": "torch",
    "--threads": "0",
    "--checkpoint-minutes": "-1",
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_every_option_out_of_range(name, value, tmp_path):
    line = refused("--log2-examples", "10", f"{name}={value}", out=tmp_path / "out")
    assert name in line
    assert value in line


def test_every_option_has_a_wrong_value_and_a_group():
    flags = {"--paper", "--json", "--quiet", "--out"}
    assert {option(f.name) for f in fields(Options)} == set(WRONG) | flags
    assert {f.name for f in fields(Options)} == {n for names in GROUPS.values() for n in names}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--lr", "--lr: the value is missing; give the learning rate"),
        ("--lrr 1", "'--lrr' is not an option; did you mean --lr?"),
        ("--mod tower", "'--mod' is not an option"),  # no abbreviations
        ("tower", "'tower' is not an option"),
        ("-x", "'-x' is not an option"),
        ("--json=1", "--json: '1' is not allowed; give no value"),
        ("--paper --log2-examples 20", "--log2-examples: --paper sets it"),
        ("--paper --pairs=16", "--pairs: --paper sets it"),
        ("--model wide --hidden 3", "--hidden"),
        ("--log2-examples 4", "--batch"),
        ("--log2-examples 10 --log2-window 6", "--log2-window: 6 is not allowed; give at most 5"),
        ("--eval-every 1", "--eval-every"),
        ("--precision float64 --rounding stochastic", "--rounding"),
        ("--precision float64 --accumulator wide", "--accumulator"),
    ],
)
def test_contradictions_and_slips(words, said, tmp_path):
    assert said in refused(*words.split(), out=tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["", "/dev/null/x", "/proc/nowhere", "x" * 300, "y/" + "x" * 300, "a\0b"]
)
def test_folders_that_cannot_be_written(name):
    status, said, warned = call("--log2-examples", "8", "--out", name)
    assert (status, said, warned.count("\n")) == (2, "", 1)
    assert "--out" in warned


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    status, _, warned = call("--log2-examples", "8", "--out", str(path))
    assert (status, warned.count("\n")) == (2, 1)
    assert "--out" in warned


def numeric(low: float, high: float):
    """Text of numbers out of [low, high]."""
    whole = st.integers(max_value=int(low) - 1) | st.integers(min_value=int(high) + 1)
    return whole.map(str) | st.sampled_from(["nan", "inf", "-inf", "1e999", "0x10", "1 2", "--"])


garbage = st.text(min_size=1, max_size=30)
BAD = st.one_of(
    st.tuples(st.sampled_from(sorted(WRONG)), garbage.filter(lambda s: not s.strip().isdigit())),
    st.tuples(st.just("--log2-examples"), numeric(0, 40)),
    st.tuples(st.just("--log2-window"), numeric(0, 15)),
    st.tuples(st.just("--pairs"), numeric(1, 65536)),
    st.tuples(st.just("--lr"), numeric(0, 1e12)),
    st.tuples(st.just("--seed"), numeric(0, 2**64)),
    st.tuples(st.just("--threads"), numeric(1, 1024)),
    st.tuples(st.just("--tree"), numeric(1, 4096).map("lanes:{}".format)),
    st.tuples(st.just("--precision"), numeric(2, 24).map("bits:{}".format)),
    st.tuples(st.just("--hidden"), numeric(1, 65536).map("4,{}".format)),
    st.tuples(garbage.map("--{}".format), garbage),
    st.tuples(garbage.filter(lambda s: not s.startswith("-")), st.just("--json")),
)
# what garbage may happen to spell correctly
FINE = {"--help", "-h", "--out", "--json", "--paper"}


class Started(Exception):
    """The options were accepted and the training would begin."""


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=BAD)
@example(words=("--tree", "lanes:" + "1" * 5000))
@example(words=("--hidden", "1" * 5000))
@example(words=("--eval-every", "9" * 5000))
@example(words=("--pairs", "9" * 5000))
@example(words=("--act", "a\nb\r\x1b[0m\u2028"))
@example(words=("--act\n\n", "\udc80"))
def test_garbage_is_refused_in_one_line(words, tmp_path, monkeypatch):
    def begins(*_):
        raise Started

    name, value = words
    if name.partition("=")[0] in FINE:
        return
    monkeypatch.setattr("nanorepro.commands.run.train", begins)
    joined = (f"{name}={value}",) if name in WRONG else words
    out = tmp_path / "out"
    status, said, warned = call("--log2-examples", "20", *joined, out=out)
    if "Started" not in warned:  # a number such as ' 3' or '１' may be a right one
        assert status == 2, (words, warned)
    assert said == ""
    assert len(warned.splitlines()) == 1
    assert warned.isprintable() or warned[:-1].isprintable()
    assert not out.exists()


def test_a_failure_while_running_is_one_line_and_status_1(tmp_path, monkeypatch):
    def fails(*_):
        raise MemoryError("too large")

    monkeypatch.setattr("nanorepro.commands.run.train", fails)
    status, said, warned = call(*SMALL.split(), out=tmp_path / "out")
    assert (status, said, warned) == (1, "", "nanorepro.run: error: MemoryError: too large\n")


def test_a_picture_that_fails_loses_no_result(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr("nanorepro.plots.overview.overview", fails)
    status, said, warned = call(*SMALL.split(), out=tmp_path)
    assert status == 1
    assert "relative PD" in said
    assert warned.splitlines()[-1] == (
        "nanorepro.run: error: the picture could not be drawn: RuntimeError: no font"
    )
    assert len(list(tmp_path.glob("*.h5"))) == 1


def spawn(*words: str, **settings) -> subprocess.Popen:
    command = [sys.executable, "-m", "nanorepro.run", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


AT_ONCE = """
import sys
from nanorepro.training import progress
progress.LOG_SECONDS = 0.05
from nanorepro.commands.run import main
sys.exit(main())
"""


def training(shows: str, *words: str) -> subprocess.Popen:
    """The command in a process of its own that is so far as to show this."""
    process = subprocess.Popen(
        [sys.executable, "-c", AT_ONCE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert any(shows in line for line in process.stderr)
    return process


def test_help_is_complete_and_quick():
    begin = time.perf_counter()
    process = spawn("--help")
    said, warned = process.communicate(timeout=60)
    seconds = time.perf_counter() - begin
    assert (process.returncode, warned) == (0, "")
    for f in fields(Options):
        assert option(f.name) in said
    assert "paper: 26" in said
    assert seconds < 5.0  # 0.06 s on an idle machine; imports of NumPy and Numba would take more
    code = "import sys, nanorepro.run; sys.exit(any(m in sys.modules for m in ('numpy', 'numba')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "when, number, status, word",
    [
        ("first line", signal.SIGINT, 130, "interrupted"),
        ("without checkpoints", signal.SIGINT, 130, "interrupted"),
        ("without checkpoints", signal.SIGTERM, 143, "terminated"),
    ],
)
def test_ctrl_c_and_termination_end_at_once(when, number, status, word, tmp_path):
    out = tmp_path / "out"
    big = "--hidden 64,64 --log2-examples 20 --threads 1 --backend reference"
    minutes = "10" if when == "first line" else "0"
    words = [*big.split(), "--checkpoint-minutes", minutes, "--out", str(out)]
    if when == "first line":
        process = spawn(*words, start_new_session=True)
        assert "starting" in process.stderr.readline()
    else:
        process = training("0%", *words)
    process.send_signal(number)
    begin = time.perf_counter()
    said, warned = process.communicate(timeout=60)
    assert time.perf_counter() - begin < 3.0
    assert process.returncode == status
    assert said == ""
    shown = [line for line in warned.splitlines() if "%" not in line]
    assert shown == ["", f"nanorepro.run: {word}"]
    assert not out.exists()


LONG = ["--hidden", "16,16", "--log2-examples", "13", "--log2-eval", "6", "--pairs", "2",
        "--eval-every", "log"]  # fmt: skip
SLOW, FAST = "--backend=reference", "--backend=numba"


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


@pytest.fixture(scope="module")
def undisturbed():
    config = Config(hidden="16,16", log2_examples=13, log2_eval=6, pairs=2, eval_every="log")
    return simulate(config, "numba", 1)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_writes_a_checkpoint_and_says_how_to_go_on(
    number, status, word, undisturbed, tmp_path
):
    """Also with a checkpoint so far away that only the signal can have written it."""
    words = [*LONG, "--threads", "1", "--out", str(tmp_path)]
    process = training(" left", *words, SLOW)
    process.send_signal(number)
    said, warned = process.communicate(timeout=60)
    path = tmp_path / f"{undisturbed.config.id}.checkpoint"
    assert (process.returncode, said) == (status, "")
    kept, again, last = [w for w in warned.splitlines() if not w.endswith(" left")]
    assert f"of the run is kept in {str(path)!r}" in kept and path.exists()
    assert again == f"nanorepro.run: to go on: python -m nanorepro.run {shlex.join([*words, SLOW])}"
    assert last == f"nanorepro.run: {word}"
    status, said, warned = call(*words, FAST, "--json")
    assert status == 0 and "goes on from" in warned
    report = json.loads(said)
    assert report["fingerprint"] == undisturbed.fingerprint
    assert store.load(report["stored"]) == undisturbed
    assert "done until" in report["resumed"] and not path.exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_killed_at_any_moment_a_run_goes_on_to_the_same_bits(undisturbed, tmp_path):
    words = [*LONG, "-q", "--checkpoint-minutes", "0.005", "--out", str(tmp_path)]
    path = tmp_path / f"{undisturbed.config.id}.checkpoint"
    for share in (0.01, 0.15, 0.3):
        process = spawn(*words, SLOW, "--threads", "2")
        until(lambda: path.exists() and checkpoints.read(path).share > share)  # noqa: B023
        process.kill()
        process.communicate()
    done = checkpoints.read(path).share
    assert share < done < 1.0
    status, said, warned = call(*words, FAST, "--json", "--threads=1")
    assert status == 0 and f"goes on from {str(path)!r}, {done:.0%} done" in warned
    assert store.load(json.loads(said)["stored"]) == undisturbed
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".h5", ".png"]


@pytest.mark.skipif(os.name != "posix", reason="limits")
def test_a_disk_that_is_full_loses_no_training(undisturbed, tmp_path):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    shorter = replace(undisturbed.config, log2_examples=9)
    words = shlex.split(command(shorter).removeprefix("python -m nanorepro.run"))
    process = spawn(
        *words, SLOW, "-q", "--json", "--checkpoint-minutes", "0.0001",
        "--out", str(tmp_path), preexec_fn=small,
    )  # fmt: skip
    said, warned = process.communicate(timeout=120)
    lines = warned.splitlines()
    assert process.returncode == 1 and len(lines) == 2, warned
    assert "no checkpoint: " in lines[0] and "the training goes on" in lines[0]
    assert "could not be stored" in lines[1]
    assert json.loads(said)["fingerprint"] == simulate(shorter, "numba", 1).fingerprint
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_storing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nanorepro.results.files._fill", interrupted)
    status, _, _ = call(*SMALL.split(), out=tmp_path)
    assert status == 130
    assert os.listdir(tmp_path) == []


def test_nothing_but_json_on_standard_output(tmp_path):
    process = spawn(*SMALL.split(), "--json", "--out", str(tmp_path))
    said, warned = process.communicate(timeout=120)
    assert process.returncode == 0
    assert said.count("\n") == 1
    assert json.loads(said)["pairs"][1]["weight_distance"] >= 0
    assert warned.splitlines()[0].endswith("0:00")
    assert "100 %, 1,024 examples" in warned.splitlines()[-1]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_is_one_line():
    stream = Terminal()
    with Progress(stream, "waiting ...", "x") as report:
        assert "waiting" in stream.getvalue()
        report(1, 4)
        report(2, 4)
        report._show()
        report(4, 4)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "[############            ]  50%, 0:00 left" in text
    assert text.endswith("100 %, 4 examples in 0:00\n")


def test_progress_survives_a_closed_stream():
    stream = io.StringIO()
    with Progress(stream, "waiting", "x") as report:
        stream.close()
        report(1, 1)


def test_clock():
    assert [clock(s) for s in (0.4, 59.6, 3600, 3725.2)] == ["0:00", "1:00", "1:00:00", "1:02:05"]


@pytest.mark.parametrize("words", ["--epochs 3", "--holdout 0.5", "--pair-examples split"])
def test_what_is_for_a_file_of_examples_is_refused_without_one(words, tmp_path):
    line = refused(*words.split(), out=tmp_path / "out")
    assert f"{words.split()[0]}: it is for examples of a file; give --data file:NAME, too" in line


def test_what_has_no_effect_is_said_and_changes_no_id(tmp_path):
    status, said, warned = call(*TINY, "-q", "--beta1", "0.5", "--nudge-at", "3", out=tmp_path)
    assert status == 0 and warned.endswith("--nudge-at, --beta1: without effect on this run\n")
    status, again, warned = call(*TINY, "-q", out=tmp_path)
    assert (status, warned) == (0, "")
    ids = [re.search(r"^  id +(\w+)$", text, re.MULTILINE)[1] for text in (said, again)]
    assert ids[0] == ids[1] and len(list(tmp_path.glob("*.h5"))) == 1
