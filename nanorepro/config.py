"""What a run is: one frozen record that determines every bit of the result, and nothing else.

The fields are the command line's options with underscores.  What each may be is said by the records
of the activations, optimizers, trees and so on, and by the settings here.  Neither NumPy nor Numba
is imported, so that `--help` answers at once.
"""

import contextlib
import hashlib
import json
import math
import operator
import shlex
from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any

from nanorepro.arguments import is_boolean
from nanorepro.data.options import ARRAYS, FILE, DataSettings, check_source
from nanorepro.dials import Dials, DialSettings, check_dials, dials
from nanorepro.errors import ConfigError, option, wrong
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.architectures import ARCHITECTURES
from nanorepro.model.initializers import INITIALIZERS
from nanorepro.model.optimizers import OPTIMIZERS, OptimizerSettings
from nanorepro.numerics.single_sums import text_of
from nanorepro.numerics.trees import split_kind
from nanorepro.parsing import real_number, whole_number
from nanorepro.settings import parameters_section, setting, setting_of, summaries

CONTRACT = 1  # version of docs/arithmetic.md: any change of any bit raises it

ROLES = ("init", "shuffle", "order", "rounding", "nudge")
BACKENDS = ("numba", "reference", "cupy")
CHECKPOINT_MINUTES = 10.0  # between two checkpoints inside a run, by default
MOST_CHECKPOINT_MINUTES = 10**6
MOST_THREADS = 1024
MOST_PER_OCTAVE = 64
OF_WORLDS = ("log2_examples", "log2_eval", "paper")  # options of what files decide
OF_FILES = ("epochs", "holdout", "pair_examples")  # and of what there is of files only
WIDTH = range(1, 65537)
EVALUATIONS = 1024  # checkpoints of a run at most


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The models: a part of `Config`."""

    model: str = setting(
        "tower", "architecture; " + summaries(ARCHITECTURES), choices=ARCHITECTURES
    )
    hidden: str = setting("", "widths of the hidden layers, as in 64,32, in place of the tower's")
    act: str = setting(
        "relu", "activation of the hidden units; " + summaries(ACTIVATIONS), choices=ACTIVATIONS
    )
    beta: float = setting(
        1.0, "smoothness β of smelu and swish, above 0", low=1e-6, high=1e6, paper="several"
    )
    init: str = setting(
        "glorot",
        "initial weights; " + summaries(INITIALIZERS),
        choices=INITIALIZERS,
        paper="Keras's",
    )
    warm_start: str = setting("", "fingerprint of the run whose parameters this one starts from")

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        if self.hidden:
            return tuple(whole_number(w) for w in self.hidden.split(","))
        return ARCHITECTURES[self.model].widths


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """The pairs, and when they are measured: a part of `Config`."""

    pairs: int = setting(16, "pairs of models", low=1, high=65536, paper=16)
    differ: str = setting(
        "shuffle",
        "streams in which the two models of a pair differ: a list out of "
        + ",".join(ROLES)
        + ", or none",
        paper="shuffle, or init,shuffle",
    )
    eval_every: str = setting(
        "",
        "also evaluate during training: every N mini-batches, or log for 1, 2, 4, ...",
        shown=("N", "log"),
    )
    seed: int = setting(0, "seed of all streams, from 0 to 2^64 - 1", low=0, high=2**64 - 1)
    first_stream: int = setting(
        0,
        "pair whose streams the first pair has (initial values, orders, rounding, nudge), the next"
        " one those of the next; the examples stay",
        low=0,
        high=2**31,
    )
    nudge_at: int = setting(
        0,
        "step before which the second model is nudged, 0 for before training, where they differ"
        " in nudge",
        low=0,
        high=2**40,
    )
    nudge_ulps: int = setting(
        1, "units in the last place by which a nudged weight moves up", low=1, high=2**31
    )
    nudge_weights: int = setting(1, "weights that are nudged", low=1, high=2**31)

    @property
    def roles(self) -> frozenset[str]:
        """The streams in which the two models of a pair differ."""
        return frozenset(self.differ.split(",")) - {"none"}


# The parts of a configuration, in the order of its fields.
PARTS: dict[str, type] = {
    "the models": ModelSettings,
    "the data": DataSettings,
    "the pairs": PairSettings,
    "the optimizer": OptimizerSettings,
    "the dials of the arithmetic (a,b gives a to the first model of a pair, b to the second)": (
        DialSettings
    ),
}


@dataclass(frozen=True, kw_only=True)
class Config(DialSettings, OptimizerSettings, PairSettings, DataSettings, ModelSettings):
    """A run: pairs of models, the data they see, how they are trained, and in what arithmetic.

    Immutable; equal configurations are equal and hash alike.  Numbers may be given as text or as
    NumPy's, lists of `hidden` and `differ` as sequences, `fma` as a bool.  A dial may be two values
    `a,b`: a for the first model of each pair, b for the second.

    {parameters}

    Raises
    ------
    ConfigError
        For a value that is not allowed or contradicts another, naming the field.

    Examples
    --------
    >>> config = Config(model="wide", optimizer="sgd", lr=0.01, differ=["init", "shuffle"])
    >>> config.widths, config.steps, config.differ
    ((1000,), 32768, 'init,shuffle')
    >>> config.id
    'd4fb9c1cdcd59d63'
    >>> Config(log2_window=99)
    Traceback (most recent call last):
        ...
    nanorepro.errors.ConfigError: log2_window: 99 is not allowed; give a whole number from 0 to 40
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            value = _plain(f, getattr(self, f.name))
            setting_of(f).check(f.name, value)
            object.__setattr__(self, f.name, value)
        OPTIMIZERS[self.optimizer].check(self)
        check_source(self)
        _check_lists(self)
        for model in (0, 1):
            check_dials(dials(self, model), self.layers)

    @property
    def layers(self) -> int:
        """Layers of a model: hidden ones, the output, and embeddings where it has some."""
        return len(self.widths) + 1 + bool(ARCHITECTURES[self.model].embeddings)

    @property
    def epoch(self) -> int:
        """Training examples of one pass of a pair: of a world all T, of the caller's its own."""
        given = self.given
        if given is None:
            return 1 << self.log2_examples
        left = given.examples - self.held_out
        return left // self.pairs if self.pair_examples == "split" else left

    @property
    def examples(self) -> int:
        """T, the training examples of a pair: of the caller's so many as fill mini-batches."""
        if not self.is_given:
            return 1 << self.log2_examples
        return self.epochs * self.epoch // self.batch * self.batch

    @property
    def steps(self) -> int:
        """Mini-batches of a run."""
        return self.examples // self.batch

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps after which the models are evaluated; the last step always."""
        return checkpoints(self.eval_every, self.steps)

    @property
    def id(self) -> str:
        """Name of the run: 16 hex digits of the SHA-256 of its canonical form."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:16]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Config":
        """The configuration of a record of fields, as a stored run has it.

        Parameters
        ----------
        record : mapping of str to str, int or float
            Fields by their names.  One that is missing did not exist when the record was made, and
            has the value with which it came to be.

        Raises
        ------
        ConfigError
            For a field that is unknown, because a newer version made the record, or a value that is
            not allowed.
        """
        if not isinstance(record, Mapping):
            raise wrong("record", record, "fields by their names")
        known = {f.name: setting_of(f).absent for f in fields(cls)}
        if unknown := sorted(str(name) for name in set(record) - set(known)):
            raise ConfigError(
                f"the fields {', '.join(unknown)} are unknown: made by a newer version of"
                " nanorepro; read it with that one"
            )
        return cls(**{**known, **record})


