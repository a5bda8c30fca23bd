"""Sweeps that lose nothing: the same bits however they are run, stopped, killed or shared."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import pytest
from support.processors import environment

from nanorepro import Config, simulate
from nanorepro.errors import ConfigError
from nanorepro.results import hdf5, store
from nanorepro.sweeps import journal
from nanorepro.sweeps.checking import verify
from nanorepro.sweeps.engines import TRIES, Began, Local, Process, ThisProcess
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.leases import Leases
from nanorepro.sweeps.progress import SweepProgress
from nanorepro.sweeps.runner import Broken, Runner, sweep
from nanorepro.sweeps.work import Settings, Task
from nanorepro.training import checkpoints

BASE = {"model": "linear", "log2_examples": 7, "log2_eval": 4, "pairs": 1}
CONFIGS = [Config(**BASE, seed=seed) for seed in range(6)]
TASKS = [Task(config) for config in CONFIGS]


def run(folder, tasks=TASKS, threads=1, engine=None, **settings):
    said = []
    found = sweep(tasks, Folder(folder), Settings(str(folder), "reference", "the command"),
                  threads, say=said.append, engine=engine, **settings)  # fmt: skip
    return found, said


def prints(folder):
    """The fingerprint of every run, from files that are checked in full."""
    found = {path.stem: store.load(path) for path in Path(folder).glob("*.h5")}
    assert all(result.config.id == id for id, result in found.items())
    return {id: result.fingerprint for id, result in found.items()}


@pytest.fixture(scope="module")
def expected():
    return {c.id: simulate(c, "reference", 1).fingerprint for c in CONFIGS}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    assert run(folder)[0].trained == len(TASKS)
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A copy of a finished sweep, with other times of modification."""
    for path in made.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("threads", [1, 3])
def test_the_bits_do_not_depend_on_the_number_of_processes(threads, expected, tmp_path):
    found, said = run(tmp_path / "new", threads=threads)
    assert (found.finished, found.trained, said) == (len(TASKS), len(TASKS), [])
    assert prints(tmp_path / "new") == expected
    entries = journal.read(tmp_path / "new")
    assert {id: e.fingerprint for id, e in entries.items()} == expected
    origin = entries[CONFIGS[0].id].provenance
    assert origin["sweep"] == "the command" and origin["engine"].startswith("local")
    assert origin["threads"] == "1" and "--model linear" in origin["command"]
    assert {"started", "ended", "host", "source", "cpu"} <= set(origin)


def test_what_is_finished_is_not_made_again(copy):
    before = {path: path.stat().st_mtime_ns for path in copy.glob("*.h5")}
    assert run(copy)[0].trained == 0
    more, _ = run(copy, [*TASKS, Task(Config(**BASE, seed=77))])
    assert (more.finished, more.trained) == (len(TASKS) + 1, 1)
    assert before.items() <= {p: p.stat().st_mtime_ns for p in copy.glob("*.h5")}.items()


def test_the_journal_is_made_again_from_the_files(copy, expected):
    (copy / journal.NAME).unlink()
    assert run(copy)[0].trained == 0
    assert {id: e.fingerprint for id, e in journal.read(copy).items()} == expected


def test_a_damaged_file_is_kept_aside_and_its_run_made_again(copy, expected):
    path = copy / f"{CONFIGS[0].id}.h5"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o644)
    path.write_bytes(data)
    (copy / f"{CONFIGS[1].id}.h5").write_bytes(b"a letter")
    moved = copy / f"{CONFIGS[2].id}.h5"
    moved.write_bytes((copy / f"{CONFIGS[3].id}.h5").read_bytes())
    found, said = run(copy)
    assert found.trained == 3 and len(said) == 3 and prints(copy) == expected
    assert (copy / "damaged" / path.name).read_bytes() == data
    assert (copy / "damaged" / f"{CONFIGS[1].id}.h5").read_bytes() == b"a letter"


def test_the_same_is_found_without_a_journal(copy, expected):
    (copy / journal.NAME).unlink()
    (copy / f"{CONFIGS[1].id}.h5").write_bytes(b"")
    (copy / f"{CONFIGS[2].id}.h5").write_bytes((copy / f"{CONFIGS[3].id}.h5").read_bytes())
    assert run(copy)[0].trained == 2 and prints(copy) == expected


def test_verify_names_what_is_bad_and_lost(copy):
    bad, lost = CONFIGS[0].id, CONFIGS[1].id
    path = copy / f"{bad}.h5"
    path.write_bytes(path.read_bytes()[:-1])
    (copy / f"{lost}.h5").unlink()
    found = verify(Folder(copy))
    assert (found.sound, [d.path.stem for d in found.damaged], found.lost) == (4, [bad], [lost])
    assert found.damaged[0].moved.exists() and not path.exists()
    assert verify(Folder(copy)).damaged == []


