import math
from typing import Any

import keras
import numpy as np
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
from keras_mmrel.layers._first_largest import first_largest
from keras_mmrel.shapley import shapley_weights
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer

MEASURES = ("combined", "information", "confidence")
MOMENTUM = 0.04
# From a third to 55; without temperature, 1, is among them.
TEMPERATURES = np.exp(np.linspace(-1.0, 4.0, 26)).astype("float32")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(measure=Choice(*MEASURES), temperature=Number(0, low_open=True))
class ModalityContribution(TensorLayer):
    """Estimate what each modality contributes to a classification.

    Two things are measured, and with a default `measure` both count:

    - *Information*, of a modality beside the others. A coalition predicts
      with the sum of its members' partial logits and the bias, and is worth
      `1 + log(p_y) / log(K)` to a sample, clipped to [-1, 1], with the
      probability of the true class: 0 for a uniform prediction. A modality's
      information is its Shapley value, the mean rise in value when it joins a
      coalition: exact for up to 6 modalities, over 64 random orderings and
      their reverses beyond. Values add up to that of all modalities.
    - *Confidence*, of a modality alone: how far the entropy of its prediction
      is below the largest possible, `1 - H / log(K)`, **at the temperature of
      the least cross-entropy** out of 26. Noise that a network has memorised
      is confident on samples that it was not trained on, too; at the
      temperature that fits these samples it is not.

    `update_statistics` keeps moving averages (momentum 0.04 a batch) in the
    weights of the layer, which should come from samples that are not trained
    on. The layer's `contributions` are `(relu(information) + confidence) / 2`,
    or one of the two. Calling the layer needs no labels: it returns each
    sample's Shapley values of the information about the predicted class.

    A modality that a sample lacks contributes 0 to it, and the sample is left
    out of that modality's average.

    Args:
        measure: `"combined"`, `"information"` or `"confidence"`.
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
          formulas, and the temperature, are this library's own.
    """

    shapes = (("batch", "modalities", "classes"),)

    def __init__(
        self,
        measure: str = "combined",
        temperature: float = 0.25,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.measure = measure
        self.temperature = temperature

    def build(self, input_shape: tuple, *args: tuple) -> None:
        shape = (input_shape[1],)
        self.information = add_state(self, "information", shape)
        self.counts = add_state(self, "counts", shape)
        by_temperature = (*shape, len(TEMPERATURES))
        self.crossentropies = add_state(self, "crossentropies", by_temperature)
        self.certainties = add_state(self, "certainties", by_temperature)

    # -- What has been estimated ---------------------------------------------

    @property
    def confidences(self) -> Tensor:
        """Confidence of each modality, at its own best temperature."""
        chosen = first_largest(-ops.convert_to_tensor(self.crossentropies))
        certainty = ops.sum(chosen * self.certainties, axis=1)
        return certainty / ops.maximum(self.counts, 1e-12)

    @property
    def contributions(self) -> Tensor:
        """What each modality contributes; equal before any update."""
        information = self.information / ops.maximum(self.counts, 1e-12)
        values = {
            "information": information,
            "confidence": self.confidences,
            "combined": 0.5 * (ops.relu(information) + self.confidences),
        }[self.measure]
        return ops.where(self.counts > 0, values, 1.0 / self.counts.shape[0])

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
        predicted = first_largest(logits[:, -1])
        values = self.information_of(logits, predicted)
        return self.shapley_values(values, mask)

    def _check(
        self, partial_logits: Tensor, bias: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Refuse what does not fit together, and return who is present."""
        modalities = self.counts.shape[0]
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
        logits = self.coalition_logits(partial_logits, bias)
        values = self.information_of(logits, labels)
        values = self.shapley_values(values, modality_mask)
        alone = ops.cast(partial_logits, "float32") + bias
        values = ops.concatenate(
            [values[:, :, None], *self.by_temperature(labels, alone)],
            axis=2,
        )
        # What overflows in half precision must not stay in the averages.
        values = ops.stop_gradient(values)
        finite = ops.cast(ops.all(ops.isfinite(values), axis=2), "float32")
        counted = (modality_mask * rows[:, None] * finite)[:, :, None]
        values = ops.where(counted > 0, values, 0.0)
        totals = backend.all_reduce_sum(
            ops.sum(ops.concatenate([counted, values], axis=2), axis=0)
        )
        # Batches weigh as much as they have samples, and one with none of a
        # modality changes nothing.
        here = ops.cast(totals[:, :1] > 0, "float32")
        size = len(TEMPERATURES)
        for state, new in (
            (self.counts, totals[:, 0]),
            (self.information, totals[:, 1]),
            (self.crossentropies, totals[:, 2 : 2 + size]),
            (self.certainties, totals[:, 2 + size :]),
        ):
            moved = ops.reshape(here, (-1, *[1] * (len(new.shape) - 1)))
            state.assign_add(moved * MOMENTUM * (new - state))

    def by_temperature(
        self, labels: Labels, logits: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and certainty at every temperature.

        Args:
            labels: One-hot `(batch, num_classes)`.
            logits: Of each modality alone, `(batch, modalities, classes)`.

        Returns:
            Two of `(batch, modalities, temperatures)`.
        """
        logits = ops.cast(logits, "float32")[:, :, None, :]
        cooler = ops.convert_to_tensor(1.0 / TEMPERATURES[:, None])
        log_p = ops.log_softmax(logits * cooler, axis=-1)
        crossentropy = -ops.sum(labels[:, None, None, :] * log_p, axis=-1)
        entropy = -ops.sum(ops.exp(log_p) * log_p, axis=-1)
        return crossentropy, 1.0 - entropy / math.log(labels.shape[-1])

    def coalition_logits(self, partial_logits: Tensor, bias: Tensor) -> Tensor:
        """Logits of every coalition, `(batch, coalitions, num_classes)`."""
        members, _ = shapley_weights(partial_logits.shape[1])
        partial_logits = ops.cast(partial_logits, "float32")
        # LiteRT could not read what TensorFlow makes of such an `einsum`.
        members = ops.convert_to_tensor(members, "float32")
        return ops.matmul(members, partial_logits) + bias

    def shapley_values(self, values: Tensor, modality_mask: Tensor) -> Tensor:
        """Shapley values of `(batch, coalitions)` for each sample."""
        members, weights = shapley_weights(modality_mask.shape[1])
        # A coalition of which nobody is there is the empty one.
        present = ops.matmul(modality_mask, ops.transpose(members))
        values = ops.where(present > 0, values, 0.0)
        return ops.matmul(values, ops.transpose(weights)) * modality_mask

    def information_of(self, logits: Tensor, labels: Labels) -> Tensor:
        """Value of coalitions by the probability of a class."""
        log_p = ops.log_softmax(logits, axis=-1)
        of_class = ops.sum(labels[:, None, :] * log_p, axis=-1)
        scale = math.log(labels.shape[-1])
        return ops.clip(1.0 + of_class / scale, -1.0, 1.0)

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
