"""How long a GPU should take for a step, counted on the machine code: a model, not a measurement.

    python -m bench.sass                      384 towers on sm_90
    python -m bench.sass --model wide --architecture 100 --models 148 --log2-examples 20

What trains a model in one launch is compiled by NVRTC and disassembled (nvidia-cuda-nvdisasm).
A multiprocessor with as many models as it would have carries out their steps, instruction after
instruction (bench/multiprocessor.py, with the latencies that are assumed).  Branches: a slow path
of a division or root is not taken; the inner loops go around as often as a step of the world has
distinct features on average.  Drawing and shuffling is counted as well.  For the deep model:
bench.launches; for those of middling width: bench.blocks.
"""

import argparse
import importlib.util
import math
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bench.multiprocessor import (
    LATENCIES,
    PIPES,
    SCHEDULERS,
    SHARED,
    WIDE,
    Instruction,
    Stream,
    cycles_of,
)
from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.program import LANES, WORKERS, Program, program_of, streams
from nanorepro.config import Config
from nanorepro.data.worlds import marginals
from nanorepro.dials import dials

CLOCK = {"80": 1.41e9, "90": 1.98e9, "100": 1.97e9}  # boost: A100, H200, B200
PROCESSORS = {"80": 108, "90": 132, "100": 148}
GATHERED = 5.5e12  # bytes a second from the L2 cache, which the tables of the drawing lie in
SECTOR = 32  # bytes of it at a time
SLOW_PATH = 16  # instructions around the call of one, at most


def disassembler() -> Path:
    """nvdisasm of the wheel."""
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        if found := sorted(Path(folder).glob("*/bin/nvdisasm")):
            return found[-1]
    raise SystemExit("bench.sass: error: nvdisasm is not found; pip install nvidia-cuda-nvdisasm")


def disassembled(binary: bytes, kernel: str) -> tuple[list[Instruction], dict[str, int]]:
    """A kernel's instructions, and the index of each label."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.cubin"
        path.write_bytes(binary)
        words = [disassembler(), "-hex", "-c", path]
        text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    body = text[text.index(f".text.{kernel}:") :].splitlines()
    found, labels = [], {}
    for line, following in zip(body, [*body[1:], ""], strict=True):
        if line.startswith(".text.") and not line.startswith(f".text.{kernel}:"):
            break
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(found)
        code = re.match(r"\s+/\*([0-9a-f]+)\*/\s+(.*?);\s+/\* 0x[0-9a-f]+ \*/", line)
        if not code:
            continue
        control = int(re.search(r"/\* 0x([0-9a-f]+) \*/", following)[1], 16)
        guard = re.match(r"@!?U?P\w+\s+", code[2])
        plain = code[2][guard.end() :] if guard else code[2]
        target = re.search(r"(\.L_x_\d+)", plain)
        conditional = bool(guard) or bool(re.match(r"BRA\S*\s+!?U?P\d", plain))
        found.append(
            Instruction(
                int(code[1], 16),
                plain.split()[0],
                plain,
                conditional,
                target[1] if target else "",
                control >> 41 & 15,
                control >> 46 & 7,
                control >> 49 & 7,
                control >> 52 & 63,
            )  # fmt: skip
        )
    return found, labels


def loops(code: list[Instruction], labels: dict[str, int]) -> list[tuple[int, int]]:
    """(first, last) of every loop, by its last instruction, the innermost of a place first."""
    return [
        (labels[i.target], k)
        for k, i in enumerate(code)
        if i.name.startswith("BRA") and i.target in labels and labels[i.target] < k
    ]


def path(code: list[Instruction], labels: dict[str, int], step, around: dict[int, int]):
    """The instructions of one step in the order carried out."""
    k, last = step
    left = dict(around)
    while True:
        i = code[k]
        yield i
        if k == last:
            return
        k += 1
        if not i.name.startswith("BRA") or i.target not in labels:
            continue
        to = labels[i.target]
        if to < k:
            left[k - 1] = left.get(k - 1, 1) - 1
            if left[k - 1] > 0:
                k = to
            else:
                left[k - 1] = around.get(k - 1, 1)
        elif not i.conditional or (
            to - k < SLOW_PATH and any(c.name.startswith("CALL") for c in code[k:to])
        ):
            k = to  # the way out of a loop is conditional, and is not taken: it ends at its end


def distinct_features(config: Config) -> int:
    """Features that a mini-batch has on average, of both halves."""
    return round(sum(2 * (1 - (1 - p) ** config.batch) for p in marginals(config.data)))


def examples_with_one(config: Config) -> int:
    """Examples of a mini-batch that have one of its features, on average."""
    return round(2 * sum(marginals(config.data)) * config.batch / distinct_features(config))


@dataclass(frozen=True)
class Counted:
    """A step of one model: the instructions of each warp, None where they wait for each other."""

    warps: list[list[Instruction | None]]

    @property
    def mix(self) -> Counter[str]:
        return Counter(i.operation for code in self.warps for i in code if i)

    def cycles(self, models: int) -> float:
        """Cycles of a step of so many models on one multiprocessor."""
        found = [
            Stream((w + m * len(self.warps)) % SCHEDULERS, code, m)
            for m in range(models)
            for w, code in enumerate(self.warps)
        ]
        return cycles_of(found)


def count_small(config: Config, program: Program, architecture: str) -> Counted:
    """A step of `train_small`."""
    code, labels = disassembled(compiled(program.small, architecture), program.kernel)
    found = loops(code, labels)
    step = max(found, key=lambda loop: loop[1] - loop[0])
    inner = [loop for loop in found if step[0] <= loop[0] and loop[1] < step[1]]
    # the first inner loop is over the features present; the last over them again, some at a time
    features, width = distinct_features(config), program.shape.net[0].fan_out
    lanes = 1 << max(0, math.ceil(math.log2(max(1, width // (4 if width % 4 == 0 else 1)))))
    around = {inner[0][1]: features, inner[-1][1]: -(-features // (LANES // lanes))}
    return Counted([list(path(code, labels, step, around))])


# the parts of a step of wide.cu that warps carry out beside each other, each in a loop of its own
PARTS = """
#define BEGIN extern __shared__ float4 shared[]; number* m = reinterpret_cast<number*>(shared); \\
  const u32 lane = threadIdx.x % 32; const RoundingKey t{0, 0, 0};
