"""python -m nanorepro.figure: run what a figure of the paper needs, draw it, compare.

Nothing that is slow to import is imported before the command line has been checked.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from nanorepro.config import Config, ConfigError, check_sequence, command
from nanorepro.progress import Progress, clock
from nanorepro.run import check_folder, check_threads, ends_at_once, fail

if TYPE_CHECKING:
    from nanorepro import claims, paper
    from nanorepro.simulation import Result

NAME = "nanorepro.figure"
FIGURES = [str(k) for k in range(1, 11)]
SCALES = ("paper", "laptop", "smoke")
WITH_PARAMETERS = (3, 4, 7, 9)  # figures of which the parameters are plotted or measured
COST = {"linear": 10, "single": 15, "double": 20, "tower": 70, "wide": 600, "deep": 60000}


class Parser(argparse.ArgumentParser):
    """Every error is one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def parser() -> Parser:
    found = Parser(
        prog=NAME,
        usage="python -m nanorepro.figure {1..10,all} [option ...]",
        description="Run what a figure of the paper needs, draw it in the paper's arrangement, and"
        " print what the paper claims beside what was measured.  Finished runs are stored and"
        " reused: a second call only draws, an interrupted one goes on where it was.",
        epilog="Example: python -m nanorepro.figure 6 --scale laptop",
        allow_abbrev=False,
    )
    add = found.add_argument
    add("figure", metavar="{1..10,all}", help="figure of the paper, or all of them")
    add(
        "--scale",
        default="laptop",
        metavar="{" + ",".join(SCALES) + "}",
        help="sizes: the paper's, an evening's, or a few seconds' (default: laptop)",
    )
    add("--log2-examples", metavar="N", help="log2 of T instead of the scale's")
    add("--pairs", metavar="N", help="pairs of models instead of the scale's")
    add("--windows", metavar="LIST", help="log2 of the windows z, as in 0,10,20")
    add("--seed", default="0", metavar="N", help="seed of all streams (default: 0)")
    add(
        "--minutes",
        metavar="X",
        help="start no run that would end later; the shortest and longest windows come first",
    )
    add(
        "--plan",
        action="store_true",
        help="print what would run, how long and on how much disk; run nothing",
    )
    add(
        "--out",
        default="runs",
        metavar="FOLDER",
        help="folder of the stored runs and the pictures (default: runs)",
    )
    add(
        "--report",
        metavar="FILE",
        help="a page .md of all figures drawn for it; pictures go to the folder of its name",
    )
    add("--threads", default="all", metavar="N", help="threads (default: all cores)")
    add("--model", metavar="MODEL", help="figures 1 and 5: draw this model instead")
    add("--hidden", metavar="LIST", help="figures 1 and 5: its hidden layers, as in 64,32")
    add("--act", metavar="ACT", help="figures 1 and 5: its activation (default: relu)")
    return found  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What the command line asks for, checked."""

    sizes: "dict[int, paper.Size]"  # by figure
    scale: str
    words: str  # the options that change what is drawn
    models: tuple[Config, ...]  # for figures 1 and 5, in place of the paper's
    folder: Path
    report: Path | None
    threads: int
    minutes: float
    plan: bool

    def command(self, figure: int) -> str:
        """The command that makes a figure again."""
        return f"python -m {NAME} {figure}{self.words}"


def job(argv: Sequence[str]) -> Job:
    """Check everything that can be checked before anything runs; raises ConfigError."""
    o = parser().parse_args(argv)
    if o.figure not in (*FIGURES, "all"):
        raise ConfigError(f"figure: {o.figure!r} is not allowed; give 1 to 10, or all")
    if o.scale not in SCALES:
        raise ConfigError(f"--scale: {o.scale!r} is not allowed; give {' or '.join(SCALES)}")
    figures = [int(f) for f in FIGURES] if o.figure == "all" else [int(o.figure)]
    examples = whole("--log2-examples", o.log2_examples)
    pairs, seed = whole("--pairs", o.pairs), whole("--seed", o.seed)
    windows = None
    if o.windows is not None:
        windows = [whole("--windows", w) for w in o.windows.split(",")]
    threads = check_threads(o.threads) or os.cpu_count() or 1
    models = drawn_models(o, figures)
    report = None
    if o.report is not None:
        report = Path(o.report)
        if report.suffix != ".md":
            raise ConfigError(f"--report: {o.report!r} is not allowed; give a file name .md")
        try:
            check_folder(str(report.parent))
        except ConfigError as error:
            raise ConfigError(str(error).replace("--out", "--report", 1)) from None
    folder = check_folder(o.out)
    minutes = positive("--minutes", o.minutes)
    from nanorepro import paper

    sizes = {f: paper.size(f, o.scale, examples, pairs, windows, seed or 0) for f in figures}
    for size in sizes.values():
        for curve in paper.curves(size).values():
            for window in size.windows:
                check_sequence(curve.at(window, 64 * "0"))
    words = "" if o.scale == "laptop" else f" --scale {o.scale}"
    for name in ("log2_examples", "pairs", "windows", "model", "hidden", "act"):
        if (value := getattr(o, name)) is not None:
            words += f" --{name.replace('_', '-')} {shlex.quote(value)}"
    words += f" --seed {seed}" if seed else ""
    return Job(sizes, o.scale, words, models, folder, report, threads, minutes, o.plan)


def whole(name: str, text: str | None) -> Any:
    """A whole number, or None where none was given; raises ConfigError."""
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        raise ConfigError(f"{name}: {text!r} is not allowed; give whole numbers")
    return int(text)


def positive(name: str, text: str | None) -> float:
    """A number above 0, infinity where none was given; raises ConfigError."""
    if text is None:
        return math.inf
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0.0:
        raise ConfigError(f"{name}: {text!r} is not allowed; give a number above 0")
    return value


def drawn_models(o: argparse.Namespace, figures: list[int]) -> tuple[Config, ...]:
    """The configured model of figures 1 and 5, if one is named."""
    given = [n for n in ("model", "hidden", "act") if getattr(o, n) is not None]
    if not given:
        return ()
    if set(figures) - {1, 5}:
        raise ConfigError(f"--{given[0]}: goes with figures 1 and 5 only; leave it out")
    fields = {n: getattr(o, n) for n in given}
    return (Config(**fields),)


def architectures(figure: int) -> tuple[Config, ...]:
    """The models that figures 1 and 5 of the paper show."""
    names = {1: ("linear", "single", "double"), 5: ("tower", "wide")}
    return tuple(Config(model=m) for m in names.get(figure, ()))


@dataclass
class Shelf:
    """Stored runs of one figure: found by configuration, read once."""

    folder: Path
    size: "paper.Size"
    parameters: bool  # whether they are kept in memory
    read: "dict[str, Result]" = field(default_factory=dict)

    def __post_init__(self):
        from nanorepro import paper

        self.curves = paper.curves(self.size)

    def config(self, key: tuple[str, int]) -> Config | None:
        """The configuration of a run, None where the run it starts from is not there."""
        curve = self.curves[key[0]]
        if not curve.source:
            return curve.at(key[1])
        source = self.find((curve.source, self.size.windows[0]))
        return curve.at(key[1], source.fingerprint) if source else None

    def find(self, key: tuple[str, int]) -> "Result | None":
        """The stored run, without its logits; raises ConfigError for a damaged file."""
        config = self.config(key)
        return self.load(config) if config else None

    def load(self, config: Config) -> "Result | None":
        if config.id not in self.read:
            path = self.folder / f"{config.id}.h5"
            if not path.exists():
                return None
            from nanorepro import store

            self.keep(store.load(path))
        return self.read[config.id]

    def keep(self, result: "Result") -> None:
        """Hold what is drawn and measured; of large models that is not the parameters."""
        parameters = result.parameters if self.parameters else []
        self.read[result.config.id] = replace(
            result, parameters=parameters, logits=result.logits[:, :, :, :0]
        )

    def start(self, key: tuple[str, int]) -> Any:
        """The parameters a run starts from, None for a run from initial values."""
        source = self.curves[key[0]].source
        if not source:
            return None
        from nanorepro import store

        config = self.config((source, self.size.windows[0]))
        assert config is not None
        return store.load(self.folder / f"{config.id}.h5").parameters

    def found(self, keys: Sequence[tuple[str, int]]) -> "dict[tuple[str, int], Result]":
        """Those of the runs that are there."""
        every = {key: self.find(key) for key in keys}
        return {key: result for key, result in every.items() if result is not None}


class Course(Progress):
    """The progress of many runs: runs and models done, examples a second, time left."""

    def __init__(self, stream: TextIO, name: str, costs: Sequence[int]):
        super().__init__(stream, "compiling (only the first time) ...", name)
        self.total = sum(costs)
        self.runs, self.number, self.models, self.examples = 0, len(costs), 0, 0
        self.now: tuple[int, int] = 0, 0  # examples of the run at work, and its models

    def of(self, config: Config, cost: int) -> Callable[[int, int], None]:
        """What reports the progress of the next run."""
        before, models = self.done, 2 * config.pairs

        def report(done: int, total: int) -> None:
            self.now = done, models * done // total
            self(before + cost * done // total, self.total)

        return report

    def end(self, config: Config, done: int) -> None:
        """A run is finished, or given up with nothing done."""
        self.runs += 1
        self.models += 2 * config.pairs
        self.examples += 2 * config.pairs * config.examples
        self.now, self.done = (0, 0), done

    def text(self) -> str:
        passed = time.perf_counter() - self.begin
        runs = f"{self.runs} of {self.number} runs"
        if self.first is None:
            return f"{runs}, {self.waiting} {clock(passed)}"
        models = self.models + self.now[1]
        rate = (self.examples + self.now[0]) / max(passed, 1e-9)
        line = f"{runs}, {models} models, {rate:,.0f} examples/s"
        if self.runs == self.number:
            return f"{line}, {clock(passed)}"
        begin, before = self.first
        share = f"{line}, {self.done / self.total:.0%}"
        if self.done == before:
            return share
        left = (time.perf_counter() - begin) * (self.total - self.done) / (self.done - before)
        return f"{share}, {clock(left)} left"


def train(job: Job, figure: int, shelf: Shelf, deadline: float) -> list[tuple[str, int]]:
    """Make and store the runs that are not there; returns those left out for want of time."""
    from nanorepro import claims, store
    from nanorepro.simulation import simulate

    keys = claims.needed(figure, shelf.size)
    missing = [key for key in keys if shelf.find(key) is None]
    speeds: dict[str, float] = {}
    late = []
    begin, spent = time.perf_counter(), 0.0
    costs = [cost(shelf.curves[name].config) for name, _ in missing]
    if not missing:
        return []
    course = Course(sys.stderr, f"{NAME} {figure}", costs)
    with course:
        compile_ahead([shelf.curves[name].config for name, _ in missing], job.threads)
        done = 0
        for key, price in zip(missing, costs, strict=True):
            config = shelf.config(key)
            if config is None or shelf.load(config):  # no start, or the same under another name
                late += [key] if config is None else []
                course.end(replace(shelf.curves[key[0]].config), done := done + price)
                continue
            if math.isfinite(deadline):
                name = key[0]
                if name not in speeds:
                    speeds[name] = calibrate(config, job.threads)
                slower = max((time.perf_counter() - begin) / spent, 1.0) if spent else 1.0
                needs = speeds[name] * 2 * config.pairs * config.examples
                if time.perf_counter() + min(slower, 3.0) * needs > deadline:
                    late.append(key)
                    course.end(config, done := done + price)
                    continue
                spent += needs
            with ends_at_once(NAME):
                start = shelf.start(key)
                result = simulate(config, "numba", job.threads, course.of(config, price), start)
            again = command(config)
            if start is not None:
                again = f"{job.command(figure)} --out {shlex.quote(str(job.folder))}"
            origin = {**store.provenance(config), "command": again}
            result = replace(result, provenance=origin)
            store.save(result, job.folder)
            shelf.keep(result)
            course.end(config, done := done + price)
    return late


def cost(config: Config) -> int:
    """About how long a run takes, in ns on one core; only the ratios matter."""
    return COST[config.model] * 2 * config.pairs * config.examples


def compile_ahead(configs: Sequence[Config], threads: int) -> None:
    """Compile what the runs need in processes side by side, for Numba's cache on the disk."""
    kinds = {json.dumps(tiny(c), sort_keys=True): None for c in configs}
    groups = [list(kinds)[k::threads] for k in range(min(threads, len(kinds)))]
    if len(groups) < 2:
        return
    code = "import sys; from nanorepro import figure; figure.compile_all(sys.argv[1:])"
    children: list[subprocess.Popen] = []
    try:
        for group in groups:
            words = [sys.executable, "-c", code, *group]
            children.append(subprocess.Popen(words, stdin=subprocess.DEVNULL,
                                             stderr=subprocess.DEVNULL))  # fmt: skip
        for child in children:
            child.wait()
    finally:
        for child in children:
            child.kill()


