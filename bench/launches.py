"""A step of the deep model, launch by launch: counted on the machine code, a model, no measurement.

    python -m bench.launches                     32 models on sm_90
    python -m bench.launches --models 64 --architecture 80

Each launch takes as long as its instructions (bench/multiprocessor.py) or its bytes, whichever is
longer, and GAP more.  All is compiled for whole tiles, as the deep model's are, and a layer of 32
features; what a kernel has besides, for other layers, is counted where the way leads through it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.multiprocessor import (
    LATENCIES,
    PIPES,
    SCHEDULERS,
    SHARED,
    WIDE,
    Instruction,
    Stream,
    run,
)  # fmt: skip
from bench.sass import (
    CLOCK,
    PROCESSORS,
    compiled,
    disassembled,
    distinct_features,
    examples_with_one,
    loops,
    path,
)  # fmt: skip
from nanorepro.backends.cuda.ensemble import LARGE, NARROW, THREADS, tiles_for
from nanorepro.backends.cuda.program import LANES, OWNED, program_of
from nanorepro.config import Config
from nanorepro.data.worlds import marginals
from nanorepro.dials import dials

GAP = 1.5e-6  # seconds from the end of a launch to the begin of the next one, assumed
MEMORY = {"80": 2.0e12, "90": 4.8e12, "100": 8.0e12}  # bytes a second: A100, H200, B200
# conditions that hold for the deep model's layers
WHOLE = (
    ("(M | N | K) % 4 == 0", "true"), ("K - k0 >= TK", "true"),
    ("if ((layer.fan_out | layer.fan_in) % 4 == 0) {", "if (true) {"),
    ("u + r >= layer.fan_out ||", "false &&"),
    ("masked(words, n) && (k == 0 || q >= weights)", "true"),
    ("if (k == 0 && FOURS_FIRST) {", "if (true) {"), ("if (layer.biases) sum", "if (true) sum"),
    ("j + r >= layer.fan_in ||", "false &&"), ("j + r < layer.fan_in && i + c < n", "true"),
)  # fmt: skip
RESIDENT = 4  # blocks of tiles on a multiprocessor, by their registers
WARPS = 64  # of a multiprocessor


@dataclass(frozen=True)
class Launch:
    """A kernel of a step for one layer: blocks and bytes of one model, turns of its loop."""

    kernel: str
    layer: int
    blocks: int
    turns: int
    bytes: int


def launches(config: Config) -> Iterator[Launch]:
    """Those of a step, in order."""
    net, n = program_of(config, dials(config, 0), 32).shape.net, config.batch
    number, states = 4, len(program_of(config, dials(config, 0), 32).formulas.starts)
    fours = program_of(config, dials(config, 0), 32).fours
    present = round(2 * sum(marginals(config.data)))

    def of(kernel: str, k: int, rows: int, columns: int, terms: int, moved: int) -> Launch:
        tiles = tiles_for(rows, columns, terms) if k and kernel != "output" else ""
        if not tiles:
            blocks = -(-rows * columns // THREADS)
            return Launch(kernel, k, blocks, terms, moved * number)
        height, width, depth = LARGE if tiles == "large" else NARROW
        blocks = -(-rows // height) * -(-columns // width)
        return Launch(f"{kernel}_{tiles}", k, blocks, -(-terms // depth), moved * number)

    for k, layer in enumerate(net):
        weights, out, below = layer.fan_in * layer.fan_out, layer.fan_out * n, layer.fan_in * n
        terms, each = (layer.fan_in, 1) if k else (present, 4 if fours else 1)
        yield of("forward", k, layer.fan_out // each, n, terms, weights + 2 * out + below * (k > 0))
    yield of("output", len(net) - 1, 1, n, 1, n)
    owned = program_of(config, dials(config, 0), 32).owned
    for k in range(len(net) - 1, 0, -1):
        layer = net[k]
        weights, out, below = layer.fan_in * layer.fan_out, layer.fan_out * n, layer.fan_in * n
        if k in owned:
            blocks = layer.fan_in // OWNED
            moved = 2 * (1 + states) * weights + blocks * out + 3 * below
            yield Launch("backward_descend", k, blocks, layer.fan_out // 16, moved * number)
        else:
            yield of("backward", k, layer.fan_in, n, layer.fan_out, weights + out + 2 * below)
    for k in range(1, len(net)):
        layer = net[k]
        if k not in owned and tiles_for(layer.fan_out, layer.fan_in, n) == "large":
            moved = 2 * (1 + states) * layer.fan_in * layer.fan_out
            moved += (layer.fan_out + layer.fan_in) * n
            yield of("descend", k, layer.fan_out, layer.fan_in, n, moved)
    # the rest: the first layer's, of the features that a mini-batch has, is by far the most
    weights = distinct_features(config) * net[0].fan_out
    moved = 2 * (1 + states) * weights + net[0].fan_out * n
    yield Launch("descend", 0, -(-weights // THREADS), examples_with_one(config), number * moved)


def turn(code: list[Instruction], labels: dict[str, int]) -> tuple[list, list]:
    """A kernel's instructions with one and with two turns of its longest loop; None: a barrier."""
    found = loops(code, labels)
    longest = max(found, key=lambda loop: loop[1] - loop[0], default=(0, 0))
    both = []
    for times in (1, 2):
        whole = path(code, labels, (0, len(code) - 1), {longest[1]: times})
        both.append([None if i.operation == "BAR" else i for i in until_exit(whole)])
    return both[0], both[1]


