"""Attribution of PD that was planted, and of runs in which it is known what must come out."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanorepro import Config, ConfigError, attribute, load, simulate
from nanorepro.analysis.attribution import (
    Attribution,
    attribution,
    runs_of,
    sources_of,
    unit_roundoff,
)
from nanorepro.analysis.shapley import members
from nanorepro.analysis.single_sums import SingleSums, alone, inexact_sites, log_pd
from nanorepro.commands.attribute import as_table
from nanorepro.dials import dials
from nanorepro.numerics.single_sums import sites, text_of
from nanorepro.sweeps.work import Settings, Task, make
from nanorepro.training import simulation

FOUR = Config(differ="init,shuffle,nudge", tree="chain,lanes:8", pairs=3)
TINY = Config(hidden="3", log2_examples=7, log2_eval=5, pairs=3, differ="init,shuffle,order,nudge")


def planted(config, value, pairs=3):
    """The attribution where the PD of every pair is a function of the set of sources."""
    names = [s.name for s in sources_of(config)]
    pd = {
        run.id: np.full(pairs, value({n for n, here in zip(names, there, strict=True) if here}))
        for run, there in zip(runs_of(config), members(len(names)), strict=True)
    }
    return attribution(config, pd)


def by_name(found):
    return {e.source.name: e for e in found.effects}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1e-12, 0.5), min_size=16, max_size=16))
@example([0.5] * 15 + [1e-12])
def test_the_shares_add_up_to_the_whole(values):
    values[0] = 0.0
    left = iter(values)
    found = planted(FOUR, lambda there: next(left))
    greatest = max(values[1:])
    decades = max(1.0, log_pd(greatest, found.floor))  # of logarithms of numbers near 1
    for what, whole, most in (
        ("share", 1.0, greatest / found.whole.value),
        ("value", found.whole.value, greatest),
        ("log_share", 1.0, decades / found.decades),
        ("log_value", found.decades, decades),
    ):
        parts = [getattr(e, what).value for e in found.effects]
        # as exactly as differences of the greatest value are
        assert sum(parts) == pytest.approx(whole, rel=1e-12, abs=1e-14 * most)


def test_a_source_that_does_all_has_it_all_and_one_that_does_nothing_has_nothing():
    found = planted(FOUR, lambda there: 0.25 if "shuffle" in there else 0.0)
    for name, e in by_name(found).items():
        all_of_it = 1.0 if name == "shuffle" else 0.0
        for share in (e.log_share, e.share):
            assert share == pytest.approx((all_of_it,) * 3, abs=1e-12)
    assert not any(i.log_matters or i.matters for i in found.interactions)
    assert found.findings()[0].startswith("shuffle has the largest share of log PD, 100 %")


def test_equal_sources_share_equally_and_overlap():
    found = planted(FOUR, lambda there: 0.25 if {"init", "nudge"} & there else 0.0)
    effects = by_name(found)
    for name in ("init", "nudge"):
        assert effects[name].share.value == pytest.approx(0.5)
        assert effects[name].log_share.value == pytest.approx(0.5)
        assert effects[name].without.value == pytest.approx(0.25)
    [one] = [i for i in found.interactions if i.matters or i.log_matters]
    assert (one.first.name, one.second.name) == ("init", "nudge")
    assert one.value.value == pytest.approx(-0.25)
    assert "init and nudge overlap" in "\n".join(found.findings())


def test_sources_that_need_each_other_amplify_each_other():
    found = planted(FOUR, lambda there: 0.25 if {"init", "nudge"} <= there else 0.0)
    assert by_name(found)["init"].alone.value == 0.0
    [one] = [i for i in found.interactions if i.matters or i.log_matters]
    assert one.log_value.value == pytest.approx(found.decades)
    assert "init and nudge amplify each other" in "\n".join(found.findings())


def test_decades_are_those_above_the_roundoff():
    u = unit_roundoff(FOUR)
    assert u == 2.0**-24
    found = planted(FOUR, lambda there: 99.0 * u if there else 0.0)
    assert found.decades == pytest.approx(2.0)
    assert unit_roundoff(Config(precision="bits:8,float64")) == 2.0**-8


def test_a_pair_that_diverged_in_one_run_is_left_out_of_all():
    found = planted(FOUR, lambda there: float(len(there)), pairs=4)
    found.pd[5, 2] = np.nan
    assert found.known.tolist() == [True, True, False, True]
    assert found.as_record()["pairs_left_out"] == 1
    assert found.whole.value == pytest.approx(4.0)


def test_an_absent_dial_has_its_first_value_in_both_models():
    config = Config(differ="nudge", tree="pairwise,lanes:8", fma="off,on")
    assert [s.name for s in sources_of(config)] == ["nudge", "tree=pairwise,lanes:8", "fma=off,on"]
    said = [(run.differ, run.tree, run.fma) for run in runs_of(config)]
    assert said == [
        (differ, tree, fma)
        for fma in ("off", "off,on")
        for tree in ("pairwise", "pairwise,lanes:8")
        for differ in ("none", "nudge")
    ]


def test_the_effects_are_those_of_the_runs():
    found = attribute(TINY, backend="reference")
    effects = by_name(found)
    assert effects["order"].idle and not any(effects[n].idle for n in ("init", "shuffle", "nudge"))
    for differ, value in (
        ("init", effects["init"].alone),
        ("init,nudge", effects["shuffle"].without),
        ("init,shuffle,nudge", found.whole),
    ):
        run = simulate(
            Config(hidden="3", log2_examples=7, log2_eval=5, pairs=3, differ=differ), "reference"
        )
        assert value.value == pytest.approx(run.relative_pd, rel=1e-12)
    assert found.nothing == (0.0, 0.0, 0.0)


@cache
def by_the_specification(config):
    """Each run of an attribution by itself, by its id."""
    return {run.id: simulate(run, "reference", 1) for run in set(runs_of(config))}


@pytest.mark.parametrize("stored", [False, True])
def test_first_models_are_trained_once_and_the_runs_are_as_ever(stored, tmp_path, monkeypatch):
    """The second models alone tell the runs of the subsets apart, whatever precision they have."""
    config = Config(
        hidden="3", batch=16, log2_examples=6, log2_eval=5, pairs=2, differ="init,rounding,nudge",
        rounding="stochastic", precision="bits:11,bits:8", nudge_at=2,
    )  # fmt: skip
    plain = by_the_specification(config)
    trained, train = [], simulation.Simulation.train

    def counted(self, job):
        trained.extend(model for _, model in job.models)
        return train(self, job)

    monkeypatch.setattr(simulation.Simulation, "train", counted)
    if stored:
        for run in runs_of(config):
            settings = Settings(str(tmp_path), "reference")
            make(Task(run, firsts=runs_of(config)[0].id), settings, "", 1, lambda *_: None)
            assert load(tmp_path / f"{run.id}.h5") == plain[run.id]
    else:
        found = attribute(config, backend="reference")
        for run, pd in zip(runs_of(config), found.pd, strict=True):
            assert np.array_equal(pd, plain[run.id].measures["pd"][-1])
    assert (trained.count(0), trained.count(1)) == (2, 2 * len(plain))


def test_first_models_that_were_changed_are_refused():
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=2, differ="init")
    result = simulate(config, "reference", 1)
    none = [[{n: 0.0 * a for n, a in m.items()} for m in pair] for pair in result.parameters]
    with pytest.raises(ConfigError, match="are not those of its fingerprint"):
        simulate(replace(config, differ="none"), "reference", 1,
                 firsts=replace(result, parameters=none))  # fmt: skip


def test_other_first_models_are_refused():
    config = Config(hidden="3", log2_examples=5, log2_eval=4, pairs=1, differ="none")
    result = simulate(config, "reference", 1)
    for change in ({"seed": 1}, {"tree": "lanes:2"}, {"eval_every": "1"}, {"pairs": 2}):
        with pytest.raises(ConfigError, match="firsts: run .* has other first models"):
            simulate(replace(config, **change), "reference", 1, firsts=result)


def test_a_dial_that_draws_makes_the_order_a_source():
    config = Config(hidden="3", log2_examples=6, log2_eval=4, pairs=2, differ="order",
                    leaf_order="given,random")  # fmt: skip
    assert [run.differ for run in runs_of(config)] == ["none", "none", "none", "order"]


def test_where_all_diverge_nothing_is_told_and_what_is_unknown_is_a_dash():
    config = Config(hidden="3", log2_examples=6, log2_eval=4, pairs=3, differ="init,shuffle")
    for pd, said in ((np.full((4, 3), math.nan), "in every pair a model diverged"),
                     (np.zeros((4, 3)), "PD is exactly 0"),
                     (np.array([[0, math.nan, math.nan]] * 4), "PD is exactly 0")):  # fmt: skip
        found = Attribution(config, sources_of(config), runs_of(config), pd, 2.0**-24)
        assert [text[: len(said)] for text in found.findings()] == [said]
        table = as_table(found)
        assert "nan" not in table and "bug" not in table
    assert "2 pairs diverged and are left out, of 3" in table


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(differ="none"), "differ in nothing; give sources out of init,shuffle"),
        (Config(tree="chain,chain", differ="none"), "differ in nothing"),
        (Config(warm_start="0" * 64), "no warm start here"),
        (Config(eval_every="log"), "eval_every: only the last step is measured here; give none"),
        (Config(pairs=1), "pairs: 1 is not allowed; give 2 or more"),
        (
            Config(
                differ="init,shuffle,order,rounding,nudge", tree="chain,pairwise", fma="on,off",
                leaf_order="given,random", unit_tree="chain,pairwise", unit_order="given,random",
                accumulator="plain,kahan",
            ),
            "11 sources are 2048 runs",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_attributed_is_refused(config, said):
    with pytest.raises(ConfigError, match=said):
        attribute(config, backend="reference")


@pytest.mark.parametrize("floor", [0.0, -1.0, 1.0, float("nan")])
def test_a_floor_is_between_0_and_1(floor):
    with pytest.raises(ConfigError, match="floor: .* is not allowed"):
        attribute(TINY, backend="reference", floor=floor)


# Single sums


def sums_of(values, as_is, none=0.0, pairs=4, spread=0.0):
    """Single sums with a planted PD, by the sum; others have `none`."""
    config = Config(hidden="4,3", differ="shuffle", pairs=pairs)
    rng = np.random.default_rng(0)
    sums = inexact_sites(config)
    means = [as_is, none, *(values.get(site, none) for site in sums)]
    pd = np.array(means)[:, None] * np.exp(spread * rng.normal(size=(len(means), pairs)))
    return SingleSums(config, tuple(sums), pd, 2.0**-24)


def test_sums_of_one_term_and_exact_ones_are_not_asked_for():
    config = Config(hidden="4,3", accumulator_at="0:batch=exact+1:forward=exact,0:batch=exact")
    assert inexact_sites(config) == [
        (0, "forward"), (1, "forward"), (1, "backward"), (1, "batch"), (2, "forward"), (2, "batch"),
    ]  # fmt: skip
    assert (1, "batch") not in inexact_sites(Config(hidden="4,3", batch=1))


def test_all_others_are_exact():
    config = Config(hidden="4,3", accumulator="plain,kahan", unit_accumulator="wide")
    found = alone(config, (1, "batch"))
    for model, own in ((0, "plain"), (1, "kahan")):
        d = dials(found, model)
        assert {s: d.accumulator_of(*s) for s in sites(3)} == {
            s: own if s == (1, "batch") else "exact" for s in sites(3)
        }


def test_a_planted_sum_is_responsible():
    found = sums_of({(1, "batch"): 1e-3, (0, "batch"): 1e-7}, as_is=1.1e-3, spread=0.5)
    assert found.responsible == (1, "batch") and found.sufficient == ((1, "batch"),)
    assert found.as_record()["responsible"] == "layer 1 batch"
    assert "one alone is responsible, layer 1 batch" in found.findings()[0]


def test_sums_that_each_suffice_are_all_named():
    found = sums_of({(1, "batch"): 1e-3, (0, "batch"): 5e-4}, as_is=1e-3)
    assert found.responsible is None
    assert "each of 2 alone suffices: layer 1 batch 0.001, layer 0 batch" in found.findings()[0]


def test_a_sum_that_is_first_by_chance_is_not_responsible():
    found = sums_of({(1, "batch"): 6e-7, (0, "batch"): 1e-7}, as_is=1e-6)
    assert found.responsible == (1, "batch")
    found = sums_of({(1, "batch"): 6e-7, (0, "batch"): 1e-7}, as_is=1e-6)
    for site, row in {(1, "batch"): [20, 1, 1, 2], (0, "batch"): [2, 1, 2, 1]}.items():
        found.pd[2 + found.sites.index(site)] = np.array(row) * 1e-7
    assert found.sufficient == ((1, "batch"),)
    assert found.responsible is None and (0, "batch") in found.rivals
    assert "layer 0 batch" in found.findings()[0]


@pytest.mark.parametrize("parted, told", [(1, False), (4, False), (5, True), (16, True)])
def test_a_sum_whose_mean_is_that_of_few_pairs_is_not_responsible(parted, told):
    every = dict.fromkeys(inexact_sites(Config(hidden="4,3")), 3e-8)
    found = sums_of(every, as_is=3e-8, pairs=16, spread=0.1)
    for row in (0, 2 + found.sites.index((1, "batch"))):
        found.pd[row, :parted] = 7e-4
    assert found.sufficient == ((1, "batch"),)
    assert (found.responsible == (1, "batch")) == told
    assert ("not told apart" in found.findings()[0]) == (not told)


def test_what_no_sum_makes_is_said():
    found = sums_of({}, as_is=1e-3, none=1e-3)
    assert "what makes it is no rounding of a sum" in found.findings()[0]
    assert sums_of({}, as_is=0.0).findings() == ["sums: PD is exactly 0 as they are"]


@pytest.mark.parametrize(
    "planted",
    [(0, "batch"), pytest.param((1, "forward"), marks=pytest.mark.slow)],
    ids=str,
)
def test_a_sum_that_alone_is_not_exact_in_a_run_is_found(planted):
    others = dict.fromkeys((s for s in sites(3) if s != planted), "exact")
    config = Config(hidden="4,3", log2_examples=8, log2_eval=5, pairs=2, differ="order",
                    leaf_order="random", unit_order="random", lr=0.5,
                    accumulator_at=text_of(others))  # fmt: skip
    found = attribute(config, backend="reference", sums=True)
    assert found.whole.value > 0.0
    assert found.sums.sites == (planted,) and found.sums.responsible == planted
    assert found.sums.means[1] == (0.0, 0.0, 0.0) and found.sums.means[2] == found.whole


def test_a_sum_that_two_models_take_in_two_ways_is_found():
    at = "0:batch=plain,0:batch=kahan"
    config = Config(hidden="3", log2_examples=7, log2_eval=4, pairs=2, differ="none",
                    precision="bits:11", accumulator_at=at)  # fmt: skip
    found = attribute(config, backend="reference", sums=True)
    assert [e.source.name for e in found.effects] == [f"accumulator_at={at}"]
    assert found.whole.value > 0.0 and found.sums.responsible == (0, "batch")


# Your own examples


def test_your_own_examples_have_their_sources_and_sums():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 2, (96, 1)), rng.integers(0, 2, 96)
    config = Config(hidden="3", pairs=2, differ="init,shuffle", batch=8)
    found = attribute(config, backend="reference", data=(x, y))
    assert (0, "forward") not in inexact_sites(found.config)  # one feature: a sum of one term
    assert by_name(found)["init"].alone.value > 0.0 and found.nothing.value == 0.0
