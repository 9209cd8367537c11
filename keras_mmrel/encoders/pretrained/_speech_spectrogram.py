from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused

FRAME, HOP, BINS, BANDS = 512, 160, 257, 32
# A full scale of 16 bits.
SCALE = 32768.0
SILENCE, RANGE = 1e-10, 80.0
# Of the 76 frames that one embedding sees.
SHORTEST = 75 * HOP + FRAME


@keras.saving.register_keras_serializable(package="keras_mmrel")
class SpeechSpectrogram(TensorLayer):
    """Decibels in mel bands as Google's speech embedding takes them.

    The transform is a convolution with kernels that are weights, and nothing
    of it learns. What lies more than 80 dB below a clip's peak is that.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    shapes = (("batch", "samples"),)

    def build(self, input_shape: tuple) -> None:
        self.kernel = self.add_weight(
            shape=(FRAME, 1, 2 * BINS), name="kernel", trainable=False
        )
        self.bands = self.add_weight(
            shape=(BINS, BANDS), name="bands", trainable=False
        )

    def call(self, inputs: Tensor) -> Tensor:
        _check_length(inputs.shape)
        x = ops.cast(inputs, self.compute_dtype) * SCALE
        parts = ops.conv(
            x[..., None],
            ops.convert_to_tensor(self.kernel),
            strides=HOP,
            padding="valid",
            data_format="channels_last",
        )
        power = ops.square(parts[..., :BINS]) + ops.square(parts[..., BINS:])
        bands = ops.matmul(power, ops.convert_to_tensor(self.bands))
        x = ops.log(ops.maximum(bands, SILENCE)) * (10.0 / np.log(10.0))
        peak = ops.max(x, axis=(1, 2), keepdims=True)
        return ops.maximum(x, peak - RANGE) / 10.0 + 2.0

    def compute_output_shape(self, input_shape: Any) -> tuple:
        samples = _check_length(input_shape)
        frames = None if samples is None else (samples - FRAME) // HOP + 1
        return (input_shape[0], frames, BANDS)


def _check_length(shape: Any) -> int | None:
    """Return the number of samples, if it is known and enough."""
    samples = shape[1]
    if samples is not None and samples < SHORTEST:
        raise refused(
            f"`inputs` must have {SHORTEST} samples at least, 0.78 seconds at "
            "16 kHz",
            f"shape={tuple(shape)}",
        )
    return samples
