from typing import Any

import keras

from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.models._keras_kinds import labels_as


@keras.saving.register_keras_serializable(package="keras_mmrel")
class LabelledLoss(keras.losses.Loss):
    """A loss of Keras that gets the labels in the form that it takes.

    Args:
        loss: A `keras.losses.Loss`.
        labels: A form of `_keras_kinds`.
        name: Name of the loss; by default its own.
    """

    def __init__(
        self, loss: keras.losses.Loss, labels: str, name: str | None = None
    ) -> None:
        super().__init__(name=name or loss.name, dtype=loss.dtype)
        self.loss = loss
        self.labels = labels

    def __call__(
        self, y_true: Labels, y_pred: Tensor, sample_weight: Tensor = None
    ) -> Tensor:
        labels = labels_as(self.labels, y_true, y_pred)
        return self.loss(labels, y_pred, sample_weight)

    def call(self, y_true: Labels, y_pred: Tensor) -> Tensor:
        labels = labels_as(self.labels, y_true, y_pred)
        return self.loss.call(labels, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "labels": self.labels,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LabelledLoss":
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})
