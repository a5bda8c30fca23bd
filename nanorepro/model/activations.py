"""The activations: A(z) and d·A'(z), the same code for every backend (sections 3 and 6).

An activation is a function of (xp, ops, beta) that returns a pair of functions: value(z, t), A(z),
and backward(d, z, t), d·A'(z).  `xp` is an array namespace and `ops` are the dials' rounded
operations in it; every operation has a last argument t, the rounding key.  What A' is at a NaN z
does not matter: all δ of such an example are NaN.
"""


def identity(xp, ops, beta):
    """A(z) = z."""

    @xp.function
    def value(z, t):
        return z

    @xp.function
    def backward(d, z, t):
        return d

    return value, backward


def relu(xp, ops, beta):
    """A(z) = z for z > 0, 0 for z ≤ 0; A'(0) = 0, as in TensorFlow."""
    where, zero, mul = xp.where, ops.const(0.0), xp.mul

    if xp.FAST_FORMULAS:

        @xp.function
        def value(z, t):
            # no z is -0, as no bias is: one instruction instead of two
            return where(zero > z, zero, z)

    else:

        @xp.function
        def value(z, t):
            return where(z <= zero, zero, z)

    @xp.function
    def backward(d, z, t):
        return where(z <= zero, mul(d, zero), d)  # d·0 is exact: it has d's sign, or is NaN

    return value, backward


def smelu(xp, ops, beta):
    """A(z) = (z + β)²/(4β) for |z| < β, 0 for z ≤ -β, z for z ≥ β (section 6)."""
    where, zero, one = xp.where, ops.const(0.0), ops.const(1.0)
    b, minus_b, b2, b4 = (ops.const(k * beta) for k in (1.0, -1.0, 2.0, 4.0))
    add, mul, div = ops.add, ops.mul, ops.div

    @xp.function
    def value(z, t):
        s = add(z, b, t)
        inside = div(mul(s, s, t), b4, t)
        return where(z <= minus_b, zero, where(z >= b, z, inside))

    @xp.function
    def backward(d, z, t):
        inside = div(add(z, b, t), b2, t)
        return mul(d, where(z <= minus_b, zero, where(z >= b, one, inside)), t)

    return value, backward


def sigmoid(xp, ops):
    """σ(z) = 1/(1 + exp(-z))."""
    one = ops.const(1.0)
    add, div, sub, exp, zero = ops.add, ops.div, ops.sub, ops.exp, ops.const(0.0)

    @xp.function
    def value(z, t):
        return div(one, add(one, exp(sub(zero, z, t), t), t), t)

    return value


def swish(xp, ops, beta):
    """A(z) = z·s with s = σ(βz); A'(z) = s + (βz)·(s·(1 - s))."""
    b, one = ops.const(beta), ops.const(1.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    sigmoid_of = sigmoid(xp, ops)

    @xp.function
    def value(z, t):
        return mul(z, sigmoid_of(mul(b, z, t), t), t)

    @xp.function
    def backward(d, z, t):
        u = mul(b, z, t)
        s = sigmoid_of(u, t)
        return mul(d, add(s, mul(u, mul(s, sub(one, s, t), t), t), t), t)

    return value, backward


ACTIVATIONS = {"identity": identity, "relu": relu, "smelu": smelu, "swish": swish}


COSTLY = {"swish"}  # to go to memory for them takes less time than to compute them again


OFTEN_ZERO = {"relu"}  # A(z) for half of all z and more; A'(z) is then 0, too, and else 1
