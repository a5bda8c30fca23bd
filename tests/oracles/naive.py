"""Oracles in plain loops and exact fractions: slow, and right at sight."""

import math
from fractions import Fraction


def round_fraction(q: Fraction, p: int, mode: str, least: int = -126, greatest: int = 127) -> float:
    """q rounded to p bits; a number in [2**e, 2**(e+1)) has least <= e <= greatest."""
    size = abs(q)
    if size == 0:
        return 0.0
    e = size.numerator.bit_length() - size.denominator.bit_length()
    while Fraction(2) ** e > size:
        e -= 1
    quantum = Fraction(2) ** (max(e, least) + 1 - p)
    count, rest = divmod(size, quantum)
    if mode == "nearest" and (2 * rest > quantum or (2 * rest == quantum and count % 2 == 1)):
        count += 1
    result = count * quantum
    largest = (2 - Fraction(2) ** (1 - p)) * Fraction(2) ** greatest
    if result > largest:
        result = math.inf if mode == "nearest" else largest
    return -float(result) if q < 0 else float(result)


def sqrt_fraction(q: Fraction) -> Fraction:
    """A fraction that rounds as the square root of q does, to any precision below 100 bits."""
    scale = 2**600
    root = math.isqrt(q.numerator * scale * scale // q.denominator)
    exact = Fraction(root, scale) ** 2 == q
    return Fraction(root, scale) + (0 if exact else Fraction(1, 2 * scale))


def fma_exact(a: float, b: float, c: float, p: int, least: int, greatest: int) -> float:
    """a*b + c rounded once to nearest."""
    if math.isfinite(a) and math.isfinite(b) and not math.isfinite(c):
        return c
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        sign_of_product = math.copysign(1.0, a) * math.copysign(1.0, b)
        product_is_zero = a == 0 or b == 0
        same = product_is_zero and c == 0 and sign_of_product == math.copysign(1.0, c)
        return math.copysign(0.0, c) if same else 0.0
    return round_fraction(exact, p, "nearest", least, greatest)


class Rounded:
    """+ - × ÷ √ and fma of p bits by fractions, each rounded once; exp is rounded from `exp64`.

    Exponents are float32's, or float64's for p = 53.  Without fma a product is rounded before it
    is added.
    """

    def __init__(self, p: int, mode: str, fma: bool, exp64):
        self.p, self.mode, self.fused, self.exp64 = p, mode, fma, exp64
        self.range = (-1022, 1023) if p == 53 else (-126, 127)

    def round(self, q, mode=None) -> float:
        return round_fraction(Fraction(q), self.p, mode or self.mode, *self.range)

    def const(self, a: float) -> float:
        return self.round(a, "nearest")

    def add(self, a: float, b: float) -> float:
        return self.round(Fraction(a) + Fraction(b))

    def sub(self, a: float, b: float) -> float:
        return self.round(Fraction(a) - Fraction(b))

    def mul(self, a: float, b: float) -> float:
        return self.round(Fraction(a) * Fraction(b))

    def div(self, a: float, b: float) -> float:
        return self.round(Fraction(a) / Fraction(b))

    def sqrt(self, a: float) -> float:
        return self.round(sqrt_fraction(Fraction(a))) if a else 0.0

    def fma(self, a: float, b: float, c: float) -> float:
        if not self.fused:
            return self.add(self.mul(a, b), c)
        return self.round(Fraction(a) * Fraction(b) + Fraction(c))

    def exp(self, a: float) -> float:
        return self.round(self.exp64(a))


class Plain:
    """Python's own float64 operations, without fma."""

    def __init__(self, exp64):
        self.exp = exp64

    const = staticmethod(float)
    add = staticmethod(lambda a, b: a + b)
    sub = staticmethod(lambda a, b: a - b)
    mul = staticmethod(lambda a, b: a * b)
    div = staticmethod(lambda a, b: a / b)
    sqrt = staticmethod(math.sqrt)
    fma = staticmethod(lambda a, b, c: a * b + c)


def sigmoid(ops, z):
    """1/(1 + exp(0 - z))."""
    return ops.div(ops.const(1.0), ops.add(ops.const(1.0), ops.exp(ops.sub(0.0, z))))


def activate(ops, act: str, beta: float, z: float) -> tuple[float, float]:
    """An activation and its slope."""
    if act == "identity":
        return z, 1.0
    if act == "relu":
        return (z, 1.0) if z > 0 else (0.0, 0.0)
    if act == "smelu":
        b, b2, b4 = (ops.const(k * beta) for k in (1.0, 2.0, 4.0))
        if z <= -b:
            return 0.0, 0.0
        if z >= b:
            return z, 1.0
        s = ops.add(z, b)
        return ops.div(ops.mul(s, s), b4), ops.div(s, b2)
    u = ops.mul(ops.const(beta), z)
    s = sigmoid(ops, u)
    slope = ops.add(s, ops.mul(u, ops.mul(s, ops.sub(1.0, s))))
    return ops.mul(z, s), slope


class Network:
    """A model in training, one number at a time, with the sums in the order in which they stand.

    w: parameters by name, as nested lists: e0 and e1 [feature][2], w0, w1, ... [below][unit],
    b0, b1, ... [unit].  `setting` has act, beta, optimizer and the optimizer's settings.  `real`:
    features are numbers and not 0 and 1.
    """

    def __init__(self, ops, setting, w: dict, real: bool = False):
        self.ops, self.setting, self.step, self.real = ops, setting, 0, real
        self.w = {name: [_list(row) for row in value] for name, value in w.items()}
        self.layers = sum(name.startswith("w") for name in w)
        starts = tuple(map(ops.const, self.starts()))
        self.state = {
            name: [[starts] * len(row) for row in value] for name, value in self.w.items()
        }

    def forward(self, x: list[int]) -> tuple[list, list]:
        """z and the activations of every layer for one example; the first is the embedding."""
        z, h, w, ops = [], [], self.w, self.ops
        below: list = x
        if "e0" in w:
            half = len(x) // 2
            below = []
            for part in (0, 1):
                for c in (0, 1):
                    total = 0.0
                    for j in range(half):
                        if self.real:
                            total = ops.fma(x[part * half + j], w[f"e{part}"][j][c], total)
                        elif x[part * half + j]:
                            total = ops.add(total, w[f"e{part}"][j][c])
                    below.append(total)
        h.append(below)
        for k in range(self.layers):
            sums = []
            for u in range(len(w[f"b{k}"])):
                total = 0.0
                for j in range(len(below)):
                    if k > 0 or "e0" in w or self.real:
                        total = ops.fma(below[j], w[f"w{k}"][j][u], total)
                    elif x[j]:
                        total = ops.add(total, w["w0"][j][u])
                sums.append(ops.add(total, w[f"b{k}"][u][0]))
            z.append(sums)
            if k < self.layers - 1:
                act, beta = self.setting.act, self.setting.beta
                below = [activate(ops, act, beta, v)[0] for v in sums]
            h.append(below)
        return z, h

    def logit(self, x: list[int]) -> float:
        return self.forward(x)[0][-1][0]

    def gradients(self, xs: list[list[int]], ys: list[int]) -> dict:
        """Back-propagation of the mini-batch's mean loss."""
        ops, w, size = self.ops, self.w, float(len(ys))
        z, h, delta = [], [], []
        for x, y in zip(xs, ys, strict=True):
            zs, hs = self.forward(x)
            z.append(zs)
            h.append(hs)
            delta.append([ops.div(ops.sub(sigmoid(ops, zs[-1][0]), float(y)), size)])
        g = {}
        for k in range(self.layers - 1, -1, -1):
            units = len(w[f"b{k}"])
            if k < self.layers - 1:
                for i in range(len(ys)):
                    for u in range(units):
                        act, beta = self.setting.act, self.setting.beta
                        slope = activate(ops, act, beta, z[i][k][u])[1]
                        delta[i][u] = ops.mul(delta[i][u], slope)
            g[f"b{k}"] = [[self.total([d[u] for d in delta])] for u in range(units)]
            features = k == 0 and "e0" not in w
            g[f"w{k}"] = [
                [
                    self.present(xs, delta, j, u)
                    if features
                    else self.dot([hs[k][j] for hs in h], [d[u] for d in delta])
                    for u in range(units)
                ]
                for j in range(len(w[f"w{k}"]))
            ]
            if not features:
                delta = [[self.dot(row, d) for row in w[f"w{k}"]] for d in delta]
        if "e0" in w:
            half = len(xs[0]) // 2
            for part in (0, 1):
                g[f"e{part}"] = [
                    [self.present(xs, delta, part * half + j, 2 * part + c) for c in (0, 1)]
                    for j in range(half)
                ]
        return g

    def total(self, terms: list[float]) -> float:
        s = 0.0
        for term in terms:
            s = self.ops.add(s, term)
        return s

    def dot(self, a: list[float], b: list[float]) -> float:
        s = 0.0
        for one, other in zip(a, b, strict=True):
            s = self.ops.fma(one, other, s)
        return s

    def present(self, xs, delta, j: int, u: int) -> float:
        """The sum of δ over the examples that have feature j; of real ones, of x·δ."""
        if self.real:
            return self.dot([x[j] for x in xs], [d[u] for d in delta])
        return self.total([d[u] for x, d in zip(xs, delta, strict=True) if x[j]])

    def train_step(self, xs: list[list[int]], ys: list[int]) -> None:
        g = self.gradients(xs, ys)
        rate = self.rate()
        for name, rows in self.w.items():
            for j, row in enumerate(rows):
                for u in range(len(row)):
                    row[u], self.state[name][j][u] = self.update(
                        row[u], self.state[name][j][u], g[name][j][u], self.ops.const(rate)
                    )
        self.step += 1

    def starts(self) -> tuple[float, ...]:
        """Where the optimizer's state starts."""
        s = self.setting
        starts = {"sgd": (0.0,), "adagrad": (s.initial_accumulator,), "adam": (0.0, 0.0)}
        return starts[s.optimizer]

    def rate(self) -> float:
        """The rate of the step, in float64."""
        s = self.setting
        if s.optimizer == "adam":
            first, second = (power(b, self.step + 1) for b in (s.beta1, s.beta2))
            return s.lr * math.sqrt(1.0 - second) / (1.0 - first)
        return s.lr / (1.0 + s.decay * self.step) if s.optimizer == "sgd" else s.lr

    def update(self, w: float, state: tuple[float, ...], g: float, rate: float) -> tuple:
        """A weight and its state after the update."""
        ops, s = self.ops, self.setting
        if s.optimizer == "sgd":
            v = ops.fma(ops.const(s.momentum), state[0], ops.sub(0.0, ops.mul(rate, g)))
            return ops.add(w, v), (v,)
        if s.optimizer == "adam":
            (m, v), c1, c2 = state, ops.const(1.0 - s.beta1), ops.const(1.0 - s.beta2)
            m = ops.fma(c1, ops.sub(g, m), m)
            v = ops.fma(c2, ops.fma(g, g, ops.sub(0.0, v)), v)
            root = ops.add(ops.sqrt(v), ops.const(s.epsilon))
            return ops.sub(w, ops.div(ops.mul(rate, m), root)), (m, v)
        a, epsilon = ops.fma(g, g, state[0]), ops.const(s.epsilon)
        if s.epsilon_place == "inside":
            root = ops.sqrt(ops.add(a, epsilon))
        elif s.epsilon_place == "outside":
            root = ops.add(ops.sqrt(a), epsilon)
        else:
            root = ops.sqrt(a)
        return ops.sub(w, ops.div(ops.mul(rate, g), root)), (a,)


def power(base: float, n: int) -> float:
    """baseⁿ by squaring, from the lowest binary digit of n on."""
    found = 1.0
    while n:
        found, base, n = found * base if n % 2 else found, base * base, n // 2
    return found


def _list(row) -> list[float]:
    """A row of weights, or one bias as a row, as Python floats."""
    return [float(v) for v in row] if hasattr(row, "__len__") else [float(row)]


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 of four counter words and two key words, in Python integers."""
    c0, c1, c2, c3 = (int(c) for c in counter)
    k0, k1 = (int(k) for k in key)
    for number in range(10):
        if number:
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return [c0, c1, c2, c3]


def shuffled(n: int, key: tuple[int, int], block: int) -> list[int]:
    """Fisher-Yates from the last place down; place i draws from half a Philox call."""
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        w = philox((i // 2, block % 2**32, block // 2**32, 1), key)
        high, low = w[2:] if i % 2 else w[:2]
        j = (high * 2**32 + low) * (i + 1) // 2**64
        order[i], order[j] = order[j], order[i]
    return order


def tree_of(plan):
    """A summation plan as nested pairs of leaves, and the slots that end in use."""
    slots: dict = {}
    for slot, source in plan:
        term = source if source >= 0 else slots.pop(~source)
        slots[slot] = (slots[slot], term) if slot in slots else term
    return slots


def leaves_of(tree) -> list[int]:
    """The leaves of nested pairs, from left to right."""
    return leaves_of(tree[0]) + leaves_of(tree[1]) if isinstance(tree, tuple) else [int(tree)]
