from typing import Any

import keras
from keras import ops

from keras_mmrel.constraints import SIZE
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import MODALITY_LOGITS
from keras_mmrel.contract import Labels
from keras_mmrel.contract import Losses
from keras_mmrel.contract import Modalities
from keras_mmrel.contract import ModalitySpecs
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import one_hot_labels
from keras_mmrel.encoders import MLPEncoder
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.models.modality_encoders import derive_seed
from keras_mmrel.models.modality_encoders import encoder_name
from keras_mmrel.models.modality_heads import head_logits
from keras_mmrel.models.modality_heads import linear_heads
from keras_mmrel.models.multimodal_model import MultimodalModel


class _Gate(keras.layers.Layer):
    """How informative each number of a vector is: `sigmoid(E x)` in (0, 1)."""

    def build(self, input_shape: tuple) -> None:
        self.dense = keras.layers.Dense(
            input_shape[-1], "sigmoid", dtype=self.dtype_policy, name="dense"
        )
        self.dense.build(input_shape)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(
    hidden_units=SIZE,
    dropout=Number(0, 1, high_open=True),
    gate_loss_weight=Number(0),
    confidence_loss_weight=Number(0),
    modality_loss_weight=Number(0),
)
class MMDynamics(MultimodalModel):
    """Multimodal dynamics: gate the features, weight the modalities.

    Every sample gets its own weights on two levels:

    1. A gate in (0, 1) on every number of a vector modality, `sigmoid(E x)`,
       kept small by `gate_loss`, its mean.
    2. A confidence `c` of the modality, a linear function of its feature `h`
       that is regressed on the probability which the modality's own head
       gives the true class (`confidence_loss`, the squared error). At test
       time, when nobody knows the true class, it says how far the modality
       can be trusted.

    A linear head on the concatenation of all `c h` gives the fused logits.
    `modality_loss` is the cross-entropy of the modalities' own heads. All
    three are summed over the modalities that are present.

    Modalities given by the shape of a vector are gated at the input; the
    encoder is a dense layer with ReLU and dropout. What has a convolutional
    encoder, or an encoder of the user (it may take token ids), is gated at
    the encoder's feature. A missing modality has the feature zero.

    `confidence` is `c`, clipped to [0, 1]. Outputs beside those of every
    model, `(batch, n_modalities)` and 0 where missing:

    - `predicted_probability`: `c` itself, which fuses the modalities; being
      linear it can leave [0, 1].
    - `gate`: mean gate of the modality.

    Args:
        modalities: As in `keras_mmrel.models.MultimodalModel`.
        num_classes: Integer of at least 2.
        hidden_units: Positive integer, size of the feature of a vector given
            by its shape. 128 is this library's choice, for CPUs; the
            authors use 1000 for ROSMAP.
        dropout: Float in `[0, 1)`, of the same features.
        gate_loss_weight: Non-negative float, weight of `gate_loss`.
        confidence_loss_weight: Non-negative float, weight of
            `confidence_loss`.
        modality_loss_weight: Non-negative float, weight of `modality_loss`.
        **kwargs: `augmentation`, `quality`, `seed` and `class_names`, as in
            `keras_mmrel.models.MultimodalModel`, and arguments of
            `keras.Model`.

    Raises:
        ValueError: If an argument is outside its range.

    Example:

    >>> model = keras_mmrel.MMDynamics({"a": (8,), "b": (4,)}, 3)
    >>> model.compile()
    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.uniform(size=(30, 8)), "b": rng.uniform(size=(30, 4))}
    >>> history = model.fit(x, np.arange(30) % 3, verbose=0)
    >>> out = model.predict(x, verbose=0)
    >>> out["confidence"].shape, out["gate"].shape
    ((30, 2), (30, 2))

    References:
        - Han et al., 2022, Multimodal Dynamics: Dynamical Fusion for
          Trustworthy Multimodal Classification, CVPR. As in the authors'
          code, confidence has no sigmoid and the squared error trains both
          of its sides, the head too. This library's own: gates on features
          where there is no vector to gate, missing modalities, the weights
          of the losses (1 in the paper).
    """

    def __init__(
        self,
        modalities: ModalitySpecs,
        num_classes: int,
        *,
        hidden_units: int = 128,
        dropout: float = 0.5,
        gate_loss_weight: float = 1.0,
        confidence_loss_weight: float = 1.0,
        modality_loss_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        # The base makes the default encoders, which read these.
        self.hidden_units = hidden_units
        self.dropout = dropout
        super().__init__(
            modalities,
            num_classes,
            auxiliary_loss_names=(
                "gate_loss",
                "confidence_loss",
                "modality_loss",
            ),
            **kwargs,
        )
        self.gate_loss_weight = gate_loss_weight
        self.confidence_loss_weight = confidence_loss_weight
        self.modality_loss_weight = modality_loss_weight
        count = len(self.modality_names)
        self.gates = [
            _Gate(dtype=self.dtype_policy, name=f"gate_{i}")
            for i in range(count)
        ]
        self.confidences = [
            keras.layers.Dense(1, dtype="float32", name=f"confidence_{i}")
            for i in range(count)
        ]
        self.heads = linear_heads(num_classes, count)
        self.head = keras.layers.Dense(
            num_classes, dtype="float32", name="head"
        )
        self.build_from_modalities()

    def default_encoder(
        self, name: str, shape: tuple[int, ...]
    ) -> keras.layers.Layer:
        if len(shape) != 1:
            return super().default_encoder(name, shape)
        return MLPEncoder(
            (self.hidden_units,),
            self.dropout,
            seed=derive_seed(self.seed, name),
            name=encoder_name(name),
            dtype=self.dtype_policy,
        )

    # -- Forward -------------------------------------------------------------

    def call(
        self, inputs: Modalities, training: bool | None = None
    ) -> dict[str, Any]:
        inputs = self.augment(self.prepare_inputs(inputs), training)
        mask = inputs[MASK]
        features, gates = self._gated_features(inputs, training)
        probability = ops.concatenate(
            [
                confidence(feature)
                for confidence, feature in zip(
                    self.confidences, features, strict=True
                )
            ],
            axis=1,
        )
        modality_logits = head_logits(self.heads, features)
        fused = ops.concatenate(
            [
                ops.cast(feature, "float32") * probability[:, index : index + 1]
                for index, feature in enumerate(features)
            ],
            axis=1,
        )
        return self.make_outputs(
            self.head(fused),
            modality_logits,
            inputs,
            ops.clip(probability, 0.0, 1.0),
            predicted_probability=probability * mask,
            gate=ops.stack(gates, axis=1) * mask,
        )

    def _gated_features(
        self, inputs: dict[str, Any], training: bool | None
    ) -> tuple[list[Any], list[Any]]:
        """Return one `(batch, d)` a modality, and the mean gates `(batch,)`."""
        at_input = [
            not isinstance(spec, keras.layers.Layer) and len(spec) == 1
            for spec in self.modality_specs.values()
        ]
        gates: list[Any] = [None] * len(at_input)

        def gated(index: int, x: Any) -> Any:
            gate = self.gates[index](x)
            gates[index] = ops.mean(ops.cast(gate, "float32"), axis=-1)
            return x * ops.cast(gate, x.dtype)

        used = dict(inputs)
        for index, name in enumerate(self.modality_names):
            if at_input[index]:
                used[name] = gated(index, inputs[name])
        features = self.encode(used, training)
        for index, feature in enumerate(features):
            if not at_input[index]:
                features[index] = gated(index, feature)
        return features, gates

    # -- Training ------------------------------------------------------------

    def auxiliary_losses(
        self, y: Labels, outputs: Outputs, sample_weight: Tensor = None
    ) -> Losses:
        mask = outputs[MASK]
        labels = one_hot_labels(y, self.num_classes)[:, None, :]
        p = ops.softmax(outputs[MODALITY_LOGITS], axis=-1)
        error = outputs["predicted_probability"] - ops.sum(labels * p, axis=-1)
        modality_loss = self.modality_crossentropy(
            y, outputs[MODALITY_LOGITS], mask, sample_weight
        )
        return {
            "gate_loss": self.gate_loss_weight
            * mean_over_samples(outputs["gate"], sample_weight),
            "confidence_loss": self.confidence_loss_weight
            * mean_over_samples(ops.square(error) * mask, sample_weight),
            "modality_loss": self.modality_loss_weight * modality_loss,
        }

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "dropout": self.dropout,
            "gate_loss_weight": self.gate_loss_weight,
            "confidence_loss_weight": self.confidence_loss_weight,
            "modality_loss_weight": self.modality_loss_weight,
        }
