"""The caller's data: what is a number without doubt is taken, else refused with its place."""

import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from nanorepro import Config, ConfigError, fit, initial_parameters, predict, simulate
from nanorepro.backends import load_backend
from nanorepro.data.arrays import examples_of, labels_of
from nanorepro.data.packing import unpack
from tests.support.processors import environment
from tests.support.records import assert_same_record

X = np.array([[0, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 0, 0, 1]])


def mixed_frame():
    """Columns of every type that may hold 0 and 1."""
    return pd.DataFrame({
        "bool": X[:, 0].astype(bool),
        "Int64": pd.array(X[:, 1].tolist(), "Int64"),
        "boolean": pd.array(X[:, 2].astype(bool), "boolean"),
        "category": pd.Categorical(X[:, 3]),
        "float": X[:, 4].astype(float),
    })  # fmt: skip


def arrow_table():
    return pytest.importorskip("pyarrow").table(
        {str(k): [bool(v) for v in X[:, k]] if k == 0 else X[:, k] for k in range(5)}
    )


GOOD = {
    "array": lambda: X,
    "nested lists": lambda: X.tolist(),
    "tuples of bools": lambda: tuple(tuple(map(bool, row)) for row in X),
    "objects": lambda: X.astype(object),
    "mixed objects": lambda: np.array(
        [[0, True, 1.0, np.int8(0), np.float32(1)], [1, 0, 1, False, 0.0], [1, 1, 0, 0, 1]], object
    ),
    "masked nowhere": lambda: np.ma.array(X, mask=False),
    "masked, no mask": lambda: np.ma.array(X),
    "pandas": lambda: pd.DataFrame(X),
    "pandas, mixed": mixed_frame,
    "pandas, equal names": lambda: pd.DataFrame(X, columns=list("aabbc")),
    "pandas, objects": lambda: pd.DataFrame(X.astype(object)),
    "pandas, sparse": lambda: pd.DataFrame(X).astype(pd.SparseDtype("int8", 0)),
    "pandas, categories of objects": lambda: pd.DataFrame(X.astype(object)).astype("category"),
    "polars": lambda: pl.DataFrame(X),
    "polars, mixed": lambda: pl.DataFrame(
        {str(k): X[:, k].astype(bool) if k % 2 else X[:, k] for k in range(5)}
    ),
    "Arrow": arrow_table,
    "csr": lambda: sparse.csr_array(X),
    "csc, bool": lambda: sparse.csc_matrix(X.astype(bool)),
    "coo": lambda: sparse.coo_array(X.astype(np.float64)),
}


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("kind", GOOD)
def test_what_is_0_and_1_without_doubt_is_taken(kind, backend):
    packed, features, real = examples_of("x", GOOD[kind](), load_backend(backend).pack)
    assert not real and packed.dtype == np.uint32
    assert np.array_equal(unpack(packed, features), X)


REAL = np.array([[0, 0.1, -2, 0, 1e9], [1, 0, 1, 3.5e-42, 0], [1, 1, -0.0, 16777216, 1]])
REALS = {
    "array": lambda: REAL,
    "by columns": lambda: np.asfortranarray(REAL),
    "nested lists": lambda: REAL.tolist(),
    "objects": lambda: REAL.astype(object),
    "pandas": lambda: pd.DataFrame(REAL),
    "pandas, mixed": lambda: pd.DataFrame(REAL).astype(
        {0: bool, 1: "Float64", 2: "Int64", 3: object, 4: np.float32}
    ),
    "polars": lambda: pl.DataFrame(REAL),
    "Arrow": lambda: pytest.importorskip("pyarrow").table(
        {str(k): REAL[:, k] for k in range(5)}
    ),
    "csr": lambda: sparse.csr_array(REAL),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("kind", REALS)
def test_other_numbers_are_the_nearest_float32(kind, backend):
    x, features, real = examples_of("x", REALS[kind](), load_backend(backend).pack)
    assert real and features == 5 and x.dtype == np.float32
    assert np.array_equal(x, REAL.astype(np.float32)) and not np.signbit(x[2, 2])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 1], (False, True, True), np.array([0, 1, 1], object), np.array([0.0, 1.0, 1.0]),
        pd.Series([0, 1, 1]), pd.Series([False, True, True], dtype="boolean"),
        pd.Series([0, 1, 1], dtype="Int64"), pd.Series(pd.Categorical([0, 1, 1])),
        pd.Categorical([0, 1, 1]), pl.Series([0, 1, 1]), pl.Series([False, True, True]),
        np.ma.array([0, 1, 1], mask=False),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')}",
)  # fmt: skip
def test_labels_of_any_kind(labels):
    found = labels_of("y", labels)
    assert found.dtype == np.uint8 and found.tolist() == [0, 1, 1]


