"""Which tensor of B is which of A: by name, after renaming, with axes in another order.

The parts of a name may be separated by `.` in one file and by `/` in the other.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from nanorepro.analysis.tensor_pair import common_format
from nanorepro.data.tensors.record import Tensor, TensorFile
from nanorepro.errors import ConfigError, shown

LISTED = 4  # names in a message


@dataclass(frozen=True)
class Match:
    """A tensor of A and the one of B that is compared with it.

    Attributes
    ----------
    a, b : Tensor
        The two; B's by its name in A.
    transposed : bool
        Whether B's axes were brought into another order.
    """

    a: Tensor
    b: Tensor
    transposed: bool


@dataclass(frozen=True)
class Mismatch:
    """A tensor that is in A and B and cannot be compared.

    Attributes
    ----------
    name : str
        The tensor.
    a, b : str
        Its format and shape in each.
    """

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Matching:
    """The tensors of two files: those that are compared, and those that are not.

    Attributes
    ----------
    matches : tuple of Match
        In A's order.
    mismatches : tuple of Mismatch
        Those whose shapes or formats do not fit.
    only_a, only_b : tuple of str
        Names that only one of the two has.
    """

    matches: tuple[Match, ...]
    mismatches: tuple[Mismatch, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """How the tensors of B are found.

    Attributes
    ----------
    rename : tuple of (str, str)
        Patterns of names in B, in which each `*` stands for any text, and of names in A.
    transpose : dict of str to tuple of int or None
        For tensors, by their names in A, the axes of B's tensor in the order in which A has them;
        None reverses them.
    """

    rename: tuple[tuple[str, str], ...]
    transpose: Mapping[str, tuple[int, ...] | None]


def renamed(tensors: Mapping[str, Tensor], rename: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """The tensors of B by their names in A; raises ConfigError for a rule that fits nothing."""
    found: dict[str, Tensor] = {}
    used = set()
    for name, tensor in tensors.items():
        new = name
        for old, right in rename:
            parts = [re.escape(part) for part in old.split("*")]
            if fits := re.fullmatch("(.*?)".join(parts), name, re.DOTALL):
                new = right
                for text in fits.groups():
                    new = new.replace("*", text, 1)
                used.add(old)
                break
        if new in found:
            raise ConfigError(f"two tensors of B would be {shown(new)}", "rename")
        found[new] = tensor
    if unused := [old for old, _ in rename if old not in used]:
        names = ", ".join(list(tensors)[:LISTED])
        problem = f"no tensor of B is named {shown(unused[0])}"
        raise ConfigError(problem, "rename", f"names of B such as {names}")
    return found


def named_as(
    names: Collection[str], tensors: Mapping[str, Tensor], rename: Sequence[tuple[str, str]]
) -> dict[str, Tensor]:
    """The tensors of B by their names in A, `names`; raises ConfigError as `renamed` does.

    A name that only B has is the one that only A has if both are the same path, as `0.bias` and
    `0/bias` are, and no other name of either is.
    """
    found = renamed(tensors, rename)
    only_a = by_path([name for name in names if name not in found])
    only_b = by_path([name for name in found if name not in names])
    same = {name: only_a[path] for path, name in only_b.items() if path in only_a}
    return {same.get(name, name): tensor for name, tensor in found.items()}


def by_path(names: Collection[str]) -> dict[str, str]:
    """Names by their paths, those left out whose path another has, too."""
    often = Counter(map(path_of, names))
    return {path_of(name): name for name in names if often[path_of(name)] == 1}


def path_of(name: str) -> str:
    """A name with its parts separated by `.`."""
    return name.replace("/", ".")


def match(a: TensorFile, b: TensorFile, rules: Rules) -> Matching:
    """The tensors of A and B side by side, in A's order.

    Raises ConfigError if no name is in both, or a rule fits nothing.
    """
    others = named_as(a.tensors, b.tensors, rules.rename)
    if a.tensors and others and not set(a.tensors) & set(others):
        here, there = (", ".join(list(names)[:LISTED]) for names in (a.tensors, others))
        problem = f"A and B have no name in common: A has {here}; B has {there}"
        raise ConfigError(problem, right="{rename=OLD=NEW}, with a name of B and one of A")
    matches, mismatches = [], []
    for name, one in a.tensors.items():
        if name not in others:
            continue
        other = others[name]
        axes = axes_of(name, one, other, rules)
        moved = other if axes is None else other.permuted(axes)
        try:
            if one.shape != moved.shape:
                raise ConfigError("shapes")
            common_format(one.format, moved.format)
        except ConfigError:
            how = "" if axes is None else ", its axes in A's order"
            mismatches.append(Mismatch(name, described(one), described(moved) + how))
        else:
            matches.append(Match(one, replace(moved, name=name), axes is not None))
    for name in rules.transpose:
        if name not in a.tensors or name not in others:
            names = ", ".join(list(a.tensors)[:LISTED])
            raise ConfigError(f"{shown(name)} is not in both", "transpose", f"one of A's: {names}")
    return Matching(
        tuple(matches),
        tuple(mismatches),
        tuple(name for name in a.tensors if name not in others),
        tuple(name for name in others if name not in a.tensors),
    )


def axes_of(name: str, a: Tensor, b: Tensor, rules: Rules) -> tuple[int, ...] | None:
    """The order of B's axes that is A's; None if it is B's own."""
    reverse = tuple(range(len(b.shape)))[::-1]
    if name in rules.transpose:
        axes = rules.transpose[name]
        if axes is None:
            return reverse
        if sorted(axes) != list(range(len(b.shape))):
            right = f"each of 0 to {len(b.shape) - 1} once, the axes of shape {b.shape}"
            raise ConfigError(f"{name}={','.join(map(str, axes))}", "transpose", right)
        return axes
    if a.shape != b.shape and len(a.shape) == 2 and a.shape == b.shape[::-1]:
        return reverse
    return None


def described(tensor: Tensor) -> str:
    """Format and shape, as float32 (3, 4)."""
    return f"{tensor.format.name} {tensor.shape}"


def square(matching: Matching) -> list[str]:
    """Names of square matrices that were compared as stored, where others were transposed."""
    if not any(m.transposed for m in matching.matches):
        return []
    return [
        m.a.name
        for m in matching.matches
        if len(m.a.shape) == 2 and m.a.shape[0] == m.a.shape[1] > 1 and not m.transposed
    ]
