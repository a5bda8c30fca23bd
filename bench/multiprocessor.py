"""A multiprocessor that carries out streams of instructions: a model, with assumed latencies.

Each warp belongs to a scheduler, which issues one instruction a cycle, of the warp that could go on
first.  A warp goes on after the cycles that the code itself states, when the scoreboards that it
waits for are set, and when the pipe that the instruction needs is free.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

SCHEDULERS = 4  # of a multiprocessor
# cycles until a result can be read, where the code waits by a scoreboard; others 8
LATENCIES = {
    "LDS": 30, "LDG": 500, "LDC": 40, "LDCU": 30, "ULDC": 12, "MUFU": 22, "SHFL": 25, "REDUX": 35,
    "VOTE": 12, "S2R": 25, "S2UR": 25, "R2UR": 12, "FCHK": 20, "F2F": 25, "I2F": 20, "FLO": 18,
    "POPC": 18, "BREV": 18, "DFMA": 16, "DADD": 16, "DMUL": 16, "DSETP": 16, "STS": 12, "STG": 12,
    "WARPSYNC": 12,
}  # fmt: skip
SOURCES_READ = 12  # cycles until a store's or a load's operands may be overwritten
WIDE_LOAD = 4  # cycles more for 16 bytes a lane
BARRIER = 20  # cycles from the last warp at a barrier of the block to the next instruction
# cycles that an instruction of a warp keeps a scheduler's pipe, by NVIDIA's throughputs of sm_90;
# what is not here takes the ALU for 2
PIPES = {
    **dict.fromkeys(("FFMA", "FMUL", "FADD"), ("fma", 1)),
    **dict.fromkeys(("IMAD",), ("fma", 2)),
    **dict.fromkeys(("DFMA", "DADD", "DMUL", "DSETP"), ("float64", 2)),
    **dict.fromkeys(("MUFU", "F2F", "POPC", "FLO", "BREV", "FCHK"), ("special", 8)),
    **dict.fromkeys(("BRA", "BSSY", "BSYNC", "WARPSYNC", "BAR", "EXIT", "NOP"), ("branch", 1)),
}
# cycles that one keeps the memory pipe, which the four schedulers share; of 16 bytes a lane those
# loaded are often one place's for many lanes, those stored are not; with an address in a uniform
# register alone they are one place's for all
SHARED = {"LDS": 1, "STS": 1, "LDG": 1, "STG": 1, "SHFL": 1, "REDUX": 2}
WIDE = {"LDS": 2, "STS": 4, "LDG": 4, "STG": 4}


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

    @property
    def operation(self) -> str:
        """Its name without what follows a point."""
        return self.name.split(".")[0]

    @property
    def latency(self) -> int:
        """Cycles until its result can be read."""
        return LATENCIES.get(self.operation, 8) + WIDE_LOAD * ("128" in self.name)


def pipe(i: Instruction) -> tuple[str, int]:
    """The pipe that an instruction needs, and for how long."""
    name = i.operation
    if name in SHARED:
        if "128" in i.name and name in WIDE and "[UR" not in i.text:
            return "memory", WIDE[name]
        return "memory", SHARED[name]
    if name.startswith("U") or "UR" in name:
        return "uniform", 2
    return PIPES.get(name, ("alu", 2))


@dataclass(frozen=True)
class Stream:
    """What a warp carries out: instructions, and None where it waits for all warps of its block."""

    scheduler: int
    code: Sequence[Instruction | None]
    block: int = 0


def run(streams: Sequence[Stream]) -> float:
    """Cycles until the last warp is done."""
    free: dict[tuple[int, str], float] = {}  # when a pipe is
    issue = [0.0] * SCHEDULERS  # when a scheduler is
    ready = [[0.0] * 8 for _ in streams]
    place, end = [0] * len(streams), 0.0
    waiting: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    for s in streams:
        sizes[s.block] = sizes.get(s.block, 0) + 1
    queue = [(0.0, k) for k in range(len(streams))]
    while queue:
        now, w = heapq.heappop(queue)
        stream, at = streams[w], place[w]
        if at == len(stream.code):
            end = max(end, now)
            continue
        i = stream.code[at]
        if i is None:
            there = waiting.setdefault(stream.block, [])
            there.append(w)
            if len(there) == sizes[stream.block]:
                for other in waiting.pop(stream.block):
                    place[other] += 1
                    heapq.heappush(queue, (now + BARRIER, other))
            continue
        name, keeps = pipe(i)
        of = (-1 if name == "memory" else stream.scheduler, name)
        can = max(now, issue[stream.scheduler], free.get(of, 0.0))
        for b in range(6):
            if i.waits >> b & 1:
                can = max(can, ready[w][b])
        if can > now:
            heapq.heappush(queue, (can, w))
            continue
        issue[stream.scheduler], free[of] = now + 1, now + keeps
        ready[w][i.sets] = max(ready[w][i.sets], now + i.latency)
        ready[w][i.frees] = max(ready[w][i.frees], now + SOURCES_READ)
        place[w] += 1
        heapq.heappush(queue, (now + max(i.stall, 1), w))
    return end


def cycles_of(streams: Sequence[Stream], rounds: int = 2) -> float:
    """Cycles of one round of streams that are carried out again and again."""
    longer = [Stream(s.scheduler, list(s.code) * (rounds + 1), s.block) for s in streams]
    return (run(longer) - run(streams)) / rounds
