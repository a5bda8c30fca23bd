"""The measurement of the rank test: its models have the faults that it names, its counts hold."""

import numpy as np

from bench import compare_power
from bench.compare_power import Cell, Fault, as_markdown, pool, trials
from nanorepro import Config, simulate

CONFIG = Config(
    model="tower", hidden="2", log2_examples=8, pairs=1, differ="order", leaf_order="random"
)


def test_models_and_their_faults():
    faults = [Fault("none", {}), Fault("rate", {"lr": 0.101}), Fault("bias", {}, dropped="b0")]
    found = pool(CONFIG, faults, 2, 1)
    sound = simulate(CONFIG, threads=1).parameters[0]
    for model, expected in zip(found["none"], sound, strict=True):  # the two models of the pair
        assert all(np.array_equal(model[name], expected[name]) for name in expected)
    assert not found["bias"][0]["b0"].any() and found["bias"][0]["b1"].any()
    assert abs(found["rate"][0]["w0"] - sound[0]["w0"]).max() > 1e-5


def test_counts_and_the_table():
    draw = np.random.default_rng(0)
    good = [{"w": draw.normal(size=20)} for _ in range(25)]
    bad = [{"w": draw.normal(size=20) + 100.0} for _ in range(3)]
    assert trials(good, bad, 18, 3, draw) == [1 / 20] * 3
    p = trials(good, [], 18, 10, draw)
    assert len(p) == 10 and min(p) >= 1 / 20 and max(p) > 1 / 20
    cells = [Cell("m", "f", n, 0.05, 1, 4) for n in compare_power.SIZES]
    assert as_markdown(cells).splitlines()[-1] == "| m | f | 0.250 (4) | 0.250 (4) | 0.250 (4) |"
