from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import constrained
from keras_mmrel.contract import MASK
from keras_mmrel.contract import TRAINING_RECORD
from keras_mmrel.contract import Model
from keras_mmrel.contract import Outputs
from keras_mmrel.contract import Tensor
from keras_mmrel.losses.label_crossentropy import mean_over_samples
from keras_mmrel.modulations.gradient_modulation import INPUTS
from keras_mmrel.modulations.gradient_modulation import GradientModulation


@keras.saving.register_keras_serializable(package="keras_mmrel")
@constrained(scale=Number(0))
class UMT(GradientModulation):
    """Unimodal teachers: encoders learn what they would have learnt alone.

    Each teacher was trained with one modality and nothing beside it. To the
    model's loss is added how far the feature of a modality's encoder is from
    its teacher's, the mean square of the difference, times `scale`, summed
    over the modalities that have a teacher and that a sample has. Teachers
    see the inputs as the model prepares them, before any `augmentation`, and
    never learn: their `trainable` is set to `False`.

    It needs a model that hands its features on in training, by a head on all
    of them: `keras_mmrel.ConcatFusion` with any `fusion`, `AIM`, `CAL`, or a
    subclass of theirs. Teachers are saved with the model's file, so that a
    training can go on; compile without a modulation to leave them out.

    No released code of the authors' was found, and their text beyond the
    abstract was not available to us: the loss is that of BalanceBenchmark
    (commit 4c1482f, `scaling: 10`), whose features and gradients for one
    batch are those of this class to 1e-6. Missing modalities are this
    library's own.

    Args:
        teachers: Dict of modality name -> a trained model of the library with
            that one modality, whose encoder is taken, or a layer from the
            modality's input to a feature `(batch, d)` of the size of the
            model's own. Modalities without one are left alone.
        scale: Non-negative float, weight of the added loss.
        **kwargs: Arguments of `GradientModulation`; `apply_to` is of no
            account.

    Raises:
        ValueError: If an argument is not as above, or does not fit the model.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> x = {"a": rng.normal(size=(12, 8)), "b": rng.normal(size=(12, 4))}
    >>> y = np.arange(12) % 3
    >>> alone = keras_mmrel.ConcatFusion({"b": (4,)}, 3)
    >>> alone.compile("sgd")
    >>> history = alone.fit({"b": x["b"]}, y, verbose=0)
    >>> model = keras_mmrel.ConcatFusion({"a": (8,), "b": (4,)}, 3)
    >>> umt = keras_mmrel.modulations.UMT({"b": alone})
    >>> model.compile("sgd", modulation=umt)
    >>> history = model.fit(x, y, verbose=0)

    References:
        - [Du et al., 2021, Improving Multi-Modal Learning with Uni-Modal
          Teachers](https://arxiv.org/abs/2106.11059)
    """

    sees_inputs = True
    needs_shared_head = True

    def __init__(
        self,
        teachers: Mapping[str, keras.layers.Layer],
        scale: float = 10.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"apply_to": "gradients", **kwargs})
        self.scale = scale
        self.taught = list(_checked(teachers))
        self.teachers = [_encoder(name, teachers[name]) for name in self.taught]

    def check_model(self, model: Model) -> None:
        super().check_model(model)
        unknown = sorted(set(self.taught) - set(model.modality_names))
        if unknown:
            raise ValueError(
                f"`teachers` must be of modalities {model.modality_names}. "
                f"Received: teachers of {unknown}"
            )

    def setup(self, model: Model) -> None:
        super().setup(model)
        for name, teacher in zip(self.taught, self.teachers, strict=True):
            index = model.modality_names.index(name)
            given = keras.tree.map_shape_structure(
                lambda shape: keras.KerasTensor((None, *shape)),
                model.modality_shapes[name],
            )
            with upstream.one_symbolic_batch():
                # A teacher that comes from a file is built by this.
                size = tuple(teacher(given).shape[1:])
                own = tuple(model.encoders[index](given).shape[1:])
            if size != own:
                raise ValueError(
                    f"The teacher of '{name}' must return a feature of the "
                    f"shape of the model's encoder, {own}. Received: {size}"
                )
            teacher.trainable = False

    def added_loss(
        self, labels: Tensor, outputs: Outputs, sample_weight: Tensor
    ) -> Tensor:
        record = outputs[TRAINING_RECORD]
        model = self.own_model()
        inputs = model.prepare_inputs(record[INPUTS])
        features = record.get("features", record["fused_features"])
        losses = []
        for name, teacher in zip(self.taught, self.teachers, strict=True):
            index = self.modality_names.index(name)
            goal = ops.stop_gradient(teacher(inputs[name], training=False))
            apart = ops.cast(features[index], "float32") - ops.cast(
                goal, "float32"
            )
            present = outputs[MASK][:, index]
            apart = ops.where(present[:, None] > 0, apart, 0.0)
            losses.append(ops.mean(ops.square(apart), axis=-1))
        loss = mean_over_samples(ops.stack(losses, axis=1), sample_weight)
        return self.scale * loss * self.active

    def get_config(self) -> dict:
        teachers = {
            name: keras.saving.serialize_keras_object(teacher)
            for name, teacher in zip(self.taught, self.teachers, strict=True)
        }
        return {
            **super().get_config(),
            "teachers": teachers,
            "scale": self.scale,
        }

    @classmethod
    def from_config(cls, config: dict) -> "UMT":
        teachers = {
            name: keras.saving.deserialize_keras_object(teacher)
            for name, teacher in config["teachers"].items()
        }
        return cls(**{**config, "teachers": teachers})


def _checked(teachers: Any) -> Mapping[str, keras.layers.Layer]:
    is_mapping = isinstance(teachers, Mapping) and len(teachers) > 0
    if not is_mapping or not all(
        isinstance(name, str) and isinstance(teacher, keras.layers.Layer)
        for name, teacher in teachers.items()
    ):
        raise ValueError(
            "`teachers` must be a dict of modality name -> Keras layer or "
            f"model. Received: teachers={teachers!r}"
        )
    return teachers


def _encoder(name: str, teacher: Any) -> keras.layers.Layer:
    """The encoder of a model of the library, or the layer itself."""
    names = getattr(teacher, "modality_names", None)
    if names is None:
        return teacher
    if list(names) != [name]:
        raise ValueError(
            f"The teacher of '{name}' must be trained with that modality "
            f"alone. Received: a model of {list(names)}"
        )
    return teacher.encoders[0]
