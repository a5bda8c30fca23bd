"""The text of the programs: files of CUDA C behind the formulas and the shape of a model."""

from dataclasses import dataclass
from functools import cache

from nanorepro.backends.cuda.formulas import Formulas, formulas, source_text
from nanorepro.config import Config, Dials
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Layer, layers, shapes

MOST = 1 << 31  # parameters of a model, which 32-bit numbers count


def padded(n: int) -> int:
    """So many numbers, or up to three more: what is read four at a time begins at multiples."""
    return -(-n // 4) * 4


@dataclass(frozen=True)
class Shape:
    """Where a model's numbers lie.

    weights: the first weight of each layer; biases: that of the first unit's bias
    units: number of each layer's first unit; parameters: numbers of a model, with what lies between
    """

    net: tuple[Layer, ...]
    weights: tuple[int, ...]
    units: tuple[int, ...]
    biases: int
    parameters: int

    @property
    def all_units(self) -> int:
        return self.units[-1] + self.net[-1].fan_out

    def places(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Where each parameter begins, and its shape, in the order of the fingerprint."""
        found = {}
        of_name = {name: k for k, layer in enumerate(self.net) for name in layer.names}
        for name, shape in shapes(self.net).items():
            k = of_name[name]
            if name.startswith("b"):
                found[name] = self.biases + self.units[k], shape
            else:
                part = self.net[k].names.index(name)
                found[name] = self.weights[k] + part * shape[0] * shape[-1], shape
        return found

    def text(self) -> str:
        """The table of the layers in CUDA C."""
        rows = []
        for k, layer in enumerate(self.net):
            bias = self.biases + self.units[k] if layer.bias else 0
            numbers = (layer.fan_in, layer.fan_out, layer.sets, self.units[k], self.weights[k], bias,
                       int(layer.active))  # fmt: skip
            rows.append("  {" + ", ".join(f"{n}u" for n in numbers) + "},\n")
        return (
            f"#define UNITS {self.all_units}u\n"
            "struct Layer { u32 fan_in, fan_out, sets, units, weights, biases, active; };\n"
            f"__constant__ Layer layers[] = {{\n{''.join(rows)}}};\n"
        )


def shape_of(net: tuple[Layer, ...]) -> Shape:
    """The layout of a model with these layers; raises ConfigError if it has too many parameters."""
    weights, units, at, unit = [], [], 0, 0
    for layer in net:
        weights.append(at)
        units.append(unit)
        at = padded(at + layer.fan_in * layer.row)
        unit += layer.fan_out
    shape = Shape(net, tuple(weights), tuple(units), at, padded(at + unit))
    if shape.parameters >= MOST:
        raise ConfigError(
            f"--backend: cupy trains models of up to {MOST} parameters, not"
            f" {shape.parameters}; give numba, or narrower layers"
        )
    return shape


@dataclass(frozen=True)
class Program:
    """What a model's programs are made from."""

    shape: Shape
    formulas: Formulas
    layers: str  # a launch for each layer's equation


@cache
def streams() -> str:
    """The program that draws examples, permutations and plans."""
    return source_text("common.cu") + source_text("streams.cu")


@cache
def program_of(config: Config, dials: Dials, features: int) -> Program:
    """The programs of a model with these dials over so many features."""
    shape = shape_of(layers(config, features))
    found = formulas(config, dials, shape.parameters)
    head = source_text("common.cu") + found.text + shape.text()
    return Program(shape, found, head + source_text("layers.cu"))
