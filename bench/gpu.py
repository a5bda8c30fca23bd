"""Everything that a machine with a GPU is asked, in the order of importance, in so many minutes.

    python -m bench.gpu --minutes 8 --out gpu.json

First the golden fingerprints, which have to be the CPU's; then the time of a step of towers, small,
wide and deep models (after a short `fit` of deep ones, to numba's bits), many at once, beside JAX's
vmap on the same card where it is installed; then runs of figures 6, 8 and 10 at the paper's size,
as many as fit.  The file is written after every part: what is interrupted has lost nothing.  Only
what was measured is written.

    python -m bench.gpu --compile sm_90

needs no GPU: it compiles all programs of that before, so that none of the minutes go there.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from bench.cases import CONFIGS, MODELS, Case
from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.device import OLDEST, cache_folder, cached_binary, current
from nanorepro.backends.cuda.ensemble import Ensemble
from nanorepro.backends.cuda.examples import Drawn
from nanorepro.backends.cuda.program import program_of, streams
from nanorepro.backends.protocols import Group, Snapshot
from nanorepro.config import Config, canonical
from nanorepro.data.worlds import make_world
from nanorepro.dials import dials
from nanorepro.errors import ConfigError
from nanorepro.paper import curves
from nanorepro.paper.figures import FIGURES
from nanorepro.specification import ModelSpec, compile_key
from nanorepro.training.fitting import fit
from nanorepro.training.parameters import initial_parameters
from nanorepro.training.simulation import simulate
from nanorepro.training.threads import usable_cpus

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden.py"
FIRST = (
    "tower", "linear", "wide-model", "deep", "wide", "stochastic-bits:8", "exact-float32",
    "float64", "given", "real", "single-sums",
)  # fmt: skip
TOWERS = (32, 128, 384, 528, 1320, 4096)
OTHERS = {
    "linear": (384,), "double": (384,), "tower-sgd": (384,), "wide": (32, 132), "64,32": (528,),
    "deep": (32,),
}  # fmt: skip
EXAMPLES = {"deep": 1 << 11, "wide": 1 << 13, "64,32": 1 << 14}
TIMED = CONFIGS | {"64,32": Config(hidden="64,32", seed=1)}
# whose own kernels no golden row reaches; steps of their fit, which numba makes as well
COMPARED, STEPS = ("deep",), 3
REPEATS = 5
LEAST_SHARED = 99 << 10  # bytes of shared memory that a block can have on each of the GPUs
JUDGED = 3.0  # seconds of a run's training from which its pace is told


def reason(failed: Exception) -> str:
    """Why something failed, in a line."""
    return " ".join(f"{type(failed).__name__}: {failed}".split())[:200]


class Report:
    """What was found so far, written after every part."""

    def __init__(self, path: Path, minutes: float):
        self.path, self.end = path, time.monotonic() + 60 * minutes
        self.found: dict[str, Any] = {}
        self.failed: list[str] = []

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def add(self, part: str, name: str, value: Any) -> None:
        """Keep one finding, and say it."""
        self.found.setdefault(part, {})[name] = value
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        print(f"{part}: {name}: {json.dumps(value)}", flush=True)

    def carry_out(self, part: str, name: str, call: Callable[[], Any]) -> None:
        """Keep what a call gives, or why it failed: the others still have their time."""
        try:
            found = call()
        except Exception as failed:
            found = reason(failed)
            self.failed.append(f"{part}: {name}")
        self.add(part, name, found)


@cache
def golden() -> ModuleType:
    """tests/golden.py, which makes the runs of the golden table."""
    spec = importlib.util.spec_from_file_location("golden_table", GOLDEN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of the golden table, those first that show most."""
    rows = golden().read()["rows"]
    for name in (*FIRST, *(n for n in rows if n not in FIRST)):
        yield name, rows[name]


def same_fingerprint(row: dict[str, Any]) -> bool | str:
    """Whether a row's fingerprint comes out; else the one that does."""
    options = row["options"]
    config, data = golden().run_of(options)[0], golden().data_of(options)
    found = simulate(config, backend="cupy", data=data).fingerprint
    return found == row["fingerprint"] or found


def fingerprints(report: Report) -> None:
    """Whether the golden fingerprints come out."""
    for name, row in golden_rows():
        if report.left < 0:
            return
        report.carry_out("fingerprints", name, partial(same_fingerprint, row))


def same_fit(name: str) -> bool | str:
    """Whether a short `fit` of two models gives numba's bits; else what differs."""
    config, rng = replace(TIMED[name], pairs=2), np.random.default_rng(1)
    x = rng.integers(0, 2, (STEPS * config.batch, config.features))
    y = rng.integers(0, 2, len(x))
    starts = [initial_parameters(config, pair=pair) for pair in (0, 1)]
    ours, theirs = (fit(config, x, y, starts, backend=backend) for backend in ("cupy", "numba"))
    differ = [
        f"{tensor} of model {k}"
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True))
        for tensor in a
        if a[tensor].tobytes() != b[tensor].tobytes()
    ]
    return not differ or ", ".join(differ)