def tiny(config: Config) -> dict[str, Any]:
    """The shortest run that compiles the same code."""
    small = replace(config, warm_start="", first_example=0, eval_every="", log2_examples=5,
                    log2_window=0, log2_eval=0, pairs=1, differ="none", lr=0.1)  # fmt: skip
    return asdict(small)


def compile_all(kinds: Sequence[str]) -> None:
    """What a process of `compile_ahead` does."""
    from nanorepro.simulation import simulate

    for kind in kinds:
        simulate(Config(**json.loads(kind)), "numba", 1)


def calibrate(config: Config, threads: int) -> float:
    """Seconds an example and model of a run, from short runs of the same kind."""
    from nanorepro.simulation import simulate

    small = replace(config, warm_start="", first_example=0, eval_every="", log2_eval=4,
                    pairs=max(threads, 1))  # fmt: skip

    def seconds(log2: int) -> float:
        window = min(config.log2_window, log2 - 5)
        trial = replace(small, log2_examples=log2, log2_window=window)
        with ends_at_once(NAME):
            begin = time.perf_counter()
            simulate(trial, "numba", threads)
            return time.perf_counter() - begin

    seconds(5)  # compiles
    fixed, log2 = seconds(5), 7
    while (passed := seconds(log2) - fixed) < 0.3 and log2 + 2 <= config.log2_examples:
        log2 += 2
    passed = min(passed, seconds(log2) - fixed)
    return max(passed, 1e-6) / (2 * small.pairs * ((1 << log2) - 32))


