"""The two worlds: tables exactly, drawn examples by statistical tests at fixed seeds; packing."""

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import naive
from scipy import stats

from nanorepro import Config, ConfigError
from nanorepro.backends.numba import backend as numba_backend
from nanorepro.data import arrays, packing, sampling, worlds
from nanorepro.numerics import plans
from nanorepro.numerics.streams import stream_key
from nanorepro.results import metrics
from nanorepro.training.simulation import evaluation_set

WORLDS = ("linear", "quadratic")
MANY = 1 << 18
LIKELY = 1e-3  # a p-value at a fixed seed is not below

world_of = cache(worlds.make_world)


@cache
def drawn(name):
    """Many examples: features (n, 32), labels (n,) and true log-odds (n,)."""
    x, y = numba_backend.examples(world_of(3, name), stream_key(3, "examples", 2), 0, MANY)
    return packing.unpack(x[:, None], 32), y, sampling.example_log_odds(world_of(3, name), x)


def paper_rates(name):
    """P(x_j = 1), from the paper's sentences: two sets of 16, or eight blocks of 4."""
    if name == "linear":
        return np.array([6 / (j * math.pi) ** 2 for j in range(1, 17)] * 2)
    return np.array([90 / (j * math.pi) ** 4 for j in range(1, 5)] * 8)


def z_scores(found, n, p):
    return (found - n * p) / np.sqrt(n * p * (1 - p))


# Distributions.


@pytest.mark.parametrize("name", WORLDS)
def test_marginals(name):
    x, _, _ = drawn(name)
    rates = paper_rates(name)
    assert rates[0] == pytest.approx(0.608 if name == "linear" else 0.924, abs=1e-3)
    np.testing.assert_allclose(np.tile(worlds.marginals(name), 2), rates, rtol=1e-15)
    for found, p in zip(x.sum(axis=0).tolist(), rates.tolist(), strict=True):
        assert stats.binomtest(found, MANY, p).pvalue > LIKELY / 10
    z = z_scores(x.sum(axis=0), MANY, rates)
    assert LIKELY < stats.chi2.sf((z * z).sum(), 32) < 1 - LIKELY


@pytest.mark.parametrize("name", WORLDS)
def test_features_are_pairwise_independent(name):
    x, _, _ = drawn(name)
    rates = paper_rates(name)
    together = x.T.astype(np.float64) @ x.astype(np.float64)
    means = x.mean(axis=0)
    z = []
    for a in range(32):
        for b in range(a):
            p, q = rates[a], rates[b]
            if MANY * p * q >= 20:
                covariance = together[a, b] / MANY - means[a] * means[b]
                z.append(covariance / math.sqrt(p * (1 - p) * q * (1 - q) / MANY))
    z = np.array(z)
    assert len(z) > 250 and np.abs(z).max() < 4.5
    assert LIKELY < stats.chi2.sf((z * z).sum(), len(z)) < 1 - LIKELY


def test_the_two_halves_have_one_distribution():
    x, _, _ = drawn("linear")
    weights = 1 << np.arange(16)
    first, second = (x[:, h : h + 16] @ weights for h in (0, 16))
    common = [c for c, n in Counter(first.tolist()).most_common(200) if n > 100]
    table = [[(half == c).sum() for c in common] for half in (first, second)]
    assert stats.chi2_contingency(table).pvalue > LIKELY


@pytest.mark.parametrize("name", WORLDS)
def test_consecutive_examples_are_independent(name):
    x, y, _ = drawn(name)
    for a, b in [(x[:, 0], x[:, 0]), (x[:, 1], x[:, 1]), (x[:, 0], x[:, 16]), (y, x[:, 1])]:
        assert abs(np.corrcoef(a[:-1], b[1:])[0, 1]) < 4 / math.sqrt(MANY)


