"""The seam to the GPU: compile, array, empty, get, launch.  CuPy is one side, imported here only.

The other side is in the tests: what the compiler gives, carried out on the CPU by NumPy.
"""

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.program import KEPT
from nanorepro.errors import ConfigError

OLDEST = 80  # compute capability: the first with a reduction over the lanes of a warp
INSTALL = "first pip install 'nanorepro[gpu]' for CUDA 12, 'nanorepro[gpu13]' for CUDA 13"
Grid = tuple[int, int]
PROGRAMS = 1 + 2 * KEPT  # loaded at a time: what draws, and training and evaluation of each kind
STATIC_SHARED = 48 << 10  # bytes that need no permission


class Loaded(Protocol):
    """A compiled program on a device."""

    def launch(
        self, name: str, grid: Grid, block: int, arguments: Sequence[Any], shared: int = 0
    ) -> None:
        """Start a kernel: so many blocks of so many threads, with so much shared memory in bytes.

        The arguments are the device's arrays and NumPy's scalars of the kernel's own types.
        """


class Device(Protocol):
    """A GPU; shared: bytes of shared memory that a block can have."""

    name: str
    shared: int

    def free(self) -> int:
        """Bytes of memory that are free now."""

    def compile(self, source: str) -> Loaded: ...
    def array(self, host: np.ndarray) -> Any: ...
    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any: ...
    def get(self, array: Any) -> np.ndarray: ...
    def synchronize(self) -> None: ...


def refused(what: str, right: str) -> ConfigError:
    """Why `--backend cupy` cannot be had here."""
    return ConfigError(f"cupy: {what}", "backend", f"numba, or {right}")


