"""Functions of others: what they are given, and what is said of those that are no sums."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest

from nanorepro.errors import ConfigError
from nanorepro.probing import functions, showing, trees

DRAWS = np.random.default_rng(3)


def full(found):
    """A function that sums three terms, and of more of them does something else."""
    return lambda terms: np.sum(terms) if len(terms) == 3 else found(terms)


def fails(_):
    raise RuntimeError("too\nlong")


MINE = types.ModuleType("mine")
MINE.total = np.sum
MINE.kept = lambda terms: np.sum(terms, keepdims=True)
MINE.exact = lambda terms: __import__("math").fsum(terms.tolist())
MINE.none, MINE.late_none = (lambda terms: None), full(lambda terms: None)
MINE.complex, MINE.late_complex = (
    (lambda terms: complex(np.sum(terms))),
    full(lambda terms: complex(np.sum(terms))),
)
MINE.integer, MINE.late_integer = (
    (lambda terms: int(np.sum(terms))),
    full(lambda terms: int(terms[0] > 0)),
)
MINE.numpy_integer = lambda terms: np.int64(np.sum(terms))
MINE.truth = full(lambda terms: bool(terms[0] > 0))
MINE.text = lambda terms: str(np.sum(terms))
MINE.several = full(lambda terms: np.cumsum(terms))
MINE.late_list = full(lambda terms: [1.0])
MINE.fails, MINE.late = fails, full(fails)
MINE.ends = lambda terms: sys.exit(3)
MINE.late_ends = full(lambda terms: sys.exit(3))


@pytest.fixture(autouse=True)
def mine(monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", MINE)


@pytest.mark.parametrize("dtype", trees.FORMATS)
@pytest.mark.parametrize("name", ["mine:total", "mine:kept", "mine:exact", "numpy:dot"])
def test_sums(name, dtype):
    total = functions.load(name, dtype)
    assert len(trees.leaves(trees.reveal(total, 9, dtype))) == 9


@pytest.mark.parametrize(
    "name, why",
    [
        ("mine:none", "it returns None"),
        ("mine:late_none", "it returns None"),
        ("mine:complex", "it returns a value of type complex"),
        ("mine:late_complex", "it returns a value of type complex"),
        ("mine:integer", "it returns a value of type int"),
        ("mine:late_integer", "it returns a value of type int"),
        ("mine:numpy_integer", "it returns a value of type int64"),
        ("mine:truth", "it returns a value of type bool"),
        ("mine:text", "it returns a value of type str"),
        ("mine:several", "it returns an array of shape (9,)"),
        ("mine:late_list", "it returns a value of type list"),
        ("mine:fails", "RuntimeError: too long"),
        ("mine:late", "called with 9 terms: RuntimeError: too long"),
        ("mine:ends", "it ends the process"),
        ("mine:late_ends", "it ends the process"),
    ],
)
def test_what_is_no_sum(name, why):
    with pytest.raises(ConfigError) as caught:
        trees.reveal(functions.load(name), 9)
    line = caught.value.on_command_line()
    assert name in line and why in line and "\n" not in line


def test_modules_that_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    before = list(sys.path)
    (tmp_path / "wrong_syntax.py").write_text("def f(:\n")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "divides.py").write_text("1 / 0\n")
    (tmp_path / "fine.py").write_text("import numpy\ntotal = numpy.sum\n")
    for name, why in (("wrong_syntax", "SyntaxError"), ("leaves", "it ends the process"),
                      ("divides", "ZeroDivisionError"), ("absent", "absent")):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            functions.load(f"{name}:total")
    assert functions.load("fine:total")(np.ones(3)) == 3.0  # of the current folder
    assert sys.path == before


class Tensor:
    """As much of PyTorch's as is needed."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype = values.shape, f"torch.{values.dtype}"

    def to(self, dtype):
        return Tensor(self.values.astype(dtype))

    def __float__(self):
        return float(self.values)


def test_tensors_of_bfloat16_need_no_ml_dtypes(monkeypatch):
    torch = types.ModuleType("torch")
    torch.bfloat16, torch.float16 = ml_dtypes.bfloat16, np.float16
    torch.from_numpy = Tensor
    seen = set()

    def total(tensor):
        seen.add(tensor.dtype)
        return Tensor(np.asarray(np.cumsum(tensor.values, dtype=tensor.values.dtype)[-1]))

    torch.sum = total
    monkeypatch.setitem(sys.modules, "torch", torch)

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(trees, "import_module", absent)
    for dtype in ("bfloat16", "float16"):
        tree = trees.reveal(functions.load("torch:sum", dtype), 5, dtype)
        assert showing.formula(tree) == "((((0 + 1) + 2) + 3) + 4)"
    assert seen == {"torch.bfloat16", "torch.float16"}
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(ConfigError, match="pip install ml_dtypes"):
        functions.load("numpy:sum", "bfloat16")
