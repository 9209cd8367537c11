from typing import Any

import keras

from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.models.shared_head_model import SharedHeadModel


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained()
class ConcatFusion(SharedHeadModel):
    """Concatenate all features and classify them with one linear head.

    The plain baseline of early fusion. `modality_logits` are the head's
    answer to one modality with the features of all others at zero and the
    full bias, as in the literature on modality imbalance. With a
    `modality_loss_weight` their cross-entropies, summed over modalities, are
    added to the loss as `modality_loss`, so that no encoder is left behind.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        modality_loss_weight: Non-negative float, weight of `modality_loss`;
            with 0 there is no such term.
        fusion: `None` for the linear layer, or a layer in its place that
            takes the list of features, one `(batch, d)` a modality, and
            returns logits `(batch, num_classes)`, such as an MLP, a gate or
            attention. It is called once more for each modality, on features
            of zeros: let it not normalise over the batch.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If `modality_loss_weight` is negative, or `fusion`
            returns another shape.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> x = {"a": np.zeros((2, 8)), "b": np.zeros((2, 4))}
    >>> out = model.predict(x, verbose=0)
    >>> out["modality_logits"].shape
    (2, 2, 3)
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        modality_loss_weight: float = 0.0,
        fusion: keras.layers.Layer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            fusion=fusion,
            **kwargs,
        )
        self.build_from_modalities()

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = self.encode(inputs, training)
        return self.head_outputs(features, inputs, training)
