from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer

# What backbones call the mask of sound's padding.
PADDING = "encoder_padding_mask"


@keras.saving.register_keras_serializable(package="keras_mmrel")
class SoundInputs(TensorLayer):
    """Sound as a backbone takes it: through a front end, named, masked.

    Args:
        audio_shape: Shape of one sample.
        names: The backbone's names for the sound, and for the mask of its
            padding; `None` where it takes a tensor.
        rank: Number of axes of what it takes, or `None`.
        front_end: Layer, or `None`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        audio_shape: Sequence[int],
        names: Sequence[str] | None,
        rank: int | None,
        front_end: keras.layers.Layer | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.audio_shape = tuple(audio_shape)
        self.names = None if names is None else list(names)
        self.rank = rank
        self.front_end = front_end

    @property
    def input_shape(self) -> tuple:
        """Shape that is taken, batch axis included."""
        return (None, *self.audio_shape)

    def build(self, input_shape: tuple) -> None:
        if self.front_end is not None and not self.front_end.built:
            self.front_end.build(input_shape)

    def call(self, inputs: Tensor) -> Any:
        x = inputs if self.front_end is None else self.front_end(inputs)
        if self.rank == len(x.shape) + 1:
            x = x[..., None]
        if self.names is None:
            return x
        made = {self.names[0]: x}
        if PADDING in self.names:
            fills = self.fills(inputs)
            positions = x[:, :, 0] if len(x.shape) > 2 else x
            made[PADDING] = (
                ops.ones_like(positions, dtype="bool")
                if fills is None
                else ops.logical_not(fills)
            )
        return made if len(made) > 1 else x

    def fills(self, inputs: Tensor) -> Tensor | None:
        """Say which moments only fill a clip up, `(batch, time)`.

        Zeros fill a clip that is too short. A clip of nothing else is silence,
        of which every moment counts. `None` where there is no mask for it, or
        a front end makes something else of zeros.
        """
        masked = self.names is not None and PADDING in self.names
        if not masked or self.front_end is not None or len(inputs.shape) != 2:
            return None
        sounds = ops.cast(ops.not_equal(inputs, 0), "float32")
        total = ops.sum(sounds, axis=1, keepdims=True)
        # All of it has sounded before this moment.
        before = ops.cumsum(sounds, axis=1) - sounds
        return ops.logical_and(before >= total, total > 0)

    def get_config(self) -> dict:
        front_end = self.front_end
        return {
            **super().get_config(),
            "audio_shape": list(self.audio_shape),
            "names": self.names,
            "rank": self.rank,
            "front_end": front_end
            and keras.saving.serialize_keras_object(front_end),
        }

    @classmethod
    def from_config(cls, config: dict) -> "SoundInputs":
        restore = keras.saving.deserialize_keras_object
        return cls(**{**config, "front_end": restore(config["front_end"])})