def newer(path, record=None):
    """Make a file one of a newer version."""
    import io

    import h5py

    buffer = io.BytesIO(hdf5.unsealed(path.read_bytes()))
    with h5py.File(buffer, "r+") as f:
        if record is None:
            f.attrs["format"] = "nanorepro result 2"
        else:
            f.attrs["config"] = json.dumps({**json.loads(f.attrs["config"]), **record})
    path.unlink()
    path.write_bytes(hdf5.sealed(buffer.getvalue()))


@pytest.mark.parametrize("record", [None, {"temperature": 3}])
def test_a_file_of_a_newer_version_stops_a_sweep_and_is_left(record, copy):
    path = copy / f"{CONFIGS[-1].id}.h5"
    newer(path, record)
    (copy / journal.NAME).unlink()
    before = {p: p.read_bytes() for p in copy.rglob("*.*")}
    with pytest.raises(ConfigError, match=r"version of nanorepro.*nothing was changed"):
        run(copy)
    assert before == {p: p.read_bytes() for p in copy.rglob("*.*")}
    found = verify(Folder(copy))
    assert (found.sound, found.damaged, [o.path for o in found.others]) == (5, [], [path])
    assert before.items() <= {p: p.read_bytes() for p in copy.rglob("*.*")}.items()


def test_a_run_that_fails_is_kept_with_its_reason_and_tried_again(tmp_path):
    wrong = Task(Config(**BASE, seed=9, warm_start="0" * 64))
    for when in (1, 2):
        found, said = run(tmp_path, [TASKS[0], wrong, TASKS[1]], threads=2)
        assert (found.finished, found.trained) == (2, 2 if when == 1 else 0)
        assert [f.id for f in found.failed] == [wrong.config.id]
        assert "warm_start" in found.failed[0].reason and len(said) == 1
    (failure,) = Folder(tmp_path).failures().values()
    assert (failure.id, failure.tries) == (wrong.config.id, 1)


class Deadly(Local):
    """An engine whose workers are killed when they begin certain runs."""

    def __init__(self, folder, deadly, times):
        super().__init__(Settings(str(folder), "reference"), 2)
        self.deadly, self.times, self.killed = deadly, times, 0

    def events(self, timeout):
        found = super().events(timeout)
        for event in found:
            if isinstance(event, Began) and event.id in self.deadly and self.killed < self.times:
                (worker,) = [w for w in self.workers if w.at == event.id] or [None]
                if worker:
                    worker.process.kill()
                    self.killed += 1
        return found


LONG = {**BASE, "log2_examples": 13}  # long enough to be killed in the middle


def test_a_worker_that_dies_is_replaced_and_its_run_repeated(expected, tmp_path):
    long = Config(**LONG)
    tasks = [Task(long), *TASKS]
    found, _ = run(tmp_path, tasks, engine=Deadly(tmp_path, {long.id}, TRIES - 1))
    assert (found.finished, found.failed) == (len(tasks), [])
    assert prints(tmp_path) == {**expected, long.id: simulate(long, "reference", 1).fingerprint}


def test_a_run_that_ends_its_process_every_time_fails_and_the_rest_goes_on(expected, tmp_path):
    long = Config(**LONG)
    found, _ = run(tmp_path, [Task(long), *TASKS], engine=Deadly(tmp_path, {long.id}, 99))
    assert [(f.id, f.tries) for f in found.failed] == [(long.id, TRIES)]
    assert "killed by signal 9" in found.failed[0].reason
    assert prints(tmp_path) == expected


def test_a_worker_that_holds_too_much_memory_is_replaced(expected, tmp_path):
    engine = Local(Settings(str(tmp_path), "reference"), 1, memory=1)
    found, _ = run(tmp_path, TASKS[:3], engine=engine)
    assert (found.trained, found.failed) == (3, [])


class Unreadable(Task):
    """A run that is another one for its workers, as if the package had been edited meanwhile."""

    def record(self):
        return {**super().record(), "config": {"model": "linear", "seed": 99}}


def test_a_run_that_its_workers_read_otherwise_fails_and_the_rest_goes_on(expected, tmp_path):
    wrong = Unreadable(Config(**BASE, seed=9))
    found, _ = run(tmp_path, [wrong, *TASKS], threads=2)
    assert [(f.id, f.tries) for f in found.failed] == [(wrong.config.id, 1)]
    assert "the package was changed" in found.failed[0].reason
    assert prints(tmp_path) == expected


