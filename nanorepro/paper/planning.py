"""What the figures' runs would take, in time and on disk; nothing is run but short trials."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from nanorepro.paper import curves
from nanorepro.paper.figures import FIGURES
from nanorepro.paper.observed import Key
from nanorepro.paper.runner import NAME, StoredRuns
from nanorepro.training.calibration import Calibration
from nanorepro.training.progress import duration
from nanorepro.training.signals import ends_at_once

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
    calibration = Calibration("numba", threads)
    total = disk = 0.0
    for title, size, needed, of in jobs:
        stored = StoredRuns(folder, size, parameters=False, curves=of)
        by_curve: dict[str, list[Key]] = {}
        for key in needed:
            by_curve.setdefault(key[0], []).append(key)
        yield title
        for name, keys in by_curve.items():
            missing = {f"{stored.curves[name].config.id} {w}": stored.curves[name].at(w)
                       for _, w in keys if stored.find((name, w)) is None}  # fmt: skip
            there = sum(stored.find(key) is not None for key in keys)
            new = {id: config for id, config in missing.items() if id not in seen}
            seen |= set(new)
            line = f"  {name:<28} {len(keys):>3} runs, {there:>3} stored"
            if shared := len(missing) - len(new):
                line += f", {shared} counted above"
            if new:
                with ends_at_once(NAME):
                    speeds = [(calibration.speed(config), config) for config in new.values()]
                seconds = [speed.seconds(config) for speed, config in speeds]
                space = sum(speed.size(config) for speed, config in speeds)
                total, disk = total + sum(seconds), disk + space
                each = sum(speed.each for speed, _ in speeds) / len(speeds)
                line += (
                    f"; {1e9 * each:,.3g} ns/example/core,"
                    f" {len(new)} x {duration(sum(seconds) / len(new))} = {duration(sum(seconds))},"
                    f" {space / 1e6:,.2g} MB"
                )
            yield line
    sizes_in_all = f"{disk / 1e6:,.2g} MB in {folder}/"
    yield f"together about {duration(total)} with {threads} threads, {sizes_in_all}"
