"""The code of kernels and of their parts: Numba's libraries, without what kernels do not need.

Numba optimizes every function together with all that it calls, again and again on the way up, and
makes machine code of each.  Here a part stays LLVM code for kernels to link, and a kernel keeps its
machine code only.
"""

from collections.abc import Iterable
from typing import Any

from llvmlite import binding
from llvmlite.binding import ffi, newpassmanagers
from numba.core.codegen import JITCodeLibrary

# llvmlite's two classes do not find what disposes of their memory, behind a base that does nothing:
# some 100 KB of every function that was ever compiled
for _passes in (newpassmanagers.ModulePassManager, newpassmanagers.FunctionPassManager):
    if _passes._dispose is ffi.ObjectRef._dispose:
        _passes._dispose = newpassmanagers.NewPassManager._dispose

_PRIVATE = (binding.Linkage.internal, binding.Linkage.private)


class PartLibrary(JITCodeLibrary):
    """LLVM code for kernels to link; the engine never sees it.

    What it calls is linked by the kernel, once, and not on each level of calls anew.  `key` is what
    it is found by on disk; empty: it is not.
    """

    key = ""
    _bitcode = b""

    @classmethod
    def restored(cls, codegen, name, key, bitcode, called):
        """A library as it was when `alone` gave this code; `called` are those that it links."""
        found = cls(codegen, name)
        found.key, found._bitcode, found._linking_libraries = key, bitcode, called
        found._finalized = True
        return found

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
        if self._bitcode:
            self._shared_module = binding.parse_bitcode(self._bitcode)
            self._bitcode = b""
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


class ApartLibrary(PartLibrary):
    """The same of a function that stays a call."""

    def add_ir_module(self, module):
        for function in module.functions:
            if function.blocks and "alwaysinline" not in function.attributes:
                function.attributes.add("noinline")
        super().add_ir_module(module)


def _with_parts(libraries: Iterable[Any]) -> list[Any]:
    """The libraries and those that their parts call, callers first.

    The linker takes of a library only what is called by code that is there.
    """
    found = [*dict.fromkeys(libraries)]
    seen = {*found}
    for library in found:  # which grows
        if isinstance(library, PartLibrary):
            called = [one for one in library._linking_libraries if one not in seen]
            found += dict.fromkeys(called)
            seen.update(called)
    return found


def _module_of(library: Any) -> Any:
    """The LLVM module of a library, of a part without what it calls."""
    return (
        library.alone() if isinstance(library, PartLibrary) else library._get_module_for_linking()
    )


class KernelLibrary(JITCodeLibrary):
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
