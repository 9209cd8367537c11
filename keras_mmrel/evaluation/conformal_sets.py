import hashlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import Labels
from keras_mmrel.contract import check_labels
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import is_number
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation._checks import OPEN_FRACTION
from keras_mmrel.evaluation._checks import check_probabilities
from keras_mmrel.evaluation._ranks import covering_rank
from keras_mmrel.evaluation._ranks import fewest_for_coverage
from keras_mmrel.evaluation._savable import Savable
from keras_mmrel.user_warning import warn


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    coverage=OPEN_FRACTION,
    method=Choice("aps", "threshold"),
    class_conditional=Flag(),
    randomized=Flag(),
    allow_empty=Flag(),
    seed=Integer(0),
)
class ConformalSets(Savable):
    """Sets of classes that hold the true one as often as was asked for.

    Split conformal prediction: a score says how badly a class fits a sample,
    `fit` takes the scores of the true classes of `n` calibration samples, and
    a set holds every class whose score is at most their
    `ceil((n + 1) coverage)`-th smallest. The true class of a new sample is in
    its set with a probability of at least `coverage`, over new samples and
    calibration samples, for any model and any number of samples, as long as
    calibration and new samples are exchangeable. The model must not have
    been trained, chosen or scaled on the calibration samples. Under other
    corruptions or another fraction of missing modalities nothing is guaranteed.

    - `"aps"`: the score is minus the probability of all less likely classes,
      so a set holds the most likely classes until no more than a common rest
      is left. It adapts the size to the sample. It covers more than asked
      for, unless `randomized`.
    - `"threshold"`: the score is minus the probability of the class, so a
      set holds all classes above a common probability. Its sets are the
      smallest on average, and too small for hard samples.

    Own choices of this library: the score is what is left rather than what
    has been summed up, which keeps classes apart where probabilities are next
    to 1; classes of probability 0 come after all others, one by one, with
    scores of 1, 2, ...; among equally likely classes the one with the smaller
    number comes first; the most likely class is always in the set, which can
    only add coverage, unless `allow_empty`; and the random number of a sample
    in randomised APS is a hash of `seed` and its probabilities, so that a
    sample gets the same set alone, in a batch and after loading.

    Coverage holds for a saturated or a constant model too, but where its
    probabilities do not order the classes, a set says little: `fit` warns if
    every set holds all classes, or if most sets end between classes that are
    equally likely.

    Args:
        coverage: Fraction of samples whose set holds the true class, in (0, 1).
        method: `"aps"` or `"threshold"`.
        class_conditional: Whether the coverage shall hold for every class by
            itself; each then needs calibration samples enough.
        randomized: Whether APS counts a random part of the class's own
            probability: smaller sets, nearer to `coverage`.
        allow_empty: Whether a set may be empty, which says that no class fits
            and brings the coverage down to what was asked for.
        seed: Non-negative integer for `randomized`.
        thresholds: Scores that `fit` found, one a class, as `get_config`
            gives them; `None` before.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> p = rng.dirichlet([0.3] * 5, size=2000)
    >>> y = np.array([rng.choice(5, p=row) for row in p])
    >>> conformal = keras_mmrel.evaluation.ConformalSets(coverage=0.9)
    >>> sets = conformal.fit(p[:1000], y[:1000]).predict(p[1000:])
    >>> sets.shape, sets.dtype
    ((1000, 5), dtype('bool'))
    >>> conformal.evaluate(p[1000:], y[1000:])["coverage"] > 0.88
    True

    References:

    - Angelopoulos and Bates, "A Gentle Introduction to Conformal Prediction
      and Distribution-Free Uncertainty Quantification", 2021,
      https://arxiv.org/abs/2107.07511
    - Romano et al., "Classification with Valid and Adaptive Coverage",
      NeurIPS 2020, https://arxiv.org/abs/2006.02544
    """

    def __init__(
        self,
        coverage: float = 0.9,
        method: str = "aps",
        class_conditional: bool = False,
        randomized: bool = False,
        allow_empty: bool = False,
        seed: int = 0,
        thresholds: Sequence[float] | None = None,
    ) -> None:
        self.coverage = coverage
        if randomized and method != "aps":
            raise ValueError(
                "`randomized` must be False unless `method` is 'aps'. "
                f"Received: randomized=True, method={method!r}"
            )
        self.method = method
        self.class_conditional = class_conditional
        self.randomized = randomized
        self.allow_empty = allow_empty
        self.seed = seed
        self.thresholds: Array | None = None
        if thresholds is not None:
            values = to_numpy(thresholds)
            if (
                values.ndim != 1
                or len(values) < 2
                or not is_number(values.dtype)
                or not np.isfinite(values).all()
            ):
                raise ValueError(
                    "`thresholds` must be None or a finite number a class. "
                    f"Received: thresholds={thresholds!r}"
                )
            self.thresholds = values.astype("float64")

    def fit(self, probabilities: ArrayLike, y: Labels) -> "ConformalSets":
        """Find the thresholds on calibration data.

        Args:
            probabilities: `(samples, classes)`, or a model's output dict.
            y: Class numbers `(samples,)`, or one-hot rows.

        Returns:
            This object.

        Raises:
            ValueError: If probabilities or labels are invalid, or there are
                too few samples, `coverage / (1 - coverage)` at least, of
                each class if `class_conditional`.
        """
        p = check_probabilities("probabilities", probabilities)
        check_rows_agree({"`probabilities`": probabilities, "`y`": y})
        y = check_labels(to_numpy(y), p.shape[1], len(p))
        scores = self._scores(p)[np.arange(len(p)), y]
        classes = np.arange(p.shape[1])
        groups = (
            [scores[y == c] for c in classes]
            if self.class_conditional
            else [scores]
        )
        ranks = [covering_rank(len(g), self.coverage) for g in groups]
        few = [
            c
            for c, (g, r) in enumerate(zip(groups, ranks, strict=True))
            if r > len(g)
        ]
        if few:
            of_each = " of each class" if self.class_conditional else ""
            received = (
                {c: len(groups[c]) for c in few}
                if self.class_conditional
                else len(p)
            )
            raise ValueError(
                f"`y` must hold at least {fewest_for_coverage(self.coverage)} "
                f"calibration samples{of_each} for a coverage of "
                f"{self.coverage:g}. Received: {received}"
            )
        found = [
            np.partition(g, r - 1)[r - 1]
            for g, r in zip(groups, ranks, strict=True)
        ]
        self.thresholds = np.broadcast_to(found, len(classes)).copy()
        self._warn(p)
        return self

    def _warn(self, p: Array) -> None:
        """Say so where the calibration sets say nothing."""
        sets = self._scores(p) <= self.thresholds
        least = np.where(sets, p, np.inf).min(axis=1)
        most = np.where(sets, -np.inf, p).max(axis=1)
        cut = int((least == most).sum())
        why = ""
        if sets.all():
            why = f"every set holds all {p.shape[1]} classes"
        elif not self.class_conditional and 2 * cut > len(p):
            why = (
                f"{cut} sets end between classes that are equally likely, "
                "where the number of a class decides"
            )
        if why:
            warn(
                f"A coverage of {self.coverage:g} is more than these "
                f"probabilities can tell: of the {len(p)} calibration "
                f"samples {why}. Ask for less, or take probabilities that "
                "are neither rounded to 0 and 1 nor constant."
            )

    def predict(self, probabilities: ArrayLike) -> Array:
        """Return which classes are in the set of each sample.

        Args:
            probabilities: `(samples, classes)`, or a model's output dict.

        Returns:
            Boolean array `(samples, classes)`.

        Raises:
            ValueError: If probabilities are invalid or of another number of
                classes, or `fit` has not been called.
        """
        if self.thresholds is None:
            raise ValueError(
                "`predict` must come after `fit`. Received: thresholds=None"
            )
        p = check_probabilities("probabilities", probabilities)
        if p.shape[1] != len(self.thresholds):
            raise ValueError(
                f"`probabilities` must have {len(self.thresholds)} classes, "
                f"as in `fit`. Received: shape={p.shape}"
            )
        sets = self._scores(p) <= self.thresholds
        if not self.allow_empty:
            sets[np.arange(len(p)), p.argmax(axis=1)] = True
        return sets

    def evaluate(self, probabilities: ArrayLike, y: Labels) -> dict[str, float]:
        """Return how the sets do on labelled data.

        Args:
            probabilities: `(samples, classes)`, or a model's output dict.
            y: Class numbers `(samples,)`, or one-hot rows.

        Returns:
            Dict of `coverage`, the fraction of sets with the true class;
            `worst_class_coverage`, the least over the classes that occur;
            `size`, the mean number of classes in a set; and `single`, the
            fraction of sets with exactly one.
        """
        sets = self.predict(probabilities)
        check_rows_agree({"`probabilities`": probabilities, "`y`": y})
        y = check_labels(to_numpy(y), sets.shape[1], len(sets))
        covered = sets[np.arange(len(y)), y]
        sizes = sets.sum(axis=1)
        return {
            "coverage": float(covered.mean()),
            "worst_class_coverage": min(
                float(covered[y == c].mean()) for c in np.unique(y)
            ),
            "size": float(sizes.mean()),
            "single": float((sizes == 1).mean()),
        }

    def _scores(self, p: Array) -> Array:
        """How badly each class fits, `(samples, classes)`."""
        order = np.argsort(-p, axis=1, kind="stable")
        ordered = np.take_along_axis(p, order, axis=1)
        if self.method == "threshold":
            left = ordered
        else:
            # From the least likely class on, so that nothing is rounded off.
            left = np.zeros_like(p)
            left[:, :-1] = np.cumsum(ordered[:, :0:-1], axis=1)[:, ::-1]
        if self.randomized:
            left = left + self._uniform(p)[:, None] * ordered
        impossible = np.cumsum(ordered == 0, axis=1)
        scores = np.empty_like(p)
        np.put_along_axis(scores, order, impossible - left, axis=1)
        return scores

    def _uniform(self, p: Array) -> Array:
        """A number in [0, 1) that each row decides."""
        key = str(self.seed).encode()
        words = [
            hashlib.blake2b(row.tobytes(), digest_size=6, key=key).digest()
            for row in p
        ]
        return np.array([int.from_bytes(w, "big") for w in words]) / 2.0**48

    def get_config(self) -> dict[str, Any]:
        return {
            "coverage": self.coverage,
            "method": self.method,
            "class_conditional": self.class_conditional,
            "randomized": self.randomized,
            "allow_empty": self.allow_empty,
            "seed": self.seed,
            "thresholds": None
            if self.thresholds is None
            else self.thresholds.tolist(),
        }

    def __repr__(self) -> str:
        state = "not fitted" if self.thresholds is None else "fitted"
        return (
            f"ConformalSets(coverage={self.coverage:g}, "
            f"method={self.method!r}, {state})"
        )
