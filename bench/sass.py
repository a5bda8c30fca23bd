"""How long a GPU should take for a step, counted on the machine code: a model, not a measurement.

    python -m bench.sass                      the tower on sm_90
    python -m bench.sass --model double --architecture 100 --models 384 --log2-examples 26

The kernel of small models is compiled by NVRTC and disassembled (wheel nvidia-cuda-nvdisasm).  One
warp is followed once around the loop over the steps: each instruction waits as long as the code
itself says (stall counts) and for the scoreboards that it names, which are set after LATENCIES
cycles.  Those are assumed.  Branches: a slow path of a division or root is not taken; the inner
loops go around as often as a step of the world has distinct features on average.  Models on one
scheduler hide each other's waiting, until its issue slots are full.
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

from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.program import LANES, program_of
from nanorepro.config import Config, dials
from nanorepro.data.worlds import marginals

# cycles until a result can be read, where the code waits by a scoreboard; others 8
LATENCIES = {
    "LDS": 30, "LDG": 500, "LDC": 40, "LDCU": 30, "ULDC": 12, "MUFU": 22, "SHFL": 25, "REDUX": 35,
    "VOTE": 12, "S2R": 25, "S2UR": 25, "R2UR": 12, "FCHK": 20, "F2F": 25, "I2F": 20, "FLO": 18,
    "POPC": 18, "BREV": 18, "DFMA": 16, "DADD": 16, "DMUL": 16, "DSETP": 16, "STS": 12, "STG": 12,
    "WARPSYNC": 12,
}  # fmt: skip
SOURCES_READ = 12  # cycles until a store's or a load's operands may be overwritten
WIDE_LOAD = 4  # cycles more for 16 bytes a lane
CLOCK = {"80": 1.41e9, "90": 1.98e9, "100": 1.97e9}  # boost: A100, H200, B200
PROCESSORS = {"80": 108, "90": 132, "100": 148}
SLOW_PATH = 16  # instructions around the call of one, at most
SCHEDULERS = 4  # of a multiprocessor


@dataclass(frozen=True)
class Instruction:
    """One instruction with its control bits."""

    at: int
    name: str
    text: str
    conditional: bool
    target: str
    stall: int
    sets: int  # scoreboards that it sets when its result, and its operands, are done; 7: none
    frees: int
    waits: int  # a bit for each scoreboard that it waits for


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


def cycles_of(steps: list[Instruction]) -> tuple[int, int]:
    """Cycles of a step, and those of them in which the warp waits for scoreboards."""
    ready, now, waited, marks = [0] * 8, 0, 0, []
    for _ in range(3):  # until what one step leaves waiting is the same for the next
        waited = 0
        for i in steps:
            at = max([now] + [ready[b] for b in range(6) if i.waits >> b & 1])
            waited += at - now
            now = at
            name = i.name.split(".")[0]
            latency = LATENCIES.get(name, 8) + WIDE_LOAD * ("128" in i.name)
            ready[i.sets] = max(ready[i.sets], now + latency)
            ready[i.frees] = max(ready[i.frees], now + SOURCES_READ)
            now += max(i.stall, 1)
        marks.append(now)
    return marks[-1] - marks[-2], waited


def distinct_features(config: Config) -> int:
    """Features that a mini-batch has on average, of both halves."""
    return round(sum(2 * (1 - (1 - p) ** config.batch) for p in marginals(config.data)))


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
    if not program.small:
        print("bench.sass: error: a warp does not train such a model", file=sys.stderr)
        return 2
    binary = nvrtc.compiled(program.small, given.architecture, binary=True)
    code, labels = disassembled(binary, "train_small")
    found = loops(code, labels)
    step = max(found, key=lambda loop: loop[1] - loop[0])
    inner = [loop for loop in found if step[0] <= loop[0] and loop[1] < step[1]]
    # the first inner loop is over the features present; the last over them again, some at a time
    features, width = distinct_features(config), program.shape.net[0].fan_out
    lanes = 1 << max(0, math.ceil(math.log2(max(1, width // (4 if width % 4 == 0 else 1)))))
    around = {inner[0][1]: features, inner[-1][1]: -(-features // (LANES // lanes))}
    steps = list(path(code, labels, step, around))
    cycles, waited = cycles_of(steps)
    mix = Counter(i.name.split(".")[0] for i in steps)
    issued = len(steps)
    here = -(-given.models // (PROCESSORS[given.architecture] * SCHEDULERS))
    seconds = max(cycles, issued * here) / CLOCK[given.architecture]
    total = seconds * (1 << given.log2_examples) / config.batch
    print(f"modelled, not measured: {given.model} {given.hidden} on sm_{given.architecture}")
    print(f"  distinct features in a mini-batch {features}, latencies assumed: {LATENCIES}")
    print(f"  a step: {issued} instructions of a warp, {cycles} cycles, {waited} of them waiting")
    print(f"  {', '.join(f'{n} {name}' for name, n in mix.most_common(12))}")
    print(f"  {given.models} models, {here} a scheduler, 2^{given.log2_examples} examples:"
          f" {1e6 * seconds:.2f} us a step, {total:.1f} s")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