def cache_folder() -> Path:
    """Where compiled programs are kept."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return temporary_folder()
    return Path(base) / "nanorepro" / "cuda"


def cached_binary(
    source: str, architecture: str, most: int | None = None, anew: bool = False
) -> Path:
    """The file of a program's binary, compiled if it is not there, or `anew`.

    By the newest NVRTC of CUDA `most` at most.

    Named by a digest of all that determines it; written whole under another name, then renamed, so
    that no process ever loads a part of one.
    """
    major, minor = nvrtc.version(most)
    parts = (source, architecture, f"{major}.{minor}", *nvrtc.OPTIONS)
    name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32] + ".cubin"
    kept = cache_folder() / name
    with contextlib.suppress(OSError):
        if kept.exists() and not anew:
            return kept
    binary = nvrtc.compiled(source, architecture, binary=True, most=most)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        return _written(kept, binary)
    except OSError:  # read-only, full: it cannot be kept
        return _written(temporary_folder() / name, binary)


def _written(path: Path, binary: bytes) -> Path:
    """The file, written under another name and renamed; raises OSError."""
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(binary)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return path


@cache
def temporary_folder() -> Path:
    """Where this process has programs that cannot be kept; removed when it ends."""
    folder = tempfile.mkdtemp(prefix="nanorepro-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class CupyModule:
    """A program loaded by CuPy on a GPU, for as long as it is referred to.

    CuPy's RawModule would keep what it loads to the end of the process.
    """

    def __init__(self, cupy: Any, gpu: Any, path: Path):
        self.driver, self.gpu = cupy.cuda.driver, gpu
        self.kernels: dict[str, Any] = {}
        self.module = cupy.cuda.function.Module()
        self.module.load_file(str(path))

    def __del__(self) -> None:
        # what it was loaded on has to be current; at the end of a process CuPy may be gone
        with contextlib.suppress(Exception), self.gpu:
            self.kernels.clear()
            self.module = None

    def launch(
        self, name: str, grid: Grid, block: int, arguments: Sequence[Any], shared: int = 0
    ) -> None:
        with self.gpu:
            if name not in self.kernels:
                self.kernels[name] = self.module.get_function(name)
            kernel = self.kernels[name]
            if shared > STATIC_SHARED:
                most = self.driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
                self.driver.funcSetAttribute(kernel.ptr, most, shared)
            kernel(grid, (block,), tuple(arguments), shared_mem=shared)


class CupyDevice:
    """The GPU that is CuPy's current one now; raises ConfigError if it cannot be used.

    CuPy has a current GPU in each thread; the caller's stays as it is.
    """

    def __init__(self) -> None:
        try:
            import cupy
        except Exception as error:  # CuPy looks for CUDA's libraries, which may fail in any way
            absent = isinstance(error, ImportError) and error.name == "cupy"
            what = "CuPy is not installed" if absent else f"CuPy: {_last_line(error)}"
            raise refused(what, INSTALL) from None
        self.cupy, runtime = cupy, cupy.cuda.runtime
        try:
            driver = runtime.driverGetVersion()
            if driver == 0:
                raise refused("there is no NVIDIA driver", "install one")
            if runtime.getDeviceCount() == 0:
                raise refused("there is no GPU", "use a machine with one")
            self.gpu = cupy.cuda.Device()
            self.architecture = str(self.gpu.compute_capability)
            self.shared = int(self.gpu.attributes["MaxSharedMemoryPerBlockOptin"])
            runtime.memGetInfo()  # the first that asks the GPU itself
            properties = runtime.getDeviceProperties(self.gpu.id)
            self.name = properties["name"].decode()
        except runtime.CUDARuntimeError as error:
            raise refused(*_reason(error)) from None
        if int(self.architecture) < OLDEST:
            has = f"{self.architecture[:-1]}.{self.architecture[-1]}"
            raise refused(f"the GPU has compute capability {has}", "use one of 8.0 or more")
        self.cuda = driver // 1000
        self.wheel = nvrtc.wheel(self.cuda)
        try:
            nvrtc.library(self.cuda)
        except nvrtc.NoCompiler as error:
            raise refused(str(error), f"pip install {self.wheel}") from None
        self.programs = lru_cache(PROGRAMS)(self._loaded)

    def free(self) -> int:
        with self.gpu:
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self.cupy.get_default_memory_pool().free_bytes())

    def compile(self, source: str) -> CupyModule:
        with self.gpu:
            return self.programs(source)

    def _loaded(self, source: str) -> CupyModule:
        failures = self.cupy.cuda.driver.CUDADriverError, self.cupy.cuda.runtime.CUDARuntimeError
        with contextlib.suppress(*failures):
            return CupyModule(self.cupy, self.gpu, self._binary(source))
        try:  # what was in the cache may be damaged
            return CupyModule(self.cupy, self.gpu, self._binary(source, anew=True))
        except failures as error:
            major, minor = nvrtc.version(self.cuda)
            what = f"the driver does not load what CUDA {major}.{minor} compiled ({error})"
            raise refused(what, "update the driver") from None

    def _binary(self, source: str, anew: bool = False) -> Path:
        try:
            return cached_binary(source, self.architecture, self.cuda, anew)
        except nvrtc.CompileError as error:
            if "gpu-architecture" not in str(error):
                raise
            major, minor = nvrtc.version(self.cuda)
            what = f"CUDA {major}.{minor} does not know GPUs of sm_{self.architecture}"
            raise refused(what, f"pip install a newer {self.wheel}") from None

    def array(self, host: np.ndarray) -> Any:
        return self._allocated(lambda: self.cupy.asarray(host), host.nbytes)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        return self._allocated(lambda: self.cupy.empty(shape, dtype), size)

    def _allocated(self, make: Any, size: int) -> Any:
        try:
            with self.gpu:
                return make()
        except self.cupy.cuda.memory.OutOfMemoryError:
            what = f"the GPU has no {size:,} bytes of memory left"
            raise refused(what, "fewer pairs or a shorter window") from None

    def get(self, array: Any) -> np.ndarray:
        with self.gpu:
            return self.cupy.asnumpy(array)

    def synchronize(self) -> None:
        with self.gpu:
            self.cupy.cuda.runtime.deviceSynchronize()


def _last_line(error: Exception) -> str:
    """What an error says at last, where CuPy has the first cause; its kind if it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =")]
    return lines[-1] if lines else type(error).__name__


def _reason(error: Exception) -> tuple[str, str]:
    """What a failure of CUDA's runtime means, and what to do."""
    text = str(error)
    if "cudaErrorInsufficientDriver" in text:
        return "the NVIDIA driver is missing or too old for this CuPy", "update the driver"
    if "cudaErrorNoDevice" in text:
        return "there is no GPU", "use a machine with one"
    return f"the GPU cannot be used ({text})", "see nvidia-smi"


@cache
def current() -> CupyDevice:
    """The GPU of this process."""
    return CupyDevice()
