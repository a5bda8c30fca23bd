"""What a folder's runs gave: the numbers of the results, at the right place."""

import csv
import io

import numpy as np
import pytest

from nanorepro import Config, simulate
from nanorepro.errors import ConfigError
from nanorepro.results import store
from nanorepro.sweeps import table
from nanorepro.sweeps.folder import Folder

BASE = {"model": "linear", "log2_examples": 6, "log2_eval": 4}
GRID = [
    Config(**BASE, pairs=pairs, seed=seed, differ=differ)
    for seed in (3, 1)
    for differ in ("shuffle", "init,shuffle")
    for pairs in (1, 2)
][:-1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    results = [simulate(config, "reference", 1) for config in GRID]
    for result in results:
        store.save(result, folder)
    return folder, results


def test_a_dimension_for_each_field_that_varies(runs):
    folder, results = runs
    data = table.open_results(folder)
    sizes = {"pairs": 2, "differ": 2, "seed": 2, "pair": 2, "model": 2, "end": 2}
    assert dict(data.sizes) == sizes and list(data.seed.values) == [1, 3]
    assert data.attrs["model"] == "linear" and "seed" not in data.attrs
    assert int(data.finished.sum()) == len(GRID)
    for config, result in zip(GRID, results, strict=True):
        at = data.sel(seed=config.seed, differ=config.differ, pairs=config.pairs)
        assert at.id == config.id and at.fingerprint == result.fingerprint
        assert at.relative_pd == result.relative_pd
        np.testing.assert_array_equal(at.excess_loss_interval, result.excess_loss_interval)
        pd = at.pd.values
        np.testing.assert_array_equal(pd[: config.pairs], [p.pd for p in result.pairs])
        assert np.isnan(pd[config.pairs :]).all()
        losses = at.loss.values[: config.pairs]
        np.testing.assert_array_equal(losses, [p.loss for p in result.pairs])
    missing = data.sel(seed=1, differ="init,shuffle", pairs=2)
    assert not missing.finished and np.isnan(missing.relative_pd) and missing.id == ""


def test_runs_that_are_no_grid_lie_along_one_dimension(tmp_path):
    configs = [
        Config(**BASE, pairs=1, seed=k, first_example=10 * k, log2_window=k % 2) for k in range(5)
    ]
    for config in configs:
        store.save(simulate(config, "reference", 1), tmp_path)
    data = table.open_results(tmp_path)
    assert dict(data.sizes) == {"run": 5, "pair": 1, "model": 2, "end": 2}
    assert sorted(data.seed.values) == list(range(5))
    assert list(data.first_example.values) == [10 * seed for seed in data.seed.values]
    assert set(data.id.values) == {config.id for config in configs}


def test_series_over_training_lie_along_the_steps(tmp_path):
    every = {"log": (1, 2, 4), "3": (3, 4), "": (4,)}  # of 4 mini-batches
    fixed = {**BASE, "log2_examples": 7, "pairs": 2}
    configs = [Config(**fixed, eval_every=k, seed=seed) for k in every for seed in (1, 2)]
    results = [simulate(config, "reference", 1) for config in configs]
    for result in results:
        store.save(result, tmp_path)
    data = table.open_results(tmp_path)
    assert data.pd_series.dims == ("eval_every", "seed", "step", "pair")
    assert data.loss_series.dims == (*data.pd_series.dims, "model")
    assert list(data.step.values) == [1, 2, 3, 4] and "weight_distance_series" not in data
    for config, result in zip(configs, results, strict=True):
        at = data.sel(eval_every=config.eval_every, seed=config.seed)
        steps = list(every[config.eval_every])
        for name in ("pd", "loss", "stuck"):
            found = at[f"{name}_series"]
            np.testing.assert_array_equal(found.sel(step=steps), result.measures[name])
            assert np.isnan(found.drop_sel(step=steps)).all()
            np.testing.assert_array_equal(found.sel(step=4), at[name])


def test_one_run_has_no_dimension_of_its_own(tmp_path):
    result = simulate(GRID[0], "reference", 1)
    store.save(result, tmp_path)
    data = table.open_results(tmp_path)
    assert data.relative_pd.dims == () and float(data.relative_pd) == result.relative_pd


def test_the_dataset_can_be_stored(runs, tmp_path):
    import xarray

    data = table.open_results(runs[0])
    data.to_netcdf(tmp_path / "all.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "all.nc", engine="h5netcdf") as back:
        assert back.equals(data)


def test_the_table_holds_every_pair_with_all_digits(runs):
    folder, results = runs
    found = table.entries(Folder(folder))
    rows = list(csv.DictReader(io.StringIO(table.as_csv(found))))
    assert len(rows) == sum(config.pairs for config in GRID)
    by_id = {result.config.id: result for result in results}
    for row in rows:
        pair = by_id[row["id"]].pairs[int(row["pair"])]
        assert float(row["pd"]) == pair.pd
        assert (float(row["loss_0"]), float(row["loss_1"])) == pair.loss
        config = by_id[row["id"]].config
        assert (int(row["seed"]), row["differ"], int(row["pairs"])) == (
            config.seed, config.differ, config.pairs,
        )  # fmt: skip


def test_parquet_holds_the_same(runs):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    found = table.entries(Folder(runs[0]))
    back = parquet.read_table(pyarrow.BufferReader(table.as_parquet(found)))
    columns, rows = table.rows(found)
    assert back.column_names == columns
    assert [tuple(row.values()) for row in back.to_pylist()] == [tuple(row) for row in rows]


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(ConfigError, match="no finished runs"):
        table.open_results(tmp_path)
