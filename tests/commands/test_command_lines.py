"""Command lines as people type them, of every command: one line says what is wrong."""

from importlib import import_module
from pathlib import Path

import pytest
from support.commands import call, refused

import nanorepro
from nanorepro.commands import main as listing
from nanorepro.commands.common import carry_out
from nanorepro.commands.parser import Parser
from nanorepro.errors import ConfigError

MAINS = {name: import_module(f"nanorepro.commands.{name}").main for name in listing.COMMANDS}
MAINS["nanorepro"] = listing.main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own, so that what is written by mistake is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MAINS)
def test_every_command_has_version_and_help(name):
    assert call(MAINS[name], "--version") == (0, f"nanorepro {nanorepro.__version__}\n", "")
    for word in ("-h", "--help"):
        status, said, warned = call(MAINS[name], word)
        assert (status, warned) == (0, "")
        assert said.startswith("usage: ") and "--version" in said


@pytest.mark.parametrize("name", MAINS)
@pytest.mark.parametrize("word", ["--versoin", "-version", "—version", "--VERSION", "--vers"])
def test_what_is_nearly_an_option(name, word):
    assert f"{word!r} is not an option; did you mean --version?" in refused(MAINS[name], word)


@pytest.mark.parametrize("module", ["bench.__main__", "bench.micro", "bench.dials", "bench.growth"])
@pytest.mark.parametrize(
    "words, right",
    [
        (["--rounds", "-1"], "--rounds: '-1' is not allowed"),
        (["--rouns", "1"], "did you mean --rounds?"),
        (["--seconds", "１"], "--seconds: '１' is not allowed"),
        (["--core", "999"], "--core: '999' is not allowed"),
        (["--rounds"], "--rounds: the value is missing"),
    ],
)
def test_benchmarks_read_their_options_likewise(module, words, right):
    run = import_module(module).run

    def main(words):
        return carry_out("bench", lambda words, console: run(words), words)

    assert call(main, "--version") == (0, f"nanorepro {nanorepro.__version__}\n", "")
    assert right in refused(main, *words)


def test_the_list_of_commands():
    status, said, warned = call(listing.main)
    assert (status, warned) == (0, "")
    width = max(map(len, listing.COMMANDS))
    for name, words in listing.COMMANDS.items():
        assert f"  {name:<{width}}  {words}\n" in said
    assert call(listing.main, "help") == (0, said, "") == call(listing.main, "--help")


@pytest.mark.parametrize("name", listing.COMMANDS)
def test_help_of_a_command(name):
    assert call(listing.main, "help", name) == call(MAINS[name], "--help")
    assert call(listing.main, name, "--help") == call(MAINS[name], "--help")


@pytest.mark.parametrize(
    "words, right",
    [
        (["rnu"], "'rnu' is not a command; did you mean run?"),
        (["fig"], "'fig' is not a command; did you mean figure?"),
        (["Run"], "'Run' is not a command; did you mean run?"),
        (["train"], "'train' is not a command"),
        (["help", "reveall"], "'reveall' is not a command; did you mean reveal?"),
        (["--model", "tower"], "'--model' is not an option"),
        ([""], "'' is not a command"),
    ],
)
def test_unknown_commands(words, right):
    line = refused(listing.main, *words)
    assert line.startswith("nanorepro: error: ")
    assert right in line


def test_a_command_by_its_name():
    direct = call(MAINS["run"], "--lr", "-1")
    assert call(listing.main, "run", "--lr", "-1") == direct


# The value of an option


