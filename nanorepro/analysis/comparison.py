"""Two runs, checkpoints or series of them compared: configurations first, numbers second."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nanorepro.analysis.compared import CheckpointTensors, Compared, compared
from nanorepro.analysis.configuration import (
    FieldDifference,
    config_differences,
    notes_on_runs,
)
from nanorepro.analysis.difference import TensorDifference, angle_between, measure, relative
from nanorepro.analysis.matching import Matching, Mismatch, Rules, match, square
from nanorepro.analysis.replicates import exchangeable_tensors, notes_on_replicates, replicates_of
from nanorepro.analysis.rounding_test import LEVEL, RoundingTest, gram, rounding_test
from nanorepro.arguments import function_or_none, number_between
from nanorepro.data.tensors.record import FORMATS, TensorFile
from nanorepro.errors import ConfigError, shown, wrong
from nanorepro.results.plain import finite_or_null

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CheckpointDifference:
    """How one checkpoint of B differs from that of A.

    Attributes
    ----------
    a, b : str
        The checkpoints' names; "" of ones that stand alone.
    number : int or None
        What the names of a series count: the step, the epoch.
    tensors : tuple of TensorDifference
        In A's order.
    mismatches : tuple of Mismatch
        Tensors of both that cannot be compared, for their shapes or formats.
    only_a, only_b : tuple of str
        Tensors that only one of the two has.
    left_out : dict of str to str
        What has a name in A or B and holds no numbers that could be compared, and why.
    notes : tuple of str
        What was understood of the files that they do not say.
    """

    a: str
    b: str
    number: int | None
    tensors: tuple[TensorDifference, ...]
    mismatches: tuple[Mismatch, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether both have the same tensors, at least one, bit for bit; all NaN count as one."""
        others = self.mismatches or self.only_a or self.only_b
        return bool(self.tensors) and not others and all(t.equal for t in self.tensors)

    @property
    def largest_ulp(self) -> float:
        """The largest over the tensors of real numbers."""
        return max((t.largest_ulp for t in self._real), default=0.0)

    @property
    def _real(self) -> tuple[TensorDifference, ...]:
        """Those that are no integers, such as counts of steps; all if there are no others."""
        found = tuple(t for t in self.tensors if FORMATS[t.compared_as].kind in REAL)
        return found or self.tensors

    @property
    def relative_distance(self) -> float:
        """‖A - B‖ / ‖A‖ over all real numbers that were compared."""
        return relative(
            math.hypot(*(t.distance for t in self._real)),
            math.hypot(*(t.norm_a for t in self._real)),
        )

    @property
    def angle(self) -> float:
        """Between all real numbers of A and of B, as vectors, in radians; NaN if one is 0."""
        real = self._real
        if len(real) == 1:
            return real[0].angle
        scale = max((max(t.norm_a, t.norm_b) for t in real), default=0.0)
        if not (scale and math.isfinite(scale)):
            return math.nan
        aa, bb, dd = (math.fsum((getattr(t, name) / scale) ** 2 for t in real) for name in NORMS)
        return angle_between(aa, bb, dd, math.fsum(t.squares_apart / scale / scale for t in real))

    @property
    def cosine(self) -> float:
        """The cosine between all real numbers of A and of B, as vectors; NaN if one is 0."""
        return math.cos(self.angle)


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives.

    Attributes
    ----------
    a, b : str
        What was compared.
    differences : tuple of FieldDifference
        Fields of the configurations of two runs, or of the metadata of two files, that differ.
    notes : tuple of str
        What the configurations mean: whether the examples are the same.
    checkpoints : tuple of CheckpointDifference
        One, or those of the series that both have.
    only_a, only_b : tuple of str
        Checkpoints that only one of the two series has.
    test : RoundingTest or None
        With replicates, whether B differs from A by more than rounding.
    """

    a: str
    b: str
    differences: tuple[FieldDifference, ...]
    notes: tuple[str, ...]
    checkpoints: tuple[CheckpointDifference, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    test: RoundingTest | None = None

    @property
    def equal(self) -> bool:
        """Whether all that was compared is the same, bit for bit, and nothing is missing."""
        return not (self.only_a or self.only_b) and all(c.equal for c in self.checkpoints)

    @property
    def first_different(self) -> CheckpointDifference | None:
        """The first checkpoint at which they differ."""
        return next((c for c in self.checkpoints if not c.equal), None)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, texts and numbers; NaN and infinity are None."""
        record = asdict(self)
        for c, found in zip(self.checkpoints, record["checkpoints"], strict=True):
            found |= {name: getattr(c, name) for name in DERIVED}
            for t, row in zip(c.tensors, found["tensors"], strict=True):
                row |= {name: getattr(t, name) for name in ("equal", "relative_distance", "cosine")}
        record["equal"] = self.equal
        first = self.first_different
        record["first_different"] = None if first is None else first.a or first.number
        plain: dict[str, Any] = finite_or_null(record)
        return plain

    def __str__(self) -> str:
        from nanorepro.analysis.showing import table

        return table(self)


