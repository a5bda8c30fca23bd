"""Figure 6: PD and excess loss of narrow towers over shuffling."""

from nanorepro.paper.claims import (
    LEAST_LOG2_T,
    Claim,
    Criterion,
    equal_losses,
    less_pd,
    order_of,
    two,
)
from nanorepro.paper.curves import ALL, EQUAL_LOSS, FIRST, LAST, MID, MORE_TOWERS
from nanorepro.paper.estimates import all_over_learned, positive_mean, ratio, share_stuck
from nanorepro.paper.quantities import LOG_LOSS_LEARNED, LOSS, LOSS_LEARNED, PD, PD_LEARNED
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import curve_rows

SMOOTH = ("SmeLU 0.5 tower", "Swish 4 tower")  # of less PD and loss at T = 2^20, z = 1

CLAIMS = (
    Claim(
        "the ReLU tower has worse PD than single ReLU even with minimal shuffling and"
        " identical initialization",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU tower over ReLU 1, z = 1: PD",
                ratio(PD),
                two("ReLU tower", "ReLU 1", FIRST),
                1.0,
            ),
        ),
    ),
    Claim(
        "some towers are stuck even with little shuffling, unable to learn, which degrades the"
        " expected loss",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU tower, z = 1: share of pairs with a stuck model",
                share_stuck(),
                (("ReLU tower", FIRST),),
                0.005,
            ),
            Criterion(
                "ReLU tower, z = 1: L of all pairs over that of those without a stuck model",
                all_over_learned(LOSS),
                (("ReLU tower", FIRST),),
                1.0,
            ),
        ),
        MORE_TOWERS,
    ),
    *(
        Claim(
            f"stuck towers degrade the expected PD {words}",
            LEAST_LOG2_T,
            (
                Criterion(
                    f"ReLU tower, {what}: PD of all pairs over that of those without a stuck model",
                    all_over_learned(PD),
                    (("ReLU tower", place),),
                    1.0,
                ),
            ),
            MORE_TOWERS,
        )
        for words, place, what in (
            ("even with minimal shuffling", FIRST, "z = 1"),
            ("with more shuffling", MID, "middle z"),
        )
    ),
    Claim(
        "with minimal shuffling, the identity tower retains a PD of O(1e-6)",
        LEAST_LOG2_T,
        (
            Criterion(
                "Identity tower, z = 1: PD",
                positive_mean(PD),
                (("Identity tower", FIRST),),
                **order_of(-6),
            ),
        ),
    ),
    Claim(
        "PDs of both towers are worse than a single ReLU's also with more shuffling",
        LEAST_LOG2_T,
        tuple(
            Criterion(f"{n} over ReLU 1, {what} z: PD", ratio(PD), two(n, "ReLU 1", place), 1.0)
            for n in ("ReLU tower", "Identity tower")
            for place, what in ((MID, "middle"), (LAST, "largest"))
        ),
        MORE_TOWERS,
    ),
    Claim(
        "when they manage to learn, excess loss is similar at every z",
        LEAST_LOG2_T,
        equal_losses(("Identity tower", "ReLU tower"), LOG_LOSS_LEARNED),
        EQUAL_LOSS,
    ),
    Claim(
        "SmeLU and Swish improve the PD of narrow towers over ReLU, at comparable loss, with"
        " minimal shuffling (section 6)",
        LEAST_LOG2_T,
        tuple(
            part
            for n in SMOOTH
            for part in less_pd(
                f"{n} over ReLU tower, z = 1",
                n,
                "ReLU tower",
                FIRST,
                PD_LEARNED,
                LOSS_LEARNED,
                " of pairs that learned",
            )
        ),
        MORE_TOWERS,
    ),
    Claim(
        "with aggressive shuffling that gain in PD disappears (section 6)",
        LEAST_LOG2_T,
        tuple(
            Criterion(
                f"{n} over ReLU tower, largest z: PD of pairs that learned",
                ratio(PD_LEARNED),
                two(n, "ReLU tower", LAST),
                0.8,
            )
            for n in SMOOTH
        ),
        MORE_TOWERS,
    ),
)

FIGURE = Figure(
    number=6,
    title="Narrow tower models [16, 8, 4, 2], AdaGrad 0.1",
    caption=(
        "Ensemble mean metrics for multi hidden units narrow tower models, with hidden layer "
        "widths [16, 8, 4, 2], identity and ReLU activation. Top: Δ_r vs. log2 z. Bottom: Δ_r "
        "vs. L, different log2 z values."
    ),
    plot="plot_curves:curve_panels",
    plotted=(("Identity tower", ALL), ("ReLU tower", ALL)),
    rows=curve_rows,
    claims=CLAIMS,
)
