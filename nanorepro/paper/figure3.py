"""Figure 3: the trained weights of both models of a pair."""

import numpy as np

from nanorepro.paper.claims import LEAST_LOG2_T, Claim, Criterion, ends, two
from nanorepro.paper.curves import ALL, FIRST, LAST, MORE_PAIRS
from nanorepro.paper.estimates import count_opposite, mean, noise, ratio, share_opposite
from nanorepro.paper.quantities import DEVIATION, FIRST_LAYER, LARGEST_DIFFERENCE
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import rows_of_one_pair

CLAIMS = (
    Claim(
        "with distinct initialization, single models fall into two phases: weights equal or of"
        " opposite sign, with little noise",
        LEAST_LOG2_T,
        (
            Criterion(
                "Identity 1 diff, z = 1: share of opposite pairs",
                share_opposite(),
                (("Identity 1 diff", FIRST),),
                0.02,
                0.98,
            ),
            Criterion(
                "Identity 1 diff, z = 1: |cosine| of the weights",
                mean(FIRST_LAYER, np.abs),
                (("Identity 1 diff", FIRST),),
                0.99,
            ),
            Criterion(
                "ReLU 1 diff, z = 1: share of opposite pairs",
                share_opposite(),
                (("ReLU 1 diff", FIRST),),
                0.02,
                0.98,
            ),
        ),
    ),
    Claim(
        "with identical initialization, no pair of single models with weights of opposite sign is"
        " seen, even with the most aggressive shuffling",
        LEAST_LOG2_T,
        (
            Criterion(
                "Identity 1, all z: opposite pairs", count_opposite(), (("Identity 1", ALL),), 0, 0
            ),
            Criterion("ReLU 1, all z: opposite pairs", count_opposite(), (("ReLU 1", ALL),), 0, 0),
        ),
    ),
    Claim(
        "single ReLU models are slightly more noisy than those with identity (distinct"
        " initialization)",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 1 diff over Identity 1 diff, z = 1: 1 - |cosine| of the weights",
                ratio(FIRST_LAYER, noise),
                two("ReLU 1 diff", "Identity 1 diff", FIRST),
                1.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "the weights of linear models almost match, even with aggressive shuffling and distinct"
        " initialization",
        LEAST_LOG2_T,
        (
            Criterion(
                "linear diff, largest z: cosine of the weights",
                mean(FIRST_LAYER),
                (("linear diff", LAST),),
                0.99,
            ),
        ),
    ),
    Claim(
        "the cosine of deviations from θ is almost 1 with no shuffling, and far from it with"
        " maximum shuffling, 0.191 in the paper (linear, distinct initialization)",
        LEAST_LOG2_T,
        (
            Criterion(
                "linear diff, z = 1: cosine", mean(DEVIATION), (("linear diff", FIRST),), 0.99
            ),
            Criterion(
                "linear diff, largest z: cosine",
                mean(DEVIATION),
                (("linear diff", LAST),),
                0.0,
                0.4,
            ),
        ),
    ),
    Claim(
        "the weights of a pair of models of two ReLU units deviate more than those of two identity"
        " units with minimum shuffling, and more with maximum shuffling",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 2 over Identity 2, z = 1: largest |Δw|",
                ratio(LARGEST_DIFFERENCE),
                two("ReLU 2", "Identity 2", FIRST),
                1.0,
            ),
            Criterion(
                "ReLU 2: largest |Δw| at the largest z over z = 1",
                ratio(LARGEST_DIFFERENCE),
                ends("ReLU 2"),
                1.0,
            ),
        ),
        MORE_PAIRS,
    ),
)

FIGURE = Figure(
    number=3,
    title="Trained weights of pairs of models",
    caption=(
        "Trained weights for pairs of models as function of weight index. From top to bottom: "
        "1. Linear model with distinct (non-identical) initial conditions and log2 z = 20; 2. "
        "Identity activation single unit, distinct initial conditions, log2 z = 0; 3. "
        "Identity activation, two units, same initial conditions, log2 z = 20; 4. ReLU, 2 "
        "units, same initial conditions, log2 z = 20."
    ),
    plot="plot_parameters:weights",
    plotted=(
        ("linear diff", LAST),
        ("Identity 1 diff", FIRST),
        ("Identity 2", LAST),
        ("ReLU 2", LAST),
    ),
    rows=rows_of_one_pair,
    parameters=True,
    claims=CLAIMS,
)
