from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.constraints import SEED
from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import Variables
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.gradient_modulation import Owners
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.seeds import known_seed

# Least and most of the units of an encoder that learn in a step.
LEAST, MOST = 0.1, 0.9
# What is added to an information before it is divided by an entropy.
MARGIN = 0.5


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    temperature=Number(0, low_open=True),
    unbiased=Flag(),
    sampling=Choice("adaptive", "top"),
    seed=SEED,
)
class AMSS(GradientModulation):
    """Adaptively mask subnetworks: a part of each encoder learns in a step.

    The better a modality tells the classes alone, the fewer units of its
    encoder learn. With `s` the mean log-probability of the true class by the
    modality alone, `H(Y)` the classes' cross-entropy in the batch and `H` the
    mean entropy of the softmax of the modality's feature, its information is
    `r = (s + H(Y) + 0.5) / H`, and the fraction of its units that learn is
    `softmax(-r / temperature)` over the two modalities, kept in [0.1, 0.9];
    it is a half for both while an `r` is not positive.

    Of each kernel of an encoder so many units (its last axis: filters of a
    convolution) are drawn without replacement, with probabilities `p` in
    proportion to the squares of their gradients; the gradient of the others
    is 0. `unbiased` divides what is drawn by `p + 1 / units` (AMSS+), which
    makes steps larger, by half of the number of units at equal `p`: choose
    the learning rate for it. Biases, normalisations and the fusion are left
    alone. The coefficients that are logged are these fractions.

    This follows the released code (commit 3161ecc), whose fractions and
    masked gradients are those of this class to 1e-6; there `H(Y)` is the
    cross-entropy of the frequencies with the softmax of themselves, and so
    it is here. Its audio-visual script draws a mask for the head's weights,
    and leaves it unused; only convolutions are masked there, in ResNets.
    Dense kernels, more than two modalities (`M / 2` times the softmax) and
    missing ones, which have no part, are this library's own. Of the paper
    we could read the abstract.

    Args:
        temperature: Positive float.
        unbiased: Whether to divide by the probabilities.
        sampling: `"adaptive"` as above, or `"top"`: the units of the largest
            gradients.
        seed: Integer, or `None` to draw one.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account: gradients are masked.

    Raises:
        ValueError: If an argument is outside its range, or the model has no
            head on all features.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.AMSS(seed=0))
    >>> x = {"a": np.random.rand(4, 8), "b": np.random.rand(4, 4)}
    >>> history = model.fit(x, np.array([0, 1, 2, 0]), verbose=0).history
    >>> 0.1 <= history["a_coefficient"][0] <= 0.9
    True

    References:
        - [Yang et al., 2024, Learning to Rebalance Multi-Modal Optimization
          by Adaptively Masking Subnetworks](https://arxiv.org/abs/2404.08347)
    """

    needs_shared_head = True

    def __init__(
        self,
        temperature: float = 0.2,
        unbiased: bool = False,
        sampling: str = "adaptive",
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.temperature = temperature
        self.unbiased = unbiased
        self.sampling = sampling
        self.seed = known_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def setup(self, model: Model) -> None:
        super().setup(model)
        # Masks are of gradients, whatever the optimizer makes of them.
        self.edits_updates = False

    def touched(self, variables: Variables, owners: Owners) -> Owners:
        """Return the owners, `None` but for kernels."""
        return [
            owner if len(variable.shape) >= 2 else None
            for variable, owner in zip(variables, owners, strict=True)
        ]

    def compute_coefficients(
        self, labels: Tensor, outputs: Outputs, present: Tensor
    ) -> Tensor:
        log_p = ops.log_softmax(ops.cast(outputs[MODALITY_LOGITS], "float32"))
        score = ops.sum(labels[:, None, :] * log_p, axis=-1)
        own, entropy = batch_mean(score, outputs), self._entropies(outputs)
        information = own + _class_entropy(labels, outputs[MASK]) + MARGIN
        ratio = information / ops.maximum(entropy, 1e-6)
        count = ops.sum(present)
        share = ops.softmax(
            ops.where(present > 0, -ratio / self.temperature, -1e9)
        )
        fraction = ops.clip(0.5 * count * share, LEAST, MOST)
        known = ops.all((information > 0) | (present <= 0))
        return ops.where(known, fraction, 0.5)

    def _entropies(self, outputs: Outputs) -> Tensor:
        """Mean entropy of the softmax of each feature, `(n_modalities,)`."""
        record = outputs[TRAINING_RECORD]
        entropies = []
        for feature in record.get("features", record["fused_features"]):
            log_p = ops.log_softmax(ops.cast(feature, "float32"), axis=-1)
            entropies.append(-ops.sum(ops.exp(log_p) * log_p, axis=-1))
        return batch_mean(ops.stack(entropies, axis=1), outputs)

    def modulate_gradients(
        self, gradients: Sequence[Tensor], variables: Variables, owners: Owners
    ) -> list[Tensor]:
        owners = self.touched(variables, owners)
        masked = [
            index
            for index, (gradient, owner) in enumerate(
                zip(gradients, owners, strict=True)
            )
            if gradient is not None and owner is not None
        ]
        sizes = [gradients[index].shape[-1] for index in masked]
        draws = self._draws(sum(sizes))
        fractions = self.effective_coefficients()
        edited = list(gradients)
        for index, size in zip(masked, sizes, strict=True):
            own, draws = draws[:size], draws[size:]
            gradient = gradients[index]
            mask = self._mask(gradient, fractions[owners[index]], own)
            edited[index] = gradient * ops.cast(mask, gradient.dtype)
        return edited

    def _draws(self, size: int) -> Tensor:
        """What the logarithms of the probabilities are to be added to."""
        if self.sampling == "top":
            return ops.zeros((size,))
        draws = keras.random.uniform((size,), seed=self.seed_generator)
        draws = ops.clip(backend.of_first_process(draws), 1e-7, 1.0 - 1e-7)
        # The largest of log p + Gumbel noise are a draw without replacement.
        return -ops.log(-ops.log(draws))

    def _mask(
        self, gradient: Tensor, fraction: Tensor, draws: Tensor
    ) -> Tensor:
        """By what the gradient of each unit is multiplied, `(units,)`."""
        # All devices mask the same units.
        whole = backend.all_reduce_sum(ops.cast(gradient, "float32"))
        units = whole.shape[-1]
        # Squares of small gradients are zero in float32.
        largest = ops.maximum(ops.max(ops.abs(whole)), 1e-30)
        squares = ops.sum(
            ops.square(ops.reshape(whole / largest, (-1, units))), axis=0
        )
        p = squares / ops.maximum(ops.sum(squares), 1e-30)
        order = ops.argsort(-(ops.log(p + 1e-30) + draws))
        rank = ops.cast(ops.argsort(order), "float32")
        # As many as the fraction, rounded up; .5 of 64 are no 33.
        drawn = ops.cast(rank < ops.ceil(fraction * units - 1e-4), "float32")
        if self.unbiased:
            drawn = drawn / (p + 1.0 / units)
        # A fraction of 1: there is nothing to balance, or not now.
        return ops.where(fraction < 1.0, drawn, ops.ones_like(drawn))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "temperature": self.temperature,
            "unbiased": self.unbiased,
            "sampling": self.sampling,
            "seed": self.seed,
        }


def _class_entropy(labels: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the classes' frequencies with their own softmax."""
    # A sample that has nothing is none.
    there = labels * ops.max(mask, axis=1, keepdims=True)
    counts = backend.all_reduce_sum(ops.sum(there, axis=0))
    p = counts / ops.maximum(ops.sum(counts), 1.0)
    return -ops.sum(p * ops.log_softmax(p))