@pytest.mark.parametrize("name", WORLDS)
def test_labels_have_the_rates_of_the_log_odds(name):
    """Eq. 1: in every tenth of the log-odds, and beside every feature."""
    x, y, odds = drawn(name)
    p = 1 / (1 + np.exp(-odds))
    order = np.argsort(odds, kind="stable")
    z = []
    for part in np.array_split(order, 10):
        z.append((y[part].sum() - p[part].sum()) / math.sqrt((p[part] * (1 - p[part])).sum()))
    z = np.array(z)
    assert stats.chi2.sf((z * z).sum(), 10) > LIKELY and np.ptp(p) > 0.9
    surprise = (y - p) @ x
    z = surprise / np.sqrt((p * (1 - p)) @ x)
    assert np.abs(z).max() < 4
    assert stats.chi2.sf((z * z).sum(), 32) > LIKELY / 10  # the 32 sums are dependent


def test_true_weights_come_from_the_mixture_of_three_normals():
    for name, seeds in (("linear", 500), ("quadratic", 200)):
        theta = np.array([worlds.true_weights(seed, name) for seed in range(seeds)])

        def cdf(v):
            return sum(stats.norm.cdf(v - mean) for mean in (-2, 0, 2)) / 3

        assert stats.kstest(theta.ravel(), cdf).pvalue > LIKELY
        # components of one world are independent, and so are worlds
        assert abs(np.corrcoef(theta[:, 0], theta[:, 1])[0, 1]) < 4 / math.sqrt(seeds)
        assert abs(np.corrcoef(theta[:-1].ravel(), theta[1:].ravel())[0, 1]) < 4 / math.sqrt(
            theta.size
        )


def test_the_means_and_the_normals_of_the_mixture():
    n = 30_000
    values = worlds.normals(stream_key(9, "theta"), n)
    assert stats.kstest(values, "norm").pvalue > LIKELY
    assert np.array_equal(values[:7], worlds.normals(stream_key(9, "theta"), 7))
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / math.sqrt(n)
    means = []
    for seed in range(600):
        key = stream_key(seed, "theta")
        means += (worlds.true_weights(seed, "linear") - worlds.normals(key, 32)).round(9).tolist()
    counts = Counter(means)
    assert set(counts) == {-2.0, 0.0, 2.0}
    assert stats.chisquare(list(counts.values())).pvalue > LIKELY


# Tables.


def weights_of(accept, alias):
    """The weight of every pattern, in units of 2^-48, as exact integers."""
    full = 1 << 32
    total = [0] * worlds.HALF
    for c, (a, other) in enumerate(zip(accept.tolist(), alias.tolist(), strict=True)):
        total[c] += a
        total[other] += full - a
    return total


def pattern_bits():
    """Bit j of each pattern of half an example, (16, 65536) bool."""
    return np.arange(worlds.HALF) >> np.arange(16)[:, None] & 1 == 1


@pytest.mark.parametrize("name", WORLDS)
def test_the_alias_table_gives_every_pattern_its_rounded_probability(name):
    rates = paper_rates(name)[:16]
    p = np.ones(worlds.HALF)
    for j, bit in enumerate(pattern_bits()):
        p *= np.where(bit, rates[j], 1 - rates[j])
    found = weights_of(world_of(3, name).accept, world_of(3, name).alias)
    assert sum(found) == 1 << 48
    error = np.array(found) - p * 2.0**48
    largest = np.argmax(p)
    assert abs(error[largest]) < worlds.HALF
    assert np.abs(np.delete(error, largest)).max() <= 0.5 + 2.0**-4
    # and so the exact rate of every feature
    for j, bit in enumerate(pattern_bits()):
        rate = Fraction(sum(w for w, b in zip(found, bit.tolist(), strict=True) if b), 1 << 48)
        assert float(rate) == pytest.approx(rates[j], rel=1e-8)


@pytest.mark.parametrize("kind", ["rough", "one", "two", "equal"])
def test_any_alias_table_is_exact(kind):
    p = np.zeros(worlds.HALF)
    if kind == "rough":
        p = np.random.default_rng(0).random(worlds.HALF) ** 20
    elif kind == "equal":
        p[:] = 1.0
    else:
        p[[7, 65535][: 1 if kind == "one" else 2]] = [1.0, 3.0][: 1 if kind == "one" else 2]
    p /= p.sum()
    expected = np.floor(p * 2.0**48 + 0.5).astype(np.int64)
    expected[np.argmax(expected)] += (1 << 48) - expected.sum()
    assert weights_of(*worlds.alias_table(p)) == expected.tolist()


