"""Random streams: known answers, keys, permutations and random trees with their distributions."""

from collections import Counter
from itertools import permutations as orders_of
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import naive
from scipy import stats

from nanorepro.backends import reference
from nanorepro.backends.numba import draws
from nanorepro.numerics.plans import order_of, plan
from nanorepro.numerics.streams import (
    STREAMS,
    bounded,
    permutation,
    philox,
    stream_key,
    uniform,
    words,
)

KEY = stream_key(1, "shuffle")
WORD = st.integers(0, 2**32 - 1)
LIKELY = 1e-3  # a p-value at a fixed seed is not below


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_answers_of_philox(counter, key, answer):
    """Random123's kat_vectors for philox4x32, 10 rounds."""
    numbers = [np.uint64(v) for v in (*counter, *key)]
    assert tuple(int(w) for w in philox(*numbers)) == answer
    several = philox(*(np.full(3, v) for v in numbers))
    assert [w.tolist() for w in several] == [[v] * 3 for v in answer]
    assert naive.philox(counter, key) == list(answer)


@given(counter=st.tuples(WORD, WORD, WORD, WORD), key=st.tuples(WORD, WORD))
def test_philox_against_python_integers(counter, key):
    found = philox(*(np.uint64(v) for v in (*counter, *key)))
    assert [int(w) for w in found] == naive.philox(counter, key)


def test_keys_are_distinct():
    seeds = (0, 1, 2, 2**32 - 1, 2**32, 2**32 + 1, 2**64 - 1)
    keys = [
        tuple(stream_key(seed, stream, pair, model).tolist())
        for seed, stream, pair, model in product(seeds, STREAMS, range(20), (0, 1))
    ]
    assert len(set(keys)) == len(keys)
    assert len({key[0] for key in keys}) > len(keys) - 3 and max(map(max, keys)) < 2**32
    assert len(set(STREAMS.values())) == len(STREAMS)


def test_a_key_is_two_words_of_philox():
    seed = 0x0123456789ABCDEF
    expected = naive.philox((STREAMS["nudge"], 7, 1, 0), (0x89ABCDEF, 0x01234567))[:2]
    assert stream_key(seed, "nudge", 7, 1).tolist() == expected


@settings(max_examples=30)
@given(first=st.integers(0, 2**40), block=st.integers(0, 2**32 - 1))
def test_any_word_is_addressable(first, block):
    counters = np.arange(first, first + 5)
    together = words(KEY, counters, block)
    for i, c in enumerate(counters.tolist()):
        expected = naive.philox((c % 2**32, c // 2**32, block, 0), KEY)
        assert [int(w[i]) for w in together] == expected


def test_uniform_values():
    values = uniform(KEY, 100_000)
    assert values.min() > 0 and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > LIKELY
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / np.sqrt(values.size)
    other = uniform(KEY, 100_000, 1)
    assert abs(np.corrcoef(values, other)[0, 1]) < 4 / np.sqrt(values.size)
    assert np.array_equal(values[:10], uniform(KEY, 10))


@given(high=WORD, low=WORD, n=st.integers(1, 2**32))
def test_bounded_is_exact(high, low, n):
    found = bounded(np.uint64(high), np.uint64(low), np.uint64(n))
    assert int(found) == (high * 2**32 + low) * n // 2**64 < n


# Permutations.


def permutations(backend, key, first, count, n):
    """The permutations first, ..., first + count - 1 of count·n numbers in rows of n, flat."""
    rows = np.arange(count * n, dtype=np.uint64).reshape(count, n)
    backend.shuffle(rows, key, first)
    return rows.ravel()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 34, 100, 257])
@pytest.mark.parametrize("first", [0, 2**32 - 1, 2**40 + 3])
def test_permutations_of_both_backends_and_by_integers(n, first):
    rows = permutations(reference, KEY, first, 3, n).reshape(3, n)
    fast = permutations(draws, KEY, first, 3, n).reshape(3, n)
    assert np.array_equal(rows, fast)
    for k in range(3):
        assert (rows[k] - np.uint64(k * n)).tolist() == naive.shuffled(n, KEY, first + k)
        assert sorted(rows[k] - np.uint64(k * n)) == list(range(n))


@pytest.mark.parametrize(("count", "n"), [(1, 1), (70, 32), (33, 33), (3, 257), (2, 3000)])
def test_shuffled_and_split_is_shuffled_then_split(count, n):
    rows = np.random.default_rng(0).integers(0, 2**33, (count, n), np.uint64)
    before = rows.copy()
    x, y = np.empty((2, count * n), np.uint32), np.empty((2, count * n), np.uint8)
    for k, backend in enumerate((reference, draws)):
        backend.shuffle_and_split(rows, KEY, 2**32 - 2, x[k], y[k])
    assert np.array_equal(rows, before)
    reference.shuffle(rows, KEY, 2**32 - 2)
    for k in range(2):
        assert np.array_equal(x[k] + (y[k].astype(np.uint64) << np.uint64(32)), rows.ravel())


