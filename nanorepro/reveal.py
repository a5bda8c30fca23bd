"""The order of a sum, revealed from outside (after FPRev, Xie et al. 2024).

    python -m nanorepro.reveal --tree lanes:8 --at w1     a sum of ours, through fit or predict
    python -m nanorepro.reveal numpy:sum --terms 40       any function that sums an array

One term is +M, another -M, the rest are 1, so small beside M that M + 1 rounds to M.  A 1 that
joins M or -M before the two cancel is lost; the result counts those that join afterwards.  So it
says how many terms lie under the node of the tree at which the two terms meet, and these numbers,
pair by pair, determine the tree.  Only inputs and outputs are used.

A tree is a term's index, or the tuple of the trees that are added at a node.  A node with more
than two parts adds them at once: a sum that is rounded once, or a fused instruction.

Kahan's accumulator gives back what it lost when partial sums join: of its trees only the chain can
be seen in this way, and for the others `reveal` says that it found no tree.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nanorepro.config import BACKENDS, Config, ConfigError, dials, option

Tree = Any  # int | tuple[Tree, ...]
Ask = Callable[[int, int, np.ndarray], int]

LONGEST = 2048  # terms


class NoTree(ValueError):
    """The results are not those of one summation tree."""


# From results to the tree


def reveal(
    sum_of: Callable[[np.ndarray], Any], n: int, dtype: Any = np.float32, bits: int | None = None
) -> Tree:
    """The tree by which `sum_of` adds the n terms of an array (n,) of a floating type.

    `bits` are the significand bits of its sums where they are fewer than the type's.  Raises
    NoTree where the results fit none: they change between calls, or it is no sum.
    """
    kind = np.dtype(dtype)
    if kind == np.float16:
        big, one, most = 2.0**15, 2.0**-14, 8  # absorbed by a float32 accumulator, too
    elif kind == np.float64:
        big, one, most = 2.0**1000, 1.0, 1 << 53
    elif kind.itemsize == 2:
        big, one, most = 2.0**120, 1.0, 1 << 8
    else:
        big, one, most = 2.0**120, 1.0, 1 << 24
    most = min(most, 1 << bits) if bits else most

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        terms = np.zeros(n, kind)
        terms[ones] = one
        terms[plus], terms[minus] = big, -big
        return count(float(sum_of(terms)), one)

    return tree_from(ask, n, most)


def count(total: float, one: float) -> int:
    """How many ones a result holds."""
    ratio = total / one
    if not np.isfinite(ratio):
        raise NoTree(f"a sum of M, -M and ones gave {total}")
    return round(ratio)


def tree_from(ask: Ask, n: int, most: int) -> Tree:
    """The tree of n terms by `ask(plus, minus, ones)`, the number of ones that are not lost.

    `ones` is a list of terms; at most `most` of them are asked for at a time.
    """
    if not 2 <= n <= LONGEST:
        raise ConfigError(f"{n} terms are not allowed; give 2 to {LONGEST}")
    everyone = np.arange(n)

    def size(i: int, j: int) -> int:
        """The terms under the node where i and j meet."""
        ones = everyone[(everyone != i) & (everyone != j)]
        kept = 0
        for k in range(0, len(ones), most):
            part = ones[k : k + most]
            found = ask(i, j, part)
            if not 0 <= found <= len(part):
                raise NoTree(f"M, -M and {len(part)} ones gave {found}")
            kept += found
        return n - kept

    sizes = np.zeros((n, n), np.int64)

    def build(terms: list[int]) -> tuple[Tree, int]:
        """The tree over some terms, and the size found at its root."""
        tree: Tree = terms[0]
        root, inside = 1, [terms[0]]
        meeting: dict[int, list[int]] = {}
        for j in terms[1:]:
            meeting.setdefault(size(terms[0], j), []).append(j)
        for root in sorted(meeting):
            group = meeting[root]
            part, within = build(group)
            # met at a node of the same size: they are parts of this very node
            joined = part if within == root and isinstance(part, tuple) else (part,)
            tree = (tree, *joined)
            sizes[np.ix_(inside, group)] = sizes[np.ix_(group, inside)] = root
            inside += group
        return tree, root

    tree, _ = build(everyone.tolist())
    some = np.random.default_rng(0)
    for _ in range(n):
        i, j = some.choice(n, 2, replace=False).tolist()
        if size(i, j) != sizes[i, j]:
            raise NoTree("the results fit no summation tree, or change from call to call")
    return canonical(tree)


def canonical(tree: Tree) -> Tree:
    """The same tree with the parts of each node in ascending order of their first terms."""
    return _canonical(tree)[1]


def _canonical(tree: Tree) -> tuple[int, Tree]:
    if not isinstance(tree, tuple):
        return tree, tree
    parts = sorted((_canonical(part) for part in tree), key=lambda part: part[0])
    return parts[0][0], tuple(part for _, part in parts)


def tree_of_plan(plan: np.ndarray) -> Tree:
    """The tree of a plan (m, 2) as `summation.plan` gives it."""
    slots: dict[int, Tree] = {}
    for slot, source in plan.tolist():
        joins = source if source >= 0 else slots.pop(~source, None)
        if joins is not None:
            slots[slot] = (slots[slot], joins) if slot in slots else joins
    return canonical(slots[0])


# Our own sums, seen through fit and predict


def terms_of(config: Config, which: str, at: str) -> int:
    """The number of terms of a sum: `which` is batch, forward or backward, `at` a parameter."""
    layer = _layer(config, at)[1]
    if which == "batch":
        return config.batch
    if at.startswith("b"):
        raise ConfigError(f"--at: {at} has no sum over units; give the weights of a layer")
    return layer.fan_in // layer.sets if which == "forward" else layer.fan_out


def asked(config: Config, which: str, at: str, step: int = 0) -> Tree:
    """The tree that the configuration asks for in that sum of a step."""
    from nanorepro.data import FEATURES
    from nanorepro.recipe import Recipe
    from nanorepro.summation import plan

    recipe, d = Recipe(config, FEATURES, 0, 0), dials(config, 0)
    n = terms_of(config, which, at)
    accumulator = d.accumulator if which == "batch" else d.unit_accumulator
    if accumulator == "exact":
        return tuple(range(n))
    if which == "batch":
        return tree_of_plan(plan(d.tree, d.leaf_order, n, recipe.key("order"), step))
    block = (step * len(recipe.net) + _layer(config, at)[0]) * 2 + (which == "backward")
    key = recipe.key("order", "units")
    return tree_of_plan(plan(d.unit_tree, d.unit_order, n, key, block))


def probe(
    config: Config, which: str = "batch", at: str = "w0", step: int = 0, backend: str = "numba"
) -> Tree:
    """The tree of a sum of ours, by fit and predict alone.

    batch: the gradient of the parameter `at`, summed over the mini-batch of that step
    forward: what the weights `at` give the first unit above them, summed over units or features
    backward: what the first unit below the weights `at` gets from the units above

    forward and backward are seen in step 0.  Raises ConfigError where there is no such sum.
    """
    ask = {"batch": _ask_batch, "forward": _ask_forward, "backward": _ask_backward}[which]
    n = terms_of(config, which, at)
    if step and which != "batch":
        raise ConfigError("--step: sums over units are seen in step 0 only")
    if n < 2:
        raise ConfigError(f"--at: the {which} sum of {at} has one term only")
    if which == "backward" and _layer(config, at)[0] == 0:
        raise ConfigError(f"--at: {at} is the first layer, below which no gradient goes")
    # one step of plain gradient descent shows the gradient: w - 1·g
    config = replace(
        config, optimizer="sgd", lr=1.0, momentum=0.0, decay=0.0, warm_start="", differ="none"
    )
    p = {"float32": 24, "float64": 53}.get(dials(config, 0).precision)
    p = p or int(dials(config, 0).precision.partition(":")[2])
    # a unit term is no power of two, so counting rounds: by less than half up to here
    most = 1 << p if which != "batch" else max(1, int(2.0 ** ((p - 2) / 2)))
    found = ask(config, at, step, backend)
    if dials(config, 0).rounding != "toward-zero":
        return tree_from(found, n, most)

    def one_by_one(plus: int, minus: int, ones: np.ndarray) -> int:
        # towards zero, -M + 1 is not -M but the number after it: what is left is more than 1
        return int(found(plus, minus, ones) == 1)

    return tree_from(one_by_one, n, 1)


def _net(config: Config) -> tuple[Any, ...]:
    """The layers of a model over 32 features."""
    from nanorepro.data import FEATURES
    from nanorepro.network import layers

    return layers(config, FEATURES)


def _layer(config: Config, at: str) -> tuple[int, Any]:
    """Number and record of the layer of a parameter; raises ConfigError for no parameter."""
    net = _net(config)
    for k, layer in enumerate(net):
        if at in layer.names:
            return k, layer
    names = ", ".join(name for layer in net for name in layer.names)
    raise ConfigError(f"--at: {at!r} is not allowed; give one of {names}")


def _blank(config: Config) -> dict[str, np.ndarray]:
    """All parameters zero, float64."""
    from nanorepro.network import shapes

    return {name: np.zeros(shape) for name, shape in shapes(_net(config)).items()}


def _plateau(config: Config) -> float:
    """A power of two from which on every activation is y = z, to the last bit."""
    return 2.0 ** np.ceil(np.log2(max(64.0, 64.0 / config.beta, 8.0 * config.beta)))


def _path(config: Config, w: dict[str, np.ndarray], part: int, first: int = 1) -> None:
    """Weights 1 from layer to layer, by the first unit of each, from layer `first` up."""
    for k, layer in enumerate(_net(config)):
        if k >= max(first, 1):
            below = _net(config)[k - 1]
            w[layer.names[0]][part * below.row if below.sets > 1 else 0, 0] = 1.0


def _ask_batch(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a gradient's sum over the mini-batch are made by three features and the label.

    Each feature sends a level of its own up one path of units to the logit.  At the first the
    logit is 0 and δ = ±1/(2s), by the label: M and -M.  At the second it is -64 and δ = σ(-64)/s,
    the one; at the third σ and δ are 0.  A dense weight on the path is next to nothing and the
    activation under it huge, so that the weight after the step is the gradient.
    """
    from nanorepro.data import FEATURES
    from nanorepro.simulation import fit

    net, (k, layer) = _net(config), _layer(config, at)
    last, plateau, tiny = len(net) - 1, _plateau(config), 2.0**-60
    w = _blank(config)
    bias = at.startswith("b")
    part = layer.names.index(at) if k == 0 and layer.sets > 1 else 0
    _path(config, w, part)
    out, out_bias = net[-1].names
    level: tuple[float, ...]
    if last == 0:
        level = (0.0, -64.0, -1024.0)
    elif k == last and bias:
        # act(16 - 32) is 0 in units of the plateau, if not the identity; the others go through
        w[out][0, 0] = -2.0 / plateau
        w[net[k - 1].names[1]][0] = -32.0 * plateau
        none = 32.0 if config.act == "identity" else 16.0
        level = (none * plateau, 64.0 * plateau, 1024.0 * plateau)
    else:
        w[out][0, 0] = -64.0 / plateau
        w[out_bias][0] = 64.0
        level = (plateau, 2.0 * plateau, 16.0 * plateau)
    if k > 0 and not bias:
        w[at] *= tiny
        level = tuple(v / tiny for v in level)
    w[net[0].names[part]][:3, 0] = level
    size = net[0].fan_in // net[0].sets
    place = 0 if bias or k > 0 else 3 * layer.row  # of the weight that is looked at, flat
    before = float(w[at].flat[place])

    def gradient(code: np.ndarray, y: np.ndarray) -> float:
        code = np.concatenate([np.full(step * config.batch, 2), code])
        x = np.zeros((len(code), FEATURES), np.uint8)
        x[np.arange(len(code)), part * size + code] = 1
        x[:, part * size + 3] = 1
        y = np.concatenate([np.zeros(step * config.batch, np.uint8), y])
        return float(fit(config, x, y, w, backend)[at].flat[place]) - before

    alone = np.full(config.batch, 2)
    alone[0] = 1
    one = gradient(alone, np.zeros(config.batch, np.uint8))

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        code, y = np.full(config.batch, 2), np.zeros(config.batch, np.uint8)
        code[ones] = 1
        code[[plus, minus]], y[minus] = 0, 1
        return count(gradient(code, y), one)

    return ask


