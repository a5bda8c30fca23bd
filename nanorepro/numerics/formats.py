"""Number formats and roundings by their names."""

from contextlib import suppress

from nanorepro.parsing import whole_number

PRECISIONS = ("float32", "float64", "bits:p")
ROUNDINGS = ("nearest", "stochastic", "toward-zero")


def significand_bits(precision: str) -> int:
    """The p of `float64` (53), `float32` (24) or `bits:p` (2 <= p <= 24); ValueError for others."""
    if precision in ("float64", "float32"):
        return 53 if precision == "float64" else 24
    kind, _, p = precision.partition(":")
    with suppress(ValueError):
        if kind == "bits" and 2 <= whole_number(p) <= 24:
            return whole_number(p)
    raise ValueError(f"precision {precision!r}: expected float64, float32 or bits:2 to bits:24")
