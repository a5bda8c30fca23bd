"""A launch: all threads of the grid at once, an array an operation.

The threads at the lowest place in the program go on first.  Collectives wait for all 32 lanes of a
warp; if some never come, that is an error.
"""

import re
from typing import Any

import numpy as np
from support.ptx import operations
from support.ptx.memory import Threads
from support.ptx.operations import CANONICAL, DTYPES
from support.ptx.parser import FILES, Instruction, Module, PtxError

WIDTHS = (np.uint32, np.uint64, np.bool_)
EVERYONE = 0xFFFFFFFF
KEEP_NAN = ("a", "-a", "abs(a)", "np.where(c, a, b)")  # no arithmetic: a NaN stays as it is


def compile_blocks(module: Module) -> dict[int, tuple[Any, int]]:
    """Straight lines of operations as compiled Python; by their first place, with their end."""
    found, at, code = {}, 0, module.code
    while at < len(code):
        if code[at].kind != "do":
            at += 1
            continue
        end, lines = at, []
        while end < len(code) and code[end].kind == "do":
            if end > at and end in module.leaders:
                break
            op = code[end].operation
            names = {
                name: f"{kind}{register}[i]"
                for name, kind, register in zip("abce", op.sources, code[end].sources, strict=False)
            }
            arguments = ", ".join(names)
            lines.append((op, names, arguments, code[end].target))
            end += 1
        text = []
        for op, names, _, target in lines:
            expression = op.expression
            for name, value in names.items():
                expression = _replaced(expression, name, value)
            text.append(f"{op.result}{target}[i] = {expression}")
            if module.sees_bits and op.result == "f" and op.expression not in KEEP_NAN:
                text.append(f"canonical(f{target}, u{target}, i)")
        found[at] = compile("\n".join(text), f"<ptx {at}>", "exec"), end
        at = end
    return found


def _replaced(expression: str, name: str, value: str) -> str:
    return re.sub(rf"(?<![\w.]){name}(?![\w(])", value, expression)


def canonical(floats, bits, i) -> None:
    """Make every NaN the GPU's."""
    nan = floats[i] != floats[i]
    if nan.any():
        bits[i] = np.where(nan, CANONICAL, bits[i])