@pytest.mark.parametrize("begun", [False, True])
def test_a_worker_that_dies_over_a_run_counts_whether_it_began_or_not(begun, tmp_path, monkeypatch):
    engine = Local(Settings(str(tmp_path), "reference"), 1)
    monkeypatch.setattr(engine, "_start", lambda: None)
    engine.waiting.extend((task, 1) for task in TASKS[:2])
    for tries in range(1, TRIES + 1):
        process = subprocess.Popen("/bin/false", stdin=subprocess.PIPE)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        worker = Process(process, errors, engine.waiting.copy(), ready=True)
        worker.at = TASKS[0].config.id if begun else ""
        engine.workers, engine.waiting = [worker], deque()
        events = engine._event(worker, None)
        assert engine.tries == {TASKS[0].config.id: tries}
    assert [(e.id, e.tries) for e in events] == [(TASKS[0].config.id, TRIES)]
    assert [task for task, _ in engine.waiting] == TASKS[1:2]


def test_workers_that_cannot_all_be_started_are_ended(tmp_path, monkeypatch):
    engine, start = Local(Settings(str(tmp_path), "reference"), 2), Local._start

    def one_only(self):
        if self.workers:
            raise OSError("no more processes")
        start(self)

    monkeypatch.setattr(Local, "_start", one_only)
    with pytest.raises(Broken, match="no more processes"):
        run(tmp_path, engine=engine)
    (worker,) = engine.workers
    assert worker.process.poll() is not None


class Closed:
    """An engine without workers for its first calls, as a cluster that all have left."""

    name, slots = "closed", 1

    def __init__(self, engine, calls):
        self.engine, self.left, self.waits = engine, calls, []

    def __enter__(self):
        self.engine.__enter__()
        return self

    def __exit__(self, *exception):
        self.engine.__exit__(*exception)

    def wants(self):
        return self.left == 0 and self.engine.wants()

    def give(self, task, threads):
        self.engine.give(task, threads)

    def events(self, timeout):
        if self.left:
            self.left -= 1
            self.waits.append(timeout)
            return []
        return self.engine.events(timeout)


def test_an_engine_without_workers_is_waited_for_not_asked_again_and_again(expected, tmp_path):
    engine = Closed(Local(Settings(str(tmp_path), "reference"), 1), 3)
    run(tmp_path, engine=engine)
    assert min(engine.waits) > 0 and prints(tmp_path) == expected


def test_workers_that_do_not_start_end_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Broken, match=r"workers do not start \(exit status 1\)"):
        run(tmp_path)


def test_another_sweeps_run_is_waited_for(expected, tmp_path):
    runner = Runner(TASKS, Folder(tmp_path), Settings(str(tmp_path), "reference"), print)
    run(tmp_path, TASKS[:3])  # which nobody knew of when the runner looked
    found = runner.run(1, None, None, "test")
    assert (found.finished, found.trained) == (len(TASKS), len(TASKS) - 3)
    assert prints(tmp_path) == expected


class Few:
    """A limit that allows some runs, and then waits for none."""

    def __init__(self, allowed):
        self.allowed, self.asked = allowed, []

    def allows(self, task):
        self.asked.append(task)
        return len(self.asked) <= self.allowed

    def over(self):
        return len(self.asked) >= self.allowed


def limited(folder, limit):
    """The runs in this process, backwards, as far as a limit allows."""
    settings, stream = Settings(str(folder), "reference"), io.StringIO()
    runner = Runner(TASKS[::-1], Folder(folder), settings, print, in_order=True, limit=limit)
    with SweepProgress(stream, "test", len(TASKS), 0, sum(t.cost for t in TASKS)) as progress:
        engine = ThisProcess(settings, progress, print)
        found = runner.run(1, None, engine, "test", progress)
    return found, stream.getvalue()


def test_a_limit_leaves_runs_out_in_the_order_given(expected, tmp_path):
    limit = Few(2)
    found, shown = limited(tmp_path, limit)
    assert limit.asked == TASKS[::-1] and found.left_out == TASKS[3::-1]
    assert (found.finished, found.trained, found.failed) == (2, 2, [])
    assert "2 of 6 runs, 4 left out" in shown
    assert set(prints(tmp_path)) == {c.id for c in CONFIGS[4:]}
    found, _ = limited(tmp_path, Few(9))
    assert (found.trained, found.left_out) == (4, []) and prints(tmp_path) == expected
    engines = {e.provenance["engine"] for e in journal.read(tmp_path).values()}
    assert engines == {"one process"}


def test_a_limit_waits_for_no_other_sweep(tmp_path):
    with Leases(tmp_path) as others:
        assert others.take(CONFIGS[0].id)
        found, _ = limited(tmp_path, Few(5))
    assert found.left_out == TASKS[:1] and found.trained == 5


# --- whole processes ---------------------------------------------------------


def words(folder, seeds, log2=9):
    axis = "seed=" + ",".join(map(str, range(seeds)))
    fixed = [f"--grid={k}={v}" for k, v in {**BASE, "log2_examples": log2}.items()]
    return [sys.executable, "-m", "nanorepro.sweep", "--grid", axis, *fixed, "--out", str(folder),
            "--backend", "reference", "-q"]  # fmt: skip


