"""Figure 10: PD and excess loss of deep models in the quadratic world."""

import math

from nanorepro.paper.claims import LEAST_LOG2_T_DEEP, Claim, Criterion, equal_losses, less_pd, two
from nanorepro.paper.curves import (
    ALL,
    EQUAL_LOSS_DEEP,
    FIRST,
    LAST,
    MID,
    MORE_DEEP,
    MOST_DEEP,
    SMELU,
    SMOOTH,
    SWISH,
)
from nanorepro.paper.estimates import geometric_ratio, ratio
from nanorepro.paper.quantities import LOSS, PD
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import curve_rows

# their loss is ReLU's within a tenth, and their PD at z = 1 that of rounding
TUNED = ("SmeLU 0.1 deep", "Swish 16 deep", "Swish 4 deep")

CLAIMS = (
    Claim(
        "non-linear activations have superior loss in the quadratic world, the linear"
        " baseline a very poor one",
        LEAST_LOG2_T_DEEP,
        tuple(
            Criterion(
                f"linear over {n}, z = 1: L", ratio(LOSS), two("linear, quadratic", n, FIRST), 2.0
            )
            for n in ("ReLU deep", "SmeLU 0.1 deep", "Swish 16 deep")
        ),
    ),
    Claim(
        "properly tuned SmeLU and Swish have lower PD than ReLU, at comparable loss, as long"
        " as shuffling is limited",
        LEAST_LOG2_T_DEEP,
        tuple(
            part for n in TUNED for part in less_pd(f"{n} over ReLU, z = 1", n, "ReLU deep", FIRST)
        ),
        MORE_DEEP,
    ),
    Claim(
        "with aggressive shuffling the gain in PD disappears",
        LEAST_LOG2_T_DEEP,
        tuple(
            Criterion(f"{n} over ReLU, largest z: PD", ratio(PD), two(n, "ReLU deep", LAST), 0.8)
            for n in TUNED
        ),
        MORE_DEEP,
    ),
    *(
        Claim(
            f"with {words}, there is a trade-off in β: the smoother activation has lower PD and"
            " higher loss",
            LEAST_LOG2_T_DEEP,
            tuple(
                Criterion(
                    f"{a} over {b}, {where}: {what}",
                    how(of),
                    two(f"{a} deep", f"{b} deep", place),
                    low,
                    high,
                )
                for a, b in (
                    (f"SmeLU {SMELU[-1]:g}", f"SmeLU {SMELU[0]:g}"),
                    (f"Swish {SWISH[0]:g}", f"Swish {SWISH[-1]:g}"),
                )
                for what, how, of, low, high in (
                    ("PD", ratio, PD, 0.0, 1.0),
                    ("L, pair by pair", geometric_ratio, LOSS, 1.0, math.inf),
                )
            ),
            MORE_DEEP,
            ours=place == MID,
        )
        for words, where, place in (
            ("minimal shuffling", "z = 1", FIRST),
            ("moderate shuffling, too, of which the paper does not speak", "middle z", MID),
        )
    ),
    Claim(
        "well tuned SmeLU slightly outperforms well tuned Swish",
        LEAST_LOG2_T_DEEP,
        tuple(
            part
            for n in ("Swish 16", "Swish 4")
            for part in less_pd(f"SmeLU 0.1 over {n}, z = 1", "SmeLU 0.1 deep", f"{n} deep", FIRST)
        ),
        MOST_DEEP,
    ),
    Claim(
        "a warm start with a lower learning rate reduces PD even with aggressive shuffling,"
        " at competitive loss",
        LEAST_LOG2_T_DEEP,
        less_pd("ReLU TL over ReLU, largest z", "ReLU deep TL", "ReLU deep", LAST),
    ),
    Claim(
        "excess loss is unaffected by shuffling",
        LEAST_LOG2_T_DEEP,
        equal_losses(("ReLU deep", "SmeLU 0.1 deep", "Swish 16 deep")),
        EQUAL_LOSS_DEEP,
    ),
)

FIGURE = Figure(
    number=10,
    title="Deep models [1024, 512] in the quadratic world",
    caption=(
        "Ensemble mean performance metrics for two hidden layers [1024, 512] models with "
        "different activations and a quadratic data generation model. Models labeled TL are "
        "initialized using warm start transfer learning. Top: Δ_r vs. log2 z. Bottom: Δ_r vs. "
        "excess loss L for different values of log2 z."
    ),
    plot="plot_curves:curve_panels",
    plotted=tuple((n, ALL) for n in ("linear, quadratic", "ReLU deep", *SMOOTH, "ReLU deep TL")),
    rows=curve_rows,
    claims=CLAIMS,
)
