"""A step of a model that one block trains (`train_block`), part by part: a model, no measurement.

    python -m bench.blocks                       528 models of --hidden 64,32 on sm_90
    python -m bench.blocks --hidden 100,50 --models 132

Between two barriers each warp has its share of a layer's sums; each part is compiled as a kernel of
its own, and a multiprocessor carries it out with as many blocks as it would have
(bench/multiprocessor.py).  What a block has written lies in its L1 cache, which takes as long as
shared memory.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from bench.launches import WHOLE, in_turns, inner_turns, replaced, streams, turn
from bench.multiprocessor import Instruction, run
from bench.sass import (
    CLOCK,
    PROCESSORS,
    compiled,
    disassembled,
    distinct_features,
    examples_with_one,
)
from nanorepro.backends.cuda.ensemble import BLOCK_WORK, THREADS
from nanorepro.backends.cuda.program import LANES, Program, program_of
from nanorepro.config import Config
from nanorepro.data.worlds import marginals
from nanorepro.dials import dials

REGISTERS = 1 << 16  # of a multiprocessor
TILE, TERMS = 32, 16  # MIDDLE of `tiles.cu`
# the tiles of a block, as kernels
TILES = """
#define KERNEL extern "C" __global__ void __launch_bounds__(TILE_THREADS)
KERNEL forward_middle(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                      u64 step) {
  forward_tile<MIDDLE>(k, memory, z, h, n, keys, step);
}
KERNEL backward_middle(u32 k, const number* memory, const number* z, number* d, u32 n,
                       const u64* keys, u64 step) {
  backward_tile<MIDDLE>(k, memory, z, d, n, keys, step);
}
KERNEL batch_middle(u32 k, number* memory, const number* h, const number* d, u32 n,
                    const u64* keys, u64 step, const number* rates) {
  descend_tile<MIDDLE>(k, memory, h, d, n, rounding_key(keys, step), rates[0]);
}
"""
# conditions of a layer above the first, without tiles
ABOVE = (
    ("if (k == 0 && FOURS_FIRST) {", "if (false) {"),
    ("    if (k == 0) {\n      const u32* example", "    if (false) {\n      const u32* example"),
    ("masked(words, n) && (k == 0 || q >= weights)", "false"),
    ("q >= weights || (k == 0 && !REAL && has(example, j))", "false"),
    ("k == 0 && REAL", "false"), ("} else if (k > 0) {", "} else {"),
    ("if (layer.biases) sum", "if (true) sum"),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Sums of a layer: how many there are, and the turns of the loop over the terms of one."""

    kernel: str
    layer: int
    sums: int
    turns: int


def parts(config: Config, program: Program) -> Iterator[Part]:
    """Those of a step, in order."""
    net, n = program.shape.net, config.batch

    def tiles(kind: str, k: int, rows: int, columns: int, terms: int) -> Part:
        count = -(-rows // TILE) * -(-columns // TILE)
        return Part(f"{kind}_middle", k, count, -(-terms // TERMS))

    for k, layer in enumerate(net):
        if (k, "forward") in program.tiled:
            yield tiles("forward", k, layer.fan_out, n, layer.fan_in)
        elif k:
            yield Part("forward", k, layer.fan_out * n, -(-layer.fan_in // 4))
        else:
            present = round(2 * sum(marginals(config.data)))
            yield Part("forward", k, layer.fan_out * n // (4 if program.fours else 1), present)
    yield Part("output", len(net) - 1, n, 1)
    for k in range(len(net) - 1, 0, -1):
        layer = net[k]
        if (k, "backward") in program.tiled:
            yield tiles("backward", k, layer.fan_in, n, layer.fan_out)
        else:
            yield Part("backward", k, layer.fan_in * n, -(-layer.fan_out // 4))
        if (k, "batch") in program.tiled:
            yield tiles("batch", k, layer.fan_out, layer.fan_in, n)
        else:
            yield Part("descend", k, layer.fan_in * layer.fan_out, -(-n // 4))
    # four examples a turn
    turns = -(-examples_with_one(config) // 4)
    yield Part("descend", 0, distinct_features(config) * net[0].fan_out, turns)


def near(code: Sequence[Instruction | None]) -> list[Instruction | None]:
    """The same with global memory in the L1 cache."""
    return [i and replace(i, name=i.name.replace("LDG", "LDS")) for i in code]


def cycles_of(part: Part, binaries: dict[str, bytes], blocks: int) -> float:
    """Cycles of a part of a step with so many blocks on a multiprocessor."""
    if part.kernel.endswith("_middle"):
        one, two = turn(*disassembled(binaries["tiles"], part.kernel))
        return in_turns(near(one), near(two), part.turns, blocks) * part.sums
    code, labels = disassembled(binaries["above" if part.layer else "first"], part.kernel)
    warps = min(THREADS, -(-part.sums // LANES) * LANES) // LANES
    share = inner_turns(code, labels, part.turns, -(-part.sums // THREADS))
    return run(streams(near(share), blocks, warps))


def resident(binary: bytes) -> int:
    """Blocks that a multiprocessor has the registers for."""
    code, _ = disassembled(binary, "train_block")
    most = max(int(r) for i in code for r in re.findall(r"\bR(\d+)\b", i.text))
    return REGISTERS // (-(-(most + 1) // 8) * 8 * THREADS)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.blocks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--hidden", default="64,32")
    parser.add_argument("--models", type=int, default=528)
    parser.add_argument("--architecture", default="90", choices=CLOCK)
    given = parser.parse_args(argv)
    config = Config(hidden=given.hidden)
    program = program_of(config, dials(config, 0), 32)
    work = program.shape.parameters * config.batch
    if program.kernel or not program.tiled or work > BLOCK_WORK:
        print("bench.blocks: error: no block trains such a model by tiles", file=sys.stderr)
        return 2
    texts = {"first": WHOLE, "above": ABOVE, "tiles": WHOLE}
    binaries = {
        name: compiled(replaced(program.layers, of) + TILES, given.architecture)
        for name, of in texts.items()
    }
    there, clock = PROCESSORS[given.architecture], CLOCK[given.architecture]
    blocks = min(resident(binaries["first"]), -(-given.models // there))
    print(f"modelled, not measured: {given.hidden}, {given.models} models on"
          f" sm_{given.architecture}, {blocks} on each multiprocessor; cycles")  # fmt: skip
    total = 0.0
    for part in parts(config, program):
        cycles = cycles_of(part, binaries, blocks)
        total += cycles
        print(f"  {part.kernel} {part.layer}: {cycles:,.0f}")
    waves = -(-given.models // (there * blocks))
    step = total * waves / clock
    print(f"  a step: {total:,.0f}; {1e6 * step:.1f} us for all,"
          f" {1e9 * step / config.batch / given.models:.2f} ns an example and model")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
