from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import LOGITS
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import present_modalities
from keras_mmrel.modulations.scores import ratio_to_others
from keras_mmrel.modulations.scores import true_class_probability
from keras_mmrel.seeds import known_seed
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    base=Number(0, 1),
    alpha=Number(0),
    probability=Number(0, 1),
    seed=SEED,
)
class OPM(GradientModulation):
    """On-the-fly prediction modulation: train without the leading modality.

    A modality's score is the mean probability that it gives to the true class
    by itself, and `r` the ratio of its score to the mean score of the others.
    Where `r > 1` the loss of a step sees its feature only in some samples: it
    is dropped with the probability `base * (1 + alpha * tanh(r - 1))`, at
    most 1, in each sample by itself. What is left is divided by the fraction
    that is kept on average, over all numbers of all features. A sample that
    loses everything does not count. Of all steps only the fraction
    `probability` drops something. Encoders learn at their own speed; nothing
    is dropped at inference.

    It needs a model with one head on all features: `keras_mmrel.ConcatFusion`
    with any `fusion`, `AIM`, `CAL`, or a subclass of theirs. Mean drop
    probabilities of each epoch are logged as `<modality>_drop_probability`,
    0 where a step drops nothing.

    The paper's text was not available to us; this follows its released code
    (commit 4b3aa4f), whose loss and gradients for one batch and one drawing
    are those of this class to 1e-6, if the head's bias is zero: there each
    modality's score has half of it, here all, as `OGM` does. The released
    file has a stray bracket and does not run as it is. A batch that loses
    every sample makes no step there, here one with a gradient of zero. The
    code begins after 6 of 100 epochs (`warmup=0.06`). More than two
    modalities, and missing ones, are this library's own.

    Args:
        base: Number in [0, 1]; 0.5 in the released script.
        alpha: Non-negative float, the code's `lam`.
        probability: Number in [0, 1].
        seed: Integer, or `None` to draw one. Several processes with PyTorch
            need one each, or they drop the same rows of their parts.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If an argument is outside its range, or the model has no
            head on all features.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.OPM(seed=0))
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> [key for key in history if key.endswith("drop_probability")]
    ['a_drop_probability', 'b_drop_probability']

    References:
        - [Wei et al., 2024, On-the-fly Modulation for Balanced Multimodal
          Learning](https://arxiv.org/abs/2410.11582)
    """

    needs_shared_head = True

    def __init__(
        self,
        base: float = 0.5,
        alpha: float = 0.5,
        probability: float = 0.7,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.base = base
        self.alpha = alpha
        self.probability = probability
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.total_drop = add_state(self, "total_drop", (input_shape[-1],))

    def drop_probabilities(self, labels: Tensor, outputs: Outputs) -> Tensor:
        """Return how often each modality is dropped, `(n_modalities,)`."""
        present = present_modalities(outputs)
        scores = true_class_probability(labels, outputs[MODALITY_LOGITS])
        ratio = ratio_to_others(batch_mean(scores, outputs), present)
        lead = ops.tanh(ops.relu(ratio - 1.0))
        drop = ops.minimum(self.base * (1.0 + self.alpha * lead), 1.0)
        leads = (lead > 0) & (present > 0) & (ops.sum(present) > 1)
        return ops.stop_gradient(ops.where(leads, drop, 0.0))

    def modulate_outputs(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> tuple[Outputs, Tensor]:
        features = outputs[TRAINING_RECORD]["fused_features"]
        mask = outputs[MASK]
        drop = self.drop_probabilities(labels, outputs)
        draw = keras.random.uniform((), seed=self.seed_generator)
        draw = backend.of_first_process(draw)
        runs = (draw < self.probability) & (self.active > 0)
        drop = ops.where(runs, drop, ops.zeros_like(drop))
        self.total_drop.assign_add(drop)
        draws = keras.random.uniform(ops.shape(mask), seed=self.seed_generator)
        kept = mask * ops.cast(draws >= drop, "float32")
        logits = self._fused(features, kept, drop)
        # Where nothing is dropped all stays as it is, to the last bit.
        left = ops.max(kept, axis=1) > 0
        changed = (left & runs)[:, None]
        logits = ops.where(changed, logits, outputs[LOGITS])
        weight = _among_all(ops.cast(left | ~runs, "float32"))
        if sample_weight is not None:
            given = ops.convert_to_tensor(sample_weight, "float32")
            weight = weight * ops.reshape(given, (-1,))
        return {**outputs, LOGITS: logits}, weight

    def _fused(
        self, features: Sequence[Tensor], kept: Tensor, drop: Tensor
    ) -> Tensor:
        """Logits of what is left of the features."""
        sizes = ops.convert_to_tensor(
            [float(feature.shape[-1]) for feature in features]
        )
        lost = ops.sum(sizes * drop) / ops.sum(sizes)
        factors = kept / (1.0 - lost)
        return self.own_model().fuse(
            [
                feature * ops.cast(factors[:, i : i + 1], feature.dtype)
                for i, feature in enumerate(features)
            ]
        )

    def begin_epoch(self) -> None:
        super().begin_epoch()
        self.total_drop.assign(ops.zeros(self.total_drop.shape))

    def epoch_logs(self) -> dict[str, float]:
        steps = max(float(ops.convert_to_numpy(self.steps)), 1.0)
        means = ops.convert_to_numpy(self.total_drop) / steps
        logs = {
            f"{name}_drop_probability": float(mean)
            for name, mean in zip(self.modality_names, means, strict=True)
        }
        return {**super().epoch_logs(), **logs}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "base": self.base,
            "alpha": self.alpha,
            "probability": self.probability,
            "seed": self.seed,
        }


def _among_all(counted: Tensor) -> Tensor:
    """Weights `(batch,)` by which a mean counts these samples alone."""
    totals = backend.all_reduce_sum(
        ops.stack([ops.sum(ops.ones_like(counted)), ops.sum(counted)])
    )
    return counted * totals[0] / ops.maximum(totals[1], 1e-6)
