"""The package's formulas as CUDA C: an array namespace whose values write text when computed with.

A formula is a factory that takes an array namespace (`numerics.error_free`).  With the one made
here its values are names of CUDA C's variables, and each operation on them appends a statement to
the function that is being written.  So no formula is written a second time for the GPU.

A branch `if condition:` is followed both ways: the function is traced once for every way through
it, and the ways become an if and an else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from nanorepro.numerics.array_namespace import F
from nanorepro.numerics.array_namespace import Function as Formula

TYPES = {"f": "float", "d": "double", "u": "u32", "U": "u64", "b": "bool", "w": "Words"}
KINDS = {np.dtype(t): k for t, k in (("f4", "f"), ("f8", "d"), ("u4", "u"), ("u8", "U"))}
DTYPES = {kind: dtype for dtype, kind in KINDS.items()}
OPERATIONS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
ROUNDING_KEY = ("t.k0", "t.k1", "t.step")


class Fork(Exception):
    """A branch that the trace has not yet been told which way to go at."""

    def __init__(self, condition: "Value"):
        self.condition = condition


@dataclass
class Function:
    """One device function while it is traced: its statements, and the ways taken at branches."""

    program: "DeviceFunctions"
    ways: tuple[bool, ...] = ()
    lines: list[str] = field(default_factory=list)
    known: dict[tuple[str, str], "Value"] = field(default_factory=dict)
    branches: int = 0

    def value(self, kind: str, text: str) -> "Value":
        """A new variable of that value, or the one that has it already."""
        if (kind, text) not in self.known:
            name = f"v{len(self.known)}"
            self.lines.append(f"const {TYPES[kind]} {name} = {text};")
            self.known[kind, text] = Value(self, kind, name)
        return self.known[kind, text]

    def way(self, condition: "Value") -> bool:
        """Which way to go at a branch."""
        self.branches += 1
        if self.branches > len(self.ways):
            raise Fork(condition)
        return self.ways[self.branches - 1]


class Value:
    """A variable of a device function; computing with it writes a statement."""

    __array_ufunc__ = None  # NumPy's scalars leave the operation to this class
    __hash__ = object.__hash__

    def __init__(self, function: Function, kind: str, text: str):
        self.function, self.kind, self.text = function, kind, text

    def __bool__(self) -> bool:
        return self.function.way(self)

    def __neg__(self) -> "Value":
        return self.function.value(self.kind, f"-{self.text}")

    def __invert__(self) -> "Value":
        return self.function.value(self.kind, f"{'!' if self.kind == 'b' else '~'}{self.text}")


def literal(kind: str, value: Any) -> str:
    """A number as CUDA C writes it, exactly."""
    if kind in "uU":
        return f"{int(value)}{'u' if kind == 'u' else 'ull'}"
    number = float(value)
    if np.isfinite(number):
        return number.hex() + ("f" if kind == "f" else "")
    pattern = np.array(number, DTYPES[kind]).view("u4" if kind == "f" else "u8")
    return f"from_pattern({pattern}{'u' if kind == 'f' else 'ull'})"


def lifted(value: Any, function: Function, kind: str) -> Value:
    """A constant as a value of a function: NumPy's by their type, Python's of that kind."""
    if isinstance(value, Value):
        return value
    if isinstance(value, np.generic | np.ndarray):
        kind = KINDS[value.dtype]
    return Value(function, kind, literal(kind, value))


def operands(*values: Any) -> tuple[Function, str, list[Value]]:
    """Values of one kind, and the function that they belong to; raises TypeError if they differ."""
    first = next(v for v in values if isinstance(v, Value))
    found = [lifted(v, first.function, first.kind) for v in values]
    if len({v.kind for v in found}) > 1:
        raise TypeError(f"kinds differ: {', '.join(f'{v.text} is {v.kind}' for v in found)}")
    return first.function, first.kind, found


def intrinsic(kind: str, name: str, direction: str = "rn") -> str:
    """CUDA's function that rounds once: `__fadd_rn`, `__dadd_rn`, `__fmaf_rn`, `__fma_rn`, ..."""
    if name == "fma":
        return f"__fma{'f' if kind == 'f' else ''}_{direction}"
    return f"__{kind}{name}_{direction}"


