"""PTX's text as instructions over numbered registers; raises PtxError for what is not known."""

import re
from dataclasses import dataclass, field
from typing import Any

from support.ptx.operations import OPERATIONS, SAME, Operation

FILES = {"u": 0, "s": 0, "f": 0, "U": 1, "S": 1, "d": 1, "p": 2}  # 32 bits, 64 bits, predicates
# where addresses of each kind of memory begin; each array of global memory has so much of its own
LOCAL, SHARED, CONSTANT, GLOBAL = 1 << 28, 1 << 29, 1 << 30, 1 << 40
SPACES = {"local": LOCAL, "shared": SHARED, "const": CONSTANT, "global": GLOBAL}
COLLECTIVES = {
    "bar.warp.sync": "sync", "shfl.sync.idx.b32": "shfl", "vote.sync.ballot.b32": "ballot",
    "vote.sync.any.pred": "any", "vote.sync.all.pred": "all", "redux.sync.or.b32": "or",
    "redux.sync.add.s32": "add", "match.any.sync.b32": "match", "shfl.sync.bfly.b32": "bfly",
}  # fmt: skip


class PtxError(RuntimeError):
    """What is wrong with a program, or with what it did."""


@dataclass
class Instruction:
    """One instruction.

    kind: "do", "bra", "exit", "ret", "call", "load", "store", "barrier", or a collective's name
    """

    kind: str
    text: str
    operation: Operation | None = None
    target: int = -1  # register, or place in the code
    sources: tuple[int, ...] = ()
    guard: tuple[int, bool] | None = None  # predicate and whether it has to be false
    memory: Any = None
    function: str = ""
    copies: list[tuple[int, int]] = field(default_factory=list)
    results: list[tuple[int, int]] = field(default_factory=list)
    second: int = -1  # a predicate beside the target


@dataclass(frozen=True)
class Memory:
    """What a load or a store moves: so many values of so many bytes."""

    size: int
    registers: tuple[int, ...]
    file: int
    base: int
    wide: bool
    offset: int


@dataclass
class Entry:
    """A function: where it begins, its parameters (type and bytes by name), what it returns."""

    at: int
    parameters: list[tuple[str, int, str]]
    result: str
    shared: int = 0
    own: tuple[slice, ...] = ()  # its registers in each file, if it is a kernel


