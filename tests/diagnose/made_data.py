"""Data with faults that somebody planted."""

import numpy as np


def clean(samples=240, classes=3, seed=0, names="abc", apart=1.5):
    """Three modalities that each tell the classes apart quite well."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(samples) % classes)
    x = {
        name: (
            rng.normal(size=(samples, 8))
            + apart * rng.normal(size=(classes, 8))[y]
        ).astype("float32")
        for name in names
    }
    return x, y


def swapped(x, y, modality, count, seed=1):
    """Let some rows pass their files on, all to rows of another class.

    Returns:
        The data, and the set of these rows.
    """
    rng = np.random.default_rng(seed)
    classes = len(np.unique(y))
    rows = np.concatenate(
        [
            rng.choice(np.flatnonzero(y == c), count // classes, replace=False)
            for c in range(classes)
        ]
    )
    values = x[modality].copy()
    values[rows] = values[np.roll(rows, count // classes)]
    return {**x, modality: values}, set(rows.tolist())


def save(path, x, y, **more):
    np.savez(path, y=y, **x, **more)
    return path
