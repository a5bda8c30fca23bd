"""The caller's files of examples: what is right is read alike from every format, the rest named."""

import h5py
import numpy as np
import pytest

from nanorepro.data.files import read_examples
from nanorepro.errors import ConfigError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3)).astype("f4")
Y = np.array([0, 1, 1, 0, 1, 0, 0])
X_EVAL, Y_EVAL = X[:4] + 1, np.array([1, 0, 0, 1])
NAMES = ("age", "hours", "weight")


def write(path, x=X, y=Y, x_eval=X_EVAL, y_eval=Y_EVAL, **more):
    arrays = {"x": x, "y": y, "x_eval": x_eval, "y_eval": y_eval, **more}
    arrays = {name: value for name, value in arrays.items() if value is not None}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as f:
            for name, value in arrays.items():
                f[name] = value
    else:
        import pandas

        columns = np.vstack([x, x_eval]), np.concatenate([y, y_eval])
        table = pandas.DataFrame(columns[0], columns=NAMES)
        table.insert(1, "y", columns[1])
        table["eval"] = [0] * len(y) + [1] * len(y_eval)
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.csv", "a.parquet"])
def test_every_format_gives_the_same(name, tmp_path):
    found = read_examples(write(tmp_path / name))
    assert (found.x.dtype, found.y.dtype, found.binary) == (np.float32, np.uint8, False)
    for got, want in ((found.x, X), (found.y, Y), (found.x_eval, X_EVAL), (found.y_eval, Y_EVAL)):
        assert np.array_equal(got, want)
    assert found.features == (("0", "1", "2") if name in ("a.npz", "a.h5") else NAMES)


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.csv", "a.parquet"])
def test_large_integers_are_the_nearest_float32_in_every_format(name, tmp_path):
    whole = np.array([[1_600_000_000, 2**24 + 1, 2**40 + 1]]) + np.array([[7777], [1], [0], [5]])
    x, y = np.vstack([whole, whole + 2**26]), np.array([0, 1] * 4)
    found = read_examples(write(tmp_path / name, x, y, x, y))
    assert np.array_equal(found.x, x.astype(np.float64).astype(np.float32))


@pytest.mark.parametrize("kind", ["?", "i1", "u8", "f2", "f8"])
def test_types_of_features_and_labels(kind, tmp_path):
    bits = (X > 0).astype(kind)
    found = read_examples(write(tmp_path / "a.npz", bits, Y[:, None].astype(kind), None, None))
    assert found.binary and np.array_equal(found.x, X > 0) and found.x_eval is None
    found = read_examples(write(tmp_path / "a.npz", y=2.0 * Y - 1, y_eval=2 * Y_EVAL - 1))
    assert np.array_equal(found.y, Y) and np.array_equal(found.y_eval, Y_EVAL)


def refused(path):
    with pytest.raises(ConfigError) as caught:
        read_examples(path)
    line = str(caught.value)
    assert "\n" not in line and path.name in line
    return line