class Launch:
    """One launch of one entry."""

    def __init__(
        self, module: Module, blocks: dict[int, tuple[Any, int]], name: str, grid, block, space
    ):
        self.module, self.blocks, self.name, self.space = module, blocks, name, space
        self.threads: Threads = space.threads
        self.grid, self.block, self.n = grid, block, self.threads.count
        self.everyone = np.arange(self.n)

    def prepare(self, values: dict[str, int], environment: dict[str, Any]) -> None:
        """Registers with their constants, and the names that the compiled lines use."""
        thread = self.everyone % self.block
        group = self.everyone // self.block
        special = {
            "%tid.x": thread, "%ctaid.x": group % self.grid[0], "%ctaid.y": group // self.grid[0],
            "%ntid.x": self.block, "%nctaid.x": self.grid[0], "%nctaid.y": self.grid[1],
            "%laneid": thread % 32,
        }  # fmt: skip
        self.environment = environment
        if not environment:
            sizes = zip(self.module.files, WIDTHS, strict=True)
            files = [np.zeros((n, self.n), dtype) for n, dtype in sizes]
            # those of other kernels are as they come: memory that is not touched is not there
            others = [e.own for name, e in self.module.entries.items() if name != self.name]
            for k, value in enumerate((0xDEADBEEF, 0xDEADBEEFDEADBEEF)):
                used = np.ones(len(files[k]), bool)
                for own in filter(None, others):
                    used[own[k]] = False
                for row in np.flatnonzero(used):
                    files[k][row] = value
            for kind, dtype in DTYPES.items():
                rows = files[FILES[kind]].view(dtype)
                environment.update((f"{kind}{k}", rows[k]) for k in range(len(rows)))
            environment.update(vars(operations), canonical=canonical, np=np, files=files)
        self.files = environment["files"]
        for file, register, value in self.module.constants:
            if isinstance(value, str):
                self.files[file][register] = special[value]
            elif not isinstance(value, tuple):
                self.files[file][register] = value
            elif value[:2] == ("parameter", self.name) and value[2] in values:
                self.files[file][register] = values[value[2]]

    def fail(self, what: str, instruction: Instruction, who: np.ndarray) -> PtxError:
        return PtxError(f"{instruction.text}: {what}, thread {int(who[0])} of {self.n}")

    def run(self, start: int, races: bool) -> int:
        """Carry the entry out; the number of instructions, of threads together."""
        ready: dict[int, np.ndarray] = {start: self.everyone}
        parked: dict[int, np.ndarray] = {}  # at a collective, not yet all lanes
        waiting: dict[int, np.ndarray] = {}  # at a barrier of the block
        executed, code, env = 0, self.module.code, self.environment

        def go(at: int, who: np.ndarray) -> None:
            if len(who):
                ready[at] = np.sort(np.concatenate([ready[at], who])) if at in ready else who

        while ready or parked or waiting:
            if not ready:
                if parked:
                    at, who = next(iter(parked.items()))
                    raise self.fail("deadlock: not all lanes come to it", code[at], who)
                self.release(waiting, go)
                continue
            at = min(ready)
            who = ready.pop(at)
            env["i"] = i = slice(None) if len(who) == self.n else who
            while True:
                instruction = code[at]
                kind = instruction.kind
                if kind == "do":
                    line, end = self.blocks[at]
                    exec(line, env)
                    executed += end - at
                    at = end
                    if at in self.module.leaders:
                        go(at, who)
                        break
                    continue
                executed += 1
                if kind == "bra":
                    if instruction.guard is None:
                        go(instruction.target, who)
                        break
                    predicate, negated = instruction.guard
                    taken = self.files[2][predicate][i] != negated
                    if taken.all():
                        go(instruction.target, who)
                    else:
                        go(instruction.target, who[taken])
                        go(at + 1, who[~taken])
                    break
                if kind in ("load", "store"):
                    self.access(instruction, who, i, races)
                elif kind == "exit":
                    break
                elif kind == "call":
                    for source, target in instruction.copies:
                        self.files[1][target][i] = self.files[1][source][i]
                    self.files[1][instruction.sources[0]][i] = at + 1
                    go(instruction.target, who)
                    break
                elif kind == "ret":
                    self.return_from(instruction, who, go)
                    break
                elif kind == "barrier":
                    waiting[at] = np.concatenate([waiting[at], who]) if at in waiting else who
                    break
                else:
                    if at in parked:
                        who = np.sort(np.concatenate([parked.pop(at), who]))
                    warp, count = np.unique(self.threads.warp_of[who], return_counts=True)
                    whole = np.isin(self.threads.warp_of[who], warp[count == 32])
                    if not whole.all():
                        parked[at] = who[~whole]
                    if whole.any():
                        self.collective(instruction, who[whole])
                        go(at + 1, who[whole])
                    break
                at += 1
                if at in self.module.leaders:
                    go(at, who)
                    break
        return executed

    def return_from(self, instruction: Instruction, who: np.ndarray, go) -> None:
        back = self.files[1][instruction.target][who].astype(np.int64)
        for place in np.unique(back):
            these = who[back == place]
            for source, target in self.module.code[place - 1].results:
                self.files[1][target][these] = self.files[1][source][these]
            go(int(place), these)

    def release(self, waiting: dict[int, np.ndarray], go) -> None:
        """Let the blocks go on whose threads have all come to a barrier, to the same one."""
        threads, free = self.threads, False
        for at, who in list(waiting.items()):
            there = np.bincount(threads.block_of[who], minlength=self.n // self.block)
            full = there == self.block  # none may be gone
            if not full.any():
                continue
            free, passes = True, full[threads.block_of[who]]
            warps = np.unique(threads.warp_of[who[passes]])
            threads.block_epoch[full] += 1
            threads.warp_epoch[warps] += 1
            go(at + 1, np.sort(who[passes]))
            if passes.all():
                del waiting[at]
            else:
                waiting[at] = who[~passes]
        if not free:
            at, who = next(iter(waiting.items()))
            raise self.fail("deadlock: not all threads come to it", self.module.code[at], who)

    def access(self, instruction: Instruction, who: np.ndarray, i, races: bool) -> None:
        memory = instruction.memory
        address = self.files[1 if memory.wide else 0][memory.base][i].astype(np.int64)
        address = address + memory.offset
        load = instruction.kind == "load"
        try:
            if (address % (memory.size * len(memory.registers))).any():
                raise PtxError("not aligned")
            for n, register in enumerate(memory.registers):
                row = self.files[memory.file][register]
                values = row[i]
                found = self.space.access(
                    load, memory.size, address + n * memory.size, who, values, races
                )
                if load:
                    row[i] = found
        except PtxError as error:
            raise self.fail(str(error), instruction, who) from None

    def collective(self, instruction: Instruction, who: np.ndarray) -> None:
        kind, threads, sources = instruction.kind, self.threads, instruction.sources
        lanes = who.reshape(-1, 32)
        if (self.files[0][sources[-1]][lanes] != EVERYONE).any():
            raise self.fail("a mask that is not of all lanes", instruction, who)
        if kind == "sync":
            threads.warp_epoch[threads.warp_of[lanes[:, 0]]] += 1
            return
        narrow, predicates = self.files[0], self.files[2]
        target = instruction.target
        if kind in ("shfl", "bfly"):
            if (narrow[sources[2]][lanes] != 31).any():
                raise self.fail("a segment that is not the warp", instruction, who)
            a, b = narrow[sources[0]][lanes], narrow[sources[1]][lanes].astype(np.int64)
            b = b & 31 if kind == "shfl" else (b ^ np.arange(32)) & 31
            narrow[target][lanes] = np.take_along_axis(a, b, 1)
            if instruction.second >= 0:
                predicates[instruction.second][lanes] = True
        elif kind == "ballot":
            bits = predicates[sources[0]][lanes].astype(np.uint64) << np.arange(32, dtype=np.uint64)
            narrow[target][lanes] = bits.sum(1).astype(np.uint32)[:, None]
        elif kind in ("any", "all"):
            found = getattr(predicates[sources[0]][lanes], kind)(1)
            predicates[target][lanes] = found[:, None]
        elif kind in ("or", "add"):
            reduce = (np.bitwise_or if kind == "or" else np.add).reduce
            narrow[target][lanes] = reduce(narrow[sources[0]][lanes], 1)[:, None]
        elif kind == "match":
            a = narrow[sources[0]][lanes]
            same = (a[:, :, None] == a[:, None, :]).astype(np.uint64)
            bits = same << np.arange(32, dtype=np.uint64)
            narrow[target][lanes] = bits.sum(2).astype(np.uint32)
        else:
            raise self.fail("unknown", instruction, who)
