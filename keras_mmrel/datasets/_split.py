"""Split a data set that was published whole, and scale it."""

from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_mmrel.optional import require

SPLIT_SEED = 0


def stratified_split(
    x: Mapping[str, np.ndarray], y: np.ndarray, test_samples: int, user: str
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`, the same on every call.

    Each class has the same share of both parts, and each feature is scaled as
    in `scale_by_training`.
    """
    train_test_split = require("sklearn.model_selection", user).train_test_split
    train, test = train_test_split(
        np.arange(len(y)),
        test_size=test_samples,
        stratify=y,
        random_state=SPLIT_SEED,
    )
    y = y.astype("int32")
    parts = (
        {name: values[rows] for name, values in x.items()}
        for rows in (train, test)
    )
    x_train, x_test = scale_by_training(*parts)
    return (x_train, y[train]), (x_test, y[test])


def stratified_parts(
    labels: Sequence[str], shares: Sequence[float]
) -> list[np.ndarray]:
    """Return the rows of some parts, the same on every call, in their order.

    Args:
        labels: Class of each row.
        shares: Share of the rows of each class in each part but the first,
            which has the others.
    """
    rng = np.random.RandomState(SPLIT_SEED)
    names = np.asarray(labels)
    part = np.zeros(len(names), int)
    for name in sorted(set(labels)):
        rows = rng.permutation(np.flatnonzero(names == name))
        ends = np.rint(np.cumsum(shares) * len(rows)).astype(int)
        for number, some in enumerate(np.split(rows, ends)[:-1], start=1):
            part[some] = number
    return [np.flatnonzero(part == n) for n in range(len(shares) + 1)]


def scale_by_training(
    x_train: Mapping[str, np.ndarray], x_test: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scale each feature to [0, 1] by its range over the training samples.

    Test values are not clipped, and a feature that is constant in training is
    0 everywhere.
    """
    scaled: tuple[dict, dict] = ({}, {})
    for name, values in x_train.items():
        low, high = values.min(axis=0), values.max(axis=0)
        constant = np.isclose(low, high)
        width = np.where(constant, 1.0, high - low)
        for part, of_part in zip((values, x_test[name]), scaled, strict=True):
            unit = np.where(constant, 0.0, (part - low) / width)
            of_part[name] = unit.astype("float32")
    return scaled
