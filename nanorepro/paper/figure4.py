"""Figure 4: differences between the weights of a pair."""

from nanorepro.paper.claims import LEAST_LOG2_T, Claim, Criterion, order_of
from nanorepro.paper.curves import FIRST, LAST
from nanorepro.paper.estimates import positive_mean
from nanorepro.paper.quantities import LARGEST_DIFFERENCE
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import rows_of_all_pairs

CLAIMS = (
    Claim(
        "weight differences of a single ReLU pair are O(1e-6) with minimum and O(1e-2) with"
        " maximum shuffling",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 1, z = 1: largest |Δw|",
                positive_mean(LARGEST_DIFFERENCE),
                (("ReLU 1", FIRST),),
                **order_of(-6),
            ),
            Criterion(
                "ReLU 1, largest z: largest |Δw|",
                positive_mean(LARGEST_DIFFERENCE),
                (("ReLU 1", LAST),),
                **order_of(-2),
            ),
        ),
    ),
)

FIGURE = Figure(
    number=4,
    title="Differences between the weights of a ReLU 1 pair",
    caption=(
        "Differences between corresponding weights for a ReLU1 model pair for log2 z = 0 "
        "(top) and log2 z = 20 (bottom)."
    ),
    plot="plot_parameters:differences",
    plotted=(("ReLU 1", FIRST), ("ReLU 1", LAST)),
    rows=rows_of_all_pairs,
    parameters=True,
    claims=CLAIMS,
)
