"""nanorepro: a simulator of irreproducibility in the training of neural networks."""

from typing import Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError
from nanorepro.version import __version__ as __version__

__all__ = ["Config", "ConfigError", "fit", "initial_parameters", "predict", "simulate"]


def __getattr__(name: str) -> Any:
    # NumPy and Numba are imported on first use, so that `--help` answers at once
    if name in ("fit", "predict"):
        from nanorepro.training import fitting

        return getattr(fitting, name)
    if name in __all__:
        from nanorepro.training import simulation

        return getattr(simulation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