REAL = ("float", "complex")
NORMS = ("norm_a", "norm_b", "distance")
DERIVED = ("equal", "largest_ulp", "relative_distance", "angle", "cosine")


def compare(
    a: Any,
    b: Any,
    *,
    replicates: Sequence[Any] = (),
    level: float = LEVEL,
    rename: Mapping[str, str] | None = None,
    transpose: Mapping[str, Sequence[int] | None] | Sequence[str] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Compare two stored runs, files of tensors, or series of checkpoints.

    Parameters
    ----------
    a : str, Path, Result, mapping, or list of these
        The first: a file .safetensors, .npz, .npy or .h5 of any program; a run stored by `save`,
        or a Result; a folder or a pattern of checkpoints, ordered by the numbers in their names;
        arrays by their names; or a list of these, a series.  After `#` follows a part of it:
        `run.h5#0.1` is model 1 of pair 0, `model.npz#encoder/` the tensors whose names begin so.
    b : the same
        The second.
    replicates : sequence of the same, optional
        What is known to differ from A by rounding alone: with enough of them, a rank test says
        whether B does, too (`nanorepro.analysis.rounding_test`).  Beside files, a folder or a
        pattern stands for all that are there.
    level : float
        How often the test may call beyond rounding what is not.
    rename : mapping of str to str, optional
        Names of B's tensors, and what A calls them; a `*` in both stands for any text.
    transpose : sequence of str, or mapping of str to sequence of int, optional
        Tensors, by their names in A, whose axes B stores in reverse order, or in the order given.
        A matrix whose shape in B is the reverse of that in A is transposed anyway.
    progress : callable, optional
        Called as progress(done, total) with the numbers compared so far and in all.

    Returns
    -------
    Comparison
        Differences of the configurations, and of every tensor at every checkpoint; with
        replicates, the verdict.

    Raises
    ------
    ConfigError
        For a file that is missing, damaged or not supported, and for two that have nothing in
        common.

    Examples
    --------
    >>> import numpy as np
    >>> from nanorepro import compare
    >>> found = compare({"w": np.float32([1, 2, 4])}, {"w": np.float32([1, 2, 4.0000005])})
    >>> found.equal, found.checkpoints[0].tensors[0].largest_ulp
    (False, 1.0)
    """
    rules = rules_of(rename, transpose)
    level = number_between("level", level, 0.0, 1.0, "a number above 0 and below 1")
    function_or_none("progress", progress, "a function of numbers compared and in all")
    one, other = compared(a, "a"), compared(b, "b")
    others = replicates_of(replicates, one, other)
    pairs, only_a, only_b, notes = paired(one, other)
    differences: list[FieldDifference] = []
    if one.run is not None and other.run is not None:
        differences = list(config_differences(one.run.config, other.run.config))
        notes = [*notes_on_runs(one, other), *notes]
    notes += notes_on_replicates(one, others)
    opened = [(x, y, x.open(), y.open()) for x, y in pairs]
    matched = [(x, y, f, g, match(f, g, rules)) for x, y, f, g in opened]
    if matched:
        differences += metadata_differences(matched[0][2], matched[0][3])
    size = sum(m.a.size for *_, found in matched for m in found.matches)
    tested = exchangeable_tensors(
        [row[0] for row in matched], [row[4] for row in matched], others, rules
    )
    counted = _Counter(progress, size + sum(t.size for c in tested for same in c for t in same))
    checkpoints = tuple(_measured(*row, counted) for row in matched)
    grams = [gram(tensors, counted) for tensors in tested]
    return Comparison(
        a=one.name,
        b=other.name,
        differences=tuple(differences),
        notes=tuple(notes),
        checkpoints=checkpoints,
        only_a=tuple(only_a),
        only_b=tuple(only_b),
        test=rounding_test(grams, [c.a for c in checkpoints], level) if grams else None,
    )


class _Counter:
    """Counts numbers that were compared."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, more: int) -> None:
        self.done += more
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)


