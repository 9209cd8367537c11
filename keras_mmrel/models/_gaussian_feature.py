from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor


@keras.saving.register_keras_serializable(package="keras_mmrel")
class GaussianFeature(keras.layers.Layer):
    """A feature as a normal distribution: its mean and its deviation.

    Both are a dense layer and a normalization, the deviation by its log
    variance. With `normalization="batch"` missing rows are in no moment.

    Args:
        normalization: `"batch"` or `"layer"`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, d)`.
        present: `(batch,)`, 1 where there is something.
        training: Whether batch normalization takes the batch's moments.

    Returns:
        Mean and deviation, `(batch, d)` each, in float32.
    """

    def __init__(self, normalization: str = "batch", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalization = normalization
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        names = ("mean", "log_variance")
        options = {"dtype": self.dtype_policy}
        self.dense = [
            keras.layers.Dense(input_shape[-1], name=name, **options)
            for name in names
        ]
        self.scales = [self._normalization(f"{name}_scale") for name in names]
        for layer in (*self.dense, *self.scales):
            layer.build(input_shape)

    def _normalization(self, name: str) -> keras.layers.Layer:
        options = {"epsilon": 1e-5, "dtype": "float32", "name": name}
        if self.normalization == "layer":
            return keras.layers.LayerNormalization(**options)
        return keras.layers.BatchNormalization(momentum=0.9, **options)

    def call(
        self, inputs: Tensor, present: Tensor, training: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        results = []
        for dense, scale in zip(self.dense, self.scales, strict=True):
            x = ops.cast(dense(inputs), "float32")
            if self.normalization == "layer":
                results.append(scale(x))
            else:
                results.append(scale(x, training=training, mask=present > 0))
        mean, log_variance = results
        return mean, ops.exp(0.5 * log_variance)

    def get_config(self) -> dict:
        return {**super().get_config(), "normalization": self.normalization}