def bytes_of(config: Config, patterns: int) -> int:
    """About how large a run's file is."""
    from nanorepro.data import FEATURES
    from nanorepro.network import layers, shapes

    models = 2 * config.pairs
    parameters = sum(math.prod(s) for s in shapes(layers(config, FEATURES)).values())
    return 40_000 + 4 * models * (parameters + patterns) + 20 * patterns


def plan(job: Job) -> None:
    """Print what would run, how long it takes and on how much disk; run and write nothing."""
    from nanorepro import claims, paper
    from nanorepro.data import make_world
    from nanorepro.simulation import evaluation_set

    seen: set[str] = set()
    speeds: dict[str, float] = {}
    total = disk = 0.0
    for figure, size in job.sizes.items():
        shelf = Shelf(job.folder, size, parameters=False)
        by_curve: dict[str, list[tuple[str, int]]] = {}
        for key in claims.needed(figure, size):
            by_curve.setdefault(key[0], []).append(key)
        print(f"figure {figure}: {paper.TITLES[figure]}; {sizes(size)}" if by_curve else
              f"figure {figure}: {paper.TITLES[figure]}; no runs")  # fmt: skip
        patterns: dict[str, int] = {}
        for name, keys in by_curve.items():
            config = shelf.curves[name].config
            there = sum(shelf.find(key) is not None for key in keys)
            ids = {f"{config.id} {w}" for _, w in keys if shelf.find((name, w)) is None}
            new = len(ids - seen)
            seen |= ids
            line = f"  {name:<28} {len(keys):>3} runs, {there:>3} stored"
            if shared := len(ids) - new:
                line += f", {shared} counted above"
            if new:
                kind = json.dumps([config.model, config.act, config.beta, config.optimizer])
                if kind not in speeds:
                    speeds[kind] = calibrate(replace(config, log2_window=size.windows[-1]),
                                             job.threads)  # fmt: skip
                if config.data not in patterns:
                    world = make_world(config.seed, config.data)
                    patterns[config.data] = len(evaluation_set(config, world).x)
                each = speeds[kind] * 2 * config.pairs * config.examples
                space = bytes_of(config, patterns[config.data])
                total, disk = total + each * new, disk + space * new
                line += (
                    f"; {1e9 * speeds[kind] * job.threads:,.0f} ns/example/core,"
                    f" {new} x {clock(each)} = {clock(each * new)}, {space * new / 1e6:,.0f} MB"
                )
            print(line, flush=True)
    print(f"together about {clock(total)} with {job.threads} threads,"
          f" {disk / 1e6:,.0f} MB in {job.folder}/")  # fmt: skip