def _ask_forward(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a unit's sum are the weights themselves, times activations that are all equal."""
    from nanorepro.data import FEATURES
    from nanorepro.simulation import predict

    net, (k, layer) = _net(config), _layer(config, at)
    w, big = _blank(config), 2.0**90
    one = _plateau(config)
    part = layer.names.index(at) if layer.sets > 1 else 0
    _path(config, w, part, k + 1)
    scale = one
    if k > 0:
        scale = 1.0
        if net[k - 1].bias:
            w[net[k - 1].names[1]][:] = one
        else:
            for name in net[k - 1].names:
                w[name][0] = one
    x = np.ones((1, FEATURES), np.uint8)

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        column = np.zeros(len(w[at]))
        column[ones] = scale
        column[plus], column[minus] = big, -big
        w[at][:, 0] = column
        return count(float(predict(config, x, w, backend)[0]), one)

    return ask


def _ask_backward(config: Config, at: str, step: int, backend: str) -> Ask:
    """Terms of a unit's gradient are weights to the units above, times δ that are all equal.

    The biases above are so large that these weights change no slope, and that σ = 1; so only the
    first example, whose label is 0, has a gradient.
    """
    from nanorepro.data import FEATURES
    from nanorepro.simulation import fit

    net, (k, layer) = _net(config), _layer(config, at)
    w, big, small, huge = _blank(config), 2.0**80, 2.0**-120, 2.0**110
    _path(config, w, 0, k + 2)
    w[layer.names[1]][:] = huge
    w[net[k + 1].names[0]][:, 0] = 1.0
    below = net[k - 1]
    if below.bias:
        w[below.names[1]][0] = small
    seen = below.names[1] if below.bias else below.names[0]
    x = np.ones((config.batch, FEATURES), np.uint8)
    y = np.ones(config.batch, np.uint8)
    y[0] = 0

    def gradient(row: np.ndarray) -> float:
        w[at][0] = row
        return float(fit(config, x, y, w, backend)[seen].flat[0])

    one = gradient(np.eye(1, layer.fan_out)[0])

    def ask(plus: int, minus: int, ones: np.ndarray) -> int:
        row = np.zeros(layer.fan_out)
        row[ones] = 1.0
        row[plus], row[minus] = big, -big
        return count(gradient(row), one)

    return ask


# Showing a tree


def formula(tree: Tree) -> str:
    """The tree in parentheses: ((0 + 1) + 2)."""
    return "(" + " + ".join(map(formula, tree)) + ")" if isinstance(tree, tuple) else str(tree)


def outline(tree: Tree, indent: int = 0) -> str:
    """The tree in indented lines; what is added one after another is one list."""
    margin = "  " * indent
    if not isinstance(tree, tuple):
        return f"{margin}{tree}"
    terms = _one_after_another(tree)
    how = {True: "at once", False: "one after another"}[len(tree) > 2]
    title = "2 added" if len(terms) == 2 else f"{len(terms)} {how}"
    if not any(isinstance(term, tuple) for term in terms):
        return f"{margin}{title}: {_ranges(terms)}"
    lines = [f"{margin}{title}:"]
    run: list[int] = []
    for term in [*terms, ()]:
        if isinstance(term, int):
            run.append(term)
            continue
        if run:
            lines.append(f"{margin}  {_ranges(run)}")
            run = []
        if term:
            lines.append(outline(term, indent + 1))
    return "\n".join(lines)


def _one_after_another(tree: Tree) -> list[Tree]:
    """What a node adds: its parts, or more of them where they form a chain of their own."""
    if len(tree) > 2:
        return list(tree)
    single: list[Tree] = []
    below = tree
    while isinstance(below, tuple) and len(below) == 2 and isinstance(below[1], int):
        single.append(below[1])
        below = below[0]
    if single:
        return [below, *single[::-1]]
    parts, below = [tree[1]], tree[0]
    size = len(leaves(tree[1]))
    while isinstance(below, tuple) and len(below) == 2 and len(leaves(below)) > size + 1:
        parts.append(below[1])
        below = below[0]
    sizes = [len(leaves(part)) for part in (below, *parts)]
    return [below, *parts[::-1]] if max(sizes) - min(sizes) <= 1 else list(tree)


def leaves(tree: Tree) -> list[int]:
    """The terms of a tree, from left to right."""
    return [k for part in tree for k in leaves(part)] if isinstance(tree, tuple) else [tree]


def _ranges(terms: list[int]) -> str:
    """0, 8, 16, 24 as `0, 8 .. 24`: what goes on in equal steps is shortened."""
    found, at = [], 0
    while at < len(terms):
        end = at + 1
        while end + 1 < len(terms) and terms[end + 1] - terms[end] == terms[at + 1] - terms[at]:
            end += 1
        if end - at >= 3:
            second = "" if abs(terms[at + 1] - terms[at]) == 1 else f", {terms[at + 1]}"
            found.append(f"{terms[at]}{second} .. {terms[end]}")
            at = end + 1
        else:
            found.append(str(terms[at]))
            at += 1
    return ", ".join(found)


def draw(tree: Tree, title: str = ""):
    """The tree as a Figure: terms at the bottom, each node above what it adds."""
    from matplotlib.figure import Figure

    lines, leaves = [], []
    many = []

    def place(tree: Tree) -> tuple[float, float]:
        if not isinstance(tree, tuple):
            leaves.append(tree)
            return len(leaves) - 1.0, 0.0
        parts = [place(part) for part in tree]
        top = 1.0 + max(y for _, y in parts)
        across = [x for x, _ in parts]
        lines.extend([[(x, y), (x, top)] for x, y in parts])
        lines.append([(across[0], top), (across[-1], top)])
        middle = (across[0] + across[-1]) / 2.0
        if len(parts) > 2:
            many.append((middle, top))
        return middle, top

    x, y = place(tree)
    figure = Figure(figsize=(min(16.0, max(4.0, 1.5 + 0.22 * len(leaves))), 4.0),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots()
    for line in [*lines, [(x, y), (x, y * 1.04 + 0.1)]]:
        axes.plot(*zip(*line, strict=True), color="#4477AA", linewidth=1.2, solid_capstyle="round")
    if many:
        axes.plot(*zip(*many, strict=True), "o", color="#EE6677", label="added at once")
        axes.legend(frameon=False)
    if len(leaves) <= 80:
        axes.set_xticks(range(len(leaves)), [str(k) for k in leaves], fontsize=7)
    else:
        axes.set_xticks([])
    axes.set_xlabel("term")
    axes.set_ylabel("additions")
    axes.set_ylim(0, None)
    axes.locator_params(axis="y", integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, fontsize=10)
    return figure


# The command

SHOWN = (
    *("model", "hidden", "act", "beta", "batch", "leaf_order", "tree", "accumulator"),
    *("unit_order", "unit_tree", "unit_accumulator", "precision", "rounding", "fma", "seed"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = _Parser(
        prog="python -m nanorepro.reveal",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(__doc__ or "").split("\n\nA tree is")[0],
        epilog="exit status: 0, the tree is the one asked for (or the function's is found); 1, it "
        "is another,\nor there is none; 2, a wrong option",
    )
    found.add_argument(
        "function",
        nargs="?",
        default="",
        help="module:function that sums an array, as numpy:sum, numpy:dot (with an array of ones),"
        " tensorflow:reduce_sum, torch:sum, mine:total (default: a sum of ours)",
    )
    found.add_argument("--terms", type=int, default=32, help="terms of that sum (default: 32)")
    found.add_argument(
        "--dtype",
        choices=("float16", "float32", "float64"),
        default="float32",
        help="type of those terms (default: float32)",
    )
    found.add_argument(
        "--sum",
        choices=("batch", "forward", "backward"),
        default="batch",
        help="of ours: over the mini-batch (a gradient), or over units, forward or backward"
        " (default: batch)",
    )
    found.add_argument("--at", default="", help="of which parameter (default: the last weights)")
    found.add_argument("--step", type=int, default=0, help="in which mini-batch (default: 0)")
    found.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0], help="(default: numba)")
    found.add_argument("--picture", default="", help="PNG to write the tree to (default: none)")
    dials = found.add_argument_group("what the model and its dials are")
    for field in fields(Config):
        if field.name in SHOWN:
            dials.add_argument(
                option(field.name),
                default=field.default,
                help=field.metadata["help"].replace("%", "%%"),
                metavar=field.metadata.get("metavar"),
            )
    return found


def load(name: str) -> Callable[[np.ndarray], Any]:
    """The function `module:function` as one that sums an array; raises ConfigError."""
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ConfigError(f"{name!r} is not allowed; give module:function, as numpy:sum")
    try:
        function: Any = import_module(module)
        for part in path.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as wrong:
        raise ConfigError(f"{name}: {wrong}") from None
    if not callable(function):
        raise ConfigError(f"{name} is no function")

    def made(terms: np.ndarray) -> Any:
        if module.partition(".")[0] == "torch":
            return import_module("torch").from_numpy(terms)
        return terms

    def alone(terms: np.ndarray) -> Any:
        return function(made(terms))

    def beside_ones(terms: np.ndarray) -> Any:
        return function(made(terms), made(np.ones_like(terms)))

    three, why = np.arange(1.0, 4.0, dtype=np.float32), ""
    for call in (alone, beside_ones):
        try:
            if float(call(three)) == 6.0:
                return call
            why = why or "1, 2, 3 do not give 6"
        except Exception as failed:  # whatever a stranger's function raises
            why = why or " ".join(str(failed).split())[:120]
    raise ConfigError(f"{name} does not sum an array: {why}")


def run(arguments: Sequence[str]) -> int:
    """Reveal what the command line names, print it, draw it; the exit status."""
    from nanorepro.simulation import load_backend

    given = parser().parse_args(arguments)
    expected = None
    if given.picture and not Path(given.picture).absolute().parent.is_dir():
        raise ConfigError(f"--picture: {given.picture}: no such folder")
    if not 2 <= given.terms <= LONGEST:
        raise ConfigError(f"--terms: {given.terms} is not allowed; give 2 to {LONGEST}")
    if not 0 <= given.step <= 10_000:
        raise ConfigError(f"--step: {given.step} is not allowed; give 0 to 10000")
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20 * LONGEST))
    if given.function:
        tree = reveal(load(given.function), given.terms, np.dtype(given.dtype))
        title = f"{given.function}, {given.terms} terms, {given.dtype}"
    else:
        config = Config(**{name: getattr(given, name) for name in SHOWN})
        load_backend(given.backend)
        weights = [layer.names[0] for layer in _net(config)]
        behind = {"batch": -1, "forward": -1, "backward": -2}[given.sum]
        at = given.at or weights[max(behind, -len(weights))]
        expected = asked(config, given.sum, at, given.step)
        tree = probe(config, given.sum, at, given.step, given.backend)
        title = f"{given.sum} sum of {at}, step {given.step}, {given.backend}"
    print(title)
    terms = given.terms if given.function else terms_of(config, given.sum, at)
    print(formula(tree) if terms <= 16 else outline(tree))
    if expected is not None:
        print("equals the plan asked for" if tree == expected else "NOT the plan asked for:")
        if tree != expected:
            print(formula(expected) if terms <= 16 else outline(expected))
    if given.picture:
        try:
            draw(tree, title).savefig(given.picture, dpi=150)
        except (OSError, ValueError) as wrong:
            raise ConfigError(f"--picture: {wrong}") from None
    return 0 if expected is None or tree == expected else 1


def main() -> None:
    try:
        sys.exit(run(sys.argv[1:]))
    except ConfigError as wrong:
        print(f"nanorepro.reveal: {wrong}", file=sys.stderr)
        sys.exit(2)
    except NoTree as wrong:
        print(f"nanorepro.reveal: {wrong}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
