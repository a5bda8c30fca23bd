"""How often the intervals of ratios over pairs hold the truth: `python -m tests.claims.coverage`.

    python -m tests.claims.coverage [TRIALS [PAIRS ...]]        # 2000 trials, 16 64 256 pairs

A line for each population and number of pairs: the share of intervals that hold the truth, and
after it the shares of those that lie wholly above and wholly below it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.coverage import POPULATIONS, bca, misses, percentile, studentized  # noqa: E402

KINDS = {"percentile": percentile, "BCa": bca, "studentized": studentized}


def main(words: list[str]) -> None:
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
