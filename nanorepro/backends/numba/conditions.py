"""When the special kernels apply: each condition once, a function of the shapes and the dials."""

from nanorepro.backends.numba.context import KernelContext
from nanorepro.model.layers import Layer

NARROW = 4  # units of a first layer, at most, that is summed over all features
LARGE = 4096  # weights of a layer, at most, whose gradients wait for those of all layers
FUSED = 12  # units of a layer, at most, whose weights and their gradients fit in the registers
COLUMNS = 4  # vectors of units, at least, of a wide layer


def round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def lanes_for(n: int, longest: int) -> int:
    """Lanes of the vectors that hold n contiguous numbers."""
    return min(longest, 1 << (n - 1).bit_length())


def whole_vectors(n: int, longest: int) -> int:
    """Room for n contiguous numbers in whole vectors; for many, in whole groups of four."""
    return round_up(n, lanes_for(n, longest) if n < 4 * longest else 4 * longest)


def row(ctx: KernelContext, k: int) -> int:
    """Units that one input of a layer reaches, padded to whole vectors."""
    return whole_vectors(ctx.net[k].row, ctx.longest)


# Sums


def plain(ctx: KernelContext) -> bool:
    """The sums over units are plain chains."""
    return ctx.unit_sums.resumable(1)


def tiled(ctx: KernelContext) -> bool:
    """The sums over the mini-batch stay in registers."""
    return ctx.batch_sums.tiled(ctx.batch)


def chained(ctx: KernelContext) -> bool:
    """The sums over the mini-batch are plain chains."""
    return ctx.batch_sums.resumable(ctx.batch)


# The first layer


def over_bits(ctx: KernelContext, k: int) -> bool:
    """A first layer whose inputs are packed bits."""
    return k == 0 and not ctx.real


def over_reals(ctx: KernelContext, k: int) -> bool:
    """A first layer whose inputs are real numbers."""
    return k == 0 and ctx.real


def narrow(ctx: KernelContext, k: int) -> bool:
    """A first layer of at most four units over bits; no sum is exact or in float64."""
    accumulators = {ctx.dials.accumulator, ctx.dials.unit_accumulator}
    few = over_bits(ctx, k) and ctx.net[0].fan_out <= NARROW
    return few and not accumulators & {"wide", "exact"}


def by_example(ctx: KernelContext) -> bool:
    """The first layer's units fill between half a vector and two, over one word of bits.

    Then its sums are taken example by example; they must be plain, and those over the mini-batch
    stay in registers.
    """
    layer, one_word = ctx.net[0], ctx.net[0].fan_in <= 32 and ctx.net[0].sets == 1
    fits = ctx.longest < 2 * layer.fan_out <= 4 * ctx.longest
    return over_bits(ctx, 0) and plain(ctx) and tiled(ctx) and one_word and fits


# Layers above it


def four_vectors(ctx: KernelContext, k: int) -> bool:
    """A layer above the first whose units are whole groups of four vectors, padding included; the
    sums over units are plain.
    """
    return k > 0 and row(ctx, k) % (4 * ctx.longest) == 0 and plain(ctx)


def small(ctx: KernelContext, k: int) -> bool:
    """A layer above the first of at most 4096 weights."""
    return k > 0 and ctx.net[k].fan_in * row(ctx, k) <= LARGE


def large(ctx: KernelContext, k: int) -> bool:
    """A layer above the first of more than 4096 weights."""
    return k > 0 and not small(ctx, k)


def by_distinct_examples(ctx: KernelContext, k: int) -> bool:
    """A large layer of four vectors of units: equal examples, found by bits, have sums once."""
    return large(ctx, k) and four_vectors(ctx, k) and not ctx.real


def examples_contiguous(ctx: KernelContext, k: int) -> bool:
    """Small layers; a first layer of at most a vector of units, if its examples go together.

    The inputs of the latter are bits.
    """
    if over_reals(ctx, k):
        return False
    if k == 0:
        together = plain(ctx) and ctx.net[0].fan_out <= ctx.longest and not by_example(ctx)
        return narrow(ctx, 0) or together
    return small(ctx, k)


def few_units(ctx: KernelContext, k: int) -> bool:
    """Examples are contiguous and the units are fewer than a vector's lanes; or the first layer."""
    return examples_contiguous(ctx, k) and (k == 0 or ctx.net[k].fan_out < ctx.longest)


