"""The command that reveals the order of a sum."""

import pytest

from nanorepro.commands import reveal
from nanorepro.probing import kernels


def test_command(capsys, tmp_path):
    picture = tmp_path / "tree.png"
    status = reveal.main(
        ["--hidden", "3", "--tree", "lanes:2", "--batch", "4", "--backend", "reference",
         "--picture", str(picture)]
    )  # fmt: skip
    assert status == 0
    assert capsys.readouterr().out == (
        "batch sum of w1, step 0, reference\n((0 + 2) + (1 + 3))\nequals the plan asked for\n"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert reveal.main(["numpy:dot", "--terms", "4"]) == 0
    assert "numpy:dot, 4 terms, float32" in capsys.readouterr().out


def test_another_tree_is_status_1(capsys, monkeypatch):
    monkeypatch.setattr(kernels, "asked", lambda *_: (0, 1))
    assert reveal.main(["--hidden", "3", "--batch", "3", "--backend", "reference"]) == 1
    assert "NOT the plan asked for:\n(0 + 1)" in capsys.readouterr().out


def test_a_hidden_tree_is_one_line_and_status_1(capsys, monkeypatch):
    words = ["--tree", "pairwise", "--accumulator", "kahan", "--batch", "8", "--model", "linear"]
    status = reveal.main([*words, "--backend", "reference"])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "with kahan the tree of this sum cannot be seen from outside" in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--tree", "lanes:0"], "lanes:k with k from 1 to 4096"),
        (["--tree", "text"], "chain or pairwise"),
        (["--precision", "bits:25"], "p from 2 to 24"),
        (["--at", "w9"], "give one of w0, b0"),
        (["--sum", "forward", "--at", "b0"], "no sum over units"),
        (["--sum", "backward", "--at", "w0"], "first layer"),
        (["--sum", "forward", "--step", "2"], "step 0 only"),
        (["--step", "-1"], "0 to 10000"),
        (["--batch", "1"], "one term"),
        (["--batch", "4096"], "2 to 2048"),
        (["--terms", "1", "numpy:sum"], "2 to 2048"),
        (["--no-such"], "--no-such"),
        (["sum"], "module:function"),
        (["no_such_module:sum"], "no_such_module"),
        (["numpy:no_such"], "no_such"),
        (["numpy:pi"], "no function"),
        (["numpy:max"], "does not sum"),
        (["numpy:sum", "--picture", "/dev/null/a.png"], "--picture"),
        (["numpy:sum", "--picture", "p" * 252 + ".png"], "a name is too long"),
        (["--tree", "chain,pairwise"], "--tree: 'chain,pairwise' is not allowed; give one value"),
    ],
)
def test_wrong_options(arguments, message, capsys):
    assert reveal.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
