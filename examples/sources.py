"""Where irreproducibility comes from: switch its sources on one by one.

Pairs that differ in nothing agree in every bit; what each named source adds is then its own.
"""

from nanorepro import Config, simulate

SOURCES = {
    "nothing": {"differ": "none"},
    "one weight, by one unit in the last place": {"differ": "nudge"},
    "order of the sums": {"differ": "order", "leaf_order": "random"},
    "order of the sums, summed exactly": {
        "differ": "order",
        "leaf_order": "random",
        "accumulator": "exact",
    },
    "shuffling within 2^4 mini-batches": {"differ": "shuffle", "log2_window": 4},
    "initial values": {"differ": "init"},
}


def main() -> None:
    for source, settings in SOURCES.items():
        result = simulate(Config(model="double", log2_examples=13, pairs=4, **settings))
        print(f"{source:42s} relative PD {result.relative_pd:.2e}")


if __name__ == "__main__":
    main()