@pytest.mark.parametrize(
    "name, words, option, value",
    [
        ("run", ["--lr", "-1e-3"], "--lr", "-0.001"),
        ("run", ["--lr=-1e-3"], "--lr", "-0.001"),
        ("run", ["--lr", "-.5"], "--lr", "-0.5"),
        ("run", ["--lr", "-inf"], "--lr", "-inf"),
        ("run", ["--seed", "-1"], "--seed", "-1"),
        ("run", ["--beta", "-x"], "--beta", "-x"),
        ("run", ["--out", "-x"], "--out", "-x"),
        ("run", ["--warm-start", "-x"], "--warm-start", "-x"),
        ("run", ["--threads", "-4"], "--threads", "-4"),
        ("run", ["--eval-every", "-4"], "--eval-every", "-4"),
        ("run", ["--act", "-relu"], "--act", "-relu"),
        ("figure", ["2", "--seed", "-1"], "--seed", "-1"),
        ("figure", ["2", "--minutes", "-0.5"], "--minutes", "-0.5"),
        ("figure", ["2", "--windows", "-1,2"], "--windows", "-1"),
        ("figure", ["2", "--out", "-x"], "--out", "-x"),
        ("figure", ["2", "--report", "-x.md"], "--report", "-x.md"),
        ("reveal", ["numpy:sum", "--terms", "-3"], "--terms", "-3"),
        ("reveal", ["numpy:sum", "--picture", "-x.png"], "--picture", "-x.png"),
        ("reveal", ["--step", "-1"], "--step", "-1"),
        ("reveal", ["--beta", "-1"], "--beta", "-1"),
    ],
)
def test_values_with_a_minus(name, words, option, value, elsewhere):
    line = refused(MAINS[name], *words, folder=elsewhere)
    assert option in line and value in line
    assert "missing" not in line


@pytest.mark.parametrize(
    "name, words, option",
    [
        ("run", ["--lr"], "--lr"),
        ("run", ["--lr", "--act", "relu"], "--lr"),
        ("run", ["--out", "-q"], "--out"),
        ("run", ["--lr", "--", "0.1"], "--lr"),
        ("run", ["--lr=--"], "--lr"),
        ("run", ["--lr", "--atc", "relu"], "--lr"),
        ("figure", ["2", "--seed"], "--seed"),
        ("figure", [], "figure"),
        ("figure", ["--scale", "smoke"], "figure"),
        ("reveal", ["numpy:sum", "--terms"], "--terms"),
    ],
)
def test_missing_values(name, words, option, elsewhere):
    assert f"error: {option}: the value is missing" in refused(
        MAINS[name], *words, folder=elsewhere
    )


EMPTY = {
    "run": [
        "lr", "act", "seed", "pairs", "out", "threads", "backend", "differ", "warm-start",
        "hidden", "accumulator-at", "eval-every",
    ],
    "figure": ["scale", "log2-examples", "pairs", "windows", "seed", "minutes", "out", "report"],
    "reveal": ["terms", "dtype", "picture", "hidden"],
}  # fmt: skip


@pytest.mark.parametrize("name, option", [(n, o) for n, some in EMPTY.items() for o in some])
def test_empty_values(name, option, elsewhere):
    first = {"run": [], "figure": ["2"], "reveal": ["numpy:sum"]}[name]
    for words in ([f"--{option}", ""], [f"--{option}="]):
        line = refused(MAINS[name], *first, *words, folder=elsewhere)
        assert f"--{option}" in line and "''" in line


FULLWIDTH = [
    ("run", ["--threads", "２"]),
    ("run", ["--pairs", "２"]),
    ("run", ["--log2-examples", "٣"]),
    ("run", ["--lr", "０.1"]),
    ("run", ["--hidden", "４,4"]),
    ("run", ["--eval-every", "４"]),
    ("run", ["--tree", "lanes:４"]),
    ("run", ["--precision", "bits:８"]),
    ("figure", ["３"]),
    ("figure", ["3", "--threads", "²"]),
    ("figure", ["3", "--pairs", "２"]),
    ("figure", ["3", "--windows", "0,２"]),
    ("figure", ["3", "--minutes", "１"]),
    ("figure", ["3", "--log2-examples", "１０"]),
    ("figure", ["3", "--seed", "１"]),
    ("reveal", ["numpy:sum", "--terms", "４"]),
    ("reveal", ["--step", "１"]),
    ("reveal", ["--batch", "４"]),
]