Config.__doc__ = (Config.__doc__ or "").replace(
    "{parameters}", parameters_section(Config).replace("\n", "\n    ")
)


def checkpoints(every: str, steps: int) -> tuple[int, ...]:
    """The steps named by `--eval-every` in a run of `steps` steps, ascending, the last included."""
    if not every:
        return (steps,)
    if every == "log":
        some = [1 << k for k in range(steps.bit_length())]
    else:
        some = list(range(int(every), steps, int(every)))
    return tuple(sorted({s for s in some if s < steps} | {steps}))


def canonical(config: Config) -> str:
    """The canonical form (docs/arithmetic.md, "Identity of a run"), of which the id is a digest.

    JSON without blanks, keys sorted, of the fields that have an effect and are not at the value
    that their absence means.
    """
    record = {f.name: getattr(config, f.name) for f in fields(config)}
    record["differ"] = ",".join(r for r in ROLES if r in config.roles) or "none"
    widths = () if config.widths == ARCHITECTURES[config.model].widths else config.widths
    record["hidden"] = ",".join(map(str, widths))
    for f in fields(Dials):
        if f.name == "accumulator_at":
            values = [text_of(dials(config, model).other_accumulators) for model in (0, 1)]
        else:
            values = [_plain_kind(value) for value in record[f.name].split(",")]
        record[f.name] = ",".join(dict.fromkeys(values))
    unused = without_effect(config)
    kept = {
        f.name: record[f.name]
        for f in fields(config)
        if f.name not in unused and record[f.name] != setting_of(f).absent
    }
    if CONTRACT != 1:
        kept["contract"] = CONTRACT
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def without_effect(config: Config) -> frozenset[str]:
    """The fields that change no bit of this run: other optimizers' settings, β where none is."""
    optimizer = OPTIMIZERS[config.optimizer]
    unused = {name for other in OPTIMIZERS.values() for name in other.names} - {*optimizer.names}
    unused |= set(optimizer.unused(config))
    if not config.widths:
        unused |= {"act", "beta"}
    elif not ACTIVATIONS[config.act].uses_beta:
        unused.add("beta")
    if "nudge" not in config.roles:
        unused |= {"nudge_at", "nudge_ulps", "nudge_weights"}
    given = config.given
    if given is None:
        unused |= {"content", "epochs", "holdout", "pair_examples"}
    else:  # it is the content that counts, not where it was read
        unused |= {"data", "log2_examples", "log2_eval"}
        unused |= {"holdout"} if given.evaluation else set()
    return frozenset(unused)


