from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import DEPTH
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Tensor
from keras_mmrel.layers._checks import check_shape
from keras_mmrel.layers._checks import presence
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    max_depth=DEPTH, tolerance=Number(0, 1, low_open=True, high_open=False)
)
class DepthAllocator(TensorLayer):
    """Turn the quality of modalities into a weight and a depth for each.

    Both are relative: a modality is compared with the best one of the same
    sample. With the quality `q`,

        weight = min(1, q / (tolerance * max q)),
        depth = round(max_depth * weight).

    So the best modality always has full depth, nobody is dropped where all
    lose the same fraction, and a modality that is much worse than another
    one has depth 0: it is not run. A missing one has weight and depth 0, and
    does not count.

    Args:
        max_depth: Positive integer.
        tolerance: Float in (0, 1], the fraction of the best quality from
            which on a modality is as good as the best one.
        **kwargs: Arguments of `keras.layers.Layer`. Everything is computed in
            float32, whatever the `dtype`.

    Call arguments:
        inputs: Quality `(batch, modalities)`, at least 0.
        modality_mask: `None` or `(batch, modalities)`, 1 = present.

    Returns:
        Dict with `weight` `(batch, modalities)` in [0, 1] and `depth`
        `(batch, modalities)`, whole numbers from 0 to `max_depth`. No gradient
        flows through them.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> allocator = keras_mmrel.layers.DepthAllocator(max_depth=4)
    >>> out = allocator(np.array([[0.8, 0.8, 0.1], [0.2, 0.2, 0.2]]))
    >>> keras.ops.convert_to_numpy(out["depth"]).astype(int).tolist()
    [[4, 4, 1], [4, 4, 4]]

    References:
        - [QADM-Net](https://arxiv.org/abs/2412.14489): depth by the quality
          of each modality. The formula is this library's own.
    """

    def __init__(
        self, max_depth: int, tolerance: float = 0.9, **kwargs: Any
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.max_depth = max_depth
        self.tolerance = tolerance

    def call(
        self, inputs: Tensor, modality_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        check_shape("inputs", inputs, "batch", "modalities")
        quality = ops.stop_gradient(ops.cast(inputs, "float32"))
        mask = presence(modality_mask, quality)
        # What a missing modality holds is not read. A sample of which nothing
        # is believed keeps all that it has.
        quality = ops.where(mask > 0, quality + 1e-6, 0.0)
        best = ops.max(quality, axis=1, keepdims=True)
        weight = quality / ops.maximum(self.tolerance * best, 1e-9)
        weight = ops.minimum(weight, 1.0)
        return {"weight": weight, "depth": ops.round(self.max_depth * weight)}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "max_depth": self.max_depth,
            "tolerance": self.tolerance,
        }
