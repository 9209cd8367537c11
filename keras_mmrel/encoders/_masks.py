"""Masks that layers of Keras hand on with a tensor, `mask_zero` for one.

Only a layer is told of them on every backend, so that layers read them here.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._pooling import features_of
from keras_mmrel.encoders._pooling import masked_mean
from keras_mmrel.encoders._pooling import mean_over_positions
from keras_mmrel.encoders._pooling import usable_mask
from keras_mmrel.encoders._pooling import with_features


class MaskReader(keras.layers.Layer):
    """Return the mask of a tensor, `None` where it has none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.built = True

    def call(self, x: Any, mask: Any = None) -> Tensor | None:
        return None if isinstance(x, Mapping) else mask

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """No mask of a mask."""

    def compute_output_spec(self, x: Any, mask: Any = None) -> Any:
        return self.call(x, mask)


class MeanOverPositions(keras.layers.Layer):
    """Average what a block has returned over the axes of its positions.

    Of tokens `(batch, tokens, d)` those are averaged that are no padding, by
    the `"padding_mask"` of a dict, or by Keras' own mask.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.built = True

    def call(self, x: Any, mask: Any = None) -> Tensor:
        if isinstance(x, Mapping):
            return mean_over_positions(x)
        return masked_mean(x, usable_mask(mask, x))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """No positions are left."""


class ChannelGate(keras.layers.Layer):
    """Scale the channels of what a block has returned, and keep its mask."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True
        self.built = True

    def call(self, x: Any, scale: Tensor, mask: Any = None) -> Any:
        features = features_of(x)
        shape = (-1, *[1] * (len(features.shape) - 2), features.shape[-1])
        scale = ops.cast(ops.reshape(scale, shape), features.dtype)
        return with_features(x, features * scale)
