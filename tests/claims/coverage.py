"""How often the intervals of ratios over pairs hold the truth: `python -m tests.claims.coverage`.

    python -m tests.claims.coverage [TRIALS [PAIRS ...]]        # 2000 trials, 16 64 256 pairs
    python -m tests.claims.coverage shares [TRIALS [PAIRS ...]] # of Shapley shares of PD

A line for each population and number of pairs: the share of intervals that hold the truth, and
after it the shares of those that lie wholly above and wholly below it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.coverage import (  # noqa: E402
    POPULATIONS,
    bca,
    misses,
    percentile,
    share_misses,
    studentized,
)

KINDS = {"percentile": percentile, "BCa": bca, "studentized": studentized}


def shares(words: list[str]) -> None:
    """The table of Shapley shares."""
    trials, *sizes = map(int, words or ["2000"])
    print("| pairs | deviation of log PD | share of log PD | share of PD |\n|---|---|---|---|")
    for n in sizes or (16, 64, 256):
        for spread in (0.5, 1.0, 2.0):
            cells = []
            for log in (True, False):
                below, above = share_misses(spread, log, n, trials)
                held = 1.0 - (below + above) / trials
                cells.append(f"{held:.3f} ({below / trials:.3f}, {above / trials:.3f})")
            print(f"| {n} | {spread:g} | {' | '.join(cells)} |", flush=True)


def main(words: list[str]) -> None:
    if words[:1] == ["shares"]:
        return shares(words[1:])
    trials, *sizes = map(int, words or ["2000"])
    print("| pairs | population | " + " | ".join(KINDS) + " |")
    print("|---|---|" + "---|" * len(KINDS))
    for n in sizes or (16, 64, 256):
        for population in POPULATIONS:
            cells = []
            for of in KINDS.values():
                below, above = misses(of, population, n, trials)
                held = 1.0 - (below + above) / trials
                cells.append(f"{held:.3f} ({below / trials:.3f}, {above / trials:.3f})")
            print(f"| {n} | {population.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
