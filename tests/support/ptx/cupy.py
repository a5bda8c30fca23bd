"""A module with CuPy's interface over the interpreter, as far as `backends.cuda.device` uses it.

It takes what CuPy takes and no more: grids and blocks as tuples, its own arrays, NumPy's scalars.
"""

import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from support.ptx.device import Array, Device

from nanorepro.backends.cuda import device as seam
from nanorepro.backends.cuda import nvrtc

MOST_SHARED = 8  # the number of an attribute


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Kernel:
    """A Function of CuPy: its module stays loaded as long as it is there."""

    def __init__(self, module: Any, name: str, there: Callable[..., Any]):
        self.module, self.name, self.shared = module, name, 48 << 10
        self.launch = there(module.loaded.launch)
        if name not in module.loaded.module.entries:
            raise CUDADriverError("CUDA_ERROR_NOT_FOUND: named symbol not found")

    @property
    def ptr(self) -> "Kernel":
        """Its handle."""
        return self

    def __call__(self, grid: tuple, block: tuple, args: tuple, *, shared_mem: int = 0) -> None:
        assert isinstance(grid, tuple) and isinstance(block, tuple) and isinstance(args, tuple)
        assert all(type(n) is int for n in (*grid, *block, shared_mem))
        if shared_mem > self.shared:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.launch(self.name, grid, *block, args, shared_mem)


def set_attribute(kernel: Kernel, attribute: int, value: int) -> None:
    assert attribute == MOST_SHARED and type(value) is int
    kernel.shared = value


class Thread(threading.local):
    """Each thread has a current GPU, which is the first one until another is chosen."""

    def __init__(self) -> None:
        self.gpus = [0]  # that of the innermost `with` last


class Gpu:
    """The GPU that is current when it is made."""

    def __init__(self, thread: Thread, capability: str, shared: int):
        self.thread, self.id, self.compute_capability = thread, thread.gpus[-1], capability
        self.attributes = {"MaxSharedMemoryPerBlockOptin": shared}

    def use(self) -> None:
        self.thread.gpus[-1] = self.id

    def __enter__(self) -> None:
        self.thread.gpus.append(self.id)

    def __exit__(self, *exception: object) -> None:
        self.thread.gpus.pop()


def stand_in(interpreter: Device, **other: Any) -> ModuleType:
    """The module; `other` replaces functions of its runtime, or what the GPU is.

    Its GPU is the one that was chosen when the backend first asked; nothing is done on another.
    """
    thread = Thread()
    chosen: list[Gpu] = []

    def device() -> Gpu:
        capability = other.get("capability", interpreter.architecture)
        chosen[:] = [Gpu(thread, capability, interpreter.shared)]
        return chosen[0]

    def there(function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of the current GPU, which has to be the one that was chosen."""

        def asked(*arguments: Any, **more: Any) -> Any:
            assert thread.gpus[-1] == chosen[0].id, "another GPU is current"
            return function(*arguments, **more)

        return asked

    class Module:
        """Loaded until nothing refers to it."""

        number = 0  # of those that are loaded

        def __init__(self) -> None:
            self.loaded: Any = None

        def load_file(self, path: str) -> None:
            there(other.get("load", lambda: None))()
            try:
                self.loaded = interpreter.load(Path(path).read_text())
            except UnicodeDecodeError:
                raise CUDADriverError("CUDA_ERROR_INVALID_IMAGE: invalid image") from None
            Module.number += 1

        def get_function(self, name: str) -> Kernel:
            return Kernel(self, name, there)

        def __del__(self) -> None:
            if self.loaded is not None:
                there(lambda: None)()
                Module.number -= 1

    def check(size: int) -> None:
        if size > other.get("free", 1 << 34):
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")

    def empty(shape: tuple, dtype: Any) -> Array:
        check(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        return interpreter.empty(shape, dtype)

    def asarray(host: np.ndarray) -> Array:
        check(host.nbytes)
        return interpreter.array(host)

    module: Any = ModuleType("cupy")
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: 13000,
        getDeviceCount=lambda: 1,
        memGetInfo=there(lambda: (other.get("free", 1 << 34), 1 << 34)),
        getDeviceProperties=lambda number: {"name": b"NumPy"},
        deviceSynchronize=there(interpreter.synchronize),
    )
    for name in set(other) & set(vars(runtime)):
        setattr(runtime, name, other[name])
    module.cuda = SimpleNamespace(
        runtime=runtime,
        Device=device,
        driver=SimpleNamespace(
            CUDADriverError=CUDADriverError,
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=MOST_SHARED,
            funcSetAttribute=there(set_attribute),
        ),
        function=SimpleNamespace(Module=Module),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    module.asarray = there(asarray)
    module.empty = there(empty)
    module.asnumpy = there(interpreter.get)
    module.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=there(lambda: 0))
    module.thread = thread
    return module


@lru_cache(maxsize=16)
def compiled_once(
    compiled: Callable[..., bytes], source: str, architecture: str, options: tuple[str, ...]
) -> bytes:
    """The PTX of a program; what tests share, such as the drawing of examples, is compiled once.

    `compiled` is NVRTC's or what a test has put in its place.
    """
    return compiled(source, architecture, False, options)


def install(
    monkeypatch: Any, folder: Path, interpreter: Device | None = None, **other: Any
) -> Device:
    """Let `--backend cupy` run on the interpreter, with its compiled programs kept in a folder."""
    interpreter = interpreter or Device()
    compiled = nvrtc.compiled

    def as_ptx(source, architecture, binary=False, options=nvrtc.OPTIONS, most=None):
        return compiled_once(compiled, source, architecture, tuple(options))

    monkeypatch.setitem(sys.modules, "cupy", stand_in(interpreter, **other))
    monkeypatch.setattr(nvrtc, "compiled", as_ptx)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    seam.current.cache_clear()
    return interpreter
