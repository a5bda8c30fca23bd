"""The activations: A(z) and d·A'(z), the same code for every backend (sections 3 and 6).

Another activation is a factory here, and its record in ACTIVATIONS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import frexp
from typing import TYPE_CHECKING, Any, cast

from nanorepro.numerics.array_namespace import ArrayNamespace, Function

if TYPE_CHECKING:
    from nanorepro.numerics.rounding import Operations

Pair = tuple[Function, Function]


@dataclass(frozen=True)
class Activation:
    """An activation.

    Attributes
    ----------
    name, summary : str
        What `--act` takes, and A(z) in a few words.
    make : callable
        (xp, ops, beta) -> (value, backward): value(z, t) is A(z) and backward(d, z, t) is d·A'(z),
        of scalars, vectors or arrays; t is the rounding key.  `xp` is an array namespace and `ops`
        are the dials' rounded operations in it.  No z is -0, as no bias is.  What A' is at a NaN z
        does not matter: all δ of such an example are NaN.
    often_zero : bool
        Whether A(z) is 0 for half of all z and more; A'(z) is then 0, too, and else 1.
    costly : bool
        Whether to compute A(z) again takes longer than to read it from memory.
    with_slope : callable or None
        Where A'(z) takes long, too: (xp, ops, beta) -> a function (z, t) -> (A(z), A'(z)), for
        backends that keep both; d·A'(z) is then a product.
    uses_beta : bool
        Whether β has an effect.
    kinks : tuple of float
        Where two formulas meet, in units of β where β has an effect; ascending.
    """

    name: str
    summary: str
    make: "Callable[[ArrayNamespace, Operations, float], Pair]"
    often_zero: bool = False
    costly: bool = False
    with_slope: "Callable[[ArrayNamespace, Operations, float], Function] | None" = None
    uses_beta: bool = False
    kinks: tuple[float, ...] = ()


def identity(xp: ArrayNamespace, ops: "Operations", beta: float) -> Pair:
    """A(z) = z."""

    @xp.function
    def value(z: Any, t: Any) -> Any:
        return z

    @xp.function
    def backward(d: Any, z: Any, t: Any) -> Any:
        return d

    return value, backward


def relu(xp: ArrayNamespace, ops: "Operations", beta: float) -> Pair:
    """A(z) = z for z > 0, 0 for z ≤ 0; A'(0) = 0, as in TensorFlow."""
    where, zero, mul = xp.where, ops.const(0.0), xp.mul

    if xp.FAST_FORMULAS:

        @xp.function
        def value(z: Any, t: Any) -> Any:
            # no z is -0, as no bias is: one instruction instead of two
            return where(zero > z, zero, z)

    else:

        @xp.function
        def value(z: Any, t: Any) -> Any:
            return where(z <= zero, zero, z)

    @xp.function
    def backward(d: Any, z: Any, t: Any) -> Any:
        return where(z <= zero, mul(d, zero), d)  # d·0 is exact: it has d's sign, or is NaN

    return value, backward


def divided_by(xp: ArrayNamespace, ops: "Operations", divisor: float) -> Function:
    """A function (a, t) -> a/divisor; by a power of two a product has the same exact value."""
    mul, div, by = ops.mul, ops.div, ops.const(divisor)
    inverse = ops.const(1.0 / float(by))
    power_of_two = frexp(by)[0] == 0.5 and xp.FAST_FORMULAS

    @xp.function
    def quotient(a: Any, t: Any) -> Any:
        return mul(a, inverse, t) if power_of_two else div(a, by, t)

    return quotient


