"""The golden fingerprints: what small runs gave, for every machine and execution to give again.

    python -m tests.golden                       check all rows of golden.json with numba
    python -m tests.golden --backend reference tower wide     check some rows
    python -m tests.golden --write               add the rows that are new
    python -m tests.golden --write tower         the same, of these rows alone

Rows that are there change only with the number of the contract (config.CONTRACT): `--write`
refuses otherwise.  Beside its fingerprint a row has digests of the streams, and of the parameters
after 0, 1, 2, 4, ... steps, from which a failure says what went first.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.backends.nudge import nudge_step, nudged
from nanorepro.config import CONTRACT, Config
from nanorepro.data import sampling, worlds
from nanorepro.data.given import Given
from nanorepro.numerics.plans import plan
from nanorepro.numerics.streams import stream_key, uniform
from nanorepro.specification import ModelSpec, spec_of
from nanorepro.training.examples import source_of, with_content
from nanorepro.training.sequences import sequence_of, shuffle_windows
from nanorepro.training.simulation import evaluation_set, initial_parameters, load_backend, simulate

PATH = Path(__file__).with_name("golden.json")
SMALL: dict[str, Any] = {"log2_examples": 9, "log2_eval": 6, "pairs": 1, "batch": 16}
SHORT = {**SMALL, "log2_examples": 7}  # for what the reference does slowly
NIBBLES = 300  # so many parameters at most have a digit each in the table
Row = dict[str, Any]


def net(**options: Any) -> dict[str, Any]:
    """A small tower with all kinds of layers."""
    return {**SMALL, "hidden": "6,3", **options}


def low(**options: Any) -> dict[str, Any]:
    """The smallest tower, half the time to compile."""
    return {**SMALL, "hidden": "5", **options}


def given(kind: str, **options: Any) -> dict[str, Any]:
    """A small tower on examples of the caller's, of a kind; see `examples_of`."""
    return {"given": kind, "epochs": 4, "pairs": 1, "batch": 16, "hidden": "5", **options}


class Cases(dict[str, dict[str, Any]]):
    """Options by the names of their rows; a name stands for one row."""

    def __setitem__(self, name: str, options: dict[str, Any]) -> None:
        if name in self:
            raise ValueError(f"two golden rows of the name {name}")
        super().__setitem__(name, options)


