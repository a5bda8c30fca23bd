"""CUDA C compiled by NVRTC, called directly: neither a GPU nor a driver is needed.

CuPy's own compiler appends `-ftz=true` to the caller's options (cupy #9576), where it wins over
them; subnormal numbers would then be flushed to zero by every operation, intrinsics included.
"""

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# no product is contracted into a sum, subnormal numbers stay, quotients and roots are rounded
# correctly; the operations of a run are explicit intrinsics all the same
OPTIONS = (
    "--std=c++17",
    "--fmad=false",
    "--ftz=false",
    "--prec-div=true",
    "--prec-sqrt=true",
    "--no-source-include",
)
EVENT = "nanorepro:nvrtc"  # of Numba's events: that something is compiled


class CompileError(RuntimeError):
    """What NVRTC had to say."""


class NoCompiler(RuntimeError):
    """NVRTC is not installed, or cannot be loaded."""


def _candidates() -> list[str]:
    """Where NVRTC may be: what CUDA's own package says, wheels beside CuPy, the system's."""
    found = []
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        found.append(str(load_nvidia_dynamic_lib("nvrtc").abs_path))
    except Exception:  # not installed, or it found none: the next ones may
        pass
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        found += sorted(map(str, Path(folder).glob("*/lib/libnvrtc.so.*[0-9]")), reverse=True)
    return [*found, "libnvrtc.so.13", "libnvrtc.so.12"]


@cache
def library(most: int | None = None) -> ctypes.CDLL:
    """The newest NVRTC here, of CUDA `most` at most; raises NoCompiler if there is none.

    What an NVRTC of a newer CUDA than the driver's compiles, the driver does not load.
    """
    found: dict[tuple[int, int], ctypes.CDLL] = {}
    for name in _candidates():
        if "alt" in Path(name).name:
            continue
        try:
            one = ctypes.CDLL(name)
        except OSError:
            continue
        found.setdefault(_version_of(one), one)
    fitting = [version for version in found if most is None or version[0] <= most]
    if fitting:
        return found[max(fitting)]
    if found:
        major, minor = min(found)
        what = f"NVRTC, the CUDA compiler, is of CUDA {major}.{minor}, the driver of CUDA {most}"
        raise NoCompiler(what)
    raise NoCompiler("the CUDA compiler NVRTC is not found")


def _version_of(one: ctypes.CDLL) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    one.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def wheel(most: int) -> str:
    """The name of NVRTC's package for drivers of a CUDA."""
    return "nvidia-cuda-nvrtc" if most > 12 else f"nvidia-cuda-nvrtc-cu{most}"


def version(most: int | None = None) -> tuple[int, int]:
    """NVRTC's version; of which one `library` says."""
    return _version_of(library(most))


def compiled(
    source: str,
    architecture: str,
    binary: bool = False,
    options: Sequence[str] = OPTIONS,
    most: int | None = None,
) -> bytes:
    """PTX, or the binary for one GPU; `architecture` is "80", "90", ...  Raises CompileError."""
    from numba.core import event

    with event.trigger_event(EVENT):
        return _compiled(library(most), source, architecture, binary, options)


def _compiled(
    nvrtc: ctypes.CDLL, source: str, architecture: str, binary: bool, options: Sequence[str]
) -> bytes:
    program = ctypes.c_void_p()

    def check(status: int) -> None:
        if status:
            raise CompileError(f"NVRTC: status {status}: {log()}")

    def text(size: str, get: str) -> bytes:
        n = ctypes.c_size_t()
        check(getattr(nvrtc, size)(program, ctypes.byref(n)))
        buffer = ctypes.create_string_buffer(n.value)
        check(getattr(nvrtc, get)(program, buffer))
        return buffer.raw

    def log() -> str:
        n = ctypes.c_size_t()
        if not program or nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(n)):
            return "no log"
        buffer = ctypes.create_string_buffer(n.value)
        nvrtc.nvrtcGetProgramLog(program, buffer)
        return buffer.value.decode(errors="replace")

    check(
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"nanorepro.cu", 0, None, None
        )
    )
    try:
        kind = "sm" if binary else "compute"
        words = [f"--gpu-architecture={kind}_{architecture}", *options]
        array = (ctypes.c_char_p * len(words))(*(w.encode() for w in words))
        check(nvrtc.nvrtcCompileProgram(program, len(words), array))
        if binary:
            return text("nvrtcGetCUBINSize", "nvrtcGetCUBIN")
        return text("nvrtcGetPTXSize", "nvrtcGetPTX").rstrip(b"\0")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
