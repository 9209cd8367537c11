from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel.encoders._pooling import FEATURES
from keras_mmrel.encoders._vocabulary import WHOLE
from keras_mmrel.encoders._vocabulary import vocabularies
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
class CarryingBlock(TensorLayer):
    """A block of a backbone of several inputs, which all go along.

    A transformer needs the mask of a text's padding in each of its blocks.

    Args:
        block: Functional model with a list of inputs: the features of the
            block before, unless this is the `first`, and then the backbone's
            inputs.
        names: Names of these inputs.
        first: Whether it is the first block.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of the backbone's inputs, with `"features"` of the block
            before.
        training: Passed on.

    Returns:
        Dict of the same inputs, and of the `"features"` of this block.
    """

    def __init__(
        self,
        block: keras.Model,
        names: Sequence[str],
        first: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.block = block
        self.names = list(names)
        self.first = first
        self.built = True

    @property
    def input_shape(self) -> dict[str, tuple]:
        """Shapes that the block takes, batch axis included."""
        names = self.names if self.first else [FEATURES, *self.names]
        shapes = [tuple(tensor.shape) for tensor in self.block.inputs]
        return dict(zip(names, shapes, strict=True))

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input -> how many numbers it may be."""
        if not self.first:
            return {}
        sizes = vocabularies(self.block)
        keys: Any = range(len(self.names)) if self.names[1:] else [WHOLE]
        named = zip(keys, self.names, strict=True)
        return {name: sizes[key] for key, name in named if key in sizes}

    def call(self, inputs: Any, training: bool | None = None) -> dict:
        features = self.block(self._tensors(inputs), training=training)
        return {**self._carried(inputs), FEATURES: features}

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None
    ) -> dict:
        # Layer by layer: Keras would try lengths that no position has.
        features = self.block.compute_output_spec(self._tensors(inputs))
        return {**self._carried(inputs), FEATURES: features}

    def _carried(self, inputs: Any) -> dict:
        return {name: inputs[name] for name in self.names}

    def _tensors(self, inputs: Any) -> list:
        tensors = list(self._carried(inputs).values())
        return tensors if self.first else [inputs[FEATURES], *tensors]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "block": keras.saving.serialize_keras_object(self.block),
            "names": self.names,
            "first": self.first,
        }

    @classmethod
    def from_config(cls, config: dict) -> "CarryingBlock":
        block = keras.saving.deserialize_keras_object(config["block"])
        return cls(**{**config, "block": block})
