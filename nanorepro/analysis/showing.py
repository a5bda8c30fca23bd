"""A comparison as text: configurations first, numbers second."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nanorepro.analysis.difference import TensorDifference
from nanorepro.text import counted, in_columns

if TYPE_CHECKING:
    from nanorepro.analysis.comparison import CheckpointDifference, Comparison

ROWS = 40  # tensors that are listed
NAMES = 8  # names in a line
WIDTH = 60  # characters of a value

COLUMNS = ("tensor", "shape", "unequal", "largest ulp", "median ulp", "relative", "1 - cosine")


def table(found: "Comparison") -> str:
    """What a reader wants to see of a comparison."""
    return "\n".join(_lines(found)).rstrip()


def _lines(found: "Comparison") -> Iterator[str]:
    yield f"A  {found.a}"
    yield f"B  {found.b}"
    if found.differences:
        fields = ", ".join(d.field for d in found.differences)
        yield f"they differ in {fields}"
        yield from in_columns(
            [(d.field, f"{_short(d.a)} in A, {_short(d.b)} in B") for d in found.differences]
        )
    yield from found.notes
    if found.test is not None:
        yield str(found.test)
    for who, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            yield f"checkpoints only in {who}: {_listed(names)}"
    if len(found.checkpoints) > 1:
        yield from _series(found)
        return
    for checkpoint in found.checkpoints:
        yield from _checkpoint(checkpoint)


def _series(found: "Comparison") -> Iterator[str]:
    first = found.first_different
    if first is None:
        yield f"all {len(found.checkpoints)} checkpoints are equal, bit for bit"
        return
    at = found.checkpoints.index(first)
    before = f"; {at} before it are equal, bit for bit" if at else ""
    yield f"they first differ at {first.a}{before}"
    rows = [("checkpoint", "unequal tensors", "largest ulp", "relative", "1 - cosine")] + [
        (
            c.a,
            f"{sum(not t.equal for t in c.tensors)} of {len(c.tensors)}",
            number(c.largest_ulp),
            f"{c.relative_distance:.3g}",
            _one_minus_cosine(c.angle),
        )
        for c in found.checkpoints
    ]
    yield from in_columns(rows, left=1)
    yield f"at {first.a}:"
    yield from _checkpoint(first)


def _checkpoint(c: "CheckpointDifference") -> Iterator[str]:
    yield from c.notes
    for who, names in (("A", c.only_a), ("B", c.only_b)):
        if names:
            yield f"only in {who}: {_listed(names)}"
    for m in c.mismatches:
        yield f"not compared: {m.name} is {m.a} in A, {m.b} in B"
    for name, reason in list(c.left_out.items())[:NAMES]:
        yield f"left out: {name}, {reason}"
    yield from _how(c.tensors)
    apart = [t for t in c.tensors if not t.equal]
    equal = len(c.tensors) - len(apart)
    if not apart:
        equal_ones = counted(equal, "tensor is equal", "tensors are equal")
        all_of = "all " if equal > 1 else ""
        yield f"{all_of}{equal_ones}, bit for bit" if equal else "no tensor was compared"
        return
    yield f"{len(apart)} of {len(c.tensors)} tensors differ" + (
        "; the others are equal, bit for bit" if equal else ""
    )
    yield from _rows(apart)
    yield from _remarks(apart)
    if len(c.tensors) > 1:
        yield (
            f"over all: relative distance {c.relative_distance:.3g}, 1 - cosine"
            f" {_one_minus_cosine(c.angle)}"
        )


def _rows(tensors: Sequence[TensorDifference]) -> Iterator[str]:
    shown = sorted(tensors, key=lambda t: -t.relative_distance)[:ROWS]
    shown = [t for t in tensors if t in shown] if len(tensors) > ROWS else list(tensors)
    rows = [COLUMNS] + [
        (
            t.name,
            "x".join(map(str, t.shape)) or "scalar",
            f"{t.unequal} of {t.elements}",
            number(t.largest_ulp),
            number(t.median_ulp),
            f"{t.relative_distance:.3g}",
            _one_minus_cosine(t.angle),
        )
        for t in shown
    ]
    yield from in_columns(rows, left=2)
    if len(tensors) > ROWS:
        yield f"  ... {len(tensors) - ROWS} more, less far apart (--json lists all)"


def _remarks(tensors: Sequence[TensorDifference]) -> Iterator[str]:
    """What the numbers of some tensors mean."""
    for t in tensors[:ROWS]:
        if t.zero_signs:
            yield f"  {t.name}: {t.zero_signs} zeros differ in their sign only"
        if t.nan_in_one:
            yield f"  {t.name}: {t.nan_in_one} numbers are NaN in one of the two"
        if t.not_finite:
            yield f"  {t.name}: {t.not_finite} numbers that are not finite count in no distance"


def _how(tensors: Sequence[TensorDifference]) -> Iterator[str]:
    """How tensors were compared that are not stored alike."""
    stored: dict[tuple[str, str, str], list[str]] = {}
    for t in tensors:
        if t.format_a != t.format_b:
            stored.setdefault((t.format_a, t.format_b, t.compared_as), []).append(t.name)
    for (a, b, common), names in stored.items():
        yield f"{a} in A, {b} in B, converted exactly and compared as {common}: {_listed(names)}"
    if moved := [t.name for t in tensors if t.transposed]:
        yield f"B's axes were transposed: {_listed(moved)}"


def number(value: float) -> str:
    """A count as it is read: in full while it is short."""
    if math.isinf(value):
        return "infinite"
    return f"{value:.0f}" if value < 1e7 else f"{value:.3g}"


def _one_minus_cosine(angle: float) -> str:
    return "-" if math.isnan(angle) else f"{2.0 * math.sin(angle / 2.0) ** 2:.3g}"


def _short(text: str) -> str:
    if not text:
        return "none"
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more
