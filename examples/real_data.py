"""Two models on a real data set: the same examples, other initial values, how far apart?

Breast cancer (569 tumours, 30 measurements; ships with scikit-learn), each measurement turned into
one bit: above its median or not.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

from nanorepro import Config, fit, predict
from nanorepro.network import initial_values, layers

EPOCHS = 30
CONFIG = Config(hidden="16,8", act="relu", batch=8, lr=0.1, differ="init")


def main() -> None:
    data = load_breast_cancer()
    x = (data.data > np.median(data.data, axis=0)).astype(np.uint8)  # (569, 30)
    y = data.target
    shuffled = np.random.default_rng(0).permutation(len(y))
    train, test = shuffled[:400], shuffled[400:]
    order = np.tile(train, EPOCHS)

    net = layers(CONFIG, features=x.shape[1])
    logits = []
    for model in (0, 1):
        start = initial_values(CONFIG, net, pair=0, model=model)
        trained = fit(CONFIG, x[order], y[order], start)
        logits.append(predict(CONFIG, x[test], trained))
        right = np.mean((logits[-1] > 0) == y[test])
        print(f"model {model + 1}: {right:.1%} of {len(test)} test examples right")

    p1, p2 = (1.0 / (1.0 + np.exp(-z.astype(float))) for z in logits)
    print(f"on {np.mean((p1 > 0.5) != (p2 > 0.5)):.1%} of them the two decide differently")
    print(f"their probabilities differ by {np.mean(np.abs(p1 - p2)):.3f} on average")


if __name__ == "__main__":
    main()
