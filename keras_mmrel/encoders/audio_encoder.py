from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._backbone_encoder import BACKBONE
from keras_mmrel.encoders._backbone_encoder import OPTIONS
from keras_mmrel.encoders._backbone_encoder import BackboneEncoder
from keras_mmrel.encoders._backbone_encoder import input_shapes
from keras_mmrel.encoders._backbone_encoder import known_sizes
from keras_mmrel.encoders._backbone_encoder import load_backbone
from keras_mmrel.encoders._positions import check_steps
from keras_mmrel.encoders._positions import positions
from keras_mmrel.encoders._sound_inputs import PADDING
from keras_mmrel.encoders._sound_inputs import SoundInputs

# What backbones call sound.
FEATURES, WAVEFORMS = "encoder_features", "encoder_input_values"


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    backbone=BACKBONE,
    audio_shape=Either(Every(Integer(1)), None),
    front_end=Either(Instance(keras.layers.Layer, "a `keras.Layer`"), None),
    **OPTIONS,
)
class AudioEncoder(BackboneEncoder):
    """Encode sound with a backbone, pretrained or not.

    The backbone takes what the modality holds: waveforms `(samples,)` as
    `keras_mmrel.media.Audio` makes them, or a spectrogram `(frames, bins)`.
    A `front_end` comes before it, such as
    `keras_mmrel.encoders.LogMelSpectrogram`; of an image backbone that wants
    channels, the spectrogram is the only one. A backbone of keras-hub that
    was pretrained on spectrograms of its own (Whisper) gets them from its
    converter: `keras_mmrel.media.Audio(..., transform=preset)`.
    Of a backbone with encoder and decoder (Whisper, Moonshine) the encoder is
    used. One that takes waveforms and the mask of their padding (Moonshine)
    has the zeros masked that end a clip, with which `keras_mmrel.media.Audio`
    fills up, in its attention and in the mean; what normalises over time still
    sees them. All others take them for silence.

    Args:
        backbone: `keras.Model` or `keras.Layer`, or the name of a preset of
            keras-hub, which is downloaded.
        audio_shape: Shape of what the modality holds: `(samples,)` or
            `(frames, bins)`. Needed with a `front_end`, and where the
            backbone leaves sizes open.
        front_end: Layer from what the modality holds to what the backbone
            takes, or `None`.
        fine_tune: As in `keras_mmrel.encoders.ImageEncoder`.
        lora_rank: Likewise.
        pooling: `"mean"` over all positions, or the `"first"`.
        output_key: Which output to take where the backbone returns a dict; by
            default its sequence.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, *audio_shape)`.
        training: Passed on to the backbone.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If a preset cannot be had, the shape is unknown or has
            more steps than the backbone has positions, the backbone has no
            attention for LoRA, or an argument is outside its range.
        ImportError: If a preset is named and keras-hub is not installed.

    Example:

    >>> from keras_mmrel import encoders
    >>> encoder = encoders.AudioEncoder(
    ...     encoders.ConvEncoder((4, 8)),
    ...     audio_shape=(4000,),
    ...     front_end=encoders.LogMelSpectrogram(8000, mel_bins=32),
    ... )
    >>> encoder(np.zeros((2, 4000), "float32")).shape
    (2, 8)
    """

    def __init__(
        self,
        backbone: keras.layers.Layer | str,
        audio_shape: Sequence[int] | None = None,
        front_end: keras.layers.Layer | None = None,
        *,
        fine_tune: str | int = "all",
        lora_rank: int = 4,
        pooling: str = "mean",
        output_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        backbone = load_backbone(backbone)
        names, taken = _sound(input_shapes(backbone))
        own = taken if front_end is None else None
        # Sound may be asked for as the one channel of something.
        if own and own[-1] == 1 and len(own) - 2 == len(audio_shape or ()):
            own = own[:-1]
        self.audio_shape = known_sizes(own, audio_shape, "audio_shape")
        if front_end is None:
            limit = positions(backbone, (names or [""])[0])
            check_steps(limit, self.audio_shape, "audio_shape")
        super().__init__(
            backbone,
            SoundInputs(
                self.audio_shape,
                names,
                None if taken is None else len(taken),
                front_end,
                name="front",
                dtype=kwargs.get("dtype"),
            ),
            names,
            fine_tune=fine_tune,
            lora_rank=lora_rank,
            pooling=pooling,
            output_key=output_key,
            **kwargs,
        )

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.audio_shape)

    @property
    def front_end(self) -> keras.layers.Layer | None:
        """Layer before the backbone, if any."""
        return self.front.front_end

    def _mask(self, inputs: Tensor, outputs: Tensor) -> Tensor | None:
        """Which positions stand for sound, of a backbone that masks padding."""
        fills = self.front.fills(inputs)
        if fills is None:
            return None
        count = outputs.shape[1]
        # A position has heard what begins at its share of the clip.
        heard = np.arange(count) * inputs.shape[1] // count
        return ops.logical_not(ops.take(fills, heard, axis=1))

    def get_config(self) -> dict:
        front_end = self.front_end
        return {
            **super().get_config(),
            "audio_shape": list(self.audio_shape),
            "front_end": front_end
            and keras.saving.serialize_keras_object(front_end),
        }

    @classmethod
    def from_config(cls, config: dict) -> "AudioEncoder":
        restore = keras.saving.deserialize_keras_object
        return super().from_config(
            {**config, "front_end": restore(config["front_end"])}
        )


def _sound(shapes: Any) -> tuple[list[str] | None, tuple | None]:
    """The backbone's names for sound and its mask, and the sound's shape."""
    if not isinstance(shapes, Mapping):
        return None, shapes
    for name in (FEATURES, WAVEFORMS):
        if name in shapes:
            return [n for n in (name, PADDING) if n in shapes], shapes[name]
    raise ValueError(
        "`backbone` must take one tensor, or a dict with "
        f"'{FEATURES}' or '{WAVEFORMS}'. Received: one of {list(shapes)}"
    )
