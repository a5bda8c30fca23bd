"""How the partial sums of a sum are held: plain, compensated, in float64, exactly.

Another accumulator is a factory here, and its record in ACCUMULATORS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nanorepro.numerics.array_namespace import ArrayNamespace, Function

if TYPE_CHECKING:
    from nanorepro.numerics.rounding import Operations

Parts = tuple[Function, ...]


@dataclass(frozen=True)
class Accumulator:
    """How a partial sum is held.

    Attributes
    ----------
    name, summary : str
        What `--accumulator` takes, and what it is in a few words.
    make : callable
        (xp, ops) -> (start, product, term, merge, result), functions on the state of a partial sum,
        a tuple of one number or two: start(zero) of a +0, product(state, a, b, t) joins a·b,
        term(state, a, t) joins a, merge(state, other, t) joins another partial sum, and
        result(state, t) is the rounded sum; t is the rounding key.
    below_float64 : bool
        Whether the precision has to be less than float64's.
    """

    name: str
    summary: str
    make: "Callable[[ArrayNamespace, Operations], Parts]"
    below_float64: bool = False


def plain(xp: ArrayNamespace, ops: "Operations") -> Parts:
    """s ← fma(a, b, s), or s ← s + a; partial sums join by +."""
    add, fma = ops.add, ops.fma

    @xp.function
    def start(zero: Any) -> Any:
        return (zero,)

    @xp.function
    def product(state: Any, a: Any, b: Any, t: Any) -> Any:
        return (fma(a, b, state[0], t),)

    @xp.function
    def term(state: Any, a: Any, t: Any) -> Any:
        return (add(state[0], a, t),)

    @xp.function
    def merge(state: Any, other: Any, t: Any) -> Any:
        return (add(state[0], other[0], t),)

    @xp.function
    def result(state: Any, t: Any) -> Any:
        return state[0]

    return start, product, term, merge, result


def kahan(xp: ArrayNamespace, ops: "Operations") -> Parts:
    """Kahan's sum s with compensation c: y = a - c, u = s + y, c ← (u - s) - y, s ← u.

    A product enters as y = fma(a, b, -c).  Another partial sum (s', c') enters as the term s', and
    c' is added to c.
    """
    add, sub, fma, zero_ = ops.add, ops.sub, ops.fma, ops.const(0.0)

    @xp.function
    def start(zero: Any) -> Any:
        return (zero, zero)

    @xp.function
    def close(s: Any, y: Any, t: Any) -> Any:
        u = add(s, y, t)
        return (u, sub(sub(u, s, t), y, t))

    @xp.function
    def product(state: Any, a: Any, b: Any, t: Any) -> Any:
        return close(state[0], fma(a, b, sub(zero_, state[1], t), t), t)

    @xp.function
    def term(state: Any, a: Any, t: Any) -> Any:
        return close(state[0], sub(a, state[1], t), t)

    @xp.function
    def merge(state: Any, other: Any, t: Any) -> Any:
        s, c = term(state, other[0], t)
        return (s, add(c, other[1], t))

    @xp.function
    def result(state: Any, t: Any) -> Any:
        return state[0]

    return start, product, term, merge, result


def wide(xp: ArrayNamespace, ops: "Operations") -> Parts:
    """A float64 accumulator: s ← s + a·b with the product exact, rounded once at the end.

    Without fma the product is rounded to the precision before it joins.
    """
    widen, mul, fused, round = xp.widen, ops.mul, ops.fused, ops.round

    @xp.function
    def start(zero: Any) -> Any:
        return (widen(zero),)

    @xp.function
    def product(state: Any, a: Any, b: Any, t: Any) -> Any:
        if fused:
            return (state[0] + widen(a) * widen(b),)
        return (state[0] + widen(mul(a, b, t)),)

    @xp.function
    def term(state: Any, a: Any, t: Any) -> Any:
        return (state[0] + widen(a),)

    @xp.function
    def merge(state: Any, other: Any, t: Any) -> Any:
        return (state[0] + other[0],)

    @xp.function
    def result(state: Any, t: Any) -> Any:
        return round(state[0], t)

    return start, product, term, merge, result


def exact(xp: ArrayNamespace, ops: "Operations") -> Parts:
    """s ← s + a·b exactly, rounded once at the end; without fma the product is rounded."""
    from nanorepro.numerics import exact_sum  # which imports NumPy

    return exact_sum.exact(xp, ops)


ACCUMULATORS = {
    record.name: record
    for record in (
        Accumulator("plain", "rounded at every addition", plain),
        Accumulator("kahan", "compensated", kahan),
        Accumulator("wide", "in float64, rounded once", wide, below_float64=True),
        Accumulator("exact", "correctly rounded, in any order", exact),
    )
}
