"""What a compiled function consists of: equal digests for what may share code, and only that."""

import os
import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pytest
from support.processors import environment

from nanorepro.backends.numba.llvm import compiler
from nanorepro.backends.numba.llvm.cache import cached_njit
from nanorepro.backends.numba.llvm.content import content
from nanorepro.backends.numba.llvm.simd import apart, function, inlined


@dataclass(frozen=True)
class Record:
    value: object


class Way(Enum):
    UP = 1
    DOWN = 2


def plus(c):
    return lambda x: x + c


def minus(c):
    return lambda x: x - c


def with_default(c):
    def f(x, by=c):
        return x + by

    return f


def with_default_by_name(c):
    def f(x, *, by=c):
        return x + by

    return f


def of_part(decorate, c):
    return plus(decorate(plus(c)))


MAKERS = {
    # values that are equal, or look alike, and are compiled to different code
    "int": lambda: plus(1),
    "bool": lambda: plus(True),
    "float": lambda: plus(1.0),
    "float32": lambda: plus(np.float32(1)),
    "float64": lambda: plus(np.float64(1)),
    "uint32": lambda: plus(np.uint32(1)),
    "str": lambda: plus("1"),
    "bytes": lambda: plus(b"1"),
    "zero": lambda: plus(0.0),
    "minus zero": lambda: plus(-0.0),
    "nan": lambda: plus(float("nan")),
    "neighbour": lambda: plus(np.nextafter(1.0, 2.0).item()),
    "none": lambda: plus(None),
    "type": lambda: plus(float),
    "other type": lambda: plus(np.float32),
    "enum": lambda: plus(Way.UP),
    "other of the enum": lambda: plus(Way.DOWN),
    "empty": lambda: plus(()),
    "tuple": lambda: plus((1, 2)),
    "nested to the left": lambda: plus(((1,), 2)),
    "nested to the right": lambda: plus((1, (2,))),
    "strings": lambda: plus(("a", "b")),
    "one string": lambda: plus(("a, b",)),
    "record": lambda: plus(Record(1)),
    "record of a float": lambda: plus(Record(1.0)),
    "code": lambda: minus(1),
    "default": lambda: with_default(1),
    "default of a float": lambda: with_default(1.0),
    "default by name": lambda: with_default_by_name(1),
    "default by name of a float": lambda: with_default_by_name(1.0),
    "function": lambda: plus(plus(1)),
    "function of a float": lambda: plus(plus(1.0)),
    "part": lambda: of_part(function, 1),
    "part in line": lambda: of_part(inlined, 1),
    "part that stays a call": lambda: of_part(apart, 1),
    "part of a float": lambda: of_part(inlined, 1.0),
    "part of a part": lambda: plus(inlined(plus(inlined(plus(1))))),
}


def test_it_tells_all_of_these_apart_and_itself_not():
    found = {name: content(make()) for name, make in MAKERS.items()}
    assert len({*found.values()}) == len(MAKERS)
    assert found == {name: content(make()) for name, make in MAKERS.items()}


def test_it_is_the_same_in_every_process():
    program = (
        "from test_content import MAKERS, content\n"
        "for make in MAKERS.values(): print(content(make()))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program], text=True, capture_output=True, check=True,
            env=environment(PYTHONHASHSEED=seed, PYTHONPATH=os.pathsep.join(sys.path)),
            cwd=os.path.dirname(__file__),
        ).stdout.split()
        for seed in "12"
    ]  # fmt: skip
    assert found[0] == found[1] and len(found[0]) == len(MAKERS)


@dataclass
class Changing:
    n: int = 1


@pytest.mark.parametrize("value", [{1}, [1, 2], Changing()], ids=["set", "list", "dataclass"])
def test_what_is_unknown_or_may_change_is_refused(value):
    with pytest.raises(TypeError, match="say here what a value of this type consists of"):
        content(plus(value))


@pytest.fixture
def compiled(monkeypatch):
    """The names of the parts that are compiled from here on."""
    compiler.forget_parts()
    names = []
    whole = compiler.PartCompiler.compile_extra

    def compile_extra(self, given):
        names.append(given.__name__)
        return whole(self, given)

    monkeypatch.setattr(compiler.PartCompiler, "compile_extra", compile_extra)
    yield names
    compiler.forget_parts()


def kernel(c, d):
    """x → x + c + d."""

    @inlined
    def inner(x):
        return x + c

    @inlined
    def outer(x):
        return inner(x) + d

    @cached_njit
    def both(x):
        return outer(x)

    both._cache.disable()
    return both


def test_equal_parts_are_compiled_once_for_all_kernels(compiled):
    assert kernel(1, 2)(0) == 3
    assert kernel(1, 2)(10) == 13
    assert sorted(compiled) == ["inner", "outer"]
    assert kernel(1, 3)(0) == 4
    assert sorted(compiled) == ["inner", "outer", "outer"]
    assert kernel(1.0, 2)(0) == 3.0
    assert sorted(compiled) == ["inner", "inner", "outer", "outer", "outer"]
    assert kernel(1, 2)(0.5) == 3.5  # of another type, of which nothing is compiled
    assert len(compiled) == 7


def test_parts_are_given_back_when_there_are_more_than_are_kept(compiled):
    assert kernel(1, 2)(0) == 3
    compiler.forget_parts(beyond=2)
    assert kernel(1, 2)(0) == 3 and len(compiled) == 2
    compiler.forget_parts(beyond=1)
    assert kernel(1, 2)(0) == 3 and len(compiled) == 4
