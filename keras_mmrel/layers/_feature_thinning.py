from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Tensor


class FeatureThinning(keras.layers.Layer):
    """Choose features that a training step does without.

    Of a share of the modalities, drawn anew for every sample, a random
    fraction of the features. A network that learns with them taken out, and
    told so, knows what to do when some are unreliable.

    Args:
        share: Float in [0, 1].
        seed: Integer.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, share: float, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = share
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Tensor) -> Tensor:
        """Return 1 for what stays, 0 for what does not, as `inputs`.

        Args:
            inputs: `(batch, modalities, features)`, for their shape.
        """
        batch, modalities = ops.shape(inputs)[:2]

        def draw(*shape: Any) -> Tensor:
            return keras.random.uniform(
                shape, dtype="float32", seed=self.seed_generator
            )

        chosen = draw(batch, modalities, 1) < self.share
        fraction = ops.where(chosen, draw(batch, modalities, 1), 0.0)
        kept = draw(*ops.shape(inputs)) >= fraction
        return ops.cast(kept, "float32")
