"""Size and power of the rank test of `nanorepro.compare`, on models that nanorepro trains.

    python -m bench.compare_power            the table of docs/compare.md

Models of one pair that differ in the order of every sum over the mini-batch, drawn afresh in each
step, are replicates: rounding is all that tells them apart.  A model with a planted fault is
trained likewise, with an order of its own.  Counted is how often it is called beyond rounding at
5 %; with 5 replicates, where no p is that small, at the smallest p there is, 1/7.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from nanorepro.analysis.rounding_test import LEVEL, gram, rounding_test
from nanorepro.backends import load_backend
from nanorepro.backends.protocols import Backend
from nanorepro.commands.common import carry_out, whole
from nanorepro.commands.parser import Parser
from nanorepro.config import Config
from nanorepro.data import worlds
from nanorepro.data.sampling import FEATURES
from nanorepro.data.tensors.arrays import tensors_of
from nanorepro.model.layers import Parameters
from nanorepro.specification import ModelSpec
from nanorepro.training.example_stream import ExampleStream
from nanorepro.training.parameters import initial_parameters


@dataclass(frozen=True)
class Fault:
    """What is wrong with a model: fields of its configuration, or a bias that is not updated."""

    name: str
    changes: dict[str, object]
    dropped: str = ""


ADAGRAD = (
    Fault("none", {}),
    Fault("learning rate 1 % too high", {"lr": 0.101}),
    Fault("updates of one bias dropped", {}, dropped="b1"),
    Fault("epsilon 1e-10 in place of 1e-7", {"epsilon": 1e-10}),
)
ADAM = (
    Fault("none", {}),
    Fault("learning rate 1 % too high", {"lr": 0.00101}),
    Fault("updates of one bias dropped", {}, dropped="b1"),
    Fault("epsilon 1e-8 in place of 1e-7", {"epsilon": 1e-8}),
)


def examples(config: Config, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """All training examples of pair 0 in the order in which all models here see them."""
    world = worlds.make_world(config.seed, config.data, backend.exp)
    stream = ExampleStream(config, 0, world, backend)
    joined = np.empty(config.examples, np.uint64)
    for k in range(stream.count):
        chunk = joined[k * stream.size : k * stream.size + stream.length(k)]
        chunk[:] = stream.take(0, k, chunk)
    windows = joined.reshape(-1, config.window)
    backend.shuffle(windows, ModelSpec(config, FEATURES, 0, 0).key("shuffle"), 0)
    x, y = np.empty(len(joined), np.uint32), np.empty(len(joined), np.uint8)
    backend.split(joined, x, y)
    return x[:, None], y


def train(
    config: Config, fault: Fault, number: int, x: np.ndarray, y: np.ndarray, backend: Backend
) -> Parameters:
    """One model; `number` draws the orders of its sums."""
    changed = replace(config, **fault.changes)  # type: ignore[arg-type]
    spec = ModelSpec(changed, FEATURES, 0, number)
    start = initial_parameters(config, 0, 0)
    model = backend.Model(spec, start)
    if not fault.dropped:
        model.train(x, y)
        return model.parameters()
    for k in range(0, len(y), config.batch):
        model.train(x[k : k + config.batch], y[k : k + config.batch])
        now = model.parameters()
        now[fault.dropped] = start[fault.dropped]
        model.set_parameters(now)  # type: ignore[attr-defined]
    return model.parameters()


def pool(
    config: Config, faults: Sequence[Fault], replicates: int, faulty: int, first: int = 0
) -> dict[str, list[Parameters]]:
    """Models without a fault, and `faulty` models with each fault."""
    backend = load_backend("numba")
    x, y = examples(config, backend)
    found, at = {}, first
    for fault in faults:
        count = faulty if fault.changes or fault.dropped else replicates
        found[fault.name] = [train(config, fault, at + k, x, y, backend) for k in range(count)]
        at += count
    return found


SIZES = (5, 20, 80)  # replicates
MODELS = {"tower, swish": {"act": "swish"}, "tower, ReLU": {"act": "relu"}}
OPTIMIZERS = {
    "AdaGrad": ({"optimizer": "adagrad", "lr": 0.1}, ADAGRAD),
    "Adam": ({"optimizer": "adam", "lr": 0.001}, ADAM),
}


@dataclass(frozen=True)
class Cell:
    """How often the test called a fault beyond rounding, of how many trials."""

    model: str
    fault: str
    replicates: int
    level: float
    found: int
    trials: int

    @property
    def share(self) -> float:
        return self.found / self.trials


def p_of(models: Sequence[Parameters]) -> float:
    """The p-value of the last of these models."""
    files = [tensors_of(model, "model").tensors for model in models]
    same = [[file[name] for file in files] for name in files[0]]
    return rounding_test([gram(same)], [""]).p


def trials(
    good: Sequence[Parameters], faulty: Sequence[Parameters], n: int, count: int, draw: Generator
) -> list[float]:
    """p-values of models, each against a draw of A and n replicates; of good ones without."""
    found = []
    for k in range(count):
        picked = draw.permutation(len(good))[: n + 2]
        last = faulty[k % len(faulty)] if faulty else good[picked[-1]]
        found.append(p_of([*(good[i] for i in picked[:-1]), last]))
    return found


def table(pairs: int, faulty: int, size_trials: int, log2_examples: int) -> list[Cell]:
    """Size and power over some pairs, each a world of its own."""
    cells = []
    for model, act in MODELS.items():
        for optimizer, (settings, faults) in OPTIMIZERS.items():
            pools = []
            for seed in range(pairs):
                config = Config(
                    log2_examples=log2_examples, differ="order", leaf_order="random", pairs=1,
                    seed=seed, **act, **settings,  # type: ignore[arg-type]
                )  # fmt: skip
                pools.append(pool(config, faults, max(SIZES) + 22, faulty))
            for fault in faults:
                planted = bool(fault.changes or fault.dropped)
                for n in SIZES:
                    draw, p = np.random.default_rng(n), []
                    for models in pools:
                        bad = models[fault.name] if planted else []
                        count = faulty if planted else size_trials // pairs
                        p += trials(models["none"], bad, n, count, draw)
                    level = LEVEL if 1.0 / (n + 2) <= LEVEL else 1.0 / (n + 2)
                    hits = sum(one <= level for one in p)
                    name = f"{model}, {optimizer}"
                    cells.append(Cell(name, fault.name, n, level, hits, len(p)))
            print(f"{model}, {optimizer}", file=sys.stderr, flush=True)
    return cells


def as_markdown(cells: Sequence[Cell]) -> str:
    """A row for each model and fault, a column for each number of replicates."""
    heads = [f"{n} replicates" for n in SIZES]
    lines = [f"| model | fault | {' | '.join(heads)} |", "|---|---|" + "---|" * len(SIZES)]
    for model, fault in dict.fromkeys((c.model, c.fault) for c in cells):
        row = [c for c in cells if (c.model, c.fault) == (model, fault)]
        shares = " | ".join(f"{c.share:.3f} ({c.trials})" for c in row)
        lines.append(f"| {model} | {fault} | {shares} |")
    return "\n".join(lines)


def parser() -> Parser:
    """The command line."""
    found = Parser(prog="bench.compare_power", description=__doc__)
    add = found.add_argument
    add("--pairs", default="5", metavar="N", help="pairs, each of a seed of its own (default: 5)")
    add("--faulty", default="20", metavar="N", help="models with each fault a pair (default: 20)")
    add("--size", default="1000", metavar="N", help="trials of sound models (default: 1000)")
    add("--log2-examples", default="14", metavar="N", help="log2 of T (default: 14)")
    return found


def run(argv: Sequence[str]) -> int:
    """Print the table."""
    o, _ = parser().read(argv)
    cells = table(
        whole("--pairs", o.pairs, 1, 1000), whole("--faulty", o.faulty, 1, 1000),
        whole("--size", o.size, 1, 10**6), whole("--log2-examples", o.log2_examples, 5, 24),
    )  # fmt: skip
    print(as_markdown(cells))
    return 0


if __name__ == "__main__":
    sys.exit(carry_out("bench.compare_power", lambda words, console: run(words)))
