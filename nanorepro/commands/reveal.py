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

import sys
from collections.abc import Sequence
from dataclasses import fields

from nanorepro.commands.common import DONE, FAILED, carry_out, check_file, whole
from nanorepro.commands.console import Console, describe
from nanorepro.commands.parser import Parser
from nanorepro.config import BACKENDS, Config
from nanorepro.dials import Dials
from nanorepro.errors import ConfigError, option, wrong
from nanorepro.probing.formats import FORMATS, LONGEST

NAME = "nanorepro.reveal"
SUMS = ("batch", "forward", "backward")
SHOWN = (
    *("model", "hidden", "act", "beta", "batch", "leaf_order", "tree", "accumulator"),
    *("unit_order", "unit_tree", "unit_accumulator", "precision", "rounding", "fma", "seed"),
)


def parser() -> Parser:
    """The command line."""
    found = Parser(
        prog=NAME,
        usage="python -m nanorepro.reveal [module:function] [option ...]",
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
    add = found.add_argument
    add("--terms", default="32", metavar="N", help="terms of that sum (default: 32)")
    add(
        "--dtype",
        default="float32",
        metavar=choices(tuple(FORMATS)),
        help="type of those terms; arrays of bfloat16 are those of ml_dtypes (default: float32)",
    )
    add(
        "--sum",
        default="batch",
        metavar=choices(SUMS),
        help="of ours: over the mini-batch (a gradient), or over units, forward or backward"
        " (default: batch)",
    )
    add("--at", metavar="NAME", help="of which parameter (default: the last weights)")
    add("--step", default="0", metavar="N", help="in which mini-batch (default: 0)")
    add(
        "--backend",
        default=BACKENDS[0],
        metavar=choices(BACKENDS),
        help=f"what computes our sums (default: {BACKENDS[0]})",
    )
    add("--picture", metavar="FILE", help="PNG, PDF or SVG to draw the tree to (default: none)")
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


def choices(values: Sequence[str]) -> str:
    """Values as a metavar."""
    return "{" + ",".join(values) + "}"


def check_choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """The value if it is allowed; raises ConfigError."""
    if value not in allowed:
        raise ConfigError(f"{value!r} is not allowed", name, " or ".join(allowed))
    return value


def check_goes_together(function: str, given: set[str]) -> None:
    """Refuse options of our sums beside a function, and those of a function without one."""
    others = {"terms", "dtype"} if not function else {*SHOWN, "sum", "at", "step", "backend"}
    if wrong := sorted(others & given):
        whose = "our own sums" if function else "a module:function"
        raise ConfigError(f"goes with {whose} only; leave it out", wrong[0])


def run(argv: Sequence[str], console: Console) -> int:
    """Reveal what the command line names, print it, draw it; the exit status."""
    o, given = parser().read(argv)
    for name, allowed in (("dtype", tuple(FORMATS)), ("sum", SUMS), ("backend", BACKENDS)):
        check_choice(name, getattr(o, name), allowed)
    check_goes_together(o.function, given)
    terms = whole("--terms", o.terms, 2, LONGEST)
    step = whole("--step", o.step, 0, 10_000)
    picture = (
        check_file(o.picture, "--picture", [".png", ".pdf", ".svg"]) if "picture" in given else None
    )
    config = Config(**{name: getattr(o, name) for name in SHOWN})
    for f in fields(Dials):
        if "," in str(getattr(config, f.name)):
            raise wrong(f.name, getattr(config, f.name), "one value: it is a sum of one model")
    from nanorepro.probing import kernels, showing, trees

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20 * LONGEST))
    expected = None
    try:
        if o.function:
            from nanorepro.probing.functions import load

            tree = trees.reveal(load(o.function, o.dtype), terms, o.dtype)
            title = f"{o.function}, {terms} terms, {o.dtype}"
        else:
            from nanorepro.backends import load_backend

            load_backend(o.backend)
            weights = [layer.names[0] for layer in kernels.net_of(config)]
            behind = {"batch": -1, "forward": -1, "backward": -2}[o.sum]
            at = o.at if "at" in given else weights[max(behind, -len(weights))]
            terms = kernels.number_of_terms(config, o.sum, at)
            expected = kernels.asked(config, o.sum, at, step)
            tree = kernels.probe(config, o.sum, at, step, o.backend)
            title = f"{o.sum} sum of {at}, step {step}, {o.backend}"
    except trees.NoTree as none:
        return console.fail(none, FAILED)
    show = showing.formula if terms <= 16 else showing.outline
    lines = [title, show(tree)]
    if expected is not None:
        lines.append("equals the plan asked for" if tree == expected else "NOT the plan asked for:")
        if tree != expected:
            lines.append(show(expected))
    drawn = True
    if picture is not None:
        try:
            from nanorepro.plots.style import file_of
            from nanorepro.plots.summation_tree import summation_tree
            from nanorepro.results.files import replace_file

            kind = picture.suffix.lower().removeprefix(".")
            data = file_of(summation_tree(tree, title), kind)
            picture.parent.mkdir(parents=True, exist_ok=True)
            replace_file(picture, data)
        except Exception as error:
            drawn = False
            console.fail(f"the picture could not be drawn: {describe(error)}", FAILED)
    console.say("\n".join(lines))
    return DONE if drawn and (expected is None or tree == expected) else FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
