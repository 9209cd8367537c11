from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.layers.running_standardization import RunningStandardization
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(units=SIZE)
class ModalityEmbedding(TensorLayer):
    """Bring features of any width into one standardised space.

    Every modality's features are centred by their running mean, projected by
    a dense layer with ReLU, and standardised by running statistics (see
    `RunningStandardization`). Without the centring, features in [0, 1] leave
    many units always on or always off at the start, which cost accuracy.

    The running statistics move in calls with `training=True`, as those of
    `RunningStandardization` do, unless `trainable` is `False`.

    Args:
        units: Positive integer, width of the result.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: List of `(batch, d_m)` tensors, one a modality.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.
        training: Whether the batch moves the statistics.

    Returns:
        Tensor `(batch, modalities, units)` in float32, zero where missing.

    Raises:
        ValueError: If `units` is not positive, or the inputs are no list.

    Example:

    >>> layer = keras_mmrel.layers.ModalityEmbedding(units=16)
    >>> layer([np.ones((5, 3)), np.ones((5, 8))]).shape
    (5, 2, 16)

    References:
        - This library's own choice of an encoder for
          `keras_mmrel.MICINet`.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.center = RunningStandardization(0.99, scale=False, name="center")
        self.standardize = RunningStandardization(0.9, name="standardize")

    def build(
        self, inputs_shape: Sequence, modality_mask_shape: tuple | None = None
    ) -> None:
        listed = not isinstance(inputs_shape, Mapping) and inputs_shape
        if not listed or not isinstance(inputs_shape[0], list | tuple):
            raise refused(
                "`inputs` must be a list of (batch, features) tensors",
                f"shape={tuple(inputs_shape)}"
                if listed
                else f"the shapes {inputs_shape}",
            )
        self.projections = []
        for index, shape in enumerate(inputs_shape):
            projection = keras.layers.Dense(
                self.units,
                activation="relu",
                kernel_initializer="glorot_normal",
                dtype=self.dtype_policy,
                name=f"projection_{index}",
            )
            projection.build(tuple(shape))
            self.projections.append(projection)
        count = len(inputs_shape)
        width = max(shape[-1] for shape in inputs_shape)
        self.center.build((None, count, width))
        self.standardize.build((None, count, self.units))
        self.built = True

    def call(
        self,
        inputs: Sequence[Tensor],
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        projected = self.project(inputs, modality_mask)
        if training and self.trainable:
            self.update_statistics(inputs, modality_mask, projected)
        return self.standardize(projected, modality_mask, training=False)

    def project(
        self, inputs: Sequence[Tensor], modality_mask: Tensor | None = None
    ) -> Tensor:
        """Return the projections `(batch, modalities, units)`, in float32.

        Args:
            inputs: List of `(batch, d_m)` tensors.
            modality_mask: `None` or `(batch, modalities)`.
        """
        if not self.built:
            self.build([tuple(feature.shape) for feature in inputs])
        if len(inputs) != len(self.projections):
            raise refused(
                f"`inputs` must hold {len(self.projections)} modalities, as "
                "when the layer was built",
                str(len(inputs)),
            )
        centred = self.center(
            stack_features(inputs), modality_mask, training=False
        )
        projected = [
            projection(centred[:, index, : feature.shape[1]])
            for index, (projection, feature) in enumerate(
                zip(self.projections, inputs, strict=True)
            )
        ]
        return ops.cast(ops.stack(projected, axis=1), "float32")

    def update_statistics(
        self,
        inputs: Sequence[Tensor],
        modality_mask: Tensor | None = None,
        projected: Tensor | None = None,
    ) -> None:
        """Add a batch, as a call in training does.

        Args:
            inputs: List of `(batch, d_m)` tensors.
            modality_mask: `None` or `(batch, modalities)`.
            projected: What `project` returns for them, where it is known.
        """
        if projected is None:
            projected = self.project(inputs, modality_mask)
        self.standardize.update_statistics(projected, modality_mask)
        self.center.update_statistics(stack_features(inputs), modality_mask)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}