def test_log_odds_of_the_linear_world():
    world, rng = world_of(3, "linear"), np.random.default_rng(1)
    x = rng.integers(0, 2**32, 500, dtype=np.uint32)
    bits = packing.unpack(x[:, None], 32).astype(np.float64)
    np.testing.assert_allclose(sampling.example_log_odds(world, x), bits @ world.theta, atol=1e-12)
    np.testing.assert_allclose(world.odds, np.exp(world.log_odds), rtol=1e-15)


def test_log_odds_of_the_quadratic_world():
    """xᵀΘx with Θ of 8 lower-triangular blocks."""
    world, rng = world_of(3, "quadratic"), np.random.default_rng(1)
    theta, component = np.zeros((32, 32)), 0
    for block in range(0, 32, 4):
        for a in range(4):
            for b in range(a + 1):
                theta[block + a, block + b] = world.theta[component]
                component += 1
    assert component == len(world.theta) == 80
    x = rng.integers(0, 2**32, 500, dtype=np.uint32)
    bits = packing.unpack(x[:, None], 32).astype(np.float64)
    expected = np.einsum("ni,ij,nj->n", bits, theta, bits)
    np.testing.assert_allclose(sampling.example_log_odds(world, x), expected, atol=1e-12)


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_the_same_by_any_backend_and_cannot_be_changed(name):
    plain, fast = worlds.make_world(3, name), worlds.make_world(3, name, numba_backend.exp)
    assert plain is not fast
    for field, array in vars(plain).items():
        assert np.array_equal(array, getattr(fast, field)), field
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0


