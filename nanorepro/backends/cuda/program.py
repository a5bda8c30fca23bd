"""The text of the programs: files of CUDA C behind the formulas and the shape of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np

from nanorepro.backends.cuda.formulas import Formulas, formulas, source_text
from nanorepro.config import Config
from nanorepro.dials import Dials
from nanorepro.errors import ConfigError
from nanorepro.model.layers import Layer, shapes
from nanorepro.model.optimizers import OPTIMIZERS
from nanorepro.numerics.plans import fixed_plan, is_drawn
from nanorepro.numerics.single_sums import KINDS, Site, sites
from nanorepro.numerics.trees import LEAF_ORDERS
from nanorepro.specification import layers

MOST = 1 << 31  # parameters of a model, which 32-bit numbers count
LANES = 32  # of a warp
KEPT = 64  # kinds of models whose programs are kept, those used last
ROW = 36  # `batch.cu`: numbers from one unit's activations to the next one's
OWNED = 128  # `owned.cu`: inputs of a block
# `small.cu`: terms that the compiler unrolls in about a minute; one counts so many times where its
# sum over units is no chain, where it is several operations, where it is rounded stochastically
UNROLLED, PLANNED, SEVERAL, STOCHASTIC = 2500, 2, 2, 4
# `block.cu`: rows, sums and terms of an equation that are worth tiles of MIDDLE
TILED_ROWS, TILED_SUMS, TILED_TERMS = 16, 512, 8
# `wide.cu`: most inputs of the layer of many units, warps beside those of the inputs' chains
INPUTS, WORKERS = 8, 20


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

    def text(self, tiled: frozenset[Site]) -> str:
        """The table of the layers in CUDA C; tiled: which sums a block takes by tiles."""
        rows = []
        for k, layer in enumerate(self.net):
            bias = self.biases + self.units[k] if layer.bias else 0
            numbers = (
                layer.fan_in, layer.fan_out, layer.sets, self.units[k], self.weights[k], bias,
                int(layer.active), *(int((k, kind) in tiled) for kind in KINDS),
            )  # fmt: skip
            rows.append("  {" + ", ".join(f"{n}u" for n in numbers) + "},\n")
        return (
            f"#define UNITS {self.all_units}u\n"
            "struct Layer {\n  u32 fan_in, fan_out, sets, units, weights, biases, active;\n"
            f"  u32 {', '.join(f'{kind}_tiles' for kind in KINDS)};\n}};\n"
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
        problem = f"cupy trains models of up to {MOST - 1:,} parameters, not {shape.parameters:,}"
        raise ConfigError(problem, "backend", "numba, or narrower layers")
    return shape


@dataclass(frozen=True)
class Program:
    """A model's programs.

    forward: a launch for each layer; layers: one for each layer's equation
    by_tiles: whether a layer's sums of a kind, which are chains then, can go by tiles
    fours: whether the first layer goes forward by four units at a time
    owned: layers whose weights are read once, going backward and descending
    tiled: sums that a block which trains the model takes by tiles
    small: all steps in one launch, in shared memory, or nothing: its kernel, threads and shared
        bytes of a model
    """

    shape: Shape
    formulas: Formulas
    forward: str
    layers: str
    by_tiles: dict[Site, bool]
    fours: bool
    owned: frozenset[int]
    tiled: frozenset[Site]
    small: str = ""
    kernel: str = ""
    threads: int = 0
    shared: int = 0


def plan_text(head: str, rows: np.ndarray) -> str:
    """A plan as a struct of constants."""
    slots = int(rows[:, 0].max()) + 1
    columns = [", ".join(map(str, rows[:, k].tolist())) for k in (0, 1)]
    functions = "".join(
        f"  static __device__ constexpr int {name}(int row) {{\n"
        f"    constexpr int of[] = {{{column}}};\n    return of[row];\n  }}\n"
        for name, column in zip(("slot", "source"), columns, strict=True)
    )
    return (
        f"{head} {{\n  static constexpr int LENGTH = {len(rows)}, SLOTS = {slots};\n"
        f"{functions}}};\n"
    )


def ordered_plan(tree: str, leaf_order: str, n: int) -> np.ndarray:
    """The plan of a sum that is the same in every step, (m, 2) int32."""
    rows = fixed_plan(tree, n).astype(np.int32)
    leaves = rows[:, 1] >= 0
    rows[leaves, 1] = fixed_order(leaf_order, n)[rows[leaves, 1]]
    return rows


def fixed_order(leaf_order: str, n: int) -> np.ndarray:
    """The terms in the order of the leaves, (n,) uint32; as given, where it is drawn."""
    terms = LEAF_ORDERS[leaf_order].terms or range
    return np.array(terms(n), np.uint32)


def draws_order(leaf_order: str) -> bool:
    """Whether a leaf order is drawn anew in every step."""
    return LEAF_ORDERS[leaf_order].terms is None


def chained(rows: np.ndarray) -> int:
    """1 if a plan is a chain of the terms in their order, -1 if from the last one on, else 0."""
    if rows[:, 0].any() or (rows[:, 1] < 0).any():
        return 0
    up = np.arange(len(rows))
    return int(np.array_equal(rows[:, 1], up)) - int(np.array_equal(rows[:, 1], up[::-1]))


def accumulators(dials: Dials, layers: int, over_batch: bool) -> set[str]:
    """Those of the sums over the mini-batch, or over units."""
    return {
        dials.accumulator_of(*site) for site in sites(layers) if (site[1] == "batch") == over_batch
    }


def all_exact(dials: Dials, layers: int, over_batch: bool) -> bool:
    """Whether no order of these sums changes a bit."""
    return accumulators(dials, layers, over_batch) == {"exact"}


def batch_chain(dials: Dials, layers: int) -> int:
    """Which way sums over the mini-batch are chains, if at all; 0 if all are exact."""
    if all_exact(dials, layers, over_batch=True):
        return 0
    return tree_chain(dials.tree, dials.leaf_order)


def unit_chain(dials: Dials, layers: int) -> int:
    """The same of the sums over units."""
    if all_exact(dials, layers, over_batch=False):
        return 0
    return tree_chain(dials.unit_tree, dials.unit_order)


def tree_chain(tree: str, leaf_order: str) -> int:
    """1 if a tree is a chain, whatever its length, -1 if from the last term on, else 0."""
    if is_drawn(tree) or draws_order(leaf_order):
        return 0
    return chained(ordered_plan(tree, leaf_order, 64))


def unrolled(config: Config, dials: Dials, net: tuple[Layer, ...], real: bool) -> int:
    """How many terms of sums `small.cu` unrolls, weighted by what it takes to compile them."""
    chain = tree_chain(dials.unit_tree, dials.unit_order) != 0
    weights = [layer.fan_in * layer.fan_out for layer in net]
    # a chain passes over features, which are 0 or 1, in a loop
    units = sum(weights[1:]) + (net[0].fan_out if chain and not real else weights[0])
    batches = config.batch * sum(-(-n // LANES) for n in weights[1:])
    if dials.rounding == "stochastic":
        each = STOCHASTIC
    elif dials.rounding != "nearest" or dials.precision not in ("float32", "float64"):
        each = SEVERAL
    else:
        both = (accumulators(dials, len(net), over_batch) for over_batch in (True, False))
        each = SEVERAL if "kahan" in set.union(*both) else 1
    return each * (units * (1 if chain else PLANNED) + batches)


def is_small(config: Config, dials: Dials, net: tuple[Layer, ...], real: bool = False) -> bool:
    """Whether a warp can train such a model: its sums are unrolled, its units are in registers."""
    widths = [net[0].fan_in, *(layer.fan_out for layer in net)]
    drawn = is_drawn(dials.tree) or is_drawn(dials.unit_tree) or draws_order(dials.unit_order)
    exact = any("exact" in accumulators(dials, len(net), batch) for batch in (True, False))
    fits = net[0].sets == 1 and config.batch <= LANES and max(widths) <= LANES
    if not fits or drawn or exact:
        return False
    return unrolled(config, dials, net, real) <= UNROLLED


def is_wide(config: Config, dials: Dials, net: tuple[Layer, ...]) -> bool:
    """Whether a model is a layer of many units over few inputs, its sums over units chains."""
    if len(net) != 3 or is_drawn(dials.tree) or dials.other_accumulators:
        return False
    if "exact" in (dials.accumulator, dials.unit_accumulator):
        return False
    first, wide, _ = net
    chain = tree_chain(dials.unit_tree, dials.unit_order)
    fits = first.fan_in <= LANES and first.fan_out <= INPUTS and config.batch <= LANES
    return fits and wide.fan_out > LANES and wide.fan_out % 8 == 0 and chain != 0


def is_owned(config: Config, found: Formulas, layer: Layer) -> bool:
    """Whether blocks that own a layer's inputs can go backward and descend at once (`owned.cu`)."""
    whole = layer.fan_in % OWNED == 0 and layer.fan_out % 16 == 0 and config.batch == LANES
    return whole and np.dtype(found.dtype).itemsize == 4


