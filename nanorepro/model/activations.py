"""The activations: A(z) and d·A'(z), the same code for every backend (sections 3 and 6).

Another activation is a factory here, and its record in ACTIVATIONS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def smelu(xp: ArrayNamespace, ops: "Operations", beta: float) -> Pair:
    """A(z) = (z + β)²/(4β) for |z| < β, 0 for z ≤ -β, z for z ≥ β (section 6)."""
    where, zero, one = xp.where, ops.const(0.0), ops.const(1.0)
    b, minus_b, b2, b4 = (ops.const(k * beta) for k in (1.0, -1.0, 2.0, 4.0))
    add, mul, div = ops.add, ops.mul, ops.div

    @xp.function
    def value(z: Any, t: Any) -> Any:
        s = add(z, b, t)
        inside = div(mul(s, s, t), b4, t)
        return where(z <= minus_b, zero, where(z >= b, z, inside))

    @xp.function
    def backward(d: Any, z: Any, t: Any) -> Any:
        inside = div(add(z, b, t), b2, t)
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
    b, one = ops.const(beta), ops.const(1.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    sigmoid_of = sigmoid(xp, ops)

    @xp.function
    def value(z: Any, t: Any) -> Any:
        return mul(z, sigmoid_of(mul(b, z, t), t), t)

    @xp.function
    def backward(d: Any, z: Any, t: Any) -> Any:
        u = mul(b, z, t)
        s = sigmoid_of(u, t)
        return mul(d, add(s, mul(u, mul(s, sub(one, s, t), t), t), t), t)

    return value, backward


ACTIVATIONS = {
    record.name: record
    for record in (
        Activation("identity", "z", identity),
        Activation("relu", "z above 0, else 0", relu, often_zero=True, kinks=(0.0,)),
        Activation(
            "smelu", "relu, quadratic from -β to β", smelu, uses_beta=True, kinks=(-1.0, 1.0)
        ),
        Activation("swish", "z·σ(β·z)", swish, costly=True, uses_beta=True),
    )
}