@pytest.mark.parametrize("n", [1, 15, 16, 17, 5000])
def test_both_backends_draw_the_same_uniform_values(n):
    assert np.array_equal(draws.uniform(KEY, n, 3), uniform(KEY, n, 3))


def test_a_long_permutation():
    n = 100_003
    assert np.array_equal(permutations(draws, KEY, 5, 1, n), permutation(KEY, 5, n))


def test_all_permutations_of_four_are_equally_frequent():
    count = 48_000
    rows = permutations(draws, KEY, 0, count, 4).reshape(-1, 4) % 4
    frequency = Counter(map(tuple, rows.tolist()))
    assert set(frequency) == set(orders_of(range(4)))
    assert stats.chisquare(list(frequency.values())).pvalue > LIKELY
    # and one says nothing of the next
    both = Counter(zip(map(tuple, rows[:-1]), map(tuple, rows[1:]), strict=True))
    assert stats.chisquare([*both.values(), *[0] * (576 - len(both))]).pvalue > LIKELY


@pytest.mark.parametrize("n", [32, 33])
def test_every_value_is_equally_frequent_at_every_place(n):
    count = 20_000
    rows = permutations(draws, KEY, 0, count, n).reshape(-1, n) % n
    table = np.zeros((n, n))
    for place in range(n):
        table[place] = np.bincount(rows[:, place], minlength=n)
    # rows and columns have fixed sums, so (n - 1)² degrees of freedom with a factor (n - 1)/n
    statistic = ((table - count / n) ** 2 / (count / n)).sum() * (n - 1) / n
    assert LIKELY < stats.chi2.sf(statistic, (n - 1) ** 2) < 1 - LIKELY
    # of two neighbours, each is as often the greater
    rises = (rows[:, 1:] > rows[:, :-1]).sum(axis=1)
    assert abs(rises.mean() - (n - 1) / 2) < 4 * rises.std() / np.sqrt(count)


def test_streams_of_pairs_and_models_are_independent():
    """Two random permutations agree in one place on average, with variance 1."""
    n, count = 32, 4000
    streams_of = [stream_key(0, "shuffle"), stream_key(0, "shuffle", 0, 1)]
    streams_of += [stream_key(0, "shuffle", 1), stream_key(1, "shuffle"), stream_key(0, "order")]
    rows = [permutations(draws, key, 0, count, n) % n for key in streams_of]
    for a in range(len(rows)):
        for b in range(a):
            agree = (rows[a] == rows[b]).sum() / count
            assert abs(agree - 1) < 4.5 / np.sqrt(count)


# Random trees.


def trees_by_numba(n, first, count):
    plans = np.empty((count, 2 * n - 1, 2), np.int64)
    draws.random_trees(plans, n, KEY, first)
    return plans


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_random_trees_are_trees_on_both_backends(n):
    for first in (0, 2**32 - 1):
        fast = trees_by_numba(n, first, 3)
        for k in range(3):
            rows = plan("random", "given", n, KEY, first + k)
            assert np.array_equal(rows, fast[k])
            tree = naive.tree_of(rows.tolist())
            assert list(tree) == [0] and sorted(naive.leaves_of(tree[0])) == list(range(n))


def unordered(tree):
    return frozenset(map(unordered, tree)) if isinstance(tree, tuple) else tree


def test_random_trees_of_four_have_their_frequencies():
    """Of the 6·3 ways to join, 2 lead to each tree of two pairs, 1 to each of the other 12."""
    frequency = Counter(
        unordered(naive.tree_of(rows)[0]) for rows in trees_by_numba(4, 0, 18_000).tolist()
    )
    assert len(frequency) == 15
    expected = [2000 if all(isinstance(p, frozenset) for p in t) else 1000 for t in frequency]
    assert sum(expected) == 18_000
    assert stats.chisquare(list(frequency.values()), expected).pvalue > LIKELY


def test_leaf_orders():
    assert order_of("given", 5, KEY, 3).tolist() == [0, 1, 2, 3, 4]
    assert order_of("reversed", 5, KEY, 3).tolist() == [4, 3, 2, 1, 0]
    assert order_of("random", 50, KEY, 3).tolist() == naive.shuffled(50, KEY, 3)
    drawn = plan("random", "random", 6, KEY, 3), plan("random", "given", 6, KEY, 3)
    relabel = naive.shuffled(6, KEY, 3)
    leaves = drawn[1][:, 1] >= 0
    assert drawn[0][leaves, 1].tolist() == [relabel[i] for i in drawn[1][leaves, 1]]
    assert np.array_equal(drawn[0][:, 0], drawn[1][:, 0])