def tiled_sums(by_tiles: dict[Site, bool], net: tuple[Layer, ...], batch: int) -> frozenset[Site]:
    """Sums above the first layer that `block.cu` takes by tiles, as they are many and not short."""
    sizes = {
        (k, kind): size
        for k, layer in enumerate(net)
        for kind, size in (
            ("forward", (layer.fan_out, batch, layer.fan_in)),
            ("backward", (layer.fan_in, batch, layer.fan_out)),
            ("batch", (layer.fan_out, layer.fan_in, batch)),
        )
    }
    return frozenset(
        site
        for site, (m, n, terms) in sizes.items()
        if site[0]
        and by_tiles[site]
        and m >= TILED_ROWS
        and m * n >= TILED_SUMS
        and terms >= TILED_TERMS
    )


def batch_text(config: Config, dials: Dials, shape: Shape) -> str:
    """`batch.cu`, with what stands in front of it."""
    fans = [shape.net[0].fan_in, *(layer.fan_out for layer in shape.net)]

    def table(name: str, values: Sequence[int] | np.ndarray) -> str:
        return f"__device__ constexpr int {name}[] = {{{', '.join(map(str, values))}}};\n"

    constants = {
        "LAYERS": len(shape.net), "BIASES": shape.biases, "BATCH": config.batch,
        "UNIT_CHAIN": tree_chain(dials.unit_tree, dials.unit_order),
        "DRAWN_ORDER": int(draws_order(dials.leaf_order)),
        "SPARSE": int(OPTIMIZERS[config.optimizer].zero_gradient_changes_nothing),
    }  # fmt: skip
    text = "".join(f"constexpr int {name} = {value};\n" for name, value in constants.items())
    text += table("FAN", fans) + table("WEIGHTS", shape.weights) + table("UNIT", shape.units)
    text += table("LEAF", fixed_order(dials.leaf_order, config.batch))
    text += plan_text("struct BatchPlan", fixed_plan(dials.tree, config.batch))
    return text + source_text("batch.cu")


