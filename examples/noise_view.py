"""Three standardised views of digits, each hard, one nothing but noise."""

import numpy as np

from keras_mmrel.datasets import load_multiview_digits

# View -> the noise that makes it hard.
VIEWS = {"pixels": 0.8, "profile": 0.4, "fourier": 0.8}


def load(replaced):
    """Return `(x_train, y_train), (x_test, y_test)`.

    Args:
        replaced: Name of the view that is pure noise, in both parts.
    """
    parts = load_multiview_digits(tuple(VIEWS))
    rng = np.random.default_rng(500)
    made = [({}, y) for _, y in parts]
    for name, sigma in VIEWS.items():
        first = parts[0][0][name]
        kept = first.std(axis=0) > 1e-3
        mean, deviation = first.mean(axis=0)[kept], first.std(axis=0)[kept]
        for (x, _), (new, _) in zip(parts, made, strict=True):
            values = (x[name][:, kept] - mean) / deviation
            noise = rng.normal(size=values.shape)
            hard = (values + sigma * noise) / np.sqrt(1 + sigma**2)
            chosen = noise if name == replaced else hard
            new[name] = chosen.astype("float32")
    return made