extern "C" __global__ void first(u32 n, number* out) {
  BEGIN
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) first_layer(m, lane * n + q, lane, 1, t);
}
extern "C" __global__ void output(u32 n, number* out) {
  BEGIN
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) {
    m[OUT + q + lane] = output_delta(op_add(m[OUT + q + lane], m[BIASES], t), out[0], t);
  }
}
extern "C" __global__ void inputs(u32 n, number* out) {
  BEGIN
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) update_bias(m, m + OUT, q + lane, out[0], t);
}
extern "C" __global__ void weights(u32 n, number* out) {
  BEGIN
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) update_first(m, q + lane, out[0], t);
}
extern "C" __global__ void eight(u32 n, number* out) {
  BEGIN
  number h[M];
  for (int j = 0; j < M; ++j) h[j] = m[H0 + j * ROW + lane];
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) forward_eight(m, h, lane, q, t);
}
extern "C" __global__ void out_chain(u32 n, number* out) {
  BEGIN
  Unit sum;
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) forward_chain(m, lane, q * EIGHTS, q * EIGHTS + EIGHTS, sum, t);
  out[lane] = sum.result(t);
}
extern "C" __global__ void unit(u32 n, number* out) {
  BEGIN
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) descend_unit(m, m + OLD + lane, q * 32 + lane, out[0], t);
}
extern "C" __global__ void in_chain(u32 n, number* out) {
  BEGIN
  Unit back[PAIR];
  constexpr u32 ALL = PART / 8;
#pragma unroll 1
  for (u32 q = 0; q < n; ++q) {
    backward_chain(m, m + OLD, lane, q * ALL, q * ALL + ALL, back, t);
  }
  for (int j = 0; j < PAIR; ++j) out[32 * j + lane] = back[j].result(t);
}
"""


def around_once(binary: bytes, kernel: str, times: int) -> list[Instruction]:
    """The outer loop of one of PARTS, and its longest inner one so many times."""
    code, labels = disassembled(binary, kernel)
    found = loops(code, labels)
    outer = max(found, key=lambda loop: loop[1] - loop[0])
    inner = [loop for loop in found if loop != outer and loop[1] < outer[1]]
    longest = max(inner, key=lambda loop: loop[1] - loop[0], default=outer)
    around = {longest[1]: times} if times else {}
    return list(path(code, labels, outer, around))


def count_wide(config: Config, program: Program, architecture: str) -> Counted:
    """A step of `train_wide`, whose warps have parts of their own between two barriers.

    What the loop over the steps has besides, some loads ahead, is not counted.
    """
    binary = compiled(program.small + PARTS, architecture)
    layer = program.shape.net[1]
    warps, count = program.threads // LANES, layer.fan_out
    beside = [w for w in range(warps) if w % SCHEDULERS]
    step_code: list[list[Instruction | None]] = [[] for _ in range(warps)]

    def together(parts: dict[int, list[Instruction]]) -> None:
        for w, own in enumerate(step_code):
            own += [*parts.get(w, []), None]

    sets = program.shape.net[0].sets
    first = around_once(binary, "first", distinct_features(config) // sets)
    together(dict.fromkeys(range(sets), first))
    each, eights = around_once(binary, "eight", 0), 2 * len(beside)
    chain = around_once(binary, "out_chain", eights // 2 - 1)
    for begin in range(0, count // 8 + eights, eights):
        parts_of = [
            range(begin, min(begin + eights, count // 8))[k :: len(beside)]
            for k in range(len(beside))
        ]
        parts = {w: each * len(f) for w, f in zip(beside, parts_of, strict=True)}
        before = max(0, min(eights, count // 8 - begin + eights)) if begin else 0
        together({**parts, 0: chain[: len(chain) * before // eights]})
    together({0: around_once(binary, "output", 0)})
    unit, part = around_once(binary, "unit", 0), WORKERS * LANES
    chains = warps - WORKERS
    chain = around_once(binary, "in_chain", part // 16 - 1)
    for begin in range(0, count + part, part):
        parts = {chains + k: unit for k in range(part // LANES) if begin + k * LANES < count}
        before = max(0, min(part, count - begin + part)) if begin else 0
        short = chain[: len(chain) * before // part]
        together({**parts, **dict.fromkeys(range(chains), short)})
    together({chains: around_once(binary, "inputs", 0)})
    last = around_once(binary, "weights", 0)
    together({0: last, 1: last})
    return Counted(step_code)


def seconds_to_draw(config: Config, architecture: str) -> float:
    """Seconds to draw and shuffle an example of a model; both of a pair are drawn at once.

    By issue slots, or by the bytes of the alias table, of which two columns are read; the odds come
    from the L1 cache: all but one in ten thousand patterns drawn are of 1,024.
    """
    binary = compiled(streams(), architecture)
    code, labels = disassembled(binary, "draw")
    drawing = len(code) / LANES / 2
    shuffling = 0.0
    if 1 < config.window <= LANES:
        code, labels = disassembled(binary, "shuffle_short")
        one, four = sorted(loops(code, labels), key=lambda loop: loop[1] - loop[0])
        turns = {one[1]: (config.window - 1) % 4, four[1]: (config.window - 1) // 4}
        whole = (0, max(k for k, i in enumerate(code) if i.operation == "EXIT"))
        shuffling = len(list(path(code, labels, whole, turns))) / config.window
    issue = PROCESSORS[architecture] * SCHEDULERS * CLOCK[architecture]
    return max(drawing / issue, 2 * SECTOR / GATHERED / 2) + shuffling / issue


def compiled(source: str, architecture: str) -> bytes:
    return nvrtc.compiled(source, architecture, binary=True)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.sass", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--model", default="tower")
    parser.add_argument("--hidden", default="")
    parser.add_argument("--optimizer", default="adagrad")
    parser.add_argument("--architecture", default="90", choices=CLOCK)
    parser.add_argument("--models", type=int, default=384)
    parser.add_argument("--log2-examples", type=int, default=26)
    given = parser.parse_args(argv)
    config = Config(model=given.model, hidden=given.hidden, optimizer=given.optimizer)
    program = program_of(config, dials(config, 0), 32)
    counts = {"train_small": count_small, "train_wide": count_wide}
    if program.kernel not in counts:
        print("bench.sass: error: no kernel trains such a model in one launch", file=sys.stderr)
        return 2
    counted = counts[program.kernel](config, program, given.architecture)
    there, clock = PROCESSORS[given.architecture], CLOCK[given.architecture]
    most = 1 if program.kernel == "train_wide" else SCHEDULERS * 16
    here = min(most, -(-given.models // there))
    waves = -(-given.models // (here * there))
    alone, cycles = counted.cycles(1), counted.cycles(here)
    steps = (1 << given.log2_examples) / config.batch
    drawing = (
        seconds_to_draw(config, given.architecture) * given.models * (1 << given.log2_examples)
    )
    training = cycles / clock * steps * waves
    print(f"modelled, not measured: {given.model} {given.hidden} on sm_{given.architecture}")
    print(f"  distinct features in a mini-batch {distinct_features(config)}; assumed latencies"
          f" {LATENCIES}, pipes {PIPES}, of the memory {SHARED} and {WIDE}")  # fmt: skip
    issued = sum(counted.mix.values())
    print(f"  a step of a model: {issued:,} instructions of warps, {alone:,.0f} cycles alone,"
          f" {cycles:,.0f} beside {here - 1} others on its multiprocessor")  # fmt: skip
    print(f"  {', '.join(f'{n} {name}' for name, n in counted.mix.most_common(12))}")
    print(f"  {given.models} models, {here} a multiprocessor, 2^{given.log2_examples} examples:"
          f" {1e6 * waves * cycles / clock:.2f} us a step, {training:.1f} s,"
          f" and {drawing:.1f} s to draw and shuffle")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
