"""Replicates: what is known to differ from A by rounding alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nanorepro.analysis.compared import CheckpointTensors, Compared, compared, of_path
from nanorepro.analysis.configuration import config_differences
from nanorepro.analysis.matching import Matching, Rules, match, named_as
from nanorepro.data.tensors.record import Tensor, TensorFile
from nanorepro.dials import DialSettings
from nanorepro.errors import ConfigError, shown

ROUNDING = {"differ", "nudge_at", "nudge_ulps", "nudge_weights", *DialSettings.__dataclass_fields__}
"""Fields of a configuration that change nothing but rounding."""


def replicates_of(given: Sequence[Any], a: Compared, b: Compared) -> list[Compared]:
    """The sources that a caller names as replicates of A; raises ConfigError.

    No file may be there twice, also not as A or B: copies are no replicates.

    Where A is no series, a folder or a pattern stands for the files that are there.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigError(f"{shown(given)} is no list", "replicates", "a list of files or arrays")
    found: list[Compared] = []
    for k, what in enumerate(given):
        one = compared(what, f"replicates[{k}]")
        if one.series and not a.series:
            found += [_alone(one, c) for c in one.checkpoints]
        elif a.series and not one.series:
            problem = f"{one.name} is one checkpoint, A a series"
            raise ConfigError(problem, "replicates", "series of checkpoints")
        else:
            found.append(one)
    seen = {source.checkpoints[0].files: who for source, who in ((a, "A"), (b, "B"))}
    for one in found:
        files = one.checkpoints[0].files
        if files and files in seen:
            problem = f"{one.name} is {seen[files]}, too: each file counts once"
            raise ConfigError(problem, "replicates", "other files")
        seen[files] = "another replicate"
    return found


def _alone(series: Compared, checkpoint: CheckpointTensors) -> Compared:
    """One of a folder's or a pattern's, as if it were named itself."""
    if checkpoint.number is None and checkpoint.files:  # a stored run
        *paths, part = checkpoint.files
        return replace(of_path(f"{paths[0]}#{part}" if part else paths[0]), name=checkpoint.label)
    return replace(series, name=checkpoint.label, checkpoints=(checkpoint,))


def notes_on_replicates(a: Compared, replicates: Sequence[Compared]) -> list[str]:
    """Runs given as replicates that differ from A in more than rounding."""
    notes = []
    for other in replicates:
        if a.run is None or other.run is None:
            continue
        fields = [d.field for d in config_differences(a.run.config, other.run.config)]
        which = [name for name in fields if name not in ROUNDING]
        if a.model is not None and other.model is not None and a.model[0] != other.model[0]:
            which.append("the pair")
        if which:
            listed = ", ".join(which)
            notes.append(f"{other.name} is no replicate of A: they differ in {listed}")
    return notes


def exchangeable_tensors(
    checkpoints: Sequence[CheckpointTensors],
    matchings: Sequence[Matching],
    replicates: Sequence[Compared],
    rules: Rules,
) -> list[list[list[Tensor]]]:
    """For each checkpoint and tensor: that of A, those of the replicates, that of B.

    Parameters
    ----------
    checkpoints : sequence of CheckpointTensors
        Those of A.
    matchings : sequence of Matching
        How A and B match at each.
    replicates : sequence of Compared
        As `replicates_of` gives them; the result is empty without.
    rules : Rules
        How B's names become A's; replicates have A's, or B's.
    """
    if not replicates:
        return []
    found = []
    for checkpoint, matching in zip(checkpoints, matchings, strict=True):
        if not matching.matches:
            raise ConfigError("no tensor of A and B could be compared", "replicates")
        columns = [[m.a for m in matching.matches]]
        for other in replicates:
            columns.append(_tensors(checkpoint, matching, other, rules))
        columns.append([m.b for m in matching.matches])
        found.append([list(same) for same in zip(*columns, strict=True)])
    return found


def _tensors(
    checkpoint: CheckpointTensors, matching: Matching, other: Compared, rules: Rules
) -> list[Tensor]:
    """The tensors of a replicate, by A's names and with A's axes."""
    alone = len(other.checkpoints) == 1 and checkpoint.number is None
    at = [c for c in other.checkpoints if alone or c.number == checkpoint.number]
    if not at:
        problem = f"{other.name} has no checkpoint {checkpoint.label}"
        raise ConfigError(problem, "replicates", "series with the checkpoints of A and B")
    file = at[0].open()
    mine = {m.a.name: m.a for m in matching.matches}
    plain = Rules((), {}) if set(mine) <= set(file.tensors) else rules
    right = "files with the tensors of A"
    if not set(mine) & set(named_as(mine, file.tensors, plain.rename)):
        raise ConfigError(f"{other.name} and A have no name in common", "replicates", right)
    named = {m.a.name: m.b for m in match(TensorFile(mine, {}, {}), file, plain).matches}
    for name, tensor in mine.items():
        if name not in named:
            problem = f"{other.name} has no {shown(name)} of shape {tensor.shape}"
            raise ConfigError(problem, "replicates", right)
    return [named[name] for name in mine]
