from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._backbone_encoder import used_network
from keras_mmrel.encoders._masks import MaskReader
from keras_mmrel.encoders._pooling import PADDING
from keras_mmrel.encoders._pooling import masked_mean
from keras_mmrel.encoders._pooling import usable_mask
from keras_mmrel.encoders._positions import check_inputs
from keras_mmrel.encoders._split_backbone import graph_ends
from keras_mmrel.encoders._split_backbone import natural_blocks
from keras_mmrel.encoders._vocabulary import LookupLayer
from keras_mmrel.encoders._vocabulary import vocabularies
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import refused
from keras_mmrel.tensor_layer import refusing


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    backbone=Instance(keras.layers.Layer, "a `keras.Layer` or `keras.Model`"),
    output_key=Either(Instance(str, "a string"), None),
    mask_key=Either(Instance(str, "a string"), None),
)
class PooledEncoder(LookupLayer):
    """Make an encoder of a backbone that returns a feature map.

    The backbone's output is averaged over every axis between the batch and
    the channels, so `(batch, h, w, d)` and `(batch, tokens, d)` both become
    `(batch, d)`.

    Padding takes no part: of `(batch, tokens, d)` the tokens are averaged that
    the input's entry `mask_key` marks, or, where there is none, the mask that
    Keras' layers pass on (`Embedding(mask_zero=True)`, say). A sample that is
    all padding has the feature 0. Where the backbone has made fewer tokens of
    them, nobody knows which are padding, and all are averaged.

    Args:
        backbone: A built `keras.Model` or `keras.Layer`, from
            `keras.applications` or keras-hub for example.
        output_key: String or `None`. Which entry to take where the backbone
            returns a dict.
        mask_key: String or `None`. Which entry of a dict of inputs says by 1
            which tokens are none of the padding, `(batch, tokens)`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Whatever the backbone takes.
        training: Passed on to the backbone.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If `backbone` is no Keras layer, or its output is a dict
            and `output_key` does not name an entry of it.

    Example:

    >>> backbone = keras.Sequential(
    ...     [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]
    ... )
    >>> encoder = keras_mmrel.encoders.PooledEncoder(backbone)
    >>> encoder(np.zeros((2, 8, 8, 3))).shape
    (2, 4)
    """

    def __init__(
        self,
        backbone: keras.layers.Layer,
        output_key: str | None = None,
        mask_key: str | None = "padding_mask",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.output_key = output_key
        self.mask_key = mask_key
        self.mask_of = MaskReader(name="mask_of")

    @property
    def input_shape(self) -> Tensor:
        """Tuple that the backbone takes, batch axis included."""
        return self.backbone.input_shape

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input, `""` for the only one -> numbers that it may be."""
        return vocabularies(self.backbone)

    @property
    def blocks(self) -> list[keras.layers.Layer]:
        """The backbone as blocks whose mean over positions is the feature.

        None where a cut is unknown, or padding that only this encoder knows.
        """
        try:
            network = used_network(self.backbone, None, self.output_key)
        except ValueError:
            return []
        ends = graph_ends(network)
        if ends is None:
            return []
        given, output = ends
        names = set(given) if isinstance(given, Mapping) else set()
        carried = self.mask_key == PADDING and PADDING in names
        masked = {self.mask_key, PADDING} & names
        if masked and not carried:
            return []
        return natural_blocks(network) or [network]

    def build(self, input_shape: tuple) -> None:
        if not self.backbone.built:
            with self._refusing(f"shape={input_shape}"):
                self.backbone.build(input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        shapes = keras.tree.map_structure(lambda x: tuple(x.shape), inputs)
        check_inputs(self.backbone, shapes)
        with self._refusing(describe(inputs)):
            outputs = self.backbone(inputs, training=training)
        named = isinstance(outputs, dict)
        if named != (self.output_key is not None) or (
            named and self.output_key not in outputs
        ):
            expected = "must be None, since the backbone returns no dict"
            if named:
                names = sorted(outputs)
                expected = f"must name an output of the backbone ({names})"
            raise refused(
                f"`output_key` {expected}", f"output_key={self.output_key!r}"
            )
        if named:
            outputs = outputs[self.output_key]
        return masked_mean(outputs, self._token_mask(inputs, outputs))

    def _token_mask(self, inputs: Tensor, outputs: Tensor) -> Tensor | None:
        """Which of the backbone's tokens count `(batch, tokens)`, if known."""
        mask = self.mask_of(outputs)
        if isinstance(inputs, Mapping) and self.mask_key in inputs:
            mask = inputs[self.mask_key]
        return usable_mask(mask, outputs)

    def _refusing(self, received: str) -> AbstractContextManager:
        """Say in one sentence that the backbone does not take something."""
        return refusing(
            f"`inputs` must be what the backbone '{self.backbone.name}' takes",
            received,
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "output_key": self.output_key,
            "mask_key": self.mask_key,
        }

    @classmethod
    def from_config(cls, config: dict) -> "PooledEncoder":
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"]
        )
        return cls(**config)
