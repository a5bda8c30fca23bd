"""Executions of the arithmetic contract, and the one place that knows them by name."""

from typing import TYPE_CHECKING

from nanorepro.config import BACKENDS
from nanorepro.errors import wrong

if TYPE_CHECKING:
    from nanorepro.backends.protocols import Backend


def load_backend(name: str) -> "Backend":
    """The backend of a name, `numba`, `reference` or `cupy`; raises ConfigError for another."""
    if name == "numba":
        from nanorepro.backends.numba import backend

        return backend
    if name == "reference":
        from nanorepro.backends import reference

        return reference
    if name == "cupy":
        from nanorepro.backends.cuda import backend as cuda
        from nanorepro.backends.cuda.device import current

        current()  # here, before any work, it is said why the GPU cannot be used
        return cuda
    raise wrong("backend", name, " or ".join(BACKENDS))
