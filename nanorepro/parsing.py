"""Numbers from text, the one way in which every option and file takes them.

ASCII digits, a sign, a decimal point and an exponent: no blanks, no underscores, no digits of other
scripts, no `nan` and no `inf`, all of which Python's `int` and `float` would take.
"""

import math
import re

WHOLE = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)
REAL = re.compile(r"[+-]?([0-9]{1,400}(\.[0-9]{0,400})?|\.[0-9]{1,400})([eE][+-]?[0-9]{1,9})?")


def whole_number(text: str) -> int:
    """The whole number of a text such as 20 or -3; raises ValueError for anything else.

    Examples
    --------
    >>> whole_number("20")
    20
    """
    if not WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def real_number(text: str) -> float:
    """The finite float64 nearest to a text such as 0.1, 3 or 1e-7; raises ValueError.

    Examples
    --------
    >>> real_number("1e-7")
    1e-07
    """
    value = float(text) if REAL.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value
