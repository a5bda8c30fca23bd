"""exp in float32 from float32's own operations and a table, where its rounding is certain."""

from functools import cache

import numpy as np

from nanorepro.numerics.array_namespace import FastArrayNamespace, Function, Value
from nanorepro.numerics.exp_log import quick_exp

# T[j] = 2**(j/32) rounded to float32, as 2**23 * (T - 1); and 2**50 * (2**(j/32)/T - 1)
_TABLE = (
    0, 183687, 371395, 563215, 759234, 959546, 1164243, 1373424, 1587184, 1805626, 2028850,
    2256963, 2490071, 2728283, 2971711, 3220470, 3474675, 3734447, 3999908, 4271181, 4548394,
    4831678, 5121164, 5416990, 5719293, 6028216, 6343903, 6666503, 6996167, 7333050, 7677309,
    8029107,
)  # fmt: skip
_RESTS = (
    0, -53012520, 52112808, -62604792, -13501969, -54916964, 53252616, -39197560, 35954692,
    -30271694, 40769480, 1259230, -34892448, -29704628, -8416342, -47801608, 19268956, 25897912,
    -34313864, -18620738, 5892210, -40443052, 6876537, -35061136, -16572802, -31770758, -5920877,
    -7161160, -6899807, -28012850, 5787812, -9792252,
)  # fmt: skip
# log(2)/32 as the sum of a float32 number and the rest
LN2_32_HIGH, LN2_32_LOW = float.fromhex("0x1.62e43p-6"), float.fromhex("-0x1.05c61p-34")
ERROR = 5e-11  # of T * exp(r), before it is rounded; that of the formula is below 4.8e-11
LARGEST = 32.0  # |x| for which it is


@cache
def exp_by_table(xp: FastArrayNamespace) -> Function:
    """A vector x32 -> exp(x), correctly rounded to float32, as by `quick_exp` for every input.

    x = (32*k + j)*log(2)/32 + r, |r| < 0.011, r = h + d with h exact, and, R[j] the rest of T[j],

        exp(x) = 2**k * T[j] * (1 + R[j]) * exp(r),
        (1 + R) * exp(r) = 1 + h + h*h * (1/2 + h/6 + h*h/24) + (R + d)*(1 + h) + O(2**-38).

    What T + T*h loses by rounding is another fma, and joins the small terms.  If the sum rounds to
    the same number with ERROR more and less, so does exp(x).  A vector with a number of which that
    is not so, one of 1,200, or with a large one goes `quick_exp`'s way (Ziv, ACM Trans. Math.
    Software 17, 1991).  Terms wait for each other as little as possible.
    """
    bits, from_bits, fma, any_true = xp.bits, xp.from_bits, xp.fma, xp.any_true
    lookup, by_float64 = xp.lookup, quick_exp(xp)
    table = tuple(np.float32(1.0 + m * 2.0**-23) for m in _TABLE)
    rests = tuple(np.float32(m * 2.0**-50) for m in _RESTS)
    per_log2, magic = np.float32(32.0 / np.log(2.0)), np.float32(1.5 * 2.0**23)
    high, low = np.float32(-LN2_32_HIGH), np.float32(-LN2_32_LOW)
    c2, c3, c4 = np.float32(0.5), np.float32(1.0 / 6.0), np.float32(1.0 / 24.0)
    error, magnitude = np.float32(ERROR), np.uint32(0x7FFFFFFF)
    exponent, width = np.uint32(0xFF800000), np.uint32(18)
    largest = np.float32(LARGEST)

    @xp.function
    def exp_by_table(x: Value) -> Value:
        shifted = fma(x, per_log2, magic)
        n, j = shifted - magic, bits(shifted)
        t, h = lookup(table, j), fma(n, high, x)
        y = fma(t, h, t)
        small = fma(n, low, lookup(rests, j))
        rest = fma(small, y, fma(t, h, t - y))
        rest = fma(t * (h * h), fma(fma(h, c4, c3), h, c2), rest)
        above, below = y + (rest + error), y + (rest - error)
        if any_true((above != below) | (from_bits(bits(x) & magnitude) > largest)):
            return by_float64(x)
        return from_bits(bits(above) + ((j << width) & exponent))

    return exp_by_table
