"""The picture: the plotted numbers are the measured ones, and none is left out in silence."""

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from support.results import with_series
from support.slow import slow_after

from nanorepro import Config, simulate
from nanorepro.plots import overview
from nanorepro.results.metrics import probability

SMALL = {"log2_examples": 8, "log2_eval": 8, "hidden": "4,4"}
NAN = float("nan")


@pytest.fixture(scope="module")
def result():
    return simulate(Config(**SMALL, pairs=5, differ="init", eval_every="log"), "reference", 1)


def plotted(ax) -> dict[str, np.ndarray]:
    """(points, 2) of the lines that have a name."""
    return {line.get_gid(): line.get_xydata() for line in ax.lines if line.get_gid()}


def with_pairs(result, **changes):
    """The result with the last measures of some pairs replaced."""
    pairs = list(result.pairs)
    for k, values in changes.items():
        pairs[int(k[1:])] = pairs[int(k[1:])].changed(**values)
    return with_series(result, [*result.series[:-1], pairs])


def edited(result):
    return with_pairs(
        result,
        k0={"pd": 0.0, "stuck": (False, False)},
        k1={"stuck": (True, False), "pd": 1e-3},
        k2={"pd": NAN, "loss": (NAN, NAN), "diverged": (False, True)},
        k3={"stuck": (True, True), "pd": 0.0},
        k4={"pd": 1e-6, "stuck": (False, False)},
    )


def test_pd_by_pair(result):
    fake = edited(result)
    ax = overview.overview(fake).axes[1]
    lines = plotted(ax)
    assert ax.get_yscale() == "log"
    np.testing.assert_array_equal(lines["pd"], [(4, 1e-6)])
    np.testing.assert_array_equal(lines["pd-stuck"], [(1, 1e-3)])
    assert lines["pd-zero"][:, 0].tolist() == [0]
    assert lines["pd-zero-stuck"][:, 0].tolist() == [3]
    assert lines["pd-diverged"][:, 0].tolist() == [2]
    assert (lines["mean"][:, 1] == fake.relative_pd).all()
    names = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"stuck", "exactly 0", "exactly 0, stuck", "diverged"} <= names


def test_the_interval_is_the_results_within_the_axis(result):
    fake = edited(result)  # of its four pairs two have a PD of 0
    assert fake.relative_pd_interval[1] == np.inf > result.relative_pd_interval[1]
    for one in (result, fake):
        ax = overview.overview(one).axes[1]
        (band,) = (p for p in ax.patches if p.get_gid() == "interval")
        (low, high), (bottom, top) = one.relative_pd_interval, ax.get_ylim()
        assert band.get_y() == max(low, bottom)
        assert band.get_y() + band.get_height() == pytest.approx(min(high, top))


@pytest.mark.parametrize("options", [{"pairs": 1}, {"pairs": 3, "lr": 1e12}], ids=str)
def test_the_best_constant_lies_within_the_axis(options):
    result = simulate(Config(log2_examples=8, **options), "reference", 1)
    assert result.stuck
    for ax in overview.overview(result).axes:
        for line in ax.lines:
            if line.get_gid() == "constant":
                low, high = ax.get_ylim()
                assert low < result.constant_loss < high
                return
    pytest.fail("no line")


def test_loss_by_pair(result):
    fake = edited(result)
    lines = plotted(overview.overview(fake).axes[2])
    finite = [0, 1, 3, 4]
    for m in (0, 1):
        expected = [fake.pairs[k].loss[m] for k in finite]
        assert lines[f"loss-{m + 1}"][:, 1].tolist() == expected
        assert np.round(lines[f"loss-{m + 1}"][:, 0]).tolist() == finite
    assert lines["loss-diverged"][:, 0].tolist() == [2]
    assert (lines["constant"][:, 1] == fake.constant_loss).all()


def test_predictions_of_the_pairs_in_which_none_diverged(result):
    fake = edited(result)
    ax = overview.overview(fake).axes[0]
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    n = 1 << result.config.log2_eval
    assert mesh.get_array().sum() == 4 * n
    p = probability(fake.logits[4, :, -1])
    cell = tuple((p[::-1, 0] * overview.CELLS).astype(int))  # row: model 2, column: model 1
    assert mesh.get_array()[cell] >= fake.evaluation.counts[0]


def test_series(result):
    axes = overview.overview(result).axes
    steps = np.array(result.checkpoints) * result.config.batch
    pd, loss, churn = (ax for ax in axes if "over training" in ax.get_title(loc="left"))
    expected = [np.mean([p.pd for p in pairs]) for pairs in result.series]
    np.testing.assert_allclose(plotted(pd)["mean"], np.stack([steps, expected], axis=1))
    expected = [np.mean([p.loss for p in pairs]) for pairs in result.series]
    np.testing.assert_allclose(plotted(loss)["mean"], np.stack([steps, expected], axis=1))
    assert sum(line.get_gid() == "each" for line in pd.lines) == 5
    assert sum(line.get_gid() == "each" for line in loss.lines) == 10
    assert churn.get_ylabel() == "churn"


def test_no_series_without_checkpoints(result):
    only = with_series(replace(result, checkpoints=result.checkpoints[-1:]), result.series[-1:])
    assert not any("training" in ax.get_title(loc="left") for ax in overview.overview(only).axes)


@pytest.mark.parametrize(
    "settings",
    slow_after(2, [
        {"differ": "none", "eval_every": "log"},
        {"pairs": 1},
        {"pairs": 1, "differ": "none"},
        {"act": "swish", "beta": 0.5, "eval_every": "3"},
        {"act": "identity", "optimizer": "sgd", "lr": 1e12, "eval_every": "log"},
        {"model": "linear", "hidden": "", "optimizer": "sgd", "lr": 1e10},
    ]),
)  # fmt: skip
def test_a_png_of_every_kind_of_run(settings):
    config = Config(**{**SMALL, "pairs": 3, **settings})
    before = dict(matplotlib.rcParams)
    result = simulate(config, "reference", 1)
    figure = overview.overview(result)
    data = overview.png(figure)
    assert data.startswith(b"\x89PNG")
    assert data == overview.png(overview.overview(result))
    assert dict(matplotlib.rcParams) == before
    title = figure.get_suptitle()
    assert config.id in title
    assert config.act in title or config.model == "linear"
    assert re.sub(r"[${}]", "", title) == f"{result.title}; run {config.id}"


def test_zeros_are_said():
    result = simulate(Config(**SMALL, pairs=2, differ="none"), "reference", 1)
    ax = overview.overview(result).axes[1]
    assert "exactly 0 for every pair" in [t.get_text() for t in ax.texts]
    assert "pd" not in plotted(ax)
