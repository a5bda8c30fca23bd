"""Which cases of a long parametrised test the default run leaves to `.ci/run`."""

from collections.abc import Callable, Iterable

import pytest


def slow_unless(quick: Callable[..., bool], cases: Iterable) -> list:
    """The cases of a parametrised test, those marked `slow` of which `quick` is not true."""
    found = []
    for case in cases:
        values = case if isinstance(case, tuple) else (case,)
        found.append(case if quick(*values) else pytest.param(*values, marks=pytest.mark.slow))
    return found


def slow_after(n: int, cases: Iterable) -> list:
    """The cases of a parametrised test, all but the first n marked `slow`."""
    numbered = [(k, case) for k, case in enumerate(cases)]
    return [
        case
        if k < n
        else pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for k, case in numbered
    ]
