"""The activations: A(z) and d·A'(z), the same code for every backend (sections 3 and 6)."""


def identity(o, ops, beta):
    """A(z) = z."""

    @o.function
    def value(z, t):
        return z

    @o.function
    def backward(d, z, t):
        return d

    return value, backward


def relu(o, ops, beta):
    """A(z) = z for z > 0, 0 for z ≤ 0; A'(0) = 0, as in TensorFlow."""
    where, zero, mul = o.where, ops.const(0.0), o.mul

    if o.SHORTCUTS:

        @o.function
        def value(z, t):
            # no z is -0, as no bias is: one instruction instead of two
            return where(zero > z, zero, z)

    else:

        @o.function
        def value(z, t):
            return where(z <= zero, zero, z)

    @o.function
    def backward(d, z, t):
        return where(z <= zero, mul(d, zero), d)  # d·0 is exact: it has d's sign, or is NaN

    return value, backward


def smelu(o, ops, beta):
    """A(z) = (z + β)²/(4β) for |z| < β, 0 for z ≤ -β, z for z ≥ β (section 6)."""
    where, zero, one = o.where, ops.const(0.0), ops.const(1.0)
    b, minus_b, b2, b4 = (ops.const(k * beta) for k in (1.0, -1.0, 2.0, 4.0))
    add, mul, div = ops.add, ops.mul, ops.div

    @o.function
    def value(z, t):
        s = add(z, b, t)
        inside = div(mul(s, s, t), b4, t)
        return where(z <= minus_b, zero, where(z >= b, z, inside))

    @o.function
    def backward(d, z, t):
        inside = div(add(z, b, t), b2, t)
        return mul(d, where(z <= minus_b, zero, where(z >= b, one, inside)), t)

    return value, backward


def sigmoid(o, ops):
    """σ(z) = 1/(1 + exp(-z))."""
    one = ops.const(1.0)
    add, div, sub, exp, zero = ops.add, ops.div, ops.sub, ops.exp, ops.const(0.0)

    @o.function
    def value(z, t):
        return div(one, add(one, exp(sub(zero, z, t), t), t), t)

    return value


def swish(o, ops, beta):
    """A(z) = z·s with s = σ(βz); A'(z) = s + (βz)·(s·(1 - s))."""
    b, one = ops.const(beta), ops.const(1.0)
    add, sub, mul = ops.add, ops.sub, ops.mul
    squash = sigmoid(o, ops)

    @o.function
    def value(z, t):
        return mul(z, squash(mul(b, z, t), t), t)

    @o.function
    def backward(d, z, t):
        u = mul(b, z, t)
        s = squash(u, t)
        return mul(d, add(s, mul(u, mul(s, sub(one, s, t), t), t), t), t)

    return value, backward


ACTIVATIONS = {"identity": identity, "relu": relu, "smelu": smelu, "swish": swish}


COSTLY = {"swish"}  # to go to memory for them takes less time than to compute them again


OFTEN_ZERO = {"relu"}  # A(z) for half of all z and more; A'(z) is then 0, too, and else 1
