"""What each mitigation buys: its PD and loss over the baseline's, pair by pair, and its cost.

Made of the rows of the CSV file alone, so that it can be made again from it.
"""

import math
from collections.abc import Sequence

import numpy as np

from nanorepro.numerics.streams import stream_key
from nanorepro.paper.mitigations import BASE, MITIGATIONS
from nanorepro.paper.record import Row
from nanorepro.results.metrics import average
from nanorepro.results.plain import finite_or_null
from nanorepro.results.studentized import contrast
from nanorepro.text import in_columns

COLUMNS = (
    ("name", "mitigation"), ("pd", "PD"), ("pd_ratio", "PD over ReLU's"),
    ("loss_ratio", "L over ReLU's"), ("pairs", "pairs"), ("stuck", "stuck"),
    ("examples", "examples"), ("served", "models"), ("bought", "halvings of PD"),
    ("per_cost", "per doubling of examples"),
    ("per_loss", "per % of L"),
)  # fmt: skip


def table(rows: Sequence[Row], seed: int) -> list[Row]:
    """A row for each mitigation and window.

    pd, loss: means over the pairs that learned: neither model stuck or diverged
    pd_ratio, loss_ratio: over the baseline's, of the pairs that learned in both, each with `_low`
    and `_high`, the 95 % interval; None where it cannot be told
    pairs, stuck: those pairs; models of all pairs that are stuck, ensembles with such a member
    examples, served: costs over the baseline's: examples trained on and models evaluated for one
    prediction
    bought: log2 of 1/pd_ratio, of infinity None
    per_cost: of it for each doubling of the examples; None where they are not more
    per_loss: of it for each percent of excess loss more; None unless both are surely so
    """
    found = []
    for window in dict.fromkeys(r["log2_window"] for r in rows):
        of = [r for r in rows if r["log2_window"] == window]
        if not any(r["curve"] == BASE for r in of):
            continue
        for m in MITIGATIONS:
            if any(r["curve"] == m.name for r in of):
                found.append({"name": m.name, "log2_window": window, **one(of, m.name, seed)})
    return found


def one(rows: Sequence[Row], name: str, seed: int) -> Row:
    """One row of the table, from all rows of its window."""
    own, base = (pairs_of(rows, n) for n in (name, BASE))
    both = np.array([learned(a) and learned(b) for a, b in zip(own, base, strict=True)], bool)
    alone = [r for r in own if learned(r)]
    pd, low, high = ratio(own, base, both, "pd", seed)
    loss, least, most = ratio(own, base, both, "loss", seed)
    bought = 0.0 - math.log2(pd) if pd > 0.0 else math.inf if pd == 0.0 else math.nan
    doublings = math.log2(own[0]["examples"])
    paid = least > 1.0 and high < 1.0
    found: Row = finite_or_null({
        "pd": average([r["pd"] for r in alone]),
        "loss": average([r["loss"] for r in alone]),
        "pd_ratio": pd, "pd_ratio_low": low, "pd_ratio_high": high,
        "loss_ratio": loss,
        "loss_ratio_low": least, "loss_ratio_high": most,
        "pairs": int(both.sum()), "stuck": sum(r["stuck"] for r in own),
        "examples": own[0]["examples"], "served": own[0]["served"],
        "bought": bought,
        "per_cost": bought / doublings if doublings else None,
        "per_loss": bought / (100.0 * (loss - 1.0)) if paid else None,
    })  # fmt: skip
    return found


def learned(row: Row) -> bool:
    """Whether neither model of a pair is stuck or diverged."""
    return row["stuck"] == 0 and row["diverged"] == 0


def ratio(
    own: Sequence[Row], base: Sequence[Row], some: np.ndarray, column: str, seed: int
) -> tuple[float, float, float]:
    """The mean over some pairs over the baseline's, with its interval."""
    pairs = np.array([[r[column] for r in of] for of in (own, base)], float)[:, some]
    if pairs.shape[1] and not pairs[0].any() and pairs[1].any():
        return 0.0, 0.0, 0.0
    found = contrast(pairs, np.array([1.0, -1.0]), stream_key(seed, "bootstrap"))
    with np.errstate(over="ignore"):
        value, low, high = np.exp(found).tolist()
    return value, low, high


def pairs_of(rows: Sequence[Row], name: str) -> list[Row]:
    """The rows of every pair of one curve."""
    return [r for r in rows if r["curve"] == name and r["pair"] != "mean"]


def as_text(table: Sequence[Row]) -> list[str]:
    """The table as lines, windows one below the other."""
    lines: list[str] = []
    for window in dict.fromkeys(r["log2_window"] for r in table):
        at = "1" if window == 0 else f"2^{window}"
        cells = [[words for _, words in COLUMNS]]
        cells += [
            [cell(row, c) for c, _ in COLUMNS] for row in table if row["log2_window"] == window
        ]
        lines += ["", f"z = {at} mini-batches", *in_columns(cells)]
    return lines


def cell(row: Row, column: str) -> str:
    """A value as the table shows it, with its interval."""
    value = row[column]
    if column == "name":
        return str(value)
    if column in ("examples", "served"):
        return f"x{value}"
    if column in ("pairs", "stuck"):
        return str(value)
    if value is None:
        return "all" if column == "bought" and row["pd_ratio"] == 0.0 else "-"
    text = f"{value:.3g}"
    if f"{column}_low" in row and row["name"] != BASE and value > 0.0:
        ends = [row[f"{column}_{end}"] for end in ("low", "high")]
        text += " [" + ", ".join("?" if e is None else f"{e:.3g}" for e in ends) + "]"
    return text
