from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(scale=Number(0))
class GradientScale(TensorLayer):
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
        ValueError: If `inputs` is no tensor, or `scale` is negative or not
            finite, or of a shape that does not broadcast to `inputs`.

    Example:

    >>> layer = keras_mmrel.layers.GradientScale(0.5)
    >>> layer(np.ones((2, 3))).shape
    (2, 3)
    """

    shapes = ((...,),)

    def __init__(self, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale if scale is None else scale
        _check_scale(inputs, scale)
        fixed = ops.stop_gradient(inputs)
        scale = ops.cast(scale, inputs.dtype)
        return fixed + ops.stop_gradient(scale) * (inputs - fixed)

    def compute_output_shape(self, input_shape: tuple, *args: Tensor) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}


def _check_scale(inputs: Tensor, scale: Tensor | float) -> None:
    """Refuse a scale that is no number and does not broadcast to `inputs`."""
    number = Number(0)
    if not hasattr(scale, "shape") and not number.accepts(scale):
        raise refused(
            f"`scale` must be {number.expected}, or a tensor",
            f"scale={scale!r}",
        )
    own, sizes = tuple(getattr(scale, "shape", ())), tuple(inputs.shape)
    fits = all(
        size == 1 or size is None or room is None or size == room
        for size, room in zip(own[::-1], sizes[::-1], strict=False)
    )
    if len(own) > len(sizes) or not fits:
        raise refused(
            f"`scale` must have a shape that broadcasts to {sizes}, that of "
            "`inputs`",
            f"shape={own}",
        )
