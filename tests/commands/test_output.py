"""Output that cannot be written loses no result, and a reader that goes away is no error."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
from support.commands import TINY
from support.processors import environment
from support.slow import slow_after

from nanorepro import simulate
from nanorepro.commands import common, console, figure, reveal, run
from nanorepro.commands import main as listing
from nanorepro.paper import runner
from nanorepro.results import store
from nanorepro.sweeps import work
from nanorepro.training.compiling import says_when_compiling
from nanorepro.training.progress import Progress

posix = pytest.mark.skipif(os.name != "posix", reason="descriptors")
CALLS = {
    "run": (run.main, [*TINY, "--out", "runs"]),
    "json": (run.main, [*TINY, "--out", "runs", "--json"]),
    "help": (run.main, ["--help"]),
    "version": (figure.main, ["--version"]),
    "list": (listing.main, []),
    "reveal": (reveal.main, ["numpy:sum", "--terms", "40"]),
    "figure": (figure.main, ["1", "--out", "runs"]),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(main, words, monkeypatch, encoding):
    """Status and text of a command whose streams have an encoding."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    status = main(words)
    assert [s.errors for s in streams] == ["strict", "strict"]  # as it was
    return status, streams[0].buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", slow_after(2, ["ascii", "cp1252", "latin-1", "utf-8"]))
@pytest.mark.parametrize("name", CALLS)
def test_any_encoding(name, encoding, monkeypatch):
    main, words = CALLS[name]
    status, said = written(main, words, monkeypatch, encoding)
    assert status == 0
    assert said.strip()


def test_help_degrades_with_backslashes(monkeypatch):
    _, said = written(run.main, ["--help"], monkeypatch, "ascii")
    assert r"decay\xb7step" in said
    _, said = written(run.main, ["--help"], monkeypatch, "utf-8")
    assert "decay·step" in said


@pytest.mark.parametrize("folder", ["θ", "a\udcffb", "a\nb"])
def test_a_folder_that_cannot_be_encoded(folder, monkeypatch, elsewhere):
    status, said = written(run.main, [*TINY, "--out", folder], monkeypatch, "ascii")
    assert status == 0
    assert "relative PD" in said
    assert len(list((elsewhere / folder).glob("*.h5"))) == 1
    status, said = written(run.main, [*TINY, "--json", "--out", folder], monkeypatch, "ascii")
    assert json.loads(said)["stored"].startswith(folder)


def test_the_page_is_utf_8_whatever_is_printed(monkeypatch, elsewhere):
    monkeypatch.setattr(work, "simulate", lambda config, *_, **__: simulate(config, "reference", 1))
    monkeypatch.setattr(runner, "compile_ahead", lambda *_: None)
    words = ["3", "--log2-examples", "5", "--pairs", "2", "--out", "runs", "--report", "p.md"]
    status, said = written(figure.main, words, monkeypatch, "cp1252")
    assert status == 0
    assert r"\u03b8" in said
    assert "θ" in (elsewhere / "p.md").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_page_whose_name_cannot_be_encoded(elsewhere):
    assert figure.main(["1", "--out", "runs", "--report", "a\udcffb.md"]) == 0
    assert "a\\udcffb/figure1.png" in (elsewhere / "a\udcffb.md").read_text(encoding="utf-8")


@posix
@pytest.mark.parametrize("name", CALLS)
def test_a_reader_that_goes_away(name, monkeypatch, capsys):
    main, words = CALLS[name]
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(words) == 0
        monkeypatch.undo()
    assert "error" not in capsys.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full")
@pytest.mark.parametrize("name", CALLS)
def test_a_disk_that_is_full(name, monkeypatch, capsys, elsewhere):
    main, words = CALLS[name]
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(words) == 1
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    warned = capsys.readouterr().err.splitlines()
    assert "standard output cannot be written (No space left on device)" in warned[-1]
    assert sum("error" in line for line in warned) == 1
    if name in ("run", "json"):
        assert len(list(elsewhere.glob("runs/*.h5"))) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full")
def test_standard_error_that_cannot_be_written(monkeypatch, capsys):
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        assert run.main([*TINY, "--out", "runs"]) == 0
        assert run.main(["--lr", "-1"]) == 2
    assert "relative PD" in capsys.readouterr().out


