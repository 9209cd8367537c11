"""How much of one modality another one says already."""

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._prepare import Prepared
from keras_mmrel.diagnose._splits import Splits

# Samples, features of either side and strength of the ridge.
SAMPLES = 2000
FEATURES = 300
RIDGE = 1.0


def predicted_variance(data: Prepared, splits: Splits) -> dict[str, float]:
    """Return "a -> b": the share of b's variance that a map of a predicts.

    A ridge regression on standardized features, on one half of the samples
    outside of the test part, judged on the other; at most 300 features of
    each, evenly spaced.
    """
    rng = np.random.default_rng(0)
    rows = rng.permutation(splits.development)[:SAMPLES]
    present = data.present
    found = {}
    names = data.modalities
    for i, a in enumerate(names):
        for j, b in enumerate(names):
            both = rows[present[rows, i] & present[rows, j]]
            if i == j or len(both) < 20:
                continue
            half = len(both) // 2
            x, z = _features(data.x[a]), _features(data.x[b])
            found[f"{a} -> {b}"] = _explained(
                x[both[:half]], z[both[:half]], x[both[half:]], z[both[half:]]
            )
    return found


def _features(values: Array) -> Array:
    flat = values.reshape(len(values), -1)
    step = max(1, -(-flat.shape[1] // FEATURES))
    return flat[:, ::step].astype("float64")


def _explained(x: Array, z: Array, x_test: Array, z_test: Array) -> float:
    """Mean over features of the variance that is predicted, at least 0."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    good = deviation > 1e-9
    if not good.any():
        return 0.0
    x, x_test = (
        (part[:, good] - mean[good]) / deviation[good] for part in (x, x_test)
    )
    centre, spread = z.mean(axis=0), z.std(axis=0)
    good = spread > 1e-9
    if not good.any():
        return 0.0
    z, z_test = (
        (part[:, good] - centre[good]) / spread[good] for part in (z, z_test)
    )
    gram = x.T @ x + RIDGE * len(x) ** 0.5 * np.eye(x.shape[1])
    error = z_test - x_test @ np.linalg.solve(gram, x.T @ z)
    share = 1 - (error**2).mean(axis=0) / np.maximum(
        (z_test**2).mean(axis=0), 1e-9
    )
    return float(np.maximum(share, 0).mean())
