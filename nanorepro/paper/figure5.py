"""Figure 5: the deep tower and the wide embedding model, drawn."""

from nanorepro.config import Config
from nanorepro.paper.record import Figure

FIGURE = Figure(
    number=5,
    title="Deep tower and wide embedding models",
    caption=("Deep tower and wide embedding models."),
    plot="plot_architectures:architectures",
    models=tuple(Config(model=m) for m in ("tower", "wide")),
)
