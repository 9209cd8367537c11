from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._dropped import dropped
from keras_mmrel.layers._dropped import keep_rate
from keras_mmrel.layers._stack_features import stack_features
from keras_mmrel.layers.running_standardization import RunningStandardization
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused

# Modalities of so many features have all of the dropout.
WIDE = 200


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(units=SIZE, dropout=Number(0, 1, high_open=True), seed=SEED)
class ModalityEmbedding(TensorLayer):
    """Bring features of any width into one standardised space.

    Every modality's features are centred by their running mean, projected by
    a dense layer with ReLU, and standardised by running statistics (see
    `RunningStandardization`). Without the centring, features in [0, 1] leave
    many units always on or always off at the start, which cost accuracy.

    The running statistics move in calls with `training=True`, as those of
    `RunningStandardization` do, unless `trainable` is `False`. Values are
    standardised by them; gradients are those of a standardisation by the
    batch (`RunningStandardization.with_batch_gradient`).

    Args:
        units: Positive integer, width of the result.
        dropout: Float in `[0, 1)`, fraction of the centred features that are
            dropped in training, of a modality of 200 features or more; of one
            with fewer, proportionally less. Few samples of many features are
            not learnt by heart then.
        seed: Integer, or `None` to draw one. Seed of the dropout.
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

    def __init__(
        self,
        units: int,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.dropout = dropout
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
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
        self.widths = [shape[-1] for shape in inputs_shape]
        rates = self.dropout * np.minimum(np.array(self.widths) / WIDE, 1.0)
        self._rates = rates[:, None].astype("float32")
        count = len(inputs_shape)
        width = max(self.widths)
        self.center.build((None, count, width))
        self.standardize.build((None, count, self.units))
        self.built = True

    def call(
        self,
        inputs: Sequence[Tensor],
        modality_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        inputs = self.stacked(inputs)
        if training and self.trainable:
            # Both statistics move, in the order that they need.
            self.update_statistics(inputs, modality_mask)
        return self.embed(inputs, modality_mask, training)

    def stacked(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return `(batch, modalities, features)`, zero beyond a modality.

        Args:
            inputs: List of `(batch, d_m)` tensors; or such a tensor, which
                is returned as it is.
        """
        if not isinstance(inputs, list | tuple):
            return inputs
        if not self.built:
            self.build([tuple(feature.shape) for feature in inputs])
        if len(inputs) != len(self.projections):
            raise refused(
                f"`inputs` must hold {len(self.projections)} modalities, as "
                "when the layer was built",
                str(len(inputs)),
            )
        return stack_features(inputs)

    def embed(
        self,
        inputs: Sequence[Tensor],
        modality_mask: Tensor | None = None,
        training: bool | None = None,
        dropout_scale: Tensor | None = None,
    ) -> Tensor:
        """Do what a call does, and leave the statistics where they are.

        Args:
            inputs: List of `(batch, d_m)` tensors, or what `stacked` makes
                of it.
            modality_mask: `None` or `(batch, modalities)`.
            training: Whether features are dropped, and gradients the batch's.
            dropout_scale: `None` or a float tensor in [0, 1], by which the
                dropout is multiplied.
        """
        inputs = self.stacked(inputs)
        centred = self.center(inputs, modality_mask, training=False)
        if not training:
            projected = self._project(centred)
            return self.standardize(projected, modality_mask, training=False)
        if self.dropout:
            keep = keep_rate(ops.convert_to_tensor(self._rates), dropout_scale)
            centred = dropped(centred, keep, self.seed_generator)
        projected = self._project(centred)
        return self.standardize.with_batch_gradient(projected, modality_mask)

    def _project(self, centred: Tensor) -> Tensor:
        """Return the projections `(batch, modalities, units)`, in float32."""
        projected = [
            projection(centred[:, index, :width])
            for index, (projection, width) in enumerate(
                zip(self.projections, self.widths, strict=True)
            )
        ]
        return ops.cast(ops.stack(projected, axis=1), "float32")

    def update_statistics(
        self, inputs: Sequence[Tensor], modality_mask: Tensor | None = None
    ) -> None:
        """Add a batch, as a call in training does.

        Args:
            inputs: As in `embed`.
            modality_mask: `None` or `(batch, modalities)`.
        """
        inputs = self.stacked(inputs)
        self.center.update_statistics(inputs, modality_mask)
        # As the next step will see them, around the new centre.
        centred = self.center(inputs, modality_mask, training=False)
        self.standardize.update_statistics(
            self._project(centred), modality_mask
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "seed": self.seed,
        }
