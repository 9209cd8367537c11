import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import DType
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.layers._first_largest import first_largest
from keras_mmrel.tensor_layer import TensorLayer

# A logit that no weight can bring back: that of a missing modality.
NONE = -1e4
# Weights are kept at a tenth of their effect, so that an optimizer with
# steps of a fixed size moves these few ten times faster than the others: at
# the common rate they stay where they began.
SPEED = 10.0


@keras.saving.register_keras_serializable(package="keras_mmrel")
class DiscriminativePower(TensorLayer):
    """Judge how well each modality of a sample can tell the classes apart.

    A linear function of six features estimates, as a logit, the probability
    that the modality gives to the true class: the distance between its two
    largest class probabilities, the largest one, their entropy over
    `log(classes)`, how surprising its features are, four times the fraction of
    them that was removed, and its agreement, the cosine of its probabilities
    and the sum of the other modalities'. What was seen in the input counts
    beside it, as it is: where it were a seventh feature, training would
    unlearn it, since samples that look bad are mostly still
    right. The softmax of the sum over the modalities is their relative
    discriminative power. No gradient flows into the six features.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        probabilities: Class probabilities `(batch, modalities, classes)`.
        surprise: `None` or `(batch, modalities)`, see `ICIRemoval`.
        ici_fraction: `None` or `(batch, modalities)`, see `ICIRemoval`.
        modality_mask: `None` or `(batch, modalities)`, 1 = present. A missing
            modality agrees with nobody and has no power.
        quality: `None` or `(batch, modalities)` in [0, 1], what was seen in
            a modality's input before anything was made of it, by which its
            power is multiplied; less than a thousandth counts as that.

    Returns:
        Dict, each `(batch, modalities)`, of the estimate, `own_logits`; of
        `power_logits`, the same and the log of the quality; and of
        `discriminative_power`, their softmax.

    Example:

    >>> layer = keras_mmrel.layers.DiscriminativePower()
    >>> sure, unsure = [0.9, 0.05, 0.05], [0.4, 0.3, 0.3]
    >>> power = layer(np.array([[sure, unsure]]))["discriminative_power"]
    >>> bool(power[0, 0] > power[0, 1])
    True

    References:
        - [MICINet](https://arxiv.org/abs/2502.19674v1), the relative
          discriminative power. The formula is this library's own.
    """

    shapes = (("batch", "modalities", "classes"),)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(
        self,
        probabilities_shape: tuple,
        surprise_shape: tuple | None = None,
        ici_fraction_shape: tuple | None = None,
        modality_mask_shape: tuple | None = None,
        quality_shape: tuple | None = None,
    ) -> None:
        self.kernel = self.add_weight(
            shape=(6,), initializer=_start, name="kernel"
        )
        self.bias = self.add_weight(
            shape=(probabilities_shape[1],), initializer="zeros", name="bias"
        )

    def call(
        self,
        probabilities: Tensor,
        surprise: Tensor | None = None,
        ici_fraction: Tensor | None = None,
        modality_mask: Tensor | None = None,
        quality: Tensor | None = None,
    ) -> dict[str, Tensor]:
        p = ops.cast(probabilities, "float32")
        modalities = self.bias.shape[0]
        check_shape("probabilities", p, "batch", modalities, "classes")
        mask = presence(modality_mask, p)
        none = ops.zeros_like(mask)
        for name, value in (
            ("surprise", surprise),
            ("ici_fraction", ici_fraction),
            ("quality", quality),
        ):
            if value is not None:
                check_shape(name, value, "batch", modalities)
        surprise = none if surprise is None else surprise
        ici_fraction = none if ici_fraction is None else ici_fraction
        entropy = -ops.sum(p * ops.log(p + 1e-9), axis=-1)
        top = ops.max(p, axis=-1)
        # The second largest: the largest one without the (first) largest.
        second = ops.max(p * (1.0 - first_largest(p)), axis=-1)
        features = ops.stack(
            [
                top - second,
                top,
                entropy / math.log(p.shape[-1]),
                ops.cast(surprise, "float32"),
                4.0 * ops.cast(ici_fraction, "float32"),
                _agreement(p * mask[:, :, None]),
            ],
            axis=-1,
        )
        features = ops.stop_gradient(features)
        own = ops.sum(features * self.kernel, axis=-1) + self.bias
        own = ops.where(mask > 0, SPEED * own, NONE)
        logits = own
        if quality is not None:
            quality = ops.stop_gradient(ops.cast(quality, "float32"))
            logits = own + ops.log(ops.maximum(quality, 1e-3))
        return {
            "own_logits": own,
            "power_logits": logits,
            "discriminative_power": ops.softmax(logits, axis=-1),
        }


def _agreement(p: Tensor) -> Tensor:
    """Cosine of each modality's probabilities and the sum of the others'."""
    others = ops.sum(p, axis=1, keepdims=True) - p

    def square(x: Tensor) -> Tensor:
        return ops.sum(ops.square(x), axis=-1)

    scale = ops.sqrt(square(p) * square(others) + 1e-12)
    return ops.sum(p * others, axis=-1) / scale


def _start(shape: tuple, dtype: DType = None) -> Tensor:
    """Little trust in what is surprising, some in what agrees."""
    return ops.convert_to_tensor([0.1, 0.0, 0.0, -0.1, 0.0, 0.3], dtype=dtype)