def _measured(
    x: CheckpointTensors,
    y: CheckpointTensors,
    a: TensorFile,
    b: TensorFile,
    matching: Matching,
    count: _Counter,
) -> CheckpointDifference:
    notes = list(dict.fromkeys([*a.notes, *b.notes]))
    notes += [
        f"{name} is square and was compared as stored, while others were transposed; --transpose"
        f" {name} if B stores it the other way"
        for name in square(matching)
    ]
    return CheckpointDifference(
        a=x.label,
        b=y.label,
        number=x.number,
        tensors=tuple(measure(m.a, m.b, m.transposed, count) for m in matching.matches),
        mismatches=matching.mismatches,
        only_a=matching.only_a,
        only_b=matching.only_b,
        left_out={**b.left_out, **a.left_out},
        notes=tuple(notes),
    )


def rules_of(
    rename: Mapping[str, str] | None,
    transpose: Mapping[str, Sequence[int] | None] | Sequence[str],
) -> Rules:
    """The rules of `compare` as a record; raises ConfigError for what is none."""
    if rename is not None and not isinstance(rename, Mapping):
        raise ConfigError(f"{shown(rename)} is no mapping", "rename", "{'OLD': 'NEW'}")
    pairs = tuple((rename or {}).items())
    for old, new in pairs:
        if not (isinstance(old, str) and isinstance(new, str) and old and new):
            raise ConfigError(f"{shown(old)}={shown(new)}", "rename", "names, OLD=NEW")
        if old.count("*") < new.count("*"):
            problem = f"{shown(new)} has more * than {shown(old)}"
            raise ConfigError(problem, "rename", "as many in both")
    return Rules(pairs, _axes_of(transpose))


def _axes_of(transpose: object) -> dict[str, tuple[int, ...] | None]:
    """The order of the axes of each tensor that is transposed, None where it is reversed."""
    try:
        given: Mapping[Any, Any]
        if isinstance(transpose, Mapping):
            given = transpose
        else:
            names = [transpose] if isinstance(transpose, str) else transpose
            given = dict.fromkeys(names)  # type: ignore[call-overload]
        axes = {n: None if v is None else tuple(map(operator.index, v)) for n, v in given.items()}
        if all(isinstance(name, str) for name in axes):
            return axes
    except TypeError:
        pass
    raise wrong("transpose", transpose, "names of tensors, or the order of the axes by name")


def paired(
    a: Compared, b: Compared
) -> tuple[list[tuple[CheckpointTensors, CheckpointTensors]], list[str], list[str], list[str]]:
    """The checkpoints that both have, those that only A and only B have, and how they were found.

    By their numbers, runs by their ids; by their order if none is in both.
    """
    if a.series != b.series:
        which = ("A", "B") if a.series else ("B", "A")
        problem = f"{which[0]} is a series of checkpoints and {which[1]} is not"
        raise ConfigError(problem, right="two files, or two series")
    if not a.series:
        return [(a.checkpoints[0], b.checkpoints[0])], [], [], []
    known = {_key(c): c for c in b.checkpoints}
    found = [(c, known[_key(c)]) for c in a.checkpoints if _key(c) in known]
    if found:
        keys = {_key(c) for c, _ in found}
        only = [[c.label for c in s.checkpoints if _key(c) not in keys] for s in (a, b)]
        return found, only[0], only[1], []
    n = min(len(a.checkpoints), len(b.checkpoints))
    found = list(zip(a.checkpoints, b.checkpoints, strict=False))
    only = [[c.label for c in s.checkpoints[n:]] for s in (a, b)]
    what = "run" if a.checkpoints[0].number is None else "number"
    note = f"no {what} is in the names of both series: compared in their order"
    return found, only[0], only[1], [note]


def _key(checkpoint: CheckpointTensors) -> int | str:
    """What a checkpoint is found by in another series."""
    return checkpoint.label if checkpoint.number is None else checkpoint.number


def metadata_differences(a: TensorFile, b: TensorFile) -> list[FieldDifference]:
    """What two files say of themselves that is not the same."""
    names = dict.fromkeys([*a.metadata, *b.metadata])
    pairs = [(n, a.metadata.get(n, ""), b.metadata.get(n, "")) for n in names]
    return [FieldDifference(*pair) for pair in pairs if pair[1] != pair[2]]
