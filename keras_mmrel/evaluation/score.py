import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_mmrel.constraints import Flag
from keras_mmrel.contract import Array
from keras_mmrel.contract import ArrayLike
from keras_mmrel.contract import is_number
from keras_mmrel.contract import to_numpy
from keras_mmrel.evaluation.predictions import NEEDS
from keras_mmrel.evaluation.predictions import RETURNED
from keras_mmrel.evaluation.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class Score:
    """A number that says how good predictions are, and all about it.

    Tables, plots and comparisons read direction, unit and legend here, so a
    score of one's own is one object.

    Args:
        name: Column of the report.
        function: Takes `Predictions` and returns a number; one for each
            modality if `per_modality`, one for each sample if `per_sample`.
        higher_is_better: `True`, `False`, or `None` for what describes the
            predictions and is neither good nor bad.
        description: One line for a legend.
        percent: Whether a table shows 100 times the number.
        needs: What must be there, the score being NaN otherwise:
            `"probabilities"`, all of them finite; `"binary"`, two classes
            that both occur; `"corrupted"`, modalities that are corrupted
            beside others that are not; `"confidence"`, `"depth"` and
            `"modality_quality"`, which the model must return, the report
            having no such column otherwise.
        per_modality: Whether there is a column `name/modality` each.
        per_sample: Whether the score is the mean of what `function` returns
            for each sample. Its error over samples, which is computed from
            the same numbers, then needs no resampling of predictions.
        shown: Whether tables show it without being asked.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    >>> def error_of_the_worst_class(predictions):
    ...     y, right = predictions.labels, predictions.right
    ...     return max(1 - right[y == c].mean() for c in np.unique(y))
    >>> score = keras_mmrel.evaluation.Score(
    ...     "worst_class", error_of_the_worst_class, higher_is_better=False,
    ...     description="errors in the class with most of them", percent=True,
    ... )
    >>> certain = keras_mmrel.evaluation.Score(
    ...     "certain", lambda p: p.probabilities.max(axis=1) > 0.9,
    ...     higher_is_better=None, per_sample=True,
    ... )
    >>> model = keras_mmrel.LateFusion({"a": (8,), "b": (4,)}, 2)
    >>> x = {"a": np.random.rand(20, 8), "b": np.random.rand(20, 4)}
    >>> report = keras_mmrel.evaluation.evaluate_robustness(
    ...     model, x, np.arange(20) % 2, ["missing"], verbose=0,
    ...     scores=["accuracy", score, certain],
    ... )
    >>> {"worst_class", "certain"} <= set(report.scores)
    True
    """

    name: str
    function: Callable[[Predictions], ArrayLike]
    higher_is_better: bool | None
    description: str = ""
    percent: bool = False
    needs: Sequence[str] = ("probabilities",)
    per_modality: bool = False
    per_sample: bool = False
    shown: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(
                "`name` must be a non-empty string. Received: "
                f"name={self.name!r}"
            )
        if not callable(self.function):
            raise ValueError(
                f"`function` of '{self.name}' must be a function of "
                f"`Predictions`. Received: function={self.function!r}"
            )
        listed = isinstance(self.needs, list | tuple)
        if not listed or any(need not in NEEDS for need in self.needs):
            raise ValueError(
                f"`needs` of '{self.name}' must be a sequence out of {NEEDS}. "
                f"Received: needs={self.needs!r}"
            )
        if not isinstance(self.description, str):
            raise ValueError(
                f"`description` of '{self.name}' must be a string. Received: "
                f"description={self.description!r}"
            )
        for flag in ("percent", "per_modality", "per_sample", "shown"):
            Flag()(flag, getattr(self, flag))
        if self.per_modality and self.per_sample:
            raise ValueError(
                f"`per_sample` of '{self.name}' must be False for a score of "
                "each modality. Received: per_sample=True, per_modality=True"
            )
        better = self.higher_is_better
        if better is not None and not isinstance(better, bool):
            raise ValueError(
                f"`higher_is_better` of '{self.name}' must be True, False or "
                f"None. Received: higher_is_better={self.higher_is_better!r}"
            )

    @property
    def arrow(self) -> str:
        """`"↑"` or `"↓"`, where better values are."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    @property
    def scale(self) -> float:
        """What a table multiplies the number by."""
        return 100.0 if self.percent else 1.0

    def columns(self, predictions: Predictions) -> dict[str, float]:
        """Return the score of some predictions, column by column."""
        if not all(predictions.has(n) for n in self.needs if n in RETURNED):
            return {}
        names = [self.name]
        if self.per_modality:
            names = [f"{self.name}/{m}" for m in predictions.modality_names]
        if not all(map(predictions.has, self.needs)):
            return dict.fromkeys(names, math.nan)
        if self.per_sample:
            return {self.name: float(self.of_samples(predictions).mean())}
        shape = (len(names),) if self.per_modality else ()
        what = "one number a modality" if self.per_modality else "a number"
        values = self._values(predictions, what, shape)
        numbers = map(float, values.reshape(-1))
        return dict(zip(names, numbers, strict=True))

    def of_samples(self, predictions: Predictions) -> Array:
        """Return what the score is the mean of, `(samples,)` in float64."""
        shape = (len(predictions.labels),)
        values = self._values(predictions, "one number a sample", shape)
        return values.astype("float64")

    def _values(
        self, predictions: Predictions, what: str, shape: tuple[int, ...]
    ) -> Array:
        value = self.function(predictions)
        values = to_numpy(value)
        if values.shape != shape or not is_number(values.dtype):
            raise ValueError(
                f"`function` of '{self.name}' must return {what}. Received: "
                f"a {type(value).__name__} of shape {values.shape}"
            )
        return values

    def describe(self) -> dict[str, Any]:
        """Return all but the function, for a file."""
        record = dataclasses.asdict(dataclasses.replace(self, function=str))
        del record["function"]
        return {**record, "needs": list(self.needs)}
