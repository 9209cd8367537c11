from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers.prototype_confidence import unit
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(num_classes=SIZE, scale=Number(0, low_open=True))
class CosineClassifier(TensorLayer):
    """Classify by the angle between a feature and each class' weights.

    The logit of a class is `scale` times the cosine of that angle, so that
    neither a large feature nor large weights make a prediction sure. There
    is no bias. A feature of zeros has logits of zero.

    Args:
        num_classes: Positive integer.
        scale: Positive float, the largest logit.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, features)`.

    Returns:
        Tensor `(batch, num_classes)` in `[-scale, scale]`, in the layer's
        compute dtype.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> layer = keras_mmrel.layers.CosineClassifier(3, scale=5.0)
    >>> logits = layer(np.array([[1.0, 2.0], [10.0, 20.0]]))
    >>> logits = keras.ops.convert_to_numpy(logits)
    >>> bool(np.allclose(logits[0], logits[1], atol=1e-4))
    True

    References:
        - [MMCosine](https://arxiv.org/abs/2303.05338), which has one for
          each modality.
    """

    shapes = (("batch", "features"),)

    def __init__(
        self, num_classes: int, scale: float = 10.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.scale = scale

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=(self.num_classes, input_shape[-1]),
            initializer="glorot_uniform",
            name="kernel",
        )

    def call(self, inputs: Tensor) -> Tensor:
        check_shape("inputs", inputs, "batch", self.kernel.shape[1])
        feature = unit(ops.cast(inputs, "float32"))
        kernel = unit(ops.cast(self.kernel, "float32"))
        logits = self.scale * ops.matmul(feature, ops.transpose(kernel))
        return ops.cast(logits, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "scale": self.scale,
        }
