"""The order of a sum, revealed from outside (after FPRev, Xie et al. 2024).

    python -m nanorepro.reveal --tree lanes:8 --at w1     a sum of ours, through fit or predict
    python -m nanorepro.reveal numpy:sum --terms 40       any function that sums an array

One term is +M, another -M, the rest are 1, so small beside M that M + 1 rounds to M.  A 1 that
joins M or -M before the two cancel is lost; the result counts those that join afterwards.  So it
says how many terms lie under the node of the tree at which the two terms meet, and these numbers,
pair by pair, determine the tree.  Only inputs and outputs are used.

With the accumulator kahan a chain is seen, and few other trees: the compensation of a partial sum
brings back what was lost in it, and several trees give the same results.  Then none is shown.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from nanorepro.config import BACKENDS, Config
from nanorepro.errors import ConfigError, option
from nanorepro.probing.kernels import asked, net_of, probe, terms_of
from nanorepro.probing.trees import LONGEST, NoTree, draw, formula, outline, reveal
from nanorepro.training.simulation import load_backend

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
        description=__doc__,
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
        weights = [layer.names[0] for layer in net_of(config)]
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
        print(f"nanorepro.reveal: {wrong.on_command_line()}", file=sys.stderr)
        sys.exit(2)
    except NoTree as wrong:
        print(f"nanorepro.reveal: {wrong}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
