"""Parts of kernels on disk: another process links what is there, to the same bits."""

import os
import subprocess
import sys
from collections import namedtuple

import pytest
from numba.core import types
from support.processors import environment

from nanorepro.backends.numba.layout import Memory
from nanorepro.backends.numba.llvm import part_store
from nanorepro.backends.numba.llvm.cache import cached_njit
from nanorepro.backends.numba.llvm.memory import Pointers
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.llvm.vectors import Vector

PROGRAM = """
import sys
from nanorepro import Config, simulate
from nanorepro.backends.numba.llvm import part_store

compiled, load = 0, part_store.load
def counted(key, context):
    global compiled
    found = load(key, context)
    compiled += found is None
    return found
part_store.load = counted
sizes = dict(log2_examples=8, log2_eval=8, pairs=1)
print(simulate(Config(**eval(sys.argv[1]), **sizes)).fingerprint, compiled)
"""


def run(folder, **options):
    """Fingerprint of a run in a process of its own, and how many parts were compiled."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, repr(options)], text=True, capture_output=True, check=True,
        env=environment() | {"NUMBA_CACHE_DIR": str(folder)}, timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    fingerprint, compiled = done.stdout.split()
    return fingerprint, int(compiled)


def parts_in(folder):
    return [path for path in folder.glob("*/parts-*/*") if path.is_file()]


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """Two configurations, each by a process without any compiled code."""
    folders = [tmp_path_factory.mktemp("anew") for _ in "01"]
    return [run(folder, hidden="3,2", act=act) for folder, act in zip(folders, OTHERS, strict=True)]


OTHERS = ("relu", "smelu")


def test_another_process_compiles_only_what_is_new_to_the_same_bits(anew, tmp_path):
    first, second = (run(tmp_path, hidden="3,2", act=act) for act in OTHERS)
    assert first == anew[0]
    assert second[0] == anew[1][0] and second[1] < anew[1][1] / 2
    written = parts_in(tmp_path)
    # of two processes' parts each is there once, under a name that is all there is
    assert anew[1][1] < len(written) <= first[1] + second[1]
    assert {len(path.name) for path in written} == {64}


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["emptied", "cut", "changed", "removed", "foreign"])
def test_what_is_damaged_is_compiled_anew(damage, anew, tmp_path):
    run(tmp_path, hidden="3,2", act="relu")
    whole = {path: path.read_bytes() for path in parts_in(tmp_path)}
    for k, (path, content) in enumerate(whole.items()):
        if damage == "removed":
            if k % 2:  # some are called by others that are there
                path.unlink()
            continue
        middle = len(content) // 2
        path.write_bytes({
            "emptied": b"",
            "cut": content[:-1],
            "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "foreign": os.urandom(100),
        }[damage])  # fmt: skip
    assert run(tmp_path, hidden="3,2", act="smelu")[0] == anew[1][0]
    # and is there again: the third process has little to do
    assert run(tmp_path, hidden="3,2", act="smelu", optimizer="sgd", lr=0.1)[1] < anew[1][1] / 2


@pytest.mark.slow
def test_parts_of_other_sources_are_removed_and_not_used(anew, tmp_path):
    run(tmp_path, hidden="3,2", act="relu")
    (folder,) = tmp_path.glob("*/parts-*")
    others = folder.with_name("parts-0123456789abcdef")
    folder.rename(others)
    fingerprint, compiled = run(tmp_path, hidden="3,2", act="smelu")
    assert fingerprint == anew[1][0]
    assert not others.exists()
    assert 0 < len(parts_in(tmp_path)) <= compiled  # all that are there now


def test_a_function_whose_sources_are_not_in_the_key_is_not_kept(monkeypatch):
    keys, key_of = [], part_store.key_of

    def seen(*given):
        keys.append(key_of(*given))
        return keys[-1]

    monkeypatch.setattr(part_store, "key_of", seen)

    @inlined
    def twice(x):
        return 2 * x

    @cached_njit
    def kernel(x):
        return twice(x)

    assert kernel(21) == 42
    assert keys == [""]


def test_types_have_names_of_their_own_or_none():
    one, other = namedtuple("Memory", "a b"), namedtuple("Memory", "c d")
    other.__qualname__ = "Other"
    array = types.Array(types.float32, 1, "C")
    kinds = [
        types.float32, types.float64, types.int64, types.none, types.boolean, array,
        types.Array(types.float32, 1, "C", readonly=True), types.Array(types.float64, 1, "C"),
        types.CPointer(types.float32), types.Omitted(None), types.Omitted(0), types.Omitted(0.0),
        types.UniTuple(array, 2), types.UniTuple(array, 3), types.Tuple((array, types.int64)),
        types.NamedUniTuple(array, 2, one), types.NamedUniTuple(array, 2, other),
        Vector(types.float32, 8), Vector(types.float32, 16), Vector(types.float64, 8),
        Pointers(Memory, [array] * len(Memory._fields)),
    ]  # fmt: skip
    assert len({part_store.name_of(kind) for kind in kinds}) == len(kinds)
    function = inlined(lambda x: x)._numba_type_
    for kind in (function, types.Tuple((types.int64, function)), types.Omitted(object())):
        with pytest.raises(TypeError):
            part_store.name_of(kind)
