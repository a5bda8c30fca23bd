"""nanorepro: the commands, and what each is for.

nanorepro                     lists them
nanorepro run --model tower   is python -m nanorepro.run --model tower
nanorepro help run            is python -m nanorepro.run --help
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from nanorepro.commands.common import carry_out
from nanorepro.commands.console import Console
from nanorepro.commands.parser import DASHES, Parser, nearest_of
from nanorepro.errors import ConfigError, shown
from nanorepro.text import in_columns

NAME = "nanorepro"
COMMANDS = {
    "run": "train pairs of models, measure how far they are apart, store and draw the run",
    "figure": "make a figure of the paper from its runs, and check the paper's claims",
    "sweep": "make many runs; resume, check, repeat and tabulate them",
    "compare": "say where and how far two runs, checkpoints or files of tensors differ",
    "diverge": "train pairs in step, and say where, when and how fast they part",
    "attribute": "say which source makes the models of a pair differ, and how much",
    "reveal": "show the order of a sum, found from its results alone",
}  # each is a module of nanorepro.commands with `main`


def parser() -> Parser:
    """The command line of `nanorepro` itself."""
    listed = "\n".join(in_columns([*COMMANDS.items()]))
    return Parser(
        prog=NAME,
        usage="nanorepro COMMAND [option ...]",
        description="A simulator in which every source of irreproducibility is an explicit"
        f" input.\n\ncommands:\n{listed}",
        epilog="`nanorepro help COMMAND` shows a command's options; `python -m nanorepro.COMMAND`\n"
        "is the same command.",
    )


def command(words: Sequence[str], console: Console) -> int:
    """List the commands, show the version, or refuse what is no command."""
    if words and not words[0].startswith(tuple(DASHES)):
        near = nearest_of(words[0], COMMANDS)
        right = f"did you mean {near}?" if near else f"give {', '.join(COMMANDS)}"
        raise ConfigError(f"{shown(words[0])} is not a command; {right}")
    parser().read(words)  # which ends with --help and --version
    console.say(parser().format_help().rstrip())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if words and words[0] in COMMANDS:
        return int(import_module(f"nanorepro.commands.{words[0]}").main(words[1:]))
    return carry_out(NAME, command, words)
