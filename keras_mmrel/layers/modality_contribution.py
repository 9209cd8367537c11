import math
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.shapley import shapley_weights
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

MEASURES = ("accuracy", "information", "confidence", "combined", "trend")
MOMENTUM = 0.04
TREND_MOMENTUM = 0.1


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(measure=Choice(*MEASURES), temperature=Number(0, low_open=True))
class ModalityContribution(TensorLayer):
    """Estimate what each modality contributes to a classification.

    A coalition of modalities predicts with the sum of its members' partial
    logits and the bias. What it is worth to a sample is

    - `"accuracy"`: 1 if its prediction is right and 0 if not, on a scale on
      which chance is 0: `(right - 1/K) / (1 - 1/K)`;
    - `"information"`: `1 + log(p_y) / log(K)`, clipped to [-1, 1], with the
      probability of the true class: 0 for a uniform prediction.

    A modality's contribution is its Shapley value, the mean rise in value
    when it joins a coalition: exact for up to 6 modalities, over 64 random
    orderings and their reverses beyond. Contributions add up to the value of
    all modalities together. `"confidence"` looks at each modality alone
    instead, at how far its entropy is below the largest possible, and
    `"combined"` is half information and half confidence. `"trend"` favours
    what still grows: the information, 5 times its moving trend, and 0.2 times
    the confidence times what the modality alone still lacks.

    `update_statistics` keeps a moving average of the contributions (momentum
    0.04 a batch) in the weights of the layer. Calling the layer needs no
    labels: it returns each sample's Shapley values of the information about the
    predicted class.

    A modality that a sample lacks contributes 0 to it, and the sample is left
    out of that modality's average.

    Args:
        measure: `"accuracy"`, `"information"`, `"confidence"`, `"combined"`
            or `"trend"`.
        temperature: Positive float. The layer's `fractions` are the softmax of
            the contributions over this temperature.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        partial_logits: `(batch, n_modalities, num_classes)`, each modality's
            summand of the logits.
        bias: `(num_classes,)`.
        modality_mask: `None` or `(batch, n_modalities)`, 1 = present.

    Returns:
        `(batch, n_modalities)` in float32.

    Raises:
        ValueError: If `measure` is unknown or `temperature` not positive.

    Example:

    >>> layer = keras_mmrel.layers.ModalityContribution()
    >>> y, bias = np.array([0, 1]), np.zeros(3)
    >>> right, nothing = 5 * np.eye(3)[y], np.zeros((2, 3))
    >>> layer.update_statistics(y, np.stack([right, nothing], 1), bias)
    >>> bool(layer.contributions[0] > layer.contributions[1])
    True

    References:
        - [CAL, 2025](https://arxiv.org/abs/2510.26289), which measures
          contributions by information and confidence, after Shapley. The
          formulas, and accuracy as the default measure, are this library's
          own.
    """

    shapes = (("batch", "modalities", "classes"),)

    def __init__(
        self,
        measure: str = "accuracy",
        temperature: float = 0.25,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.measure = measure
        self.temperature = temperature

    def build(self, input_shape: tuple, *args: tuple) -> None:
        shape = (input_shape[1],)
        self.sums = add_state(self, "sums", shape)
        self.counts = add_state(self, "counts", shape)
        if self.measure == "trend":
            self.trend = add_state(self, "trend", shape)

    # -- What has been estimated ---------------------------------------------

    @property
    def contributions(self) -> Tensor:
        """Moving averages, `(n_modalities,)`; equal before any update."""
        count = self.counts.shape[0]
        mean = self.sums / ops.maximum(self.counts, 1e-12)
        if self.measure == "trend":
            mean = mean + 5.0 * self.trend
        return ops.where(self.counts > 0, mean, 1.0 / count)

    @property
    def fractions(self) -> Tensor:
        """Softmax of the contributions over the temperature."""
        contributions = self.contributions
        if contributions.shape[0] == 1:
            return ops.ones_like(contributions)
        return ops.softmax(contributions / self.temperature)

    # -- One batch -----------------------------------------------------------

    def call(
        self,
        partial_logits: Tensor,
        bias: Tensor,
        modality_mask: Tensor | None = None,
    ) -> Tensor:
        mask = self._check(partial_logits, bias, modality_mask)
        logits = self.coalition_logits(partial_logits, bias)
        predicted = ops.one_hot(
            ops.argmax(logits[:, -1], axis=-1),
            partial_logits.shape[-1],
            dtype="float32",
        )
        values = self.information(logits, predicted)
        return self.shapley_values(values, mask)

    def _check(
        self, partial_logits: Tensor, bias: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Refuse what does not fit together, and return who is present."""
        modalities = self.sums.shape[0]
        shape = ("batch", modalities, "num_classes")
        check_shape("partial_logits", partial_logits, *shape)
        check_shape("bias", bias, partial_logits.shape[2])
        return presence(mask, partial_logits)

    def update_statistics(
        self,
        labels: Labels,
        partial_logits: Tensor,
        bias: Tensor,
        modality_mask: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Take a batch into account.

        Args:
            labels: Class numbers `(batch,)`, or one-hot rows.
            partial_logits: As in a call.
            bias: As in a call.
            modality_mask: As in a call; `None` if all are present.
            rows: `(batch,)` of 0 and 1, the samples to take, or `None` for
                all of them.
        """
        if not self.built:
            self.build(tuple(partial_logits.shape))
        partial_logits = ops.convert_to_tensor(partial_logits)
        modality_mask = self._check(partial_logits, bias, modality_mask)
        bias = ops.cast(bias, "float32")
        labels = one_hot_labels(labels, partial_logits.shape[-1])
        rows = ops.ones_like(labels[:, 0]) if rows is None else rows
        values = self.contribution_of_each(
            labels, partial_logits, bias, modality_mask
        )
        # What overflows in half precision must not stay in the averages.
        values = ops.stop_gradient(values)
        finite = ops.cast(ops.isfinite(values), "float32")
        counted = modality_mask * rows[:, None] * finite
        values = ops.where(counted > 0, values, 0.0)
        totals = backend.all_reduce_sum(
            ops.stack([ops.sum(values, axis=0), ops.sum(counted, axis=0)])
        )
        # Batches weigh as much as they have samples, and one with none of a
        # modality changes nothing.
        here = ops.cast(totals[1] > 0, "float32")
        before = self.sums / ops.maximum(self.counts, 1e-12)
        known = here * ops.cast(self.counts > 0, "float32")
        self.sums.assign_add(here * MOMENTUM * (totals[0] - self.sums))
        self.counts.assign_add(here * MOMENTUM * (totals[1] - self.counts))
        if self.measure == "trend":
            rise = self.sums / ops.maximum(self.counts, 1e-12) - before
            self.trend.assign_add(known * TREND_MOMENTUM * (rise - self.trend))

    def contribution_of_each(
        self,
        labels: Labels,
        partial_logits: Tensor,
        bias: Tensor,
        modality_mask: Tensor,
    ) -> Tensor:
        """Contributions to each sample by the measure, without the trend.

        Args:
            labels: As in `update_statistics`.
            partial_logits: As in a call.
            bias: As in a call.
            modality_mask: As in a call.
        """
        if self.measure == "confidence":
            return self.certainty(partial_logits + bias)
        logits = self.coalition_logits(partial_logits, bias)
        if self.measure == "accuracy":
            truth = ops.argmax(labels, axis=-1)[:, None]
            right = ops.equal(ops.argmax(logits, axis=-1), truth)
            chance = 1.0 / labels.shape[-1]
            values = (ops.cast(right, "float32") - chance) / (1.0 - chance)
            return self.shapley_values(values, modality_mask)
        values = self.information(logits, labels)
        values = self.shapley_values(values, modality_mask)
        if self.measure == "combined":
            return 0.5 * (
                self.certainty(partial_logits + bias) + ops.relu(values)
            )
        if self.measure == "trend":
            alone = self.information(partial_logits + bias, labels)
            lacking = ops.relu(1.0 - alone)
            return values + 0.2 * lacking * self.certainty(
                partial_logits + bias
            )
        return values

    def coalition_logits(self, partial_logits: Tensor, bias: Tensor) -> Tensor:
        """Logits of every coalition, `(batch, coalitions, num_classes)`."""
        members, _ = shapley_weights(partial_logits.shape[1])
        partial_logits = ops.cast(partial_logits, "float32")
        return ops.einsum("cm,bmk->bck", members, partial_logits) + bias

    def shapley_values(self, values: Tensor, modality_mask: Tensor) -> Tensor:
        """Shapley values of `(batch, coalitions)` for each sample."""
        members, weights = shapley_weights(modality_mask.shape[1])
        # A coalition of which nobody is there is the empty one.
        present = ops.matmul(modality_mask, ops.transpose(members))
        values = ops.where(present > 0, values, 0.0)
        return ops.matmul(values, ops.transpose(weights)) * modality_mask

    def information(self, logits: Tensor, labels: Labels) -> Tensor:
        """Value of coalitions by the probability of a class."""
        log_p = ops.log_softmax(logits, axis=-1)
        of_class = ops.sum(labels[:, None, :] * log_p, axis=-1)
        scale = math.log(labels.shape[-1])
        return ops.clip(1.0 + of_class / scale, -1.0, 1.0)

    def certainty(self, logits: Tensor) -> Tensor:
        """How far the entropy is below the largest, `(batch, modalities)`."""
        log_p = ops.log_softmax(logits, axis=-1)
        entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
        scale = math.log(logits.shape[-1])
        return 1.0 - entropy / scale

    def compute_output_spec(
        self, partial_logits: Tensor, *args: Tensor
    ) -> Tensor:
        return keras.KerasTensor(partial_logits.shape[:2], dtype="float32")

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "measure": self.measure,
            "temperature": self.temperature,
        }
