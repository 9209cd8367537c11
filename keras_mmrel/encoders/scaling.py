from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel._shapes import map_shapes
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Instance
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Shapes
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Array
from keras_mmrel.contract import Tensor
from keras_mmrel.encoders._backbone_encoder import FrontedBlock
from keras_mmrel.encoders._backbone_encoder import build_all
from keras_mmrel.encoders._feature_scaling import FeatureScaling
from keras_mmrel.encoders.conv_encoder import ConvEncoder
from keras_mmrel.encoders.mlp_encoder import MLPEncoder
from keras_mmrel.encoders.sequence_encoder import SequenceEncoder
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    shape=Either(Every(Integer(1)), Shapes()),
    encoder=Either(Instance(keras.layers.Layer, "a `keras.Layer`"), None),
    seed=SEED,
)
class Scaling(TensorLayer):
    """Standardise a modality by its training samples, then encode it.

    Of a vector, and of each step of a sequence, each number has a mean and a
    deviation of its own, of a spectrogram each band, of an image each channel.
    They are learnt before the first step of the first `fit`, from samples that
    have the modality, and are in the model's file. A number of a vector that
    does not vary is only shifted; a band or a channel that hardly varies (less
    than a tenth of what they vary on average) is not blown up.

    It may stand inside another encoder, in a `VideoEncoder` or a
    `keras.Sequential` say: there it learns from what it gets of up to 2,048
    samples. Without a `fit` it is `adapt` that teaches it; a model refuses to
    `train_on_batch` with one that knows no data, and warns where it is to
    predict or evaluate.

    Only the encoder sees scaled values. Augmentation, corruptions and layers
    given as `quality` see what the data hold.

    Args:
        shape: Shape of a sample: what `modalities` would be given. Of a padded
            sequence (`keras_mmrel.media.Series`) a dict of two shapes; its
            padding counts for nothing, and stays 0.
        encoder: Layer that encodes what is scaled; by default an `MLPEncoder`
            for a vector, a `SequenceEncoder` for a padded sequence, and a
            `ConvEncoder` for what has more axes.
        seed: Seed of the default encoder.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor `(batch, *shape)`, or a dict of such.
        training: Passed on to the encoder.

    Returns:
        What the encoder returns, of shape `(batch, d)`.

    Raises:
        ValueError: If `shape` or `encoder` is none.

    Example:

    >>> scaling = keras_mmrel.encoders.Scaling((4,))
    >>> x = np.random.default_rng(0).normal(-60.0, 20.0, size=(100, 4))
    >>> scaling.adapt(x)
    >>> scaling(x).shape, scaling.adapted
    ((100, 64), True)
    """

    def __init__(
        self,
        shape: Sequence[int] | Mapping[str, Sequence[int]],
        encoder: keras.layers.Layer | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.shape = map_shapes(tuple, shape)
        self.seed = seed
        self.front = FeatureScaling(
            self.shape, name="front", dtype=self.dtype_policy
        )
        if encoder is None:
            kind: type = MLPEncoder if len(self.shape) == 1 else ConvEncoder
            if isinstance(self.shape, Mapping):
                kind = SequenceEncoder
            encoder = kind(seed=seed, dtype=self.dtype_policy)
        self.encoder = encoder

    @property
    def input_shape(self) -> Any:
        """Shape that is taken, batch axis included."""
        return self.front.input_shape

    @property
    def blocks(self) -> list[keras.layers.Layer]:
        """The blocks of the encoder, the first one of which scales."""
        first, *rest = getattr(self.encoder, "blocks", None) or [self.encoder]
        return [FrontedBlock(self.front, first, name="block_0"), *rest]

    @property
    def adapted(self) -> bool:
        """Whether statistics are known."""
        return bool(ops.convert_to_numpy(self.front.count))

    def adapt(self, inputs: Any, present: Array | None = None) -> None:
        """Take the statistics of samples; what was known is forgotten.

        Args:
            inputs: `(samples, *shape)`, or a dict of such, read in chunks.
            present: `(samples,)`, true for those that count.
        """
        self.front.adapt(inputs, present)

    def build(self, input_shape: Any) -> None:
        build_all([self.front, self.encoder], input_shape)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.encoder(self.front(inputs), training=training)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "shape": map_shapes(list, self.shape),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "Scaling":
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder})