def sizes(size: "paper.Size") -> str:
    """T, N, pairs and windows in words."""
    windows = ",".join(map(str, size.windows))
    pairs = f"{size.pairs} pair{'s' if size.pairs > 1 else ''}"
    hidden = f", hidden layers [{size.hidden}]" if size.hidden else ""
    hidden += f", without {' and '.join(size.without)}" if size.without else ""
    return (
        f"T = 2^{size.log2_examples}, N = 2^{size.log2_eval}, {pairs}, log2 z = {windows},"
        f" seed {size.seed}{hidden}"
    )


def note(size: "paper.Size") -> str:
    """The size of the runs for a picture, beside the paper's where it is smaller."""
    from nanorepro import paper

    same = replace(size, windows=(), seed=0) == replace(paper.PAPER, windows=())
    p = paper.PAPER
    hidden = ", [1024, 512]" if size.hidden else ""
    differs = "" if same else f" (paper: T = 2^{p.log2_examples}, {p.pairs} pairs{hidden})"
    return sizes(size) + differs


def make(job: Job, figure: int, deadline: float) -> dict[str, Any]:
    """One figure: its runs, its picture and numbers, and its record, which is returned."""
    from nanorepro import claims, figures, paper

    size = job.sizes[figure]
    shelf = Shelf(job.folder, size, figure in WITH_PARAMETERS)
    late = train(job, figure, shelf, deadline)
    keys = claims.needed(figure, size)
    runs = shelf.found(keys)
    rows = figures.numbers(figure, size, runs)
    words = note(size) if keys else ""
    if late:
        words += f"; {len(late)} of {len(keys)} runs not made"
    again = job.command(figure)
    drawn = figures.draw(figure, rows, words, job.models or architectures(figure))
    record: dict[str, Any] = {
        "figure": figure, "title": paper.TITLES[figure], "scale": job.scale, "command": again,
        "size": words, "missing": [list(k) for k in late],
        "runs": [run_record(key, runs[key]) for key in sorted(runs)],
        "claims": [claim_record(c, size, runs) for c in claims.CLAIMS if c.figure == figure],
    }  # fmt: skip
    record["seconds"] = sum({r["id"]: r["seconds"] for r in record["runs"]}.values())
    target, name = job.folder, f"figure{figure}-{job.scale}"
    if job.report:
        target, name = job.report.with_suffix(""), f"figure{figure}"
    write(target, name, figure, drawn, figures.as_csv(rows, f"{again}; {words}"), record)
    show(record, target / f"{name}.png")
    if job.report:
        write_report(job.report)
    return record


