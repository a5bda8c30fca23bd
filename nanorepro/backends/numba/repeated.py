"""Kernels one after another, those that repeat themselves layer by layer as loops.

A kernel is compiled for fixed places in the memory.  Of a network of many equal layers that would
be the same code again and again, and the time to compile it would grow with the depth.  So where
kernels repeat themselves at equal distances in every buffer, only the first of them are compiled,
and called with pointers that are moved on by these distances.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from nanorepro.backends.numba.llvm.memory import moved
from nanorepro.backends.numba.llvm.simd import inlined
from nanorepro.backends.numba.llvm.tiles import opaque
from nanorepro.backends.numba.sequence import sequence

REPEATED = 3  # times, at least, that kernels repeat themselves to be compiled as a loop
TOGETHER = 64  # kernels, at most, that are repeated together

Steps = Mapping[str, int]


@dataclass(frozen=True)
class PlacedKernel:
    """A kernel of a sequence, before it is compiled.

    Two of them are one kernel at two places if their `code` is equal, and the `places` in each
    buffer are all as far apart.

    Attributes
    ----------
    code
        All that the compiled code depends on, but for the places.
    places
        Where in the buffers the kernel works: offsets in numbers, by the buffer's name.
    build
        () → the compiled function.
    """

    code: Hashable
    places: Mapping[str, tuple[int, ...]]
    build: Callable[[], Callable]


@dataclass(frozen=True)
class Run:
    """Kernels that are carried out `times` times; each time later by the `steps` of each kernel."""

    kernels: tuple[PlacedKernel, ...]
    steps: tuple[Steps, ...]
    times: int

    @property
    def size(self) -> int:
        return len(self.kernels) * self.times


def steps_between(one: PlacedKernel, other: PlacedKernel) -> Steps | None:
    """How much later in each buffer the other one is; None if it is not the same kernel."""
    if one.code != other.code:
        return None
    steps = {}
    for name, at in one.places.items():
        found = {b - a for a, b in zip(at, other.places[name], strict=True)}
        if len(found) > 1:
            return None
        steps[name] = found.pop() if found else 0
    return steps


def repetitions(kernels: Sequence[PlacedKernel], size: int) -> list[int]:
    """From each kernel on, how often it and the next ones, `size` in all, are there in equal steps.

    1 if that is less than three times.
    """
    steps = [steps_between(one, other) for one, other in zip(kernels, kernels[size:], strict=False)]
    times, regular = [1] * len(kernels), 0
    for k in range(len(steps) - size - 1, -1, -1):
        regular = regular + 1 if steps[k] is not None and steps[k] == steps[k + size] else 0
        if regular >= size:
            times[k] = 2 + regular // size
    return times


def runs_of(kernels: Sequence[PlacedKernel]) -> list[Run]:
    """The kernels as runs, such that the fewest of them are to be compiled."""
    n, kinds = len(kernels), {kernel.code: kernel.code for kernel in kernels}
    sizes = range(1, min(TOGETHER, n // REPEATED) + 1)
    # equal codes as one object, which compares at once
    alike = [replace(kernel, code=kinds[kernel.code]) for kernel in kernels]
    times = {size: repetitions(alike, size) for size in sizes}
    # from the last kernel on: how many kernels are to be compiled from each one on, and its run
    best = [(0, 0, 0)] * (n + 1)
    for k in range(n - 1, -1, -1):
        choices = [(1, 1), *((s, times[s][k]) for s in sizes if times[s][k] >= REPEATED)]
        best[k] = min((size + best[k + size * often][0], size, often) for size, often in choices)
    runs, k = [], 0
    while k < n:
        _, size, often = best[k]
        body, later = kernels[k : k + size], kernels[k + size : k + 2 * size] if often > 1 else ()
        steps = tuple(steps_between(one, other) for one, other in zip(body, later, strict=False))
        runs.append(Run(tuple(body), steps, often))
        k += size * often
    return runs


def moving(kernel: Callable, steps: tuple[int, ...]) -> Callable:
    """A function (m, n, x, first, rate, t): the kernel, n steps later in each buffer."""

    @inlined
    def moved_on(m, n, x, first, rate, t):
        kernel(moved(m, steps, n), x, first, rate, t)

    return moved_on


def both(one: Callable, other: Callable) -> Callable:
    """Two functions of `moving` as one."""

    @inlined
    def one_and_other(m, n, x, first, rate, t):
        one(m, n, x, first, rate, t)
        other(m, n, x, first, rate, t)

    return one_and_other


def loop_of(run: Run, fields: tuple[str, ...]) -> Callable:
    """The kernel that carries out a run; `fields` are the names of the memory's buffers."""
    bodies = [
        moving(kernel.build(), tuple(steps.get(name, 0) for name in fields))
        for kernel, steps in zip(run.kernels, run.steps, strict=True)
    ]
    while len(bodies) > 1:
        pairs = [both(*bodies[k : k + 2]) for k in range(0, len(bodies) - 1, 2)]
        bodies = pairs + bodies[2 * len(pairs) :]
    body, times = bodies[0], run.times

    @inlined
    def loop(m, x, first, rate, t):
        for n in range(opaque(times)):
            body(m, n, x, first, rate, t)

    return loop


def in_loops(kernels: Sequence[PlacedKernel], fields: tuple[str, ...]) -> Callable:
    """One kernel that carries out all in their order, what repeats itself as a loop."""
    runs = runs_of(kernels)
    return sequence([r.kernels[0].build() if r.times == 1 else loop_of(r, fields) for r in runs])
