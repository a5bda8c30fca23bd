"""What a formula is computed with: the operations that every execution offers under one name.

Formulas (exp, rounding to p bits, activations, optimizers, accumulators) are factories that take an
array namespace `xp` and return functions of its values.  `numpy_arrays` computes with NumPy arrays,
`backends.numba.llvm.simd` with compiled vectors and scalars; a namespace whose values write another
language when they are computed with gives every formula in that language.

A factory binds what it needs of `xp` to local names outside the functions that it makes, because a
compiled function may capture only plain functions and constants.  Constants are NumPy scalars
(uint32, uint64, float32) and Python's floats (float64).  Between values the operators + - * / and
comparisons may be used, and & | ^ ~ << >> between unsigned integers and between conditions; each is
IEEE 754's, rounded to nearest, ties to even.  Where a function says `t`, it is the rounding key
(key 0, key 1, step), which plain operations do not read.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)
Value = Any  # a number, a vector or an array of one of the four types above, or of conditions


class ArrayNamespace(Protocol):
    """The operations of one execution; a module or an object.

    Attributes
    ----------
    FAST_FORMULAS : bool
        Whether operations may be carried out by other formulas with the same bits; then this is a
        `FastArrayNamespace`, too.
    """

    FAST_FORMULAS: bool

    def __hash__(self) -> int:
        """Factories are cached by their namespace."""

    def function(self, made: F, /) -> F:
        """Decorates every function that a factory makes."""

    def apart(self, made: F, /) -> F:
        """The same, for what takes much code at many places: a call rather than in line."""

    def add(self, a: Value, b: Value, t: Any = None) -> Value:
        """a + b."""

    def sub(self, a: Value, b: Value, t: Any = None) -> Value:
        """a - b."""

    def mul(self, a: Value, b: Value, t: Any = None) -> Value:
        """a·b."""

    def div(self, a: Value, b: Value, t: Any = None) -> Value:
        """a/b."""

    def sqrt(self, a: Value, t: Any = None) -> Value:
        """√a."""

    def fma(self, a: Value, b: Value, c: Value, t: Any = None) -> Value:
        """a·b + c, rounded once; all three float32 or all float64."""

    def where(self, condition: Value, a: Value, b: Value) -> Value:
        """a where the condition holds, else b; both are computed."""

    def widen(self, a: Value) -> Value:
        """float32 to float64, exactly; a float64 stays."""

    def narrow(self, a: Value) -> Value:
        """float64 to float32, rounded to nearest; a float32 stays."""

    def bits(self, a: Value) -> Value:
        """The bits of a float as an unsigned integer of the same width."""

    def from_bits(self, a: Value) -> Value:
        """A float from its bits."""

    def philox(
        self, c0: Value, c1: Value, c2: Value, c3: Value, k0: Value, k1: Value
    ) -> tuple[Value, Value, Value, Value]:
        """Philox4x32-10: four 32-bit words from a counter and a key, all held as uint64."""


class FastArrayNamespace(ArrayNamespace, Protocol):
    """What fast formulas need beside that.

    Attributes
    ----------
    DIRECTED : bool
        Whether there are operations on float32 rounded in any direction, `add_to` and the others.
    TABLES : bool
        Whether there is `lookup`.
    UP, DOWN, TOWARD_ZERO
        The directions.
    """

    DIRECTED: bool
    TABLES: bool
    UP: Any
    DOWN: Any
    TOWARD_ZERO: Any

    def any_true(self, conditions: Value) -> Any:
        """Whether one of some conditions holds."""

    def lookup(self, table: tuple[Value, ...], index: Value) -> Value:
        """table[index % 32] of 32 float32."""

    def add_to(self, direction: Any, a: Value, b: Value) -> Value:
        """a + b in float32, rounded in a direction."""

    def mul_to(self, direction: Any, a: Value, b: Value) -> Value:
        """a·b."""

    def div_to(self, direction: Any, a: Value, b: Value) -> Value:
        """a/b."""

    def sqrt_to(self, direction: Any, a: Value) -> Value:
        """√a."""

    def fma_to(self, direction: Any, a: Value, b: Value, c: Value) -> Value:
        """a·b + c."""
