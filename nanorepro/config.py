"""What a run is: one frozen record that determines every bit of the result, and nothing else.

The fields are the command line's options with underscores.  This module imports neither NumPy nor
Numba, so that `--help` answers at once.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from nanorepro.errors import option, wrong
from nanorepro.numerics import trees
from nanorepro.numerics.trees import split_kind
from nanorepro.parsing import real_number, whole_number

CONTRACT = 1  # version of docs/arithmetic.md: any change of any bit raises it

MODELS = ("linear", "single", "double", "tower", "wide", "deep")
WIDTHS = {
    "linear": (),
    "single": (1,),
    "double": (2,),
    "tower": (16, 8, 4, 2),
    "wide": (1000,),
    "deep": (1024, 512),
}
ACTIVATIONS = ("identity", "relu", "smelu", "swish")
WORLDS = ("linear", "quadratic")
OPTIMIZERS = ("adagrad", "sgd")
EPSILON_PLACES = ("outside", "inside", "none")
INITS = ("glorot", "zero", "uniform")
ROLES = ("init", "shuffle", "order", "rounding", "nudge")
LEAF_ORDERS = ("given", "reversed", "random")
TREES = (*trees.TREES, "random")
ACCUMULATORS = ("plain", "kahan", "wide", "exact")
PRECISIONS = ("float32", "float64", "bits:p")
ROUNDINGS = ("nearest", "stochastic", "toward-zero")
BACKENDS = ("numba", "reference")
WIDTH = range(1, 65537)
EVALUATIONS = 1024  # checkpoints of a run at most


def _opt(default, help, choices=None, paper=None):
    """A field that says itself on the command line what it means, its default, the paper's value.

    The command line passes text on as it is, so that every error is worded here.
    """
    shown = "none" if default in ("", ()) else default
    note = f"default: {shown}" + (f"; paper: {paper}" if paper is not None else "")
    shape = {int: "N", float: "X", str: "LIST"}[type(default)]
    metavar = "{" + ",".join(choices) + "}" if choices else shape
    metadata = {"help": f"{help} ({note})", "type": str, "metavar": metavar}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Dials:
    """How one model's arithmetic is done: the four dials of a sum, twice, and what they share."""

    leaf_order: str
    tree: str
    accumulator: str
    unit_order: str
    unit_tree: str
    unit_accumulator: str
    precision: str
    rounding: str
    fma: bool


