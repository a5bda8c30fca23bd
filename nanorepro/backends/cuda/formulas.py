"""The arithmetic of a model as CUDA C: operations, activation, loss, optimizer, accumulators.

Everything is traced (`trace`) from the factories that all backends share, except the exact sums,
which `exact.cu` adds in integers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nanorepro.backends.cuda.array_namespace import TYPES, DeviceFunctions, Namespace, Value
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.model.activations import ACTIVATIONS, sigmoid
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.accumulators import ACCUMULATORS
from nanorepro.numerics.fast_rounding import SHORT
from nanorepro.numerics.formats import significand_bits
from nanorepro.numerics.rounding import Operations, operations
from nanorepro.numerics.single_sums import KINDS, sites


def source_text(name: str) -> str:
    """One of the files of CUDA C beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


# float32's operations in any direction are instructions of the GPU; of SHORT bits, to nearest, the
# results of its own operations say enough
DIRECTED, PAIRED = Namespace(directed=True), Namespace(directed=False)
ARGUMENTS = {
    "add": "ab", "sub": "ab", "mul": "ab", "div": "ab", "sqrt": "a", "fma": "abc", "exp": "a",
}  # fmt: skip


@dataclass(frozen=True)
class Formulas:
    """A model's arithmetic: its text, the type of its numbers, and what memory its parts take.

    starts: where each array of the optimizer's state starts
    batch_bytes, unit_bytes: of a partial sum over the mini-batch, and over units, the largest
    """

    text: str
    dtype: Any
    starts: tuple[float, ...]
    batch_bytes: int
    unit_bytes: int


def namespace(dials: Dials) -> Namespace:
    """The way in which operations of a precision take the fewest instructions."""
    short = dials.rounding == "nearest" and significand_bits(dials.precision) <= SHORT
    return PAIRED if short else DIRECTED


def write_operations(program: DeviceFunctions, dials: Dials) -> tuple[Namespace, Operations, str]:
    """The operations, each a device function that is called; and the kind of their numbers."""
    xp = namespace(dials)
    ops = operations(xp, dials.precision, dials.rounding, dials.fma)
    kind = "d" if ops.dtype == np.float64 else "f"
    written: dict[str, Any] = {}
    for name, arguments in ARGUMENTS.items():
        kinds = kind * len(arguments)
        written[name] = program.define(f"op_{name}", getattr(ops, name), kinds, list(arguments))
    written["round"] = program.define("op_round", ops.round, "d", ["a"])
    # a GPU takes no longer for subnormal numbers
    return xp, replace(ops, decay=written["fma"], **written), kind


def write_accumulator(
    program: DeviceFunctions, name: str, xp: Any, ops: Operations, kind: str, how: str
) -> int:
    """A struct of a partial sum; its size in bytes."""
    number = TYPES[kind]
    if how == "exact":
        words = 140 if kind == "d" else 22
        program.texts.append(source_text("exact.cu"))
        program.texts.append(f"typedef Exact<{words}> {name};\n")
        return 8 * (words + 1)
    start, product, term, merge, result = ACCUMULATORS[how].make(xp, ops)
    zero = np.float64(0.0) if kind == "d" else np.float32(0.0)
    kinds = "".join("d" if np.asarray(v).dtype == np.float64 else "f" for v in start(zero))
    n = len(kinds)
    own, other = [[f"{who}s{k}" for k in range(n)] for who in ("", "o.")]
    names = [f"s{k}" for k in range(n)]

    def define(what: str, f: Callable[..., Any], more: str, arguments: list[str]) -> None:
        program.define(f"{name}_{what}", f, kinds + more, names + arguments)

    define("product", lambda *v: product(v[:n], v[n], v[n + 1], v[-1]), kind * 2, ["a", "b"])
    define("term", lambda *v: term(v[:n], v[n], v[-1]), kind, ["a"])
    define("merge", lambda *v: merge(v[:n], v[n:-1], v[-1]), kinds, [f"o{k}" for k in range(n)])
    define("result", lambda *v: result(v[:n], v[-1]), "", [])
    fields = " ".join(f"{TYPES[k]} {s} = 0;" for k, s in zip(kinds, own, strict=True))
    mine, theirs = ", ".join(own), ", ".join(other)
    program.texts.append(f"""struct {name} {{
  static constexpr bool EXACT = false;
  {fields}
  __device__ __forceinline__ void product({number} a, {number} b, RoundingKey t) {{
    {name}_product({mine}, a, b, t, {mine});
  }}
  __device__ __forceinline__ void term({number} a, RoundingKey t) {{
    {name}_term({mine}, a, t, {mine});
  }}
  __device__ __forceinline__ void merge(const {name}& o, RoundingKey t) {{
    {name}_merge({mine}, {theirs}, t, {mine});
  }}
  __device__ __forceinline__ {number} result(RoundingKey t) const {{
    return {name}_result({mine}, t);
  }}
}};
""")
    return sum(8 if k == "d" else 4 for k in kinds)


