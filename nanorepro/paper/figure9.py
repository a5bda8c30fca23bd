"""Figure 9: embeddings and weights of two pairs of wide models."""

from nanorepro.paper.claims import LEAST_LOG2_T, Claim, Criterion
from nanorepro.paper.curves import MID
from nanorepro.paper.estimates import rank_correlation
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import rows_of_two_pairs

CLAIMS = (
    Claim(
        "pairs whose embeddings are less correlated have hidden weights that deviate more",
        LEAST_LOG2_T,
        (
            Criterion(
                "wide ReLU, middle z: rank correlation over pairs, embeddings and weights",
                rank_correlation(),
                (("ReLU wide, AdaGrad 0.1", MID),),
                0.0,
            ),
        ),
    ),
)

FIGURE = Figure(
    number=9,
    title="Parameters of two pairs of wide ReLU models",
    caption=(
        "Learned model parameters' correlation graphs of two different pairs of models "
        "initialized with common initial conditions, trained with Adagrad with learning rate "
        "0.1 and log2 z = 10. A row represents a model pair. Left graphs show correlations of "
        "embedding units, and right of layer weights. Red is used for input edges to a unit, "
        "and blue for output edges from the unit."
    ),
    plot="plot_parameters:embedded_correlations",
    plotted=(("ReLU wide, AdaGrad 0.1", MID),),
    rows=rows_of_two_pairs,
    parameters=True,
    claims=CLAIMS,
)
