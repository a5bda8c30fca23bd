"""Compare two stored runs, files of tensors, or series of checkpoints.

    python -m nanorepro.compare runs/0a1b.h5 runs/2c3d.h5     two stored runs
    python -m nanorepro.compare run.h5#0.0 run.h5#0.1         the two models of pair 0
    python -m nanorepro.compare a.safetensors b.npz           files of any program
    python -m nanorepro.compare ckpt_a/ 'ckpt_b/model_*.h5'   two series, by their numbers

A and B are files .safetensors, .npz, .npy or .h5 (by content, whatever their names), runs of
nanorepro, or folders or patterns of such: checkpoints in the order of the numbers in their names,
runs by their ids.
Shards (x-00001-of-00003) are one file.  Behind # stands a part: of a run PAIR.MODEL or PAIR, of
another file the beginning of the names of its tensors.  Pickles are never read.

What the configurations say comes first: the fields in which two runs differ, whether their
examples are the same.  Then for each tensor of A and its namesake in B:

  unequal      numbers whose bits are not the same; all NaN count as the same
  largest ulp  the largest distance in units in the last place: the steps from one number to the
               other, through all numbers of the format between them, exact; 1 between neighbours;
               -0 and +0 are 0 apart, a NaN is infinitely far from a number; of integers |a - b|
  median ulp   half of all numbers are no further apart than this
  relative     the distance |A - B| / |A| of the two as vectors; numbers that are not finite in
               both are left out, and counted
  1 - cosine   of the angle between them as vectors: 0 for the same direction

With --replicates C D E ..., files that are known to differ from A by rounding alone (the same
program run again, with another order of its sums), the verdict on B is one of

  within rounding   B stands out no more than they do: nothing was found that rounding would not do
  beyond rounding   p is at most the level of 0.05: of A, the replicates and B, so few stand out as
                    much as B does.  If rounding were all, this would be said at most once in 20
  undecided         the replicates are too few for any p to be that small: give 18 or more

Rounding alone, before training has amplified it, is a few ulp; what is called relative counts in
absolute terms, so that a few numbers near 0 may be many ulp apart and not matter.
"""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from nanorepro.commands.common import DONE, FAILED, carry_out, check_file, positive
from nanorepro.commands.console import Console, describe
from nanorepro.commands.parser import Parser
from nanorepro.errors import ConfigError, shown, wrong
from nanorepro.parsing import whole_number
from nanorepro.training.progress import Progress

if TYPE_CHECKING:
    from nanorepro.analysis.comparison import Comparison

NAME = "nanorepro.compare"
PICTURES = (".png", ".pdf", ".svg")
FAIL_ON = ("never", "any", "beyond")
SHORT = 2.0  # seconds of a comparison that shows no progress


def parser() -> Parser:
    """The command line."""
    found = Parser(
        prog=NAME,
        quiet=True,
        usage="python -m nanorepro.compare A B [option ...]",
        description=__doc__,
        epilog="exit status: 0, the comparison was made (with --fail-on, and it found nothing of"
        " that kind);\n1, it failed, or found what --fail-on names; 2, a wrong option or file",
    )
    add = found.add_argument
    add("A", help="first of the two: a file, folder, pattern, or PATH#PART")
    add("B", help="second of the two: a file, folder, pattern, or PATH#PART")
    add(
        "--rename",
        action="append",
        metavar="OLD=NEW",
        default=[],
        help="tensors of B called OLD are those that A calls NEW; a * in both stands for any text,"
        " as in 'layers.*.weight=w*'; may be given several times (default: same names)",
    )
    add(
        "--transpose",
        action="append",
        metavar="NAME[=AXES]",
        default=[],
        help="B stores the tensor that A calls NAME with its axes reversed, as PyTorch stores"
        " matrices (out, in) and Keras (in, out), or AXES, as in 2,3,1,0, are B's axes in A's"
        " order; may be given several times (default: matrices whose shapes are each other's"
        " reverse are transposed, and it is said)",
    )
    add(
        "--replicates",
        nargs="+",
        metavar="FILE",
        default=[],
        help="files, folders or patterns known to differ from A by rounding alone; a rank test then"
        " says whether B does, too (default: none, no verdict)",
    )
    add(
        "--level",
        default="0.05",
        metavar="X",
        help="how often that test may call beyond rounding what is not; it needs at least 1/X"
        " files, A, B and the replicates together (default: 0.05, so 18 replicates)",
    )
    add("--json", action="store_true", help="print one JSON object instead of the text")
    add(
        "--picture",
        metavar="FILE",
        help="PNG, PDF or SVG to draw the differences of each tensor to, over the checkpoints of a"
        " series (default: none)",
    )
    add(
        "--fail-on",
        default="never",
        metavar="{" + ",".join(FAIL_ON) + "}",
        help="exit with status 1 if they differ in anything (any), or beyond rounding (beyond); by"
        " itself no difference is a failure (default: never)",
    )
    return found