def cases() -> dict[str, dict[str, Any]]:
    """The options of every row, by its name."""
    found = Cases()
    for name, options in (
        ("linear", {**SMALL, "model": "linear", "pairs": 2}),
        ("linear-sgd", {**SMALL, "model": "linear", "optimizer": "sgd", "data": "quadratic"}),
        ("single", {**SMALL, "model": "single", "act": "smelu"}),
        ("double", {**SMALL, "model": "double", "act": "swish", "seed": 2**64 - 1}),
        ("tower", {**SMALL, "model": "tower", "pairs": 2, "batch": 32}),
        ("tower-init", {**SMALL, "model": "tower", "differ": "init,shuffle", "log2_window": 3}),
        ("wide-model", {**SHORT, "model": "wide", "differ": "init"}),
        (
            "wide-sgd",
            {**SHORT, "model": "wide", "optimizer": "sgd", "lr": 0.01, "tree": "pairwise"},
        ),
        ("wide-smelu", {**SHORT, "model": "wide", "act": "smelu", "batch": 32}),
        ("wide-swish", {**SHORT, "model": "wide", "act": "swish", "optimizer": "adam"}),
        ("deep", {**SHORT, "hidden": "70,40", "data": "quadratic"}),
        ("batch-1", net(batch=1, log2_examples=6)),
        ("batch-3-words", {**SMALL, "hidden": "17,9,5", "batch": 4, "act": "swish"}),
        ("later", net(first_example=2**40, seed=7)),
    ):
        found[name] = options
    for act, beta in (("identity", 1.0), ("smelu", 0.5), ("smelu", 2.0), ("swish", 1.5)):
        found[f"{act}-{beta:g}"] = net(act=act, beta=beta)
        found[f"{act}-{beta:g}-sgd"] = net(act=act, beta=beta, optimizer="sgd", lr=0.05)
    for place in ("inside", "none"):
        found[f"adagrad-{place}"] = net(epsilon_place=place, epsilon=1e-3, initial_accumulator=0.5)
    found["adam"] = net(optimizer="adam", lr=0.01, act="swish")
    for name, options in (
        ("fast-decay", {"beta1": 0.5, "beta2": 0.75, "epsilon": 1e-3}),
        ("float64", {"precision": "float64"}),
        ("bits:8", {"precision": "bits:8", "rounding": "stochastic", "differ": "rounding"}),
        ("no-fma", {"fma": "off", "tree": "lanes:3"}),
    ):
        found[f"adam-{name}"] = low(optimizer="adam", **options)
    found["sgd-plain"] = low(optimizer="sgd", momentum=0.0, decay=0.0, lr=1.0)
    for init in ("zero", "uniform"):
        found[f"init-{init}"] = net(init=init, differ="shuffle,nudge", act="swish")
    for differ in ("none", "init", "nudge", "order", "init,shuffle,nudge"):
        order = "random" if differ == "order" else "given"
        found[f"differ-{differ}"] = net(differ=differ, leaf_order=order, log2_window=2)
    found["nudge-later"] = net(differ="nudge", nudge_at=11, nudge_ulps=1000, nudge_weights=9)
    for tree in ("pairwise", "lanes:8", "lanes:5", "blocks:4", "blocks:7", "random"):
        found[f"tree-{tree}"] = low(tree=tree, leaf_order="reversed", differ="order")
        found[f"unit-{tree}"] = net(unit_tree=tree, unit_order="random", differ="order")
    found["leaf-random"] = low(leaf_order="random", tree="lanes:3", differ="order,shuffle")
    found["unit-reversed"] = low(unit_order="reversed", optimizer="sgd")
    found["two-trees"] = low(tree="chain,pairwise", differ="none")
    found["two-precisions"] = low(precision="float32,float64", differ="none")
    for accumulator in ("kahan", "wide"):
        found[accumulator] = net(
            accumulator=accumulator, unit_accumulator=accumulator, tree="lanes:4", act="swish"
        )
        found[f"{accumulator}-no-fma"] = low(accumulator=accumulator, fma="off")
    found["no-fma"] = low(fma="off", act="smelu", optimizer="sgd")
    for precision in (
        "float64",
        "bits:2",
        "bits:5",
        "bits:8",
        "bits:11",
        "bits:20",
        "bits:23",
        "bits:24",
    ):
        found[precision] = low(precision=precision, act="swish")
    found["float64-dials"] = {
        **SHORT,
        "hidden": "6,3",
        "precision": "float64",
        "tree": "pairwise",
        "accumulator": "kahan",
        "optimizer": "sgd",
    }
    for precision in ("float32", "bits:8"):
        found[f"toward-zero-{precision}"] = low(rounding="toward-zero", precision=precision)
        found[f"stochastic-{precision}"] = low(
            rounding="stochastic", precision=precision, differ="rounding", act="swish"
        )
    found["stochastic-dials"] = net(
        rounding="stochastic", precision="bits:11", tree="lanes:3", accumulator="kahan",
        unit_accumulator="wide", optimizer="sgd", differ="rounding,shuffle", fma="off",
    )  # fmt: skip
    short = {**SHORT, "hidden": "5"}
    for precision in ("float32", "float64", "bits:8"):
        found[f"exact-{precision}"] = {
            **short,
            "accumulator": "exact",
            "unit_accumulator": "exact",
            "precision": precision,
            "leaf_order": "random",
            "differ": "order",
        }
    found["single-sums"] = net(
        tree="lanes:3", unit_tree="pairwise", unit_order="random", differ="order", act="swish",
        accumulator_at="0:forward=kahan+0:batch=wide+1:backward=wide+1:batch=exact"
        "+2:forward=exact+2:batch=kahan",
    )  # fmt: skip
    found["single-sums-exact"] = low(
        accumulator="exact", unit_accumulator="exact", leaf_order="random", differ="order",
        accumulator_at="1:batch=plain",
    )  # fmt: skip
    found["two-single-sums"] = low(differ="none", accumulator_at=",0:batch=kahan")
    for name, options in (
        ("given", given("binary", log2_window=1, first_example=7)),
        ("given-split", given("binary", pairs=2, pair_examples="split", batch=8)),
        ("real", given("real", hidden="6,3", log2_window=2)),
        ("real-linear", given("real", hidden="", model="linear", optimizer="sgd", lr=0.01)),
        ("real-wide", given("real", hidden="", model="wide", act="swish", differ="init")),
        ("real-adam-float64", given("real", precision="float64", optimizer="adam", lr=0.01)),
        ("real-trees", given("real", tree="pairwise", unit_tree="lanes:3", unit_order="random",
                             leaf_order="reversed", differ="order")),
        ("real-accumulators", given("real", accumulator="kahan", unit_accumulator="wide",
                                    fma="off", act="smelu")),
        ("real-exact", given("real", accumulator="exact", unit_accumulator="exact", epochs=2)),
        ("real-bits:8", given("real", precision="bits:8", rounding="stochastic",
                              differ="rounding", epochs=2)),
    ):  # fmt: skip
        found[name] = options
    found["exact-no-fma"] = {**short, "accumulator": "exact", "fma": "off", "optimizer": "sgd"}
    found["exact-toward-zero"] = {**short, "accumulator": "exact", "rounding": "toward-zero"}
    return found


