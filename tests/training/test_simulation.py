"""The loop over pairs: threads, groups, starts, failures; and where a result comes from."""

import os
import threading
from datetime import datetime
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from nanorepro import Config, ConfigError, initial_parameters, simulate
from nanorepro.backends import reference
from nanorepro.backends.protocols import Trained, TrainsGroups
from nanorepro.results.result import fingerprint
from nanorepro.training import group, simulation, threads
from nanorepro.training.example_stream import ExampleStream
from tests.support.records import assert_same_bits

SMALL = Config(hidden="3", log2_examples=8, log2_eval=6, pairs=3, eval_every="3")


@pytest.mark.parametrize("count", [1, 2, 3, 5, np.int64(2), np.uint8(2), "all", None])
def test_any_number_of_threads_gives_the_same_bits(count):
    one, other = (simulate(SMALL, "reference", n) for n in (1, count))
    assert one.fingerprint == other.fingerprint
    assert one.pairs == other.pairs
    assert_same_bits(one.logits, other.logits, "logits")


@pytest.mark.parametrize("wrong", [0, -1, 1025, True, 1.0, "2", "", np.float64(2), [1]])
def test_what_is_no_number_of_threads_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"^threads: .* give a whole number from 1 to 1024"):
        simulate(SMALL, "reference", wrong)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_all_threads_are_those_of_the_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.number_of_threads("all") == threads.number_of_threads(None) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path) == expected


def test_more_threads_than_the_quota_are_not_taken(monkeypatch):
    monkeypatch.setattr(threads, "_quota", lambda: 1)
    assert threads.usable_cpus() == 1


# A backend that trains many models at once.


class Grouped(ModuleType):
    """The reference as a backend that is given all models of a run at once."""

    def __init__(self):
        super().__init__("grouped")
        self.groups = []
        for name in reference.__all__:
            setattr(self, name, getattr(reference, name))

    def device(self):
        return "a device"

    def train_group(self, given, report):
        self.groups.append(given)
        found = []
        for spec, start in zip(given.models, given.start, strict=True):
            stream = ExampleStream(spec.config, spec.pair, given.world, reference)
            one = type(given)([spec], [start], given.world, given.patterns)
            found += group.train_group(reference, one, stream, report)
        return found


def test_a_backend_that_trains_groups_gets_all_models_at_once(monkeypatch):
    backend, seen = Grouped(), []
    assert isinstance(backend, TrainsGroups) and not isinstance(reference, TrainsGroups)
    monkeypatch.setattr(simulation, "load_backend", lambda name: backend)
    result = simulate(SMALL, "grouped", 2, lambda done, total: seen.append((done, total)))
    (given,) = backend.groups
    assert [(r.pair, r.model) for r in given.models] == [(k, m) for k in range(3) for m in (0, 1)]
    assert result.fingerprint == simulate_plainly(SMALL).fingerprint
    assert result.pairs == simulate_plainly(SMALL).pairs
    assert result.provenance["device"] == "a device"
    assert seen[-1] == (6 * 256, 6 * 256)


def simulate_plainly(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "load_backend", lambda name: reference)
        return simulate(config, "reference", 1)


# Failures.


def failing(monkeypatch, pair, error):
    """Training a pair raises; the others wait until it has."""
    raised = threading.Event()

    def train(backend, given, stream, report):
        if given.models[0].pair == pair:
            raised.set()
            raise error
        assert raised.wait(30)
        while True:
            report(0, list)

    monkeypatch.setattr(simulation, "train_group", train)


