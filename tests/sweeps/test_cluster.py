"""Sweeps on a real cluster: Dask's own scheduler and workers, on loopback."""

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import call
from support.processors import ROOT, environment
from support.slow import slow_after

from bench.dask_cluster import Dask, until
from nanorepro import Config, simulate
from nanorepro.commands import sweep as command
from nanorepro.config import CONTRACT
from nanorepro.errors import ConfigError
from nanorepro.results import hdf5, store
from nanorepro.sweeps import journal, remote
from nanorepro.sweeps.cluster import Cluster, Submitted
from nanorepro.sweeps.engines import TRIES, Began, Ended, Failed, Told
from nanorepro.sweeps.folder import Folder
from nanorepro.sweeps.runner import sweep
from nanorepro.sweeps.work import Settings, Task

BASE = {"model": "linear", "log2_examples": 9, "log2_eval": 4, "pairs": 1}
CONFIGS = [Config(**BASE, seed=seed) for seed in range(8)]
TASKS = [Task(config) for config in CONFIGS]
LONG = {**BASE, "log2_examples": 14}  # of which a worker is in the middle when it is killed


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    found = Dask(tmp_path_factory.mktemp("dask"))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def dask(running):
    """A cluster with the workers `a` and `b`."""
    for name in ("a", "b"):
        if name not in running.children:
            running.work(name)
    return running


@pytest.fixture(scope="module")
def expected():
    return {c.id: simulate(c, "reference", 1).fingerprint for c in CONFIGS}


def prints(folder):
    return {path.stem: store.load(path).fingerprint for path in Path(folder).glob("*.h5")}


def run(folder, dask, tasks=TASKS, kind=Cluster, **options):
    settings = Settings(str(folder), "reference", "the command")
    said = []
    engine = kind(settings, dask.address, **options)
    engine.connect()
    with_folder = Folder(folder)
    return sweep(tasks, with_folder, settings, engine.slots, say=said.append, engine=engine), said


def words(folder, address, log2=9, seeds=8):
    fixed = {**BASE, "log2_examples": log2, "seed": ",".join(map(str, range(seeds)))}
    grid = [word for k, v in fixed.items() for word in ("--grid", f"{k}={v}")]
    return [*grid, "--backend", "reference", "--cluster", address, "--out", str(folder)]


def test_a_sweep_on_two_workers_has_the_bits_of_a_local_one(dask, expected, tmp_path):
    folder = tmp_path / "runs"
    status, out, err = call(command.main, *words(folder, dask.address), "-q")
    assert (status, err) == (0, "")
    assert out == f"8 of 8 runs are finished in {folder}/, 8 of them new\n"
    assert prints(folder) == expected
    lines = list(journal.records(folder / journal.NAME))
    assert sorted(line["id"] for line in lines) == sorted(expected)
    origins = [line["provenance"] for line in lines]
    engines = {origin["engine"] for origin in origins}
    assert engines == {f"cluster {dask.address}, worker {name}" for name in ("a", "b")}
    assert all(origin["threads"] == "1" and "--cluster" in origin["sweep"] for origin in origins)
    assert all({"host", "cpu", "source", "started", "ended"} <= set(o) for o in origins)
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {"sweeps"}  # no leases are left
    again = call(command.main, *words(folder, dask.address), "-q")
    assert again[1] == f"8 of 8 runs are finished in {folder}/, 0 of them new\n"


def test_a_worker_that_does_not_see_the_folder_sends_the_bytes(dask, expected, tmp_path):
    # the same words name another folder for every process that reads them
    (dask.folder / "runs").mkdir(exist_ok=True)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        found, said = run(Path("/proc/self/cwd/runs"), dask)
    finally:
        os.chdir(before)
    assert (found.trained, found.failed, said) == (len(TASKS), [], [])
    assert prints(tmp_path / "runs") == expected
    assert list((dask.folder / "runs").iterdir()) == []


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_that_starts_from_a_stored_one_gets_its_file(shared, dask, tmp_path, monkeypatch):
    first = simulate(CONFIGS[0], "reference", 1)
    monkeypatch.chdir(tmp_path)
    file = store.save(first, "." if shared else "/proc/self/cwd")
    config = Config(**BASE, lr=0.01, warm_start=first.fingerprint)
    found, _ = run(Path("/proc/self/cwd/runs"), dask, [Task(config, str(file))])
    assert (found.trained, found.failed) == (1, [])
    here = simulate(config, "reference", 1, start=first.parameters)
    assert prints(tmp_path / "runs") == {config.id: here.fingerprint}