@pytest.mark.parametrize("name, words", FULLWIDTH)
def test_digits_of_other_scripts(name, words, elsewhere):
    line = refused(MAINS[name], *words, folder=elsewhere)
    assert words[-1] in line or words[-1].split(",")[-1] in line


@pytest.mark.parametrize("value", ["1_000", " 3", "3 ", "1e1", "0x10", "+", "9" * 5000])
@pytest.mark.parametrize(
    "name, words",
    [
        ("run", ["--threads"]),
        ("run", ["--pairs"]),
        ("figure", ["3", "--pairs"]),
        ("figure", ["3", "--seed"]),
        ("reveal", ["numpy:sum", "--terms"]),
    ],
)
def test_whole_numbers(name, words, value, elsewhere):
    line = refused(MAINS[name], *words, value, folder=elsewhere)
    assert words[-1] in line
    assert len(line) < 300


# Options


@pytest.mark.parametrize(
    "name, words, right",
    [
        ("run", ["--lrr", "1"], "'--lrr' is not an option; did you mean --lr?"),
        ("run", ["-lr", "1"], "'-lr' is not an option; did you mean --lr?"),
        ("run", ["--mod", "tower"], "'--mod' is not an option; did you mean --model?"),
        ("run", ["--LR=1"], "'--LR=1' is not an option; did you mean --lr?"),
        ("run", ["--log2_examples", "8"], "did you mean --log2-examples?"),
        ("run", ["–lr", "1"], "did you mean --lr?"),
        ("run", ["lr=1"], "'lr=1' is not an option; did you mean --lr?"),
        ("run", ["--learning-rate", "1"], "did you mean --lr?"),
        ("run", ["--activation", "relu"], "did you mean --act?"),
        ("run", ["--batch-size", "8"], "did you mean --batch?"),
        ("run", ["--optimiser", "sgd"], "did you mean --optimizer?"),
        ("run", ["tower"], "'tower' is not an option; did you mean --model tower?"),
        ("run", ["--nothing-like-it"], "--help lists them"),
        ("run", ["-x"], "'-x' is not an option"),
        ("run", ["--", "--lr", "1"], "'--lr' is not an option"),
        ("run", ["--json=yes"], "--json: 'yes' is not allowed; give no value"),
        ("run", ["--quiet=1"], "--quiet: '1' is not allowed; give no value"),
        ("figure", ["2", "--treads", "1"], "did you mean --threads?"),
        ("figure", ["2", "3"], "'3' is one word too many"),
        ("figure", ["2", "--plan=1"], "give no value"),
        ("reveal", ["numpy:sum", "--term", "3"], "did you mean --terms?"),
        ("reveal", ["numpy:sum", "8"], "'8' is one word too many"),
    ],
)
def test_unknown_options(name, words, right, elsewhere):
    assert right in refused(MAINS[name], *words, folder=elsewhere)


@pytest.mark.parametrize(
    "name, words",
    [
        ("run", ["--lr", "0.1", "--lr", "0.2"]),
        ("run", ["--lr=0.1", "--act", "relu", "--lr", "0.1"]),
        ("figure", ["2", "--seed", "1", "--seed", "2"]),
        ("reveal", ["numpy:sum", "--terms", "4", "--terms", "5"]),
    ],
)
def test_options_given_twice(name, words, elsewhere):
    line = refused(MAINS[name], *words, folder=elsewhere)
    assert "given twice" in line and words[-2] in line and repr(words[-1]) in line


def test_an_option_may_follow_two_dashes_or_stand_anywhere():
    one = call(MAINS["reveal"], "numpy:sum", "--terms", "4")
    assert one[0] == 0
    assert call(MAINS["reveal"], "--terms", "4", "numpy:sum") == one
    assert call(MAINS["reveal"], "--terms=4", "--", "numpy:sum") == one


def test_options_of_the_other_kind_of_sum():
    assert "--batch: goes with our own sums" in refused(MAINS["reveal"], "numpy:sum", "--batch=4")
    assert "--terms: goes with a module:function" in refused(MAINS["reveal"], "--terms", "4")