def seconds_of(call: Callable[[], object]) -> list[float]:
    """Seconds of some calls after a first one, which compiles."""
    call()
    found = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def ensemble_of(config: Config, models: int) -> tuple[Ensemble, Drawn]:
    """Models of so many pairs, and their examples."""
    device = current()
    config = replace(config, pairs=-(-models // 2))
    specs = [ModelSpec(config, 32, k // 2, k % 2) for k in range(models)]
    start = [initial_parameters(config)] * models
    world = make_world(config.seed, config.data)
    group = Group(specs, [Snapshot.before(w, 1) for w in start], world, np.zeros((1, 1), np.uint32))
    return Ensemble(device, specs, start), Drawn(device, group, specs)


def installed(package: str) -> bool:
    """Whether a package is there."""
    return importlib.util.find_spec(package) is not None


def step_time(name: str, models: int, examples: int) -> dict[str, float]:
    """The time of a step of all models, of their examples, and of an example and model."""
    config = replace(TIMED[name], log2_examples=examples.bit_length() - 1)
    ensemble, rows = ensemble_of(config, models)
    drawing = seconds_of(lambda: (rows.fill(0), current().synchronize()))
    steps = examples // config.batch

    def train() -> None:
        ensemble.train(*rows.piece(0, examples), steps)
        current().synchronize()

    training = seconds_of(train)
    best = min(training)
    return {
        "microseconds a step": 1e6 * best / steps,
        "slowest": 1e6 * max(training) / steps,
        "nanoseconds an example and model": 1e9 * best / (examples * models),
        "nanoseconds to draw and shuffle one": 1e9 * statistics.median(drawing) / examples / models,
    }


def jax_time(name: str, models: int, examples: int) -> dict[str, Any]:
    """The same by JAX: all steps in one scan, the models by vmap; its examples are all alike.

    Products in float32, and as JAX has them by default, which on a GPU may be in TF32.
    """
    # else it takes three quarters of the GPU's memory, which CuPy has need of
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import jax.numpy as jnp

    from bench.peers.jax_scan import logits, stepping

    case = Case(TIMED[name], examples)
    copies = -(-models // MODELS)
    stacked = {k: np.concatenate([v] * copies)[:models] for k, v in case.starts(0).items()}
    step = jax.vmap(stepping(case, logits), (0, None), 0)
    rates = jnp.full(case.steps, case.config.lr, jnp.float32)
    batches = (*(jnp.asarray(a) for a in case.arrays), rates)
    w = {k: jnp.asarray(v) for k, v in stacked.items()}
    state = (w, {k: jnp.full_like(v, case.state_start) for k, v in w.items()})
    found: dict[str, Any] = {"device": jax.devices()[0].device_kind}
    for precision in ("float32", None):
        with jax.default_matmul_precision(precision):
            scan = jax.jit(lambda state: jax.lax.scan(step, state, batches)[0])
            best = min(seconds_of(lambda scan=scan: jax.block_until_ready(scan(state))))
        found[precision or "by default"] = {
            "microseconds a step": 1e6 * best / case.steps,
            "nanoseconds an example and model": 1e9 * best / (examples * models),
        }
    return found


def steps(report: Report) -> None:
    """Steps of towers of many numbers, then of other models, each beside JAX if it is there."""
    has_jax, compared = installed("jax"), set[str]()
    jobs = [("tower", models) for models in TOWERS]
    jobs += [(name, models) for name, several in OTHERS.items() for models in several]
    for name, models in jobs:
        if report.left < 0:
            return
        if name in COMPARED and name not in compared:
            compared.add(name)
            report.carry_out("fingerprints", f"fit of {name}", partial(same_fit, name))
        examples, label = EXAMPLES.get(name, 1 << 16), f"{models} {name}"
        report.carry_out("steps", label, partial(step_time, name, models, examples))
        if has_jax and report.left > 0:
            try:
                report.add("steps, JAX", label, jax_time(name, models, examples))
            except Exception as failed:  # another's program: what it says is the finding
                report.add("steps, JAX", label, reason(failed))


class Pace:
    """What a run tells its progress; ends it with TimeoutError if it would outlast the time left.

    Told from the pace since its first report: what comes before it, such as compiling, is done
    once, and may take longer than what the first report is of.
    """

    def __init__(self, report: Report):
        self.report, self.done, self.begin = report, 0, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.begin:
            self.done, self.begin = done, now
        passed, left = now - self.begin, self.report.left
        rest = passed * (total - done) / max(done - self.done, 1)
        if done < total and (left < 0 or passed >= JUDGED and left < rest):
            raise TimeoutError(f"{done / total:.1%}, the pace of {passed:.1f} s")


def plotted(figure: int) -> list[str]:
    """The curves of a figure."""
    return [name for name, _ in FIGURES[figure].plotted]


def whole_run(report: Report, config: Config) -> dict[str, Any] | str:
    """What a run took and gave, or that it does not fit."""
    if report.left < 0:
        return "does not fit: no time is left"
    try:
        result = simulate(config, backend="cupy", progress=Pace(report))
    except TimeoutError as late:
        return f"does not fit: {late}"
    return {
        "seconds": result.seconds, "relative PD": result.relative_pd,
        "fingerprint": result.fingerprint, "config": json.loads(canonical(config)),
    }  # fmt: skip


def whole_runs() -> Iterator[tuple[int, str, Config]]:
    """Runs of figures 6, 8 and 10 at the paper's size, T = 2^26, the shortest window first."""
    size = curves.size(6, "paper")
    drawn = curves.curves(size)
    keys = [(f, n, w) for f in (6, 8, 10) for w in size.windows[:1] for n in plotted(f)]
    keys += [(6, n, w) for w in size.windows[1:] for n in plotted(6)]
    for figure, name, window in keys:
        if not drawn[name].source:
            yield figure, f"{name}, log2 z = {window}", drawn[name].at(window)


def figures(report: Report) -> None:
    """Whole runs of the paper's figures, as many as fit."""
    for figure, label, config in whole_runs():
        report.carry_out(f"figure {figure}", label, partial(whole_run, report, config))
        if report.left < 10:
            return


def asked() -> Iterator[Config]:
    """The configurations of all that is run, in that order."""
    for _, row in golden_rows():
        yield golden().run_of(row["options"])[0]
    yield from (TIMED[name] for name in ("tower", *OTHERS))
    yield from (config for _, _, config in whole_runs())


def programs() -> list[str]:
    """The text of every program that is compiled for what is asked, each once."""
    found = {streams(): None}
    for config in asked():
        for model in (0, 1):
            program = program_of(
                compile_key(config), dials(config, model), config.features, config.real
            )
            if program.small:
                found |= dict.fromkeys((program.small, program.forward))
            if not program.small or program.shared > LEAST_SHARED:
                found[program.layers] = None
    return list(found)


def compile_all(architecture: str) -> int:
    """Have all programs in the cache of compiled ones; the exit status."""
    texts, begin = programs(), time.monotonic()
    print(f"bench.gpu: {len(texts)} programs for sm_{architecture}", flush=True)
    with ProcessPoolExecutor(usable_cpus(), get_context("spawn")) as pool:
        jobs = [pool.submit(cached_binary, text, architecture) for text in texts]
        for done, job in enumerate(as_completed(jobs), 1):
            try:
                kept = job.result().parent == cache_folder()
            except nvrtc.CompileError as error:
                pool.shutdown(cancel_futures=True)
                return refuse(" ".join(str(error).split())[:200])
            if not kept:
                pool.shutdown(cancel_futures=True)
                return refuse(f"{cache_folder()} cannot be written")
            passed = time.monotonic() - begin
            print(f"bench.gpu: {done} of {len(texts)} compiled, {passed:.0f} s", flush=True)
    print(f"bench.gpu: all in {cache_folder()}", flush=True)
    return 0


def refuse(why: str) -> int:
    """Say why nothing can be done; the exit status."""
    print(f"bench.gpu: error: {why}", file=sys.stderr)
    return 2


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="(default: gpu.json)")
    parser.add_argument("--compile", metavar="ARCH", help="only compile all, for sm_90, say")
    given = parser.parse_args(argv)
    if given.compile is not None:
        found = re.fullmatch(r"(?:sm_)?(\d+)", given.compile)
        if not found or int(found[1]) < OLDEST:
            parser.error(f"--compile: {given.compile!r} is not allowed; give sm_{OLDEST} or later")
        try:
            nvrtc.library()
        except nvrtc.NoCompiler as error:
            return refuse(f"{error}; pip install nvidia-cuda-nvrtc")
        return compile_all(found[1])
    try:
        device = current()
    except ConfigError as error:
        return refuse(error.on_command_line())
    report = Report(given.out, given.minutes)
    report.add("device", "name", device.name)
    report.add("device", "architecture", device.architecture)
    report.add("device", "NVRTC", ".".join(map(str, nvrtc.version(device.cuda))))
    report.add("device", "free bytes", device.free())
    report.add("models", "configurations", {k: asdict(v) for k, v in TIMED.items()})
    fingerprints(report)
    steps(report)
    figures(report)
    return verdict(report)


def verdict(report: Report) -> int:
    """Say what was checked and what is wrong; the exit status, 1 also if nothing was checked."""
    found = report.found.get("fingerprints", {})
    checked = [name for name in found if f"fingerprints: {name}" not in report.failed]
    wrong = [name for name in checked if found[name] is not True]
    print(
        f"bench.gpu: {len(checked)} fingerprints checked, {len(wrong)} fingerprints differ {wrong};"
        f" {len(report.failed)} rows failed {report.failed}; all in {report.path}",
        flush=True,
    )
    return 1 if wrong or report.failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
