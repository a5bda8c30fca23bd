"""Shapley values and interactions of games whose values are planted."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanorepro.analysis.shapley import interaction_weights, members, shapley_weights

numbers = st.floats(-1e3, 1e3)


@st.composite
def games(draw, least=1):
    """The number of players, and a value of every coalition."""
    k = draw(st.integers(least, 5))
    return k, np.array(draw(st.lists(numbers, min_size=1 << k, max_size=1 << k)))


@given(games())
def test_the_values_add_up_to_the_whole(game):
    k, v = game
    assert (shapley_weights(k) @ v).sum() == pytest.approx(v[-1] - v[0], abs=1e-9)


@given(games(least=2), st.data())
def test_equal_players_have_equal_values(game, data):
    k, v = game
    i, j = data.draw(st.permutations(range(k)))[:2]
    there = members(k).copy()
    there[:, [i, j]] = there[:, [j, i]]
    v = v + v[there @ (1 << np.arange(k))]
    phi = shapley_weights(k) @ v
    assert phi[i] == pytest.approx(phi[j], abs=1e-9)


@given(games(least=2), st.data(), numbers)
def test_a_player_that_always_adds_the_same_has_that_value_and_interacts_with_nobody(
    game, data, adds
):
    k, v = game
    i = data.draw(st.integers(0, k - 1))
    there = members(k)[:, i]
    v = v[np.arange(1 << k) & ~(1 << i)] + adds * there
    assert (shapley_weights(k) @ v)[i] == pytest.approx(adds, abs=1e-9)
    for pair, weights in interaction_weights(k).items():
        if i in pair:
            assert weights @ v == pytest.approx(0.0, abs=1e-8)


@given(games())
def test_it_is_the_mean_over_all_orders_of_joining(game):
    k, v = game
    phi = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        coalition = 0
        for i in order:
            phi[i] += v[coalition | 1 << i] - v[coalition]
            coalition |= 1 << i
    assert shapley_weights(k) @ v == pytest.approx(phi / len(orders), abs=1e-8)


@given(games(least=2), st.data(), numbers)
def test_an_interaction_of_two_is_what_both_together_get(game, data, together):
    k, v = game
    i, j = sorted(data.draw(st.permutations(range(k)))[:2])
    both = members(k)[:, [i, j]].all(axis=1)
    change = interaction_weights(k)[i, j] @ (v + together * both) - interaction_weights(k)[i, j] @ v
    assert change == pytest.approx(together, abs=1e-8)
