"""What a function consists of, as a digest: its code, and the values that it is closed over.

Functions of equal content are compiled once, and their machine code on disk goes by it.  Pickled,
as Numba has it, equal functions would differ where they share parts that are equal but not one
object; and a kernel is made of hundreds.
"""

import hashlib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import CodeType, FunctionType
from typing import Any

import numpy as np


def content(function: Callable, *options: Any) -> str:
    """A digest of a function and, of a part, of the options that it is compiled with.

    What it reads as a global is told by the module and the name: it is the same all the time.

    Raises
    ------
    TypeError
        It is closed over a value of a type that is not known here, or that may change later.
    ValueError
        It is closed over a variable without a value: of itself, or of what is defined later.
    """
    cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
    by_name = tuple((function.__kwdefaults__ or {}).items())
    found = (function.__module__, function.__code__, function.__defaults__, by_name, cells, options)
    return hashlib.sha256(_text(found).encode()).hexdigest()


def _text(value: Any) -> str:
    """Different texts for different values, equal in all processes."""
    if isinstance(value, tuple):
        found = ", ".join(map(_text, value))
    elif isinstance(value, FunctionType):
        of_part = getattr(value, "_numba_type_", None)
        found = getattr(of_part, "content", None) or content(value)
    elif isinstance(value, CodeType):
        names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
        shape = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount)
        where = (value.co_qualname, value.co_firstlineno, value.co_flags, value.co_exceptiontable)
        found = _text((*names, *shape, *where, value.co_code, value.co_consts))
    elif isinstance(value, np.generic):
        found = value.tobytes().hex()
    elif isinstance(value, float):
        found = value.hex()
    elif isinstance(value, type):
        return f"type {value.__module__}.{value.__qualname__}"
    elif is_dataclass(value) and value.__dataclass_params__.frozen:
        found = ", ".join(_text(getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, int | str | bytes | Enum | None):
        found = repr(value)
    else:
        raise TypeError(f"{value!r}: say here what a value of this type consists of")
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}({found})"
