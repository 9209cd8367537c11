import math
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused

_SECONDS = Number(0, 60, low_open=True)
# Power below it is silence: -100 dB of a full scale.
SILENCE = 1e-10


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    sample_rate=Integer(100, 10**6),
    mel_bins=SIZE,
    frame_seconds=_SECONDS,
    hop_seconds=_SECONDS,
    top_db=Number(0, 200, low_open=True),
    standardize=Flag(),
)
class LogMelSpectrogram(TensorLayer):
    """From a waveform to the logarithm of its power in mel bands.

    Frames of `keras.layers.MelSpectrogram` with a Hann window, each as long as
    the next power of two of samples in its transform. Since it stands inside
    a model, noise on a waveform comes before it, in training and in tests.

    Args:
        sample_rate: Samples a second.
        mel_bins: Bands, from 20 Hz to half the sample rate.
        frame_seconds: Length of a frame.
        hop_seconds: From the beginning of a frame to that of the next one.
        top_db: Decibels below a clip's loudest band at which everything is
            silence. Zeros that pad a short clip would else lie far below all
            that was recorded, and be most of what varies in it.
        standardize: Whether each clip gets mean 0 and deviation 1, so that how
            loud it was recorded plays no part. A silent one becomes 0.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Waveforms `(batch, samples)`, in [-1, 1].

    Returns:
        Tensor `(batch, frames, mel_bins)`, and nothing is learnt before it.

    Raises:
        ValueError: If a frame has fewer than two samples, a clip is shorter
            than a frame, or an argument is outside its range.

    Example:

    >>> layer = keras_mmrel.encoders.LogMelSpectrogram(8000, mel_bins=32)
    >>> layer(np.random.default_rng(0).normal(size=(2, 4000))).shape
    (2, 51, 32)
    """

    shapes = (("batch", "samples"),)

    def __init__(
        self,
        sample_rate: int,
        mel_bins: int = 64,
        frame_seconds: float = 0.025,
        hop_seconds: float = 0.01,
        top_db: float = 60.0,
        standardize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sample_rate = sample_rate
        self.mel_bins = mel_bins
        self.frame_seconds = frame_seconds
        self.hop_seconds = hop_seconds
        self.top_db = top_db
        self.standardize = standardize
        frame = round(sample_rate * frame_seconds)
        hop = round(sample_rate * hop_seconds)
        if frame < 2 or hop < 1:
            raise ValueError(
                "`frame_seconds` and `hop_seconds` must be two samples and one "
                f"at least. Received: {frame} and {hop} samples"
            )
        self.mel = keras.layers.MelSpectrogram(
            fft_length=2 ** (frame - 1).bit_length(),
            sequence_stride=hop,
            sequence_length=frame,
            sampling_rate=sample_rate,
            num_mel_bins=mel_bins,
            min_freq=min(20.0, sample_rate / 8),
            power_to_db=False,
            # Sums of squares of many samples do not fit float16.
            dtype="float32",
        )

    def build(self, input_shape: tuple) -> None:
        self._check_length(input_shape)
        self.mel.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        self._check_length(inputs.shape)
        power = self.mel(ops.cast(inputs, "float32"))
        # Of silence this is 0, and not a number that rounding moves.
        x = ops.log(ops.maximum(ops.stop_gradient(power) / SILENCE, 1.0))
        # A decibel is a tenth of the decimal logarithm of a power.
        floor = ops.max(x, axis=(1, 2), keepdims=True)
        floor = floor - self.top_db * math.log(10.0) / 10.0
        x = ops.transpose(ops.maximum(x, floor), (0, 2, 1))
        if self.standardize:
            mean = ops.mean(x, axis=(1, 2), keepdims=True)
            spread = ops.std(x, axis=(1, 2), keepdims=True)
            x = (x - mean) / ops.maximum(spread, 0.05)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        self._check_length(input_shape)
        *batch, bins, frames = self.mel.compute_output_shape(input_shape)
        return (*batch, frames, bins)

    def _check_length(self, shape: tuple) -> None:
        """Refuse clips that are shorter than one frame."""
        frame = self.mel.sequence_length
        if shape[-1] is not None and shape[-1] < frame:
            raise refused(
                "`inputs` must be waveforms (batch, samples) of one frame at "
                f"least, {frame} samples",
                f"shape={tuple(shape)}",
            )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "sample_rate": self.sample_rate,
            "mel_bins": self.mel_bins,
            "frame_seconds": self.frame_seconds,
            "hop_seconds": self.hop_seconds,
            "top_db": self.top_db,
            "standardize": self.standardize,
        }