def test_sigmoid():
    z = np.array([-800.0, -30.0, 0.0, 1.5, 800.0, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(metrics.probability(z), expected, rtol=1e-15)


# Sequences.


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("first", [0, 5, 2**32 - 20, 2**45 + 1])
def test_both_backends_draw_the_same_examples(name, first):
    world, key = world_of(3, name), stream_key(3, "examples", 1)
    for n in (1, 7, 8, 9, 1000):
        x, y = sampling.examples(world, key, first, n)
        fast_x, fast_y = numba_backend.examples(world, key, first, n)
        assert x.dtype == fast_x.dtype == np.uint32 and y.dtype == fast_y.dtype == np.uint8
        assert np.array_equal(x, fast_x) and np.array_equal(y, fast_y)


@pytest.mark.parametrize("name", WORLDS)
def test_any_example_is_addressable(name):
    world, key = world_of(3, name), stream_key(3, "examples")
    x, y = numba_backend.examples(world, key, 1000, 500)
    for low, high in [(0, 500), (1, 2), (17, 400), (499, 500)]:
        for draw in (sampling.examples, numba_backend.examples):
            part_x, part_y = draw(world, key, 1000 + low, high - low)
            assert np.array_equal(part_x, x[low:high]) and np.array_equal(part_y, y[low:high])


@pytest.mark.parametrize("name", WORLDS)
def test_an_example_is_one_philox_call(name):
    world, key = world_of(3, name), stream_key(3, "examples", 4)
    first = 2**33 + 5
    x, y = sampling.examples(world, key, first, 300)
    for i in range(300):
        c = first + i
        w = naive.philox((c % 2**32, c // 2**32, 0, 0), key)
        halves = []
        for column, coin in ((w[0] % 2**16, w[1]), (w[0] // 2**16, w[2])):
            halves.append(column if coin < world.accept[column] else int(world.alias[column]))
        assert x[i] == halves[0] + 2**16 * halves[1]
        odds = float(world.odds[0, halves[0]] * world.odds[1, halves[1]])
        u = (w[3] + 0.5) / 2**32
        assert y[i] == (u * (1.0 + odds) < odds)
    assert 0 < y.sum() < 300


THETA = ["0x1.812748cb8abe5p+1", "0x1.8c33dfdab6b48p-2"]  # the first components, of either world
GOLDEN = {
    "linear": ("00000002 00000000 00060007 00000000 00010001 00110401", "101000"),
    "quadratic": ("10111111 10111011 119111b1 10130111 11111111 14113311", "111111"),
}


@pytest.mark.parametrize("name", WORLDS)
def test_the_first_examples_are_the_ones_they_always_were(name):
    """A change here is a change of the contract (config.CONTRACT)."""
    world = world_of(0, name)
    assert [v.hex() for v in world.theta[:2].tolist()] == THETA
    found_x, found_y = sampling.examples(world, stream_key(0, "examples"), 0, 6)
    found = " ".join(f"{v:08x}" for v in found_x.tolist()), "".join(map(str, found_y.tolist()))
    assert found == GOLDEN[name]


def test_pairs_and_the_evaluation_set_have_their_own_examples():
    world = world_of(3, "linear")
    keys = [stream_key(3, "examples", pair) for pair in range(3)] + [stream_key(3, "evaluation")]
    x = [sampling.examples(world, key, 0, 2000)[0] for key in keys]
    for a in range(4):
        for b in range(a):
            assert (x[a] == x[b]).mean() < 0.2  # the most frequent patterns agree by chance


def test_evaluation_set():
    config = Config(log2_eval=12, seed=3)
    e = evaluation_set(config, world_of(3, "linear"))
    x, _ = sampling.examples(world_of(3, "linear"), stream_key(3, "evaluation"), 0, 1 << 12)
    assert dict(zip(e.x.tolist(), e.counts.tolist(), strict=True)) == Counter(x.tolist())
    assert e.counts.sum() == 1 << 12 and (np.diff(e.x.astype(np.int64)) > 0).all()
    assert np.array_equal(e.log_odds, sampling.example_log_odds(world_of(3, "linear"), e.x))


def test_runs_of_a_seed_share_one_evaluation_set_and_no_other():
    config, world = Config(log2_eval=8, seed=3), world_of(3, "linear")
    e = evaluation_set(config, world)
    assert evaluation_set(replace(config, model="tower", pairs=2), world) is e
    for array in (e.x, e.counts, e.log_odds):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    other = {
        "seed": evaluation_set(replace(config, seed=4), world_of(4, "linear")),
        "size": evaluation_set(replace(config, log2_eval=9), world),
        "world": evaluation_set(replace(config, data="quadratic"), world_of(3, "quadratic")),
    }
    for what, found in other.items():
        assert not np.array_equal(found.log_odds, e.log_odds), what


# Packing, and the caller's arrays.


@given(n=st.integers(1, 6), d=st.integers(1, 100), seed=st.integers(0, 99))
def test_packing(n, d, seed):
    x = np.random.default_rng(seed).integers(0, 2, (n, d), dtype=np.uint8)
    packed = packing.pack(x)
    assert packed.shape == (n, -(-d // 32)) and packed.dtype == np.uint32
    for i, j in product(range(n), range(d)):
        assert (int(packed[i, j // 32]) >> (j % 32)) & 1 == x[i, j]
    assert all(int(row[-1]) >> ((d - 1) % 32 + 1) == 0 for row in packed)
    back = packing.unpack(packed, d)
    assert back.dtype == np.uint8 and np.array_equal(back, x)


KINDS = ["?", "u1", "i1", "i2", "u4", "i8", "f2", "f4", "f8", "g", ">i4", ">f8"]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_any_type_are_packed(kind):
    bits = np.random.default_rng(1).integers(0, 2, (70, 41), dtype=np.uint8)
    for d in (1, 31, 32, 41):
        x = bits[:, :d].astype(kind)
        # in one piece, by columns, every other row, and a list
        for given_x in (x, np.asfortranarray(x), x[::2], x.tolist()):
            want = sum(np.asarray(given_x)[:, j].astype(int) << j for j in range(d))
            for pack in (packing.pack, numba_backend.pack):
                packed, features, real = arrays.examples_of("x", given_x, pack)
                found = packed.astype(np.uint64)
                found = found[:, 0] | (found[:, 1] << np.uint64(32) if d > 32 else np.uint64(0))
                assert not real and features == d
                assert np.array_equal(found.astype(object), want)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "?"])
@pytest.mark.parametrize("pack", [packing.pack, numba_backend.pack])
def test_a_single_other_number_is_found(kind, pack):
    dtype = np.dtype(kind)
    other = [2] + [-1] * (dtype.kind != "u")
    if dtype.kind == "f":
        other += [0.5, math.nan, np.nextafter(dtype.type(1), dtype.type(2))]
    for value in other:
        for d, at in ((32, (0, 0)), (32, (66, 31)), (41, (66, 40)), (3, (1, 1))):
            x = np.zeros((67, d), kind)
            x[at] = value
            assert pack(x) is None
            if math.isnan(value):
                with pytest.raises(ConfigError, match=r"x: the value in row .* is missing"):
                    arrays.examples_of("x", x, pack)
            else:
                found, _, real = arrays.examples_of("x", x, pack)
                assert real == (np.float32(value) != 1) and np.count_nonzero(found) == 1
                row, column = at
                assert found[at] == value if real else found[row, column // 32] == 1 << column % 32


def test_large_arrays_are_packed_a_part_at_a_time():
    x = np.random.default_rng(2).integers(0, 2, (40_000, 33), dtype=np.uint8)
    assert np.array_equal(numba_backend.pack(x[:, ::-1]), packing.pack(x[:, ::-1]))


@pytest.mark.parametrize("good", [[0, 1], [False, True], np.array([0, 1], np.float32)])
def test_labels_of_any_type(good):
    found = arrays.labels_of("y", good)
    assert found.dtype == np.uint8 and found.tolist() == [0, 1]


@pytest.mark.parametrize(
    "bad", [0, [], [[0, 1]], [0, 2], [0.5], [math.nan], ["a"], [None]], ids=str
)
def test_other_labels_are_refused(bad):
    with pytest.raises(ConfigError, match="y: .* give") as caught:
        arrays.labels_of("y", bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        [0, 1],
        [[[0]]],
        [[]],
        np.zeros((0, 3)),
        [[math.nan]],
        [[math.inf]],
        [["a"]],
        [[None]],
        [[1j]],
        np.array([["2020-01-01"]], "datetime64[D]"),
    ],
    ids=str,
)
def test_other_arrays_are_refused(bad):
    with pytest.raises(ConfigError, match="x: .* give") as caught:
        arrays.examples_of("x", bad)
    assert "\n" not in str(caught.value)


# Summation plans.

TREES = [
    "chain",
    "pairwise",
    "random",
    *(f"{k}:{n}" for k in ("lanes", "blocks") for n in (1, 2, 3, 8)),
]


@settings(max_examples=300, deadline=None)
@given(
    tree=st.one_of(
        st.sampled_from(TREES),
        st.builds("{}:{}".format, st.sampled_from(["lanes", "blocks"]), st.integers(1, 4096)),
    ),
    order=st.sampled_from(["given", "reversed", "random"]),
    n=st.integers(1, 200),
    block=st.integers(0, 2**50),
)
def test_every_tree_sums_every_leaf_exactly_once(tree, order, n, block):
    key = stream_key(0, "order")
    rows = plans.plan(tree, order, n, key, block)
    assert rows.shape == (plans.plan_rows(tree, n), 2)
    assert rows[:, 0].min() >= 0 and rows[:, 0].max() < plans.plan_slots(tree, n)
    slots = naive.tree_of(rows.tolist())
    assert list(slots) == [0]
    assert sorted(naive.leaves_of(slots[0])) == list(range(n))
    if order == "random":
        return
    given_order = naive.leaves_of(naive.tree_of(plans.plan(tree, "given", n, key, block))[0])
    found = naive.leaves_of(slots[0])
    assert found == [n - 1 - i if order == "reversed" else i for i in given_order]


def chained(parts):
    tree = parts[0]
    for part in parts[1:]:
        tree = (tree, part)
    return tree


def halved(parts):
    middle = (len(parts) + 1) // 2
    if len(parts) == 1:
        return parts[0]
    return halved(parts[:middle]), halved(parts[middle:])


@given(n=st.integers(1, 100), k=st.integers(1, 120))
def test_the_trees_are_those_of_their_names(n, k):
    def tree(name):
        return naive.tree_of(plans.fixed_plan(name, n).tolist())[0]

    terms = list(range(n))
    assert tree("chain") == chained(terms) == tree("lanes:1") == tree("blocks:1")
    assert tree("pairwise") == halved(terms)
    assert tree(f"lanes:{k}") == halved([chained(terms[i::k]) for i in range(min(n, k))])
    parts = [part.tolist() for part in np.array_split(terms, min(n, k))]
    assert tree(f"blocks:{k}") == chained([chained(part) for part in parts])
