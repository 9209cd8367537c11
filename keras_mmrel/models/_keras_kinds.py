"""What each loss and metric of Keras takes: which scores, which labels.

Keras computes what it is given. Logits where probabilities belong, or class
numbers where one-hot rows do, are mostly numbers too, and wrong ones.
"""

import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_mmrel.contract import Labels
from keras_mmrel.contract import Tensor
from keras_mmrel.contract import class_numbers
from keras_mmrel.contract import one_hot_labels

# Forms of labels.
NUMBERS = "numbers"  # (batch,)
ROWS = "rows"  # (batch, classes), soft ones as they are
ONE_HOT = "one_hot"  # (batch, classes), a single one
ANY = "any"

EITHER = "either"  # logits if `from_logits`, else probabilities
LOGITS_ONLY = "logits"
PROBABILITIES_ONLY = "probabilities"
NEITHER = "neither"

_CONFUSION = (
    "auc", "precision", "recall", "precision_at_recall",
    "recall_at_precision", "sensitivity_at_specificity",
    "specificity_at_sensitivity", "true_positives", "true_negatives",
    "false_positives", "false_negatives", "binary_accuracy", "binary_io_u",
    "f1_score", "f_beta_score", "one_hot_io_u", "one_hot_mean_io_u",
)  # fmt: skip
_OF_ROWS = (
    "binary_crossentropy", "binary_focal_crossentropy",
    "categorical_crossentropy", "categorical_focal_crossentropy",
)  # fmt: skip
_DISTANCES = (
    "mean_squared_error", "root_mean_squared_error", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "log_cosh", "log_cosh_error", "huber", "cosine_similarity", "r2_score",
    "pearson_correlation", "concordance_correlation", "kl_divergence",
    "poisson", "categorical_generalized_cross_entropy", "dice", "tversky",
)  # fmt: skip
_ORDERS = (
    "categorical_accuracy", "top_k_categorical_accuracy", "hinge",
    "squared_hinge", "categorical_hinge",
)  # fmt: skip
_ORDERS_OF_NUMBERS = (
    "sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy",
)  # fmt: skip

# Name of a function, or of a class in snake case -> scores and labels.
KINDS = {
    **dict.fromkeys(_CONFUSION, (PROBABILITIES_ONLY, ONE_HOT)),
    **dict.fromkeys(_OF_ROWS, (EITHER, ROWS)),
    "sparse_categorical_crossentropy": (EITHER, NUMBERS),
    **dict.fromkeys(_DISTANCES, (PROBABILITIES_ONLY, ROWS)),
    **dict.fromkeys(_ORDERS, (LOGITS_ONLY, ROWS)),
    **dict.fromkeys(_ORDERS_OF_NUMBERS, (LOGITS_ONLY, NUMBERS)),
    **dict.fromkeys(("accuracy", "io_u", "mean_io_u"), (NEITHER, ANY)),
    **dict.fromkeys(("mean", "sum", "ctc", "circle"), (NEITHER, ANY)),
}
# A distance of logits from one-hot rows is a loss that people train with.
LOSSES_OF_LOGITS = {
    *_OF_ROWS, "sparse_categorical_crossentropy", "mean_squared_error",
    "mean_absolute_error", "huber", "log_cosh", "cosine_similarity",
    "hinge", "squared_hinge", "categorical_hinge",
}  # fmt: skip


def kind_of(thing: Any) -> str | None:
    """Name in `KINDS` of a loss, a metric or a function; `None` if unknown."""
    if isinstance(thing, functools.partial):
        thing = thing.func
    if inspect.isfunction(thing):
        return thing.__name__ if _is_of_keras(thing) else None
    classes = type(thing).__mro__
    # What derives from `Mean` and `Sum` has an `update_state` of its own.
    names = [
        _snake(c.__name__)
        for c in classes
        if _is_of_keras(c)
        and (c is classes[0] or c.__name__ not in ("Mean", "Sum"))
    ]
    return next((name for name in names if name in KINDS), None)


def takes_logits(thing: Any) -> bool | None:
    """Its `from_logits`, or `None` where it says nothing of the kind."""
    if isinstance(thing, functools.partial):
        return bool(thing.keywords.get("from_logits", False))
    if hasattr(thing, "from_logits"):
        return bool(thing.from_logits)
    try:
        config = thing.get_config()
    except (AttributeError, NotImplementedError):
        return None
    value = config.get("from_logits") if isinstance(config, Mapping) else None
    return None if value is None else bool(value)


def loss_class(kind: str) -> type[keras.losses.Loss]:
    """Return the class of Keras that goes with a function of this name."""
    classes = (c for c in vars(keras.losses).values() if inspect.isclass(c))
    return next(c for c in classes if _snake(c.__name__) == kind)


def labels_as(form: str, y: Labels, scores: Tensor) -> Labels:
    """Labels in the form that a loss or a metric takes.

    Args:
        form: `NUMBERS`, `ROWS`, `ONE_HOT` or `ANY`.
        y: Class numbers or one-hot rows.
        scores: `(batch, classes)`.
    """
    classes = scores.shape[-1]
    is_rows = len(y.shape) == 2 and y.shape[1] == classes
    if form == ANY or (form == NUMBERS and len(y.shape) == 1):
        return y
    if form == NUMBERS:
        return class_numbers(y, classes)
    if is_rows and form == ONE_HOT:
        return ops.one_hot(ops.argmax(y, axis=-1), classes, dtype="float32")
    return y if is_rows else one_hot_labels(y, classes)


def _is_of_keras(thing: Any) -> bool:
    return thing.__module__.partition(".")[0] == "keras"


def _snake(name: str) -> str:
    """`TopKCategoricalAccuracy` -> `top_k_categorical_accuracy`."""
    if name.isupper():
        return name.lower()
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", name).lower()
