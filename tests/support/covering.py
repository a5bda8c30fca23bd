"""Few cases of many, in which all that may depend on each other meets."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from typing import TypeVar

Case = TypeVar("Case", bound=tuple)


def pairwise(cases: Iterable[Case]) -> list[Case]:
    """Some of the cases: any two values that are together in one of all are in one of these.

    Greedily, the case with the most pairs that are new; of equal ones that whose values were used
    least, and of these the first.
    """
    left = {case: {*combinations(enumerate(case), 2)} for case in cases}
    missing = set().union(*left.values())
    used: Counter = Counter()
    found = []

    def gain(case: Case) -> tuple[int, int]:
        return len(left[case] & missing), -sum(used[value] for value in enumerate(case))

    while missing:
        case = max(left, key=gain)
        found.append(case)
        used.update(enumerate(case))
        missing -= left.pop(case)
    return found
