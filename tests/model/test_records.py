"""What the records of activations, optimizers and the like say of themselves holds, to the bit."""

from dataclasses import fields

import numpy as np
import pytest

from nanorepro import Config
from nanorepro.config import PARTS
from nanorepro.data.distributions import DISTRIBUTIONS
from nanorepro.model.activations import ACTIVATIONS
from nanorepro.model.architectures import ARCHITECTURES
from nanorepro.model.initializers import INITIALIZERS
from nanorepro.model.optimizers import OPTIMIZERS, learning_rate, learning_rates
from nanorepro.numerics import numpy_arrays
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.rounding import operations
from nanorepro.numerics.trees import LEAF_ORDERS, TREES
from nanorepro.settings import setting_of

RECORDS = [
    ACTIVATIONS, OPTIMIZERS, ARCHITECTURES, INITIALIZERS, DISTRIBUTIONS, ACCUMULATORS, TREES,
    LEAF_ORDERS,
]  # fmt: skip
KEY = (np.uint64(1), np.uint64(2), np.uint64(3))
PRECISIONS = ["float32", "float64", "bits:8"]


def in_precision(precision):
    """The operations of a precision, and a thousand numbers of it of all sizes, 0 among them."""
    ops = operations(numpy_arrays, precision, "nearest", True)
    rng = np.random.default_rng(4)
    z = ops.const(rng.normal(0.0, 1.0, 1000) * 10.0 ** rng.uniform(-6.0, 3.0, 1000))
    return ops, np.concatenate([z, np.zeros(2, z.dtype)])


@pytest.mark.parametrize("records", RECORDS)
def test_a_record_is_known_by_its_name_and_says_what_it_is(records):
    for name, record in records.items():
        assert record.name == name
        assert 0 < len(record.summary) <= 80
        assert record.summary.isprintable()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("act", list(ACTIVATIONS.values()), ids=lambda a: a.name)
def test_an_activation_is_what_its_record_says(act, precision):
    ops, z = in_precision(precision)
    value, backward = act.make(numpy_arrays, ops, 1.0)
    ones = np.ones_like(z)
    h, slope = value(z, KEY), backward(ones, z, KEY)
    if act.often_zero:
        assert (h[z <= 0] == 0).all()
        assert (h[z > 0] != 0).all()
        assert np.array_equal(slope, (h != 0).astype(z.dtype))
    other, _ = act.make(numpy_arrays, ops, 2.0)
    assert np.array_equal(h, other(z, KEY)) == (not act.uses_beta)
    assert h.dtype == slope.dtype == z.dtype


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS.values()), ids=lambda o: o.name)
def test_whether_a_gradient_of_zero_changes_nothing(optimizer, precision):
    """To the bit for all weights, and not for some where the record does not say so."""
    ops, w = in_precision(precision)
    config = Config(optimizer=optimizer.name)
    rng = np.random.default_rng(5)
    # any state that an update reached: squares are not negative
    state = tuple(
        ops.const(start + np.abs(rng.normal(0.0, 1.0, w.shape)))
        for start in optimizer.starts(config)
    )
    update = optimizer.make_update(numpy_arrays, ops, config)
    new, after = update(w, state, np.zeros_like(w), ops.const(config.lr), KEY)
    assert len(after) == len(optimizer.state)
    unchanged = new.tobytes() == w.tobytes()
    unchanged &= all(a.tobytes() == b.tobytes() for a, b in zip(after, state, strict=True))
    assert unchanged == optimizer.zero_gradient_changes_nothing


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS.values()), ids=lambda o: o.name)
def test_an_update_goes_against_the_gradient(optimizer):
    ops, w = in_precision("float64")
    config = Config(optimizer=optimizer.name)
    start = tuple(np.full_like(w, x) for x in optimizer.starts(config))
    update = optimizer.make_update(numpy_arrays, ops, config)
    for sign in (1.0, -1.0):
        new, _ = update(np.zeros_like(w), start, np.full_like(w, sign), np.float64(0.1), KEY)
        assert (np.sign(new) == -sign).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rate_needs_no_other_rate(optimizer):
    """The rates of any steps, together and one by one, are the same bits."""
    config = Config(optimizer=optimizer)
    steps = [0, 1, 2, 3, 100, 2**20 - 1, 2**31, 2**35]
    for first in steps:
        together = np.resize(learning_rates(config, first, 5), 5)
        one_by_one = [learning_rate(config, first + k) for k in range(5)]
        assert together.dtype == np.float64
        assert together.tolist() == one_by_one
        assert (together > 0.0).all()
        assert np.isfinite(together).all()


def test_adams_rate_is_its_formula():
    """To 2⁻⁴⁸ of it, which powers by squaring reach."""
    from fractions import Fraction
    from math import sqrt

    config = Config(optimizer="adam", lr=0.25, beta1=0.75, beta2=0.875)
    for step in (0, 1, 2, 5, 30, 200):
        first, second = (Fraction(beta) ** (step + 1) for beta in (0.75, 0.875))
        exact = 0.25 * sqrt(1 - second) / float(1 - first)
        assert learning_rate(config, step) == pytest.approx(exact, rel=2.0**-48)


def test_every_field_is_in_one_part():
    names = [f.name for part in PARTS.values() for f in fields(part)]
    assert sorted(names) == sorted(f.name for f in fields(Config))


@pytest.mark.parametrize("f", fields(Config), ids=lambda f: f.name)
def test_a_setting_says_meaning_default_and_the_papers_value(f):
    """The same in the help of the command line and in the documentation of Config."""
    known = setting_of(f)
    assert known.default == f.default
    assert known.meaning in f.metadata["help"]
    shown = " ".join(Config.__doc__.split())
    assert f"{f.name} : {type(known.default).__name__}, default {known.default!r}" in shown
    assert " ".join(known.meaning.split())[1:] in shown
    if known.paper is not None:
        assert f"paper: {known.paper}" in f.metadata["help"]
        assert f"The paper's value: {known.paper}." in shown


@pytest.mark.parametrize("f", fields(Config), ids=lambda f: f.name)
def test_the_ends_of_a_range_are_allowed_and_no_more(f):
    known = setting_of(f)
    if known.low is not None:
        below = (
            known.low - 1 if isinstance(known.default, int) else np.nextafter(known.low, -np.inf)
        )
        assert getattr(Config(**{f.name: known.low}), f.name) == known.low
        with pytest.raises(ValueError, match=f"^{f.name}: "):
            Config(**{f.name: below})
    if known.high is not None:
        above = (
            known.high + 1 if isinstance(known.default, int) else np.nextafter(known.high, np.inf)
        )
        assert getattr(Config(**{f.name: known.high}), f.name) == known.high
        with pytest.raises(ValueError, match=f"^{f.name}: "):
            Config(**{f.name: above})
    if known.below is not None:
        Config(**{f.name: np.nextafter(known.below, -np.inf)})
        with pytest.raises(ValueError, match=f"^{f.name}: "):
            Config(**{f.name: known.below})
