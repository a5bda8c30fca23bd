"""A fourth execution, written from docs/arithmetic.md alone: plain Python, one number at a time.

It shares with the project the constants of exp and log, and no other line.
"""

import hashlib
import math
import struct
from fractions import Fraction

import golden
import numpy as np
import pytest
from oracles.naive import round_fraction

from nanorepro.numerics.exp_log import EXP_COEFFICIENTS, LN2_HIGH, LN2_LOW, LOG_COEFFICIENTS

M32 = 0xFFFFFFFF
NUMBER = {"theta": 1, "examples": 3, "init": 5, "shuffle": 6}
f32 = np.float32


def philox(key, counter):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & M32, (a >> 32) ^ c[3] ^ k[1], a & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def key(seed, stream, pair=0, model=0):
    return philox((seed & M32, seed >> 32), (NUMBER[stream], pair, model, 0))[:2]


def below(a, b, n):
    return (a * n + (b * n >> 32)) >> 32


def uniform(a):
    return (a + 0.5) * 2.0**-32


def permutation(k, block, n):
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        w = philox(k, (i // 2, block & M32, block >> 32, 1))
        a, b = w[2:] if i % 2 else w[:2]
        j = below(a, b, i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def pattern(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def number(bits):
    return struct.unpack("<d", struct.pack("<Q", bits & (2**64 - 1)))[0]


def exp64(x):
    c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 = EXP_COEFFICIENTS
    x = min(max(x, -746.0), 710.0)
    big = 1.5 * 2.0**52 + 2046
    shifted = x * float.fromhex("0x1.71547652b82fep+0") + big
    k = shifted - big
    r = x - k * LN2_HIGH
    d = k * LN2_LOW
    p = c8 + r * (c9 + r * (c10 + r * (c11 + r * c12)))
    p = c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * p))))
    q = r * r
    half, g, line = 0.5 * q, (q * r) * p, 1 + r
    lost = r - (line - 1)
    e = line + (half + g)
    y = line + (half + (g + (lost - d * e)))
    n = pattern(shifted)
    f = n // 2
    return (y * number(f << 52)) * number((n - f) << 52)


def log64(x):
    m, k = math.frexp(x)
    root = math.sqrt(0.5)
    if m < root:
        m, k = 2 * m, k - 1
    f = m - 1
    t = 2 + f
    th = number(pattern(t) >> 27 << 27)
    tl = f - (th - 2)
    i = 1 / t
    s = f * i
    sh = number(pattern(s) >> 27 << 27)
    sl = ((f - sh * th) - sh * tl) * i
    s = sh + sl
    z = s * s
    q = LOG_COEFFICIENTS
    p = q[4] + z * (q[5] + z * (q[6] + z * q[7]))
    p = q[0] + z * (q[1] + z * (q[2] + z * (q[3] + z * p)))
    a, b = k * LN2_HIGH, 2 * sh
    h = a + b
    return h + ((b - (h - a)) + (2 * sl + (k * LN2_LOW + (s * z) * p)))


class World:
    """The linear world of a seed."""

    def __init__(self, seed):
        k = key(seed, "theta")
        self.theta = [self.component(k, c) for c in range(32)]
        chance = [1.0]
        for j in range(1, 17):
            p = 6 / ((j * math.pi) * (j * math.pi))
            chance = [v * (1 - p) for v in chance] + [v * p for v in chance]
        weight = [math.floor(v * 2.0**48 + 0.5) for v in chance]
        weight[weight.index(max(weight))] += 2**48 - sum(weight)
        self.accept, self.alias = [2**32 - 1] * 2**16, list(range(2**16))
        small = [c for c, v in enumerate(weight) if v < 2**32]
        large = [c for c, v in enumerate(weight) if v >= 2**32]
        while small and large:
            a, g = small.pop(), large[-1]
            self.accept[a], self.alias[a] = weight[a], g
            weight[g] -= 2**32 - weight[a]
            if weight[g] < 2**32:
                small.append(large.pop())

    @staticmethod
    def component(k, c):
        mean = (-2.0, 0.0, 2.0)[math.floor(3 * uniform(philox(k, (c, 0, 0, 0))[0]))]
        attempt, q = 0, 2.0
        while q >= 1:
            attempt += 1
            w = philox(k, (c, 0, attempt, 0))
            u, v = 2 * uniform(w[0]) - 1, 2 * uniform(w[1]) - 1
            q = u * u + v * v
        return mean + u * math.sqrt((-2 * log64(q)) / q)

    def example(self, k, index):
        w = philox(k, (index & M32, index >> 32, 0, 0))
        x, odds = [], 1.0
        for half, (column, coin) in enumerate(((w[0] & 0xFFFF, w[1]), (w[0] >> 16, w[2]))):
            c = column if coin < self.accept[column] else self.alias[column]
            on = [16 * half + j for j in range(16) if c >> j & 1]
            x += on
            total = 0.0
            for j in on:
                total += self.theta[j]
            odds = odds * exp64(total)
        return x, int(uniform(w[3]) * (1 + odds) < odds)


