from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused

TOKENS, PADDING, SEGMENTS = "token_ids", "padding_mask", "segment_ids"


@keras.saving.register_keras_serializable(package="keras_mmrel")
class TokenInputs(TensorLayer):
    """Tokens, mask and segments as whole numbers, named as a backbone does.

    Args:
        names: The backbone's names for them.
        length: Tokens of a text.
        segment_ids: Whether segments are given.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        names: Sequence[str],
        length: int,
        segment_ids: bool,
        **kwargs: Any,
    ) -> None:
        # Numbers of tokens are not to be rounded.
        super().__init__(autocast=False, **kwargs)
        self.names = list(names)
        self.length = length
        self.segment_ids = segment_ids
        self.built = True

    @property
    def input_shape(self) -> dict[str, tuple]:
        """Shapes that are taken, batch axis included."""
        names = [TOKENS, PADDING, *[SEGMENTS] * self.segment_ids]
        return dict.fromkeys(names, (None, self.length))

    @property
    def given_names(self) -> dict[str, str]:
        """The backbone's name of what is passed on -> its name here."""
        names = {name: name.removeprefix("encoder_") for name in self.names}
        return {n: own for n, own in names.items() if own in self.input_shape}

    def call(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not isinstance(inputs, Mapping) or set(self.input_shape) - {*inputs}:
            raise refused(
                f"`inputs` must be a dict of {list(self.input_shape)}",
                describe(inputs),
            )
        made = {}
        for name in self.names:
            given = name.removeprefix("encoder_")
            if given in inputs:
                made[name] = ops.cast(inputs[given], "int32")
            else:
                made[name] = ops.zeros_like(made[self.names[0]])
        return made

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "names": self.names,
            "length": self.length,
            "segment_ids": self.segment_ids,
        }