def smelu(xp: ArrayNamespace, ops: "Operations", beta: float) -> Pair:
    """A(z) = (z + β)²/(4β) for |z| < β, 0 for z ≤ -β, z for z ≥ β (section 6)."""
    where, zero, one = xp.where, ops.const(0.0), ops.const(1.0)
    b, minus_b, b2 = (ops.const(k * beta) for k in (1.0, -1.0, 2.0))
    by_2b, by_4b = (divided_by(xp, ops, k * beta) for k in (2.0, 4.0))
    add, mul, fma = ops.add, ops.mul, ops.fma

    if xp.FAST_FORMULAS and fma is cast(Any, xp).fma and frexp(beta)[0] == 0.5:
        # scaled by powers of two, sums and products are rounded as they are
        half, per_2b = ops.const(0.5), ops.const(0.5 / beta)

        @xp.function
        def value(z: Any, t: Any) -> Any:
            s = fma(z, per_2b, half, t)
            s = where(zero > s, zero, s)
            return where(z >= b, z, mul(b, mul(s, s, t), t))

        @xp.function
        def backward(d: Any, z: Any, t: Any) -> Any:
            s = fma(z, per_2b, half, t)
            s = where(zero > s, zero, s)
            return mul(d, where(s > one, one, s), t)

    elif xp.FAST_FORMULAS:

        @xp.function
        def value(z: Any, t: Any) -> Any:
            # a sum is below 0 or above 2β only where z is below -β or above β
            s = add(z, b, t)
            s = where(zero > s, zero, s)
            return where(z >= b, z, by_4b(mul(s, s, t), t))

        @xp.function
        def backward(d: Any, z: Any, t: Any) -> Any:
            s = add(z, b, t)
            s = where(zero > s, zero, s)
            return mul(d, by_2b(where(s > b2, b2, s), t), t)

    else:

        @xp.function
        def value(z: Any, t: Any) -> Any:
            s = add(z, b, t)
            inside = by_4b(mul(s, s, t), t)
            return where(z <= minus_b, zero, where(z >= b, z, inside))

        @xp.function
        def backward(d: Any, z: Any, t: Any) -> Any:
            inside = by_2b(add(z, b, t), t)
            return mul(d, where(z <= minus_b, zero, where(z >= b, one, inside)), t)

    return value, backward


def sigmoid(xp: ArrayNamespace, ops: "Operations") -> Function:
    """σ(z) = 1/(1 + exp(-z)), a function (z, t)."""
    one = ops.const(1.0)
    add, div, sub, exp, zero = ops.add, ops.div, ops.sub, ops.exp, ops.const(0.0)

    @xp.function
    def value(z: Any, t: Any) -> Any:
        return div(one, add(one, exp(sub(zero, z, t), t), t), t)

    return value


def swish(xp: ArrayNamespace, ops: "Operations", beta: float) -> Pair:
    """A(z) = z·s with s = σ(βz); A'(z) = s + (βz)·(s·(1 - s))."""
    both, mul = swish_with_slope(xp, ops, beta), ops.mul

    @xp.function
    def value(z: Any, t: Any) -> Any:
        return both(z, t)[0]

    @xp.function
    def backward(d: Any, z: Any, t: Any) -> Any:
        return mul(d, both(z, t)[1], t)

    return value, backward


def swish_with_slope(xp: ArrayNamespace, ops: "Operations", beta: float) -> Function:
    """(z, t) -> (A(z), A'(z)) of `swish`."""
    b, one = ops.const(beta), ops.const(1.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    sigmoid_of = sigmoid(xp, ops)

    @xp.function
    def both(z: Any, t: Any) -> Any:
        u = mul(b, z, t)
        s = sigmoid_of(u, t)
        return mul(z, s, t), add(s, mul(u, mul(s, sub(one, s, t), t), t), t)

    return both


ACTIVATIONS = {
    record.name: record
    for record in (
        Activation("identity", "z", identity),
        Activation("relu", "z above 0, else 0", relu, often_zero=True, kinks=(0.0,)),
        Activation(
            "smelu",
            "relu, quadratic from -β to β",
            smelu,
            costly=True,
            uses_beta=True,
            kinks=(-1.0, 1.0),
        ),
        Activation(
            "swish",
            "z·σ(β·z)",
            swish,
            costly=True,
            with_slope=swish_with_slope,
            uses_beta=True,
        ),
    )
}