def run_record(key: tuple[str, int], r: "Result") -> dict[str, Any]:
    """What is said of one run in the record and the report."""
    return {
        "curve": key[0], "log2_window": key[1], "id": r.config.id, "fingerprint": r.fingerprint,
        "relative_pd": number(r.relative_pd), "excess_loss": number(r.excess_loss),
        "stuck": len(r.stuck), "diverged": len(r.diverged), "seconds": r.seconds,
        "command": r.provenance.get("command", command(r.config)),
        "cpu": r.provenance.get("cpu", ""), "source": r.provenance.get("source", ""),
    }  # fmt: skip


def claim_record(claim: "claims.Claim", size: "paper.Size", runs: Any) -> dict[str, Any]:
    """A claim beside what was measured."""
    from nanorepro import claims

    parts = claims.measure(claim, size, runs)
    return {
        "words": claim.words,
        "verdict": claims.verdict(parts),
        "parts": [
            {
                "what": m.part.what, "expected": m.part.expected, "measured": number(m.value),
                "low": number(m.low), "high": number(m.high), "verdict": m.verdict,
                "ids": list(m.ids),
            }
            for m in parts
        ],
    }  # fmt: skip


def number(x: float) -> float | None:
    """A number as JSON has it: null for NaN and infinity."""
    return x if math.isfinite(x) else None


