"""Names of classes, of a model and of data."""

from collections.abc import Sequence

from keras_mmrel.contract import DataSource
from keras_mmrel.contract import Model
from keras_mmrel.user_warning import warn


def checked(
    class_names: Sequence[str] | None, num_classes: int
) -> list[str] | None:
    """Return the names of a model's classes, one a class."""
    if class_names is None:
        return None
    if len(class_names) != num_classes:
        raise ValueError(
            f"`class_names` must have {num_classes} names, one a class. "
            f"Received: {len(class_names)}"
        )
    return list(class_names)


def _names_of(data: DataSource) -> list[str] | None:
    """Names that a data source has: a `MediaTable`, Keras' own folders."""
    names = getattr(data, "class_names", None)
    return list(names) if isinstance(names, list | tuple) else None


def check(model: Model, data: DataSource) -> None:
    """Refuse data whose class numbers mean other classes than the model's."""
    names, known = _names_of(data), model.class_names
    if names is None:
        return
    if len(names) > model.num_classes:
        raise ValueError(
            f"Data must have at most {model.num_classes} classes, those of "
            f"the model. Received: class_names={names}"
        )
    if known is not None and names != list(known):
        raise ValueError(
            f"Data must have the classes of the model, {list(known)}, in this "
            f"order. Received: class_names={names}"
        )


def check_validation(data: DataSource, validation: DataSource) -> None:
    """Refuse data whose class numbers mean others than the training data's."""
    known, names = _names_of(data), _names_of(validation)
    if known is not None and names is not None and names != known:
        raise ValueError(
            f"`validation_data` must have the classes of the training data, "
            f"{known}, in this order: `like` of a table reads others so. "
            f"Received: class_names={names}"
        )


def take(model: Model, data: DataSource) -> None:
    """Let a model that knows no names have those of the training data."""
    names = _names_of(data)
    if model.class_names is not None or names is None:
        return
    if len(names) == model.num_classes:
        model.class_names = names
    else:
        warn(
            f"The model has {model.num_classes} classes and the data name "
            f"{len(names)}: no names are kept, and class number 0 is "
            f"{names[0]!r}; `class_names` of the table names all of them."
        )
