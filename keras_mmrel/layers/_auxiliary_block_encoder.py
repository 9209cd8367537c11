from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import NUM_CLASSES
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._masks import ChannelGate
from keras_mmrel.encoders._masks import MaskReader
from keras_mmrel.encoders._masks import MeanOverPositions
from keras_mmrel.encoders._pooling import FEATURES
from keras_mmrel.encoders._pooling import features_of
from keras_mmrel.encoders.block_encoder import block_specs
from keras_mmrel.encoders.block_encoder import check_blocks
from keras_mmrel.encoders.block_encoder import pooled_spec
from keras_mmrel.encoders.block_encoder import restore_blocks
from keras_mmrel.encoders.block_encoder import symbolic_outputs
from keras_mmrel.layers._depth_statistics import DepthStatistics
from keras_mmrel.seeds import known_seed
from keras_mmrel.state import add_state
from keras_mmrel.tensor_layer import TensorLayer
from keras_mmrel.tensor_layer import refused

SELECTIONS = ("under_optimised", "over_optimised", "random")


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    num_classes=NUM_CLASSES,
    mask_fraction=Number(0, 1, low_open=True),
    selection=Choice(*SELECTIONS),
    seed=SEED,
)
class AuxiliaryBlockEncoder(TensorLayer):
    """An encoder of blocks with an auxiliary path through weak channels.

    The *main path* is the plain encoder: its blocks one after the other, then
    the mean over every axis between the batch and the channels. A call runs
    the main path and nothing else, so inference costs nothing extra, and
    there are no parameters beyond those of the blocks.

    The *auxiliary path* runs the blocks again from the output of the first
    one. After each block, a sample is gated with the probability that the
    weight `strength` holds for that depth: only the channels of that depth's
    mask go on, scaled by `sqrt(channels / kept)`. Where all samples are gated,
    the filters of the other channels get no gradient at all, so the auxiliary
    path trains the selected, under-optimised filters as a network of their
    own. Moving statistics (of batch normalisation, say) are left as the main
    path has set them.

    Which channels are under-optimised is estimated from the main path of
    training batches by `update_statistics`: each channel's part in the
    margin by which the pooled output points to the prototype of its own class
    rather than to those of other classes. The `mask_fraction` of the channels
    with the smallest part form the mask, which `refresh_masks` renews.

    Args:
        blocks: Non-empty list of Keras layers or models, applied in turn; the
            last axis of every output is the channels.
        num_classes: Integer of at least 2.
        mask_fraction: Float in (0, 1], fraction of the channels of each depth
            that the mask keeps; at least one.
        selection: Which channels the mask keeps: `"under_optimised"`,
            `"over_optimised"`, or `"random"` (drawn anew at each refresh).
        seed: Integer, or `None` to draw one. Seed of the gates and of
            random masks.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Whatever the first block takes.
        training: Passed on to the blocks.
        return_depths: Whether to return what the losses and statistics need.

    Returns:
        Tensor of shape `(batch, d)`, the pooled output of the last block. With
        `return_depths` a tuple: the pooled outputs of all blocks; what the
        first block has returned; and a list of Keras' own mask of it, empty
        where it has none.

    Raises:
        ValueError: If `blocks` is no list of Keras layers, or another
            argument is outside its range.

    Example:

    >>> blocks = [keras.layers.Conv2D(8, 3), keras.layers.Conv2D(16, 3)]
    >>> encoder = AuxiliaryBlockEncoder(blocks, 10)
    >>> encoder(np.zeros((2, 8, 8, 1))).shape
    (2, 16)

    References:
        - [AIM, 2025](https://arxiv.org/abs/2508.19769), whose auxiliary
          blocks these are. Its equations were not available to us: the
          gates, the score and the mask are this library's own.
    """

    def __init__(
        self,
        blocks: Sequence[keras.layers.Layer],
        num_classes: int,
        mask_fraction: float = 0.5,
        selection: str = "under_optimised",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_blocks(blocks)
        super().__init__(**kwargs)
        self.blocks = list(blocks)
        self.num_classes = num_classes
        self.mask_fraction = mask_fraction
        self.selection = selection
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.statistics = [
            DepthStatistics(num_classes, name=f"statistics_{index}")
            for index in range(len(self.blocks))
        ]
        self.pool = MeanOverPositions(name="pool")
        self.mask_of = MaskReader(name="mask_of")
        self.channel_gate = ChannelGate(name="channel_gate")

    @property
    def input_shape(self) -> Tensor:
        """Tuple that the first block takes, batch axis included."""
        return self.blocks[0].input_shape

    def build(self, input_shape: tuple) -> None:
        outputs = symbolic_outputs(self.blocks, input_shape)
        self.masks = []
        for index, x in enumerate(outputs):
            if isinstance(x, Mapping):
                x = x.get(FEATURES)
            if not isinstance(x, keras.KerasTensor) or len(x.shape) < 2:
                raise refused(
                    "Every block must return one tensor with the channels "
                    f"last, or a dict with such a one under '{FEATURES}'",
                    f"block {index} returned {x!r}",
                )
            channels = x.shape[-1]
            self.statistics[index].build((None, channels))
            self.masks.append(
                add_state(self, f"mask_{index}", (channels,), "ones")
            )
        self.strength = add_state(
            self, "strength", (len(self.blocks),), "zeros"
        )

    # -- The two paths -------------------------------------------------------

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_depths: bool = False,
    ) -> Any:
        pooled, first, masks = [], None, []
        for depth, block in enumerate(self.blocks):
            inputs = block(inputs, training=training)
            # At once: attention of Keras takes the mask from what it reads.
            if depth == 0:
                mask = self.mask_of(inputs)
                first, masks = inputs, [] if mask is None else [mask]
            if return_depths or depth == len(self.blocks) - 1:
                pooled.append(self.pool(inputs))
        return (pooled, first, masks) if return_depths else pooled[-1]

    def compute_output_spec(
        self,
        inputs: Tensor,
        training: bool | None = None,
        return_depths: bool = False,
    ) -> Any:
        outputs = list(block_specs(self.blocks, inputs))
        pooled = [pooled_spec(x) for x in outputs]
        return (pooled, outputs[0], []) if return_depths else pooled[-1]

    def auxiliary_path(
        self, first_output: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Run the auxiliary path from the main path's first block output.

        Args:
            first_output: What the first block returned in a call with
                `return_depths` and `training=True`, or some of its rows.
            mask: The mask that the same call returned, the same rows.

        Returns:
            Tensor of shape `(batch, d)`.
        """
        moving = [
            v for block in self.blocks[1:] for v in upstream.moving_state(block)
        ]
        kept = [v + 0 for v in moving]
        x = self.gate(first_output, 0, mask)
        for depth, block in enumerate(self.blocks[1:], 1):
            x = self.gate(block(x, training=True), depth)
        for variable, value in zip(moving, kept, strict=True):
            variable.assign(value)
        return self.pool(x)

    def gate(self, x: Tensor, depth: int, mask: Tensor | None = None) -> Tensor:
        """Reduce some samples to the channels of the mask."""
        features = features_of(x)
        channels = features.shape[-1]
        chosen = ops.convert_to_tensor(self.masks[depth])
        kept = ops.maximum(ops.sum(chosen), 1.0)
        factor = chosen * ops.sqrt(channels / kept)
        drawn = keras.random.uniform(
            (ops.shape(features)[0], 1),
            dtype="float32",
            seed=self.seed_generator,
        )
        gated = ops.cast(drawn < self.strength[depth], "float32")
        scale = 1.0 - gated + gated * factor
        given = {} if mask is None else {"mask": mask}
        return self.channel_gate(x, scale, **given)

    # -- Statistics ----------------------------------------------------------

    def kept_channels(self, channels: int) -> int:
        """Number of channels that a mask keeps."""
        return max(1, int(self.mask_fraction * channels))

    def update_statistics(
        self, pooled: Sequence[Tensor], labels: Labels, weight: Tensor
    ) -> None:
        """Update every depth's statistics from a training batch.

        Args:
            pooled: Pooled main-path output of every block, `(batch, c)`.
            labels: One-hot labels `(batch, num_classes)`.
            weight: `(batch,)`, 0 for a sample without this modality.
        """
        for statistics, feature in zip(self.statistics, pooled, strict=True):
            statistics.update_statistics(feature, labels, weight)

    def refresh_masks(self, epoch: int = 0) -> None:
        """Choose the channels of every mask by the statistics so far."""
        # The seed that the generator began with is saved with its state.
        seed = int(ops.convert_to_numpy(self.seed_generator.state)[0])
        rng = np.random.default_rng((seed, epoch))
        for mask, statistics in zip(self.masks, self.statistics, strict=True):
            scores = ops.convert_to_numpy(statistics.scores)
            if self.selection == "random":
                scores = rng.uniform(size=scores.shape)
            elif self.selection == "over_optimised":
                scores = -scores
            chosen = np.argsort(scores, kind="stable")
            values = np.zeros(scores.shape, "float32")
            values[chosen[: self.kept_channels(len(scores))]] = 1.0
            mask.assign(values)

    # -- Saving --------------------------------------------------------------

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "blocks": [
                keras.saving.serialize_keras_object(b) for b in self.blocks
            ],
            "num_classes": self.num_classes,
            "mask_fraction": self.mask_fraction,
            "selection": self.selection,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "AuxiliaryBlockEncoder":
        return cls(**restore_blocks(config))
