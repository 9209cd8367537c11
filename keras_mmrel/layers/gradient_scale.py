from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(scale=Number(0))
class GradientScale(keras.layers.Layer):
    """Pass inputs on unchanged and scale the gradient that comes back.

    With `c` the scale and `sg` the stop-gradient the output is
    `sg(x) + c * (x - sg(x))`: its value is `x`, its derivative `c`. Everything
    before the layer learns `c` times as fast under plain gradient descent.

    Optimizers such as Adam divide by the size of the gradient, so that a
    constant scale changes almost nothing under them.

    Args:
        scale: Non-negative float, used where the call gets none. 0 stops the
            gradient.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of any shape.
        scale: `None`, or a tensor that broadcasts to `inputs`, such as
            `(batch, 1)` for one scale a sample. No gradient flows into it.

    Returns:
        A tensor equal to `inputs`.

    Raises:
        ValueError: If `scale` is negative or not finite.

    Example:

    >>> layer = keras_mmrel.layers.GradientScale(0.5)
    >>> layer(np.ones((2, 3))).shape
    (2, 3)
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        fixed = ops.stop_gradient(inputs)
        scale = ops.cast(self.scale if scale is None else scale, inputs.dtype)
        return fixed + ops.stop_gradient(scale) * (inputs - fixed)

    def compute_output_shape(self, input_shape: tuple, *args: Tensor) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}