@dataclass(frozen=True)
class Config:
    """A run: pairs of models, the data they see, how they are trained, and in what arithmetic.

    Raises ConfigError for a value out of range or a contradiction, naming the option.
    """

    model: str = _opt("tower", "architecture", MODELS)
    hidden: str = _opt("", "widths of the hidden layers, as in 64,32, in place of the tower's")
    act: str = _opt("relu", "activation of the hidden units", ACTIVATIONS)
    beta: float = _opt(1.0, "smoothness of smelu and swish, above 0", paper="several")
    data: str = _opt("linear", "world that the examples come from", WORLDS)
    log2_examples: int = _opt(20, "log2 of T, the training examples of a pair", paper=26)
    log2_window: int = _opt(
        0, "log2 of z, the mini-batches among which examples are shuffled", paper="0 to 20"
    )
    log2_eval: int = _opt(16, "log2 of N, the evaluation examples", paper=16)
    first_example: int = _opt(0, "index in the pair's sequence of the first training example")
    pairs: int = _opt(16, "pairs of models", paper=16)
    batch: int = _opt(32, "examples of a mini-batch", paper=32)
    differ: str = _opt(
        "shuffle",
        "streams in which the two models of a pair differ: a list out of "
        + ",".join(ROLES)
        + ", or none",
        paper="shuffle, or init,shuffle",
    )
    optimizer: str = _opt("adagrad", "optimizer", OPTIMIZERS)
    lr: float = _opt(0.1, "learning rate, above 0", paper="1 and 0.1; sgd 0.1 and 0.01")
    initial_accumulator: float = _opt(0.1, "AdaGrad: where its accumulators start", paper=0.1)
    epsilon: float = _opt(1e-7, "AdaGrad: the epsilon beside the root, 0 or more")
    epsilon_place: str = _opt(
        "outside",
        "AdaGrad: epsilon outside the root as in the paper's Keras, inside it as in Keras 3, or"
        " none as in TensorFlow 1",
        EPSILON_PLACES,
    )
    momentum: float = _opt(0.9, "SGD: momentum, from 0 to below 1", paper=0.9)
    decay: float = _opt(0.001, "SGD: the rate is lr/(1 + decay·step), 0 or more", paper=0.001)
    init: str = _opt("glorot", "initial weights; uniform is ±0.05", INITS, paper="Keras's")
    leaf_order: str = _opt("given", "order of the terms in a sum over the mini-batch", LEAF_ORDERS)
    tree: str = _opt("chain", "tree of a sum over the mini-batch", TREES)
    accumulator: str = _opt("plain", "accumulator of a sum over the mini-batch", ACCUMULATORS)
    unit_order: str = _opt("given", "order of the terms in a sum over units", LEAF_ORDERS)
    unit_tree: str = _opt("chain", "tree of a sum over units", TREES)
    unit_accumulator: str = _opt("plain", "accumulator of a sum over units", ACCUMULATORS)
    precision: str = _opt(
        "float32", "every operation's precision; p is 2 to 24 significand bits", PRECISIONS
    )
    rounding: str = _opt("nearest", "every operation's rounding", ROUNDINGS)
    fma: str = _opt("on", "a product joins a sum unrounded (on) or rounded (off)", ("on", "off"))
    eval_every: str = _opt(
        "",
        "also evaluate during training: every N mini-batches, or log for 1, 2, 4, ...",
        ("N", "log"),
    )
    seed: int = _opt(0, "seed of all streams, from 0 to 2^64 - 1")
    warm_start: str = _opt("", "fingerprint of the run whose parameters this one starts from")

    def __post_init__(self):
        for f in fields(self):
            object.__setattr__(self, f.name, _plain(f, getattr(self, f.name)))
        _check_choices(self)
        _check_numbers(self)
        _check_lists(self)
        for model in (0, 1):
            check_dials(dials(self, model))

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return tuple(int(w) for w in self.hidden.split(",")) if self.hidden else WIDTHS[self.model]

    @property
    def examples(self) -> int:
        """T, the training examples of a pair."""
        return 1 << self.log2_examples

    @property
    def window(self) -> int:
        """Examples of a window: z mini-batches."""
        return self.batch << self.log2_window

    @property
    def steps(self) -> int:
        """Mini-batches of a run."""
        return self.examples // self.batch

    @property
    def roles(self) -> frozenset[str]:
        """The streams in which the two models of a pair differ."""
        return frozenset(self.differ.split(",")) - {"none"}

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps after which the models are evaluated; the last step always."""
        return checkpoints(self.eval_every, self.steps)

    @property
    def id(self) -> str:
        """Name of the run: 16 hex digits of the SHA-256 of its canonical form."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:16]


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
    """The canonical form: JSON of what determines the bits, with what has no effect left out."""
    record = {f.name: getattr(config, f.name) for f in fields(config)}
    unused = {
        "adagrad": ("momentum", "decay"),
        "sgd": ("initial_accumulator", "epsilon", "epsilon_place"),
    }[config.optimizer]
    if config.model == "linear":
        unused += ("act",)
    if config.model == "linear" or config.act not in ("smelu", "swish"):
        unused += ("beta",)
    if config.optimizer == "adagrad" and config.epsilon_place == "none":
        unused += ("epsilon",)
    record["differ"] = ",".join(r for r in ROLES if r in config.roles) or "none"
    record["hidden"] = ",".join(map(str, config.widths))
    record = {k: v for k, v in record.items() if k not in unused}
    return json.dumps({"contract": CONTRACT, **record}, sort_keys=True)


def dials(config: Config, model: int) -> Dials:
    """The dials of the first (0) or second (1) model of a pair; `a,b` gives a to the first."""
    values: dict[str, Any] = {}
    for f in fields(Dials):
        parts = str(getattr(config, f.name)).split(",")
        if len(parts) > 2:
            raise wrong(f.name, getattr(config, f.name), "one value, or two: one for each model")
        values[f.name] = parts[model % len(parts)]
    return Dials(**{**values, "fma": values["fma"] == "on"})


def command(config: Config, module: str = "nanorepro.run") -> str:
    """The command that makes this run: every option that is not at its default."""
    words = ["python -m " + module]
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "warm_start" or value == f.default:
            continue
        words.append(f"{option(f.name)} {value}")
    return " ".join(words)


def with_paper_sizes(config: Config) -> Config:
    """The same run at the paper's sizes: T = 2^26, N = 2^16, 16 pairs."""
    return replace(config, log2_examples=26, log2_eval=16, pairs=16)


def check_dials(d: Dials) -> None:
    """Raise ConfigError for a dial out of range or dials that contradict each other."""
    one_of: dict[str, tuple[str, ...]]
    one_of = {"leaf_order": LEAF_ORDERS, "unit_order": LEAF_ORDERS, "rounding": ROUNDINGS}
    one_of |= {"accumulator": ACCUMULATORS, "unit_accumulator": ACCUMULATORS}
    for name, allowed in one_of.items():
        if getattr(d, name) not in allowed:
            raise wrong(name, getattr(d, name), " or ".join(allowed))
    for name in ("tree", "unit_tree"):
        value = getattr(d, name)
        kind, k = split_kind(name, value)
        with_k = kind + ":k" in trees.TREES
        if not (with_k or value == "random" or value in trees.TREES) or with_k != (":" in value):
            raise wrong(name, value, " or ".join(TREES) + " with k from 1 to 4096")
        if with_k and not 1 <= k <= 4096:
            raise wrong(name, value, f"{kind}:k with k from 1 to 4096")
    kind, p = split_kind("precision", d.precision)
    if not (d.precision in ("float32", "float64") or (kind == "bits" and 2 <= p <= 24)):
        raise wrong("precision", d.precision, "float32, float64 or bits:p with p from 2 to 24")
    if d.precision == "float64":
        if d.rounding != "nearest":
            raise wrong("rounding", d.rounding, "nearest, the only one with {precision=float64}")
        for name in ("accumulator", "unit_accumulator"):
            if getattr(d, name) == "wide":
                raise wrong(name, "wide", "plain, kahan or exact with {precision=float64}")


