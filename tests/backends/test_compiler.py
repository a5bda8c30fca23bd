"""Compiled functions: their names are their own, and what the compiler needed is given back."""

import gc
import itertools
import subprocess
import sys
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from numba.core import bytecode, config
from numba.core.errors import TypingError
from support.processors import environment
from support.slow import slow_after

from bench.kinds import configurations
from nanorepro import Config, initial_parameters, simulate
from nanorepro.backends.numba import ensemble, model
from nanorepro.backends.numba.llvm import compiler, libraries
from nanorepro.backends.numba.llvm.cache import KEPT, cached_njit
from nanorepro.backends.numba.llvm.content import content
from nanorepro.backends.numba.llvm.simd import apart, inlined
from nanorepro.dials import dials
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.specification import ModelSpec, compile_key


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A cache of this test's own."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))


def adds(c):
    """A kernel x → x + c; the sum is a call of its own."""

    @apart
    def add(x):
        return x + c

    @inlined
    def same(x):
        return x

    @cached_njit
    def kernel(x):
        return add(same(x))

    return kernel


def alive(kind):
    gc.collect()
    return sum(type(o) is kind for o in gc.get_objects())


def test_equal_names_from_two_processes_stay_apart(monkeypatch):
    """Each process numbers what it compiles from 1 on, and code of both meets in a third."""
    for loaded in (False, True):
        for c in (1, 10, 100):
            if not loaded:
                monkeypatch.setattr(
                    bytecode.FunctionIdentity, "_unique_ids", itertools.count(1 << 40)
                )
            kernel = adds(c)
            assert kernel(1) == 1 + c
            assert sum(kernel.stats.cache_hits.values()) == loaded


def test_what_was_made_of_parts_is_given_back():
    compiler.forget_parts()
    before = alive(libraries.PartLibrary)
    kernel = adds(2)
    assert kernel(1) == 3
    assert alive(libraries.PartLibrary) == before + 1
    compiler.forget_parts()
    assert alive(libraries.PartLibrary) == before
    # the kernel stays, for further types of arguments, too
    assert kernel(1) == 3 and kernel(1.5) == 3.5
    compiler.forget_parts()


def test_a_kernel_that_nobody_has_any_more_is_collected():
    kernel = adds(3)
    assert kernel(1) == 4
    found = weakref.ref(kernel)
    del kernel
    compiler.forget_parts()
    gc.collect()
    assert found() is None


def test_parts_are_forgotten_while_another_thread_compiles():
    done, found = threading.Event(), {}

    def forget():
        while not done.is_set():
            compiler.forget_parts()

    def compile_some(first):
        for c in range(first, first + 3):
            found[c] = adds(c)(1)

    threads = [threading.Thread(target=compile_some, args=(c,)) for c in (10, 20)]
    forgetting = threading.Thread(target=forget)
    for thread in (forgetting, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    forgetting.join()
    assert found == {c: 1 + c for c in (10, 11, 12, 20, 21, 22)}


def test_a_kind_that_was_dropped_comes_back_with_the_same_bits():
    config = Config(model="linear", log2_examples=6, log2_eval=4, pairs=1, batch=16)
    model.compile_model.cache_clear()
    found = weakref.ref(model.compile_model(compile_key(config), dials(config, 0), 32))
    compiled = simulate(config, "numba", 1)
    assert found() is not None
    model.compile_model.cache_clear()
    gc.collect()
    assert found() is None
    assert simulate(config, "numba", 1).fingerprint == compiled.fingerprint
    assert simulate(config, "reference", 1).fingerprint == compiled.fingerprint


def test_a_kernel_has_the_same_key_whatever_was_built_before():
    """Else the cache would not find what a process compiled in another order."""

    def keys(order):
        model.compile_model.cache_clear()
        found = {}
        for kind in order:
            built = model.compile_model(compile_key(kind), dials(kind, 0), 32)
            found[kind] = content(built.loop.py_func)
        return found

    kinds = configurations()[:5]
    forwards, backwards = keys(kinds), keys(kinds[::-1])
    assert forwards == backwards


OF_A_NETWORK = {"model", "hidden", "act", "beta", "batch", "optimizer"}


def test_runs_that_differ_in_no_code_have_one_key():
    """All options but the network's, the mini-batch and what the update computes with."""
    optimizer = OPTIMIZERS["adagrad"]
    own = OF_A_NETWORK | {*optimizer.names} - {*optimizer.rate_settings}
    others = {
        "seed": 9, "lr": 0.5, "pairs": 3, "differ": "nudge", "nudge_at": 3, "nudge_ulps": 9,
        "nudge_weights": 4, "tree": "chain,lanes:8", "precision": "bits:8,float32", "momentum": 0.5,
        "beta1": 0.5, "log2_window": 3, "eval_every": "log", "init": "zero",
    }  # fmt: skip
    base = Config(hidden="2")
    assert not own & {*others}
    for name, value in others.items():
        assert compile_key(replace(base, **{name: value})) == compile_key(base), name
    for name, value in {"batch": 8, "act": "swish", "epsilon": 0.5, "optimizer": "sgd"}.items():
        assert name in own
        assert compile_key(replace(base, **{name: value})) != compile_key(base), name
    first = [dials(replace(base, tree=tree), 0) for tree in ("chain", "chain,lanes:8")]
    assert first[0] == first[1]


@pytest.mark.parametrize("real", slow_after(1, [False, True]))
def test_training_and_logits_are_one_function_that_is_compiled_once(real):
    """Of arrays of the caller's that may only be read, and by a plan, too."""
    config = Config(hidden="2", batch=8, tree="pairwise", unit_tree="lanes:3")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)) if real else rng.integers(0, 8, (16, 1), np.uint32)
    x = x.astype(np.float32) if real else x
    y = rng.integers(0, 2, 16).astype(np.uint8)
    for array in (x, y):
        array.setflags(write=False)
    spec = ModelSpec(config, 3, 0, 0, real=real)
    one = model.Model(spec, initial_parameters(config, features=3))
    one.train(x, y)
    one.logits(x)
    assert len(one.compiled.loop.signatures) == 1


