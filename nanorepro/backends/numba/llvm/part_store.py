"""Parts of kernels on disk: what one process has compiled, others link.

A part is a file beside Numba's own cache, named by all that its code follows from: its content, the
types of its arguments, the sources, the compilers and the processor.  It holds the part's LLVM code
without what it calls, which are parts with files of their own.  A part that cannot be read, written
or told by a name is compiled.  Only a user's own processes write there; Numba's cache is pickled,
too.
"""

import contextlib
import hashlib
import pickle
import platform
import secrets
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import llvmlite
import numba
from numba.core import config, types
from numba.core.caching import CompileResultCacheImpl
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys
from numba.core.serialize import dumps

from nanorepro.backends.numba.llvm.libraries import PartLibrary
from nanorepro.backends.numba.llvm.sources import source_modules, sources

RUNTIME = "runtime"  # in place of a key: Numba's own library, which all code links
# beside the types that say `is_data`
DATA = (types.Number, types.Boolean, types.Array, types.CPointer, types.NoneType)
SEAL = hashlib.sha256().digest_size
_LIBRARIES: WeakValueDictionary[str, PartLibrary] = WeakValueDictionary()  # by key


def key_of(function: Callable, state: Any) -> str:
    """What a part is found by when it is compiled from this state of Numba's compiler.

    Empty: it is not kept, as its arguments are not data, or as it is of a module that `sources`
    does not cover.
    """
    content = getattr(getattr(function, "_numba_type_", None), "content", None)
    if content is None or function.__module__ not in source_modules():
        return ""
    try:
        arguments = [name_of(kind) for kind in state.args]
    except TypeError:
        return ""
    machine = state.targetctx.codegen().magic_tuple()
    compilers = numba.__version__, llvmlite.__version__, platform.python_version()
    text = repr((content, arguments, repr(state.flags), machine, compilers, sources()))
    return hashlib.sha256(text.encode()).hexdigest()


def name_of(kind: Any) -> str:
    """What a type of data is called, different for different ones; raises TypeError for others."""
    if isinstance(kind, types.BaseTuple):
        of = getattr(kind, "instance_class", tuple)
        return f"{of.__module__}.{of.__qualname__}({', '.join(map(name_of, kind))})"
    if isinstance(kind, types.Omitted):
        if not isinstance(kind.value, int | float | str | None):
            raise TypeError(kind)
    elif not (isinstance(kind, DATA) or getattr(kind, "is_data", False)):
        raise TypeError(kind)
    return f"{type(kind).__module__}.{type(kind).__qualname__} {kind!r}"


def load(key: str, context: Any) -> CompileResult | None:
    """A part from the disk, known to Numba as if it had been compiled; None: it is not there."""
    found = _read(key) if key else None
    library = _library(key, found, context) if found else None
    if found is None or library is None:
        return None
    descriptor, environment, signature = found[3:]
    entry_point = context.get_executable(library, descriptor, environment)
    context.insert_user_function(entry_point, descriptor, [library])
    return CompileResult(
        typing_context=context.typing_context, target_context=context, entry_point=entry_point,
        typing_error=None, type_annotation="", signature=signature, objectmode=False, lifted=(),
        fndesc=descriptor, library=library, call_helper=None, environment=environment,
        metadata=None, reload_init=(), referenced_envs=(),
    )  # fmt: skip


def save(key: str, found: CompileResult) -> None:
    """Keep a part that was compiled, if it and all that it calls can be kept."""
    library, folder = found.library, _folder(config.CACHE_DIR) if key else None
    library.key = ""
    called = [
        RUNTIME if one is rtsys.library else getattr(one, "key", "")
        for one in library._linking_libraries
    ]
    # addresses of this process, and what has to be called before the code
    bound = library.has_dynamic_globals or found.reload_init
    if folder is None or bound or not all(called):
        return
    content = _content(found, called)
    if content is None:
        return
    library.key = key
    _LIBRARIES[key] = library
    private = folder / f"{key}.{secrets.token_hex(8)}"
    try:
        private.write_bytes(hashlib.sha256(content).digest() + content)
        private.replace(folder / key)
    except OSError:  # of which the kernel's own file will say so
        with contextlib.suppress(OSError):
            private.unlink()


def _content(found: CompileResult, called: list[str]) -> bytes | None:
    """A part as bytes; None if something of it cannot be."""
    library, descriptor = found.library, found.fndesc
    types_of_all = descriptor.typemap, descriptor.calltypes
    descriptor.typemap = descriptor.calltypes = None  # which nothing reads any more
    try:
        return dumps((
            library.name, library.alone().as_bitcode(), called, descriptor, found.environment,
            found.signature,
        ))  # fmt: skip
    except Exception:
        return None
    finally:
        descriptor.typemap, descriptor.calltypes = types_of_all


def _library(key: str, found: tuple, context: Any) -> PartLibrary | None:
    """The library of a part that was read, and those that it calls; None if one is not there."""
    if (there := _LIBRARIES.get(key)) is not None:
        return there
    name, bitcode, keys, *_ = found
    called = []
    for other in keys:
        if other == RUNTIME:
            library = rtsys.library
        elif (library := _LIBRARIES.get(other)) is None:
            read = _read(other)
            library = _library(other, read, context) if read else None
        if library is None:
            return None
        called.append(library)
    restored = PartLibrary.restored(context.codegen(), name, key, bitcode, called)
    return _LIBRARIES.setdefault(key, restored)


def _read(key: str) -> tuple | None:
    """What `save` wrote; None if it is not there, or damaged."""
    folder = _folder(config.CACHE_DIR)
    try:
        sealed = (folder / key).read_bytes() if folder else b""
        content = sealed[SEAL:]
        if hashlib.sha256(content).digest() != sealed[:SEAL]:
            return None
        return pickle.loads(content)
    except Exception:
        return None


@lru_cache(4)
def _folder(cache_folder: str) -> Path | None:
    """Where the parts of these sources are, beside Numba's cache in this folder; None: nowhere.

    Those of other sources are removed: Numba replaces its own, too.
    """
    try:
        beside = Path(CompileResultCacheImpl(key_of).locator.get_cache_path())
        folder = beside / f"parts-{sources()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        for other in beside.glob("parts-*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        return folder
    except (OSError, RuntimeError):
        return None
