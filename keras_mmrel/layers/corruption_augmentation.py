from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Every
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import is_pixels
from keras_mmrel.layers._checks import check_modality_tensors
from keras_mmrel.seeds import known_seed
from keras_mmrel.tensor_layer import TensorLayer


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    sigmas=Every(Number(0, low_open=True)),
    noise_probability=Number(0, 1),
    shuffle_probability=Number(0, 1),
    drop_probability=Number(0, 1, high_open=True),
    seed=SEED,
)
class CorruptionAugmentation(TensorLayer):
    """Corrupt modalities of training samples, each independently.

    In training every modality of every sample is, with the given
    probabilities, overlaid with Gaussian noise, replaced by that of another
    sample of the batch, or dropped (set to zero, with its mask at 0). A
    sample never loses its last modality. At inference nothing changes.

    Pass it as `augmentation=` to any model of the library: the statistics
    that a model keeps are always taken from the samples before corruption.

    Args:
        sigmas: Sequence of positive floats in units of the inputs, of images
            and videos in bytes in parts of white; each noisy modality draws
            one.
        noise_probability: Float in [0, 1].
        shuffle_probability: Float in [0, 1].
        drop_probability: Float in [0, 1). A sample that would lose all its
            modalities keeps them all.
        seed: Integer, or `None` to draw one.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Dict of modality name -> tensor with the batch first, with or
            without `"modality_mask"` `(batch, modalities)`. Integer tensors
            that are no pixels get no noise, nor does a modality of several
            tensors, a dict such as tokens and their padding. Missing
            modalities stay as they are.
        training: Whether to corrupt.

    Returns:
        Dict of the same tensors, with `"modality_mask"` in training.

    Raises:
        ValueError: If a probability is outside [0, 1], or `sigmas` is empty
            or not positive.

    Example:

    >>> layer = keras_mmrel.layers.CorruptionAugmentation(seed=0)
    >>> x = {"a": np.zeros((4, 8)), "b": np.zeros((4, 3))}
    >>> bool((keras.ops.abs(layer(x, training=True)["a"]) > 0).any())
    True
    """

    def __init__(
        self,
        sigmas: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0),
        noise_probability: float = 0.5,
        shuffle_probability: float = 0.0,
        drop_probability: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, **kwargs)
        self.sigmas = tuple(sigmas)
        self.noise_probability = noise_probability
        self.shuffle_probability = shuffle_probability
        self.drop_probability = drop_probability
        self.seed = known_seed(seed)
        self.generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple) -> None:
        """Hold no weights."""

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Tensor]:
        check_modality_tensors(inputs)
        if not training:
            return dict(inputs)
        names = [name for name in inputs if name != MASK]
        batch = ops.shape(keras.tree.flatten(inputs[names[0]])[0])[0]
        mask = inputs.get(MASK)
        if mask is None:
            mask = ops.ones((batch, len(names)))
        mask = ops.cast(ops.convert_to_tensor(mask, "float32") > 0, "float32")
        corrupted = {name: inputs[name] for name in names}
        if self.shuffle_probability:
            corrupted = self._shuffle(corrupted, mask, batch)
        if self.noise_probability:
            corrupted = {
                name: self._add_noise(x, mask[:, index], batch)
                for index, (name, x) in enumerate(corrupted.items())
            }
        if self.drop_probability:
            mask = self._drop(mask, batch)
            corrupted = {
                name: keras.tree.map_structure(
                    lambda v, kept=mask[:, index]: ops.where(
                        _column(kept, v) > 0, v, ops.zeros_like(v)
                    ),
                    x,
                )
                for index, (name, x) in enumerate(corrupted.items())
            }
        return {**corrupted, MASK: mask}

    def _chosen(self, shape: tuple, probability: float) -> Tensor:
        draw = keras.random.uniform(shape, seed=self.generator)
        return ops.cast(draw < probability, "float32")

    def _add_noise(self, x: Tensor, present: Tensor, batch: Tensor) -> Tensor:
        if isinstance(x, Mapping):
            return x
        white = 255.0 if is_pixels(x) else None
        if white is None and not keras.backend.is_float_dtype(x.dtype):
            return x
        choice = keras.random.randint(
            (batch,), 0, len(self.sigmas), seed=self.generator
        )
        sigma = ops.take(ops.convert_to_tensor(self.sigmas), choice)
        sigma = sigma * self._chosen((batch,), self.noise_probability) * present
        noise = keras.random.normal(
            ops.shape(x), dtype="float32", seed=self.generator
        )
        noise = noise * _column(sigma, x)
        if white is None:
            return ops.cast(ops.cast(x, "float32") + noise, x.dtype)
        noisy = ops.round(ops.cast(x, "float32") + white * noise)
        return ops.cast(ops.clip(noisy, 0.0, white), x.dtype)

    def _shuffle(self, inputs: dict, mask: Tensor, batch: Tensor) -> dict:
        """Give chosen rows the row of another sample, if that is present."""
        shuffled = {}
        for index, (name, x) in enumerate(inputs.items()):
            order = keras.random.shuffle(
                ops.arange(batch, dtype="int32"), seed=self.generator
            )
            present = mask[:, index]
            use = (
                self._chosen((batch,), self.shuffle_probability)
                * present
                * ops.take(present, order)
            )
            shuffled[name] = keras.tree.map_structure(
                lambda v, use=use, order=order: ops.where(
                    _column(use, v) > 0, ops.take(v, order, axis=0), v
                ),
                x,
            )
        return shuffled

    def _drop(self, mask: Tensor, batch: Tensor) -> Tensor:
        keep = 1.0 - self._chosen((batch, mask.shape[1]), self.drop_probability)
        left = mask * keep
        any_left = ops.max(left, axis=1, keepdims=True) > 0
        return ops.where(any_left, left, mask)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "sigmas": list(self.sigmas),
            "noise_probability": self.noise_probability,
            "shuffle_probability": self.shuffle_probability,
            "drop_probability": self.drop_probability,
            "seed": self.seed,
        }


def _column(values: Tensor, x: Tensor) -> Tensor:
    """Tuple `(batch,)` values so that they broadcast against `x`."""
    return ops.reshape(values, (-1, *[1] * (len(x.shape) - 1)))


def untouched(
    before: Modalities, after: Modalities, names: Sequence[str]
) -> Tensor:
    """Say which modalities of which samples an augmentation left as they were.

    Args:
        before: Dict of modality name -> tensor, or nested tensors.
        after: The same after the augmentation.
        names: Names of the modalities.

    Returns:
        Tensor `(batch, modalities)`, 1 where every value is the same.
    """

    def same(a: Tensor, b: Tensor) -> Tensor:
        equal = ops.cast(ops.equal(a, b), "float32")
        return ops.min(ops.reshape(equal, (ops.shape(a)[0], -1)), axis=1)

    flags = [
        ops.min(
            ops.stack(
                [
                    same(a, b)
                    for a, b in zip(
                        keras.tree.flatten(before[name]),
                        keras.tree.flatten(after[name]),
                        strict=True,
                    )
                ]
            ),
            axis=0,
        )
        for name in names
    ]
    return ops.stack(flags, axis=1)
