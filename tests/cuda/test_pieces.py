"""What is done piece by piece gives the bits of the whole, and a device's functions hard words.

Runs of a test are far too short to be cut; here the pieces are shorter.
"""

import numpy as np
import pytest
from support.records import assert_same_bits
from support.runs import assert_same_run
from support.slow import slow_after
from support.stopping import Stopped, after

from nanorepro import Config, fit, initial_parameters, simulate
from nanorepro.backends.cuda import device as seam
from nanorepro.backends.cuda import ensemble, examples, group, plans
from nanorepro.backends.cuda.formulas import source_text
from nanorepro.backends.cuda.program import streams
from nanorepro.data import sampling
from nanorepro.data.worlds import World
from nanorepro.numerics.streams import stream_key, words

SMALL = {"log2_examples": 7, "log2_eval": 6, "pairs": 1}


def counted(monkeypatch, owner, name):
    """The arguments of each call of a method from now on."""
    found, method = [], getattr(owner, name)

    def noted(self, *arguments):
        found.append(arguments)
        return method(self, *arguments)

    monkeypatch.setattr(owner, name, noted)
    return found


@pytest.mark.parametrize(
    "options",
    slow_after(2, [
        {"hidden": "3", "batch": 8},
        # drawn plans are those of the last step in every piece
        {"hidden": "3", "batch": 32, "unit_tree": "random", "act": "swish"},
        {"hidden": "33", "batch": 32, "unit_tree": "lanes:3"},
    ]),
)  # fmt: skip
def test_an_evaluation_in_pieces(interpreter, monkeypatch, options):
    config = Config(**SMALL, **options)
    units = sum(config.widths) + 1
    monkeypatch.setattr(ensemble, "PATTERNS", 2 * units * 13 + 1)  # 13 examples of some 35
    pieces = counted(monkeypatch, ensemble.Ensemble, "forward")
    assert_same_run(config, backend="cupy")
    assert {arguments[2] for arguments in pieces} >= {0, 13, 26}


@pytest.mark.parametrize(
    ("options", "size"),
    slow_after(1, [
        ({"tree": "random", "leaf_order": "random"}, 1 << 10),
        ({"unit_order": "random", "act": "swish", "batch": 4}, 1 << 12),
    ]),
)  # fmt: skip
def test_launches_that_the_memory_of_drawn_plans_splits(interpreter, monkeypatch, options, size):
    monkeypatch.setattr(plans, "BYTES", size)
    launches = counted(monkeypatch, ensemble.Ensemble, "_train")
    config = Config(**{**SMALL, "hidden": "3,2", "batch": 8, **options})
    assert_same_run(config, backend="cupy")
    assert len(launches) > 2
    assert max(arguments[-1] for arguments in launches) > 1


def test_blocks_that_the_memory_of_partial_sums_limits(interpreter, monkeypatch):
    """A thread then takes several sums, one after another."""
    monkeypatch.setattr(ensemble, "SPARE", 1)
    monkeypatch.setattr(ensemble, "BLOCK_WORK", 0)
    config = Config(hidden="30,9", batch=8, tree="pairwise", unit_tree="pairwise", lr=0.3)
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2, (16, 40)), rng.integers(0, 2, 16)
    start = initial_parameters(config, features=40)
    ours, theirs = (fit(config, x, y, start, backend=b) for b in ("cupy", "reference"))
    for name in ours:
        assert_same_bits(ours[name], theirs[name], name)


@pytest.mark.parametrize(("hidden", "batch"), slow_after(2, [("3,2", 64), ("3", 8), ("33", 8)]))
def test_pieces_that_are_not_whole_mini_batches(interpreter, monkeypatch, hidden, batch):
    """Of 20 examples each: two mini-batches of 8, or one that is longer than a piece."""
    monkeypatch.setattr(group, "PIECE", 20)
    trained = counted(monkeypatch, ensemble.Ensemble, "train")
    config = Config(**SMALL, hidden=hidden, batch=batch)
    monkeypatch.setattr(examples, "CHUNK", 64)
    assert_same_run(config, backend="cupy")
    assert len(trained) == {("33", 8): 8, ("3", 8): 2, ("3,2", 64): 2}[hidden, batch]


