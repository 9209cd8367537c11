"""What `compile` makes of the arguments that it is given."""

from typing import Any

import keras

from keras_mmrel.metrics.label_accuracy import LabelAccuracy
from keras_mmrel.modulations.gradient_modulation import GradientModulation

# What takes logits if it is told so, by the name of its function.
_FROM_LOGITS = {
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "binary_focal_crossentropy": keras.losses.BinaryFocalCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "categorical_focal_crossentropy": keras.losses.CategoricalFocalCrossentropy,
    "sparse_categorical_crossentropy": (
        keras.losses.SparseCategoricalCrossentropy
    ),
}
ACCURACY = ("accuracy", "acc")
_PROBABILITIES_ONLY = ("kl_divergence", "poisson")
_PROBABILITY_METRICS = {
    *_FROM_LOGITS,
    *(cls.__name__.lower() for cls in _FROM_LOGITS.values()),
    *_PROBABILITIES_ONLY,
    *("auc", "precision", "recall", "f1_score", "fbeta_score", "f1score"),
}


def logits_loss(loss: Any) -> Any:
    """Resolve a `compile` loss into one that takes logits."""
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, dict | list | tuple):
        raise ValueError(
            "`loss` must be one loss, which is applied to the fused logits. "
            f"Received: loss={loss!r}"
        )
    named = isinstance(loss, str)
    chosen = keras.losses.get(loss) if named else loss
    is_loss = isinstance(chosen, keras.losses.Loss)
    function = chosen.name if is_loss else getattr(chosen, "__name__", "")
    if named and function in _FROM_LOGITS:
        return _FROM_LOGITS[function](from_logits=True)
    takes_logits = not is_loss or chosen.get_config().get("from_logits", True)
    is_keras = is_loss or chosen is getattr(keras.losses, function, None)
    if not takes_logits or (
        is_keras
        and (
            function in _PROBABILITIES_ONLY
            or (not is_loss and function in _FROM_LOGITS)
        )
    ):
        raise ValueError(
            "`loss` must take logits: pass a loss object with "
            f"`from_logits=True`. Received: loss={loss!r}"
        )
    return loss


def logits_metrics(metrics: Any) -> Any:
    """Refuse the names of metrics that would take logits for probabilities.

    The accuracy, by its name, is the one for labels of both forms.
    """
    if isinstance(metrics, str) and metrics == "auto":
        metrics = ["accuracy"]
    for name in keras.tree.flatten(metrics):
        if isinstance(name, str) and name.lower() in _PROBABILITY_METRICS:
            raise ValueError(
                "`metrics` are computed on the fused logits: pass an object "
                "that takes logits (`from_logits=True`) instead of a name. "
                f"Received: '{name}'"
            )
    if isinstance(metrics, list | tuple):
        return [_accuracy(m) if m in ACCURACY else m for m in metrics]
    return [_accuracy(metrics)] if metrics in ACCURACY else metrics


def _accuracy(name: str) -> LabelAccuracy:
    return LabelAccuracy(name=name)


def check_modulation(modulation: Any, model: Any) -> None:
    if modulation is not None and not isinstance(
        modulation, GradientModulation
    ):
        raise ValueError(
            "`modulation` must be a `keras_mmrel.modulations."
            "GradientModulation`, 'auto' or None. Received: "
            f"modulation={modulation!r}"
        )
    if modulation is not None:
        modulation.check_model(model)