def test_tables_whose_rows_have_another_order_are_refused():
    x = pd.DataFrame({"a": [0, 1, 1], "b": [1, 0, 1]}, index=[5, 6, 7])
    config = Config(model="linear", batch=3, epochs=1, pairs=1)
    start = initial_parameters(config, features=2)
    for same in (pd.Series([0, 1, 1], index=[5, 6, 7]), pd.Series([0, 1, 1]), [0, 1, 1]):
        fit(config, x, same, start, backend="reference")
    other = pd.Series([1, 0, 1], index=[6, 5, 7])
    with pytest.raises(ConfigError, match="^y: the indexes of x and y have another order; give"):
        fit(config, x, other, start, backend="reference")
    with pytest.raises(ConfigError, match="^data: the indexes of x and y have another order"):
        simulate(config, backend="reference", data=(x, other))


def test_several_entries_of_one_place_of_a_sparse_array_are_their_sum():
    entries = np.ones(257), np.array([0] * 256 + [1]), np.array([0, 257])
    counts = sparse.csr_array(entries, shape=(1, 2))
    assert examples_of("x", counts)[0].tolist() == [[256.0, 1.0]]
    assert len(counts.data) == 257  # the caller's is as it was
    entries = np.ones(2, bool), np.array([0, 0]), np.array([0, 2])
    assert not examples_of("x", sparse.csr_array(entries, shape=(1, 2)))[2]


@pytest.mark.parametrize(
    "labels",
    [
        [[0], [1], [1]],
        pd.DataFrame({"y": [False, True, True]}),
        sparse.csr_array([[0], [1], [1]]),
    ],
    ids=["list", "frame", "sparse"],
)
def test_labels_in_one_column(labels):
    assert labels_of("y", labels).tolist() == [0, 1, 1]


@pytest.mark.parametrize("kind", [list, pd.Series, np.float32])
def test_labels_of_minus_and_plus_1(kind):
    labels = kind([-1, 1, 1])
    assert labels_of("y", labels).tolist() == [0, 1, 1]


def frame_with(column, value, dtype="object"):
    return mixed_frame().assign(**{column: pd.array([0, value, 1], dtype=dtype)})


