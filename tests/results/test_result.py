"""A result as an object: labelled, compared by content, hashed, shown, copied."""

import copy
import json
import math
import pickle
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
import xarray
from support.results import with_series
from support.slow import slow_after

from nanorepro import Config, ConfigError, attribute, diverge, simulate
from nanorepro.commands.run import as_json, as_table
from nanorepro.plots import overview
from nanorepro.results import metrics, store
from nanorepro.results.metrics import METRICS
from nanorepro.results.result import Pair, Result
from nanorepro.results.studentized import mean_of
from nanorepro.sweeps import checking
from nanorepro.sweeps.work import Task

CONFIGS = {
    "tower": Config(log2_examples=8, log2_eval=8, pairs=3, eval_every="log"),
    "linear": Config(model="linear", log2_examples=8, log2_eval=8, pairs=2, differ="init"),
    "wide": Config(
        model="wide", act="smelu", log2_examples=6, log2_eval=6, pairs=1, precision="float64"
    ),
    "diverged": Config(
        hidden="5,3,4,3", act="relu", optimizer="sgd", lr=1e12, log2_examples=8, log2_eval=8,
        pairs=2,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def results():
    return {name: simulate(config, "reference", 1) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", slow_after(2, CONFIGS))
def test_results_are_equal_by_content(results, name):
    result = results[name]
    again = simulate(CONFIGS[name], "numba", 2)
    assert result == again and hash(result) == hash(again)
    assert len({result, again}) == 1
    later = replace(again, seconds=1e9, provenance={"cpu": "another"})
    assert result == later


def test_results_of_other_content_are_not(results):
    tower = results["tower"]
    assert tower != results["linear"]
    assert tower != "tower" and tower is not None
    other = [[p.changed(churn=0.5) for p in at] for at in tower.series]
    assert tower != with_series(tower, other)
    assert tower != replace(tower, logits=tower.logits + 1)
    assert tower != replace(tower, config=replace(tower.config, seed=1))
    parameters = copy.deepcopy(tower.parameters)
    parameters[0][0]["w0"][0, 0] += 1
    assert tower != replace(tower, parameters=parameters)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, copy.copy, lambda result: pickle.loads(pickle.dumps(result))]
)
def test_copies_are_equal(results, name, duplicate):
    results[name].intervals, results[name].series  # noqa: B018  (what is cached is copied, too)
    found = duplicate(results[name])
    assert found == results[name] and isinstance(found, Result)
    assert repr(found) == repr(results[name])
    np.testing.assert_equal(found.pairs[0].measures, results[name].pairs[0].measures)


@pytest.mark.parametrize("name", CONFIGS)
def test_labelled_arrays_are_those_of_the_stored_file(results, name, tmp_path):
    result = results[name]
    path = store.save(result, tmp_path)
    here = result.to_xarray()
    for engine in ("h5netcdf", None):
        with xarray.open_dataset(path, engine=engine) as stored:
            there = stored.load()
        for one in (here, there):  # NaN is equal to none, and has to be in both
            one.attrs = {k: np.nan_to_num(v) if np.asarray(v).dtype.kind == "f" else v
                         for k, v in one.attrs.items()}  # fmt: skip
        xarray.testing.assert_identical(here, there)
        assert {k: v.dtype for k, v in here.variables.items()} == {
            k: v.dtype for k, v in there.variables.items()
        }


def test_labelled_arrays_say_what_they_are(results):
    found = results["tower"].to_xarray()
    assert found["loss"].dims == ("checkpoint", "pair", "model")
    assert found["loss"].attrs == {"long_name": "excess label loss, eq. 2", "units": "nats"}
    assert found["w1"].dims == ("pair", "model", "unit_0", "unit_1")
    assert found["checkpoint"].values.tolist() == [1, 2, 4, 8]
    assert float(found["pd"].sel(checkpoint=8).mean()) == pytest.approx(
        results["tower"].relative_pd
    )
    assert all("long_name" in found[name].attrs for name in found.data_vars)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_result_is_shown_on_one_screen(results, name):
    text, page = repr(results[name]), results[name]._repr_html_()
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 120
    assert results[name].fingerprint in text and results[name].fingerprint in page
    assert results[name].config.model in text.splitlines()[0]
    assert page.startswith("<table>") and page.count("<tr>") == len(text.splitlines()) - 1


def test_many_pairs_are_shown_without_a_bootstrap(results, monkeypatch):
    monkeypatch.setattr("nanorepro.results.result.QUICK", 1)
    fresh = replace(results["tower"])
    assert "95 %" not in repr(fresh)
    fresh.intervals  # noqa: B018
    assert "95 %" in repr(fresh)


def test_each_interval_is_computed_once(results, monkeypatch, tmp_path):
    """Whatever a run does with its result: store it, print it, draw it."""
    calls = []
    monkeypatch.setattr(
        "nanorepro.results.result.mean_of",
        lambda values, key: calls.append(tuple(values)) or mean_of(values, key),
    )
    result = replace(results["tower"])
    store.save(result, tmp_path)
    as_table(result, {}), as_json(result, {}), overview.overview(result), repr(result)
    assert result.relative_pd_interval == result.intervals["pd"]
    assert len(calls) == len(set(calls)) == len(result.intervals)


# Every consumer reads the table of metrics.


def test_every_metric_is_in_store_json_table_and_labelled_arrays(results, tmp_path):
    result = results["linear"]
    with h5py.File(store.save(result, tmp_path)) as f:
        for name, metric in METRICS.items():
            assert f[name].attrs["long_name"] == metric.meaning
            assert f[name].attrs["units"] == metric.unit
            assert [d.values()[0].name[1:] for d in f[name].dims] == list(metric.dims)
    report, table = json.loads(json.dumps(as_json(result, {}))), as_table(result, {})
    labelled_arrays = result.to_xarray()
    for name, metric in METRICS.items():
        assert labelled_arrays[name].dims == metric.dims
        assert set(report["pairs"][0]) == set(METRICS)
        assert f"\n  {metric.words}" in table
        assert (name in report["series"][0]) == metric.by_checkpoint
        assert result.measures[name].ndim == len(metric.dims)


@pytest.mark.parametrize("name", ["disagreement", "weight_distance"])
def test_a_metric_that_is_newer_than_a_file_is_nan_there(results, tmp_path, monkeypatch, name):
    """A file without one of the table's metrics, as an older version made it, opens."""
    result = results["linear"]
    older = {n: values for n, values in result.measures.items() if n != name}
    table = dict(METRICS)
    with monkeypatch.context() as patch:
        patch.delitem(METRICS, name)
        path = store.save(replace(result, measures=older), tmp_path)
    METRICS.clear()
    METRICS.update(table)  # in their order, which columns of tables follow
    found = store.load(path)
    assert np.isnan(found.measures[name]).all()
    assert found.fingerprint == result.fingerprint
    assert found.measures["churn"].tolist() == result.measures["churn"].tolist()
    # it is the same run still, also where it is stored once more
    assert found == result and result == found and found.absent == {name}
    assert store.save(result, tmp_path) == path
    again = store.load(store.save(found, tmp_path / "again"))
    assert again == result and again.absent == {name}
    assert checking.replay(found, Task(found.config), "reference", 1) == []
    other = result.measures["churn"] + 1.0
    assert found != replace(result, measures={**result.measures, "churn": other})


def test_pairs_have_the_metrics_of_predictions(results):
    pair = results["tower"].pairs[1]
    assert pair.pd == results["tower"].measures["pd"][-1, 1]
    assert isinstance(pair.pd, float) and isinstance(pair.loss, tuple)
    assert pair.stuck in {(a, b) for a in (False, True) for b in (False, True)}
    with pytest.raises(AttributeError, match="has no 'nothing'; it has pd, loss"):
        pair.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        pair.weight_distance  # noqa: B018
    assert pair == Pair(dict(pair.measures)) != pair.changed(pd=2.0)
    assert copy.deepcopy(pair) == pickle.loads(pickle.dumps(pair)) == pair


def test_intervals_hold_nothing_that_cannot_be():
    """A relative PD of the caller's examples is 2 at most, a share or a cosine 1."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (64, 3))
    config = Config(model="linear", epochs=2, batch=8, pairs=8)
    result = simulate(config, "reference", 1, data=(x, x[:, 0]))
    measures = dict(result.measures)
    for name in ("pd", "churn", "disagreement"):
        few = np.full(8, 1e-7)
        few[0] = 0.5  # one pair of eight parts: the tail of such pairs is taken for long
        measures[name] = np.where(np.arange(len(measures[name]))[:, None] >= 0, few, 0.0)
    measures["weight_correlation"] = np.array([1.0] * 7 + [-0.999])
    wide = replace(result, measures=measures).intervals
    assert wide["pd"][1] == 2.0 and wide["churn"][1] == wide["disagreement"][1] == 1.0
    assert wide["weight_correlation"][0] >= -1.0 and wide["weight_correlation"][1] <= 1.0
    for name, (low, high) in {**result.intervals, **wide}.items():
        assert result.metrics[name].least <= low <= high <= result.metrics[name].most, name


def test_losses_that_overflow_have_an_average():
    assert metrics.average([1.7e308, 1.7e308]) == math.inf
    assert math.isnan(metrics.average([])) and metrics.average([1.0, 2.0]) == 1.5


def test_a_mean_of_what_is_no_metric_is_refused(results):
    with pytest.raises(ConfigError, match="name: 'bogus' is not allowed; give .*pd or "):
        results["linear"].mean("bogus")


def test_records_of_arrays_are_equal_by_what_they_hold(tmp_path):
    config = Config(hidden="3", log2_examples=6, log2_eval=4, pairs=2)
    given = {"backend": "reference", "threads": 1}
    found = [
        [
            simulate(config, **given).evaluation,
            diverge(config, **given),
            diverge(config, **given).pairs[1],
            attribute(config, tmp_path, **given),
            attribute(config, tmp_path, sums=True, **given).sums,
        ]
        for _ in range(2)
    ]
    for one, again in zip(*found, strict=True):
        assert one == again and one == copy.deepcopy(one) and one != 1
        with pytest.raises(TypeError, match="unhashable"):
            hash(one)
        for field in fields(one):
            value = getattr(one, field.name)
            if isinstance(value, np.ndarray):
                other = value.copy()
                other.flat[-1] += 1
                assert replace(one, **{field.name: other}) != one, field.name
                nan = np.full(value.shape, np.nan)
                a, b = (replace(one, **{field.name: nan.copy()}) for _ in range(2))
                assert a == b
    assert len({type(one) for one in found[0]}) == 5
