"""How far from 0 weights may start: Keras's initializers, uniform in ±limit."""

import math
from collections.abc import Callable
from dataclasses import dataclass

EMBEDDING_LIMIT = 0.05  # of embeddings, whatever the initializer, unless it is zero


@dataclass(frozen=True)
class Initializer:
    """How a matrix of weights starts.

    Attributes
    ----------
    name : str
        What `--init` takes.
    summary : str
        What it is in a few words.
    limit : callable
        (rows, columns) -> the greatest magnitude of a weight.
    """

    name: str
    summary: str
    limit: Callable[[int, int], float]


def glorot(rows: int, columns: int) -> float:
    """√(6/(rows + columns)) (Glorot and Bengio 2010)."""
    return math.sqrt(6.0 / (rows + columns))


INITIALIZERS = {
    record.name: record
    for record in (
        Initializer("glorot", "±√(6/(fan in + fan out))", glorot),
        Initializer("zero", "0", lambda rows, columns: 0.0),
        Initializer("uniform", "±0.05", lambda rows, columns: 0.05),
    )
}