def changed(array, place, value):
    found = np.array(array, np.float64)
    found[place] = value
    return found


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": None}, "it has no numbers named x"),
        ({"y": None}, "it has no numbers named y"),
        ({"y_eval": None}, "x_eval and y_eval go together"),
        ({"x": X[0]}, "x has the shape (3,); give one of shape (n, d)"),
        ({"y": np.eye(7)}, "y has the shape (7, 7)"),
        ({"y": Y[:-1]}, "x has 7 rows, y 6 labels"),
        ({"x_eval": X_EVAL[:, :2]}, "x_eval has 2 columns, x has 3"),
        ({"x": np.zeros((0, 3)), "y": Y[:0]}, "x has no numbers"),
        ({"x": changed(X, (2, 1), np.nan)}, "x: feature '1', row 2 is missing (NaN)"),
        ({"x_eval": changed(X_EVAL, (0, 2), np.inf)}, "x_eval: feature '2', row 0 is infinite"),
        ({"x": changed(X, (2, 1), 1e39)}, "beyond what float32 holds"),
        ({"x": changed(X, (slice(None), 1), 3)}, "feature '1' is 3 in all training examples"),
        ({"x": X.astype(complex)}, "complex"),
        ({"x": X.astype(str)}, "x is of type <U32, no numbers; give the arrays x and y"),
        ({"x": X.astype(object)}, "Python objects"),
        ({"y": changed(Y, 3, 2)}, "y, row 3 is 2 (rows and columns"),
        ({"y": changed(Y, 3, np.nan)}, "y, row 3 is missing"),
        ({"y": Y * 0}, "y has one class only, 0"),
        ({"y": Y * 0 + 1}, "y has one class only, 1"),
        ({"y_eval": Y_EVAL * 0}, "y_eval has one class only"),
        ({"y": 2 * Y - 1}, "y_eval has 0 and y -1"),
    ],
)
def test_what_is_wrong_in_arrays(change, message, tmp_path):
    assert message in refused(write(tmp_path / "a.npz", **change))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "it is empty"),
        ("a,b\n1,2\n", "no column is named y (there are a, b)"),
        ("y\n1\n0\n", "no column of features"),
        ("a,a,y\n1,2,0\n", "'a' is there twice"),
        ("a,,y\n1,2,0\n", "a column has no name"),
        ("a,y\n1,0\n2\n", "row 1 has 1 value for 2 columns"),
        ("a,y\n1,0\n,1\n", "column 'a', row 1 is missing"),
        ("a,y\n1,0\nNA,1\n", "column 'a', row 1 is missing"),
        ("a,y\n1,0\nnan,1\n", "column 'a', row 1 is missing"),
        ("a,y\n1,0\nx,1\n", "column 'a', row 1 is no number: 'x'"),
        ("a,y\n1,0\n1_0,1\n", "no number: '1_0'"),
        ("a,y\n1,0\ninf,1\n", "no number: 'inf'"),
        ("a,y,eval\n1,0,0\n2,1,2\n", "column 'eval', row 1 is 2"),
        ("a,y,eval\n1,0,1\n2,1,1\n", "column 'eval' is 1 in every row"),
        ('a,y\n"1,0\n', "not a table"),
        (b"a,y\n\xff,1\n", "not text in UTF-8"),
        ("a,y\n", "x has no numbers: its shape is (0, 1)"),
        ("a,y\n1,True\n", "column 'y', row 0 is no number: 'True' (rows and columns"),
        ("a;y\n1;0\n", "its columns are separated by semicolons; give commas"),
        ("a\ty\n1\t0\n", "its columns are separated by tabs; give commas"),
        ("a,y,Eval\n1,0,0\n", "column 'Eval' is nearly named eval; give it the name eval"),
        ("a,y,eval\n1,0,0\n0,1,0\n", "column 'eval' is 0 in every row; give 1"),
    ],
)
def test_what_is_wrong_in_tables(text, message, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refused(path)


def test_what_is_wrong_in_parquet(tmp_path):
    import pandas

    path = tmp_path / "a.parquet"
    good = {"a": [1.0, 2.0], "y": [0, 1]}
    for change, message in (
        ({"a": ["x", "y"]}, "column 'a' is of type"),
        ({"a": [1.0, None]}, "column 'a', row 1 is missing"),
        ({"a": pandas.to_datetime(["2020", "2021"])}, "column 'a' is of type timestamp"),
        ({"a": [1e39, 0.0]}, "beyond what float32 holds"),
        ({"y": [3, 1]}, "y, row 0 is 3"),
    ):
        pandas.DataFrame(good | change).to_parquet(path)
        assert message in refused(path)
    path.write_bytes(path.read_bytes()[:50])
    assert "not a whole Parquet file" in refused(path)
    assert "no such file" in refused(tmp_path / "b.csv")
    assert "no such file" in refused(tmp_path / "b.npz")
    (tmp_path / "b.txt").write_text("x,y\n1,0\n")
    (tmp_path / "b.pt").write_bytes(b"\x80\x02")
    for name in ("b.txt", "b.pt"):
        assert refused(tmp_path / name).endswith("; give a file .npz, .h5, .csv or .parquet")


def test_a_table_of_a_spreadsheet(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffa, y\r\n1, 0\r\n\r\n2.5e0, 1\r\n".encode())
    found = read_examples(path)
    assert found.features == ("a",) and found.x.tolist() == [[1.0], [2.5]]
