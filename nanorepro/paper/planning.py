"""What the figures' runs would take, in time and on disk; nothing is run but short trials."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nanorepro.config import Config
from nanorepro.data.sampling import FEATURES
from nanorepro.data.worlds import make_world
from nanorepro.model.layers import shapes
from nanorepro.paper import curves
from nanorepro.paper.figures import FIGURES
from nanorepro.paper.observed import Key
from nanorepro.paper.runner import StoredRuns, tiny
from nanorepro.paper.speed import Speed, calibrate
from nanorepro.specification import layers
from nanorepro.training.progress import clock
from nanorepro.training.simulation import evaluation_set


def bytes_of(config: Config, patterns: int) -> int:
    """About how large a run's file is."""
    models = 2 * config.pairs
    parameters = sum(math.prod(s) for s in shapes(layers(config, FEATURES)).values())
    return 40_000 + 4 * models * (parameters + patterns) + 20 * patterns


def duration(seconds: float) -> str:
    """Seconds as 0.21 s, or as 1:02:03 from a minute on."""
    return f"{seconds:.2g} s" if seconds < 9.5 else clock(seconds)


Job = tuple[str, curves.Size, list[Key], dict[str, curves.Curve]]
"""A title, and the runs of a size, with their curves (none: the paper's)."""


def jobs_of(sizes: dict[int, curves.Size], more: bool = False) -> list[Job]:
    """The runs of the paper's figures.

    `more`: also the runs with more pairs, of all claims that may need them.
    """
    jobs: list[Job] = []
    for number, size in sizes.items():
        figure = FIGURES[number]
        keys = figure.needed(size)
        words = f"{figure.title}; {size.words if keys else 'no runs'}"
        jobs.append((f"figure {number}: {words}", size, keys, {}))
        others = figure.needed_more(figure.claims) if more else {}
        jobs += [(f"figure {number}, for claims it leaves open: {of.words}", of, keys, {})
                 for of, keys in others.items()]  # fmt: skip
    return jobs


def mitigations(size: curves.Size) -> Job:
    """The runs of the mitigations; averages of weights train the baseline once more."""
    from nanorepro.paper import mitigations as of

    title = f"mitigations; {size.words}; the baseline is trained twice, for averages of weights"
    return title, size, of.needed(size), of.curves(size)


def plan(jobs: Sequence[Job], folder: Path, threads: int) -> Iterator[str]:
    """What would run, how long it takes and on how much disk, line by line."""
    seen: set[str] = set()
    speeds: dict[str, Speed] = {}
    patterns: dict[str, int] = {}
    total = disk = 0.0
    for title, size, needed, of in jobs:
        stored = StoredRuns(folder, size, parameters=False, curves=of)
        by_curve: dict[str, list[tuple[str, int]]] = {}
        for key in needed:
            by_curve.setdefault(key[0], []).append(key)
        yield title
        for name, keys in by_curve.items():
            config = stored.curves[name].config
            there = sum(stored.find(key) is not None for key in keys)
            ids = {f"{config.id} {w}" for _, w in keys if stored.find((name, w)) is None}
            new = len(ids - seen)
            seen |= ids
            line = f"  {name:<28} {len(keys):>3} runs, {there:>3} stored"
            if shared := len(ids) - new:
                line += f", {shared} counted above"
            if new:
                kind = json.dumps(tiny(config), sort_keys=True)
                if kind not in speeds:
                    longest = replace(config, log2_window=size.windows[-1])
                    speeds[kind] = calibrate(longest, threads)
                world = f"{config.data} {config.log2_eval}"
                if world not in patterns:
                    drawn = evaluation_set(config, make_world(config.seed, config.data))
                    patterns[world] = len(drawn.x)
                each = speeds[kind].seconds(config)
                space = bytes_of(config, patterns[world])
                total, disk = total + each * new, disk + space * new
                line += (
                    f"; {1e9 * speeds[kind].each * threads:,.3g} ns/example/core,"
                    f" {new} x {duration(each)} = {duration(each * new)},"
                    f" {space * new / 1e6:,.2g} MB"
                )
            yield line
    sizes_in_all = f"{disk / 1e6:,.2g} MB in {folder}/"
    yield f"together about {duration(total)} with {threads} threads, {sizes_in_all}"
