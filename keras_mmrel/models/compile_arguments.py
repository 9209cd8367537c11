"""What `compile` makes of the arguments that it is given."""

import inspect
from typing import Any

import keras
from keras import ops

from keras_mmrel.backend import upstream
from keras_mmrel.constraints import Either
from keras_mmrel.constraints import Flag
from keras_mmrel.constraints import Integer
from keras_mmrel.constraints import Number
from keras_mmrel.constraints import refuse_unknown
from keras_mmrel.models import _keras_kinds as kinds
from keras_mmrel.models._labelled_loss import LabelledLoss
from keras_mmrel.modulations.gradient_modulation import GradientModulation
from keras_mmrel.user_warning import warn


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


def check_loss(loss: Any, num_classes: int) -> None:
    """Refuse a loss of the user's that takes no pair or gives no number.

    It is tried on two samples, in either form of labels. What it raises is
    for the real ones to tell.
    """
    if (type(loss).__module__ + ".").startswith(("keras.", "keras_mmrel.")):
        return
    function = loss.call if isinstance(loss, keras.losses.Loss) else loss
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ValueError(
            "`loss` must be a function of two arguments, labels and logits. "
            f"Received: loss={loss!r}"
        ) from error
    except ValueError:
        # Some functions of C have no signature.
        return
    logits = ops.zeros((2, num_classes))
    labels = ops.zeros((2,), dtype="int32")
    for y in (labels, ops.one_hot(labels, num_classes)):
        try:
            value = function(y, logits)
        except Exception:
            continue
        if not _is_number(value):
            raise ValueError(
                "`loss` must return a tensor, of one number a sample. "
                f"Received: {type(value).__name__} from loss={loss!r}"
            )


def _is_number(value: Any) -> bool:
    try:
        return bool(keras.backend.is_float_dtype(_dtype_of(value)))
    except (ValueError, TypeError):
        return False


def _dtype_of(value: Any) -> str:
    return keras.backend.standardize_dtype(ops.convert_to_tensor(value).dtype)


OPTIONS = {
    "loss_weights": Either(Number(0), None),
    "run_eagerly": Flag(),
    "auto_scale_loss": Flag(),
    "steps_per_execution": Integer(1),
    "jit_compile": Either(Flag(), "auto"),
}


def check_options(**options: Any) -> None:
    """Refuse words and other nonsense among the options of `compile`."""
    named = ("optimizer", "loss", "metrics", "weighted_metrics", "modulation")
    refuse_unknown("`compile`", options, {*OPTIONS, *named})
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


_CLIP = Either(Number(0, low_open=True), None)
_RATE = Number(0, 1, high_open=True)
# What Keras takes without a look; a negative clip is none.
OPTIMIZER = {
    "clipnorm": _CLIP,
    "clipvalue": _CLIP,
    "global_clipnorm": _CLIP,
    "weight_decay": Either(Number(0), None, False),
    "beta_1": _RATE,
    "beta_2": _RATE,
    "rho": _RATE,
    "epsilon": Number(0),
}


def known_optimizer(optimizer: Any) -> Any:
    """Return an optimizer, or say that it is none."""
    if optimizer is None:
        # A model may be compiled to be evaluated only.
        return None
    try:
        optimizer = keras.optimizers.get(optimizer)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "`optimizer` must be an optimizer, its name or 'auto'. Received: "
            f"optimizer={optimizer!r}"
        ) from error
    plain = getattr(optimizer, "inner_optimizer", optimizer)
    if type(plain).__module__.startswith("keras."):
        for name, constraint in OPTIMIZER.items():
            if hasattr(plain, name):
                constraint(name, getattr(plain, name))
    return optimizer


def check_optimizer_is_own(model: Any) -> None:
    """Refuse an optimizer that was built for the weights of something else."""
    # In float16 Keras puts a new one round it.
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer is None or not optimizer.built:
        return
    built, own, both = upstream.built_for(optimizer, model.trainable_variables)
    # JAX could not do without those that are trained no more, either.
    if not built == own == both:
        raise ValueError(
            "`optimizer` must be new, or have been built for these weights: "
            "compile the model with another one, as after a change of "
            f"`trainable`. Received: {type(optimizer).__name__}, built for "
            f"{built} weights, {both} of which are among the {own} of the model"
        )


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
        if not model.takes_modulation:
            raise ValueError(
                f"`modulation` must be None for {type(model).__name__}, which "
                "has several encoders a modality. Received: "
                f"modulation={type(modulation).__name__}"
            )
        modulation.check_model(model)
        if len(model.modality_names) == 1:
            warn(
                "`modulation` must have two modalities or more to balance. "
                f"Received: {type(modulation).__name__} for the modalities "
                f"{model.modality_names}"
            )
