"""What the caller's examples are, in a line of text that a configuration holds.

The line has their kind, their numbers and a digest of all of them, so that a run of other examples
is another run, wherever the file lies and whatever it is called.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

BINARY, REAL = "binary", "real"
FORM = re.compile(rf"({BINARY}|{REAL}):([1-9]\d*)\+(0|[1-9]\d*)x([1-9]\d*):([0-9a-f]{{64}})", re.A)
RIGHT = "what a run of the examples prints, as real:455+114x30: and 64 hex digits"


@dataclass(frozen=True)
class Content:
    """What the caller's examples are.

    Attributes
    ----------
    kind : {"binary", "real"}
        Whether every feature is 0 or 1, or they are real numbers.
    examples, evaluation : int
        Training and evaluation examples, the latter 0 where none are given apart.
    features : int
        Of each example.
    sha256 : str
        Digest of all features and labels (docs/arithmetic.md, "The caller's examples"), 64 hex
        digits.

    Examples
    --------
    >>> content = Content("binary", 455, 114, 30, 64 * "0")
    >>> str(content)[:18], content_of(str(content)) == content
    ('binary:455+114x30:', True)
    """

    kind: str
    examples: int
    evaluation: int
    features: int
    sha256: str

    @property
    def is_real(self) -> bool:
        return self.kind == REAL

    def __str__(self) -> str:
        n, m, d = self.examples, self.evaluation, self.features
        return f"{self.kind}:{n}+{m}x{d}:{self.sha256}"


@lru_cache(maxsize=256)
def content_of(text: str) -> Content | None:
    """What a line says; None if it is no such line."""
    found = FORM.fullmatch(text)
    if not found or any(len(number) > 15 for number in found.groups()[1:4]):
        return None
    kind, *numbers, sha256 = found.groups()
    n, m, d = map(int, numbers)
    return Content(kind, n, m, d, sha256)