def examples_of(kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """80 and 24 examples of 6 features, drawn by the streams: `binary`, or `real` in [-4, 4)."""
    n, d = 104, 6
    u = uniform(stream_key(6, "bootstrap"), n * (d + 1)).reshape(n, d + 1)
    x = np.round((u[:, :d] - 0.5) * 2.0**23) * 2.0**-20  # all exact in float32
    x[np.abs(x) < 0.25] = 0.0
    y = (x[:, 0] - x[:, 1] + 4.0 * (u[:, d] - 0.5) > 0.0).astype(np.uint8)
    x = x if kind == "real" else (x > 0.0).astype(np.float64)
    return x[:80], y[:80], x[80:], y[80:]


def run_of(options: dict[str, Any]) -> tuple[Config, Given | None]:
    """The configuration of a row, and the examples of the caller's if it has such."""
    plain = {name: value for name, value in options.items() if name != "given"}
    data = examples_of(options["given"]) if "given" in options else None
    return with_content(Config(**plain), data)


def data_of(options: dict[str, Any]) -> Any:
    """The argument `data` of `simulate`."""
    return examples_of(options["given"]) if "given" in options else None


def digest(*values: np.ndarray) -> str:
    """Eight hex digits of the SHA-256 of arrays, little-endian, all NaN as one."""
    found = hashlib.sha256()
    for value in values:
        value = np.asarray(value)
        if value.dtype.kind == "f":
            value = np.where(np.isnan(value), np.array(np.nan, value.dtype), value)
        found.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:8]


def patterns(value: np.ndarray) -> np.ndarray:
    """The bits of floats, all NaN as one, flat."""
    plain = np.where(np.isnan(value), np.array(np.nan, value.dtype), value)
    return plain.reshape(-1).view(f"u{value.dtype.itemsize}")


def nibbles(value: np.ndarray) -> str:
    """One hex digit for each number."""
    mixed = patterns(value).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return "".join("0123456789abcdef"[k] for k in (mixed >> np.uint64(60)).tolist())


def streams(config: Config, backend: str, examples: Given | None = None) -> dict[str, str]:
    """Digests of what is drawn for pair 0, and what is drawn with it."""
    engine = load_backend(backend)
    if examples is not None:
        seen = [Training(config, model, backend, examples) for model in (0, 1)]
        return {f"examples, model {k}": digest(one.x, one.y) for k, one in enumerate(seen)}
    world = worlds.make_world(config.seed, config.data)
    evaluation = evaluation_set(config, world)
    key = stream_key(config.seed, "examples", 0)
    x, y = engine.examples(world, key, config.first_example, config.examples)
    found = {
        "theta": digest(world.theta, world.log_odds, world.odds),
        "alias table": digest(world.accept, world.alias),
        "evaluation": digest(evaluation.x, evaluation.counts, evaluation.log_odds),
        "examples": digest(x, y),
    }
    for model in (0, 1):
        spec = ModelSpec(config, sampling.FEATURES, 0, model)
        d = spec.dials
        count = config.examples // config.window
        order = np.arange(config.examples, dtype=np.uint64)
        engine.shuffle(order.reshape(count, config.window), spec.key("shuffle"), 0)
        found[f"shuffle, model {model}"] = digest(np.asarray(order, np.int64))
        both = [("order", d.tree, d.leaf_order), ("units", d.unit_tree, d.unit_order)]
        for stream, tree, leaf_order in both:
            plans = [
                plan(tree, leaf_order, config.batch, spec.key("order", stream), step)
                for step in (0, 1, 5)
            ]
            found[f"{stream}, model {model}"] = digest(*plans)
    return found


