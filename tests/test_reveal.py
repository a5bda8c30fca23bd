"""Trees revealed from outside, against trees that are known."""

import math
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanorepro import reveal
from nanorepro.config import Config, ConfigError, dials
from nanorepro.summation import fixed_plan

ROOT = Path(__file__).resolve().parent.parent


def random_tree(draw, leaves, most):
    """A tree over the leaves with up to `most` parts at a node."""
    if len(leaves) == 1:
        return leaves[0]
    parts = draw(st.integers(2, min(most, len(leaves))))
    cuts = sorted(draw(st.permutations(range(1, len(leaves))))[: parts - 1])
    pieces = [leaves[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    return tuple(random_tree(draw, piece, most) for piece in pieces)


@st.composite
def trees(draw, most=2):
    n = draw(st.integers(2, 24))
    return reveal.canonical(random_tree(draw, draw(st.permutations(range(n))), most)), n


def adding(tree, dtype):
    """A function that sums by a tree; a node of more parts truncates them to its largest."""

    def total(part, terms):
        if not isinstance(part, tuple):
            return terms[part]
        values = [total(p, terms) for p in part]
        if len(values) == 2:
            return dtype(values[0] + values[1])
        scale = 2.0 ** (math.frexp(max(abs(float(v)) for v in values))[1] - 30)
        return dtype(sum(math.trunc(float(v) / scale) for v in values) * scale)

    return lambda terms: total(tree, terms)


@given(trees())
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_known_trees(dtype, tree_and_n):
    tree, n = tree_and_n
    assert reveal.reveal(adding(tree, dtype), n, dtype) == tree


@given(trees(most=5))
@settings(deadline=None, max_examples=60)
def test_known_trees_with_fused_nodes(tree_and_n):
    tree, n = tree_and_n
    assert reveal.reveal(adding(tree, np.float32), n) == tree


def test_a_sum_rounded_once_is_one_node():
    assert reveal.reveal(math.fsum, 9) == tuple(range(9))


def test_few_bits():
    plan = fixed_plan("lanes:4", 30)

    def two_bits(a):
        mantissa, exponent = math.frexp(a)
        return math.ldexp(round(mantissa * 4) / 4, exponent)

    def total(terms):
        slots = {}
        for slot, source in plan.tolist():
            value = float(terms[source]) if source >= 0 else slots.pop(~source)
            slots[slot] = two_bits(slots.get(slot, 0.0) + value)
        return slots[0]

    assert reveal.reveal(total, 30, bits=2) == reveal.tree_of_plan(plan)


def test_no_tree():
    draws = np.random.default_rng(1)
    with pytest.raises(reveal.NoTree):
        reveal.reveal(lambda terms: np.sum(draws.permutation(terms)), 20)
    with pytest.raises(reveal.NoTree):
        reveal.reveal(lambda terms: np.inf, 20)


def test_numpy():
    chain = reveal.reveal(lambda terms: np.cumsum(terms)[-1], 12)
    assert chain == reveal.tree_of_plan(fixed_plan("chain", 12))
    assert reveal.reveal(np.sum, 7) == reveal.tree_of_plan(fixed_plan("chain", 7))
    # documented in NumPy's loops: eight strided partial sums, joined pairwise
    assert reveal.reveal(np.sum, 40) == reveal.tree_of_plan(fixed_plan("lanes:8", 40))


def names(config):
    return [name for layer in reveal._net(config) for name in layer.names]


def check_all(config, backend, step=1):
    """Every sum of a model is the one that was asked for."""
    seen = 0
    for at in names(config):
        for which in ("batch", "forward", "backward"):
            first_or_bias = at in reveal._net(config)[0].names or at.startswith("b")
            if which == "backward" and first_or_bias or which == "forward" and at.startswith("b"):
                continue
            if reveal.terms_of(config, which, at) in (1, 1000):
                continue
            number = step if which == "batch" else 0
            tree = reveal.probe(config, which, at, number, backend)
            assert tree == reveal.asked(config, which, at, number), (config, which, at)
            seen += 1
    return seen


DIALS = {
    "chain": {"leaf_order": "random", "unit_order": "random", "batch": 5},
    "pairwise": {"leaf_order": "given", "unit_order": "reversed", "batch": 13},
    "lanes:3": {"leaf_order": "reversed", "unit_order": "given", "batch": 8},
    "blocks:4": {"leaf_order": "random", "unit_order": "given", "batch": 7},
    "random": {"leaf_order": "random", "unit_order": "random", "batch": 12},
}


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("tree", DIALS)
def test_every_sum_of_a_tower(tree, backend):
    config = Config(hidden="4,3", tree=tree, unit_tree=tree, act="swish", **DIALS[tree])
    assert check_all(config, backend) == 6 + 3 + 1


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("model", ["linear", "single", "wide"])
def test_every_sum_of_a_model(model, backend):
    config = Config(model=model, tree="blocks:3", leaf_order="reversed", unit_tree="lanes:5",
                    act="smelu", beta=0.5, batch=10)  # fmt: skip
    assert check_all(config, backend) >= 3


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "float64"},
        {"precision": "bits:2"},
        {"precision": "bits:8", "act": "identity"},
        {"rounding": "toward-zero"},
        {"accumulator": "wide", "unit_accumulator": "wide", "act": "relu"},
        {"accumulator": "exact", "unit_accumulator": "exact"},
        {"fma": "off"},
        {
            "accumulator": "kahan",
            "unit_accumulator": "kahan",
            "tree": "chain",
            "unit_tree": "chain",
        },
    ],
    ids=str,
)
def test_every_sum_in_other_arithmetic(settings):
    plain = {"hidden": "3", "act": "smelu", "tree": "lanes:3", "unit_tree": "pairwise", "batch": 6}
    check_all(Config(**{**plain, **settings}), "reference")