def fma(a, b, c):
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    return f32(round_fraction(exact, 24, "nearest"))


def trained(config, pair, model, world):
    """The parameters of a tower: relu, AdaGrad with epsilon outside the root, all sums chains."""
    widths = [32, *config.widths, 1]
    k = key(config.seed, "init", config.first_stream + pair, model if "init" in config.roles else 0)
    w, b = [], []
    for at, (rows, columns) in enumerate(zip(widths, widths[1:], strict=False)):
        limit = math.sqrt(6 / (rows + columns))
        u = [uniform(philox(k, (e, 0, 2 * at, 0))[0]) for e in range(rows * columns)]
        values = np.array([f32(limit * (2 * v - 1)) for v in u])
        w.append(values.reshape(rows, columns))
        b.append(np.zeros(columns, f32))
    state = [np.full_like(v, config.initial_accumulator) for v in (*w, *b)]
    number, shuffled = config.first_stream + pair, "shuffle" in config.roles
    examples = key(config.seed, "examples", pair)
    shuffle = key(config.seed, "shuffle", number, model if shuffled else 0)
    order = []
    for window in range(config.examples // config.window):
        places = permutation(shuffle, window, config.window)
        order += [config.first_example + window * config.window + i for i in places]
    for step in range(config.steps):
        batch = order[step * config.batch : (step + 1) * config.batch]
        data = [world.example(examples, i) for i in batch]
        step_of(config, data, w, b, state)
    return [v for both in zip(w, b, strict=True) for v in both]


def step_of(config, data, w, b, state):
    zero, one = f32(0), f32(1)
    gw, gb = [np.zeros_like(v) for v in w], [np.zeros_like(v) for v in b]
    for on, y in data:
        h, z = [], []
        for k in range(len(w)):
            total = np.zeros(w[k].shape[1], f32)
            for u in range(len(total)):
                for j in on if k == 0 else range(len(h[-1])):
                    total[u] = (
                        total[u] + w[k][j, u] if k == 0 else fma(h[-1][j], w[k][j, u], total[u])
                    )
                total[u] = total[u] + b[k][u]
            z.append(total)
            h.append(np.array([zero if v <= 0 else v for v in total], f32))
        p = one / (one + f32(exp64(float(zero - z[-1][0]))))
        delta = [(p - f32(y)) / f32(config.batch)]
        # one example after another: each sum is a chain over the mini-batch
        for k in range(len(w) - 1, -1, -1):
            if k < len(w) - 1:
                delta = [d * (one if v > 0 else zero) for d, v in zip(delta, z[k], strict=True)]
            for u, d in enumerate(delta):
                gb[k][u] = gb[k][u] + d
                for j in on if k == 0 else range(w[k].shape[0]):
                    gw[k][j, u] = gw[k][j, u] + d if k == 0 else fma(h[k - 1][j], d, gw[k][j, u])
            under = []
            for j in range(w[k].shape[0] if k else 0):
                total = zero
                for u, d in enumerate(delta):
                    total = fma(w[k][j, u], d, total)
                under.append(total)
            delta = under
    rate, epsilon = f32(config.lr), f32(config.epsilon)
    for v, a, g in zip((*w, *b), state, (*gw, *gb), strict=True):
        for e in range(v.size):
            a.flat[e] = fma(g.flat[e], g.flat[e], a.flat[e])
            v.flat[e] = v.flat[e] - (rate * g.flat[e]) / (np.sqrt(a.flat[e]) + epsilon)


@pytest.mark.parametrize("name", ["later", "linear"])
def test_a_stranger_gets_the_same_fingerprint(name):
    config = golden.Config(**golden.cases()[name])
    world, digest = World(config.seed), hashlib.sha256()
    for pair in range(config.pairs):
        for model in (0, 1):
            for value in trained(config, pair, model, world):
                digest.update(value.astype("<f4").tobytes())
    assert digest.hexdigest() == golden.read()["rows"][name]["fingerprint"]