def test_a_plan_for_a_cluster_writes_nothing_and_keeps_no_connection(dask, tmp_path, monkeypatch):
    made, connect = [], Cluster.connect
    monkeypatch.setattr(Cluster, "connect", lambda self: made.append(self) or connect(self))
    status, out, err = call(command.main, *words(tmp_path / "runs", dask.address), "--plan")
    assert (status, err) == (0, "") and "8 runs, 0 finished" in out and "on 2 cores" in out
    assert list(tmp_path.iterdir()) == [] and made[0].loop.is_closed()


def test_a_connection_is_ended_if_the_folder_cannot_be_written(dask, tmp_path):
    (tmp_path / "leases").write_text("no folder")
    engine = Cluster(Settings(str(tmp_path), "reference"), dask.address)
    with pytest.raises(OSError, match="leases"), engine:
        pass
    assert engine.loop.is_closed()


def test_a_worker_that_does_not_answer_is_named(dask, tmp_path):
    worker = dask.children["b"]
    worker.send_signal(signal.SIGSTOP)
    try:
        engine = Cluster(Settings(str(tmp_path), "reference"), dask.address, patience=1.0)
        with pytest.raises(ConfigError, match=r"\(name b\) does not answer within 1 s"):
            engine.connect()
    finally:
        worker.send_signal(signal.SIGCONT)


def test_what_dask_leaves_behind_is_not_heard(tmp_path, monkeypatch, caplog):
    left = []

    async def failing(self):
        left.append(asyncio.get_running_loop().create_future())
        left[0].set_exception(TimeoutError("Timeout"))  # as closing on a busy machine does
        raise ConfigError("no")

    monkeypatch.setattr(Cluster, "_connect", failing)
    with pytest.raises(ConfigError):
        Cluster(Settings(str(tmp_path), "reference"), "tcp://127.0.0.1:1").connect()
    left.clear()  # after the connection has been closed
    gc.collect()
    assert caplog.text == ""


class Deadly(Cluster):
    """An engine that kills workers when they begin certain runs."""

    def prepare(self, dask, names, deadly, most=1):
        self.dask, self.names, self.deadly, self.left = dask, names, deadly, most
        return self

    def events(self, timeout):
        found = super().events(timeout)
        for event in found:
            if isinstance(event, Began) and event.id in self.deadly and self.left:
                worker = self.given[event.id].worker
                if worker in self.names:
                    self.left -= 1
                    self.names[worker](worker)
        return found


@pytest.mark.slow
def test_the_runs_of_a_worker_that_is_killed_are_made_elsewhere(dask, expected, tmp_path):
    long = [Config(**LONG, seed=seed) for seed in (0, 1)]
    tasks = [*map(Task, long), *TASKS]

    def kind(*given):
        return Deadly(*given).prepare(dask, {"b": dask.kill}, {c.id for c in long})

    found, said = run(tmp_path, dask, tasks, kind)
    assert "b" not in dask.children
    assert (found.trained, found.failed, said) == (len(tasks), [], [])
    made = prints(tmp_path)
    assert expected.items() <= made.items() and set(made) == {task.config.id for task in tasks}
    local = tmp_path / "local"
    sweep([Task(c) for c in long], Folder(local), Settings(str(local), "reference"), 2)
    assert prints(local).items() <= made.items()


