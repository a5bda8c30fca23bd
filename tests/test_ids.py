"""Ids that last: neither a new option nor a default that moves changes one."""

import json
from dataclasses import asdict, fields, replace
from itertools import product

import pytest

from nanorepro import config as configuration
from nanorepro.config import Config, canonical, without_effect
from nanorepro.errors import ConfigError
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.settings import setting_of

PRINT = "5f" * 32

# Never change a line: a run of that id may be stored somewhere.
IDS = [
    ("44136fa355b3678a", {}),
    ("6b2db1a30bf777a5", {"model": "wide", "act": "swish", "beta": 2.0}),
    (
        "a5fa29b06440b214",
        {"model": "linear", "data": "quadratic", "log2_examples": 26, "log2_window": 12},
    ),
    (
        "f089c7120a5391bc",
        {"hidden": "64,32", "act": "smelu", "optimizer": "sgd", "lr": 0.01, "decay": 0.0},
    ),
    (
        "d762ad4a97609f67",
        {"differ": "shuffle,init", "pairs": 4, "seed": 2**64 - 1, "eval_every": "log"},
    ),
    (
        "0d7ec97d13cd720a",
        {"tree": "lanes:8,random", "leaf_order": "random", "differ": "order", "batch": 128},
    ),
    (
        "8abb61d8bd0993bf",
        {"accumulator": "kahan", "unit_tree": "blocks:4", "unit_order": "reversed", "fma": "off"},
    ),
    (
        "2ec61ffc942565b5",
        {"precision": "bits:8", "rounding": "stochastic", "differ": "rounding", "init": "zero"},
    ),
    (
        "0eaff8bab3556e7c",
        {"warm_start": PRINT, "first_example": 2**40, "epsilon_place": "inside", "epsilon": 0.5},
    ),
    (
        "37c3714543c69e43",
        {"initial_accumulator": 1.5, "unit_accumulator": "exact", "log2_eval": 10},
    ),
    (
        "454dca4fb3f2bf47",
        {
            "data": "file:a.npz",
            "content": "real:40+9x3:" + PRINT,
            "epochs": 3,
            "pair_examples": "split",
        },
    ),
]

# What the absence of a field in the canonical form means, for ever.
ABSENT = {
    "model": "tower", "hidden": "", "act": "relu", "beta": 1.0, "init": "glorot", "warm_start": "",
    "data": "linear", "log2_examples": 20, "log2_window": 0, "log2_eval": 16, "first_example": 0,
    "batch": 32, "pairs": 16, "differ": "shuffle", "eval_every": "", "seed": 0, "lr": 0.1,
    "epsilon": 1e-7, "initial_accumulator": 0.1, "epsilon_place": "outside", "momentum": 0.9,
    "decay": 0.001, "optimizer": "adagrad", "leaf_order": "given", "tree": "chain",
    "accumulator": "plain", "unit_order": "given", "unit_tree": "chain",
    "unit_accumulator": "plain", "precision": "float32", "rounding": "nearest", "fma": "on",
    "beta1": 0.9, "beta2": 0.999, "nudge_at": 0, "nudge_ulps": 1, "nudge_weights": 1,
    "accumulator_at": "", "first_stream": 0,
    "content": "", "epochs": 10, "holdout": 0.2, "pair_examples": "share",
}  # fmt: skip
CONTENT = "binary:40+0x3:" + PRINT
GIVEN = {"data": "file:a.npz", "content": CONTENT}
OF_GIVEN = {"content", "epochs", "holdout", "pair_examples"}  # without effect in a world


@pytest.mark.parametrize("text", ["-0", "-0.0", "-0e0"])
@pytest.mark.parametrize("field", ["momentum", "decay", "epsilon"])
def test_a_zero_has_one_id_whatever_its_sign(field, text):
    given = {"optimizer": "adagrad" if field == "epsilon" else "sgd"}
    ids = {Config(**given, **{field: value}).id for value in (text, 0, 0.0, -0.0, "0")}
    assert len(ids) == 1


@pytest.mark.parametrize(("id", "options"), IDS)
def test_an_id_stays(id, options):
    assert Config(**options).id == id, canonical(Config(**options))


@pytest.mark.parametrize("f", fields(Config), ids=lambda f: f.name)
def test_what_absence_means_stays(f):
    known = setting_of(f)
    assert f.name in ABSENT, f"{f.name} is new: write its first default into ABSENT"
    assert known.absent == ABSENT[f.name], (
        f"{f.name}: without it, an id means {ABSENT[f.name]!r}; if the default is to become"
        f" {known.default!r}, write setting({known.default!r}, ..., absent={ABSENT[f.name]!r})"
    )


def test_no_field_goes():
    assert set(ABSENT) <= {f.name for f in fields(Config)}


def test_a_default_that_moves_moves_no_id():
    """The canonical form knows what absence meant, and writes the new default."""
    before = Config(lr=0.1).id, Config(lr=0.3).id
    known = setting_of(next(f for f in fields(Config) if f.name == "lr"))
    object.__setattr__(known, "default", 0.3)
    try:
        assert (Config(lr=0.1).id, Config(lr=0.3).id) == before
    finally:
        object.__setattr__(known, "default", 0.1)


def test_the_canonical_form():
    config = Config(model="wide", optimizer="sgd", lr=0.01, differ="shuffle,init", momentum=0.5)
    assert canonical(config) == (
        '{"differ":"init,shuffle","lr":0.01,"model":"wide","momentum":0.5,"optimizer":"sgd"}'
    )


