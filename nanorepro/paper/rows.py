"""The numbers that figures plot, from results: flat records, the rows of a figure's CSV file."""

from collections.abc import Sequence

import numpy as np

from nanorepro.numerics.streams import stream_key
from nanorepro.paper import csv_table
from nanorepro.paper.curves import Size, run_keys
from nanorepro.paper.quantities import correlation_of, first_layer_cosine
from nanorepro.paper.record import Row
from nanorepro.results.metrics import average
from nanorepro.results.result import Result
from nanorepro.results.studentized import contrast

Runs = dict[tuple[str, int], Result]
Plotted = tuple[tuple[str, str], ...]


def as_csv(rows: Sequence[Row], note: str) -> str:
    """The plotted numbers, after a comment line that says where they come from."""
    titles = [list(rows[0])] if rows else []
    return csv_table.as_text(note, [*titles, *([row[k] for k in titles[0]] for row in rows)])


def curve_rows(plotted: Plotted, size: Size, runs: Runs) -> list[Row]:
    """For every run its mean over pairs (`pair` is "mean") and every single pair."""
    found = []
    for name, window in run_keys(plotted, size):
        if (name, window) not in runs:
            continue
        r = runs[name, window]
        where = {"curve": name, "log2_window": window, "log2_examples": r.config.log2_examples}
        origin = {"id": r.config.id, "fingerprint": r.fingerprint, "seconds": r.seconds}
        pd_low, pd_high = interval(r, [p.pd for p in r.pairs])
        loss_low, loss_high = interval(r, [average(p.loss) for p in r.pairs])
        stuck, diverged = ([sum(getattr(p, w)) for p in r.pairs] for w in ("stuck", "diverged"))
        found.append({
            **where, "pair": "mean", "pd": r.relative_pd, "pd_low": pd_low, "pd_high": pd_high,
            "loss": r.excess_loss, "loss_low": loss_low, "loss_high": loss_high,
            "stuck": sum(stuck), "diverged": sum(diverged), "models": 2 * r.config.pairs, **origin,
        })  # fmt: skip
        for k, p in enumerate(r.pairs):
            found.append({
                **where, "pair": k, "pd": p.pd, "pd_low": "", "pd_high": "",
                "loss": average(p.loss), "loss_low": "", "loss_high": "",
                "stuck": stuck[k], "diverged": diverged[k], "models": 2, **origin,
            })  # fmt: skip
    return found


def interval(r: Result, values: Sequence[float]) -> tuple[float | str, float | str]:
    """The 95 % interval of the mean over pairs of what is not negative; empty where unknown."""
    found = contrast(np.array([values], float), np.ones(1), stream_key(r.config.seed, "bootstrap"))
    with np.errstate(over="ignore"):
        low, high = np.exp(found.low), np.exp(found.high)
    known = np.isfinite(low) and np.isfinite(high)
    return (float(low), float(high)) if known else ("", "")


def flat(parameters: dict[str, np.ndarray]) -> list[tuple[str, float]]:
    """(name, value) of every parameter, the weights unit by unit."""
    return [(k, float(v)) for k, values in parameters.items() for v in values.T.ravel()]


def parameter_rows(r: Result, name: str, pair: int) -> list[Row]:
    """Both models' parameters of one pair."""
    first, second = (flat(m) for m in r.parameters[pair])
    return [
        {
            "curve": name, "log2_window": r.config.log2_window, "pair": pair, "index": k,
            "parameter": parameter, "model_1": a, "model_2": b, "difference": b - a,
            "id": r.config.id, "fingerprint": r.fingerprint,
        }
        for k, ((parameter, a), (_, b)) in enumerate(zip(first, second, strict=True))
    ]  # fmt: skip


def sound(r: Result) -> list[int]:
    """The pairs of which no model diverged or is stuck, or all if there are none."""
    found = [k for k, p in enumerate(r.pairs) if not any(p.diverged) and not any(p.stuck)]
    return found or list(range(r.config.pairs))


def rows_of_all_pairs(plotted: Plotted, size: Size, runs: Runs) -> list[Row]:
    """Every sound pair of each run."""
    return [row for name, r in _found(plotted, size, runs) for k in sound(r)
            for row in parameter_rows(r, name, k)]  # fmt: skip


def rows_of_one_pair(plotted: Plotted, size: Size, runs: Runs) -> list[Row]:
    """The first sound pair of each run.

    Of models that differ in their initial values it is one with opposite weights, if there is one.
    """
    rows = []
    for name, r in _found(plotted, size, runs):
        chosen = sound(r)
        if "init" in r.config.roles:
            cosines = first_layer_cosine(r)
            chosen = [k for k in chosen if cosines[k] < 0] or chosen
        rows += parameter_rows(r, name, chosen[0])
    return rows


def rows_of_two_pairs(plotted: Plotted, size: Size, runs: Runs) -> list[Row]:
    """The sound pairs of each run whose embeddings are most and least correlated."""
    rows = []
    for name, r in _found(plotted, size, runs):
        by = correlation_of(r, "e")
        chosen = sorted(sound(r), key=lambda k: -by[k])
        for pair in dict.fromkeys([chosen[0], chosen[-1]]):
            rows += parameter_rows(r, name, pair)
    return rows


def _found(plotted: Plotted, size: Size, runs: Runs) -> list[tuple[str, Result]]:
    """The runs there are of those that are plotted, with the names of their curves."""
    return [(key[0], runs[key]) for key in run_keys(plotted, size) if key in runs]
