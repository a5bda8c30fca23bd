"""The one error of a user's input, and how it names what was wrong."""

import re
from collections.abc import Callable

from nanorepro.text import in_one_line

LONGEST = 100  # characters of a value that are shown


class ConfigError(ValueError):
    """A wrong option, value, argument or file.

    Parameters
    ----------
    problem : str
        What is wrong.
    field : str, optional
        The field of `Config`, or the argument, that is wrong.  A Python caller sees its name, a
        caller on the command line the option: `log2_window` there is `--log2-window` here.
    right : str, optional
        What would be right, "give ..." of the message.  In it, `{model=tower}` is another field and
        its value: `model='tower'` in Python and `--model tower` on the command line.

    Examples
    --------
    >>> error = ConfigError("99 is not allowed", "log2_window", "0 to 15")
    >>> str(error)
    'log2_window: 99 is not allowed; give 0 to 15'
    >>> error.on_command_line()
    '--log2-window: 99 is not allowed; give 0 to 15'
    """

    def __init__(self, problem: str, field: str = "", right: str = ""):
        super().__init__(problem, field, right)
        self.problem, self.field, self.right = problem, field, right

    def __str__(self) -> str:
        """The message, one line, in the words of Python."""

        def spelled(setting: re.Match[str]) -> str:
            value = setting[2] if setting[2].isdecimal() else repr(setting[2])
            return f"{setting[1]}={value}"

        return self._line(self.field, spelled)

    def on_command_line(self) -> str:
        """The message, one line, in the words of the command line."""

        def spelled(setting: re.Match[str]) -> str:
            return f"{option(setting[1])} {setting[2]}"

        return self._line(option(self.field) if self.field.isidentifier() else self.field, spelled)

    def of(self, field: str) -> "ConfigError":
        """The same error of another field, or argument, that was passed on."""
        return ConfigError(self.problem, field, self.right)

    def _line(self, name: str, spelling: Callable[[re.Match[str]], str]) -> str:
        right = re.sub(r"\{(\w+)=([^{}]*)\}", spelling, self.right)
        text = (f"{name}: " if name else "") + self.problem + (f"; give {right}" if right else "")
        return in_one_line(text)


def option(name: str) -> str:
    """The command line's spelling of a field: `log2_window` → `--log2-window`."""
    return "--" + name.replace("_", "-")


def shown(value: object) -> str:
    """A value as it is shown in a message: its repr, in one line, no longer than LONGEST."""
    text = repr(value) if isinstance(value, str) else " ".join(repr(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def wrong(name: str, value: object, right: str) -> ConfigError:
    """The error of a field whose value is not allowed; `right` as in ConfigError."""
    return ConfigError(f"{shown(value)} is not allowed", name, right)