@pytest.mark.parametrize("build", [model.compile_model, ensemble.compile_ensemble])
def test_so_many_kinds_are_kept(build):
    assert build.cache_info().maxsize == KEPT


def test_the_compilers_passes_are_disposed_of():
    """With llvmlite 0.50 each compiled function left behind all passes over it."""
    growth = measured("""
        from llvmlite.binding import create_pass_builder, create_pipeline_tuning_options
        from numba.core.registry import cpu_target
        import nanorepro.backends.numba.llvm.compiler

        machine = cpu_target.target_context.codegen()._tm
        builder = create_pass_builder(machine, create_pipeline_tuning_options())
        def once(k):
            builder.getModulePassManager()
            builder.getFunctionPassManager()
    """, 300)  # fmt: skip
    assert growth < 10e3  # measured: 0; without, 43,000


@pytest.fixture
def parts(monkeypatch):
    """The LLVM code of the parts that are compiled, and how often Python then looks for garbage."""
    found, finalize = [], libraries.PartLibrary.finalize

    def finalized(library):
        found.append((str(library._final_module), gc.get_threshold()[0]))
        finalize(library)

    monkeypatch.setattr(libraries.PartLibrary, "finalize", finalized)
    return found


def test_a_loop_is_not_written_out_in_a_part(parts):
    """The kernel does so; in parts as well, code of many wide layers was twice as long."""

    @inlined
    def power(x):
        found = 1.0
        for _ in range(8):
            found *= x
        return found

    @cached_njit
    def kernel(x):
        return power(x)

    assert kernel(3.0) == 6561.0
    [(code, _)] = parts
    assert code.count("fmul") == 1


@pytest.mark.parametrize("often", [700, 200_000, 0])
def test_compiling_leaves_the_garbage_collector_as_it_was(often, parts):
    @inlined
    def of(x):
        return x.shape if often else x.shape[1:]

    @cached_njit
    def kernel(x):
        return of(x)

    before = gc.get_threshold()
    try:
        gc.set_threshold(often, *before[1:])
        assert kernel(np.zeros((2, 3))) == ((2, 3) if often else (3,))
        assert gc.get_threshold() == (often, *before[1:])
        with pytest.raises(TypingError):
            kernel(1.0)
        assert gc.get_threshold() == (often, *before[1:])
    finally:
        gc.set_threshold(*before)
    assert parts[0][1] == (max(often, compiler.SELDOM) if often else 0)


@pytest.mark.slow
@pytest.mark.parametrize("tree", ["lanes:5", "blocks:5"])
def test_sums_by_a_tree_are_not_written_out_for_every_tile(tree):
    """Of wide layers that was three times the code, which took a minute to compile."""

    def size(**options):
        config = Config(hidden="64,64", act="relu", **options)
        one = model.Model(ModelSpec(config, 32, 0, 0), initial_parameters(config, features=32))
        one.train(np.zeros((32, 1), np.uint32), np.zeros(32, np.uint8))
        [found] = one.compiled.loop.overloads.values()
        return len(found.library.code)

    assert size(unit_tree=tree) < 1.5 * size()  # measured: 1.34 and 1.08


@pytest.mark.slow
def test_the_memory_of_many_kinds_of_model():
    """What a process keeps of a kind of model that it compiled."""
    growth = measured("""
        from bench.kinds import configurations
        from nanorepro import simulate
        from nanorepro.backends.numba.llvm.compiler import forget_parts

        found = configurations()
        def once(k):
            simulate(found[k], "numba", 1)
            forget_parts()
    """, 8)  # fmt: skip
    assert growth < 10e6  # measured: 4 MB; before anything was given back, 44 MB


def measured(program, times):
    """Bytes by which a process grows with each call of the program's `once`, after the first."""
    lines = [line.removeprefix(8 * " ") for line in program.splitlines()]
    lines += [
        "import gc",
        "def resident():",
        "    gc.collect()",
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096",
        "once(0)",
        "before = resident()",
        f"for k in range(1, {times} + 1): once(k)",
        f"print((resident() - before) / {times})",
    ]
    settings = environment(NUMBA_CACHE_DIR=config.CACHE_DIR)
    found = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=settings, text=True, capture_output=True
    )
    assert found.returncode == 0, found.stderr
    return float(found.stdout)
