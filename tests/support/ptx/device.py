"""The device seam's other side: compile, array, empty, get and launch, on the CPU."""

import weakref
from functools import lru_cache
from typing import Any

import numpy as np
from support.ptx.machine import Launch, compile_blocks
from support.ptx.memory import Space, Threads, Words
from support.ptx.parser import CONSTANT, GLOBAL, Module, PtxError

from nanorepro.backends.cuda import nvrtc

STATIC = 48 << 10  # bytes of shared memory that a kernel may declare


@lru_cache(maxsize=16)
def read(ptx: str) -> tuple[Module, dict[int, tuple[Any, int]]]:
    """A program and its straight lines, which launches leave as they are; read once for many."""
    module = Module(ptx)
    return module, compile_blocks(module)


class Loaded:
    """A compiled program; it belongs to its device, and its registers go when the device goes."""

    def __init__(self, device: "Device", ptx: str):
        # no circle: the registers of a launch may be a gigabyte, and garbage is collected late
        self.device: Device = weakref.proxy(device)
        self.ptx, (self.module, self.blocks) = ptx, read(ptx)
        self.environments: dict[tuple[str, int], dict[str, Any]] = {}

    def launch(self, name: str, grid, block: int, arguments, shared: int = 0) -> None:
        with np.errstate(all="ignore"):
            self._launch(name, (*grid, 1)[:2], block, arguments, shared)

    def _launch(self, name, grid, block, arguments, shared) -> None:
        device, module = self.device, self.module
        device.launches += 1
        entry = module.entries[name]
        if len(entry.parameters) != len(arguments):
            raise PtxError(f"{name}: {len(arguments)} arguments, not {len(entry.parameters)}")
        values = {}
        for (parameter, size, _), argument in zip(entry.parameters, arguments, strict=True):
            if isinstance(argument, Array):
                values[parameter] = argument.address
                continue
            if not isinstance(argument, np.generic) or argument.dtype.itemsize != size:
                raise PtxError(f"{name}: {parameter} has {size} bytes, {argument!r} has not")
            values[parameter] = int(argument.view(f"u{size}"))
        if not 1 <= block <= 1024 or min(grid) < 1 or grid[0] >= 1 << 31 or grid[1] > 65535:
            raise PtxError(f"{name}: a grid of {grid} blocks of {block} threads")
        if entry.shared > STATIC or entry.shared + shared > device.shared:
            raise PtxError(f"{name}: {entry.shared} and {shared} bytes of shared memory")
        threads = Threads(device.launches, grid[0] * grid[1] * block, block)
        sizes = {"shared": module.static["shared"] + shared, "local": module.static["local"]}
        regions = dict(device.regions)
        if module.initial:
            end = max(at + len(data) for at, data in module.initial.items()) - CONSTANT
            data = np.zeros(-(-end // 4) * 4, np.uint8)
            for at, part in module.initial.items():
                data[at - CONSTANT : at - CONSTANT + len(part)] = np.frombuffer(part, np.uint8)
            values_ = data.view(np.uint32)
            regions[CONSTANT] = Words(values_, np.ones(len(values_), bool))
        launch = Launch(module, self.blocks, name, grid, block, Space(regions, threads, sizes))
        launch.prepare(values, self.environments.setdefault((name, threads.count), {}))
        device.executed += launch.run(entry.at, device.races)


class Array:
    """An array of the device: a region of global memory."""

    def __init__(self, device: "Device", words: Words, address: int, dtype, shape):
        self.device, self.words, self.address = device, words, address
        self.dtype, self.shape = np.dtype(dtype), shape

    @property
    def values(self) -> np.ndarray:
        n = int(np.prod(self.shape, dtype=np.int64))
        bytes_ = self.words.values.view(np.uint8)[: n * self.dtype.itemsize]
        return bytes_.view(self.dtype).reshape(self.shape)

    def __del__(self) -> None:
        self.device.regions.pop(self.address, None)


class Device:
    """The whole grid by NumPy; `architecture` as in NVRTC's compute_90."""

    name = "NumPy"
    shared = 227 << 10

    def __init__(self, architecture: str = "90", races: bool = True, options=nvrtc.OPTIONS):
        self.architecture, self.races, self.options = architecture, races, options
        self.regions: dict[int, Words] = {}
        self.programs: dict[str, Loaded] = {}
        self.count = self.launches = self.executed = 0

    def compile(self, source: str) -> Loaded:
        if source not in self.programs:
            ptx = nvrtc.compiled(source, self.architecture, options=self.options)
            self.programs[source] = self.load(ptx.decode())
        return self.programs[source]

    def load(self, ptx: str) -> Loaded:
        return Loaded(self, ptx)

    def _region(self, dtype, shape, written: bool) -> Array:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        n = -(-size // 4)
        words = Words(np.full(n, 0xA5A5A5A5, np.uint32), np.full(n, written))
        self.count += 1
        address = GLOBAL * self.count
        self.regions[address] = words
        return Array(self, words, address, dtype, shape)

    def array(self, host: np.ndarray) -> Array:
        found = self._region(host.dtype, host.shape, True)
        found.values[...] = host
        return found

    def empty(self, shape, dtype) -> Array:
        return self._region(dtype, shape, False)

    def get(self, array: Array) -> np.ndarray:
        if not array.words.written.all():
            raise PtxError("nobody wrote all of this array")
        return array.values.copy()

    def synchronize(self) -> None:
        pass
