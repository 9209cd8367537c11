import numpy as np
from keras import ops

from keras_mmrel.class_scores import as_tensor
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import DType
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import check_rows_agree
from keras_mmrel.contract import known_values
from keras_mmrel.metrics._counted_weight import counted_weight
from keras_mmrel.metrics._score_grid import ScoreGridMetric


@constrained(from_logits=Flag(), invert=Flag())
class DetectionMetric(ScoreGridMetric):
    """Scores of positives and negatives on the grid of `_score_grid`."""

    def __init__(
        self, from_logits: bool, invert: bool, name: str, dtype: DType
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.from_logits = from_logits
        self.invert = invert

    def update_state(
        self,
        y_true: Labels,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
    ) -> None:
        check_rows_agree({"`y_true`": y_true, "`y_pred`": y_pred})
        y_true = ops.cast(as_tensor(y_true, "`y_true`"), "float32")
        scores = ops.cast(as_tensor(y_pred, "`y_pred`"), "float32")
        shapes = tuple(y_true.shape), tuple(scores.shape)
        if len(y_true.shape) == len(scores.shape) + 1 and shapes[0][-1] == 1:
            y_true = ops.squeeze(y_true, axis=-1)
        if len(scores.shape) == len(y_true.shape) + 1 and shapes[1][-1] == 1:
            scores = ops.squeeze(scores, axis=-1)
        if len(y_true.shape) != len(scores.shape) or any(
            None not in sizes and sizes[0] != sizes[1]
            for sizes in zip(y_true.shape, scores.shape, strict=True)
        ):
            raise ValueError(
                "`y_true` and `y_pred` must have one shape, a label for each "
                f"score. Received: y_true.shape={shapes[0]}, "
                f"y_pred.shape={shapes[1]}"
            )
        positive = ops.equal(y_true, 1)
        valid = ops.logical_or(positive, ops.equal(y_true, 0))
        self._refuse(y_true, valid, scores, sample_weight)
        # NaN outside [0, 1].
        logit = scores
        if not self.from_logits:
            logit = ops.log(scores) - ops.log1p(-scores)
        logit = -logit if self.invert else logit
        self.count(logit, positive, valid, sample_weight)

    def _refuse(
        self,
        y_true: Labels,
        valid: Tensor,
        scores: Tensor,
        sample_weight: Tensor | None,
    ) -> None:
        """Raise for what does not fit, if its values are at hand."""
        weight = counted_weight(ops.ones_like(valid), sample_weight)
        y, z, used = map(known_values, (y_true, scores, weight > 0))
        if y is None or z is None or used is None:
            return
        labels, z = y[used & ~np.isin(y, (0, 1))], z[used]
        if labels.size:
            raise ValueError(
                "`y_true` must hold 1 (positive) and 0. Received: "
                f"{labels.size} others, such as {labels[0]}"
            )
        outside = z[(z < 0) | (z > 1)]
        if not self.from_logits and outside.size:
            raise ValueError(
                "`y_pred` must hold numbers in [0, 1], since this has "
                f"from_logits=False. Received: {outside.size} others, such as "
                f"{outside[0]}"
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "invert": self.invert,
        }