def test_stochastic():
    config = Config(hidden="3", tree="lanes:3", batch=8, rounding="stochastic", precision="bits:8")
    assert reveal.probe(config, at="w1", backend="reference") == reveal.asked(config, "batch", "w1")


def test_a_large_batch():
    config = Config(model="linear", batch=100, tree="blocks:7")
    assert reveal.probe(config) == reveal.asked(config, "batch", "w0")


def test_the_two_models_dials_are_told_apart():
    config = Config(model="linear", tree="chain,pairwise", batch=6)
    assert dials(config, 0).tree == "chain"
    assert reveal.probe(config, backend="reference") == reveal.tree_of_plan(fixed_plan("chain", 6))


# Showing


def test_formula_and_outline():
    assert reveal.formula(((0, 1), 2)) == "((0 + 1) + 2)"
    assert reveal.outline(reveal.tree_of_plan(fixed_plan("chain", 32))) == (
        "32 one after another: 0 .. 31"
    )
    assert reveal.outline(reveal.tree_of_plan(fixed_plan("blocks:3", 10))) == (
        "3 one after another:\n"
        "  4 one after another: 0 .. 3\n"
        "  3 one after another: 4, 5, 6\n"
        "  3 one after another: 7, 8, 9"
    )
    assert reveal.outline(tuple(range(5))) == "5 at once: 0 .. 4"


@given(trees(most=4))
@settings(deadline=None)
def test_outline_names_every_term_once(tree_and_n):
    tree, n = tree_and_n
    assert sorted(reveal.leaves(tree)) == list(range(n))
    assert len(reveal.outline(tree).splitlines()) < 2 * n


def test_picture_has_a_line_for_every_part():
    tree = reveal.tree_of_plan(fixed_plan("pairwise", 8))
    axes = reveal.draw(tree, "eight").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list("01234567")
    assert len(axes.lines) == 14 + 7 + 1  # parts, nodes, the root
    assert axes.get_title() == "eight"


# The command


def test_command(capsys, tmp_path):
    picture = tmp_path / "tree.png"
    status = reveal.run(
        ["--hidden", "3", "--tree", "lanes:2", "--batch", "4", "--backend", "reference",
         "--picture", str(picture)]
    )  # fmt: skip
    assert status == 0
    assert capsys.readouterr().out == (
        "batch sum of w1, step 0, reference\n((0 + 2) + (1 + 3))\nequals the plan asked for\n"
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert reveal.run(["numpy:dot", "--terms", "4"]) == 0
    assert "numpy:dot, 4 terms, float32" in capsys.readouterr().out


def test_another_tree_is_status_1(capsys, monkeypatch):
    monkeypatch.setattr(reveal, "asked", lambda *_: (0, 1))
    assert reveal.run(["--hidden", "3", "--batch", "3", "--backend", "reference"]) == 1
    assert "NOT the plan asked for:\n(0 + 1)" in capsys.readouterr().out


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
        (["numpy:sum", "--picture", "/no/such/folder/a.png"], "no such folder"),
    ],
)
def test_wrong_options(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        reveal.run(arguments)
    assert "\n" not in str(caught.value)


def test_an_error_is_one_line_and_status_2():
    done = subprocess.run(
        [sys.executable, "-m", "nanorepro.reveal", "--tree", "blocks:-1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