def check_fields(config: Config, given: Collection[str]) -> None:
    """Raise ConfigError if one of the fields that were given has no meaning for such examples."""
    for name in OF_WORLDS if config.is_given else OF_FILES:
        if name in given:
            where = f"worlds; --data {FILE} has --epochs"
            where = where if config.is_given else f"examples of a file; give --data {FILE}NAME, too"
            raise ConfigError(f"it is for {where}", name)


def unused_options(configs: Collection[Config], given: Collection[str]) -> str:
    """The options that were given and change none of the runs, in a line; empty: there are none."""
    unused = frozenset.intersection(*map(without_effect, configs))
    unused -= {"data"}  # which says where the examples are
    names = [option(f.name) for f in fields(Config) if f.name in unused and f.name in given]
    return f"{', '.join(names)}: without effect on this run" if names else ""


def command(config: Config, module: str = "nanorepro.run") -> str:
    """The command that makes this run: every option that is not at its default.

    Of examples that are arrays, the call in Python.
    """
    changed = {
        f.name: value for f in fields(config) if (value := getattr(config, f.name)) != f.default
    }
    changed.pop("warm_start", None)  # a fingerprint, where the command takes a file
    if config.data == ARRAYS:
        name = module.removeprefix("nanorepro.").replace("run", "simulate")
        given = ", ".join(f"{k}={v!r}" for k, v in changed.items() if k not in ("data", "content"))
        return f"{name}(Config({given}), data=...)  # arrays of digest {config.content}"
    return " ".join([f"python -m {module}", *_options(changed)])


def options_of(record: Mapping[str, Any]) -> str:
    """The options of `nanorepro.run` that stand for the values of some fields.

    Examples
    --------
    >>> options_of({"act": "swish", "log2_window": 3})
    '--act swish --log2-window 3'
    """
    return " ".join(_options(record)) or "all at default"


def _options(record: Mapping[str, Any]) -> list[str]:
    return [f"{option(name)} {shlex.quote(str(value))}" for name, value in record.items()]


def check_config(config: object) -> None:
    """Raise ConfigError unless an argument `config` is a configuration."""
    if not isinstance(config, Config):
        raise wrong("config", config, "a nanorepro.Config")


def with_paper_sizes(config: Config) -> Config:
    """The same run at the paper's sizes: T = 2^26, N = 2^16, 16 pairs."""
    return replace(config, log2_examples=26, log2_eval=16, pairs=16)


def _plain(f: "Field[Any]", value: Any) -> Any:
    """A field's value as its declared type; numbers may arrive as NumPy's or as text."""
    kind: type = type(f.default)
    if f.name == "hidden" and isinstance(value, tuple | list):
        if not value:
            raise wrong(f.name, value, "a width at least; without hidden layers {model=linear}")
        value = ",".join(map(str, value))
    if f.name == "differ" and isinstance(value, set | frozenset | tuple | list):
        value = ",".join(sorted(map(str, value))) or "none"
    if f.name == "eval_every" and not is_boolean(value):
        with contextlib.suppress(TypeError):  # what is no whole number is to be text
            value = str(operator.index(value))
    if f.name == "fma" and is_boolean(value):
        value = "on" if value else "off"
    if kind is str:
        if not isinstance(value, str):
            raise wrong(f.name, value, "text")
        return value
    try:
        if isinstance(value, str):
            value = whole_number(value) if kind is int else real_number(value)
        if is_boolean(value) or (kind is int and not hasattr(value, "__index__")):
            raise TypeError
        number = int(value.__index__()) if kind is int else float(value)
        if not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        right = "a whole number" if kind is int else "a finite decimal number, such as 0.1 or 1e-7"
        raise wrong(f.name, value, right) from None
    return number + 0  # -0.0 is 0.0


