from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import Choice
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models import modality_encoders
from keras_mmrel.models._mixtures import entropy
from keras_mmrel.models._mixtures import log_mean
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.multimodal_model import MultimodalModel

MEMBER_LOGITS = "member_logits"


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(members=Integer(2), average=Choice("entropy", "mean"))
class DeepEnsemble(MultimodalModel):
    """A deep ensemble: several networks that learn apart and answer together.

    Each member has encoders and a linear head on all features of its own, and
    begins with other weights. `member_loss`, the mean of their cross-entropies,
    is all that they learn from: the loss of `logits` is reported, and has no
    gradient. A prediction is a mean of the members' probabilities, of each
    sample by weights in proportion to `exp(-entropy)`, so that who is sure
    counts more.

    `modality_logits` are the logs of the mean probabilities of each modality
    alone, the features of the others at zero. Outputs beside those of every
    model:

    - `member_logits`: `(batch, members, num_classes)`.
    - `disagreement`: `(batch,)`, the entropy in nats of the fused
      probabilities less the members' weighted mean entropy.

    An encoder given as a layer is the first member's; the others have one of
    the same config, with weights of their own. One that has weights and trains
    none of them is shared.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        members: Integer of at least 2.
        average: `"entropy"` as above, or `"mean"` for equal weights.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range; in `compile`, if
            there is a modulation, which knows one encoder a modality.

    Example:

    >>> model = keras_mmrel.DeepEnsemble({"a": (8,), "b": (4,)}, 3, members=2)
    >>> x = {"a": np.ones((2, 8)), "b": np.ones((2, 4))}
    >>> model.predict(x, verbose=0)["member_logits"].shape
    (2, 2, 3)

    References:
        - [Lakshminarayanan et al., 2017, Simple and scalable predictive
          uncertainty estimation using deep
          ensembles](https://arxiv.org/abs/1612.01474), without adversarial
          training. Weights by entropy are this library's own.
    """

    takes_modulation = False

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        members: int = 5,
        average: str = "entropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=("member_loss",),
            **kwargs,
        )
        self.members = members
        self.average = average
        # Of the members after the first, one after the other: what is in a
        # list of lists is no part of a model to PyTorch.
        self.further_encoders = [
            self._another(index, name, encoder)
            for index in range(1, members)
            for name, encoder in zip(
                self.modality_names, self.encoders, strict=True
            )
        ]
        self.heads = [
            keras.layers.Dense(
                num_classes,
                use_bias=False,
                dtype="float32",
                name=f"head_{index}_{i}",
            )
            for index in range(members)
            for i in range(len(self.modality_names))
        ]
        self.bias = self.add_weight(
            shape=(members, num_classes),
            initializer="zeros",
            dtype="float32",
            autocast=False,
            name="bias",
        )
        self.build_from_modalities()

    def _another(
        self, index: int, name: str, encoder: keras.layers.Layer
    ) -> keras.layers.Layer:
        spec = self.modality_specs[name]
        if not isinstance(spec, keras.layers.Layer):
            seed = modality_encoders.derive_seed(self.seed, f"member/{index}")
            return modality_encoders.default_encoder(
                name, spec, self.dtype_policy, seed
            )
        if encoder.weights and not encoder.trainable_weights:
            return encoder
        return type(encoder).from_config(encoder.get_config())

    def member(self, index: int) -> tuple[list, list]:
        """Return the encoders and the parts of the head of a member."""
        count = len(self.modality_names)
        part = slice(index * count, (index + 1) * count)
        encoders = [*self.encoders, *self.further_encoders]
        return encoders[part], self.heads[part]

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        answers, alone = [], []
        for index in range(self.members):
            encoders, heads = self.member(index)
            features = self.encode(inputs, training, encoders=encoders)
            parts = head_logits(heads, features)
            bias = self.bias[index]
            answers.append(ops.add(ops.sum(parts, axis=1), bias))
            alone.append(ops.log_softmax(ops.add(parts, bias), axis=-1))
        member_logits = ops.stack(answers, axis=1)
        log_p = ops.log_softmax(member_logits, axis=-1)
        surprise = entropy(log_p)
        weights = ops.zeros_like(surprise)
        if self.average == "entropy":
            weights = -surprise
        weights = ops.log_softmax(weights, axis=1)
        fused = log_mean(log_p, weights)
        within = ops.sum(ops.exp(weights) * surprise, axis=1)
        return self.make_outputs(
            # Each member learns by itself.
            ops.stop_gradient(fused) if training else fused,
            log_mean(ops.stack(alone, axis=1)),
            inputs,
            disagreement=ops.maximum(entropy(fused) - within, 0.0),
            **{MEMBER_LOGITS: member_logits},
        )

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        log_p = ops.log_softmax(outputs[MEMBER_LOGITS], axis=-1)
        losses = -ops.mean(ops.sum(labels * log_p, axis=-1), axis=1)
        there = ops.max(outputs[MASK], axis=1)
        loss = mean_over_samples((losses * there)[:, None], sample_weight)
        return {"member_loss": loss}

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "members": self.members,
            "average": self.average,
        }