def write(
    folder: Path, name: str, figure: int, drawn: Any, table: str, record: dict[str, Any]
) -> None:
    """Picture as PNG and PDF, numbers as CSV, record as JSON; each whole or not at all."""
    import io

    import matplotlib

    from nanorepro import store
    from nanorepro.picture import STYLE

    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for kind, metadata in (
        ("png", {"Software": None, "Description": record["command"]}),
        ("pdf", {"CreationDate": None, "Subject": record["command"]}),
    ):
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            drawn.savefig(buffer, format=kind, metadata=metadata)
        files[kind] = buffer.getvalue()
    files["csv"] = table.encode()
    files["json"] = (json.dumps(record, indent=1) + "\n").encode()
    for kind, data in files.items():
        store.replace_file(folder / f"{name}.{kind}", data)


def show(record: dict[str, Any], picture: Path) -> None:
    """Print the claims of a figure beside what was measured."""
    print(f"figure {record['figure']}: {record['title']}; {record['size']}".rstrip("; "))
    for claim in record["claims"]:
        print(f"  {claim['verdict'].upper()}: {claim['words']}")
        for part in claim["parts"]:
            print(f"      {part['what']}: {measured(part)}; paper: {part['expected']}"
                  f" -> {part['verdict']}")  # fmt: skip
    print(f"  {picture}, .pdf, .csv, .json; again: {record['command']}", flush=True)


def measured(part: dict[str, Any]) -> str:
    """A measured value with its interval, in words."""
    if part["measured"] is None:
        return "not measured"
    if part["low"] is None:
        return f"{part['measured']:.3g}"
    if part["low"] == part["high"]:
        return f"{part['measured']:g}"
    return f"{part['measured']:.3g} [{part['low']:.3g}, {part['high']:.3g}]"


def write_report(page: Path) -> None:
    """The page of all figures that were drawn for it, from their records."""
    from nanorepro import store

    folder = page.with_suffix("")
    found = [folder / f"figure{f}.json" for f in FIGURES]
    records = [json.loads(p.read_text()) for p in found if p.exists()]
    lines = ["# The paper, reproduced", "", *summary(records)]
    for record in records:
        lines += section(record, folder)
    store.replace_file(page, ("\n".join(lines).rstrip() + "\n").encode())


