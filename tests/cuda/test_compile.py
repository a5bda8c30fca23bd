"""NVRTC compiles every kernel for every GPU, and what it makes is the contract's arithmetic."""

import importlib.util
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
]


def sources(config):
    program = program_of(config, dials(config, 0), 32)
    found = {"forward": program.forward, "layers": program.layers, "small": program.small}
    return {name: text for name, text in found.items() if text}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_streams(architecture):
    assert nvrtc.compiled(streams(), architecture, binary=True).startswith(b"\x7fELF")


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
