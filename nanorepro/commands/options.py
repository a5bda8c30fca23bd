"""Command lines whose options are the fields of a record, in groups."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any

import argparse_dataclass

from nanorepro.commands.parser import Parser
from nanorepro.config import MOST_THREADS


def opt(default: object, help: str, metavar: str | None = None) -> Any:
    """A field of such a record that is no field of Config: text, which the command checks."""
    metadata = {"help": help, "type": str} | ({"metavar": metavar} if metavar else {})
    return field(default=default, metadata=metadata)


def threads_option() -> Any:
    """The field of `--threads`."""
    meaning = f"threads, from 1 to {MOST_THREADS} (default: all CPUs that the process may use)"
    return opt("all", meaning, "N")


def json_option() -> Any:
    """The field of `--json`."""
    return opt(False, "print one JSON object instead of the table")


def quiet_option() -> Any:
    """The field of `--quiet`."""
    words = {"args": ["-q", "--quiet"], "help": "show no progress on standard error"}
    return field(default=False, metadata=words)


class RecordParser(argparse_dataclass.ArgumentParser, Parser):  # type: ignore[misc]
    """The parser of a command whose options are the fields of a record.

    Parameters
    ----------
    record : type
        The dataclass.
    groups : mapping of str to sequence of str
        The fields of each group of `--help`, by its title.
    hidden : collection of str
        Fields that are no options.
    """

    def __init__(
        self,
        record: type,
        groups: Mapping[str, Sequence[str]],
        hidden: Collection[str] = (),
        **settings: Any,
    ) -> None:
        self.members, self.hidden = groups, frozenset(hidden)
        self.titled: dict[str, Any] = {}
        super().__init__(record, **settings)

    def add_argument(self, *names: str, **settings: Any) -> Any:
        name = names[-1].removeprefix("--").replace("-", "_")
        if name in self.hidden:
            return None
        for title, members in self.members.items():
            if name in members:
                if title not in self.titled:
                    self.titled[title] = self.add_argument_group(title)
                return self.titled[title].add_argument(*names, **settings)
        return super().add_argument(*names, **settings)