def marks(config: Config) -> list[int]:
    """The steps after which a row has the parameters' digests."""
    some = [0] + [1 << k for k in range(config.steps.bit_length())]
    return [s for s in some if s < config.steps] + [config.steps]


class Training:
    """A model of pair 0 in training by itself, step by step."""

    def __init__(self, config: Config, model: int, backend: str, examples: Given | None = None):
        engine = load_backend(backend)
        self.config, self.at = config, 0
        spec = self.spec = spec_of(config, 0, model)
        sequence = sequence_of(config, 0, source_of(config, examples, engine), engine)
        joined = np.empty(config.examples, np.uint64)
        sequence.draw(0, joined)
        shuffle_windows(engine, config, spec.key("shuffle"), 0, joined)
        self.x, self.y = sequence.room(len(joined))
        sequence.split(joined, self.x, self.y)
        self.model = engine.Model(spec, initial_parameters(config, 0, model))

    def until(self, step: int) -> dict[str, np.ndarray]:
        """The parameters after that many steps."""
        nudge = nudge_step(self.spec)
        if nudge and self.at <= nudge < step:
            self._train_until(nudge)
            self.model.set_parameters(nudged(self.spec, self.model.parameters()))
        self._train_until(step)
        return self.model.parameters()

    def _train_until(self, step: int) -> None:
        low, high = self.at * self.config.batch, step * self.config.batch
        if high > low:
            self.model.train(self.x[low:high], self.y[low:high])
        self.at = step


def row(name: str, backend: str) -> Row:
    """What a case gives."""
    config, examples = run_of(cases()[name])
    result = simulate(config, backend=backend, threads=1, data=data_of(cases()[name]))
    steps: dict[str, list[str]] = {str(step): [] for step in marks(config)}
    for model in (0, 1):
        training = Training(config, model, backend, examples)
        for step in marks(config):
            w = training.until(step)
            small = sum(v.size for v in w.values()) <= NIBBLES
            text = ",".join(digest(v) + (":" + nibbles(v) if small else "") for v in w.values())
            steps[str(step)].append(text)
    return {
        "options": cases()[name],
        "fingerprint": result.fingerprint,
        "logits": digest(result.logits),
        "streams": streams(config, backend, examples),
        "steps": steps,
    }


def check(name: str, backend: str, golden: Row, threads: int = 1) -> str:
    """What is wrong with a case: nothing, or what went first."""
    config, examples = run_of(golden["options"])
    result = simulate(config, backend=backend, threads=threads, data=data_of(golden["options"]))
    wrong = []
    if result.fingerprint != golden["fingerprint"]:
        wrong.append(f"fingerprint {result.fingerprint[:16]}, not {golden['fingerprint'][:16]}")
    if digest(result.logits) != golden["logits"]:
        wrong.append("other evaluation logits")
    if not wrong:
        return ""
    first = first_difference(config, backend, golden, examples)
    return f"{name}, {backend}, {threads} threads: {', '.join(wrong)}; {first}"


