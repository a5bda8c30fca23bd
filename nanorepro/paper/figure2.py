"""Figure 2: PD and excess loss of the simple models over shuffling."""

from nanorepro.paper.claims import (
    LEAST_LOG2_T,
    Claim,
    Criterion,
    ends,
    equal_loss,
    equal_losses,
    order_of,
    two,
)
from nanorepro.paper.curves import (
    ALL,
    EQUAL_LOSS,
    FIRST,
    LAST,
    MID,
    MORE_OF_PAPER,
    MORE_PAIRS,
    MORE_SERIES,
    SIMPLE,
)
from nanorepro.paper.estimates import (
    best_of_ratios,
    change_of_ratio,
    positive_mean,
    ratio,
    slope_in_examples,
)
from nanorepro.paper.quantities import LOSS, PD
from nanorepro.paper.record import Figure
from nanorepro.paper.rows import curve_rows

CLAIMS = (
    Claim(
        "with identical initialization and no shuffling, linear and identity models have PD"
        " of order 1e-7: negligible, not 0",
        LEAST_LOG2_T,
        (
            Criterion("linear, z = 1: PD", positive_mean(PD), (("linear", FIRST),), **order_of(-7)),
            Criterion(
                "Identity 1, z = 1: PD", positive_mean(PD), (("Identity 1", FIRST),), **order_of(-7)
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "distinct initialization lifts the PD of single identity from O(1e-7) to O(1e-4)",
        LEAST_LOG2_T,
        (
            Criterion(
                "Identity 1 diff, z = 1: PD",
                positive_mean(PD),
                (("Identity 1 diff", FIRST),),
                **order_of(-4),
            ),
            Criterion(
                "Identity 1, z = 1: PD diff over same",
                ratio(PD),
                two("Identity 1 diff", "Identity 1", FIRST),
                100.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "distinct initialization lifts the PD of single ReLU to O(1e-2), which is retained"
        " with more shuffling",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 1 diff, z = 1: PD",
                positive_mean(PD),
                (("ReLU 1 diff", FIRST),),
                **order_of(-2),
            ),
            Criterion(
                "ReLU 1 diff over Identity 1 diff, z = 1: PD",
                ratio(PD),
                two("ReLU 1 diff", "Identity 1 diff", FIRST),
                10.0,
            ),
            Criterion(
                "ReLU 1 diff: PD at the largest z over z = 1",
                ratio(PD),
                ends("ReLU 1 diff"),
                1 / 3,
                3.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "the linear model's PD somewhat degrades by distinct initialization with little"
        " shuffling, not with more",
        LEAST_LOG2_T,
        (
            Criterion(
                "linear, z = 1: PD diff over same",
                ratio(PD),
                two("linear diff", "linear", FIRST),
                1.0,
            ),
            Criterion(
                "linear, largest z: PD diff over same",
                ratio(PD),
                two("linear diff", "linear", LAST),
                0.5,
                2.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "by distinct initialization PDs of the deep models that are small without it degrade much"
        " more than the linear model's, with little shuffling",
        LEAST_LOG2_T,
        tuple(
            Criterion(
                f"{n} beside linear, z = 1: PD diff over same, ratio of both",
                change_of_ratio(PD),
                two(f"{n} diff", n, FIRST) + two("linear diff", "linear", FIRST),
                10.0,
            )
            for n in SIMPLE[1:]
            if n != "ReLU 2"
        ),
        MORE_OF_PAPER,
    ),
    Claim(
        "ReLU with two units and identical initialization shows PD orders of magnitude above"
        " the baseline at z = 1; identity with two units does not",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 2 over linear, z = 1: PD", ratio(PD), two("ReLU 2", "linear", FIRST), 100.0
            ),
            Criterion(
                "Identity 2 over linear, z = 1: PD",
                ratio(PD),
                two("Identity 2", "linear", FIRST),
                0.0,
                10.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "with identical initialization and no shuffling the linear baseline has the best PD, and"
        " other models, but for ReLU with two units, are not far behind",
        LEAST_LOG2_T,
        tuple(
            Criterion(f"{n} over linear, z = 1: PD", ratio(PD), two(n, "linear", FIRST), 1.0, 10.0)
            for n in SIMPLE[1:]
            if n != "ReLU 2"
        ),
        MORE_PAIRS,
    ),
    Claim(
        "with two units in place of one accuracy can improve, while PD increases",
        LEAST_LOG2_T,
        (
            Criterion(
                "best of Identity 2 and ReLU 2 over the same with one unit, z = 1: L",
                best_of_ratios(LOSS),
                tuple((f"{a} {n}", FIRST) for a in ("Identity", "ReLU") for n in (2, 1)),
                high=1.0,
            ),
            *(
                Criterion(
                    f"{a} 2 over {a} 1, {where}: PD", ratio(PD), two(f"{a} 2", f"{a} 1", place), 1.0
                )
                for a in ("Identity", "ReLU")
                for place, where in ((FIRST, "z = 1"), (MID, "middle z"))
            ),
        ),
        MORE_OF_PAPER,
    ),
    Claim(
        "the benefits of the smooth identity over ReLU, with two units, diminish and disappear with"
        " more shuffling",
        LEAST_LOG2_T,
        (
            Criterion(
                "ReLU 2 over Identity 2, z = 1: PD",
                ratio(PD),
                two("ReLU 2", "Identity 2", FIRST),
                10.0,
            ),
            Criterion(
                "ReLU 2 over Identity 2, largest z: PD",
                ratio(PD),
                two("ReLU 2", "Identity 2", LAST),
                0.5,
                2.0,
            ),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "PD grows with z; with aggressive shuffling the linear model's is also high",
        LEAST_LOG2_T,
        (
            *(
                Criterion(f"{n}: PD at the largest z over z = 1", ratio(PD), ends(n), 10.0)
                for n in SIMPLE[1:]
            ),
            Criterion("linear: PD at the largest z over z = 1", ratio(PD), ends("linear"), 1000.0),
        ),
        MORE_PAIRS,
    ),
    Claim(
        "as shuffling increases, there is a sustained gap between the linear baseline and the deep"
        " models",
        LEAST_LOG2_T,
        tuple(
            Criterion(f"{n} over linear, {where} z: PD", ratio(PD), two(n, "linear", place), 1.0)
            for place, where in ((MID, "middle"), (LAST, "largest"))
            for n in SIMPLE[1:]
        ),
        MORE_PAIRS,
    ),
    Claim(
        "enough shuffling with equal initialization gives PD of equal or higher order than"
        " distinct initialization",
        LEAST_LOG2_T,
        tuple(
            Criterion(
                f"{n}, largest z: PD same over diff", ratio(PD), two(n, f"{n} diff", LAST), 1 / 3
            )
            for n in SIMPLE[1:]
        ),
        MORE_PAIRS,
    ),
    Claim(
        "loss is equal for a given model regardless of initialization and shuffling",
        LEAST_LOG2_T,
        equal_losses(SIMPLE)
        + tuple(
            equal_loss(f"{n}, z = 1: L diff over same", (f"{n} diff", FIRST), (n, FIRST))
            for n in SIMPLE
        ),
        EQUAL_LOSS,
    ),
    Claim(
        "the linear model has the best loss in the linear world",
        LEAST_LOG2_T,
        tuple(
            Criterion(f"{n} over linear, z = 1: L", ratio(LOSS), two(n, "linear", FIRST), 1.0)
            for n in SIMPLE[1:]
        ),
    ),
    *(
        Claim(
            f"with {words}, PD improves with more training examples for the linear model and hardly"
            " for the deep ones",
            LEAST_LOG2_T,
            (
                Criterion(
                    f"linear, {where}: d log PD / d log t, last 4 doublings of t",
                    slope_in_examples(),
                    (("linear", place),),
                    high=-0.25,
                ),
                *(
                    Criterion(
                        f"{n}, {where}: d log PD / d log t less half of linear's",
                        slope_in_examples(share=0.5),
                        two(n, "linear", place),
                        0.0,
                    )
                    for n in SIMPLE[1:]
                ),
            ),
            MORE_SERIES,
            ours=place == MID,
        )
        for words, where, place in (
            ("aggressive shuffling", "largest z", LAST),
            ("moderate shuffling, of which the paper does not speak", "middle z", MID),
        )
    ),
)

FIGURE = Figure(
    number=2,
    title="Simple models, AdaGrad 0.1",
    caption=(
        "Mean metrics for various simple models, all trained with AdaGrad with learning rate "
        "= 0.1. Top: Relative PD Δ_r as function of logarithm of shuffling window size log2 "
        "z. Bottom: Δ_r as function of expected excess loss L for various shuffling sizes "
        "(with log2 z labeled for each point). Activation A is labeled in the legend for each "
        'curve, followed by the number of hidden units. Models labeled with "diff" were '
        "initialized with distinct initial conditions."
    ),
    plot="plot_curves:curve_panels",
    plotted=tuple((n + s, ALL) for n in SIMPLE for s in ("", " diff")),
    rows=curve_rows,
    claims=CLAIMS,
)
