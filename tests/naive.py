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
