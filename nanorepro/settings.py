"""A field of a configuration: its meaning, default, range and the paper's value, said once.

The command line's options, the checks, the ids and the documentation are derived from it.
"""

import textwrap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Protocol

from nanorepro.errors import wrong

SHAPES = {int: "N", float: "X", str: "LIST"}
WORDS = {int: "whole number", float: "number"}


class Described(Protocol):
    """A record of something that a user may choose."""

    @property
    def summary(self) -> str:
        """What it is, in a few words."""


@dataclass(frozen=True)
class Setting:
    """What there is to know of a field.

    Attributes
    ----------
    meaning : str
        What it says, with the unit.
    default
        Its value where none is given; its type is the field's.
    absent
        The value that the canonical form leaves out, for ever: an id without the field means it.
    low, high : number or None
        Least and greatest value.
    below : number or None
        What it has to be less than.
    choices : collection of str
        The values that are allowed, if they can be listed.
    paper : str or None
        The paper's value.
    """

    meaning: str
    default: Any
    absent: Any
    low: float | None = None
    high: float | None = None
    below: float | None = None
    choices: Collection[str] = ()
    paper: object = None

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError for a value out of range or not among the choices."""
        if self.choices and value not in self.choices:
            raise wrong(name, value, " or ".join(self.choices))
        if self.low is not None and not value >= self.low:
            raise wrong(name, value, self.range)
        if self.high is not None and not value <= self.high:
            raise wrong(name, value, self.range)
        if self.below is not None and not value < self.below:
            raise wrong(name, value, self.range)

    @property
    def range(self) -> str:
        """The values that are allowed, in words."""
        end = f"to {self.high}" if self.below is None else f"to below {self.below}"
        return f"a {WORDS[type(self.default)]} from {self.low} {end}"

    @property
    def help(self) -> str:
        """Meaning, default and the paper's value, as the command line shows them."""
        note = f"default: {self.default if self.default != '' else 'none'}"
        note += f"; paper: {self.paper}" if self.paper is not None else ""
        return f"{self.meaning} ({note})"


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: Collection[str] = (),
    shown: Iterable[str] = (),
    paper: object = None,
    absent: Any = None,
) -> Any:
    """A dataclass field with a `Setting`; the parameters are its attributes.

    `shown` are choices that cannot be listed one by one, as the command line shows them.  A default
    may change, but what its absence in an id means may not: `absent` is then the first default.
    """
    absent = default if absent is None else absent
    known = Setting(meaning, default, absent, low, high, below, choices, paper)
    listed = ",".join(shown or choices)
    metavar = "{" + listed + "}" if listed else SHAPES[type(default)]
    # `type` is argparse's: the text goes on as it is, so that every error is worded in one place
    metadata = {"help": known.help, "type": str, "metavar": metavar, "setting": known}
    return field(default=default, metadata=metadata)


def setting_of(f: "Field[Any]") -> Setting:
    """The setting of a dataclass field."""
    found: Setting = f.metadata["setting"]
    return found


def summaries(records: Mapping[str, Described]) -> str:
    """What may be chosen, in a few words each: `relu: ...; swish: ...`."""
    return "; ".join(f"{name}: {record.summary}" for name, record in records.items())


def parameters_section(kind: type) -> str:
    """The fields of a dataclass as the section `Parameters` of a docstring in numpydoc form."""
    lines = ["Parameters", "----------"]
    for f in fields(kind):
        known = setting_of(f)
        lines += [f"{f.name} : {type(known.default).__name__}, default {known.default!r}"]
        text = known.meaning[0].upper() + known.meaning[1:]
        text += f".  The paper's value: {known.paper}." if known.paper is not None else "."
        lines += textwrap.wrap(text, 92, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
