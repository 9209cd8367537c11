"""One test part that chooses nothing, and folds of the rest that choose."""

import dataclasses

import numpy as np

from keras_mmrel.contract import Array
from keras_mmrel.diagnose._prepare import Prepared

TEST_FRACTION = 0.2
SEED = 0


@dataclasses.dataclass(frozen=True)
class Splits:
    """Rows of the parts.

    Args:
        development: Rows that choose.
        test: Rows that are scored once, at the end.
        fold: Number of the fold that tests each row of `development`.
        published: Whether the test part is the data's own.
    """

    development: Array
    test: Array
    fold: Array
    published: bool

    def of_fold(self, number: int) -> tuple[Array, Array]:
        """Return rows for training and for test of a fold."""
        here = self.fold == number
        return self.development[~here], self.development[here]


def make_splits(data: Prepared, folds: int) -> Splits:
    """Part the samples: classes evenly, and groups as wholes.

    Args:
        data: The data.
        folds: Number of folds.

    Raises:
        ValueError: If groups leave a class out of a training part.
    """
    rng = np.random.default_rng(SEED)
    rows = np.arange(len(data.y))
    if data.test is not None:
        development, test = rows[~data.test], rows[data.test]
        lost = set(data.y.tolist()) - set(data.y[development].tolist())
        few = np.bincount(data.y[development], minlength=len(data.classes))
        if lost or few.min() < 2:
            raise ValueError(
                "`split` must leave two or more samples of every class for "
                f"training. Received: {few.tolist()} samples a class"
            )
    else:
        parts = round(1 / TEST_FRACTION)
        part = _parted(data.y, data.groups, parts, rng)
        development, test = rows[part != 0], rows[part == 0]
    y = data.y[development]
    fold = _parted(y, data.groups[development], folds, rng)
    for number in range(folds):
        training = y[fold != number]
        lost = set(y.tolist()) - set(training.tolist())
        if lost or not (fold == number).any():
            raise ValueError(
                "`groups` must leave samples of every class in every training "
                "part. Received: groups that hold all samples of "
                f"{[data.classes[int(c)] for c in sorted(lost)]}"
            )
    return Splits(development, test, fold, data.test is not None)


def _parted(
    y: Array, groups: Array, parts: int, rng: np.random.Generator
) -> Array:
    """Number of the part of each row.

    Groups come in an order by chance, large ones first, and each goes where
    its classes are wanted most. Of a class that has too few samples part 0,
    the test part, has none.
    """
    counts = np.bincount(y)
    wanted = np.tile(counts / parts, (parts, 1)).astype("float64")
    # Two samples at least stay outside of each part.
    few = counts < 2 * parts
    wanted[0, few] = np.floor(np.maximum(counts[few] - 2, 0) / parts)
    unique, place, size = np.unique(
        groups, return_inverse=True, return_counts=True
    )
    order = rng.permutation(len(unique))
    order = order[np.argsort(-size[order], kind="stable")]
    rows = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(size)])
    found = np.empty(len(y), int)
    for group in order:
        members = rows[starts[group] : starts[group + 1]]
        had = np.bincount(y[members], minlength=len(counts))
        # The part that lacks most of what the group has; of equal ones the
        # one that lacks most altogether.
        lack = wanted @ had + 1e-6 * wanted.sum(axis=1)
        chosen = int(lack.argmax())
        found[members] = chosen
        wanted[chosen] -= had
    return found