@pytest.mark.slow
def test_a_run_that_ends_its_worker_every_time_fails_and_the_rest_goes_on(running, tmp_path):
    for name in list(running.children):
        if name != "scheduler":
            running.kill(name)
    running.work("n", nanny=True)
    try:
        long = Config(**LONG)

        def kill(name):
            (line,) = subprocess.run(
                ["pgrep", "-P", str(running.children[name].pid), "-f", "spawn"],
                capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            os.kill(int(line), signal.SIGKILL)

        def kind(*given):
            return Deadly(*given).prepare(running, {"n": kill}, {long.id}, TRIES)

        found, _ = run(tmp_path, running, [Task(long), TASKS[0]], kind)
        assert [(f.id, f.tries) for f in found.failed] == [(long.id, TRIES)]
        assert f"its worker was lost {TRIES} times" in found.failed[0].reason
        assert set(prints(tmp_path)) == {CONFIGS[0].id}
    finally:
        running.kill("n")


def refused(*given):
    """The one line of a command that refuses, within ten seconds."""
    begin = time.monotonic()
    status, out, err = call(command.main, *given, "-q")
    assert time.monotonic() - begin < 10.0
    assert (status, out, err.count("\n")) == (2, "", 1), err
    return err


@pytest.mark.slow
def test_no_scheduler_is_one_line_and_nothing_is_written(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    line = refused(*words(tmp_path / "runs", address))
    assert f"no scheduler answers at {address}" in line and "dask scheduler" in line
    with socket.socket() as mute:  # which takes calls and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        engine = Cluster(Settings(str(tmp_path / "runs")), address, patience=0.5)
        with pytest.raises(ConfigError, match=f"no scheduler answers at {address}"):
            engine.connect()
    assert list(tmp_path.iterdir()) == []


def test_no_fitting_worker_is_one_line_and_nothing_is_written(dask, tmp_path):
    given = words(tmp_path / "runs", dask.address)
    line = refused(*given, "--resources", "GPU=1")
    assert "none of its 2 workers has GPU=1" in line and "--resources GPU=1" in line
    assert list(tmp_path.iterdir()) == []


def test_only_workers_with_the_resources_are_given_runs(dask, tmp_path):
    dask.work("gpu", "--resources", "GPU=2", CUDA_VISIBLE_DEVICES="")
    try:
        found, _ = run(tmp_path, dask, TASKS[:3], resources={"GPU": 1.0})
        assert found.trained == 3
        origins = [entry.provenance for entry in journal.read(tmp_path).values()]
        assert all(origin["engine"].endswith("worker gpu") for origin in origins)
    finally:
        dask.kill("gpu")


@pytest.fixture
def older(tmp_path):
    """A checkout of another version."""
    tree = tmp_path / "older"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nanorepro", tree / "nanorepro", ignore=skipped)
    (tree / "nanorepro" / "version.py").write_text('__version__ = "0.0.1"\n')
    return tree


def test_workers_of_another_version_are_refused_by_name(dask, older, expected, tmp_path):
    folder = tmp_path / "runs"
    settings = Settings(str(folder), "reference")
    engine = Cluster(settings, dask.address)
    engine.connect()
    dask.work("old", PYTHONPATH=str(older))  # later than the others
    try:
        said = []
        found = sweep(TASKS, Folder(folder), settings, 2, say=said.append, engine=engine)
        assert (found.trained, found.failed) == (len(TASKS), []) and prints(folder) == expected
        assert all("is not used: it has nanorepro 0.0.1" in line for line in said) and said
        line = refused(*words(tmp_path / "other", dask.address))
        assert "(name old) has nanorepro 0.0.1, contract 1" in line and "name a" not in line
        assert not (tmp_path / "other").exists()
    finally:
        dask.kill("old")


@pytest.mark.parametrize(
    ("number", "status"), slow_after(1, [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
)
def test_a_signal_ends_the_sweep_and_the_runs_at_work(number, status, dask, tmp_path):
    given = words(tmp_path, dask.address, log2=20, seeds=4)
    child = subprocess.Popen(
        [sys.executable, "-m", "nanorepro.sweep", *given, "-q"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    leases = tmp_path / "leases"
    until(lambda: leases.exists() and len([p for p in leases.iterdir() if len(p.name) == 16]) >= 4)
    time.sleep(0.5)
    child.send_signal(number)
    out, err = child.communicate(timeout=30)
    assert (child.returncode, out) == (status, ""), err
    assert "0 of 4 runs are finished; to go on: python -m nanorepro.sweep --grid" in err
    assert err.count("\n") == 2 and not leases.exists()
    # the workers have been freed: runs of seconds do not stand behind those of hours
    begin = time.monotonic()
    assert run(tmp_path / "next", dask, TASKS[:2])[0].trained == 2
    assert time.monotonic() - begin < 10.0


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line_and_nothing_is_lost(expected, tmp_path):
    dask = Dask(tmp_path / "dask")
    try:
        dask.work("a")
        folder = tmp_path / "runs"
        tasks = [*TASKS[:3], Task(Config(**LONG))]

        class Fragile(Cluster):
            def events(self, timeout):
                found = super().events(timeout)
                if any(isinstance(e, Began) and e.id == tasks[3].config.id for e in found):
                    dask.kill("scheduler")
                return found

        with pytest.raises(RuntimeError, match=rf"^the scheduler at {dask.address} is gone$"):
            run(folder, dask, tasks, Fragile)
        assert {c.id for c in CONFIGS[:3]} <= set(prints(folder))
        assert prints(folder).items() <= expected.items()
        assert not (folder / "leases").exists()
    finally:
        dask.close()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--cluster", "nowhere"], "--cluster: 'nowhere' is not allowed; give the scheduler's"),
        (["--cluster", "http://a:1"], "--cluster: 'http://a:1' is not allowed"),
        (["--cluster", "tcp://a:99999"], "--cluster: 'tcp://a:99999' is not allowed"),
        (["--resources", "GPU=1"], "--resources: only workers of a cluster have some"),
        (["--cluster", "a:1", "--resources", "GPU"], "--resources: 'GPU' is not allowed"),
        (["--cluster", "a:1", "--resources", "GPU=0"], "give NAME=NUMBER, as GPU=1"),
        (["--cluster", "a:1", "--threads", "2"], "--threads: the workers of --cluster have their"),
    ],
)
def test_wrong_options_are_one_line(given, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert line in refused("--grid", "seed=1,2", *given)
    assert list(tmp_path.iterdir()) == []


# --- what a worker answers, without a cluster --------------------------------


@pytest.fixture
def engine(tmp_path):
    engine = Cluster(Settings(str(tmp_path), "reference"), "tcp://127.0.0.1:1")
    engine.loop = asyncio.new_event_loop()  # of which nothing runs
    engine.given = {c.id: Submitted(Task(c), 1, number=1, begun=1) for c in CONFIGS[:2]}
    yield engine
    engine.loop.close()


def answered(engine, data):
    engine.arrived.put(("answer", (CONFIGS[0].id, 1, data)))
    return engine.events(0.0)


def line(engine, **found):
    header = {"sweep": engine.sweep, "worker": "w", "trained": True, "seconds": 1.0, **found}
    return json.dumps(header).encode() + b"\n"


def test_the_bytes_of_a_run_are_checked_before_they_are_kept(engine, tmp_path):
    good = hdf5.encode(simulate(CONFIGS[0], "reference", 1))
    other = hdf5.encode(simulate(CONFIGS[1], "reference", 1))
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    for bad, why in ((other, "sent the run"), (bytes(flipped), "damaged"), (b"x", "not an HDF5")):
        given = dict(engine.given)
        (event,) = answered(engine, line(engine) + bad)
        assert isinstance(event, Failed) and why in event.reason
        assert list(tmp_path.glob("*.h5")) == []
        engine.given = given
    (event,) = answered(engine, line(engine) + good)
    assert isinstance(event, Ended) and event.trained and event.entry.id == CONFIGS[0].id
    assert (tmp_path / f"{CONFIGS[0].id}.h5").read_bytes() == good
    assert set(journal.read(tmp_path)) == {CONFIGS[0].id}


@pytest.mark.parametrize("data", [b"", b"\x80\x04N.", b"[1]\n", b'{"sweep": 3', b"{}\n"])
def test_an_answer_that_is_none_fails_its_run(data, engine):
    (event,) = answered(engine, data)
    assert isinstance(event, Failed) and "its worker's answer is none" in event.reason


def test_a_run_that_is_said_to_be_stored_and_cannot_be_seen_is_sent_for(engine):
    assert answered(engine, line(engine, stored=True)) == []
    assert engine.given[CONFIGS[0].id].send


@pytest.mark.parametrize("more", [None, 3, {}, {"done": None}, {"done": "all"}, {"begin": "w"}])
def test_a_message_that_is_none_is_not_taken(more, engine):
    message = {"id": CONFIGS[0].id, **more} if isinstance(more, dict) else more
    engine.arrived.put(("message", message))
    assert engine.events(0.0) == [] and engine.given[CONFIGS[0].id].begun == 1


def test_the_answer_to_another_sweep_is_not_taken(engine):
    assert answered(engine, line(engine, sweep="another")) == []
    assert CONFIGS[0].id in engine.given


def test_a_run_is_given_up_after_its_last_try(engine):
    for number in range(1, TRIES):
        engine.given[CONFIGS[0].id].number = number
        engine.arrived.put(("lost", (CONFIGS[0].id, number, "KilledWorker")))
        assert engine.events(0.0) == []
    engine.arrived.put(("lost", (CONFIGS[0].id, TRIES - 1, "KilledWorker")))
    (event,) = engine.events(0.0)
    assert isinstance(event, Failed) and event.reason.startswith(f"its worker was lost {TRIES}")


def test_a_worker_that_came_later_is_told_of_once(engine):
    answer = line(engine, refused="has nanorepro 9.9, contract 7", worker="tcp://old:1")
    (event,) = answered(engine, answer)
    assert event == Told("worker tcp://old:1 is not used: it has nanorepro 9.9, contract 7")
    assert answered(engine, answer) == []


def test_a_configuration_is_checked_by_the_worker(monkeypatch):
    class Nobody:
        name, address = "w", "tcp://w:1"

        def get_current_task(self):
            return "key"

    import distributed

    monkeypatch.setattr(distributed, "get_worker", Nobody)
    task = TASKS[0].record()
    request = {"version": remote.__version__, "contract": CONTRACT, "sweep": "s", "task": task}
    wrong = {**task, "config": {**task["config"], "act": "rellu"}}
    for change, why in (({"id": "0" * 16}, "is that of run"), ({"task": wrong}, "rellu")):
        asked = {"id": CONFIGS[0].id, **request, **change}
        answer = json.loads(remote.perform(json.dumps(asked), b"").partition(b"\n")[0])
        assert why in answer["failed"]
    asked = {"id": CONFIGS[0].id, **request, "contract": 99}
    answer = json.loads(remote.perform(json.dumps(asked), b"").partition(b"\n")[0])
    assert answer["refused"].startswith("has nanorepro")


def test_every_process_has_compiled_code_in_a_folder_of_its_own(tmp_path):
    code = ("import os, sys; from nanorepro.sweeps.remote import own_cache;"
            "own_cache(sys.argv[1]); print(os.environ['NUMBA_CACHE_DIR'], flush=True);"
            "sys.stdin.read()")  # fmt: skip

    def process():
        return subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "worker-x")], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(NUMBA_CACHE_DIR=""),
        )  # fmt: skip

    first, second = process(), process()
    folders = [child.stdout.readline().strip() for child in (first, second)]
    first.communicate()
    third = process()
    folders.append(third.stdout.readline().strip())
    for child in (second, third):
        child.communicate()
    assert folders[0] == folders[2] != folders[1]
    assert all(Path(folder).parent == tmp_path for folder in folders)


def test_without_dask_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'nanorepro\[cluster\]'"):
        Cluster(Settings(str(tmp_path)), "tcp://127.0.0.1:1").connect()
