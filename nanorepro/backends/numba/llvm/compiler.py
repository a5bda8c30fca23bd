"""The compiler of kernels, and of functions that are only ever part of a kernel.

Numba makes machine code of every function it compiles, though what a kernel calls is linked into it
and runs nowhere else.  Without, a kernel is compiled in less time and runs as fast.  Numba also
optimizes every function together with all that it calls, again and again on the way up; here the
kernel alone is, twice.

Numba also keeps for ever what it made on the way: the types and the LLVM code of every function.
Here a kernel keeps its machine code only; the parts serve further kernels, of other configurations,
too, until `forget_parts` gives them back.
"""

import contextlib
import gc
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from weakref import WeakValueDictionary

from llvmlite import binding
from llvmlite.binding import ffi, newpassmanagers
from numba.core import config, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel import models, register_default
from numba.core.typing.templates import make_overload_template

from nanorepro.backends.numba.llvm.content import content
from nanorepro.errors import ConfigError

if config.DISABLE_JIT:
    raise ConfigError(
        "numba cannot compile, as NUMBA_DISABLE_JIT is set",
        "backend",
        "reference, or unset NUMBA_DISABLE_JIT",
    )

# llvmlite's two classes do not find what disposes of their memory, behind a base that does nothing:
# some 100 KB of every function that was ever compiled
for _passes in (newpassmanagers.ModulePassManager, newpassmanagers.FunctionPassManager):
    if _passes._dispose is ffi.ObjectRef._dispose:
        _passes._dispose = newpassmanagers.NewPassManager._dispose

SELDOM = 100_000  # objects made, less those given back, between two looks for garbage
_PRIVATE = (binding.Linkage.internal, binding.Linkage.private)
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


class _KernelLibrary(JITCodeLibrary):
    """Machine code under names that no other code has, in this process or from the disk.

    Numba builds names from the numbers of functions, which each process counts from 1 on.  So the
    code of two processes, loaded into a third, has equal names for different functions, and for
    calls the linker takes the first that it has seen: a wrong one.  Here all but the kernel itself
    is private to its code, and the kernel's number is random.
    """

    def __init__(self, codegen: Any, name: str, number: int) -> None:
        super().__init__(codegen, name)
        self.own = f"v{number}"  # a part of all names that are the kernel's
        self.code = b""
        self.enable_object_caching()

    def finalize(self) -> None:
        for library in _with_parts(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(_module_of(library), preserve=True)
        self._linking_libraries.clear()
        super().finalize()

    def _optimize_final_module(self) -> None:
        for _ in range(2):  # in between all is in line; once, some kernels run a little slower
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        module, found = self._final_module, []
        for value in (*module.functions, *module.global_variables):
            if value.is_declaration or value.linkage in _PRIVATE:
                continue
            if self.own in value.name:
                found.append(value.name)
            else:
                value.linkage = "internal"
        self.code = self._codegen._tm.emit_object(module)
        # from here on as Numba does with code from the disk: a module without functions, for which
        # the engine is given the machine code, and one that says what is defined in it
        self._shared_module = self._defining(found)
        self._final_module = self._empty(self.name)
        self._linking_libraries.clear()
        self._set_compiled_object(self.code)
        super()._finalize_final_module()
        self._codegen._engine._load_defined_symbols(self._shared_module)

    def _empty(self, name: str) -> binding.ModuleRef:
        module = binding.parse_assembly(str(self._codegen._create_empty_module(name)))
        module.name = name
        return module

    def _defining(self, names: list[str]) -> binding.ModuleRef:
        """A module in which these names are defined, and nothing else."""
        lines = [f'@"{name}" = global i8 0' for name in names]
        return binding.parse_assembly("\n".join(lines))

    def serialize_using_object_code(self) -> tuple:
        return self.name, "object", (self.code, self._shared_module.as_bitcode())


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
        state.library = _KernelLibrary(codegen, identity.func_qualname, number)
        return _needed(super().define_pipelines())

    def compile_extra(self, function: Callable) -> Any:
        with _seldom_collecting():  # under Numba's lock: no other thread is here
            return _without_notes(super().compile_extra(function))


class _PartLibrary(JITCodeLibrary):
    """LLVM code for kernels to link; the engine never sees it.

    What it calls is linked by the kernel, once, and not on each level of calls anew.
    """

    def _optimize_functions(self, ll_module):
        """Optimize the functions of a module; loops are written out in the kernel alone.

        Written out here as well, they made the code of many wide layers several times as long.
        """
        ll_module.data_layout = self._codegen._data_layout
        tuning = newpassmanagers.create_pipeline_tuning_options(speed_level=3)
        tuning.loop_unrolling = False
        for function in ll_module.functions:
            if not function.is_declaration:
                passes = newpassmanagers.create_pass_builder(self._codegen._tm, tuning)
                passes.getFunctionPassManager().run(function, passes)

    def finalize(self):
        self._raise_if_finalized()
        self._finalized = True

    def alone(self):
        """The LLVM module without what it calls."""
        return super()._get_module_for_linking()

    def _get_module_for_linking(self):
        """With all that it calls, for functions of Numba's own compiler, which link it so."""
        module = self.alone().clone()
        for library in _with_parts([self])[1:]:
            module.link_in(_module_of(library), preserve=True)
        return module

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0

    # Numba hands a function's environment to its machine code by `library.codegen.set_env`
    @property
    def codegen(self):
        return self

    def set_env(self, name, env):
        pass


def _with_parts(libraries: Iterable[Any]) -> list[Any]:
    """The libraries and those that their parts call, callers first.

    The linker takes of a library only what is called by code that is there.
    """
    found = [*dict.fromkeys(libraries)]
    seen = {*found}
    for library in found:  # which grows
        if isinstance(library, _PartLibrary):
            called = [one for one in library._linking_libraries if one not in seen]
            found += dict.fromkeys(called)
            seen.update(called)
    return found


def _module_of(library: Any) -> Any:
    """The LLVM module of a library, of a part without what it calls."""
    return (
        library.alone() if isinstance(library, _PartLibrary) else library._get_module_for_linking()
    )


class _ApartLibrary(_PartLibrary):
    """The same of a function that stays a call."""

    def add_ir_module(self, module):
        for function in module.functions:
            if function.blocks and "alwaysinline" not in function.attributes:
                function.attributes.add("noinline")
        super().add_ir_module(module)


class PartCompiler(Compiler):
    """Numba's compiler, for functions without a wrapper for Python."""

    library: type[_PartLibrary] = _PartLibrary

    def define_pipelines(self):
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        return _needed(super().define_pipelines())

    def compile_extra(self, function: Callable) -> Any:
        return _without_notes(super().compile_extra(function))


class ApartCompiler(PartCompiler):
    """The same, for functions of much code at many places, which stay calls.

    A kernel of stochastic rounding is compiled in two thirds of the time, and runs faster.
    """

    library = _ApartLibrary


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