def until_exit(instructions: Iterator[Instruction]) -> Iterator[Instruction]:
    """All up to the end of the program."""
    for i in instructions:
        yield i
        if i.operation == "EXIT" and not i.conditional:
            return


def inner_turns(
    code: list[Instruction], labels: dict[str, int], turns: int, results: int = 1
) -> list[Instruction]:
    """A thread's instructions for so many results without tiles.

    The first innermost loop, that of chains, is gone through in turns.
    """
    found = loops(code, labels)
    inside = [a for a in found if not any(a[0] <= b[0] and b[1] < a[1] for b in found)]
    around = {}
    if inside:
        first, last = inside[0]
        around[last] = turns
        outer = [b for b in found if b[0] < first and last < b[1]]
        if outer:
            around[min(outer, key=lambda loop: loop[1] - loop[0])[1]] = results
    return list(until_exit(path(code, labels, (0, len(code) - 1), around)))


def streams(
    code: Sequence[Instruction | None], blocks: int, warps: int = THREADS // LANES
) -> list[Stream]:
    """The same of each warp of so many blocks."""
    return [Stream(w % SCHEDULERS, code, b) for b in range(blocks) for w in range(warps)]


def in_turns(
    one: Sequence[Instruction | None], two: Sequence[Instruction | None], turns: int, blocks: int
) -> float:
    """Cycles of so many blocks in so many turns, from those of one and of two."""
    first, second = run(streams(one, blocks)), run(streams(two, blocks))
    return first + (second - first) * (turns - 1)


def cycles_of(
    code: list[Instruction], labels: dict[str, int], launch: Launch, blocks: int
) -> float:
    """Cycles of a launch of so many blocks on one multiprocessor."""
    if "_" in launch.kernel:
        here = min(blocks, RESIDENT)
        return in_turns(*turn(code, labels), launch.turns, here) * blocks / here
    here = min(blocks, WARPS * LANES // THREADS)
    unrolled = 1 if launch.kernel == "forward" else 4
    one = inner_turns(code, labels, -(-launch.turns // unrolled))
    return run(streams(one, here)) * blocks / here


def replaced(source: str, texts: Sequence[tuple[str, str]]) -> str:
    """A program with some of its texts replaced."""
    for old, new in texts:
        source = source.replace(old, new)
    return source


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.launches", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--architecture", default="90", choices=CLOCK)
    given = parser.parse_args(argv)
    config = Config(model="deep", data="quadratic")
    source = replaced(program_of(config, dials(config, 0), 32).layers, WHOLE)
    binary = compiled(source, given.architecture)
    there, clock = PROCESSORS[given.architecture], CLOCK[given.architecture]
    total = 0.0
    print(f"modelled, not measured: deep, {given.models} models on sm_{given.architecture}; us")
    print(f"  assumed: {1e6 * GAP} between two launches, {MEMORY[given.architecture]:.2g} bytes/s,"
          f" latencies {LATENCIES}, pipes {PIPES}, of the memory {SHARED} and {WIDE}")  # fmt: skip
    for launch in launches(config):
        code, labels = disassembled(binary, launch.kernel)
        blocks = -(-launch.blocks * given.models // there)
        computing = cycles_of(code, labels, launch, blocks) / clock
        moving = launch.bytes * given.models / MEMORY[given.architecture]
        total += max(computing, moving) + GAP
        print(f"  {launch.kernel} {launch.layer}: {launch.blocks * given.models} blocks,"
              f" {1e6 * computing:.1f} computing, {1e6 * moving:.1f} moving")  # fmt: skip
    each = total / config.batch / given.models
    print(f"  a step: {1e6 * total:.1f}; {1e9 * each:.1f} ns an example and model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