class NumbersProgress(Progress):
    """The progress of a comparison, of which nothing is shown while it is short."""

    def text(self) -> str:
        """What there is to say."""
        return super().text().replace("examples", "numbers")

    def _show(self, last: bool = False) -> None:
        if time.perf_counter() - self.begin > SHORT:
            super()._show(last)


def axes_of(given: Sequence[str]) -> dict[str, tuple[int, ...] | None]:
    """The tensors of --transpose, with their axes; raises ConfigError."""
    found: dict[str, tuple[int, ...] | None] = {}
    for text in given:
        name, equals, axes = text.rpartition("=")
        if not equals:
            found[text] = None
            continue
        try:
            found[name] = tuple(whole_number(axis) for axis in axes.split(","))
        except ValueError:
            right = "NAME, or NAME=AXES with numbers from 0, as in w=2,3,1,0"
            raise wrong("transpose", text, right) from None
    return found


def names_of(given: Sequence[str]) -> dict[str, str]:
    """The names of --rename; raises ConfigError."""
    found: dict[str, str] = {}
    for text in given:
        old, equals, new = text.partition("=")
        if not (equals and old and new):
            raise wrong("rename", text, "OLD=NEW, a name in B and one in A")
        if old in found:
            raise ConfigError(f"{shown(old)} is renamed twice", "rename", "each once")
        found[old] = new
    return found


def run(argv: Sequence[str], console: Console) -> int:
    """Compare what the command line names, print it, draw it; the exit status."""
    o, given = parser().read(argv)
    if o.fail_on not in FAIL_ON:
        raise wrong("fail_on", o.fail_on, " or ".join(FAIL_ON))
    if "level" in given and not o.replicates:
        raise ConfigError("goes with replicates", "level", "{replicates=C D ...}, too")
    if o.fail_on == "beyond" and not o.replicates:
        raise ConfigError("beyond goes with replicates", "fail_on", "{replicates=C D ...}, too")
    level = positive("--level", o.level)
    picture = check_file(o.picture, "--picture", PICTURES) if "picture" in given else None
    rename, transpose = names_of(o.rename), axes_of(o.transpose)
    from nanorepro.analysis.comparison import compare

    progress = None if o.quiet else NumbersProgress(sys.stderr, "reading ...", NAME)
    with progress or nullcontext():
        found = compare(
            o.A, o.B, replicates=o.replicates, level=level, rename=rename, transpose=transpose,
            progress=progress,
        )  # fmt: skip
    console.say(json.dumps(found.to_dict()) if o.json else str(found))
    if picture is not None:
        try:
            draw(found, str(picture))
        except Exception as error:
            return console.fail(f"the picture could not be drawn: {describe(error)}", FAILED)
    return FAILED if fails(found, o.fail_on) else DONE


def fails(found: "Comparison", on: str) -> bool:
    """Whether a comparison found what --fail-on names; raises ConfigError if it cannot say."""
    if on != "beyond":
        return on == "any" and not found.equal
    from nanorepro.analysis.rounding_test import BEYOND, UNDECIDED

    assert found.test is not None
    if found.test.verdict == UNDECIDED:
        raise ConfigError(str(found.test), "fail_on")
    return found.test.verdict == BEYOND


def draw(found: "Comparison", file: str) -> None:
    """Draw a comparison to a file."""
    from pathlib import Path

    from nanorepro.plots.comparison import comparison
    from nanorepro.plots.style import file_of
    from nanorepro.results.files import replace_file

    path = Path(file)
    kind = path.suffix.lower().removeprefix(".")
    replace_file(path, file_of(comparison(found), kind))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return carry_out(NAME, run, argv)


if __name__ == "__main__":
    sys.exit(main())
