"""The few cases of many that tests take: no two values that meet in one of all never meet."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from support.covering import pairwise


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), max_size=60))
def test_any_two_values_that_meet_in_a_case_meet_in_one_that_is_taken(cases):
    found = pairwise(cases)
    assert {*found} <= {*cases}
    assert len(found) == len({*found})
    for some in combinations(range(4), 2):
        met = {tuple(case[k] for k in some) for case in cases}
        assert {tuple(case[k] for k in some) for case in found} == met


def test_a_whole_product_takes_few():
    assert len(pairwise([(a, b, c) for a in range(5) for b in range(5) for c in range(5)])) <= 35
