"""The picture of an attribution: what is plotted is what was measured."""

import dataclasses

import numpy as np
import pytest

from nanorepro import Config
from nanorepro.analysis.attribution import Attribution, runs_of, sources_of, unit_roundoff
from nanorepro.analysis.shapley import members
from nanorepro.analysis.single_sums import SingleSums, inexact_sites
from nanorepro.plots.attribution import attribution
from nanorepro.plots.style import file_of

CONFIG = Config(hidden="4,3", differ="init,shuffle,nudge", pairs=6)


def found(diverged=False, nothing=False):
    rng, there = np.random.default_rng(0), members(3)
    pd = (there @ [1e-2, 1e-4, 0.0])[:, None] * rng.lognormal(0.0, 0.5, (8, 6))
    if diverged:
        pd[3, :] = np.nan
    pd = 0.0 * pd if nothing else pd
    sums = inexact_sites(CONFIG)
    rows = np.array([1e-2, 0.0, *(1e-2 * (site == (1, "batch")) for site in sums)])
    rows = rows[:, None] * rng.lognormal(0.0, 0.2, (len(rows), 6))
    floor = unit_roundoff(CONFIG)
    single = SingleSums(CONFIG, tuple(sums), rows, floor)
    return Attribution(CONFIG, sources_of(CONFIG), runs_of(CONFIG), pd, floor, single)


def lines(ax, gid):
    return [line.get_xydata() for line in ax.lines if line.get_gid() == gid]


def test_means_shares_and_intervals_are_the_measured_ones():
    of = found()
    figure = attribution(of)
    left, right, *_ = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    effects = {e.source.name: e for e in of.effects}
    assert names == sorted(names, key=lambda n: effects[n].log_share.value)
    means = {x for line in lines(left, "mean") for x, _ in line}
    for e in of.effects:
        for mean in (e.alone, e.without):
            assert mean.value in means or mean.value == 0.0
    assert [line[0, 0] for line in lines(left, "whole")] == [of.whole.value]
    assert sum(t.get_text() == "exactly 0" for t in left.texts) == 1  # the nudge alone
    for name in ("log_share", "share"):
        widths = [p.get_width() for p in right.patches if p.get_gid() == name]
        assert widths == pytest.approx([100.0 * getattr(effects[n], name).value for n in names])
    assert file_of(figure).startswith(b"\x89PNG")


def test_the_responsible_sum_has_a_frame_and_every_sum_its_pd():
    of = found()
    figure = attribution(of)
    ax = next(ax for ax in figure.axes if "this sum alone" in ax.get_title("left"))
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert len(texts) == len(of.sums.sites)
    assert texts[1, 2] == f"{of.sums.means[2 + of.sums.sites.index((1, 'batch'))].value:.2g}"
    assert {text for at, text in texts.items() if at != (1, 2)} == {"0"}
    [frame] = [p for p in ax.patches if p.get_gid() == "sufficient"]
    assert frame.get_x() < 1 < frame.get_x() + frame.get_width()


def test_an_interval_without_an_end_goes_to_the_rim():
    of = found()
    pd = of.pd.copy()
    pd[1, 1:] = 0.0  # of the first source alone: one pair of six
    figure = attribution(dataclasses.replace(of, pd=pd))
    left = figure.axes[0]
    drawn = [line[:, 0] for line in lines(left, "interval")]
    assert len(drawn) == 5  # of three sources two means each, but the nudge alone: exactly 0
    low, high = left.get_xlim()
    assert sum(ends[0] < low and ends[1] > high for ends in drawn) == 1


@pytest.mark.parametrize("what", ["diverged", "nothing"])
def test_it_is_drawn_of_pairs_that_diverged_and_of_no_difference(what):
    assert file_of(attribution(found(**{what: True}))).startswith(b"\x89PNG")