def table_layers(ctx: KernelContext) -> list[int]:
    """The layers of few units, whose δ and bias gradients are contiguous, in a table."""
    return [k for k in range(len(ctx.net)) if few_units(ctx, k)]


def fewer_vectors_along_inputs(layer: Layer, transposing: bool, longest: int) -> bool:
    """Whether the vectors of a small layer's gradients are fewer along its inputs than its units.

    Transposing the inputs first costs about eight for each vector.
    """
    inputs, units = -(-layer.fan_in // longest), -(-layer.fan_out // longest)
    return layer.fan_out * inputs + 8 * transposing * inputs < layer.fan_in * units


def reads_rows(ctx: KernelContext, k: int) -> bool:
    """A gradient of this layer needs its δ with the units of an example contiguous."""
    if ctx.net[k].fan_out == 1 or not few_units(ctx, k):
        return False
    return not narrow(ctx, 0) if k == 0 else not inputs_contiguous(ctx, k)


def in_shared_gradients(ctx: KernelContext, k: int) -> bool:
    """A layer of few units over one of few units; some layer's δ are in the table's rows, or are
    worth it; the sums over the mini-batch stay in registers.
    """
    if k == 0 or not (tiled(ctx) and few_units(ctx, k) and few_units(ctx, k - 1)):
        return False
    return ctx.net[k].fan_out > 1 or any(reads_rows(ctx, j) for j in range(k))


def inputs_contiguous(ctx: KernelContext, k: int) -> bool:
    """A small layer the vectors of whose gradients are fewer along its inputs."""
    if not small(ctx, k) or in_shared_gradients(ctx, k):
        return False
    return fewer_vectors_along_inputs(ctx.net[k], examples_contiguous(ctx, k - 1), ctx.longest)


def any_rows(ctx: KernelContext) -> bool:
    """Some gradient needs δ with the units of an example contiguous."""
    return any(reads_rows(ctx, k) for k in range(len(ctx.net)))


def fused(ctx: KernelContext, k: int) -> bool:
    """The second layer, of at most 12 units, over a first one taken example by example whose units
    fill a vector; its weights lie along its inputs; the sums over the mini-batch are plain chains.
    """
    if k != 1 or not (by_example(ctx) and chained(ctx) and inputs_contiguous(ctx, 1)):
        return False
    one_vector = whole_vectors(ctx.net[1].fan_in, ctx.longest) == ctx.longest
    return ctx.net[1].fan_out <= FUSED and one_vector


def recomputed(ctx: KernelContext, k: int) -> bool:
    """A `wide_layer` whose activation costs less than going to memory."""
    return not ctx.costly and wide_layer(ctx, k)


def kept(ctx: KernelContext, k: int) -> bool:
    """A `wide_layer` whose activation costs more; equal examples are found by bits."""
    return ctx.costly and wide_layer(ctx, k) and not ctx.real


WIDE_LAYER = (
    "a layer of at most 4096 weights and at least four vectors of units; its inputs and outputs,"
    " and one, are at most the mini-batch and a vector's lanes; sums over units are plain chains,"
    " those over the mini-batch stay in registers"
)


def wide_layer(ctx: KernelContext, k: int) -> bool:
    """A layer of at least four vectors of units between few inputs and few outputs.

    Its inputs, outputs and one together are at most the mini-batch, and a vector's lanes: so many
    updates fit beside the sums of a vector of units.  The sums are plain, those over the mini-batch
    stay in registers.
    """
    if not 0 < k < len(ctx.net) - 1 or not (plain(ctx) and tiled(ctx)):
        return False
    many = small(ctx, k) and row(ctx, k) >= COLUMNS * ctx.longest and not inputs_contiguous(ctx, k)
    rows = ctx.net[k].fan_in + 1 + ctx.net[k + 1].fan_out
    few = examples_contiguous(ctx, k - 1) and rows <= min(ctx.batch, ctx.longest)
    return many and few and few_units(ctx, k + 1) and inputs_contiguous(ctx, k + 1)


def with_biases(ctx: KernelContext) -> bool:
    """The narrow first layer's update takes the table's biases along: at most a vector of them."""
    units = sum(ctx.net[k].fan_out for k in table_layers(ctx))
    return narrow(ctx, 0) and tiled(ctx) and not any_rows(ctx) and units <= ctx.longest


def with_second_layer(ctx: KernelContext) -> bool:
    """And the gradient by the weights of a second layer of one unit."""
    return with_biases(ctx) and len(ctx.net) > 1 and ctx.net[1].fan_out == 1
