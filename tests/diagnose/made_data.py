"""Data with faults that somebody planted."""

import numpy as np


def clean(samples=240, classes=3, seed=0, names="abc"):
    """Three modalities that each tell the classes apart quite well."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(samples) % classes)
    x = {
        name: (
            rng.normal(size=(samples, 8))
            + 1.5 * rng.normal(size=(classes, 8))[y]
        ).astype("float32")
        for name in names
    }
    return x, y


def swapped(x, y, modality, count, seed=1):
    """Give some rows the files of rows of other classes; return these rows."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(y), count, replace=False)
    values = x[modality].copy()
    for row in rows:
        other = rng.choice(np.flatnonzero(y != y[row]))
        values[row] = x[modality][other]
    return {**x, modality: values}, set(rows.tolist())


def save(path, x, y, **more):
    np.savez(path, y=y, **x, **more)
    return path