def _plain_kind(value: str) -> str:
    """A dial's value with its number in its plainest form: `lanes:08` is `lanes:8`."""
    kind, k = split_kind("", value)
    return f"{kind}:{k}" if ":" in value else kind


def check_sequence(c: Config) -> None:
    """Raise ConfigError unless mini-batches and windows divide the sequence of examples.

    Of the caller's examples the last window may be shorter.
    """
    if c.is_given:
        _check_given(c)
    elif c.examples % c.batch:
        raise wrong("batch", c.batch, f"a divisor of 2^{c.log2_examples} examples")
    if c.window > c.examples:
        longest = (c.examples // c.batch).bit_length() - 1
        of = f" with {{log2_examples={c.log2_examples}}}" if not c.is_given else ""
        right = f"at most {longest}{of}: a window fits in " + ("it" if of else "the sequence")
        raise wrong("log2_window", c.log2_window, right)
    if c.examples % c.window and not c.is_given:
        raise wrong("log2_window", c.log2_window, "a window that divides the sequence")
    if c.window > 2**31:
        raise wrong("log2_window", c.log2_window, "a window of at most 2^31 examples")
    if c.eval_every not in ("", "log") and c.steps > EVALUATIONS * int(c.eval_every):
        least = -(-c.steps // EVALUATIONS)
        raise wrong("eval_every", c.eval_every, f"{least} or more: {EVALUATIONS} evaluations")
    if "nudge" in c.roles and c.nudge_at >= c.steps:
        raise wrong("nudge_at", c.nudge_at, f"a step of the run, from 0 to {c.steps - 1}")
    if "nudge" in c.roles and c.nudge_weights > (most := _weights(c)):
        raise wrong("nudge_weights", c.nudge_weights, f"at most {most}, all weights of the model")


def _weights(c: Config) -> int:
    """Weights of one model, without its biases."""
    from nanorepro.model.layers import make_layers, shapes  # NumPy

    net = make_layers(c.widths, ARCHITECTURES[c.model].embeddings, c.features)
    return sum(math.prod(shape) for name, shape in shapes(net).items() if name[0] != "b")


def _check_given(c: Config) -> None:
    """Raise ConfigError unless there are examples of the caller to train and to evaluate on."""
    given = c.given
    assert given is not None
    if ARCHITECTURES[c.model].embeddings and given.features % 2:
        problem = f"{given.features} features are not two equal sets, as {c.model} has them"
        raise ConfigError(problem, "data", "examples of an even number of features")
    if not c.evaluation_examples or c.held_out >= given.examples:
        right = f"a part of {given.examples} examples that leaves some on both sides"
        raise wrong("holdout", c.holdout, right)
    if not c.epoch:
        left = given.examples - c.held_out
        raise wrong("pairs", c.pairs, f"at most {left}, as {left} examples are split among pairs")
    if not c.steps:
        seen = c.epochs * c.epoch
        raise wrong("batch", c.batch, f"at most {seen}, the examples of all epochs, or more epochs")


def _check_lists(c: Config) -> None:
    roles = c.differ.split(",")
    if c.differ != "none" and (set(roles) - set(ROLES) or len(set(roles)) < len(roles)):
        raise wrong("differ", c.differ, "a list out of " + ",".join(ROLES) + ", or none")
    if c.hidden:
        if c.model != "tower":
            raise wrong(
                "hidden", c.hidden, f"no widths with {{model={c.model}}}, or {{model=tower}}"
            )
        try:
            right = all(w in WIDTH for w in c.widths)
        except ValueError:
            right = False
        if not right:
            raise wrong("hidden", c.hidden, "widths from 1 to 65536, as in 64,32")
    if c.eval_every not in ("", "log"):
        try:
            every = whole_number(c.eval_every)
        except ValueError:
            every = 0
        if not 0 < every < 10**15:
            raise wrong("eval_every", c.eval_every, "a number of mini-batches above 0, or log")
        object.__setattr__(c, "eval_every", str(every))
    if c.warm_start and (len(c.warm_start) != 64 or set(c.warm_start) - set("0123456789abcdef")):
        raise wrong("warm_start", c.warm_start, "the 64 hex digits of a run's fingerprint")
    if c.warm_start and c.init != "glorot":
        raise wrong("init", c.init, "no other initial weights with a warm start")
