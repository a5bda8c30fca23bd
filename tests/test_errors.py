"""A mistake is named as its maker knows it: the field in Python, the option in a shell."""

import math
import pickle
from dataclasses import fields

import pytest

from nanorepro import Config, ConfigError
from nanorepro.commands import run
from nanorepro.config import check_sequence
from nanorepro.errors import LONGEST, option, shown, wrong
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.parsing import real_number, whole_number

WRONG = {
    "model": "mlp", "hidden": "64,,32", "act": "gelu", "beta": "0", "data": "cubic",
    "log2_examples": "41", "log2_window": "99", "log2_eval": "25", "first_example": "-1",
    "pairs": "0", "batch": "0", "differ": "data", "optimizer": "rmsprop",
    "init": "he", "first_stream": "-1", "accumulator_at": "0:batch",
    "leaf_order": "sorted", "tree": "lanes", "accumulator": "pairwise",
    "unit_order": "sorted", "unit_tree": "blocks:0", "unit_accumulator": "neumaier",
    "precision": "bits:25", "rounding": "up", "fma": "maybe", "eval_every": "-1",
    "content": "real:1+1x1", "epochs": "0", "holdout": "1", "pair_examples": "both",
    "seed": "-1", "warm_start": "abc", "nudge_at": "-1", "nudge_ulps": "0", "nudge_weights": "0",
} | {name: "-1" for optimizer in OPTIMIZERS.values() for name in optimizer.names}  # fmt: skip


def test_every_field_has_a_wrong_value():
    assert set(WRONG) >= {f.name for f in fields(Config)}


@pytest.mark.parametrize("name", [f.name for f in fields(Config)])
def test_the_field_in_python_and_the_option_on_the_command_line(name, capsys, tmp_path):
    with pytest.raises(ConfigError) as caught:
        Config(**{name: WRONG[name]})
    assert str(caught.value).startswith(f"{name}: ")
    assert WRONG[name] in str(caught.value)
    assert "--" not in str(caught.value)
    assert caught.value.field == name
    if name != "warm_start":  # a file there
        assert run.main([f"{option(name)}={WRONG[name]}", "--out", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"nanorepro.run: error: {option(name)}: ")
        assert said.count("\n") == 1


def test_other_fields_are_named_likewise():
    with pytest.raises(ConfigError) as caught:
        Config(precision="float64", rounding="stochastic")
    assert str(caught.value).endswith("nearest, the only one with precision='float64'")
    assert caught.value.on_command_line().endswith("nearest, the only one with --precision float64")
    with pytest.raises(ConfigError, match=r"at most 1 with log2_examples=6: a window fits in it"):
        check_sequence(Config(log2_examples=6, log2_window=5))


@pytest.mark.parametrize(
    ("precision", "least"), [("float32", 2.0**-149), ("bits:8", 2.0**-133), ("float64", 5e-324)]
)
def test_an_epsilon_that_is_rounded_to_0_is_refused(precision, least):
    """Half of the least number above 0 is rounded to 0, which is even; what is more is not."""
    given = {"optimizer": "adam", "precision": f"{precision},float64"}
    if precision == "float64":
        given["precision"] = "float64"
    Config(**given, epsilon=least)
    refused = [0.0] if precision == "float64" else [0.0, least / 2, least / 4]
    for epsilon in refused:
        with pytest.raises(
            ConfigError, match=r"^epsilon: .*; give a number above .* optimizer='adam'$"
        ):
            Config(**given, epsilon=epsilon)
    if precision != "float64":
        Config(**given, epsilon=math.nextafter(least / 2, 1.0))


def test_a_value_cannot_pose_as_a_field():
    error = wrong("act", "{model=tower}", "relu")
    assert str(error) == "act: '{model=tower}' is not allowed; give relu"
    assert error.on_command_line() == "--act: '{model=tower}' is not allowed; give relu"


def test_an_error_passes_from_process_to_process():
    error = pickle.loads(pickle.dumps(wrong("log2_window", 99, "0 to 15")))
    assert (str(error), error.field) == (
        "log2_window: 99 is not allowed; give 0 to 15", "log2_window"
    )  # fmt: skip


@pytest.mark.parametrize("value", ["a\nb", "x" * 10_000, [list(range(100))] * 100, "\x1b[31m"])
def test_a_message_is_one_short_line(value):
    for text in (str(wrong("act", value, "relu")), wrong("act", value, "relu").on_command_line()):
        assert text.isprintable()
        assert len(text) < 200
    assert len(shown(value)) <= LONGEST


# Digits of other scripts, underscores, blanks, nan and inf are numbers for Python only.
STRANGE = ["３", "1٣", "1_0", " 1", "1 ", "", "+", "0x10", "nan", "inf", "infinity", "1e999", "1,5"]


@pytest.mark.parametrize("text", [*STRANGE, "1.0", "1e3", "9" * 31])
def test_what_is_no_whole_number(text):
    with pytest.raises(ValueError):
        whole_number(text)


@pytest.mark.parametrize("text", [*STRANGE, ".", "e5", "1e", "1" * 500, "1e-99999999999"])
def test_what_is_no_real_number(text):
    with pytest.raises(ValueError):
        real_number(text)


@pytest.mark.parametrize("text", ["0", "-3", "+20", "007", "18446744073709551615"])
def test_whole_numbers(text):
    assert whole_number(text) == int(text)


@pytest.mark.parametrize("text", ["0", "0.1", "-1e-7", "+.5", "3.", "1E5", "1e-400"])
def test_real_numbers(text):
    assert real_number(text) == float(text)


@pytest.mark.parametrize("f", fields(Config), ids=lambda f: f.name)
@pytest.mark.parametrize("text", ["３", "1_0", " 8"])
def test_every_field_refuses_strange_digits(f, text):
    dials = ("tree", "unit_tree", "precision")
    value = {"tree": "lanes:", "unit_tree": "lanes:", "precision": "bits:"}.get(f.name, "") + text
    assert f.name not in dials or ":" in value
    with pytest.raises(ConfigError, match=f"^{f.name}: "):
        Config(**{f.name: value})