def test_options_of_several_values():
    """As commands that take lists need them."""
    found = Parser(prog="name", quiet=True)
    found.add_argument("first", metavar="A")
    found.add_argument("rest", nargs="*", metavar="B")
    found.add_argument("--grid", nargs="+", metavar="NAME=VALUES")
    found.add_argument("--set", action="append", metavar="X")
    words = ["a", "--set", "-1", "--grid", "act=relu,smelu", "lr=-1", "--set=2", "-q", "b", "c"]
    options, given = found.read(words)
    assert (options.first, options.rest) == ("a", ["b", "c"])
    assert options.grid == ["act=relu,smelu", "lr=-1"]
    assert (options.set, options.quiet) == (["-1", "2"], True)
    assert given == {"set", "grid", "quiet"}
    for wrong, right in (
        (["a", "--grid"], "--grid: the value is missing"),
        (["a", "--grid", "-q"], "--grid: the value is missing"),
        ([], "first: the value is missing"),
    ):
        with pytest.raises(ConfigError, match=right):
            found.read(wrong)


TABLE = "a,b,y\n" + "".join(f"{k % 2},{k % 3 % 2},{k % 2}\n" for k in range(60))
FEW = ["--hidden", "2", "--pairs", "2", "--log2-examples", "6", "--log2-eval", "4", "-q"]


@pytest.mark.parametrize("name", ["run", "diverge", "attribute"])
def test_options_without_a_meaning_are_refused_and_those_without_an_effect_told(name):
    Path("a.csv").write_text(TABLE)
    command = MAINS[name]
    assert "--epochs: it is for examples of a file; give --data file:NAME, too" in refused(
        command, *FEW, "--epochs", "3"
    )
    of_file = ["--data", "file:a.csv", "--hidden", "2", "--batch", "4", "-q", "--pairs", "2"]
    said = refused(command, *of_file, "--log2-examples", "8")
    assert "--log2-examples: it is for worlds; --data file: has --epochs" in said
    reference = ["--backend", "reference"]
    _, _, warned = call(command, *FEW, *reference, "--beta", "3", "--momentum", "0.2")
    assert warned == f"nanorepro.{name}: --beta, --momentum: without effect on this run\n"
    assert call(command, *of_file, *reference)[2] == ""  # nor is --data


def test_an_option_that_one_of_two_runs_reads_has_an_effect():
    words = [*FEW, "--backend", "reference", "--beta", "3"]
    assert call(MAINS["diverge"], *words, "--by", "act=relu,swish")[2] == ""
    assert "--beta: without" in call(MAINS["diverge"], *words, "--by", "act=relu,identity")[2]


def test_a_field_is_given_once():
    said = refused(MAINS["diverge"], "--by", "act=relu,smelu", "--act", "swish")
    assert "--act: --by sets it; give one of the two" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", []), ("diverge", []), ("attribute", ["--pairs", "2"]),
        ("sweep", ["--grid", "nudge_weights=1,9999", "--grid", "differ=nudge"]),
    ],
)  # fmt: skip
def test_more_weights_than_there_are_are_not_nudged(name, words, elsewhere):
    given = words if name == "sweep" else ["--differ", "nudge", "--nudge-weights", "9999", *words]
    said = refused(MAINS[name], *given)
    assert "9999 is not allowed; give at most 682, all weights of the model" in said
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["run", "diverge", "attribute", "sweep"])
def test_held_out_examples_of_one_class_are_refused_before_anything_is_trained(name, elsewhere):
    Path("a.csv").write_text("a,b,y\n0,1,1\n1,0,0\n1,1,0\n0,0,0\n0,1,0\n")
    words = ["--data", "file:a.csv", "--batch", "1", "--pairs", "2"]
    if name == "sweep":
        words = ["--grid", "data=file:a.csv", "--grid", "batch=1"]
    said = refused(MAINS[name], *words)
    assert "holdout: 1 held-out example is of one class; give another part or seed" in said
    assert [path.name for path in elsewhere.iterdir()] == ["a.csv"]