def small_text(config: Config, dials: Dials, shape: Shape) -> str:
    """`small.cu`, with what stands in front of it."""
    text = batch_text(config, dials, shape) + "template <int N> struct UnitPlan;\n"
    for n in sorted({shape.net[0].fan_in, *(layer.fan_out for layer in shape.net)}):
        rows = ordered_plan(dials.unit_tree, dials.unit_order, n)
        text += plan_text(f"template <> struct UnitPlan<{n}>", rows)
    return text + source_text("small.cu")


def wide_text(config: Config, dials: Dials, shape: Shape) -> str:
    """`wide.cu`, with what stands in front of it."""
    first = shape.net[0]
    text = batch_text(config, dials, shape)
    text += f"constexpr int SETS = {first.sets}, WORKERS = {WORKERS};\n"
    for name, value in (("BIASED", first.bias), ("ACTIVE", first.active)):
        text += f"constexpr bool {name} = {str(value).lower()};\n"
    return text + source_text("wide.cu")


@cache
def streams() -> str:
    """The program that draws examples, permutations and plans."""
    return source_text("common.cu") + source_text("streams.cu")


@lru_cache(KEPT)
def program_of(config: Config, dials: Dials, features: int, real: bool = False) -> Program:
    """The programs of a model with these dials over so many features; raises ConfigError."""
    shape = shape_of(layers(config, features))
    found = formulas(config, dials, shape.parameters, len(shape.net))
    unit, batch = unit_chain(dials, len(shape.net)), batch_chain(dials, len(shape.net))
    widest = max((max(layer.fan_in, layer.fan_out) for layer in shape.net[1:]), default=0)
    tiles = (unit or batch) and widest >= LANES
    by_tiles = {
        site: bool(tiles and (batch if site[1] == "batch" else unit))
        and dials.accumulator_of(*site) != "exact"
        for site in sites(len(shape.net))
    }
    owned = frozenset(
        k
        for k, layer in enumerate(shape.net)
        if k and by_tiles[k, "backward"] and by_tiles[k, "batch"] and is_owned(config, found, layer)
    )
    tiled = tiled_sums(by_tiles, shape.net, config.batch)
    head = source_text("common.cu") + found.text + shape.text(tiled)
    head += f"constexpr bool REAL = {str(real).lower()};\n" + source_text("vectors.cu")
    chains = f"constexpr int UNIT_CHAIN = {unit}, BATCH_CHAIN = {batch};\n"
    first = shape.net[0]
    fours = bool(unit) and not real and features <= LANES and first.row % 4 == 0
    chains += f"constexpr bool FOURS_FIRST = {str(fours).lower()};\n"
    forward = head + chains + source_text("forward.cu")
    sparse = OPTIMIZERS[config.optimizer].zero_gradient_changes_nothing
    by_layers = forward + f"constexpr bool SPARSE = {str(sparse).lower()};\n"
    by_layers += source_text("backward.cu") + source_text("tiles.cu")
    by_layers += source_text("tile_launches.cu") if tiles else ""
    by_layers += source_text("owned.cu") if owned else ""
    by_layers += f"constexpr bool TILED = {str(bool(tiled)).lower()};\n" + source_text("block.cu")
    program = Program(shape, found, forward, by_layers, by_tiles, fours, owned, tiled)
    size, numbers = np.dtype(found.dtype).itemsize, (1 + len(found.starts)) * shape.parameters
    if is_small(config, dials, shape.net, real):
        numbers += (2 * shape.all_units + features * real) * ROW
        text = head + small_text(config, dials, shape)
        return replace(
            program, small=text, kernel="train_small", threads=LANES, shared=numbers * size
        )
    if is_wide(config, dials, shape.net) and not real:
        inputs, units = shape.net[1].fan_in, shape.net[1].fan_out
        warps = WORKERS + (inputs // 2 if inputs % 2 == 0 else inputs)
        numbers += units // 4 * 132 + (3 * inputs + 1) * ROW + 2 * inputs * LANES * WORKERS
        return replace(
            program,
            small=head + wide_text(config, dials, shape),
            kernel="train_wide",
            threads=LANES * warps,
            shared=numbers * size + 4 * LANES,
        )
    return program
