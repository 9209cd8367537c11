from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Tensor
from keras_mmrel.models._mixtures import entropy
from keras_mmrel.models._mixtures import log_mean
from keras_mmrel.models.modality_encoders import derive_seed
from keras_mmrel.models.shared_head_model import SharedHeadModel
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    rate=Number(0, 1, low_open=True, high_open=True),
    passes=Integer(2),
    modality_loss_weight=Number(0),
)
class MCDropout(SharedHeadModel):
    """Monte Carlo dropout: how much do parts of the features disagree?

    One head on all features, which are dropped in training with the
    probability `rate`. At inference there are `passes` answers, each with
    other features dropped, and the prediction is the mean of their
    probabilities. The cost is that of the head: encoders run once.

    What is dropped in each pass is drawn when the model is made, is the same
    for all samples, and is saved. So a prediction does not change from call
    to call or with the batch, and the model can be exported.

    `modality_logits` are the logs of the mean probabilities of each modality
    alone. Output beside those of every model:

    - `disagreement`: `(batch,)`, the mutual information in nats of a
      sample's class and the pass: the entropy of the mean probabilities less
      the mean entropy of each; 0 in training. It is large where the model is
      in doubt since it has not learnt enough, and small where classes overlap.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        rate: Number in (0, 1), the probability that a number of a feature is
            dropped.
        passes: Integer of at least 2.
        modality_loss_weight: Non-negative float, weight of `modality_loss`,
            the cross-entropy of the head's answers to one modality alone;
            with 0 there is no such term.
        **kwargs: `fusion`, `augmentation`, `quality`, `seed` and
            `class_names`, as in `keras_mmrel.ConcatFusion`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.MCDropout({"a": (8,), "b": (4,)}, 3)
    >>> x = {"a": np.ones((2, 8)), "b": np.ones((2, 4))}
    >>> model.predict(x, verbose=0)["disagreement"].shape
    (2,)

    References:
        - [Gal and Ghahramani, 2016, Dropout as a Bayesian
          approximation](https://arxiv.org/abs/1506.02142). Dropout before
          the head alone, the same for all samples, is this library's own.
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        rate: float = 0.3,
        passes: int = 20,
        modality_loss_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            modality_loss_weight=modality_loss_weight,
            **kwargs,
        )
        self.rate = rate
        self.passes = passes
        self.drops = [
            _Drops(
                rate,
                passes,
                derive_seed(self.seed, f"drops/{name}"),
                name=f"drops_{index}",
            )
            for index, name in enumerate(self.modality_names)
        ]
        self.build_from_modalities()

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        features = [
            drops(feature, training=training)
            for drops, feature in zip(
                self.drops, self.encode(inputs, training), strict=True
            )
        ]
        if training:
            return self.head_outputs(
                features,
                inputs,
                training,
                disagreement=ops.zeros_like(features[0][:, 0], "float32"),
            )
        each = self._log_probabilities(features)
        nothing = [ops.zeros_like(feature) for feature in features]
        alone = [
            log_mean(
                self._log_probabilities(
                    [*nothing[:i], feature, *nothing[i + 1 :]]
                )
            )
            for i, feature in enumerate(features)
        ]
        mean = log_mean(each)
        between = entropy(mean) - ops.mean(entropy(each), axis=1)
        return self.make_outputs(
            mean,
            ops.stack(alone, axis=1),
            inputs,
            # Rounding may leave less than nothing.
            disagreement=ops.maximum(between, 0.0),
        )

    def _log_probabilities(self, features: Sequence[Tensor]) -> Tensor:
        """Return `(batch, passes, num_classes)` of features of all passes."""
        logits = self.fuse(features)
        shape = (-1, self.passes, self.num_classes)
        return ops.log_softmax(ops.reshape(logits, shape), axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rate": self.rate,
            "passes": self.passes,
        }


class _Drops(keras.layers.Layer):
    """Drop numbers of a feature: by chance in training, else in fixed ways.

    Returns `(batch, d)` in training, and `(batch * passes, d)` otherwise, a
    sample's passes one after the other.
    """

    def __init__(
        self, rate: float, passes: int, seed: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.passes = passes
        self.seed = seed
        self.dropout = keras.layers.Dropout(rate, seed=seed)

    def build(self, input_shape: tuple) -> None:
        shape = (self.passes, input_shape[-1])
        kept = np.random.default_rng(self.seed).random(shape) >= self.rate
        self.factors = add_state(
            self,
            "factors",
            shape,
            # Not a constant of numbers: a config would have them all.
            lambda shape, dtype: ops.convert_to_tensor(
                kept / (1.0 - self.rate), dtype
            ),
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if training:
            return self.dropout(inputs, training=True)
        factors = ops.cast(self.factors, inputs.dtype)
        dropped = inputs[:, None, :] * factors[None]
        return ops.reshape(dropped, (-1, inputs.shape[-1]))
