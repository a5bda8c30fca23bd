"""Figure 1: the simple models, drawn."""

from nanorepro.config import Config
from nanorepro.paper.record import Figure

FIGURE = Figure(
    number=1,
    title="Simple models",
    caption=(
        "Simple models. Left: baseline convex linear model. Middle: Single activation "
        "network. Right: Double activation network."
    ),
    plot="plot_architectures:architectures",
    models=tuple(Config(model=m) for m in ("linear", "single", "double")),
)
