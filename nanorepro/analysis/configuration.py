"""How the configurations of two runs differ, and what that means for their examples."""

from dataclasses import dataclass, fields

from nanorepro.analysis.compared import Compared
from nanorepro.config import ROLES, Config, without_effect

EXAMPLES = ("seed", "data", "content", "holdout", "pair_examples", "first_example")
"""The fields, beside the pair, that say which examples there are."""

MEASURES = ("pd", "loss")
"""What is said of two whole runs."""

ORDER = ("batch", "log2_window")
"""The fields that say into what mini-batches and windows they are brought."""


@dataclass(frozen=True)
class FieldDifference:
    """A field of the configuration, or of a file's metadata, in which two sources differ.

    Attributes
    ----------
    field : str
        Its name.
    a, b : str
        Its values, "" where there is none.
    """

    field: str
    a: str
    b: str


def config_differences(a: Config, b: Config) -> tuple[FieldDifference, ...]:
    """The fields that have an effect in one of two runs and not the same value in both."""
    unused = without_effect(a) & without_effect(b)
    found = []
    for f in fields(Config):
        one, other = getattr(a, f.name), getattr(b, f.name)
        if f.name == "differ":
            one, other = (",".join(r for r in ROLES if r in c.roles) or "none" for c in (a, b))
        if f.name == "hidden":
            one, other = (",".join(map(str, c.widths)) for c in (a, b))
        if one != other and f.name not in unused:
            found.append(FieldDifference(f.name, str(one), str(other)))
    return tuple(found)


def notes_on_runs(a: Compared, b: Compared) -> list[str]:
    """What two runs say in words: whether the bits and the examples are the same, and the PD."""
    notes = notes_on_examples(a, b)
    if a.run is not None and b.run is not None and a.model is None and b.model is None:
        for name in MEASURES:
            words, values = a.run.metrics[name].words, (a.run.mean(name), b.run.mean(name))
            notes.append(f"{words}: {values[0]:.4g} in A, {values[1]:.4g} in B")
    return notes


def notes_on_examples(a: Compared, b: Compared) -> list[str]:
    """What the configurations of two runs mean for their bits and their examples."""
    assert a.run is not None and b.run is not None
    one, other = a.run.config, b.run.config
    notes = []
    if a.model is None and b.model is None and a.run.fingerprint == b.run.fingerprint:
        notes.append("identical: the fingerprints of all parameters are the same")
    elif one.id == other.id and a.model == b.model:
        notes.append("the same configuration with other bits: one of the two is wrong")
    unused = without_effect(one) & without_effect(other)
    which = [n for n in EXAMPLES if n not in unused and getattr(one, n) != getattr(other, n)]
    pairs = [source.model[0] for source in (a, b) if source.model is not None]
    if len(pairs) == 2 and pairs[0] != pairs[1]:
        which.append("the pair")
    if which:
        notes.append(f"not the same examples: they differ in {', '.join(which)}")
        return notes
    if one.examples != other.examples:
        fewer, more, who = sorted([one.examples, other.examples]) + [
            "A" if one.examples < other.examples else "B"
        ]
        notes.append(f"the {fewer} examples of {who} are the first of the other's {more}")
    how = [name for name in ORDER if getattr(one, name) != getattr(other, name)]
    if shuffled_apart(a, b):
        how.append("shuffle")
    if how:
        notes.append(f"the same examples, not in the same order: they differ in {', '.join(how)}")
    elif one.examples == other.examples:
        notes.append("the same examples in the same order")
    return notes


def shuffled_apart(a: Compared, b: Compared) -> bool:
    """Whether the two are shuffled by streams that are not the same."""
    assert a.run is not None and b.run is not None
    apart = [r.config for r in (a.run, b.run) if "shuffle" in r.config.roles]
    if len(apart) == 1 and a.model == b.model:
        # the shared stream is that of model 0, wherever it does not differ
        return a.model is None or a.model[1] != 0
    if not apart:
        return False
    models = [
        0 if "shuffle" not in s.run.config.roles else s.model[1]
        for s in (a, b)
        if s.run is not None and s.model is not None
    ]
    return len(models) == 2 and models[0] != models[1]
