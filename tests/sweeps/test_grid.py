"""Grids: what is expanded, and one clear line for what cannot be."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.sweeps import grid


def expanded(text, tmp_path, axes=(), **settings):
    path = tmp_path / "grid.toml"
    path.write_text(text)
    return grid.expand(grid.combine(grid.read(path), grid.from_words(axes)), **settings)


def test_the_product_of_axes_with_the_last_fastest(tmp_path):
    found = expanded("pairs = 2\n[axes]\nact = ['relu', 'smelu']\nseed = [0, 1, 2]", tmp_path)
    assert [(c.act, c.seed, c.pairs) for c in found.configs] == [
        (act, seed, 2) for act in ("relu", "smelu") for seed in (0, 1, 2)
    ]


def test_products_and_runs_stand_beside_each_other(tmp_path):
    found = expanded(
        "pairs = 2\nbeta = 0.5\n[[product]]\nact = ['smelu', 'swish']\nseed = [3, 4]\n"
        "[[run]]\nact = 'relu'\npairs = 1\ntree = 'lanes:8'\n",
        tmp_path,
    )
    assert [(c.act, c.beta, c.seed, c.pairs, c.tree) for c in found.configs] == [
        ("smelu", 0.5, 3, 2, "chain"),
        ("smelu", 0.5, 4, 2, "chain"),
        ("swish", 0.5, 3, 2, "chain"),
        ("swish", 0.5, 4, 2, "chain"),
        ("relu", 0.5, 0, 1, "lanes:8"),
    ]


def test_the_command_line_alone_and_beside_a_file(tmp_path):
    alone = grid.expand(grid.combine([], grid.from_words(["act=relu,smelu", "log2-window=0,10"])))
    assert [(c.act, c.log2_window) for c in alone.configs] == [
        ("relu", 0), ("relu", 10), ("smelu", 0), ("smelu", 10),
    ]  # fmt: skip
    both = expanded("[[run]]\npairs = 1\n[[run]]\npairs = 2", tmp_path, ["seed=1,2"])
    assert [(c.pairs, c.seed) for c in both.configs] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_values_with_commas_are_parted_by_semicolons():
    found = grid.expand(grid.combine([], grid.from_words(["differ=shuffle;init,shuffle"])))
    assert [c.differ for c in found.configs] == ["shuffle", "init,shuffle"]


def test_the_same_run_is_done_once_and_said(tmp_path):
    found = expanded("[axes]\nact = ['relu', 'smelu']\nbeta = [1.0, 2.0]", tmp_path)
    assert [(c.act, c.beta) for c in found.configs] == [
        ("relu", 1.0), ("smelu", 1.0), ("smelu", 2.0),
    ]  # fmt: skip
    assert found.merged == ("act=relu, beta=2.0 of grid.toml is act=relu, beta=1.0 of grid.toml",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("actt = 'relu'", ["grid.toml", "'actt'", "did you mean act?"]),
        ("[axis]\nact = ['relu']", ["'axis'", "did you mean axes?"]),
        ("log2_window = '5'", ["log2_window", "'5' (text)", "give a whole number"]),
        ("[axes]\nlr = [0.1, true]", ["[axes]", "lr", "True", "give a number"]),
        ("hidden = [64, 32]", ["hidden", "64", "text in quotes"]),
        ("pairs = 1.0", ["pairs", "1.0", "a whole number"]),
        ("[axes]\nact = []", ["act", "has no values"]),
        ("", ["no runs"]),
        ("[[run]]\n", ["[[run]] 1", "nothing in it"]),
        ("[[run]]\nact = ['relu']", ["[[run]] 1", "act is a list"]),
        ("act = 'relu'\n[axes]\nact = ['relu']", ["act", "at the top and in [axes]"]),
        ("axes = 3", ["axes is not a table"]),
        ("run = 3", ["run is not a table"]),
        ("act = ", ["not TOML", "Invalid value"]),
        ("act = 'rellu'", ["run 1 of grid.toml", "act='rellu'", "relu or smelu"]),
        ("warm_start = 3", ["warm_start", "text in quotes"]),
        (
            "[axes]\nmodel = ['tower', 'wide']\nhidden = ['64']",
            ["run 2 of grid.toml", "model='wide', hidden='64'", "no widths with model='wide'"],
        ),
        (
            "log2_examples = 8\n[axes]\nlog2_window = [0, 9]",
            ["run 2 of grid.toml", "log2_examples=8, log2_window=9", "at most 3"],
        ),
    ],
)
def test_what_cannot_be_is_one_line(text, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        expanded(text, tmp_path)
    line = error.value.on_command_line()
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        (["act"], ["'act'", "FIELD=VALUE"]),
        (["act="], ["act has no values"]),
        (["act=relu", "act=smelu"], ["act is given twice"]),
        (["lg2_window=0"], ["did you mean log2_window?"]),
        (["seed=1,x"], ["run 2 of --grid", "seed='x'", "whole number"]),
    ],
)
def test_wrong_words_are_one_line(axes, words):
    with pytest.raises(ConfigError) as error:
        grid.expand(grid.combine([], grid.from_words(axes)))
    for word in words:
        assert word in str(error.value)


def test_a_field_in_the_file_and_on_the_command_line(tmp_path):
    with pytest.raises(ConfigError, match=r"act is in grid.toml, too"):
        expanded("act = 'relu'", tmp_path, ["act=smelu"])


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b"act = '\xff'")
    for name, word in (("none.toml", "No such file"), ("latin.toml", "UTF-8"), (".", "directory")):
        with pytest.raises(ConfigError, match=word):
            grid.read(tmp_path / name)


def test_many_runs_are_asked_for(tmp_path):
    text = (
        "[axes]\nseed = ["
        + ",".join(map(str, range(500)))
        + "]\nfirst_example = ["
        + ",".join(map(str, range(201)))
    )
    with pytest.raises(ConfigError, match=r"100,500 runs are more than 100,000; give --yes"):
        expanded(text + "]", tmp_path)
    small = expanded("[axes]\nseed = [0, 1, 2]", tmp_path, most=None)
    assert len(small.configs) == 3


@settings(deadline=None)  # of a machine that others use
@given(
    st.dictionaries(
        st.sampled_from(["seed", "pairs", "log2_eval", "first_example"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        min_size=1,
    )
)
def test_every_combination_is_there_once(axes):
    found = grid.expand(grid.blocks({"axes": axes}, "g"))
    distinct = math.prod(len(set(values)) for values in axes.values())
    assert len({c.id for c in found.configs}) == len(found.configs) == distinct
    assert len(found.merged) == math.prod(map(len, axes.values())) - distinct
    assert all(isinstance(c, Config) for c in found.configs)