def start(folder, seeds, **settings):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words(folder, seeds), env=environment(), **pipes, **settings)


@pytest.fixture(scope="module")
def undisturbed():
    configs = [Config(**{**BASE, "log2_examples": 9}, seed=seed) for seed in range(12)]
    return {c.id: simulate(c, "reference", 1).fingerprint for c in configs}


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_killed_at_any_moment_it_goes_on_to_the_same_bits(undisturbed, tmp_path):
    for count in (1, 3, 6):
        child = start(tmp_path, 12)
        until(lambda least=count: len(list(tmp_path.glob("*.h5"))) >= least)
        child.kill()
        child.communicate()
        before = prints(tmp_path)  # every file that is there is whole
        assert before.items() <= undisturbed.items()
    child = start(tmp_path, 12)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0 and out.startswith("12 of 12 runs are finished")
    assert prints(tmp_path) == undisturbed
    assert set(journal.read(tmp_path)) == set(undisturbed)


def test_two_sweeps_in_one_folder_share_the_runs(undisturbed, tmp_path):
    children = [start(tmp_path, 12) for _ in range(2)]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sum(int(text.split(" of them new")[0].split()[-1]) for text in said) == 12
    assert prints(tmp_path) == undisturbed
    lines = (tmp_path / journal.NAME).read_text().splitlines()
    assert len(lines) == 12 and not (tmp_path / "leases").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_it_says_how_to_go_on(number, status, tmp_path):
    child = start(tmp_path, 40)
    until(lambda: list(tmp_path.glob("*.h5")))
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == status, err
    assert "of 40 runs are finished; to go on: python -m nanorepro.sweep --grid seed=0,1" in err
    assert "Traceback" not in err and out == ""
    assert not (tmp_path / "leases").exists()
    prints(tmp_path)


def test_a_disk_that_is_full_is_one_line_and_nothing_is_lost(undisturbed, tmp_path):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, 16 << 10))

    child = start(tmp_path, 12, preexec_fn=small)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 1 and out == ""
    lines = err.splitlines()
    assert "0 of 12 runs are finished; the same command goes on" in lines[0]
    assert len(lines) == 2 and "larger than is allowed" in lines[1]
    assert list(tmp_path.glob("*.h5")) == []
    child = start(tmp_path, 12)
    child.communicate(timeout=60)
    assert prints(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_in_the_middle_goes_on_from_its_checkpoint(number, tmp_path):
    """After SIGTERM from where it was; after SIGKILL the worker that is left alone writes it."""
    config = Config(**{**BASE, "log2_examples": 16}, seed=0)
    path = tmp_path / f"{config.id}.checkpoint"
    child = subprocess.Popen([*words(tmp_path, 1, 16), "--checkpoint-minutes", "0.002"],
                             env=environment())  # fmt: skip
    until(lambda: path.exists() and checkpoints.read(path).share > 0.1)
    child.send_signal(number)
    child.wait(60)
    assert path.exists() and not list(tmp_path.glob("*.h5"))
    status = [sys.executable, "-m", "nanorepro.sweep", "status", str(tmp_path)]
    said = subprocess.run(status, env=environment(), capture_output=True, text=True, check=True)
    assert "in the middle, " in said.stdout and "done until" in said.stdout
    again = words(tmp_path, 1, 16)
    done = subprocess.run(again, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "goes on from" in done.stderr
    result = store.load(tmp_path / f"{config.id}.h5")
    assert "done until" in result.provenance["resumed"] and not path.exists()
    assert result == simulate(config, "numba", 1)


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_what_came_after_its_checkpoint(tmp_path):
    long = Config(**{**BASE, "log2_examples": 16})
    settings = Settings(str(tmp_path), "reference", "", 0.002)

    class Killed(Local):
        def events(self, timeout):
            found = super().events(timeout)
            path = tmp_path / f"{long.id}.checkpoint"
            if not self.tries and path.exists() and checkpoints.read(path).share > 0.2:
                self.workers[0].process.kill()
                self.tries[long.id] = 0
            return found

    said = []
    found = sweep([Task(long)], Folder(tmp_path), settings, 1, say=said.append,
                  engine=Killed(settings, 1))  # fmt: skip
    assert (found.finished, found.failed) == (1, [])
    assert len(said) == 1 and said[0].startswith(f"run {long.id}: goes on from")
    result = store.load(tmp_path / f"{long.id}.h5")
    assert result == simulate(long, "numba", 1) and "resumed" in result.provenance


def test_the_checkpoint_of_a_finished_run_is_removed(copy):
    stale = copy / f"{CONFIGS[0].id}.checkpoint"
    stale.write_bytes(b"")
    assert run(copy)[0].trained == 0 and not stale.exists()