@pytest.mark.parametrize("error", [MemoryError("none left"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_in_one_pair_ends_the_others_and_says_which(monkeypatch, error):
    failing(monkeypatch, 2, error)
    before = threading.active_count()
    with pytest.raises(type(error)) as caught:
        simulate(SMALL, "reference", 3)
    assert caught.value is error
    assert caught.value.__notes__ == ["while training pair 2"]
    assert threading.active_count() == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, GeneratorExit])
def test_an_exception_of_the_progress_ends_the_run(error):
    calls = []

    def progress(done, total):
        calls.append(done)
        raise error("enough")

    with pytest.raises(error, match="enough"):
        simulate(SMALL, "reference", 2, progress)
    assert len(calls) == 1


def test_a_failure_while_measuring_ends_the_run(monkeypatch):
    def broken(*_):
        raise ArithmeticError("no measure")

    monkeypatch.setattr("nanorepro.training.measuring.metrics.weight_distance", broken)
    with pytest.raises(ArithmeticError, match="no measure"):
        simulate(SMALL, "reference", 2)


def test_the_progress_counts_each_example_for_each_model():
    seen = []
    simulate(SMALL, "reference", 2, lambda done, total: seen.append((done, total)))
    done, total = zip(*seen, strict=True)
    assert set(total) == {2 * 3 * 256}
    assert sorted(done) == list(done) and done[-1] == total[0]


# Starts.


def test_a_warm_start_records_a_command_that_asks_for_the_file():
    start = [[initial_parameters(SMALL)] * 2]
    warm = Config(**{**vars(SMALL), "warm_start": fingerprint(start)})
    words = simulate(warm, "reference", 1, start=start).provenance["command"]
    assert words.endswith(f" --warm-start FILE  # the run of fingerprint {warm.warm_start}")


def test_a_start_that_does_not_fit_is_refused():
    record = initial_parameters(SMALL)
    start = [[record, record]]
    warm = Config(hidden="3", log2_examples=8, log2_eval=6, pairs=3, warm_start=fingerprint(start))
    assert simulate(warm, "reference", 1, start=start).config == warm
    infinite = [[record, {**record, "b0": np.full(3, np.inf, np.float32)}]]
    for config, given, message in [
        (SMALL, start, "start: the fingerprint .* go together; give both or neither"),
        (warm, None, "warm_start: the fingerprint .* go together; give both or neither"),
        (warm, [], r"start: not the parameters of a run; give records \[pair\]\[model\]"),
        (warm, [[record]], r"start: not the parameters of a run"),
        (warm, record, r"start: not the parameters of a run"),
        (warm, [[record, None]], r"start\[0\]\[1\]: not a record .*; give a dict of w0"),
        (warm, infinite, r"start\[0\]\[1\]: b0 has NaN or infinity"),
        (warm, [[initial_parameters(SMALL, 1)] * 2], "not those of the fingerprint"),
    ]:
        with pytest.raises(ConfigError, match=message):
            simulate(config, "reference", 1, start=given)


def test_parameters_that_are_infinite_in_the_precision_are_refused():
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1, precision="float64")
    start = [[{"w0": np.full((32, 1), 1e300), "b0": np.zeros(1)}] * 2]
    changes = {"warm_start": fingerprint(start)}
    narrow = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1, **changes)
    with pytest.raises(ConfigError, match=r"w0 has 1e\+300, which is infinite in .* float32"):
        simulate(narrow, "reference", 1, start=start)
    wide = Config(**{**vars(config), **changes})
    assert simulate(wide, "reference", 1, start=start).config == wide


def test_a_result_says_where_it_comes_from():
    result = simulate(SMALL, "reference", 2)
    found = result.provenance
    assert {"command", "nanorepro", "python", "numpy", "numba", "cpu", "source"} <= set(found)
    assert found["threads"] == "2"
    begin, end = (datetime.fromisoformat(found[name]) for name in ("started", "ended"))
    assert begin.utcoffset() is not None and begin <= end


def test_trained_models_that_diverged():
    logits = np.zeros((1, 1))
    for value, expected in ((1.0, False), (np.inf, True), (np.nan, True)):
        assert Trained({"b0": np.array([0.0, value])}, logits).diverged is expected


def test_jobs_are_whole_pairs_and_single_models_at_the_end():
    models = [(k, m) for k in range(5) for m in (0, 1)]
    names = [str(job) for job in simulation.jobs_of(models, 2, together=False)]
    assert names == ["pair 0", "pair 1", "pair 2", "pair 3", "pair 4", "pair 4"]
    (whole,) = simulation.jobs_of(models, 2, together=True)
    assert str(whole) == "pairs 0 to 4" and len(whole.models) == 10
    left = [(0, 1), *models[4:]]
    jobs = simulation.jobs_of(left, 2, together=False)
    assert [job.models for job in jobs] == [
        ((2, 0), (2, 1)), ((3, 0), (3, 1)), ((0, 1),), ((4, 0),), ((4, 1),),
    ]  # fmt: skip
    assert simulation.jobs_of([], 2, together=True) == []


def test_a_model_is_described_to_the_backend_by_its_roles():
    config = Config(hidden="3", log2_examples=8, log2_eval=6, pairs=1, differ="init")
    models = []
    backend = SimpleNamespace(**{name: getattr(reference, name) for name in reference.__all__})
    backend.Model = lambda spec, start: models.append((spec, start)) or reference.Model(spec, start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "load_backend", lambda name: backend)
        simulate(config, "reference", 1)
    (one, first), (two, second) = models
    assert (one.pair, one.model, two.model) == (0, 0, 1)
    assert not np.array_equal(first["w0"], second["w0"])
