"""Which examples a run has: a part of its configuration."""

from dataclasses import dataclass

from nanorepro.data.content import RIGHT, Content, content_of
from nanorepro.data.distributions import DISTRIBUTIONS
from nanorepro.errors import ConfigError, wrong
from nanorepro.settings import setting, summaries

FILE, ARRAYS = "file:", "arrays"
WORLD_FEATURES = 32
SHARED_OR_SPLIT = {
    "share": "each pair is trained on all of them",
    "split": "each pair on examples of its own, as many as all others have",
}


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The examples: a part of `Config`."""

    data: str = setting(
        "linear",
        "where the examples come from: a world ("
        + summaries(DISTRIBUTIONS)
        + "), or file:NAME, your own in a file .npz, .h5, .csv or .parquet",
        shown=(*DISTRIBUTIONS, FILE + "NAME"),
    )
    content: str = setting(
        "",
        "what the examples of the file are, as a run of them prints it: a file that has changed is"
        " refused",
        shown=("KIND:N+NxD:SHA256",),
    )
    epochs: int = setting(10, "passes over your own examples", low=1, high=2**40)
    holdout: float = setting(
        0.2,
        "part of your own examples that is held out for evaluation, drawn by the seed, where the"
        " file has no x_eval",
        low=1e-6,
        below=1.0,
    )
    pair_examples: str = setting(
        "share",
        "what pairs see of your own examples; "
        + "; ".join(f"{name}: {meaning}" for name, meaning in SHARED_OR_SPLIT.items()),
        choices=SHARED_OR_SPLIT,
    )
    log2_examples: int = setting(
        20,
        "log2 of T, the training examples of a pair, of a world",
        low=0,
        high=40,
        paper=26,
    )
    log2_window: int = setting(
        0,
        "log2 of z, the mini-batches among which examples are shuffled",
        low=0,
        high=40,
        paper="0 to 20",
    )
    log2_eval: int = setting(
        16, "log2 of N, the evaluation examples, of a world", low=0, high=24, paper=16
    )
    first_example: int = setting(
        0, "index in the pair's sequence of the first training example", low=0, high=2**48
    )
    batch: int = setting(32, "examples of a mini-batch", low=1, high=65536, paper=32)

    @property
    def is_given(self) -> bool:
        """Whether the examples are the caller's, not drawn from a world."""
        return self.data not in DISTRIBUTIONS

    @property
    def given(self) -> Content | None:
        """What the caller's examples are; None of a world's.

        Raises ConfigError where they have not been read yet.
        """
        if not self.is_given:
            return None
        found = content_of(self.content)
        if found is None:
            problem = f"the examples of {self.data} have not been read"
            raise ConfigError(problem, "content", "the `config` of a result, which has read them")
        return found

    @property
    def features(self) -> int:
        """Features of an example."""
        given = self.given
        return given.features if given else WORLD_FEATURES

    @property
    def real(self) -> bool:
        """Whether the features are real numbers, not 0 and 1."""
        given = self.given
        return given is not None and given.is_real

    @property
    def held_out(self) -> int:
        """Examples of the caller that are held out for evaluation."""
        given = self.given
        if given is None or given.evaluation:
            return 0
        return int(self.holdout * given.examples + 0.5)

    @property
    def evaluation_examples(self) -> int:
        """N, the evaluation examples."""
        given = self.given
        return given.evaluation or self.held_out if given else 1 << self.log2_eval

    @property
    def window(self) -> int:
        """Examples of a window: z mini-batches."""
        return self.batch << self.log2_window


def check_source(c: DataSettings) -> None:
    """Raise ConfigError unless the examples are of a world, of a file or of arrays."""
    if not c.is_given:
        if c.content:
            raise wrong("content", c.content, f"none with {{data={c.data}}}")
        return
    named = c.data.startswith(FILE) and c.data.removeprefix(FILE).strip()
    if c.data != ARRAYS and not named:
        raise wrong("data", c.data, " or ".join(DISTRIBUTIONS) + f" or {FILE}NAME")
    if c.content and content_of(c.content) is None:
        raise wrong("content", c.content, RIGHT)
