"""The architectures that have names (figures 1 and 5); `--hidden` gives any other."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A model but for its activation.

    Attributes
    ----------
    name : str
        What `--model` takes.
    summary : str
        What it is in a few words.
    widths : tuple of int
        Units of each hidden layer, from the inputs up.
    embeddings : int
        Outputs of each of two tables of embeddings, one for either half of the features, below the
        hidden layers: a power of two, or 0 for none.
    """

    name: str
    summary: str
    widths: tuple[int, ...]
    embeddings: int = 0

    def __post_init__(self) -> None:
        # compiled kernels pad the outputs of a set to whole vectors; the layer above reads those of
        # both sets side by side
        if self.embeddings & (self.embeddings - 1):
            raise ValueError(
                f"{self.name}: {self.embeddings} outputs of an embedding: no power of two"
            )


ARCHITECTURES = {
    record.name: record
    for record in (
        Architecture("linear", "no hidden layer", ()),
        Architecture("single", "one hidden unit", (1,)),
        Architecture("double", "two hidden units", (2,)),
        Architecture("tower", "hidden layers 16,8,4,2", (16, 8, 4, 2)),
        Architecture("wide", "1000 units over two embeddings in R²", (1000,), embeddings=2),
        Architecture("deep", "hidden layers 1024,512", (1024, 512)),
    )
}
