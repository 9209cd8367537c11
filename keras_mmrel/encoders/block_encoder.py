from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._masks import MeanOverPositions
from keras_mmrel.encoders._pooling import features_of
from keras_mmrel.encoders._vocabulary import LookupLayer
from keras_mmrel.encoders._vocabulary import vocabularies
from keras_mmrel.tensor_layer import describe
from keras_mmrel.tensor_layer import own_error
from keras_mmrel.tensor_layer import refused


@keras.saving.register_keras_serializable(package="keras_mmrel")
class BlockEncoder(LookupLayer):
    """Encode a modality by blocks, one after the other, and average.

    What a list of layers given as an encoder becomes. The output of the last
    block is averaged over every axis between the batch and the channels. A
    block may take and return a dict where something goes along with its
    tensor, `"features"`: of `(batch, tokens, d)` those tokens are averaged
    that a `"padding_mask"` `(batch, tokens)` beside it marks. Where there is
    none, the mask counts that Keras' layers hand on (`mask_zero`).

    Args:
        blocks: Non-empty list of Keras layers or models; the last axis of
            every output is the channels.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Whatever the first block takes.
        training: Passed on to the blocks.

    Returns:
        Tensor of shape `(batch, d)`.

    Raises:
        ValueError: If `blocks` is no list of Keras layers.

    Example:

    >>> blocks = [keras.layers.Conv2D(8, 3), keras.layers.Conv2D(16, 3)]
    >>> encoder = keras_mmrel.encoders.BlockEncoder(blocks)
    >>> encoder(np.zeros((2, 8, 8, 1))).shape
    (2, 16)
    """

    def __init__(
        self, blocks: Sequence[keras.layers.Layer], **kwargs: Any
    ) -> None:
        check_blocks(blocks)
        super().__init__(**kwargs)
        self.blocks = list(blocks)
        self.pool = MeanOverPositions(name="pool")

    @property
    def input_shape(self) -> Tensor:
        """Tuple that the first block takes, batch axis included."""
        return self.blocks[0].input_shape

    @property
    def vocabularies(self) -> dict[str, int]:
        """Name of an input, `""` for the only one -> numbers that it may be."""
        return vocabularies(self.blocks[0])

    def build(self, input_shape: tuple) -> None:
        for _ in symbolic_outputs(self.blocks, input_shape):
            pass

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        for block in self.blocks:
            inputs = block(inputs, training=training)
        return self.pool(inputs)

    def compute_output_spec(
        self, inputs: Tensor, training: bool | None = None
    ) -> keras.KerasTensor:
        *_, last = block_specs(self.blocks, inputs)
        return pooled_spec(last)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "blocks": [
                keras.saving.serialize_keras_object(b) for b in self.blocks
            ],
        }

    @classmethod
    def from_config(cls, config: dict) -> "BlockEncoder":
        return cls(**restore_blocks(config))


def block_specs(blocks: Sequence[keras.layers.Layer], x: Any) -> Iterator[Any]:
    """What each block returns, as symbolic tensors, from its own answer.

    Keras would run all blocks at once, at lengths that nobody has: JAX cannot
    tell whether an unknown one fits a backbone's positions.
    """
    for block in blocks:
        x = block.compute_output_spec(x)
        yield x


def pooled_spec(x: Any) -> keras.KerasTensor:
    """What the mean over positions of a block's output is."""
    features = features_of(x)
    shape = (features.shape[0], features.shape[-1])
    return keras.KerasTensor(shape, features.dtype)


def symbolic_outputs(
    blocks: Sequence[keras.layers.Layer], input_shape: Any
) -> Iterator[Any]:
    """Build blocks, one after the other, and yield what each returns.

    Raises:
        ValueError: Where a block does not take what comes before it.
    """
    for index, block in enumerate(blocks):
        try:
            if index == 0:
                x = keras.tree.map_shape_structure(
                    keras.KerasTensor, input_shape
                )
            x = block(x)
        # Layers and backends say in many ways that they cannot take it.
        except Exception as error:
            own = own_error(error)
            if own is not None:
                raise own from None
            received = f"shape={input_shape}" if index == 0 else describe(x)
            before = "is given" if index == 0 else f"block {index - 1} returns"
            raise refused(
                f"Block {index}, '{block.name}', must take what {before}",
                received,
            ) from error
        yield x


def check_blocks(blocks: Any) -> None:
    """Refuse what are no blocks, and let masks pass through those that are."""
    if (
        not isinstance(blocks, list | tuple)
        or not blocks
        or not all(isinstance(b, keras.layers.Layer) for b in blocks)
    ):
        raise ValueError(
            "`blocks` must be a non-empty list of Keras layers or models. "
            f"Received: blocks={blocks!r}"
        )
    for block in blocks:
        if isinstance(block, keras.Model):
            # Its layers hand masks on; Keras says that it destroyed them.
            block.supports_masking = True


def restore_blocks(config: dict) -> dict:
    """Return a copy of a layer's config with its blocks made from configs."""
    restore = keras.saving.deserialize_keras_object
    return {**config, "blocks": [restore(b) for b in config["blocks"]]}
