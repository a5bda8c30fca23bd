"""Compiled code on disk: whatever is wrong with the cache, functions are compiled without it."""

import errno
import logging

import pytest
from numba.core import config
from numba.core.caching import CompileResultCacheImpl

from nanorepro.backends.numba.llvm import cache, sources


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of this test's own, in which nothing was said."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    cache.say_once.cache_clear()
    return tmp_path


def add_one():
    """The same function, as another process has it."""

    def add(x):
        return x + 1

    return cache.cached_njit(add)


def files(folder, pattern):
    return sorted(folder.rglob(pattern))


def test_a_second_process_finds_what_the_first_one_compiled(folder):
    assert add_one()(1) == 2
    second = add_one()
    assert second(1) == 2 and sum(second.stats.cache_hits.values()) == 1
    assert len(files(folder, "*.nbi")) == len(files(folder, "*.nbc")) == 1


def test_no_place_for_the_cache_is_said_once(folder, monkeypatch, caplog):
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    with caplog.at_level(logging.WARNING, "nanorepro"):
        assert add_one()(1) == add_one()(1) == 2
    (record,) = caplog.records
    text = record.getMessage()
    assert "NUMBA_CACHE_DIR" in text and "\n" not in text
    assert not files(folder, "*.nbi")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_cache_that_cannot_be_written_is_said_once(number, monkeypatch, caplog):
    function = add_one()

    def refuse(*_):
        raise OSError(number, "refused")

    monkeypatch.setattr(function._cache._cache_file, "save", refuse)
    with caplog.at_level(logging.WARNING, "nanorepro"):
        assert function(1) == 2 and function(1.5) == 2.5
    assert len(caplog.records) == 1


@pytest.mark.parametrize("pattern", ["*.nbi", "*.nbc"])
@pytest.mark.parametrize("damage", [b"", b"no pickle", None])
def test_a_damaged_cache_is_begun_anew(folder, pattern, damage):
    assert add_one()(1) == 2
    (path,) = files(folder, pattern)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert add_one()(1) == 2
    third = add_one()
    assert third(1) == 2 and sum(third.stats.cache_hits.values()) == 1


def test_other_sources_are_compiled_anew(monkeypatch):
    assert add_one()(1) == 2
    monkeypatch.setattr(cache, "sources", lambda: "others")
    second = add_one()
    assert second(1) == 2 and not second.stats.cache_hits


def test_the_digest_covers_what_is_compiled_and_nothing_else():
    names = {path.relative_to(sources.PACKAGE).as_posix() for path in sources.source_files()}
    assert {
        "backends/numba/model.py",
        "backends/numba/kernels/general.py",
        "model/activations.py",
        "model/optimizers/adam.py",
        "numerics/accumulators.py",
        "numerics/exp_log.py",
        "numerics/streams.py",
    } <= names
    rooms = {name.split("/")[0] for name in names}
    above = {"analysis", "commands", "paper", "plots", "probing", "results", "sweeps", "training"}
    assert not rooms & above