def first_difference(config: Config, backend: str, golden: Row, examples: Given | None) -> str:
    """Which stream, or which step and weight, differs from the golden row first."""
    for stream, value in streams(config, backend, examples).items():
        if value != golden["streams"][stream]:
            return f"first went the stream: {stream}"
    equal = 0
    training = [Training(config, model, backend, examples) for model in (0, 1)]
    for step in marks(config):
        for model in (0, 1):
            w = training[model].until(step)
            for (tensor, v), text in zip(
                w.items(), golden["steps"][str(step)][model].split(","), strict=True
            ):
                was, _, digits = text.partition(":")
                if digest(v) == was:
                    continue
                at = [
                    k
                    for k, (a, b) in enumerate(zip(nibbles(v), digits, strict=bool(digits)))
                    if a != b
                ]
                where = f"{tensor}{index(v, at[0])}" if at else tensor
                known = f"equal after step {equal}, " if step else ""
                return (
                    f"first went pair 0, model {model}: {known}not after step {step}, {where}"
                    f"{against_reference(config, model, backend, step, examples)}"
                )
        equal = step
    return "the parameters of pair 0 are equal: another pair, the evaluation or the threads"


def index(v: np.ndarray, flat: int) -> str:
    """The index of an element in the flat array, as [row, column]."""
    return str([int(k) for k in np.unravel_index(flat, v.shape)])


def against_reference(
    config: Config, model: int, backend: str, last: int, examples: Given | None
) -> str:
    """The first step and weight in which an execution leaves the reference."""
    if backend == "reference":
        return ""
    ours, theirs = (Training(config, model, b, examples) for b in (backend, "reference"))
    for step in range(last + 1):
        a, b = ours.until(step), theirs.until(step)
        for tensor in a:
            pa, pb = patterns(a[tensor]), patterns(b[tensor])
            if not np.array_equal(pa, pb):
                k = int(np.flatnonzero(pa != pb)[0])
                return (
                    f"; it leaves the reference in step {step}, {tensor}{index(a[tensor], k)}: "
                    f"{int(pa[k]):#x}, reference {int(pb[k]):#x}"
                )
    return "; the reference has left the golden row as well"


def read() -> dict[str, Any]:
    """The table of golden rows."""
    if not PATH.exists():
        return {"contract": CONTRACT, "rows": {}}
    return json.loads(PATH.read_text())


def write(names: Sequence[str] = ()) -> int:
    """Add new rows, or replace all after a change of the contract; the exit status.

    With `names` only rows of these names are checked and added.
    """
    table = read()
    rows = table["rows"] if table["contract"] == CONTRACT else {}
    for name, options in cases().items():
        if name in rows and rows[name]["options"] != options:
            print(f"golden: {name} has other options; a new row needs a name of its own",
                  file=sys.stderr)  # fmt: skip
            return 1
    if gone := set(rows) - set(cases()):
        print(f"golden: {', '.join(sorted(gone))}: rows are dropped with a new contract only",
              file=sys.stderr)  # fmt: skip
        return 1
    asked = [name for name in cases() if name in names or not names]
    for name in asked:
        if name in rows and (wrong := check(name, "numba", rows[name])):
            print(f"golden: {wrong}\ngolden: the contract is still {CONTRACT}; nothing written",
                  file=sys.stderr)  # fmt: skip
            return 1
    for name in asked:
        if name in rows:
            continue
        rows[name] = row(name, "numba")
        if wrong := check(name, "reference", rows[name]):
            del rows[name]
            print(f"golden: {wrong}; no such row written", file=sys.stderr)
            return 1
        print(f"golden: {name} {rows[name]['fingerprint'][:16]}", flush=True)
        save(rows)
    save(rows)
    return 0


def save(rows: dict[str, Row]) -> None:
    """Write the table, a line a row, in the order of the cases."""
    lines = [f" {json.dumps(name)}: {json.dumps(rows[name])}" for name in cases() if name in rows]
    text = ",\n".join(lines)
    PATH.write_text(f'{{"contract": {CONTRACT}, "rows": {{\n{text}\n}}}}\n')


def main() -> int:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m tests.golden", description=__doc__, formatter_class=layout
    )
    parser.add_argument("names", nargs="*", help="rows (default: all)")
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="add the rows that are new")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(cases())):
        parser.error(f"no golden row is called {', '.join(unknown)}")
    if given.write:
        return write(given.names)
    rows, bad = read()["rows"], 0
    for name in given.names or rows:
        wrong = check(name, given.backend, rows[name], given.threads)
        bad += bool(wrong)
        print(wrong or f"{name}: {rows[name]['fingerprint'][:16]}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
