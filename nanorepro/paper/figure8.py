"""Figure 8: PD and excess loss of wide models with trained embeddings."""

from nanorepro.paper.claims import LEAST_LOG2_T, Claim, Criterion, ends, equal_losses, two
from nanorepro.paper.curves import (
    ALL,
    EQUAL_LOSS_WIDE,
    FIRST,
    LAST,
    MID,
    MORE_WIDE,
    OPTIMIZERS,
    WIDE,
)
from nanorepro.paper.estimates import least_ratio, ratio
from nanorepro.paper.quantities import LOSS, PD
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import curve_rows

SAME = ("linear, AdaGrad 0.1", "Identity wide, AdaGrad 0.1", "ReLU wide, AdaGrad 0.1")

CLAIMS = (
    Claim(
        "with the identity activation a well tuned learning rate leads to a better loss than the"
        " linear baseline's, at its own best rate",
        LEAST_LOG2_T,
        (
            Criterion(
                "best wide Identity over linear (AdaGrad 0.1), z = 1: L",
                least_ratio(LOSS),
                tuple((f"Identity wide, {o}", FIRST) for o in OPTIMIZERS)
                + (("linear, AdaGrad 0.1", FIRST),),
                high=1.0,
            ),
        ),
    ),
    Claim(
        "too large learning rates degrade loss and PD",
        LEAST_LOG2_T,
        tuple(
            Criterion(
                f"{m} wide, z = 1: {what}, AdaGrad 1 over 0.1",
                ratio(of),
                two(f"{m} wide, AdaGrad 1", f"{m} wide, AdaGrad 0.1", FIRST),
                1.0,
            )
            for m in ("Identity", "ReLU")
            for what, of in (("L", LOSS), ("PD", PD))
        ),
        MORE_WIDE,
    ),
    Claim(
        "ReLU exhibits worse PD than identity even with minimal shuffling; linear has the best"
        " PD curve",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU over Identity wide, z = 1: PD",
                ratio(PD),
                two("ReLU wide, AdaGrad 0.1", "Identity wide, AdaGrad 0.1", FIRST),
                1.0,
            ),
            *(
                Criterion(
                    f"{n} wide over linear, {what}: PD",
                    ratio(PD),
                    two(f"{n} wide, AdaGrad 0.1", "linear, AdaGrad 0.1", place),
                    1.0,
                )
                for n in ("Identity", "ReLU", "SmeLU 0.1", "Swish 16")
                for place, what in ((FIRST, "z = 1"), (MID, "middle z"), (LAST, "largest z"))
            ),
        ),
    ),
    Claim(
        "with smooth activations PD is larger than with identity, and smaller than with ReLU, with"
        " minimal shuffling",
        LEAST_LOG2_T,
        tuple(
            criterion
            for n in ("SmeLU 0.1 wide, AdaGrad 0.1", "Swish 16 wide, AdaGrad 0.1")
            for criterion in (
                Criterion(
                    f"{n} over Identity, z = 1: PD",
                    ratio(PD),
                    two(n, "Identity wide, AdaGrad 0.1", FIRST),
                    1.0,
                ),
                Criterion(
                    f"{n} over ReLU, z = 1: PD",
                    ratio(PD),
                    two(n, "ReLU wide, AdaGrad 0.1", FIRST),
                    0.0,
                    1.0,
                ),
            )
        ),
        MORE_WIDE,
    ),
    Claim(
        "excess loss is mostly the same for a configuration while PD changes with shuffling",
        LEAST_LOG2_T,
        tuple(
            Criterion(f"{n}: PD at the largest z over z = 1", ratio(PD), ends(n), 10.0)
            for n in SAME
        )
        + equal_losses(SAME),
        EQUAL_LOSS_WIDE,
    ),
)

FIGURE = Figure(
    number=8,
    title="Wide models with trained embeddings, 1000 units",
    caption=(
        "Ensemble mean metrics for wide models with two two-dimensional embedding inputs, a "
        "single 1000 units hidden layer, for different activations, optimizers and "
        "learning-rates. Top: Δ_r vs. log2 z. Bottom: Δ_r vs. L for different values of log2 z."
    ),
    plot="plot_curves:curve_panels",
    plotted=tuple(
        (n, ALL) for n in (*WIDE, "SmeLU 0.1 wide, AdaGrad 0.1", "Swish 16 wide, AdaGrad 0.1")
    ),
    rows=curve_rows,
    claims=CLAIMS,
)
