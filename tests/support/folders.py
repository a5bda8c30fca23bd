"""Folders of runs that were never trained: a journal with made-up measures, and files as long."""

import math
import random
from dataclasses import replace
from pathlib import Path

from nanorepro import Config
from nanorepro.config import command
from nanorepro.sweeps import journal
from nanorepro.sweeps.journal import Entry

PROVENANCE = {
    "nanorepro": "0.1.0", "python": "3.11.2", "system": "Linux-6.1-x86_64",
    "cpu": "Example CPU @ 2 GHz", "source": 64 * "a", "numpy": "2.4.0", "numba": "0.68.0",
    "llvmlite": "0.50.0", "h5py": "3.16.0", "threads": 2,
    "sweep": "python -m nanorepro.sweep --grid act=identity,relu,smelu,swish ...",
    "start": "2026-01-01T00:00:00+00:00", "end": "2026-01-01T00:00:09+00:00",
}  # fmt: skip
LEVELS = {"identity": 1e-4, "relu": 2e-2, "smelu": 4e-3, "swish": 2e-3}


def grid(**axes) -> list[Config]:
    """The configurations of a product of axes."""
    configs = [{}]
    for name, values in axes.items():
        configs = [{**c, name: v} for c in configs for v in values]
    return [Config(**c) for c in configs]


def entry_of(config: Config, **changed) -> Entry:
    """The entry of a run that gave something plausible, always the same."""
    draw = random.Random(config.id)
    level = LEVELS[config.act] * 1.25**config.log2_window * (1 + 0.2 * draw.random())
    pd = [level * math.exp(0.5 * draw.gauss(0, 1)) for _ in range(config.pairs)]
    base = 0.012 if config.act == "identity" else 0.006
    loss = [[base * math.exp(0.06 * draw.gauss(0, 1)) for _ in "ab"] for _ in pd]
    stuck = [[int(draw.random() < 0.01), 0] for _ in pd]
    diverged = [[0, 0] for _ in pd]
    if draw.random() < 0.05:
        pd[0], loss[0], diverged[0], stuck[0] = None, [None, None], [1, 0], [0, 0]
    finite = [x for x in pd if x is not None]
    finite_losses = [x for pair in loss for x in pair if x is not None]
    mean = math.fsum(finite) / len(finite) if finite else None
    of_loss = math.fsum(finite_losses) / len(finite_losses) if finite_losses else None
    around = (0.85, 1.2) if finite else (math.nan, math.nan)
    summary = {
        "relative_pd": mean,
        "relative_pd_interval": [mean * f if finite else None for f in around],
        "excess_loss": of_loss,
        "excess_loss_interval": [of_loss * (1 + (f - 1) / 8) if finite else None for f in around],
        "constant_loss": 0.08,
    }
    measures = {
        "pd": pd, "loss": loss, "churn": [None if x is None else x / 20 for x in pd],
        "disagreement": [None if x is None else x / 9 for x in pd],
        "weight_distance": [draw.random() for _ in pd],
        "weight_correlation": [draw.random() for _ in pd],
        "deviation_cosine": [None for _ in pd], "stuck": stuck, "diverged": diverged,
    }  # fmt: skip
    made = Entry(
        id=config.id, sha256=64 * "0", size=1, modified=0, config=journal.record_of(config),
        fingerprint="".join(draw.choice("0123456789abcdef") for _ in range(64)), backend="numba",
        seconds=1.0 + draw.random(), summary=summary, measures=measures,
        provenance={"command": command(config), **PROVENANCE},
    )  # fmt: skip
    return replace(made, **changed)


def fill(folder: Path, entries: list[Entry]) -> None:
    """Write a journal that has these entries, and a file for each."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for entry in entries:
        path = folder / f"{entry.id}.h5"
        path.write_bytes(b"x")
        lines.append(journal.line(replace(entry, modified=path.stat().st_mtime_ns)))
    with open(folder / journal.NAME, "a") as f:
        f.writelines(line + "\n" for line in lines)
