"""NVRTC compiles every kernel for every GPU, and what it makes is the contract's arithmetic."""

import importlib.util
import io
import re
import subprocess
from pathlib import Path

import pytest
from support.ptx.parser import Module
from support.slow import slow_after

from nanorepro.backends.cuda import nvrtc
from nanorepro.backends.cuda.program import program_of, streams
from nanorepro.config import Config
from nanorepro.dials import dials
from nanorepro.training.compiling import says_when_compiling
from nanorepro.training.progress import Progress

ARCHITECTURES = ["90", "80", "100"]
CONFIGS = [
    Config(),
    Config(model="wide", act="smelu", optimizer="sgd"),
    Config(hidden="6,3", act="swish", precision="bits:8", rounding="stochastic", fma="off"),
    Config(
        hidden="5", precision="float64", accumulator="kahan", tree="lanes:8", leaf_order="random"
    ),
    Config(hidden="5", accumulator="exact", unit_accumulator="wide", precision="bits:20"),
    Config(hidden="5", accumulator="exact", precision="float64"),
    Config(model="deep", optimizer="adam"),
]
# programs that have all kernels between them, and one that each has and the others have not
MACHINE_CODE = [
    (Config(model="wide"), "small", "train_wide"),
    (Config(), "small", "train_small"),
    (Config(hidden="64,32"), "layers", "train_block"),
    (Config(model="deep"), "layers", "backward_descend"),
]


def sources(config):
    program = program_of(config, dials(config, 0), 32)
    found = {"forward": program.forward, "layers": program.layers, "small": program.small}
    return {name: text for name, text in found.items() if text}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_streams(architecture):
    assert nvrtc.compiled(streams(), architecture, binary=True).startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("architecture", "config", "program", "kernel"),
    slow_after(1, [(a, *rest) for a in ARCHITECTURES for rest in MACHINE_CODE]),
)
def test_machine_code(architecture, config, program, kernel):
    binary = nvrtc.compiled(sources(config)[program], architecture, binary=True)
    assert binary.startswith(b"\x7fELF") and b".text." + kernel.encode() + b"\0" in binary


@pytest.mark.parametrize("architecture", slow_after(1, ARCHITECTURES))
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.model} {c.hidden} {c.precision}")
def test_models(config, architecture):
    for source in sources(config).values():
        ptx = nvrtc.compiled(source, architecture).decode()
        assert not re.search(r"\.(ftz|approx|sat)\b", ptx)
        assert not re.search(r"^\s*(atom|red)\.", ptx, re.M)
        # a float32 or float64 operation without a rounding may be contracted
        assert not re.search(r"^\s*(add|sub|mul|div|fma|mad|sqrt)\.f(32|64)", ptx, re.M)
        Module(ptx)  # every operation is known


@pytest.mark.parametrize(
    ("options", "real", "small"),
    [
        *(({"model": model, **more}, real, True)
          for model in ("linear", "single", "double", "tower") for real in (False, True)
          for more in ({}, {"unit_tree": "pairwise"}, {"precision": "bits:8"})),
        ({"unit_tree": "pairwise", "tree": "pairwise"}, False, True),
        ({"precision": "bits:8", "rounding": "stochastic"}, False, True),
        ({"hidden": "32,32"}, False, True),
        ({"hidden": "32,32"}, True, False),
        ({"hidden": "32,32,32"}, False, False),
        ({"hidden": "32,32", "unit_tree": "pairwise"}, False, False),
        ({"hidden": "32,32", "tree": "pairwise"}, False, True),
        ({"hidden": "32,32", "precision": "bits:8", "rounding": "stochastic"}, False, False),
        ({"hidden": "32,32", "unit_accumulator": "kahan"}, False, False),
    ],
)  # fmt: skip
def test_what_would_take_long_to_compile_is_not_unrolled(options, real, small):
    config = Config(**options)
    assert bool(program_of(config, dials(config, 0), 32, real).small) == small


def test_that_it_compiles_is_said():
    for architecture, expected in (("90", "compiling (only the first time) ..."), ("", "starting")):
        progress = Progress(io.StringIO(), "starting", "name")
        with says_when_compiling(progress):
            if architecture:
                nvrtc.compiled('extern "C" __global__ void k() {}', architecture)
        assert progress.waiting == expected
    nvrtc.compiled('extern "C" __global__ void k() {}', "90")
    assert progress.waiting == "starting"


def test_an_error_says_what_the_compiler_said():
    with pytest.raises(nvrtc.CompileError, match="undefined"):
        nvrtc.compiled('extern "C" __global__ void k() { nonsense(); }', "90")


def disassembler():
    spec = importlib.util.find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    found = [p for f in folders for p in Path(f).glob("*/bin/nvdisasm")]
    return found[0] if found else None


@pytest.mark.skipif(
    disassembler() is None, reason="the wheel nvidia-cuda-nvdisasm is not installed"
)
@pytest.mark.parametrize("architecture", slow_after(1, ARCHITECTURES))
def test_small_models_stay_in_registers(architecture, tmp_path):
    """No number of the tower's kernel is kept in memory for want of registers."""
    cubin = tmp_path / "small.cubin"
    cubin.write_bytes(nvrtc.compiled(sources(Config())["small"], architecture, binary=True))
    text = subprocess.run(
        [disassembler(), "-c", cubin], capture_output=True, text=True, check=True
    ).stdout
    body = text[text.index(".text.train_small:") :]
    assert not re.search(r"\b(STL|LDL)\b", body)