class Module:
    """The functions of a PTX text as one list of instructions; registers are numbered over all."""

    def __init__(self, text: str):
        text = re.sub(r"//[^\n]*", "", text)
        if found := re.search(r"\S*\.(ftz|approx|sat)\S*[^;]*;", text):
            raise PtxError(f"not the contract's arithmetic: {found[0]}")
        self.files = [0, 0, 0]
        self.slots: dict[tuple[int, Any], int] = {}
        self.constants: list[tuple[int, int, Any]] = []  # file, register, value
        self.code: list[Instruction] = []
        self.entries: dict[str, Entry] = {}
        self.leaders: set[int] = set()
        self.parameters: dict[tuple[str, str], dict[int, int]] = {}
        self.calls: list[tuple[Instruction, str, list[str], str]] = []
        self.returns: dict[str, list[Instruction]] = {}
        self.address: dict[str, int] = {}
        self.initial: dict[int, bytes] = {}
        self.shared: dict[str, int] = {}  # bytes of each variable
        self._variables(text)
        pattern = (
            r"\.(entry|func)\s*(?:\(([^)]*)\)\s*)?(\w+)\s*(?:\(([^)]*)\))?"
            r"\s*((?:\.[a-z]\w*[^\n{;]*\s*)*)\{(.*?)\n\}"
        )
        for kind, result, name, parameters, _, body in re.findall(pattern, text, re.S):
            self._function(kind, result, name, parameters, body)
        self._connect()
        # bits of floats are looked at: what kind of NaN an operation gives is then seen
        self.sees_bits = bool(re.search(r"mov\.b32\s+%r\d+, %f\d+", text))

    def _variables(self, text: str) -> None:
        """Addresses of shared, local and constant variables."""
        text = re.sub(r"\s+", " ", text)
        ends = {"shared": SHARED, "local": LOCAL, "const": CONSTANT}
        declared = re.findall(
            r"\.(shared|local|const|global) \.align (\d+) \.b8 (\w+)(?:\[(\d*)\])?"
            r"(?: = \{([^}]*)\})?;",
            text,
        )
        # what is extern shared, without a size, comes after the rest
        for space, align, name, size, values in sorted(declared, key=lambda d: d[3] == ""):
            if space == "global":
                space = "const"  # no program writes to one
            at = -(-ends[space] // int(align)) * int(align)
            self.address[name] = at
            ends[space] = at + int(size or 0)
            if space == "shared":
                self.shared[name] = int(size or 0)
            if values:
                numbers = bytes(int(v) & 255 for v in values.split(","))
                self.initial[at] = numbers + bytes(int(size) - len(numbers))
        for kind, name, value in re.findall(
            r"\.(?:const|global) \.align \d+ \.([usbf]\d+) (\w+)(?:\[\d+\])? = \{?([^;}]*)\}?;",
            text,
        ):
            if name in self.address:
                continue
            size = int(kind[1:]) // 8
            at = -(-ends["const"] // size) * size
            values = [int(v, 0) for v in value.split(",")]
            self.address[name] = at
            self.initial[at] = b"".join(
                (v % (1 << 8 * size)).to_bytes(size, "little") for v in values
            )
            ends["const"] = at + len(self.initial[at])
        self.static = {space: end - SPACES[space] for space, end in ends.items()}

    def slot(self, file: int, value: Any) -> int:
        """The register that holds a constant, or has a name."""
        if (file, value) not in self.slots:
            self.slots[file, value] = self.files[file]
            self.constants.append((file, self.files[file], value))
            self.files[file] += 1
        return self.slots[file, value]

    def parameter(self, function: str, name: str, offset: int) -> int:
        """The register (64 bits) of what lies at an offset in a parameter."""
        places = self.parameters.setdefault((function, name), {})
        if offset not in places:
            places[offset] = self.slot(1, ("parameter", function, name, offset))
        return places[offset]

    def _function(self, kind: str, result: str, name: str, parameters: str, body: str) -> None:
        declared = []
        for line in parameters.split(","):
            if found := re.search(r"\.(b8|[usbf]\d+)\s+(\w+)(?:\[(\d+)\])?\s*$", line.strip()):
                size = int(found[3] or 1) * int(found[1][1:]) // 8
                declared.append((found[2], size, found[1]))
        returned = re.search(r"(\w+)(?:\[\d+\])?\s*$", result.strip()) if result else None
        self.entries[name] = Entry(len(self.code), declared, returned[1] if returned else "")
        names = set(re.findall(r"\w+", body)) & self.shared.keys()
        self.entries[name].shared = sum(self.shared[variable] for variable in names)
        before, reader = self.files.copy(), _Reader(self, name, kind == "func", body)
        reader.read()
        if kind != "func":
            self.entries[name].own = tuple(map(slice, before, self.files))

    def _connect(self) -> None:
        for instruction, callee, given, got in self.calls:
            if callee not in self.entries:
                raise PtxError(f"no such function: {instruction.text}")
            entry = self.entries[callee]
            instruction.target = entry.at
            for (parameter, _, _), argument in zip(entry.parameters, given, strict=True):
                for offset, source in self.parameters[instruction.function, argument].items():
                    instruction.copies.append((source, self.parameter(callee, parameter, offset)))
            if got:
                for offset, target in self.parameters[instruction.function, got].items():
                    source = self.parameter(callee, entry.result, offset)
                    instruction.results.append((source, target))


class _Reader:
    """Reads one function's body."""

    def __init__(self, module: Module, name: str, returns: bool, body: str):
        self.module, self.name, self.body = module, name, body
        self.back = module.slot(1, ("return", name)) if returns else -1
        self.registers: dict[str, tuple[int, int]] = {}
        self.labels: dict[str, int] = {}

    def read(self) -> None:
        module = self.module
        for kind, prefix, count in re.findall(r"\.reg \.(\w+)\s+%(\w+)<(\d+)>;", self.body):
            file = 2 if kind == "pred" else 1 if kind.endswith("64") else 0
            self.registers[prefix] = file, module.files[file]
            module.files[file] += int(count)
        for kind, name in re.findall(r"\.reg \.(\w+)\s+(%[A-Z]+);", self.body):
            file = 1 if kind.endswith("64") else 0
            self.registers[name] = file, module.files[file]
            module.files[file] += 1
        body = re.sub(
            r"\{\s*\.reg \.b32 tmp;\s*mov\.b64 \{(tmp|%r\d+), (tmp|%r\d+)\}, (%\w+);\s*\}",
            lambda m: f"high {m[2]}, {m[3]};" if m[1] == "tmp" else f"low {m[1]}, {m[3]};",
            self.body,
        )
        body = re.sub(r"\.(reg|param|pragma|local|shared|loc|file)\s[^;\n]*;", "", body)
        first = len(module.code)
        for statement in re.split(r";", body):
            part = re.sub(r"\s+", " ", statement).strip()
            while True:
                part = part.lstrip("{} ") if re.match(r"[{}]", part) else part
                found = re.match(r"(\$\w+):\s*", part)
                if not found:
                    break
                self.labels[found[1]] = len(module.code)
                part = part[found.end() :]
            if part:
                self.statement(part)
        for instruction in module.code[first:]:
            instruction.function = self.name
            if instruction.kind == "bra":
                instruction.target = self.labels[instruction.memory]
        module.leaders |= set(self.labels.values())

    def register(self, name: str) -> int:
        if name in self.registers:
            return self.registers[name][1]
        found = re.fullmatch(r"%([a-z]+)(\d+)", name)
        if not found or found[1] not in self.registers:
            raise PtxError(f"{self.name}: no such register: {name}")
        return self.registers[found[1]][1] + int(found[2])

    def file(self, name: str) -> int:
        if name in self.registers:
            return self.registers[name][0]
        found = re.fullmatch(r"%([a-z]+)(\d+)", name)
        return self.registers[found[1]][0] if found and found[1] in self.registers else -1

    def operand(self, text: str, kind: str) -> int:
        """The register of an operand: its own, or one that holds a constant."""
        file = FILES[kind]
        if self.file(text) >= 0:
            if self.file(text) != file:
                raise PtxError(f"{self.name}: {text} is not of type {kind}")
            return self.register(text)
        if text.startswith("%"):
            return self.module.slot(file, text)  # %tid.x and the like
        if text[:2].lower() in ("0f", "0d"):
            return self.module.slot(file, int(text[2:], 16))
        base, _, offset = text.partition("+")
        if base in self.module.address:
            return self.module.slot(file, self.module.address[base] + int(offset or 0))
        bits = (32, 64, 1)[file]
        return self.module.slot(file, int(text, 0) % (1 << bits))

    def put(self, kind: str, text: str, **parts: Any) -> Instruction:
        self.module.code.append(Instruction(kind, f"{self.name}: {text}", **parts))
        return self.module.code[-1]

    def do(self, name: str, target: str | int, sources: list, text: str) -> None:
        """An operation; a register, or the number of one, as its target and its sources."""
        name = SAME.get(name, name)
        if name not in OPERATIONS:
            raise PtxError(f"{self.name}: unknown operation: {text}")
        operation = OPERATIONS[name]
        if isinstance(target, str):
            if self.file(target) != FILES[operation.result]:
                raise PtxError(f"{self.name}: {target} is not of type {operation.result}: {text}")
            target = self.register(target)
        if len(operation.sources) != len(sources):
            raise PtxError(f"{self.name}: {len(sources)} operands: {text}")
        given = tuple(
            self.operand(s, k) if isinstance(s, str) else s
            for k, s in zip(operation.sources, sources, strict=True)
        )
        self.put("do", text, operation=operation, target=target, sources=given)

    def statement(self, part: str) -> None:
        text, guard = part, None
        if found := re.match(r"@(!?)(%p\d+)\s+", part):
            guard, part = (self.register(found[2]), found[1] == "!"), part[found.end() :]
        name, _, rest = part.partition(" ")
        arguments = [
            a.strip() for a in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,])+", rest)
        ]
        if name in ("bra", "bra.uni"):
            self.put("bra", text, guard=guard, memory=arguments[0])
        elif guard:
            raise PtxError(f"{self.name}: a condition on: {text}")
        elif name == "ret":
            self.put("ret" if self.back >= 0 else "exit", text, target=self.back)
        elif name == "exit":
            self.put("exit", text)
        elif name == "call.uni":
            self.call(arguments, text)
        elif name.startswith(("ld.param", "st.param")):
            self.parameter(name, arguments, text)
        elif name.startswith(("ld.", "st.")):
            self.access(name, arguments, text)
        elif name in ("bar.sync", "barrier.sync"):
            self.put("barrier", text)
        elif name in COLLECTIVES:
            self.collective(COLLECTIVES[name], arguments, text)
        elif name == "mov.b64" and arguments[0].startswith("{"):
            for half, target in zip(("low", "high"), self.inside(arguments[0]), strict=True):
                if target != "_":
                    self.do(half, target, arguments[1:], text)
        elif name == "mov.b64" and arguments[1].startswith("{"):
            self.do("pack", arguments[0], self.inside(arguments[1]), text)
        else:
            self.do(name, arguments[0], arguments[1:], text)

    @staticmethod
    def inside(braces: str) -> list[str]:
        return [a.strip() for a in braces.strip("{}").split(",")]

    def call(self, arguments: list[str], text: str) -> None:
        got = arguments.pop(0).strip("() ") if arguments[0].startswith("(") else ""
        callee = arguments[0]
        given = [a.strip() for a in arguments[1].strip("() ").split(",")] if arguments[1:] else []
        instruction = self.put("call", text, sources=(self.module.slot(1, ("return", callee)),))
        instruction.function = self.name
        self.module.calls.append((instruction, callee, given, got))

    def parameter(self, name: str, arguments: list[str], text: str) -> None:
        load = name.startswith("ld")
        data, address = arguments if load else arguments[::-1]
        which, _, offset = address.strip("[]").partition("+")
        size = int(re.search(r"(\d+)$", name)[1]) // 8
        for n, value in enumerate(self.inside(data)):
            slot = self.module.parameter(self.name, which, int(offset or 0) + n * size)
            if load:
                if size == 4 and self.file(value) == 1 and ".s32" in name:
                    raise PtxError(f"{self.name}: unknown operation: {text}")
                narrow = self.file(value) == 0
                self.do("low" if narrow else "mov.b64", value, [slot], text)
            else:
                wide = self.file(value) == 1 or (self.file(value) < 0 and size == 8)
                self.do("mov.b64" if wide else "cvt.u64.u32", slot, [value], text)

    def access(self, name: str, arguments: list[str], text: str) -> None:
        words = name.split(".")
        load = words[0] == "ld"
        size = int(re.search(r"\d+", words[-1])[0]) // 8
        data, address = arguments if load else arguments[::-1]
        base, _, offset = address.strip("[]").partition("+")
        registers, file, widened = [], 1 if size == 8 else 0, []
        for value in self.inside(data):
            if not load and size < 8 and self.file(value) == 1:  # the low half of a wider one
                low = self.module.slot(0, ("low", len(self.module.code)))
                self.do("low", low, [value], text)
                registers.append(low)
            elif load and size < 8 and self.file(value) == 1:
                if ".u" not in name and ".b" not in name:
                    raise PtxError(f"{self.name}: unknown operation: {text}")
                narrow = self.module.slot(0, ("narrow", len(self.module.code), value))
                widened.append((value, narrow))
                registers.append(narrow)
            else:
                registers.append(self.operand(value, "U" if size == 8 else "u"))
        wide = self.file(base) == 1 or self.file(base) < 0
        memory = Memory(
            size, tuple(registers), file, self.operand(base, "U" if wide else "u"), wide,
            int(offset or 0),
        )  # fmt: skip
        if size not in (4, 8):
            raise PtxError(f"{self.name}: unknown operation: {text}")
        self.put("load" if load else "store", text, memory=memory)
        for value, narrow in widened:
            self.do("cvt.u64.u32", value, [narrow], text)

    def collective(self, kind: str, arguments: list[str], text: str) -> None:
        if kind == "sync":
            self.put(kind, text, sources=(self.operand(arguments[0], "u"),))
            return
        target, _, second = arguments[0].partition("|")
        predicates = kind in ("any", "all", "ballot")
        sources = [
            self.operand(a, "p" if predicates and n == 0 else "u")
            for n, a in enumerate(arguments[1:])
        ]
        other = self.register(second) if second else -1
        self.put(kind, text, target=self.register(target), sources=tuple(sources), second=other)