def test_another_contract_is_another_run(monkeypatch):
    before = Config().id
    monkeypatch.setattr(configuration, "CONTRACT", 2)
    assert canonical(Config()) == '{"contract":2}'
    assert Config().id != before


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ({"hidden": "16,8,4,2"}, {}),
        ({"hidden": "064,32"}, {"hidden": "64,32"}),
        ({"differ": "init,shuffle"}, {"differ": ["shuffle", "init"]}),
        ({"tree": "lanes:08"}, {"tree": "lanes:8,lanes:8"}),
        ({"precision": "bits:8,bits:08"}, {"precision": "bits:8"}),
        ({"eval_every": "0100"}, {"eval_every": 100}),
        ({"decay": -0.0, "optimizer": "sgd"}, {"decay": 0.0, "optimizer": "sgd"}),
        ({"momentum": 0.5}, {}),
        ({"beta": 3.0}, {}),
        ({"act": "swish", "beta": 3.0, "model": "linear"}, {"model": "linear"}),
        ({"epsilon_place": "none", "epsilon": 0.5}, {"epsilon_place": "none"}),
        ({"optimizer": "sgd", "epsilon": 0.5}, {"optimizer": "sgd"}),
        ({"fma": True, "lr": "0.1"}, {}),
        (
            {"accumulator_at": "2:batch=exact+01:forward=kahan"},
            {"accumulator_at": "1:forward=kahan+2:batch=exact"},
        ),
        ({"accumulator_at": "1:forward=plain", "accumulator": "kahan"}, {"accumulator": "kahan"}),
        ({"accumulator_at": "0:batch=exact,0:batch=exact"}, {"accumulator_at": "0:batch=exact"}),
        ({"epochs": 3, "holdout": 0.5, "pair_examples": "split"}, {}),
        (GIVEN, {"data": "file:moved/b.csv", "content": CONTENT}),
        (GIVEN, {"data": "arrays", "content": CONTENT}),
        (GIVEN | {"log2_examples": 3, "log2_eval": 3}, GIVEN),
        (
            {"data": "arrays", "content": CONTENT.replace("+0x", "+9x"), "holdout": 0.5},
            {"data": "arrays", "content": CONTENT.replace("+0x", "+9x")},
        ),
    ],
)
def test_equal_runs_have_equal_ids(a, b):
    assert Config(**a).id == Config(**b).id


OTHER = {
    "model": "double", "hidden": "3", "act": "swish", "beta": 2.0, "init": "zero",
    "warm_start": PRINT, "data": "quadratic", "log2_examples": 9, "log2_window": 1, "log2_eval": 3,
    "first_example": 1, "batch": 16, "pairs": 2, "differ": "none", "eval_every": "log", "seed": 1,
    "epsilon_place": "inside", "optimizer": "sgd", "leaf_order": "random", "tree": "pairwise",
    "accumulator": "kahan", "unit_order": "random", "unit_tree": "pairwise",
    "unit_accumulator": "kahan", "precision": "bits:8", "rounding": "toward-zero", "fma": "off",
    "nudge_at": 1, "nudge_ulps": 2, "nudge_weights": 2, "accumulator_at": "0:batch=exact",
    "first_stream": 1,
    "content": CONTENT.replace("5f", "60"),
    "epochs": 3, "holdout": 0.5, "pair_examples": "split",
}  # fmt: skip
OTHER |= {f.name: f.default / 2 for f in fields(Config) if f.name not in OTHER}


@pytest.mark.parametrize("name", [f.name for f in fields(Config)])
def test_every_field_that_has_an_effect_changes_the_id(name):
    found = set()
    for optimizer, examples in product(OPTIMIZERS, ({}, GIVEN)):
        plain = Config(act="smelu", optimizer=optimizer, differ="shuffle,nudge", **examples)
        if name not in without_effect(plain) and getattr(plain, name) != OTHER[name]:
            found.add(replace(plain, **{name: OTHER[name]}).id != plain.id)
    assert found == {True}


def test_an_optimizer_leaves_the_settings_of_others_out():
    for name, optimizer in OPTIMIZERS.items():
        others = {n for o in OPTIMIZERS.values() for n in o.names} - set(optimizer.names)
        config = Config(act="swish", optimizer=name, differ="nudge")
        assert without_effect(config) == others | OF_GIVEN


# Records: what a stored file or another program has.


def test_a_record_of_all_fields_gives_the_same_configuration():
    config = Config(model="wide", differ="init", precision="bits:8,float32")
    assert Config.from_record(json.loads(json.dumps(asdict(config)))) == config


def test_a_record_with_fewer_fields_means_what_absence_means():
    assert Config.from_record({"act": "swish"}) == Config(act="swish")
    known = setting_of(next(f for f in fields(Config) if f.name == "lr"))
    object.__setattr__(known, "absent", 0.7)
    try:
        assert Config.from_record({}).lr == 0.7
    finally:
        object.__setattr__(known, "absent", 0.1)


def test_a_record_with_unknown_fields_is_from_a_newer_version():
    with pytest.raises(ConfigError, match="temperature, topology are unknown: made by a newer ver"):
        Config.from_record({"topology": 1, "temperature": 0.5})


@pytest.mark.parametrize("value", [None, [], {}, True, "x", 1.5])
def test_a_record_with_wrong_values_is_refused(value):
    with pytest.raises(ConfigError, match="^batch: "):
        Config.from_record({"batch": value})
