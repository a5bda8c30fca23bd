"""Compiled functions on disk: Numba's cache, for the sources that compiled code is made of.

Whatever is wrong with the cache (no place for it, a full disk, a damaged index), functions are
compiled without it, and a line says so once.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from nanorepro.backends.numba.llvm.compiler import KernelCompiler
from nanorepro.backends.numba.llvm.content import content
from nanorepro.backends.numba.llvm.sources import sources

KEPT = 64  # kinds of models whose functions stay loaded, those used last
PARTS_KEPT = 1024  # parts whose code stays for further kinds of models
# what loaded code refers to: it stays in memory, and is shared if it is loaded once more
_ENVIRONMENTS: list[Any] = []
LOGGER = logging.getLogger("nanorepro")


@cache
def say_once(problem: str) -> None:
    LOGGER.warning(
        "compiled code cannot be kept (%s): each process compiles anew; set NUMBA_CACHE_DIR to a"
        " folder that can be written",
        problem,
    )


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


class KernelCache(FunctionCache):
    """Numba's cache of one function, by its `content`; no error of it reaches the caller.

    What it calls as a global is not a part of that, so `sources` is in the key.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), content(self._py_func), sources()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:
            self._begin_anew(error)
            return None
        if found is not None:
            _ENVIRONMENTS.append(found.environment)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self.disable()
            say_once(in_one_line(error))

    def _begin_anew(self, error: Exception) -> None:
        """Empty a damaged index; where that fails, go on without a cache."""
        try:
            self.flush()
        except Exception:
            self.disable()
            say_once(in_one_line(error))


def cached_njit(function: Callable) -> Any:
    """A decorator: compiled when it is called first, without the GIL, and kept on disk."""
    found = njit(nogil=True, no_cfunc_wrapper=True, pipeline_class=KernelCompiler)(function)
    try:
        found._cache = KernelCache(function)
    except Exception as error:  # Numba finds no place for it
        say_once(in_one_line(error))
    return found