def summary(records: list[dict[str, Any]]) -> list[str]:
    """What the page is, and the verdicts of all claims."""
    verdicts = [c["verdict"] for r in records for c in r["claims"]]
    counted = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(sorted(verdicts)))
    seconds = sum({r["id"]: r["seconds"] for rec in records for r in rec["runs"]}.values())
    cpus = sorted({r["cpu"] for rec in records for r in rec["runs"]})
    lines = [
        "Made by `python -m nanorepro.figure ... --report`; every number comes from the stored runs"
        " whose ids, fingerprints and commands stand below each figure.",
        "",
        "A part of a claim holds if the 95 % bootstrap interval over pairs lies inside the expected"
        " range, does not hold if it lies outside, and cannot be told otherwise or where the runs"
        " are too small for the claim. `O(10^k)` is expected within a factor of ten, since θ and"
        " the initial values are other draws than the paper's.",
        "",
        f"Claims: {counted}. Runs: {seconds / 3600:.2f} hours on {', '.join(cpus)}.",
        "",
        "| figure | claim | verdict |",
        "|---|---|---|",
    ]
    lines += [
        f"| [{r['figure']}](#figure-{r['figure']}) | {c['words']} | {c['verdict']} |"
        for r in records for c in r["claims"]
    ]  # fmt: skip
    return [*lines, ""]


def section(record: dict[str, Any], folder: Path) -> list[str]:
    """One figure of the page: picture, command, claims, runs."""
    f = record["figure"]
    at = f"{folder.name}/figure{f}"
    lines = [
        f"## Figure {f}", "", f"{record['title']}.", "", f"![Figure {f}]({at}.png)", "",
        f"Command: `{record['command']}`" + (f"; {record['size']}." if record["size"] else "."),
        f"[PDF]({at}.pdf), [numbers]({at}.csv), [record]({at}.json).", "",
    ]  # fmt: skip
    if record["claims"]:
        lines += ["| claim and its parts | measured [95 % interval] | expected | verdict |",
                  "|---|---|---|---|"]  # fmt: skip
    for claim in record["claims"]:
        lines.append(f"| **{claim['words']}** | | | **{claim['verdict']}** |")
        for p in claim["parts"]:
            what = p["what"].replace("|", "\\|")
            lines.append(f"| {what} | {measured(p)} | {p['expected']} | {p['verdict']} |")
    notes = folder / f"notes{f}.md"
    if notes.exists():
        lines += ["", notes.read_text().strip()]
    if record["runs"]:
        lines += [
            "", f"<details><summary>{len(record['runs'])} runs,"
            f" {record['seconds'] / 3600:.2f} hours</summary>", "",
            "| curve | log2 z | Δ_r | L | stuck | id | fingerprint | seconds |",
            "|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for r in record["runs"]:
            values = (r["relative_pd"], r["excess_loss"])
            pd, loss = ("-" if v is None else f"{v:.3g}" for v in values)
            lines.append(
                f"| {r['curve']} | {r['log2_window']} | {pd} | {loss} | {r['stuck']} | {r['id']} |"
                f" {r['fingerprint']} | {r['seconds']:.1f} |"
            )
        lines += ["", "</details>"]
    return [*lines, ""]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    try:
        todo = job(sys.argv[1:] if argv is None else list(argv))
        if todo.plan:
            plan(todo)
            return 0
        deadline = time.perf_counter() + 60.0 * todo.minutes
        for figure in todo.sizes:
            make(todo, figure, deadline)
    except ConfigError as error:
        return fail(error, 2, NAME)
    except KeyboardInterrupt:
        print(f"\n{NAME}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return fail(f"{type(error).__name__}: {error}", 1, NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