def write_sums(
    program: DeviceFunctions, xp: Any, ops: Operations, kind: str, dials: Dials, layers: int
) -> tuple[int, int]:
    """The partial sums of each layer's sums; the largest of those over the mini-batch, over units.

    `ForwardSum<K>::Type` is that of layer K; `with_forward(k, body)` calls body(sum), sum empty.
    `UnitRoom` and `BatchRoom` have room for each.
    """
    of = {site: dials.accumulator_of(*site) for site in sites(layers)}
    usual = dict(zip(KINDS, (dials.unit_accumulator,) * 2 + (dials.accumulator,), strict=True))
    names = {how: f"{how.capitalize()}Sum" for how in (*usual.values(), *of.values())}
    sizes = {
        how: write_accumulator(program, name, xp, ops, kind, how) for how, name in names.items()
    }
    for what in KINDS:
        others: dict[str, list[int]] = {}
        for (layer, of_kind), how in of.items():
            if of_kind == what and how != usual[what]:
                others.setdefault(how, []).append(layer)
        name, start = f"{what.capitalize()}Sum", names[usual[what]]
        text = f"template <int K> struct {name} {{ typedef {start} Type; }};\n"
        for how, numbers in others.items():
            text += "".join(
                f"template <> struct {name}<{k}> {{ typedef {names[how]} Type; }};\n"
                for k in numbers
            )
        cases = "".join(
            f"    {' '.join(f'case {k}:' for k in numbers)} return body({names[how]}());\n"
            for how, numbers in others.items()
        )
        program.texts.append(f"""{text}template <class Body>
__device__ __forceinline__ void with_{what}(u32 k, Body body) {{
  switch (k) {{
{cases}    default: return body({start}());
  }}
}}
""")
    over_batch, over_units = (
        max(sizes[how] for (_, what), how in of.items() if (what == "batch") == batch)
        for batch in (True, False)
    )
    for name, how, size in (
        ("Unit", dials.unit_accumulator, over_units),
        ("Batch", dials.accumulator, over_batch),
    ):
        room = f"alignas({min(size, 8)}) char bytes[{size}];"
        program.texts.append(f"typedef {names[how]} {name};\nstruct {name}Room {{ {room} }};\n")
    return over_batch, over_units


def write_optimizer(
    program: DeviceFunctions, xp: Any, ops: Operations, kind: str, config: Config
) -> tuple[float, ...]:
    """`update(m, at, g, rate, t)`: one weight at m[at] and its states; where those start.

    `update_values` does the same with the r-th of some weights and states in registers.
    """
    optimizer = OPTIMIZERS[config.optimizer]
    update, starts = optimizer.make_update(xp, ops, config), optimizer.starts(config)
    n = len(starts)

    def flat(w: Value, *rest: Any) -> tuple[Any, ...]:
        states, (g, rate, t) = rest[:n], rest[n:]
        w, found = update(w, states, g, rate, t)
        return w, *found

    arguments = ["w", *(f"s{k}" for k in range(n)), "g", "rate"]
    program.define("op_update", flat, kind * len(arguments), arguments)
    # the last state of 2^31 - 1 parameters lies beyond what 32 bits count
    places = ["m[at]"] + [f"m[at + {k + 1} * (u64)PARAMETERS]" for k in range(n)]
    given, values = ", ".join(places), ", ".join(f"v[{k}][r]" for k in range(n + 1))
    program.texts.append(f"""#define STATES {n}
__device__ __forceinline__ void update(number* m, u32 at, number g, number rate, RoundingKey t) {{
  op_update({given}, g, rate, t, {given});
}}
template <int N>
__device__ __forceinline__ void update_values(number (&v)[1 + STATES][N], int r, number g,
                                              number rate, RoundingKey t) {{
  op_update({values}, g, rate, t, {values});
}}
""")
    return starts


def formulas(config: Config, dials: Dials, parameters: int, layers: int) -> Formulas:
    """All formulas of a model of so many layers and parameters (with what lies between them)."""
    program = DeviceFunctions()
    xp, ops, kind = write_operations(program, dials)
    value, backward = ACTIVATIONS[config.act].make(xp, ops, config.beta)
    sigma = sigmoid(xp, ops)
    size = ops.const(float(config.batch))
    number = TYPES[kind]

    def delta(z: Value, y: Value, t: Any) -> Value:
        return ops.div(ops.sub(sigma(z, t), y, t), size, t)

    program.define("activation", value, kind, ["z"])
    program.define("activation_backward", backward, kind * 2, ["d", "z"])
    program.define("output_delta", delta, kind * 2, ["z", "y"])
    starts = write_optimizer(program, xp, ops, kind, config)
    batch, unit = write_sums(program, xp, ops, kind, dials, layers)
    head = f"typedef {number} number;\n#define PARAMETERS {parameters}u\n"
    fused = f"constexpr bool FUSED = {str(ops.fused).lower()};\n"
    return Formulas(
        head + fused + program.text(), ops.dtype, tuple(ops.const(s) for s in starts), batch, unit
    )
