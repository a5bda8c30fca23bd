"""Functions that are only ever part of a kernel, compiled without machine code of their own.

Numba makes machine code of every function it compiles, though what a kernel calls is linked into it
and runs nowhere else.  Without, a kernel is compiled in less time, one of stochastic rounding in
two thirds of it, and runs as fast.
"""

from numba.core import config
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler

from nanorepro.errors import ConfigError

if config.DISABLE_JIT:
    raise ConfigError(
        "numba cannot compile, as NUMBA_DISABLE_JIT is set",
        "backend",
        "reference, or unset NUMBA_DISABLE_JIT",
    )


class _PartLibrary(JITCodeLibrary):
    """LLVM code, optimized, for other libraries to link; the engine never sees it."""

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0

    # Numba hands a function's environment to its machine code by `library.codegen.set_env`
    @property
    def codegen(self):
        return self

    def set_env(self, name, env):
        pass


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
        return super().define_pipelines()


class ApartCompiler(PartCompiler):
    """The same, for functions of much code at many places, which stay calls.

    A kernel of stochastic rounding is compiled in two thirds of the time, and runs faster.
    """

    library = _ApartLibrary
