"""Figure 7: the parameters of one tower against those of the other."""

from nanorepro.paper.claims import LEAST_LOG2_T, Claim, Criterion
from nanorepro.paper.curves import MID, MORE_OF_PAPER
from nanorepro.paper.estimates import mean
from nanorepro.paper.quantities import CORRELATION_LEARNED
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import rows_of_one_pair

CLAIMS = (
    Claim(
        "the parameters of two ReLU towers of a pair form a wide correlation cloud",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU tower, middle z: correlation of parameters of pairs that learned",
                mean(CORRELATION_LEARNED),
                (("ReLU tower", MID),),
                high=0.95,
            ),
        ),
        MORE_OF_PAPER,
    ),
)

FIGURE = Figure(
    number=7,
    title="Parameters of a pair of ReLU towers",
    caption=(
        "Correlation plot of the parameters of a single pair of identically initialized ReLU "
        "models with hidden layers of widths [16, 8, 4, 2] comparing values of learned "
        "parameters of one model to the other, where each layer is shown with a different "
        "color."
    ),
    plot="plot_parameters:correlations",
    plotted=(("ReLU tower", MID),),
    rows=rows_of_one_pair,
    parameters=True,
    claims=CLAIMS,
)
