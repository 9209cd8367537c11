"""What `compile` makes of the arguments that it is given."""

from typing import Any

import keras

from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.models import _keras_kinds as kinds
from keras_mmrel.models._labelled_loss import LabelledLoss
from keras_mmrel.modulations.gradient_modulation import GradientModulation


def logits_loss(loss: Any) -> Any:
    """Resolve a `compile` loss into one that takes logits.

    A loss of Keras gets the labels in the form that it takes, whichever the
    user has.
    """
    if isinstance(loss, list | tuple) and len(loss) == 1:
        loss = loss[0]
    if isinstance(loss, dict | list | tuple):
        raise ValueError(
            "`loss` must be one loss, which is applied to the fused logits. "
            f"Received: loss={loss!r}"
        )
    if loss is None:
        raise ValueError(
            "`loss` must be a loss or 'auto': without one the fused logits "
            "are not trained. Received: loss=None"
        )
    if isinstance(loss, LabelledLoss):
        return loss
    try:
        chosen = keras.losses.get(loss)
    except ValueError as error:
        raise ValueError(
            "`loss` must be a loss, a function or the name of a loss of "
            f"Keras. Received: loss={loss!r}"
        ) from error
    kind = kinds.kind_of(chosen)
    from_logits = isinstance(loss, str) or kinds.takes_logits(chosen)
    if kind is None:
        takes_logits = kinds.takes_logits(chosen) in (True, None)
    elif kinds.KINDS[kind][0] == kinds.EITHER:
        takes_logits = bool(from_logits)
    else:
        takes_logits = kind in kinds.LOSSES_OF_LOGITS
    if not takes_logits:
        raise ValueError(
            "`loss` must take logits: pass a loss object with "
            f"`from_logits=True`. Received: loss={loss!r}"
        )
    if kind is None:
        return chosen
    scores, form = kinds.KINDS[kind]
    if isinstance(loss, str) or not isinstance(chosen, keras.losses.Loss):
        # An object in the place of a function.
        options = dict(getattr(chosen, "keywords", {}))
        if scores == kinds.EITHER:
            options["from_logits"] = True
        chosen = kinds.loss_class(kind)(**options)
    return LabelledLoss(chosen, form)


OPTIONS = {
    "loss_weights": Either(Number(0), None),
    "run_eagerly": Flag(),
    "auto_scale_loss": Flag(),
    "steps_per_execution": Integer(1),
    "jit_compile": Either(Flag(), "auto"),
}


def check_options(**options: Any) -> None:
    """Refuse words and other nonsense among the options of `compile`."""
    for name, value in options.items():
        if name in OPTIONS:
            OPTIONS[name](name, value)


def check_metric_names(metrics: Any, model: Any) -> None:
    """Refuse a metric whose column in `History` is that of a loss term."""
    for metric in keras.tree.flatten(metrics):
        name = getattr(metric, "name", None)
        if name is not None and name in ("loss", *model.auxiliary_trackers):
            raise ValueError(
                "`metrics` must have other names than the terms of the loss. "
                f"Received: a metric with the name {name!r}"
            )


def known_optimizer(optimizer: Any) -> Any:
    """Return an optimizer, or say that it is none."""
    if optimizer is None:
        # A model may be compiled to be evaluated only.
        return None
    try:
        return keras.optimizers.get(optimizer)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`optimizer` must be an optimizer, its name or 'auto'. Received: "
            f"optimizer={optimizer!r}"
        ) from error


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