@pytest.mark.parametrize("hidden", ["3", "33"])
def test_a_run_goes_on_within_a_window(hidden, interpreter, monkeypatch, tmp_path):
    """Which is shuffled as a whole, also where the first examples of it are trained on already."""
    monkeypatch.setattr(group, "PIECE", 16)
    config = Config(**SMALL, hidden=hidden, batch=8, log2_window=3, eval_every="log")
    assert config.window == 64

    kept = {"checkpoint_folder": tmp_path, "say": lambda text: None}
    with pytest.raises(Stopped):
        simulate(config, "cupy", 1, after(1 / 10), **kept)
    trained = counted(monkeypatch, ensemble.Ensemble, "train")
    result = simulate(config, "cupy", 1, **kept)
    assert result.fingerprint == simulate(config, "reference", 1).fingerprint
    assert "resumed" in result.provenance
    assert 0 < trained[0][2] < config.window


def test_whole_numbers_below_n_from_two_words(interpreter):
    """The second word decides where the first one's product ends in ones."""
    rng = np.random.default_rng(1)
    cases = [(0x55555555, 0xFFFFFFFF, 3), (0x55555555, 0x55555555, 3), (0x55555555, 0x55555556, 3),
             (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (0, 0xFFFFFFFF, 1)]  # fmt: skip
    cases += [tuple(map(int, rng.integers(0, 1 << 32, 3))) for _ in range(27)]
    device = seam.current()
    program = device.compile(
        source_text("common.cu")
        + """
extern "C" __global__ void many(const u32* high, const u32* low, const u32* n, u32* found) {
  found[threadIdx.x] = bounded(high[threadIdx.x], low[threadIdx.x], n[threadIdx.x]);
}
"""
    )
    found = device.empty((len(cases),), np.uint32)
    given = [device.array(np.array(column, np.uint32)) for column in zip(*cases, strict=True)]
    program.launch("many", (1, 1), len(cases), [*given, found])
    expected = [(high << 32 | low) * n >> 64 for high, low, n in cases]
    assert device.get(found).tolist() == expected
    assert expected[:3] == [1, 0, 1]


def test_examples_at_the_thresholds_of_their_tables(interpreter):
    """A coin that is the threshold takes the alias; the odds are met in the middle of a word."""
    n, first = 16, 2**32 - 8
    key = stream_key(3, "examples", 1)
    w = np.array(words(key, np.arange(first, first + n))).astype(np.int64)
    column = np.concatenate([w[0] & 0xFFFF, w[0] >> 16])
    assert len(set(column)) == 2 * n
    alias = (column + 1) % 65536
    accept, other = np.zeros(65536, np.uint64), np.zeros(65536, np.int64)
    # in turns the column itself and its alias, of the low halves and, in another order, the high
    own = np.concatenate([np.arange(n) % 2, np.arange(n) // 2 % 2])
    accept[column], other[column] = np.concatenate([w[1], w[2]]) + own, alias
    taken = np.where(own, column, alias).reshape(2, n)
    assert len(set(taken[0])) == n
    label = np.arange(n) // 4 % 2
    p = (w[3] + np.where(label, 0.75, 0.25)) * 2.0**-32
    odds = np.ones((2, 65536))
    odds[0, taken[0]] = p / (1.0 - p)
    columns = accept << np.uint64(16) | other.astype(np.uint64)
    world = World(np.zeros(32), accept, other, columns, np.log(odds), odds)
    x, y = sampling.examples(world, key, first, n)
    assert x.tolist() == (taken[0] | taken[1] << 16).tolist()
    assert y.tolist() == label.tolist()
    device = seam.current()
    rows = device.empty((1, n), np.uint64)
    device.compile(streams()).launch("draw", (1, 1), 32, [
        device.array(np.array([key], np.uint32)), device.array(np.zeros((1, 2), np.uint32)),
        np.uint64(first), device.array(columns), device.array(odds.ravel()), rows, np.uint32(n),
    ])  # fmt: skip
    assert device.get(rows)[0].tolist() == sampling.join(x, y).tolist()