def _plain(f, value):
    """A field's value as its declared type; numbers may arrive as NumPy's or as text."""
    kind = f.type if isinstance(f.type, type) else {"str": str, "int": int, "float": float}[f.type]
    if f.name == "hidden" and isinstance(value, tuple | list):
        value = ",".join(map(str, value))
    if f.name == "differ" and isinstance(value, set | frozenset | tuple | list):
        value = ",".join(sorted(value)) or "none"
    if f.name == "eval_every" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if f.name == "fma" and isinstance(value, bool):
        value = "on" if value else "off"
    if kind is str:
        if not isinstance(value, str):
            raise wrong(f.name, value, "text")
        return value
    right = "a whole number" if kind is int else "a finite number"
    try:
        if isinstance(value, str):
            return whole_number(value) if kind is int else real_number(value)
        if isinstance(value, bool) or (kind is int and not hasattr(value, "__index__")):
            raise TypeError
        number = int(value.__index__()) if kind is int else float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong(f.name, value, right) from None
    if kind is float and not math.isfinite(number):
        raise wrong(f.name, value, "a finite number")
    return number


def _check_choices(c: Config) -> None:
    one_of = {
        "model": MODELS,
        "act": ACTIVATIONS,
        "data": WORLDS,
        "optimizer": OPTIMIZERS,
        "epsilon_place": EPSILON_PLACES,
        "init": INITS,
    }
    for name, allowed in one_of.items():
        if getattr(c, name) not in allowed:
            raise wrong(name, getattr(c, name), " or ".join(allowed))
    for part in c.fma.split(","):
        if part not in ("on", "off"):
            raise wrong("fma", c.fma, "on or off")


def _check_numbers(c: Config) -> None:
    in_range = {
        "log2_examples": (0, 40),
        "log2_window": (0, 40),
        "log2_eval": (0, 24),
        "first_example": (0, 2**48),
        "pairs": (1, 65536),
        "batch": (1, 65536),
        "seed": (0, 2**64 - 1),
        "beta": (1e-6, 1e6),
        "lr": (1e-12, 1e12),
        "initial_accumulator": (1e-12, 1e12),
        "epsilon": (0.0, 1.0),
        "decay": (0.0, 1e6),
    }
    for name, (low, high) in in_range.items():
        if not low <= getattr(c, name) <= high:
            raise wrong(name, getattr(c, name), f"a number from {low} to {high}")
    if not 0 <= c.momentum < 1:
        raise wrong("momentum", c.momentum, "a number from 0 to below 1")


def check_sequence(c: Config) -> None:
    """Raise ConfigError unless mini-batches and windows divide the sequence of examples."""
    if c.examples % c.batch:
        raise wrong("batch", c.batch, f"a divisor of 2^{c.log2_examples} examples")
    if c.window > c.examples:
        longest = (c.examples // c.batch).bit_length() - 1
        raise wrong(
            "log2_window", c.log2_window, f"at most {longest}: a window fits in the sequence"
        )
    if c.examples % c.window:
        raise wrong("log2_window", c.log2_window, "a window that divides the sequence")
    if c.window > 2**31:
        raise wrong("log2_window", c.log2_window, "a window of at most 2^31 examples")
    if c.eval_every not in ("", "log") and c.steps > EVALUATIONS * int(c.eval_every):
        least = -(-c.steps // EVALUATIONS)
        raise wrong("eval_every", c.eval_every, f"{least} or more: {EVALUATIONS} evaluations")


def _check_lists(c: Config) -> None:
    roles = c.differ.split(",")
    if c.differ != "none" and (set(roles) - set(ROLES) or len(set(roles)) < len(roles)):
        raise wrong("differ", c.differ, "a list out of " + ",".join(ROLES) + ", or none")
    if c.hidden:
        if c.model != "tower":
            raise wrong(
                "hidden", c.hidden, f"no widths with {{model={c.model}}}, or {{model=tower}}"
            )
        widths = c.hidden.split(",")
        ok = (w.isascii() and w.isdecimal() and len(w) < 9 and int(w) in WIDTH for w in widths)
        if not all(ok):
            raise wrong("hidden", c.hidden, "widths from 1 to 65536, as in 64,32")
    every = c.eval_every
    number = every.isascii() and every.isdecimal() and len(every) <= 15 and int(every) > 0
    if every and every != "log" and not number:
        raise wrong("eval_every", every, "a number of mini-batches above 0, or log")
    if c.warm_start and (len(c.warm_start) != 64 or set(c.warm_start) - set("0123456789abcdef")):
        raise wrong("warm_start", c.warm_start, "the 64 hex digits of a run's fingerprint")
    if c.warm_start and c.init != "glorot":
        raise wrong("init", c.init, "no other initial weights with a warm start")
