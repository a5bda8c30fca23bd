"""How long runs are said to take and how large their files are, beside the runs themselves."""

import statistics
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support.slow import slow_after

from nanorepro import Config, save, simulate
from nanorepro.training import calibration
from nanorepro.training.calibration import BUDGET, SHORTEST, Calibration
from nanorepro.training.example_stream import CHUNK
from nanorepro.training.examples import with_content


@pytest.mark.parametrize(
    "config",
    [
        Config(act="relu", log2_examples=19, log2_window=8, log2_eval=8, pairs=1),
        Config(model="linear", log2_examples=21, log2_window=14, log2_eval=8, pairs=1),
        pytest.param(
            Config(model="deep", data="quadratic", log2_examples=14, log2_eval=8, pairs=1),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["tower", "linear", "deep"],
)
def test_a_run_takes_what_was_said(config):
    """Within a factor of 1.5; the median of three, of CPU seconds, which others disturb less."""
    ratios = []
    for _ in range(3):
        said = Calibration("numba", 1, time.process_time).speed(config).seconds(config)
        begin = time.process_time()
        simulate(config, "numba", 1, checkpoint_minutes=0)
        ratios.append(said / (time.process_time() - begin))
    assert 1 / 1.5 < statistics.median(ratios) < 1.5, ratios


class Clock:
    """A time that passes with the runs alone: a second an example costs, a run, a pair."""

    def __init__(self, monkeypatch, each, fixed, pair, slow=0):
        self.now, self.ran = 0.0, []
        real = calibration.simulate

        def runs(config, backend, threads, **options):
            first = not self.ran
            self.ran.append(config)
            window = config.window > CHUNK
            late = max(config.examples - slow, 0)  # examples after the slow ones at the beginning
            train = each * (late + 3 * min(config.examples, slow)) * 2 * config.pairs
            measure = pair * config.pairs * len(config.checkpoints)
            self.now += fixed + train * (1 + window) + measure + 5.0 * first
            short = config.log2_examples == SHORTEST
            return real(config, "reference", 1) if short else SimpleNamespace(config=config)

        monkeypatch.setattr(calibration, "simulate", runs)

    def __call__(self):
        return self.now


@pytest.mark.parametrize("log2", [5, 10, 20, 24])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_measured_is_said(log2, threads, monkeypatch):
    """Also of runs so short that their training takes no time that can be told from the rest."""
    clock = Clock(monkeypatch, 5e-9, 0.004, 0.001)
    config = Config(model="linear", log2_examples=log2, log2_eval=4, pairs=4, eval_every="log")
    found = Calibration("numba", threads, clock).speed(config)
    assert found.each == pytest.approx(5e-9, rel=1e-3)
    assert found.pair == pytest.approx(0.001, rel=1e-3)
    assert found.fixed == pytest.approx(0.004, rel=1e-3)
    assert found.first == pytest.approx(5.0, rel=1e-3)
    wanted = 0.004 + (5e-9 * 8 * 2**log2 + 0.001 * 4 * len(config.checkpoints)) / threads
    assert found.seconds(config) == pytest.approx(wanted, rel=1e-3)


def test_slow_examples_at_the_beginning_do_not_count(monkeypatch):
    clock = Clock(monkeypatch, 1e-5, 0.004, 0.001, slow=1024)
    found = Calibration("numba", 1, clock).speed(Config(hidden="3", log2_eval=4))
    assert found.each == pytest.approx(1e-5, rel=1e-3)


def test_the_measuring_keeps_to_its_time(monkeypatch):
    for each in (1e-9, 1e-7, 1e-5, 1e-3):
        clock = Clock(monkeypatch, each, 0.001, 0.0)
        Calibration("numba", 1, clock).speed(Config(model="linear", log2_examples=26, log2_eval=4))
        assert clock.now - 5.0 < 2 * BUDGET, each
        monkeypatch.undo()


def test_each_kind_is_measured_once_and_with_its_window(monkeypatch):
    clock = Clock(monkeypatch, 5e-9, 0.004, 0.001)
    config = Config(model="linear", log2_examples=26, log2_eval=4)
    found = Calibration("numba", 1, clock)
    speeds = {w: found.speed(replace(config, log2_window=w)) for w in (0, 8, 12, 14, 20, 21)}
    assert speeds[0] is speeds[8] is speeds[12] and speeds[14].each > 1.9 * speeds[0].each
    assert len(found.kinds) == 1
    ran = len(clock.ran)
    found.speed(replace(config, log2_window=12, seed=7, lr=0.3, pairs=9))
    assert len(clock.ran) == ran
    slow = Clock(monkeypatch, 1e-4, 0.004, 0.001)  # of which no window is reached
    found = Calibration("numba", 1, slow)
    assert len({found.speed(replace(config, log2_window=w)).each for w in (0, 14, 20)}) == 1
    assert len(found.speeds) == 1


BLOCKS = (
    4096  # bytes by which a file is longer or shorter, as HDF5 allocates small arrays in blocks
)


def size_of(config, folder):
    return save(simulate(config, "reference"), folder).stat().st_size


@pytest.mark.parametrize(
    "options",
    slow_after(1, [
        {"model": "linear", "log2_examples": 10, "pairs": 16, "eval_every": "log"},
        {"data": "quadratic", "hidden": "64,32", "log2_examples": 6, "pairs": 6},
        {"log2_examples": 6, "pairs": 8, "precision": "float32,float64"},
    ]),
)  # fmt: skip
def test_the_size_of_a_file(options, tmp_path):
    config = Config(**options, log2_eval=10)
    said = Calibration("reference", 1).speed(config).size(config)
    assert said == pytest.approx(size_of(config, tmp_path), abs=BLOCKS)


def test_your_own_examples(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (300, 32))
    np.savez(tmp_path / "own.npz", x=x, y=x[:, 0])
    own = Config(model="linear", data=f"file:{tmp_path / 'own.npz'}", pair_examples="split")
    config, _ = with_content(replace(own, pairs=3, epochs=8))
    speed = Calibration("reference", 1).speed(config)
    assert speed.each > 0.0 and speed.patterns == config.evaluation_examples
    assert speed.size(config) == pytest.approx(size_of(config, tmp_path), abs=BLOCKS)