def rounded(name: str, direction: str, *values: Any) -> Value:
    """An operation on floats that CUDA rounds once, in a direction."""
    function, kind, found = operands(*values)
    text = ", ".join(v.text for v in found)
    return function.value(kind, f"{intrinsic(kind, name, direction)}({text})")


def infix(sign: str, result: str = "") -> Callable[[Any, Any], Value]:
    """An operator of Python: of floats, if it rounds, as an intrinsic."""

    def apply(a: Any, b: Any) -> Value:
        function, kind, (left, right) = operands(a, b)
        if kind in "fd" and sign in OPERATIONS:
            return rounded(OPERATIONS[sign], "rn", left, right)
        return function.value(result or kind, f"{left.text} {sign} {right.text}")

    return apply


def _define(name: str, apply: Callable[[Any, Any], Value], swapped: bool) -> None:
    setattr(Value, f"__{name}__", apply)
    if swapped:
        setattr(Value, f"__r{name}__", lambda b, a: apply(a, b))


for _name, _sign in {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "and": "&", "or": "|", "xor": "^",
    "lshift": "<<", "rshift": ">>",
}.items():  # fmt: skip
    _define(_name, infix(_sign), True)
for _name, _sign in {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.items():
    _define(_name, infix(_sign, "b"), False)


class Namespace:
    """What `numerics.error_free` asks of an array namespace.

    `DIRECTED` chooses how p-bit operations are taken (`numerics.fast_rounding`).
    """

    FAST_FORMULAS, TABLES = True, False
    TOWARD_ZERO, UP, DOWN = "rz", "ru", "rd"

    def __init__(self, directed: bool) -> None:
        self.DIRECTED = directed

    @staticmethod
    def function(f: F) -> F:
        """A function of a formula, as it is: the trace goes through it."""
        return f

    @staticmethod
    def apart(f: F) -> F:
        """A device function that stays a call: what would be too long at every rounding."""

        def call(x: Value, t: Any) -> Value:
            return x.function.program.apart(f, x.kind)(x, t)

        return cast(F, call)

    # In every operation t is the rounding key, which plain operations do not read.

    @staticmethod
    def add(a: Any, b: Any, t: Any = None) -> Any:
        return a + b

    @staticmethod
    def sub(a: Any, b: Any, t: Any = None) -> Any:
        return a - b

    @staticmethod
    def mul(a: Any, b: Any, t: Any = None) -> Any:
        return a * b

    @staticmethod
    def div(a: Any, b: Any, t: Any = None) -> Any:
        return a / b

    @staticmethod
    def sqrt(a: Any, t: Any = None) -> Any:
        return rounded("sqrt", "rn", a)

    @staticmethod
    def fma(a: Any, b: Any, c: Any, t: Any = None) -> Any:
        return rounded("fma", "rn", a, b, c)

    @staticmethod
    def add_to(direction: Any, a: Any, b: Any) -> Any:
        return rounded("add", direction, a, b)

    @staticmethod
    def mul_to(direction: Any, a: Any, b: Any) -> Any:
        return rounded("mul", direction, a, b)

    @staticmethod
    def div_to(direction: Any, a: Any, b: Any) -> Any:
        return rounded("div", direction, a, b)

    @staticmethod
    def sqrt_to(direction: Any, a: Any) -> Any:
        return rounded("sqrt", direction, a)

    @staticmethod
    def fma_to(direction: Any, a: Any, b: Any, c: Any) -> Any:
        return rounded("fma", direction, a, b, c)

    @staticmethod
    def any_true(condition: Value) -> Value:
        """One thread has one number."""
        return condition

    @staticmethod
    def where(condition: Value, a: Any, b: Any) -> Value:
        function = condition.function
        kind = next((v.kind for v in (a, b) if isinstance(v, Value)), "d")
        _, kind, (a, b) = operands(lifted(a, function, kind), lifted(b, function, kind))
        return function.value(kind, f"{condition.text} ? {a.text} : {b.text}")

    @staticmethod
    def widen(a: Any) -> Any:
        if not isinstance(a, Value):
            return np.float64(a)
        return a if a.kind == "d" else a.function.value("d", f"(double){a.text}")

    @staticmethod
    def narrow(a: Any) -> Any:
        return a if a.kind == "f" else a.function.value("f", f"__double2float_rn({a.text})")

    @staticmethod
    def bits(a: Any) -> Any:
        return a.function.value("u" if a.kind == "f" else "U", f"pattern({a.text})")

    @staticmethod
    def from_bits(a: Any) -> Any:
        if not isinstance(a, Value):
            return a.view(np.float32 if a.dtype == np.uint32 else np.float64)
        return a.function.value("f" if a.kind == "u" else "d", f"from_pattern({a.text})")

    @staticmethod
    def philox(
        c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any
    ) -> tuple[Value, Value, Value, Value]:
        """Four 32-bit words as u64, as `streams.philox` has them."""
        function, _, found = operands(c0, c1, c2, c3, k0, k1)
        text = ", ".join(f"(u32){w.text}" for w in found)
        drawn = function.value("w", f"philox({text})")
        a, b, c, d = (function.value("U", f"(u64){drawn.text}.{name}") for name in "abcd")
        return a, b, c, d


class DeviceFunctions:
    """Device functions in the order in which they have to stand."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: dict[tuple[Formula, str], Formula] = {}

    def text(self) -> str:
        return "\n".join(self.texts) + "\n"

    def define(
        self, name: str, f: Formula, kinds: str, arguments: Sequence[str] = (), inline: bool = True
    ) -> Formula:
        """Write `f` as a device function of values of these kinds and a rounding key t.

        A single result is returned; a tuple is written to references that come last.  Returns a
        function of values that writes a call (of a single result).
        """
        names = list(arguments) or [f"a{n}" for n in range(len(kinds))]
        results: list[str] = []

        def follow(ways: tuple[bool, ...], written: int) -> list[str]:
            function = Function(self, ways)
            values = [Value(function, k, n) for k, n in zip(kinds, names, strict=True)]
            key = tuple(Value(function, "U", text) for text in ROUNDING_KEY)
            try:
                found = f(*values, key)
            except Fork as fork:
                n = len(function.lines)
                yes, no = (follow((*ways, way), n) for way in (True, False))
                head = [*function.lines[written:], f"if ({fork.condition.text}) {{"]
                return [*head, *("  " + line for line in yes), "}", *no]
            several = isinstance(found, tuple)
            kind = kinds[0] if kinds else "f"
            ends = [lifted(v, function, kind) for v in (found if several else (found,))]
            results[:] = [e.kind for e in ends]
            if several:
                last = [f"r{n} = {e.text};" for n, e in enumerate(ends)] + ["return;"]
            else:
                last = [f"return {ends[0].text};"]
            return [*function.lines[written:], *last]

        body = follow((), 0)
        several = body[-1] == "return;"
        body = body[:-1] if several else body
        heads = [f"{TYPES[k]} {n}" for k, n in zip(kinds, names, strict=True)] + ["RoundingKey t"]
        if several:
            heads += [f"{TYPES[k]}& r{n}" for n, k in enumerate(results)]
        kept = "__forceinline__" if inline else "__noinline__"
        kind = "void" if several else TYPES[results[0]]
        lines = [f"__device__ {kept} {kind} {name}({', '.join(heads)}) {{"]
        self.texts.append("\n".join([*lines, *("  " + line for line in body), "}", ""]))

        def call(*arguments: Any) -> Value:
            function = next(a for a in arguments if isinstance(a, Value)).function
            given = [lifted(a, function, k).text for a, k in zip(arguments, kinds, strict=False)]
            return function.value(results[0], f"{name}({', '.join([*given, 't'])})")

        return call

    def apart(self, f: Formula, kind: str) -> Formula:
        """A function of one value that is not in line, written where it is first needed."""
        if (f, kind) not in self.calls:
            name = f"{f.__name__}{len(self.calls)}"
            self.calls[f, kind] = self.define(name, f, kind, inline=False)
        return self.calls[f, kind]
