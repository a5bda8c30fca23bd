"""Parts of kernels on disk: another process links what is there, to the same bits."""

import os
import shutil
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
import hashlib, sys
import numpy as np
from nanorepro import Config, fit, initial_parameters
from nanorepro.backends.numba.llvm import part_store

compiled, load = 0, part_store.load
def counted(key, context):
    global compiled
    found = load(key, context)
    compiled += found is None
    return found
part_store.load = counted
config = Config(**eval(sys.argv[1]))
x = np.arange(64)[:, None] >> np.arange(6) & 1
trained = fit(config, x, x[:, 0] ^ x[:, 3], initial_parameters(config, features=6))
print(hashlib.sha256(b"".join(v.tobytes() for v in trained.values())).hexdigest(), compiled)
"""


def run(folder, **options):
    """Digest of a model trained in a process of its own, and how many parts were compiled."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, repr(options)], text=True, capture_output=True, check=True,
        env=environment() | {"NUMBA_CACHE_DIR": str(folder)}, timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    digest, compiled = done.stdout.split()
    return digest, int(compiled)


def parts_in(folder):
    return [path for path in folder.glob("*/parts-*/*") if path.is_file()]


RELU, SMELU = {"hidden": "2", "act": "relu"}, {"hidden": "2", "act": "smelu"}


@pytest.fixture(scope="module")
def anew(tmp_path_factory):
    """Folder, digest and parts of two configurations, each by a process without compiled code."""
    folders = [tmp_path_factory.mktemp("anew") for _ in "01"]
    return [(folder, *run(folder, **o)) for folder, o in zip(folders, (RELU, SMELU), strict=True)]


@pytest.fixture
def after_relu(anew, tmp_path):
    """A folder with the code of the first configuration."""
    shutil.copytree(anew[0][0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_another_process_compiles_only_what_is_new_to_the_same_bits(anew, after_relu):
    (_, _, first), (_, digest, alone) = anew
    second = run(after_relu, **SMELU)
    assert second[0] == digest and second[1] < alone / 2
    written = parts_in(after_relu)
    # of two processes' parts each is there once, under a name that is all there is
    assert alone < len(written) <= first + second[1]
    assert {len(path.name) for path in written} == {64}


DAMAGE = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[:-1],
    "changed": lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    "foreign": lambda content: os.urandom(100),
}


def test_what_is_damaged_is_not_read(anew, tmp_path, monkeypatch):
    monkeypatch.setattr(part_store, "_folder", lambda cache_folder: tmp_path)
    whole = parts_in(anew[0][0])[0].read_bytes()
    (tmp_path / "whole").write_bytes(whole)
    assert part_store._read("whole") is not None
    for name, damaged in DAMAGE.items():
        (tmp_path / name).write_bytes(damaged(whole))
        assert part_store._read(name) is None, name
    assert part_store._read("removed") is None


@pytest.mark.slow
def test_what_is_damaged_is_compiled_anew(anew, after_relu):
    for k, path in enumerate(sorted(parts_in(after_relu))):
        damaged = [*DAMAGE.values()][k % 6 : k % 6 + 1]
        if damaged:
            path.write_bytes(damaged[0](path.read_bytes()))
        elif k % 6 == 4:  # some are called by others that are there
            path.unlink()
    assert run(after_relu, **SMELU)[0] == anew[1][1]
    # and is there again: the next process has little to do
    assert run(after_relu, **SMELU, optimizer="sgd", lr=0.1)[1] < anew[1][2] / 2


@pytest.mark.slow
def test_parts_of_other_sources_are_removed_and_not_used(anew, after_relu):
    (folder,) = after_relu.glob("*/parts-*")
    others = folder.with_name("parts-0123456789abcdef")
    folder.rename(others)
    digest, compiled = run(after_relu, **SMELU)
    assert digest == anew[1][1]
    assert not others.exists()
    assert 0 < len(parts_in(after_relu)) <= compiled  # all that are there now


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
