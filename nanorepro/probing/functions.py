"""Functions of others that sum an array: found by their names, called, their results checked."""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from nanorepro.errors import ConfigError, shown
from nanorepro.probing.trees import array_type, number

Sum = Callable[[np.ndarray], float]
PROBE = (1.0, 2.0, 4.0)  # whose product, mean and largest are not their sum
LONGEST = 200  # characters of a stranger's message that are shown


def find(name: str) -> Callable[..., Any]:
    """The function `module:function`, also of a module in the current folder.

    Raises ConfigError where there is none, or its module cannot be imported.
    """
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise ConfigError(f"{shown(name)} is not allowed; give module:function, as numpy:sum")
    here = os.getcwd()
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        function: Any = import_module(module)
        for part in path.split("."):
            function = getattr(function, part)
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises
        raise ConfigError(f"{name}: {_reason(error)}") from None
    finally:
        if added:
            sys.path.remove(here)
    if not callable(function):
        raise ConfigError(f"{name} is no function")
    return function


def load(name: str, dtype: str = "float32") -> Sum:
    """A stranger's function as one that takes an array of terms and gives one number.

    It is called with the array alone, or else with an array of ones as well, as a dot product is; a
    function of PyTorch gets tensors.

    Parameters
    ----------
    name : str
        `module:function`.
    dtype : str, optional
        The name of a `Format`.

    Returns
    -------
    callable
        It raises ConfigError where the function fails or returns something else than a number.

    Raises
    ------
    ConfigError
        Where there is no such function, or it does not sum three terms.

    Examples
    --------
    >>> load("numpy:dot")(np.ones(3, np.float32))
    3.0
    """
    function = find(name)
    why = ""
    for made in _makers(name, dtype):
        for call in _calls(function, made):
            try:
                if number(call(np.array(PROBE).astype(array_type(dtype)))) == sum(PROBE):
                    return _checked(name, call)
                terms = ", ".join(f"{x:g}" for x in PROBE)
                why = why or f"{terms} do not give {sum(PROBE):g}"
            except (Exception, SystemExit) as error:  # whatever a stranger's function raises
                why = why or _reason(error)
    raise ConfigError(f"{name} does not sum an array: {why}")


def _calls(
    function: Callable[..., Any], made: Callable[[np.ndarray], Any]
) -> list[Callable[[np.ndarray], Any]]:
    """The function of an array alone, and of an array beside one of ones."""
    return [
        lambda terms: function(made(terms)),
        lambda terms: function(made(terms), made(np.ones_like(terms))),
    ]


def _checked(name: str, call: Callable[[np.ndarray], Any]) -> Sum:
    """The function with every error of it worded as the caller's mistake."""

    def total(terms: np.ndarray) -> float:
        try:
            with np.errstate(all="ignore"):  # a total that is no number is told by who asks
                return number(call(terms))
        except (Exception, SystemExit) as error:
            raise ConfigError(f"{name}, called with {len(terms)} terms: {_reason(error)}") from None

    return total


def _makers(name: str, dtype: str) -> list[Callable[[np.ndarray], Any]]:
    """What makes a function's argument of an array: the array itself, or a tensor of PyTorch."""

    def tensor(terms: np.ndarray) -> Any:
        torch = sys.modules["torch"]
        values = torch.from_numpy(
            np.asarray(terms, np.float64 if dtype == "float64" else np.float32)
        )
        return values.to(getattr(torch, dtype))

    def array(terms: np.ndarray) -> Any:
        if dtype == "bfloat16" and terms.dtype == np.float32:
            raise ConfigError("arrays of bfloat16 need ml_dtypes: pip install ml_dtypes")
        return terms

    if name.partition(":")[0].partition(".")[0] == "torch":
        return [tensor]
    return [array, tensor] if "torch" in sys.modules else [array]


def _reason(error: BaseException) -> str:
    """An error of a stranger's code in one short line."""
    if isinstance(error, SystemExit):
        return "it ends the process"
    text = " ".join(str(error).split())[:LONGEST]
    if isinstance(error, ConfigError | ImportError | AttributeError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
