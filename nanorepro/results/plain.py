"""Records as JSON has them."""

import math
from collections.abc import Mapping
from typing import Any


def finite_or_null(value: Any) -> Any:
    """A record for JSON, with null in place of NaN and infinity.

    Examples
    --------
    >>> finite_or_null({"pd": [0.5, float("nan")]})
    {'pd': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {k: finite_or_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
