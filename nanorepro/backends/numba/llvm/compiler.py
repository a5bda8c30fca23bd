"""The compiler of kernels, and of functions that are only ever part of a kernel.

Numba makes machine code of every function it compiles, though what a kernel calls is linked into it
and runs nowhere else (`libraries`).  It also keeps for ever what it made on the way: the types and
the LLVM code of every function.  Here parts serve further kernels, of other configurations, too,
until `forget_parts` gives them back, and those of other processes (`part_store`).
"""

import contextlib
import gc
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from numba.core import config, types
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel import models, register_default
from numba.core.typing.templates import make_overload_template

from nanorepro.backends.numba.llvm import part_store
from nanorepro.backends.numba.llvm.content import content
from nanorepro.backends.numba.llvm.libraries import ApartLibrary, KernelLibrary, PartLibrary
from nanorepro.errors import ConfigError

if config.DISABLE_JIT:
    raise ConfigError(
        "numba cannot compile, as NUMBA_DISABLE_JIT is set",
        "backend",
        "reference, or unset NUMBA_DISABLE_JIT",
    )

SELDOM = 100_000  # objects made, less those given back, between two looks for garbage
# passes of Numba for what neither kernels nor their parts have: closures, `with`, functions that
# are written out on the way, literal arguments, expressions of arrays; and for notes to be read
_NOT_NEEDED = {
    "WithLifting",
    "InlineClosureLikes",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "InlineOverloads",
    "RewriteDynamicRaises",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "NopythonRewrites",
    "AnnotateTypes",
    "DumpParforDiagnostics",
}


def _needed(pipelines: list[Any]) -> list[Any]:
    """Numba's pipelines without the passes that have nothing to do here."""
    for pipeline in pipelines:
        passes = pipeline.passes
        passes[:] = [(kind, why) for kind, why in passes if kind.__name__ not in _NOT_NEEDED]
        pipeline.finalize()
    return pipelines


@contextlib.contextmanager
def _seldom_collecting() -> Iterator[None]:
    """Let Python look for garbage seldom: of the objects that compiling makes, most are kept."""
    often, *others = gc.get_threshold()
    gc.set_threshold(max(often, SELDOM) if often else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(often, *others)


def _without_notes(found: Any) -> Any:
    """A result of the compiler without what only a reader of it would ask for."""
    return found._replace(type_annotation="", metadata=None)


class KernelCompiler(Compiler):
    """Numba's compiler, for kernels."""

    def define_pipelines(self) -> Any:
        state = self.state
        identity, number = state.func_id, uuid.uuid4().int
        identity.unique_id = number
        identity.unique_name = f"{identity.func_qualname}${number}"
        codegen = state.targetctx.codegen()
        state.library = KernelLibrary(codegen, identity.func_qualname, number)
        return _needed(super().define_pipelines())

    def compile_extra(self, function: Callable) -> Any:
        with _seldom_collecting():  # under Numba's lock: no other thread is here
            return _without_notes(super().compile_extra(function))


class PartCompiler(Compiler):
    """Numba's compiler, for functions without a wrapper for Python."""

    library: type[PartLibrary] = PartLibrary

    def define_pipelines(self):
        state = self.state
        identity, key = state.func_id, self.key
        identity.unique_id = int((key or uuid.uuid4().hex)[:32], 16)
        identity.unique_name = f"{identity.func_qualname}${identity.unique_id}"
        state.library = self.library(state.targetctx.codegen(), identity.func_qualname)
        return _needed(super().define_pipelines())

    def compile_extra(self, function: Callable) -> Any:
        self.key = part_store.key_of(function, self.state)
        found = part_store.load(self.key, self.state.targetctx)
        if found is None:
            found = _without_notes(super().compile_extra(function))
            part_store.save(self.key, found)
        return found


class ApartCompiler(PartCompiler):
    """The same, for functions of much code at many places, which stay calls.

    A kernel of stochastic rounding is compiled in two thirds of the time, and runs faster.
    """

    library = ApartLibrary


class _PartType(types.Function):
    """Numba's type of a part; the part carries it, so that no table of Numba's holds the part.

    Parts of equal content have one type: what one was compiled to serves all.
    """

    def __init__(self, template: Any, digest: str) -> None:
        super().__init__(template)
        self.content = digest

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        _COMPILED.add(self)
        return super().get_call_type(context, args, kws)


register_default(_PartType)(models.OpaqueModel)
_COMPILED: set[_PartType] = set()  # parts with something compiled; guarded by Numba's lock
_TYPES: WeakValueDictionary[str, _PartType] = WeakValueDictionary()  # by content


def part(**options: Any) -> Callable[[Callable], Callable]:
    """A decorator of functions that compiled functions may call, as `register_jitable` is."""
    options |= {"nopython": True}

    def type_of(function: Callable, digest: str) -> _PartType:
        def chosen(*args: Any, **kwargs: Any) -> Callable:
            return function

        template = make_overload_template(function, chosen, options, strict=False, inline="never")
        return _PartType(template, digest)

    def decorate(function: Callable) -> Callable:
        digest = content(function, *options.items())
        found = _TYPES.get(digest) or type_of(function, digest)
        function._numba_type_ = _TYPES.setdefault(digest, found)
        return function

    return decorate


def forget_parts(beyond: int = 0) -> None:
    """Give back what was made of parts for the kernels compiled so far, if these are more parts.

    Those kernels stay.  What further ones have in common with them is compiled once more.
    """
    with global_compiler_lock:
        if len(_COMPILED) <= beyond:
            return
        for kind in _COMPILED:
            kind._impl_keys.clear()
            for template in kind.templates:
                template._impl_cache.clear()
                template._compiled_overloads.clear()
        _COMPILED.clear()
    gc.collect()  # types, code and functions refer to each other
