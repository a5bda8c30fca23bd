"""32 models on a real data set: the same examples, other initial values, how far apart?

Breast cancer (569 tumours, 30 measurements; ships with scikit-learn), each measurement turned into
one bit: above its median or not.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

from nanorepro import Config, fit, initial_parameters, predict

EPOCHS = 30
MODELS = 32
CONFIG = Config(hidden="16,8", act="relu", batch=8, lr=0.1, differ="init")


def main() -> None:
    data = load_breast_cancer()
    x = (data.data > np.median(data.data, axis=0)).astype(np.uint8)  # (569, 30)
    y = data.target
    shuffled = np.random.default_rng(0).permutation(len(y))
    train, test = shuffled[:400], shuffled[400:]
    order = np.tile(train, EPOCHS)

    starts = [initial_parameters(CONFIG, k // 2, k % 2, x.shape[1]) for k in range(MODELS)]
    trained = fit(CONFIG, x[order], y[order], starts)  # one list in, one list out
    p = 1.0 / (1.0 + np.exp(-predict(CONFIG, x[test], trained).astype(float)))  # (32, 169)

    ones = p > 0.5
    right = np.mean(ones == y[test], axis=1)
    print(f"{right.min():.1%} to {right.max():.1%} of {len(test)} test examples right")
    print(f"on {1.0 - np.mean(ones.all(axis=0) | ~ones.any(axis=0)):.1%} not all decide the same")
    print(f"two of them decide differently on {np.mean(ones[::2] != ones[1::2]):.1%} on average")
    print(f"and their probabilities differ by {np.mean(np.abs(p[::2] - p[1::2])):.3f}")


if __name__ == "__main__":
    main()