@pytest.mark.parametrize("name", CALLS)
def test_streams_that_are_closed(name, monkeypatch):
    main, words = CALLS[name]
    for closed in ("stdout", "stderr"):
        monkeypatch.setattr(sys, closed, None)
    assert main(words) == 0
    assert sys.stdout is None and sys.stderr is None
    assert run.main(["--lr", "-1"]) == 2


@posix
@pytest.mark.parametrize(
    "redirection, status, lines",
    [
        (">/dev/full", 1, 1),
        ("| true", 0, 0),
        (">&-", 0, 0),
        (">&- 2>&-", 0, 0),
        ("2>&-", 0, 0),
        (">/dev/full 2>/dev/full", 1, 0),
    ],
)
def test_the_end_of_the_process(redirection, status, lines):
    """What is left in the buffers when the interpreter ends makes no noise and no status."""
    command = f"{sys.executable} -m nanorepro {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True,
                          env=environment(PYTHONUNBUFFERED=""), check=False)  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (status, lines), done.stderr


def test_a_result_does_not_get_the_number_of_a_closed_stream(elsewhere):
    """With descriptor 1 closed, the next file that is opened would be standard output."""
    words = " ".join([*TINY, "--out", "runs"])
    command = f"{sys.executable} -m nanorepro.run {words} >&- 2>&-"
    done = subprocess.run(["bash", "-c", command], env=environment(), check=False)
    assert done.returncode == 0
    assert store.load(next(elsewhere.glob("runs/*.h5"))).config.pairs == 1


def test_compiling_is_said_when_it_is_done_and_only_then():
    from numba import njit

    @njit
    def same(x):
        return x

    for expected in ("compiling (only the first time) ...", "starting ..."):
        progress = Progress(io.StringIO(), "starting ...", "name")
        with says_when_compiling(progress):
            same(1.0)
        assert progress.waiting == expected


@pytest.mark.parametrize("name", ["run", "json"])
def test_quiet_shows_no_progress(name, capsys):
    main, words = CALLS[name]
    for quiet in ("-q", "--quiet"):
        assert main([*words, quiet]) == 0
        assert capsys.readouterr().err == ""
    assert main(words) == 0
    assert "100 %" in capsys.readouterr().err


# Errors and signals


def test_errors_are_one_short_line():
    long = ValueError("first\n" + "x" * 5000)
    assert console.describe(long) == "ValueError: first ..."
    assert console.describe(OSError(28, "No space left on device", "a.h5")) == (
        "OSError: No space left on device 'a.h5'"
    )
    assert console.describe(MemoryError()) == "MemoryError"


@pytest.mark.parametrize("error, status", [(ValueError("a\tb"), 1), (KeyboardInterrupt(), 130)])
def test_what_a_command_raises(error, status, capsys):
    def command(words, console):
        raise error

    assert common.carry_out("name", command, []) == status
    assert capsys.readouterr().err.count("\n") == 1


@posix
@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_termination_leaves_no_temporary_files(number, status, monkeypatch, capsys, elsewhere):
    def terminated(*_, **__):
        os.kill(os.getpid(), number)
        return b""

    monkeypatch.setattr("nanorepro.results.files._fill", terminated)
    before = signal.signal(number, signal.SIG_DFL)  # nohup, for one, has pytest ignore SIGHUP
    try:
        assert run.main([*TINY, "--out", "runs", "-q"]) == status
        assert list((elsewhere / "runs").iterdir()) == []
        assert capsys.readouterr().err == "nanorepro.run: terminated\n"
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


@posix
def test_a_signal_that_is_ignored_stays_so(monkeypatch, elsewhere):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        seen = []
        draw = run.train
        monkeypatch.setattr(
            run,
            "train",
            lambda *job: (seen.append(os.kill(os.getpid(), signal.SIGHUP)), draw(*job))[1],
        )
        assert run.main([*TINY, "--out", "runs", "-q"]) == 0
        assert seen == [None]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "words", [["run"], ["run", "--json"], ["figure", "6", "--scale", "smoke"], ["reveal"]]
)
def test_a_compiler_that_is_switched_off_is_said_before_anything_else(words, elsewhere):
    done = subprocess.run(
        [sys.executable, "-m", "nanorepro", *words], capture_output=True, text=True, check=False,
        env=environment(NUMBA_DISABLE_JIT="1"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "NUMBA_DISABLE_JIT" in done.stderr
    assert list(elsewhere.iterdir()) == []
