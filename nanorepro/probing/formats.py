"""The floating types whose sums are revealed; without NumPy, so that `--help` answers at once."""

from dataclasses import dataclass

LONGEST = 2048  # terms


@dataclass(frozen=True)
class Format:
    """A floating type whose sums are revealed.

    Attributes
    ----------
    name : str
        The type's name, of NumPy, ml_dtypes and PyTorch.
    bits : int
        Its significand bits.
    big, one : float
        The terms M and 1.
    most : int
        The ones whose sum M absorbs, also in the float32 in which sums of float16 are held.
    """

    name: str
    bits: int
    big: float
    one: float
    most: int


FORMATS = {
    f.name: f
    for f in (
        Format("float16", 11, 2.0**15, 2.0**-14, 8),
        Format("bfloat16", 8, 2.0**120, 1.0, 1 << 8),
        Format("float32", 24, 2.0**120, 1.0, 1 << 24),
        Format("float64", 53, 2.0**1000, 1.0, 1 << 53),
    )
}
