from typing import Any

import keras
from keras import ops

from keras_mmrel import backend
from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.modulations.scores import batch_mean
from keras_mmrel.modulations.scores import present_modalities
from keras_mmrel.modulations.scores import ratio_to_others
from keras_mmrel.modulations.scores import true_class_probability
from keras_mmrel.state import add_state


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(alpha=Number(0), momentum=Number(0, 1, high_open=True))
class PMR(GradientModulation):
    """Prototypical modal rebalance: draw the slow one to its prototypes.

    Each modality has a prototype a class, the mean feature of the class. The
    negative distances of a feature to the prototypes are logits of a
    classifier without weights, by which modalities are compared: a modality
    whose true class is less probable in a batch, on average, than in the
    others is the slow one. Its cross-entropy by these logits, times `alpha`,
    is added to the loss of the step. Prototypes stand still in an epoch. They
    are renewed after it, by the means of the features that the epoch has seen:
    `momentum` is what the old ones keep. The first epoch has none, and goes
    without.

    It needs a model that hands its features on in training, by a head on all
    of them: `keras_mmrel.ConcatFusion` with any `fusion`, `AIM`, `CAL`, or a
    subclass of theirs, and encoders that know their input shapes. Logged for
    each epoch is `<modality>_prototype_weight`, the mean weight of that loss.

    The paper's text was not available to us; this follows its released code
    (commit 3615e48), whose loss and gradients for one batch and given
    prototypes are those of this class to 1e-6. There prototypes are means over
    a tenth of the batches in inference mode, by a pass of its own that is made
    before the first epoch, too. The paper's abstract names an entropy term for
    early epochs, which the code has not, and this class neither. More than
    two modalities (each below the mean of the others is slow) and missing
    ones are this library's own.

    Args:
        alpha: Non-negative float, weight of the loss; 1 by default in the
            released code.
        momentum: Number in [0, 1).
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If an argument is outside its range, or the model is none
            of the above.

    Example:

    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> model.compile("sgd", modulation=keras_mmrel.modulations.PMR())
    >>> x = {"a": np.ones((4, 8)), "b": np.ones((4, 4))}
    >>> y = np.array([0, 1, 2, 0])
    >>> history = model.fit(x, y, epochs=2, verbose=0).history
    >>> history["a_prototype_weight"][0]
    0.0

    References:
        - [Fan et al., 2023, PMR: Prototypical Modal Rebalance for Multimodal
          Learning](https://arxiv.org/abs/2211.07089)
    """

    needs_shared_head = True

    def __init__(
        self, alpha: float = 1.0, momentum: float = 0.2, **kwargs: Any
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.alpha = alpha
        self.momentum = momentum

    def check_model(self, model: Model) -> None:
        super().check_model(model)
        if not model.built:
            raise ValueError(
                "`modulation` must fit the model: PMR needs one that is built. "
                f"Received: {type(model).__name__}, built=False"
            )

    def setup(self, model: Model) -> None:
        self.check_model(model)
        if not self.built:
            self._sizes = _feature_sizes(model)
            self._classes = model.num_classes
        super().setup(model)

    def get_build_config(self) -> None:
        # The state has the model's shapes: a loaded one waits for `compile`.
        return None

    def build(self, input_shape: tuple) -> None:
        super().build(input_shape)
        self.prototypes, self.sums = (
            [
                add_state(self, f"{name}_{i}", (self._classes, size))
                for i, size in enumerate(self._sizes)
            ]
            for name in ("prototypes", "sums")
        )
        shape = (input_shape[-1], self._classes)
        self.known = add_state(self, "known", shape)
        self.counts = add_state(self, "counts", shape)
        self.total_weight = add_state(self, "total_weight", (input_shape[-1],))

    def prototype_logits(self, outputs: Outputs) -> Tensor:
        """Negative distances of features to prototypes, `(batch, M, K)`."""
        logits = []
        for index, feature in enumerate(_features(outputs)):
            prototypes = ops.convert_to_tensor(self.prototypes[index])
            apart = ops.cast(feature, "float32")[:, None, :] - prototypes
            square = ops.sum(ops.square(apart), axis=-1)
            # The root has no gradient at 0.
            distance = ops.sqrt(ops.maximum(square, 1e-12))
            known = self.known[index] > 0
            logits.append(ops.where(known, -distance, -1e9))
        return ops.stack(logits, axis=1)

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        logits = self.prototype_logits(outputs)
        # Samples of a class without a prototype do not count.
        known = ops.matmul(labels, ops.transpose(self.known + 0.0))
        mask = outputs[MASK] * known
        weight = self._weights(labels, logits, mask)
        self.total_weight.assign_add(weight)
        log_p = ops.log_softmax(logits, axis=-1)
        losses = -ops.sum(labels[:, None, :] * log_p, axis=-1)
        losses = ops.where(mask > 0, losses, ops.zeros_like(losses))
        return mean_over_samples(losses * weight, sample_weight)

    def _weights(self, labels: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
        """Weight of each modality's loss, `(n_modalities,)`."""
        counted = {MASK: mask}
        present = present_modalities(counted)
        scores = true_class_probability(labels, ops.stop_gradient(logits))
        ratio = ratio_to_others(batch_mean(scores, counted), present)
        slow = (ratio < 1.0) & (present > 0) & (ops.sum(present) > 1)
        return ops.cast(slow & (self.active > 0), "float32") * self.alpha

    def update(self, labels: Tensor, outputs: Outputs) -> None:
        super().update(labels, outputs)
        counts = []
        for index, feature in enumerate(_features(outputs)):
            feature = ops.stop_gradient(ops.cast(feature, "float32"))
            # What overflows in half precision must not stay in the sums.
            usable = ops.all(ops.isfinite(feature), axis=-1)
            usable = usable & (outputs[MASK][:, index] > 0)
            feature = ops.where(usable[:, None], feature, 0.0)
            rows = ops.transpose(labels * ops.cast(usable[:, None], "float32"))
            total = backend.all_reduce_sum(ops.matmul(rows, feature))
            self.sums[index].assign_add(total)
            counts.append(ops.sum(rows, axis=1))
        self.counts.assign_add(backend.all_reduce_sum(ops.stack(counts)))

    def begin_epoch(self) -> None:
        super().begin_epoch()
        counts = ops.convert_to_tensor(self.counts)
        old = ops.convert_to_tensor(self.known)
        for index, sums in enumerate(self.sums):
            count = counts[index][:, None]
            kept = self.momentum * old[index][:, None]
            mean = sums / ops.maximum(count, 1.0)
            new = kept * self.prototypes[index] + (1.0 - kept) * mean
            new = ops.where(count > 0, new, self.prototypes[index] + 0.0)
            self.prototypes[index].assign(new)
            sums.assign(ops.zeros(sums.shape))
        self.known.assign(ops.maximum(old, ops.cast(counts > 0, "float32")))
        self.counts.assign(ops.zeros(counts.shape))
        self.total_weight.assign(ops.zeros(self.total_weight.shape))

    def epoch_logs(self) -> dict[str, float]:
        steps = max(float(ops.convert_to_numpy(self.steps)), 1.0)
        means = ops.convert_to_numpy(self.total_weight) / steps
        logs = {
            f"{name}_prototype_weight": float(mean)
            for name, mean in zip(self.modality_names, means, strict=True)
        }
        return {**super().epoch_logs(), **logs}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "momentum": self.momentum,
        }


def _features(outputs: Outputs) -> list[Tensor]:
    """Features of the encoders, whatever else the head is given."""
    record = outputs[TRAINING_RECORD]
    return record.get("features", record["fused_features"])


def _feature_sizes(model: Model) -> list[int]:
    """Size of the feature of each encoder."""
    with upstream.one_symbolic_batch():
        return [
            encoder(
                keras.tree.map_shape_structure(
                    lambda shape: keras.KerasTensor((None, *shape)),
                    model.modality_shapes[name],
                )
            ).shape[-1]
            for name, encoder in zip(
                model.modality_names, model.encoders, strict=True
            )
        ]