BAD = [
    (np.where(X == 1, np.nan, 0.0), r"in row 0, column 1 is missing \(nan\)"),
    ([[0, 1], [None, 1]], r"in row 1, column 0 is missing \(None\); give numbers; fill in"),
    (np.array([[0, pd.NA]], object), r"row 0, column 1 is missing \(<NA>\)"),
    (np.ma.array(X, mask=X == 1), "the value in row 0, column 1 is masked"),
    (frame_with("Int64", pd.NA, "Int64"), r"row 1, column 'Int64' is missing"),
    (frame_with("boolean", None, "boolean"), r"row 1, column 'boolean' is missing"),
    (frame_with("float", np.nan, "float64"), r"row 1, column 'float' is missing \(nan\)"),
    (mixed_frame().assign(category=pd.Categorical([0, None, 1])), "row 1, column 'category' is mi"),
    (pl.DataFrame({"a": [0, None], "b": [1, 1]}), "row 1, column 'a' is missing"),
    (pl.DataFrame({"a": [True, None], "b": [1, 1]}), "row 1, column 'a' is missing"),
    (frame_with("float", "1"), r"'1' in row 1, column 'float' is text; give numbers, as in x.as"),
    (mixed_frame().assign(category=pd.Categorical(["no", "yes", "no"])),
     r"'no' in row 0, column 'category' is text; give numbers.*\(x == 'yes'\)"),
    ([["0", "1"]], r"'0' in row 0, column 0 is text; give numbers, as in x.astype\(int\)"),
    (np.array([[b"1"]]), "is text"),
    (frame_with("float", np.inf, "float64"), "inf in row 1, column 'float' is not allowed; give"),
    ([[0, 1e39]], r"1e\+39 in row 0, column 1 is not allowed; give numbers that float32 holds"),
    ([[0, 2**128]], "in row 0, column 1 is not allowed; give numbers that float32 holds"),
    ([[1j]], "type complex128 .* is not allowed; give real numbers"),
    (mixed_frame().assign(bool=pd.Timestamp("2020-01-01")), r"type datetime64.*column 'bool'"),
    ([[0, 1], [1]], "not an array .*; give an array of 2 axes with all values"),
    ([[0, np.ma.masked]], "x: not an array .*mask"),
    (pd.DataFrame({"a": []}), "a table without rows; give at least one example"),
    (pd.DataFrame(), r"shape \(0, 0\) is wrong; give 2 axes, not empty"),
    (pd.Series([0, 1]), r"shape \(2,\) is wrong"),
    ({"a": [0, 1]}, "a 'dict' is no array; give an array of 2 axes"),
    ((row for row in [[0, 1]]), "a 'generator' is no array; give an array of 2 axes"),
    (np.array([[0, object()]], object), "object object"),
    (np.array([[10**400]], object), "is not allowed; give numbers that float32 holds"),
]  # fmt: skip


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_integers_are_the_nearest_float32_as_other_numbers_are(backend):
    pack = load_backend(backend).pack
    whole = [[0, 2**24 + 1], [1_600_007_777, 2**63 - 1], [-(2**40) - 1, 3]]
    for given in (whole, np.array(whole), np.array(whole, object), pd.DataFrame(whole)):
        found, features, real = examples_of("x", given, pack)
        assert features == 2 and real
        np.testing.assert_array_equal(found, np.array(whole, np.float64).astype(np.float32))


@pytest.mark.parametrize(("bad", "message"), BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_what_is_not_is_refused_with_its_place(bad, message, backend):
    with pytest.raises(ConfigError, match=message) as caught:
        examples_of("x", bad, load_backend(backend).pack)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0, None, 1], r"y: the value in row 1 is missing \(None\)"),
        (pd.Series([0, pd.NA, 1], dtype="Int64"), r"row 1 is missing"),
        (np.ma.array([0, 1], mask=[0, 1]), "the value in row 1 is masked"),
        (pd.Series(["a", "b"]), "'a' in row 0 is text"),
        ([0, 7], r"7.0 in row 1 is not allowed; give 0 and 1 only, or -1 and \+1"),
        ([0, -1], "0.0 in row 0 is not allowed"),
        (pd.DataFrame({"y": [0, 1], "z": [0, 1]}), r"shape \(2, 2\) is wrong; give 1 axis"),
    ],
)
def test_labels_that_are_not_are_refused_with_their_place(bad, message):
    with pytest.raises(ConfigError, match=message):
        labels_of("y", bad)


def test_a_frame_is_trained_on_as_its_numbers():
    frame = mixed_frame().iloc[[0, 1, 2, 0]]
    config = Config(model="double", batch=2)
    start = initial_parameters(config, features=5)
    one = fit(config, frame, frame["bool"], start, backend="reference")
    other = fit(config, X[[0, 1, 2, 0]], X[[0, 1, 2, 0], 0], start, backend="reference")
    assert_same_record(one, other, "trained")
    assert np.array_equal(predict(config, frame, one, "reference"),
                          predict(config, X[[0, 1, 2, 0]], one, "reference"))  # fmt: skip


def test_none_of_these_libraries_is_imported():
    code = (
        "import sys; from nanorepro import *; c = Config(model='linear', batch=1);"
        "fit(c, [[0, 1]], [1], initial_parameters(c, features=2), backend='reference');"
        "print({'pandas', 'polars', 'pyarrow', 'xarray', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
    assert done.stdout == b"set()\n", done.stderr
