"""The command line as people type it: every mistake is one line that names the option.

argparse declares the options and writes `--help`; the words are joined to their options here first,
so that `--lr -1e-3` is a rate that is too small, and not an option without a value.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from nanorepro.commands.console import OutputLost
from nanorepro.errors import ConfigError, shown
from nanorepro.version import __version__

DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # what word processors make of - and --
PATHS = ("FILE", "FOLDER")  # metavars of options whose value is a path
SUPPRESS = argparse.SUPPRESS


class Parser(argparse.ArgumentParser):
    """The parser of all commands, with --help, --version and, where asked for, --quiet."""

    def __init__(self, *positional: Any, quiet: bool = False, **settings: Any):
        plain = argparse.RawDescriptionHelpFormatter
        settings |= {"add_help": False, "allow_abbrev": False, "formatter_class": plain}
        super().__init__(*positional, **settings)
        general = self.add_argument_group("general")
        add = general.add_argument
        add("-h", "--help", action="help", default=SUPPRESS, help="show this text and end")
        add("--version", action="version", version=f"nanorepro {__version__}", default=SUPPRESS,
            help="show the version and end")  # fmt: skip
        if quiet:
            add("-q", "--quiet", action="store_true", help="show no progress")

    def _print_message(self, message: str, file: Any = None) -> None:
        stream = file or sys.stdout
        try:
            stream.write(message)  # of which argparse would hide that it fails
            stream.flush()
        except OSError as error:
            raise OutputLost(error) from None

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError for what argparse finds wrong."""
        raise ConfigError(message.removeprefix("argument "))

    def read(self, argv: Sequence[str]) -> tuple[Any, set[str]]:
        """Read the words of a command line.

        Parameters
        ----------
        argv : sequence of str
            The words after the command's name.

        Returns
        -------
        options : argparse.Namespace or record
            What `parse_args` gives.
        given : set of str
            The names of the options that were given, as they are in `options`.

        Raises
        ------
        ConfigError
            For an option that is unknown, given twice, or without its value; for a word too many.
        """
        known = self._option_string_actions
        joined: list[str] = []
        bare: list[str] = []
        given: dict[str, str] = {}
        words = list(argv)
        while words:
            word = words.pop(0)
            if word == "--":
                bare += words
                break
            name, equals, value = word.partition("=")
            action = known.get(name)
            if action is None:
                if word[:1] and word[0] in DASHES and len(word) > 1:
                    raise self._unknown(word)
                bare.append(word)
            elif isinstance(action, argparse._HelpAction | argparse._VersionAction):
                self.parse_args([name])  # which ends
            elif action.nargs == 0:
                if equals:
                    raise ConfigError(f"{name}: {shown(value)} is not allowed; give no value")
                joined.append(word)
                given[action.dest] = word
            elif action.nargs in ("+", "*"):
                values = [value] if equals else []
                while words and not self._is_option(words[0]):
                    values.append(words.pop(0))
                if not values and action.nargs == "+":
                    raise self._missing(name, action, "")
                given[action.dest] = " ".join(values)
                joined += [name, *values]
            else:
                if not equals:
                    value = self._value(name, action, words)
                if value == "--":  # which argparse drops
                    raise self._missing(name, action, "")
                if not value:  # such as a variable of the shell that is not set
                    right = f"{_meaning(action)}, or leave it out"
                    raise ConfigError(f"{name}: '' is not allowed; give {right}")
                if action.dest in given and not isinstance(action, argparse._AppendAction):
                    both = f"{shown(given[action.dest])} and {shown(value)}"
                    raise ConfigError(f"{name}: given twice, as {both}; give it once")
                given[action.dest] = value
                joined.append(f"{name}={value}")
        self._check_bare(bare)
        return self.parse_args([*joined, *(["--"] if bare else []), *bare]), set(given)

    def _is_option(self, word: str) -> bool:
        return word == "--" or word.partition("=")[0] in self._option_string_actions

    def _value(self, name: str, action: argparse.Action, words: list[str]) -> str:
        """The word after an option, taken from `words`."""
        if not words or self._is_option(words[0]):
            raise self._missing(name, action, "")
        value = words[0]
        if value.startswith("--"):
            raise self._missing(name, action, f" before {shown(value)}")
        if value.startswith("-") and action.metavar in PATHS:
            raise ConfigError(
                f"{name}: {shown(value)} looks like an option; give ./{value} if that is the name"
            )
        return words.pop(0)

    def _missing(self, name: str, action: argparse.Action, where: str) -> ConfigError:
        return ConfigError(f"{name}: the value is missing{where}; give {_meaning(action)}")

    def _unknown(self, word: str) -> ConfigError:
        near = self.nearest(word)
        right = f"did you mean {near}?" if near else "--help lists them"
        return ConfigError(f"{shown(word)} is not an option; {right}")

    def nearest(self, word: str) -> str | None:
        """The option that was probably meant, if there is one."""
        plain = word.partition("=")[0].strip(DASHES).replace("_", "-").lower()
        options = [o for o in self._option_string_actions if o.startswith("--")]
        if len(plain) < 2:
            return None
        for found in (
            [o for o in options if o[2:] == plain],
            [o for o in options if o[2:].startswith(plain)],  # an abbreviation
            [o for o in options if plain.startswith(o[2:])],  # the word that it abbreviates
            [f"{o} {plain}" for o in options if plain in self._choices_of(o)],
            get_close_matches(f"--{plain}", options, 1),
            [o for o in options if self._help_of(o).startswith(plain.replace("-", " "))],
        ):
            if found:
                return found[0]
        return None

    def _help_of(self, option: str) -> str:
        return str(self._option_string_actions[option].help).lower()

    def _choices_of(self, option: str) -> list[str]:
        """The values that an option's metavar lists, as {a,b,c}."""
        metavar = str(self._option_string_actions[option].metavar)
        return metavar[1:-1].split(",") if metavar.startswith("{") else []

    def _check_bare(self, bare: list[str]) -> None:
        """Refuse words that are no options where they are too many or too few."""
        places = [a for a in self._actions if not a.option_strings]
        required = [a for a in places if a.nargs not in ("?", "*")]
        several = any(a.nargs in ("+", "*", argparse.REMAINDER, argparse.PARSER) for a in places)
        if len(bare) > len(places) and not several:
            extra = bare[len(places)]
            if not places:
                raise self._unknown(extra)
            allowed = " ".join(str(a.metavar or a.dest) for a in places)
            right = f"give {allowed} and options"
            raise ConfigError(f"{shown(extra)} is one word too many; {right}")
        if len(bare) < len(required):
            missing = required[len(bare)]
            raise ConfigError(f"{missing.dest}: the value is missing; give {_meaning(missing)}")


def _meaning(action: argparse.Action) -> str:
    """What is to be given for an option or a place, from its help."""
    text = str(action.help).replace("%%", "%").partition(" (")[0].partition(";")[0]
    return text if text.startswith(("a ", "an ", "the ", "file", "folder")) else f"the {text}"


def nearest_of(word: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant by a word, if there is one.

    Examples
    --------
    >>> nearest_of("fig", ["run", "figure"]), nearest_of("rnu", ["run", "figure"])
    ('figure', 'run')
    """
    known = list(names)
    starts = [n for n in known if word and n.startswith(word.lower())]
    found = starts or get_close_matches(word.lower(), known, 1)
    return found[0] if found else None
